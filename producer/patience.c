/* patience.c: wait, connect, and count. */
#include "producer/patience.h"
#include "config/clock.h"
#include "config/log.h"
#include "producer/interrupt.h"

#include <unistd.h>

enum { WAIT_MS = 250, WAIT_MAX_MS = 10000, GIVE_UP_S = 600 };

static bool is_over(struct patience *patience)
{
    uint64_t now = clock_mono_ns();

    if (patience->tries++ > 0)
        return now - patience->since_ns > (uint64_t)GIVE_UP_S * CLOCK_NS_PER_S;
    patience->since_ns = now;
    log_warn("cli.outage", "waiting for PostgreSQL to come back, for %d minutes at most",
             GIVE_UP_S / 60);
    return false;
}

/* False: a signal came, which also ends the sleep. */
static bool wait_a_while(const struct patience *patience)
{
    uint32_t doubled = patience->tries < 10 ? patience->tries : 10;
    uint32_t wait_ms = (uint32_t)WAIT_MS << (doubled - 1);

    if (!interrupted())
        usleep((wait_ms < WAIT_MAX_MS ? wait_ms : WAIT_MAX_MS) * 1000);
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
        if (is_over(patience)) {
            if (!db_is_open(db))
                db_reopen(db); /* once more, aloud: why it gives up */
            return false;
        }
        if (!wait_a_while(patience))
            return false;
        if (db_is_open(db))
            return true;
        rc = connect_again(db);
        if (rc == ERR_OK)
            return true;
    }
    return false;
}
