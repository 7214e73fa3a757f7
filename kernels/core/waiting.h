/*
 * waiting.h: who gets a slot next.
 *
 * 1. Those that were evicted, in the order in which they first ran.
 * 2. The one that waits longest, once `patience` younger ones went before it.
 * 3. Those that another engine began: their tokens are only as safe as their last checkpoint.
 * 4. Of those that generate, the one that may decode longest, in octaves of tokens: its decode rows
 *    go along with what the others read, and no long answer is left over at the end. In an octave
 *    groups stand side by side, older ones first, and in a group the order is that of submission.
 * 5. Of the embeddings the longest that is read in what is left of the step's budget: by octaves of
 *    length, in the order of submission within one.
 */
#ifndef MSERVE_KERNELS_CORE_WAITING_H
#define MSERVE_KERNELS_CORE_WAITING_H

#include "kernels/core/sequence.h"

#include <stdbool.h>
#include <stdint.h>

enum { WAITING_OCTAVES = 33, WAITING_HEAPS = 1 + WAITING_OCTAVES };

/* What decides is copied here: sequences lie far apart. */
struct waiting_entry {
    uint64_t first; /* the smaller goes first */
    uint64_t second;
    struct sequence *sequence;
};

/* A heap; sequence->heap_at is the place in it. */
struct waiting_heap {
    struct waiting_entry *at;
    uint32_t len;
    uint32_t cap;
};

struct waiting {
    struct sequence_list evicted; /* by rank */
    struct sequence_list fresh;   /* in order of submission */
    struct waiting_heap
        heap[WAITING_HEAPS]; /* 0: that generate; 1 + n: embeddings of n bits' length */
    uint32_t patience;
    uint64_t admitted; /* fresh ones, in all */
};

void waiting_init(struct waiting *waiting, uint32_t patience);
void waiting_release(struct waiting *waiting);

static inline uint32_t waiting_len(const struct waiting *waiting)
{
    return waiting->evicted.len + waiting->fresh.len;
}

/* A fresh one where it has not run, else one that was evicted. */
void waiting_add(struct waiting *waiting, struct sequence *sequence);

/* Who is next when `rows` rows of a step's `rows_max` are left; NULL: nobody for these. */
struct sequence *waiting_next(const struct waiting *waiting, uint32_t rows, uint32_t rows_max);

/* It was admitted: its order is now its rank among all that ran. */
void waiting_admit(struct waiting *waiting, struct sequence *sequence);

/* It ended while it waited. */
void waiting_drop(struct waiting *waiting, struct sequence *sequence);

#endif
