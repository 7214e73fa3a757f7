/*
 * parcel.h: one delivery under way: what was claimed, the request that is made of it, and what came of
 * it. It copies what it needs, and its secrets are wiped with it.
 *
 * No clock, no lock: whoever holds a parcel holds it alone.
 */
#ifndef MSERVE_SCHEDULER_PARCEL_H
#define MSERVE_SCHEDULER_PARCEL_H

#include "config/seal.h"
#include "config/settings.h"
#include "config/webhook_secret.h"
#include "scheduler/policy/delivery.h"
#include "scheduler/sender.h"
#include "sql/outbox.h"

#include <stdbool.h>
#include <stdint.h>

enum { PARCEL_ID_SIZE = 40 };

struct parcel {
    struct parcel *next, *before; /* in the list that it is in */
    void *owner;                  /* of whoever sends it */
    struct arena arena;
    struct outbox_delivery delivery;
    struct webhook_secret secret[2];
    size_t secret_count;
    char id[PARCEL_ID_SIZE]; /* evt_<32 hex> */
    struct buffer header;    /* of the request, with a NUL behind each line */

    bool is_released; /* nothing was tried: it is due again after release_ms */
    uint64_t release_ms;
    uint64_t ended_ns;
    uint64_t took_ns;
    uint32_t status;
    uint64_t retry_after_ms;
    char why[SENDER_WHY_SIZE]; /* "": a success */
    struct delivery_decision decision;
};

/* Never NULL. With a secret that cannot be read (logged) it is released at once. */
struct parcel *parcel_new(const struct outbox_delivery *delivery, const struct seal *seal);
void parcel_free(struct parcel *parcel); /* NULL is allowed */

/* Signs it as of now, and fills the request, which borrows from it. */
void parcel_sign(struct parcel *parcel, int64_t unix_s, struct sender_request *ret);

/* It is not sent, or nobody waits for its answer. */
void parcel_release(struct parcel *parcel, uint64_t release_ms, uint64_t now_ns);

/* Keeps the answer. */
void parcel_answer(struct parcel *parcel, const struct sender_answer *answer, int64_t unix_s,
                   uint64_t now_ns);

/* Decides, once; `random` is any number. */
void parcel_judge(struct parcel *parcel, const struct delivery_schedule *schedule,
                  uint64_t disable_after_ms, uint64_t random);

/* What the database is told, as of now; borrows from the parcel. */
struct outbox_outcome parcel_outcome(const struct parcel *parcel, uint64_t now_ns);

#endif
