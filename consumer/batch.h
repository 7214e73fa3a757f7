/*
 * batch.h: what the device thread hands to the commit thread: every task that ended since the cut
 * before, checkpoints of those that did not, and the engine's books at this cut. They belong together:
 * the cost on tasks and checkpoints and the work in progress add up with the books.
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

/* What an unfinished request has generated so far, copied as it is: the commit thread encodes it. */
struct batch_checkpoint {
    struct claim_chunk *chunk; /* held */
    uint32_t index;            /* the line is chunk->first_line + index */
    uint32_t attempt;
    uint32_t tokens;
    uint32_t tokens_before; /* in the one that it replaces */
    uint64_t gpu_ns;        /* since that one */
    uint64_t ns_before;     /* of this worker's cost, in that one and those before */
    uint64_t ran_ns;        /* in engines, in all attempts */
    uint64_t seed;
    uint8_t prompt_key[CHECKPOINT_KEY_BYTES];
    bool numerics_changed;
    bool logprobs;
    size_t at; /* in batch->words: its ids, and behind them its log-probabilities */
};

/* A request whose checkpoint cannot be used: it is to be deleted. */
struct batch_discard {
    struct claim_chunk *chunk; /* held */
    uint32_t index;
};

/* What an unfinished request has cost so far for reading again: the books of this batch have it. */
struct batch_again {
    uint32_t slot; /* in the recorder */
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
    struct batch_checkpoint *checkpoint;
    uint32_t checkpoints_count;
    uint32_t checkpoints_cap;
    uint32_t *words; /* of all checkpoints; the floats as their bits */
    size_t words_len;
    size_t words_cap;
    struct batch_discard *discard;
    uint32_t discards_count;
    struct batch_again *again;
    uint32_t again_count;
    uint64_t saved_ns; /* at this cut: what is in checkpoints of what the unfinished have cost */
    uint64_t sampled;  /* tokens since the cut before */
    char *running;     /* malloc: the set that runs apart, JSON, to be marked; NULL: none */
    unsigned mark;     /* its number; 0: none */
    bool ends_running; /* the set that was marked is through */
    unsigned stop; /* the stop that it answers (orders.h): the device has nothing left; 0: none */
};

struct batch *batch_new(void);
void batch_free(struct batch *batch); /* and its tasks; NULL is allowed */

/* Takes the task over. */
void batch_add(struct batch *batch, struct task *task, uint64_t now_ns);

/* Copies what the walk shows; `task` is as it was before. `worked_ns` on the clock of task->began_ns. */
void batch_add_checkpoint(struct batch *batch, const struct task *task,
                          const struct engine_checkpoint *live, uint64_t worked_ns);
void batch_add_discard(struct batch *batch, const struct task *task);

void batch_add_again(struct batch *batch, uint32_t slot, uint64_t recompute_ns);

/* Adds to the entry of the job, which is made when it is not there. */
void batch_add_job(struct batch *batch, const struct batch_job *add);

/* The cost of unfinished requests that is in no checkpoint. */
static inline uint64_t batch_wip_ns(const struct batch *batch)
{
    return batch->books.live_ns - batch->saved_ns;
}

static inline struct batch *batch_of(struct mail *mail)
{
    return (struct batch *)mail;
}

#endif
