/*
 * delivery.h: what one attempt to deliver an event means: for the event, whether and when it is tried
 * again, and for its endpoint, whether it is to be left in peace, and for how long.
 *
 * Only a status of 2xx is a success. After a failure the event waits as long as the schedule says, give
 * or take a fifth, and never less than the receiver asked for (Retry-After, a day at most). What speaks
 * of the receiver rather than of the event (429, 502, 504, Retry-After, ten failures in a row) makes the
 * whole endpoint rest. 410, and failures for too long without one success, disable it.
 *
 * Pure functions; time and chance are parameters; any thread.
 */
#ifndef MSERVE_SCHEDULER_POLICY_DELIVERY_H
#define MSERVE_SCHEDULER_POLICY_DELIVERY_H

#include "config/buffer.h"
#include "config/errors.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    DELIVERY_ATTEMPTS_MAX = 64,
    DELIVERY_RETRY_AFTER_MS_MAX = 86400000, /* what a receiver may ask for: a day */
    DELIVERY_BREAK_AFTER = 10,              /* failures in a row, then one probe at a time */
    DELIVERY_REST_MS_MIN = 30000,           /* of the breaker: its first rest, */
    DELIVERY_REST_MS_MAX = 3600000,         /* and the longest */
    DELIVERY_THROTTLE_MS_MIN = 5000,        /* for 429, 502, 504: their first rest, */
    DELIVERY_THROTTLE_MS_MAX = 300000,      /* and the longest, where no time was asked for */
};

/* pause_ms[i] passes between attempt i and attempt i + 1, attempts being numbered from 1. */
struct delivery_schedule {
    uint64_t pause_ms[DELIVERY_ATTEMPTS_MAX]; /* [0] is 0 */
    uint32_t count;                           /* of attempts; at least 1 */
};

/* From the texts of webhook.retries: "0s", "5s". ERR_SETTINGS with a sentence. */
enum err delivery_schedule_parse(const char *const *text, uint32_t count,
                                 struct delivery_schedule *ret);

/*
 * The value of a Retry-After header: seconds, or a date as HTTP writes it; clamped to
 * DELIVERY_RETRY_AFTER_MS_MAX. False: it is neither. A date that has passed is 0.
 */
bool delivery_retry_after(struct slice value, int64_t now_unix_s, uint64_t *ret_ms);

/* How one attempt ended, and what was known when it began. */
struct delivery_attempt {
    uint32_t attempts;       /* of this event to this endpoint, this one included */
    uint32_t status;         /* 0: nothing was answered */
    uint64_t retry_after_ms; /* 0: not asked for */
    uint32_t failures;       /* of the endpoint in a row, before this one, */
    uint64_t failing_ms;     /* and since when; 0: none before */
    uint64_t random;         /* any number: whose jitter this is */
};

enum delivery_result {
    DELIVERY_DELIVERED,
    DELIVERY_RETRIED,
    DELIVERY_FAILED,   /* the schedule is at its end */
    DELIVERY_DISABLED, /* and so is the endpoint */
};

struct delivery_decision {
    enum delivery_result result;
    uint64_t retry_ms;        /* when retried: not before */
    uint64_t rest_ms;         /* nothing is sent to the endpoint before; 0: no rest */
    const char *disabled_why; /* when disabled: "gone", "failing" */
};

/* `disable_after_ms`: webhook.disable_after. */
struct delivery_decision delivery_decide(const struct delivery_schedule *schedule,
                                         uint64_t disable_after_ms,
                                         const struct delivery_attempt *attempt);

/* "delivered", "retried", "failed", "disabled": webhook_attempts.outcome. */
const char *delivery_result_name(enum delivery_result result);

#endif
