/* deliver_internal.h: what the two threads of deliver.h share; nobody else includes it. */
#ifndef MSERVE_SCHEDULER_DELIVER_INTERNAL_H
#define MSERVE_SCHEDULER_DELIVER_INTERNAL_H

#include "config/backoff.h"
#include "scheduler/deliver.h"
#include "scheduler/parcel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <uv.h>

/* A list of parcels, first in, first out; {0} is an empty one. */
struct parcels {
    struct parcel *first, *last;
    uint32_t count;
};

void parcels_add(struct parcels *list, struct parcel *parcel);
void parcels_take_out(struct parcels *list, struct parcel *parcel);
void parcels_free(struct parcels *list); /* and all that are in it */

/* The clerk's own. */
struct clerk {
    struct db *db;
    struct backoff retry;
    struct parcels ended; /* not recorded yet */
    uint32_t out;         /* parcels that the loop has, */
    uint32_t out_failing; /* and those of them that go to endpoints that fail */
    struct uuid after;    /* where the next claim begins */
    uint64_t claim_ns;    /* when it is to be made, if nothing happens before, */
    uint64_t claim_not_before_ns;
    uint64_t sight_ns;       /* when the metrics are to be looked up */
    uint64_t drain_until_ns; /* once it is to stop; 0: it is not */
};

/* The loop's own. */
struct post {
    uv_loop_t loop;
    struct sender *sender;
    struct parcels sending;
};

struct deliver {
    struct deliver_options options;
    struct delivery_schedule schedule;
    struct seal *seal;
    struct clerk clerk;
    struct post post;
    pthread_t clerk_thread, post_thread;
    uv_async_t wake_post;
    int wake_clerk;           /* eventfd */
    atomic_bool is_stopping;  /* asked of the clerk */
    atomic_bool is_abandoned; /* asked of the loop: nothing is waited for any more */
    atomic_bool is_over;      /* asked of the loop: end */

    pthread_mutex_t lock; /* of these two queues */
    struct parcels to_send;
    struct parcels ended;

    atomic_uint_fast64_t good_ns, moved_ns;
    atomic_int last;
};

/* The thread that talks to PostgreSQL (deliver_clerk.c); `arg` is the struct deliver. */
void *clerk_run(void *arg);

void deliver_wake_clerk(struct deliver *deliver);

#endif
