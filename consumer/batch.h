/*
 * batch.h: what the device thread hands to the commit thread: every task that ended since the cut
 * before, and the engine's books at this cut. The two belong together: the cost on the tasks and the
 * work in progress add up with the books.
 *
 * The commit thread owns a batch that was posted.
 */
#ifndef MSERVE_CONSUMER_BATCH_H
#define MSERVE_CONSUMER_BATCH_H

#include "consumer/mailbox.h"
#include "consumer/task.h"
#include "kernels/engine.h"

#include <stdbool.h>
#include <stdint.h>

/* Device time of a job that is on no task of this batch. */
struct batch_job {
    struct uuid job;
    uint64_t wip_ns; /* now, in its unfinished requests */
    uint64_t shared_ns;
    uint64_t recompute_ns;
};

struct batch {
    struct mail mail; /* first */
    struct task **task;
    uint32_t count;
    uint32_t cap;
    uint64_t first_ns; /* monotonic: when its first task came in */
    struct engine_books books;
    struct batch_job *job;
    uint32_t jobs_count;
    unsigned stop; /* the stop that it answers (orders.h): the device has nothing left; 0: none */
};

struct batch *batch_new(void);
void batch_free(struct batch *batch); /* and its tasks; NULL is allowed */

/* Takes the task over. */
void batch_add(struct batch *batch, struct task *task, uint64_t now_ns);

/* Adds to the entry of the job, which is made when it is not there. */
void batch_add_job(struct batch *batch, const struct batch_job *add);

static inline struct batch *batch_of(struct mail *mail)
{
    return (struct batch *)mail;
}

#endif
