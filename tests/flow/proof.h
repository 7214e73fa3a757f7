/*
 * proof.h: what must be so of the database after every transaction, whatever happened before: asked
 * of the tables themselves, in other words than the functions and views that are under test.
 */
#ifndef MSERVE_TESTS_FLOW_PROOF_H
#define MSERVE_TESTS_FLOW_PROOF_H

#include "sql/db.h"

/*
 * The names of all rules that are broken, and by how many rows: "rows_without_bits 2, …"; "" when
 * all is well. Valid until the next call.
 */
const char *proof_faults(struct db *db);

/*
 * Makes `query`, which gives one text, a function proof.<name>() of the database, if it is not there
 * yet, and returns what it gives now: its plan is made once for a session. The caller frees it.
 */
char *proof_text(struct db *db, const char *name, const char *query);

/* No rule is broken, and mserve.ledger_check has nothing unexplained. Asserts. */
void proof_assert(struct db *db);

#endif
