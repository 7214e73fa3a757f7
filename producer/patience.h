/*
 * patience.h: what a command that stays does while PostgreSQL is away: it says so once, tries again,
 * ever more seldom, and gives up after a while, as an upload does with Kafka.
 */
#ifndef MSERVE_PRODUCER_PATIENCE_H
#define MSERVE_PRODUCER_PATIENCE_H

#include "config/backoff.h"
#include "sql/db.h"

#include <stdbool.h>
#include <stdint.h>

enum { PATIENCE_MS = 600000 };

/* {0} at first; patience_reset() whenever a call succeeded. */
struct patience {
    uint64_t limit_ms; /* after which it gives up; 0: PATIENCE_MS */
    uint64_t since_ns; /* when the first of the calls failed; 0: none */
    struct backoff backoff;
    bool said;
};

/*
 * After a call on `db` returned `rc`: true when it is to be made again. Then it has waited, from a
 * quarter of a second up to ten, and `db` is connected. False: `rc` is no trouble that passes, the
 * time is over, or a signal came. One thread; reads the clock.
 */
bool patience_try(struct patience *patience, struct db *db, enum err rc);

void patience_reset(struct patience *patience);

/* Says once, for `service`, that it is waited for, and how long at most. */
void patience_say(const char *service, uint64_t limit_ms);

#endif
