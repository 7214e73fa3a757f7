/* db_listen.c: waiting until the server says that something has happened. */
#include "sql/db_internal.h"

#include "config/clock.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum err db_listen(struct db *db, const char *channel)
{
    char statement[96];

    assert(strlen(channel) < 64 &&
           strspn(channel, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(channel));
    snprintf(statement, sizeof(statement), "listen %s", channel);
    return db_script(db, statement, (struct slice){NULL, 0}, NULL);
}

/* What has come so far. */
static bool take_notices(struct db *db)
{
    bool any = false;
    PGnotify *notify;

    while ((notify = PQnotifies(db->conn)) != NULL) {
        any = true;
        PQfreemem(notify);
    }
    return any;
}

enum err db_wait_notice(struct db *db, uint32_t timeout_ms, bool *ret)
{
    uint64_t end_ns = clock_mono_ns() + timeout_ms * CLOCK_NS_PER_MS;

    if (!db->conn)
        return db_not_open();
    for (;;) {
        struct pollfd fd = {.fd = PQsocket(db->conn), .events = POLLIN};
        uint64_t now_ns = clock_mono_ns();
        uint64_t left_ns = now_ns < end_ns ? end_ns - now_ns : 0;
        int ready;

        *ret = take_notices(db); /* some may have come with the answer to a query */
        if (*ret || left_ns == 0)
            return ERR_OK;
        ready = poll(&fd, 1, (int)((left_ns + CLOCK_NS_PER_MS - 1) / CLOCK_NS_PER_MS));
        if (ready < 0)
            return errno == EINTR ? ERR_OK : db_gone(db, "poll failed");
        if (ready > 0 && !PQconsumeInput(db->conn))
            return db_failed(db, NULL, "");
    }
}
