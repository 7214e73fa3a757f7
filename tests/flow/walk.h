/*
 * walk.h: a random walk over everything that workers do to the database, beside a model that says
 * beforehand what each step returns and what all tables then hold.
 *
 * Three workers, four partitions, two jobs. A step registers, claims, commits random rows, checkpoints and
 * accounts, forgets that a commit landed and sends it again, renews, releases, leaves, is buried,
 * folds, or goes on after its burial as if nothing had been; where asked, the database goes back in
 * time in between. The model knows no SQL and no function of sql/: it is plain arithmetic.
 */
#ifndef MSERVE_TESTS_FLOW_WALK_H
#define MSERVE_TESTS_FLOW_WALK_H

#include "sql/db.h"

#include <stdbool.h>
#include <stdint.h>

struct walk_options {
    uint64_t seed;
    uint32_t steps;
    bool failovers;
};

struct walk_seen {
    uint32_t landed, landed_before, fenced, lost, duplicates, buried, failovers;
    uint32_t saved, taken_over, discarded, late; /* checkpoints */
};

/*
 * Starts from a cleared database and stops at the first step that was not as predicted. Returns ""
 * or what differed: "step 17, commit: …". *ret_seen is what the walk met, so that a test can say
 * that it met everything. Valid until the next call.
 */
const char *walk_run(struct db *db, const struct walk_options *options, struct walk_seen *ret_seen);

#endif
