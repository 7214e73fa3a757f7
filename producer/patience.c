/* patience.c: wait, connect, and look at the clock. */
#include "producer/patience.h"
#include "config/clock.h"
#include "config/log.h"
#include "config/units.h"
#include "producer/interrupt.h"

#include <unistd.h>

enum { WAIT_MIN_MS = 250, WAIT_MAX_MS = 10000 };

void patience_say(const char *service, uint64_t limit_ms)
{
    struct buffer limit = {0};

    duration_add(&limit, limit_ms ? limit_ms : PATIENCE_MS);
    log_warn("cli.outage", "waiting for %s to come back, for %s at most", service, limit.data);
    buffer_release(&limit);
}

void patience_reset(struct patience *patience)
{
    *patience = (struct patience){.limit_ms = patience->limit_ms};
}

/* Milliseconds until it gives up. */
static uint64_t left_ms(struct patience *patience)
{
    uint64_t limit_ms = patience->limit_ms ? patience->limit_ms : PATIENCE_MS;
    uint64_t now = clock_mono_ns();
    uint64_t waited_ms;

    if (patience->since_ns == 0) {
        patience->since_ns = now;
        patience->backoff = (struct backoff){.min_ms = WAIT_MIN_MS, .max_ms = WAIT_MAX_MS};
    }
    waited_ms = (now - patience->since_ns) / CLOCK_NS_PER_MS;
    return waited_ms < limit_ms ? limit_ms - waited_ms : 0;
}

/* False: a signal came, which also ends the sleep. */
static bool wait_a_while(struct patience *patience, uint64_t left)
{
    uint32_t wait_ms = backoff_next(&patience->backoff);

    if (!interrupted())
        usleep((uint32_t)(wait_ms < left ? wait_ms : left) * 1000);
    return !interrupted();
}

/* Quietly: the outage was told of already. */
static enum err connect_again(struct db *db)
{
    enum err rc;

    log_hush(true);
    rc = db_reopen(db);
    log_hush(false);
    return rc;
}

bool patience_try(struct patience *patience, struct db *db, enum err rc)
{
    while (rc == ERR_DATABASE || rc == ERR_AGAIN) {
        uint64_t left = left_ms(patience);

        if (left == 0) {
            if (!db_is_open(db))
                db_reopen(db); /* once more, aloud: why it gives up */
            return false;
        }
        if (rc == ERR_DATABASE && !patience->said)
            patience_say("PostgreSQL", patience->limit_ms);
        patience->said = patience->said || rc == ERR_DATABASE;
        if (!wait_a_while(patience, left))
            return false;
        if (db_is_open(db))
            return true;
        rc = connect_again(db);
        if (rc == ERR_OK)
            return true;
    }
    return false;
}
