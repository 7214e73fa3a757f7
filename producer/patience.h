/*
 * patience.h: what a command that stays does while PostgreSQL is away: it says so once, tries again,
 * ever more seldom, and gives up after ten minutes, as an upload does with Kafka.
 */
#ifndef MSERVE_PRODUCER_PATIENCE_H
#define MSERVE_PRODUCER_PATIENCE_H

#include "sql/db.h"

#include <stdbool.h>
#include <stdint.h>

/* {0} at first, and again whenever a call succeeded. */
struct patience {
    uint64_t since_ns;
    uint32_t tries;
};

/*
 * After a call on `db` returned `rc`: true when it is to be made again. Then it has waited, from a
 * quarter of a second up to ten, and `db` is connected. False: `rc` is no trouble that passes, the
 * time is over, or a signal came. One thread; reads the clock.
 */
bool patience_try(struct patience *patience, struct db *db, enum err rc);

#endif
