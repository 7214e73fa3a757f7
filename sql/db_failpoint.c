/*
 * db_failpoint.c: failpoints around a statement and inside the functions that it runs.
 *
 * Inside a function of the server we cannot stop, so the server says when it is there: tests put calls
 * of failpoint.hit() into the functions (tests/fault/failpoints.sql), which read the setting
 * mserve.failpoint. Told `notice`, the call sends a notice, which reaches us at once, and rests a
 * while, so that we act while the server is inside; told `error`, it raises. The migrations, and so
 * every real database, hold nothing of it.
 */
#include "sql/db_internal.h"

#ifdef MSERVE_FAILPOINTS

#include "config/log.h"

#include <stdio.h>
#include <string.h>

void db_failpoint_set_copied(struct db *db, const char *point)
{
    db->failpoints.copied = point;
}

void db_failpoint_set_sent(struct db *db, const char *point)
{
    db->failpoints.sent = point;
}

/* "row.updated=notice;", "row.updated=error;" or nothing. */
static void add_told(const struct failpoint_hit *hit, char *out, size_t size)
{
    size_t len = strlen(out);

    if (hit->action != FAILPOINT_NONE)
        snprintf(out + len, size - len, "%s=%s;", hit->point,
                 hit->action == FAILPOINT_ERROR ? "error" : "notice");
}

void db_failpoint_tell(struct db *db, const char *first, const char *second)
{
    struct db_failpoints *points = &db->failpoints;
    const char *names[2] = {first, second};
    char told[sizeof(points->told)] = "";
    char script[sizeof(told) + 64];

    for (int i = 0; i < 2; i++) {
        points->inside[i] = strcmp(names[i], FAILPOINT_PREFIX) == 0 ? (struct failpoint_hit){0}
                                                                    : failpoint_take(names[i]);
        add_told(&points->inside[i], told, sizeof(told));
    }
    if (points->generation == db->generation && strcmp(points->told, told) == 0)
        return;
    if (points->generation != db->generation && !told[0])
        return; /* a new connection knows of none */
    snprintf(script, sizeof(script), "select set_config('mserve.failpoint', '%s', false)", told);
    if (db_script(db, script, (struct slice){NULL, 0}, NULL))
        return; /* what follows will fail too */
    memcpy(points->told, told, sizeof(told));
    points->generation = db->generation;
}

enum err db_failpoint_copied(struct db *db)
{
    struct failpoint_hit hit;

    if (!db->failpoints.copied)
        return ERR_OK;
    hit = failpoint_take(db->failpoints.copied);
    failpoint_strike(hit);
    if (hit.action == FAILPOINT_ERROR)
        return db_gone(db, "a failpoint cut the connection inside a COPY");
    if (hit.action == FAILPOINT_TIMEOUT)
        db->failpoints.late = true;
    return ERR_OK;
}

/* Where rows are copied, all is sent only behind them. */
enum err db_failpoint_sent(struct db *db, bool after_copy)
{
    struct failpoint_hit hit;

    if (!db->failpoints.sent || (db->failpoints.copied && !after_copy))
        return ERR_OK;
    hit = failpoint_take(db->failpoints.sent);
    failpoint_strike(hit);
    if (hit.action == FAILPOINT_ERROR)
        return db_gone(db, "a failpoint cut the connection with the reply unread");
    if (hit.action == FAILPOINT_TIMEOUT)
        db->failpoints.late = true;
    return ERR_OK;
}

void db_failpoint_notice(struct db *db, const char *text)
{
    size_t prefix = strlen(FAILPOINT_PREFIX);

    if (strncmp(text, FAILPOINT_PREFIX, prefix) != 0)
        return;
    for (int i = 0; i < 2; i++) {
        const struct failpoint_hit *hit = &db->failpoints.inside[i];

        if (!hit->point || strcmp(hit->point, text + prefix) != 0)
            continue;
        log_warn("failpoint.inside", "point=%s", hit->point);
        failpoint_strike(*hit);
        if (hit->action == FAILPOINT_TIMEOUT)
            db->failpoints.late = true;
    }
}

enum err db_failpoint_ended(struct db *db, enum err rc)
{
    bool late = db->failpoints.late;

    db->failpoints.copied = db->failpoints.sent = NULL;
    db->failpoints.late = false;
    if (rc && strncmp(db->message, FAILPOINT_PREFIX, strlen(FAILPOINT_PREFIX)) == 0)
        log_warn("failpoint.raised", "point=%s", db->message + strlen(FAILPOINT_PREFIX));
    return late && !rc ? db_gone(db, "a failpoint: no answer came in time") : rc;
}

#endif
