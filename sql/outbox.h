/*
 * outbox.h: the deliveries of webhooks as the database keeps them (0013_deliveries.sql): claiming what
 * is due, and writing down what came of it. What an outcome means is scheduler/policy/delivery.h.
 *
 * A claim is committed before anything is sent, and gives a lease. Whoever dies with it loses it, and
 * what he had sent may be sent once more, under the same id and with the same bytes.
 */
#ifndef MSERVE_SQL_OUTBOX_H
#define MSERVE_SQL_OUTBOX_H

#include "sql/db.h"

#include <stdbool.h>
#include <stdint.h>

/* One event that is owed to one endpoint. Slices belong to the arena of the claim. */
struct outbox_delivery {
    struct uuid endpoint;
    struct uuid event;
    int64_t token;
    uint32_t attempts;   /* that have ended */
    uint32_t failures;   /* of the endpoint, in a row */
    uint64_t failing_ms; /* since the first of them */
    struct slice url;    /* with a final NUL */
    struct slice body;   /* to the byte what is sent */
    struct slice
        sealed[2]; /* the secret, and the one before while that is valid; NULL: none. Sealed
                             with the 16 bytes of the endpoint's id as label (config/seal.h). */
};

struct outbox_claim {
    uint32_t limit; /* at most so many */
    uint64_t lease_ms;
    struct uuid after;    /* endpoint of the last delivery of the claim before; zeros: none */
    uint32_t break_after; /* failures after which an endpoint gets one delivery at a time */
    bool failing;         /* false: only endpoints whose last attempt went well */
};

/* One transaction, committed when it returns ERR_OK. *ret_count may be 0; *ret is the arena's. */
enum err outbox_claim(struct db *db, const struct outbox_claim *claim, struct arena *arena,
                      struct outbox_delivery **ret, uint32_t *ret_count);

/* What an attempt came to. Texts are borrowed. */
struct outbox_outcome {
    struct uuid endpoint;
    struct uuid event;
    int64_t token;
    const char *outcome; /* of webhook_attempts; "released": nothing was tried, it is due again */
    uint32_t status;     /* 0: nothing was answered */
    const char *why;     /* why it was no success; NULL */
    uint32_t took_ms;
    uint64_t age_ms;          /* since it ended */
    uint64_t retry_ms;        /* when it is due again, from its end on, */
    uint64_t rest_ms;         /* and how long the endpoint rests; 0: it does not */
    const char *disabled_why; /* the endpoint is to be disabled; NULL */
};

enum { OUTBOX_RECORD_MAX = 512 };

/*
 * One transaction, for the first of them up to one that tells of the same delivery as another before it,
 * at most OUTBOX_RECORD_MAX; *ret_count says how many were taken. Told again, after an unknown
 * outcome, they change nothing. Logs endpoints that this disabled; *ret_disabled says how many.
 */
enum err outbox_record(struct db *db, const struct outbox_outcome *outcomes, uint32_t count,
                       uint32_t *ret_count, uint32_t *ret_disabled);

/* Drops up to `limit` deliveries that disabled endpoints are still owed. */
enum err outbox_drop(struct db *db, uint32_t limit, uint64_t *ret_dropped);

struct outbox_sight {
    uint64_t pending;   /* counted up to 100,000 */
    uint64_t oldest_ms; /* for how long the oldest of them has been due */
    uint64_t resting;   /* endpoints */
    uint64_t disabled;
};

enum err outbox_look(struct db *db, struct outbox_sight *ret);

#endif
