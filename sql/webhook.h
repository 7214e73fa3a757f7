/*
 * webhook.h: endpoints of webhooks as the commands of their tenant see them. Delivering is elsewhere.
 *
 * Errors as in db.h. The tenant is that of the PostgreSQL role; endpoints of others are not there.
 */
#ifndef MSERVE_SQL_WEBHOOK_H
#define MSERVE_SQL_WEBHOOK_H

#include "config/uuid.h"
#include "sql/db.h"

#include <stdbool.h>
#include <stdint.h>

enum { WEBHOOK_NAME_MAX = 64 }; /* bytes: lower case letters, digits, '.', '_', '-' */

struct webhook_endpoint {
    struct uuid endpoint;
    char name[WEBHOOK_NAME_MAX + 1];
    bool enabled;
};

/* By its name, or by its URL as it is stored (NULL: none). ERR_NOT_FOUND, not logged. */
enum err webhook_find(struct db *db, const char *name, const char *url,
                      struct webhook_endpoint *ret);

/* What an endpoint is made from; borrowed for the call. */
struct webhook_spec {
    struct uuid endpoint;
    const char *name;
    struct slice url;
    const struct slice *event; /* [event_count]; 0: the ends of jobs */
    size_t event_count;
    bool every_job;
    struct slice secret; /* sealed, with the endpoint's id as label */
};

/* ERR_CONFLICT, not logged: the name is taken. ERR_REJECTED, not logged: no such type of event. */
enum err webhook_add(struct db *db, const struct webhook_spec *spec);

/* Adds its secret, sealed, to *ret. */
enum err webhook_secret(struct db *db, const struct uuid *endpoint, struct buffer *ret);

/* The old secret signs too for `overlap_ms`; 0: it ends at once. */
enum err webhook_rotate(struct db *db, const struct uuid *endpoint, struct slice secret,
                        uint64_t overlap_ms);

enum err webhook_enable(struct db *db, const struct uuid *endpoint);
enum err webhook_disable(struct db *db, const struct uuid *endpoint);

/* An event of no job, owed to this endpoint alone. */
enum err webhook_test(struct db *db, const struct uuid *endpoint, struct uuid *ret_event);

/* What came of a delivery so far: of its last attempt. Texts end where they do not fit. */
struct webhook_outcome {
    char state[16];      /* pending, delivered, failed, dropped */
    bool tried;          /* the rest is of an attempt */
    char outcome[16];    /* delivered, retried, failed, disabled */
    int32_t status_code; /* 0: it answered nothing */
    char why[256];
    int32_t took_ms;
    int64_t retry_ms; /* 0: not again */
};

enum err webhook_outcome(struct db *db, const struct uuid *endpoint, const struct uuid *event,
                         struct webhook_outcome *ret);

/* Which deliveries are owed again. One of `endpoint` and `event` is NULL. */
struct webhook_replay {
    const struct uuid *endpoint;
    const struct uuid *event;
    bool failed;       /* only those that were given up, or dropped */
    uint64_t since_ms; /* only events of so long ago at most; 0: all */
};

enum err webhook_replay(struct db *db, const struct webhook_replay *which, int64_t *ret_count);

/*
 * The endpoint that hears of a job, beside those that hear of every job. *ret_set is false where the job
 * is sealed and keeps another; then `name` is what that is called, "" for none.
 */
enum err webhook_of_job(struct db *db, const struct uuid *job, const struct uuid *endpoint,
                        bool *ret_set, char name[WEBHOOK_NAME_MAX + 1]);

#endif
