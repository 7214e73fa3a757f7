/*
 * scheduler.h: the control plane: once a second it folds progress into the jobs, moves their states,
 * ends what passed its window, buries workers whose lease ran out, and writes the cancelled and
 * expired rows of partitions that nobody holds.
 *
 * It keeps nothing in memory: whatever it is doing when it is killed, the next second of this or
 * another scheduler does again or finds done. Several may run; the database lets one at a time
 * through.
 */
#ifndef MSERVE_SCHEDULER_SCHEDULER_H
#define MSERVE_SCHEDULER_SCHEDULER_H

#include "sql/db.h"

#include <stdbool.h>
#include <stdint.h>

struct scheduler_options {
    struct db_options db;        /* its strings outlive the scheduler */
    uint64_t interval_ms;        /* from one round to the next */
    uint64_t abandoned_after_ms; /* silence after which an upload is abandoned */
    uint64_t deltas_max;         /* how many one fold takes: it must fit the statement time-out */
    uint64_t lease_ms;           /* of the worker without a device that writes rows */
    const char *currency;        /* of that worker's price, which is 0 */
};

struct scheduler;

/* Connects, and checks that the schema is the one this program knows. */
enum err scheduler_open(const struct scheduler_options *options, struct scheduler **ret);
void scheduler_close(struct scheduler *scheduler); /* NULL is allowed */

/*
 * One round: where more waits than one fold takes, as many folds as there is time for (10 s). `stop`
 * (may be NULL) is asked between two folds, and between two commits of a long sweep. An error leaves the
 * scheduler usable: the next round connects again.
 */
enum err scheduler_round(struct scheduler *scheduler, bool (*stop)(void));

#endif
