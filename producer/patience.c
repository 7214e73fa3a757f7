/* patience.c: wait, connect, and count. */
#include "producer/patience.h"
#include "config/clock.h"
#include "producer/interrupt.h"

#include <unistd.h>

enum { WAIT_MS = 250, WAIT_MAX_MS = 10000, GIVE_UP_MS = 600000 };

static bool wait_a_while(struct patience *patience)
{
    uint64_t now = clock_mono_ns();
    uint32_t doubled = patience->tries < 10 ? patience->tries : 10;
    uint32_t wait_ms = (uint32_t)WAIT_MS << doubled;

    if (patience->tries++ == 0)
        patience->since_ns = now;
    else if (now - patience->since_ns > (uint64_t)GIVE_UP_MS * CLOCK_NS_PER_MS)
        return false;
    if (!interrupted()) /* a signal also ends the sleep */
        usleep((wait_ms < WAIT_MAX_MS ? wait_ms : WAIT_MAX_MS) * 1000);
    return !interrupted();
}

bool patience_try(struct patience *patience, struct db *db, enum err rc)
{
    while (rc == ERR_DATABASE || rc == ERR_AGAIN) {
        if (!wait_a_while(patience))
            return false;
        if (db_is_open(db))
            return true;
        rc = db_reopen(db);
        if (rc == ERR_OK)
            return true;
    }
    return false;
}
