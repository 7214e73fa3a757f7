/*
 * pg.h: a fresh database for a test program, made and dropped on the server that
 * MSERVE_POSTGRES_DSN names. Several test programs can run side by side.
 */
#ifndef MSERVE_TESTS_FLOW_PG_H
#define MSERVE_TESTS_FLOW_PG_H

#include "sql/db.h"

/*
 * Creates an empty database and returns its DSN, valid until pg_drop(). Ends the program with
 * status 77 (skipped), saying why, when MSERVE_POSTGRES_DSN is not set.
 */
const char *pg_create(const char *name);
void pg_drop(void);

/* How to connect to it; the strings live until pg_drop(). */
struct db_options pg_options(void);

/* A connection to it; time-outs are short, as tests want them. Asserts. */
struct db *pg_connect(void);

/* The first value of the first row as a number; -1 for null. Asserts that there is one. */
int64_t pg_number(struct db *db, const char *query);
void pg_do(struct db *db, const char *statements);

#endif
