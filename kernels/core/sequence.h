/*
 * sequence.h: one request inside the engine, from submit to the end of its event, and the pool that
 * its memory comes from and goes back to.
 *
 * ONE COUNTER `computed` counts the positions whose rows were planned. Below `admitted`, the ids
 * known when it got its slot, there is something to read, in chunks: a prompt, or after an eviction
 * or a checkpoint all there was. From there on one row a step, whose id the device alone may know,
 * up to `limit`. Rows below `paid` were read before: their time is `recompute`.
 */
#ifndef MSERVE_KERNELS_CORE_SEQUENCE_H
#define MSERVE_KERNELS_CORE_SEQUENCE_H

#include "config/buffer.h"
#include "kernels/core/group.h"
#include "kernels/core/stops.h"
#include "kernels/engine.h"

#include <stdbool.h>
#include <stdint.h>

enum sequence_state {
    SEQUENCE_FREE,     /* in the pool */
    SEQUENCE_WAITING,  /* in engine->waiting, no slot */
    SEQUENCE_RUNNING,  /* in engine->run, has a slot */
    SEQUENCE_LEAVING,  /* wants no more rows (all were planned, or it was evicted or cancelled), and
                        * some are in flight: leaves its slot when they are in */
    SEQUENCE_FINISHED, /* in engine->finished, or delivered until the next step */
};

enum {
    SEQUENCE_STOPS = 1,      /* its text grows with each token, for stop strings */
    SEQUENCE_EMBED = 2,      /* wants an embedding, not tokens */
    SEQUENCE_IGNORE_EOS = 4, /* an end token is a token like any other */
    SEQUENCE_KEEP_STOP = 8,  /* with SEQUENCE_STOPS: the stop string stays in the text */
    SEQUENCE_CANCELLED = 16, /* leaves for good */
    SEQUENCE_EVICTED = 32,   /* leaves to wait again */
    SEQUENCE_DROPPED = 64,   /* engine->dropped: in the place of one that ended */
    SEQUENCE_LOGPROBS = 128, /* keeps its tokens' log-probabilities */
};

struct sequence {
    /* What every step reads and writes: 64 bytes, one cache line. */
    uint32_t *token;   /* ids: prompt, then generated */
    uint64_t cost_ns;  /* charged so far */
    uint32_t len;      /* ids known */
    uint32_t computed; /* rows planned */
    uint32_t plain;    /* it decodes and needs nothing else while computed is below this */
    uint32_t slot;
    uint32_t flights; /* bit i: step slot i has rows of it, not collected yet */
    uint32_t index;   /* in the step planned last that has */
    uint32_t flags;   /* 0: each token is appended, and that is all */
    uint32_t limit;   /* rows it will ever want: the last id's row is of no use */
    uint32_t admitted;
    uint32_t paid;
    uint32_t room; /* positions that its KV blocks hold */
    enum sequence_state state;

    uint64_t tag;
    uint64_t order;      /* of submission; once it has run, its rank among all that ran */
    uint64_t due;        /* admissions in all after which it is passed over no more */
    struct group *group; /* NULL: none */
    uint32_t *path;      /* nodes of prefix.h: the whole blocks of its prompt */
    uint32_t path_cap;
    uint32_t path_len;
    uint32_t path_at;      /* of them, those that its table has */
    bool path_begun;       /* and a part of the next one's rows was planned */
    bool ran;              /* it has a slot or had one before */
    bool again;            /* it had one before that it has now */
    uint32_t cached;       /* ids of its prompt that were found when it first ran */
    uint32_t heap_at;      /* while it waits: where in its heap */
    uint32_t heap;         /* and in which */
    uint64_t recompute_ns; /* of its own rows, in no cost */
    struct sequence *next; /* in the list of its state */
    struct sequence *prev;
    uint32_t cap; /* of token */
    uint32_t prompt_len;
    uint32_t tokens_max;
    uint32_t walked_len; /* ids at the last checkpoint walk */
    enum engine_finish finish;
    struct engine_sampling sampling;
    struct stops *stops;
    struct buffer text;
    float *embedding;
    float *logprob; /* with SEQUENCE_LOGPROBS: of the generated ids */
    uint32_t logprob_cap;
} __attribute__((aligned(64)));

/* All sequences ever made, in blocks that never move; those out of use are made new first. */
struct sequence_pool {
    struct sequence **blocks;
    uint32_t len; /* sequences made */
    struct sequence *free;
};

void sequence_pool_release(struct sequence_pool *pool);

/* A zeroed sequence, but for the memory that it kept from an earlier use. */
struct sequence *sequence_new(struct sequence_pool *pool);
void sequence_free(struct sequence_pool *pool, struct sequence *sequence);

/* The i-th ever made, i < pool->len. */
struct sequence *sequence_at(const struct sequence_pool *pool, uint32_t i);

/* Makes room for `cap` ids. */
void sequence_reserve(struct sequence *sequence, uint32_t cap);

/* Makes room for a path of `len` nodes. */
void sequence_reserve_path(struct sequence *sequence, uint32_t len);

/* Of the id that was generated last. */
void sequence_keep_logprob(struct sequence *sequence, float logprob);

static inline uint32_t sequence_tokens_len(const struct sequence *sequence)
{
    return sequence->len - sequence->prompt_len;
}

static inline const uint32_t *sequence_tokens(const struct sequence *sequence)
{
    return sequence->token + sequence->prompt_len;
}

/* NULL unless they were asked for. */
static inline const float *sequence_logprobs(const struct sequence *sequence)
{
    return sequence->flags & SEQUENCE_LOGPROBS ? sequence->logprob : NULL;
}

/* A first-in-first-out list through `next` and `prev`. */
struct sequence_list {
    struct sequence *first;
    struct sequence *last;
    uint32_t len;
};

void sequence_list_add(struct sequence_list *list, struct sequence *sequence);
/* Puts it where its order belongs; meant for places near the front. */
void sequence_list_insert(struct sequence_list *list, struct sequence *sequence);
struct sequence *sequence_list_pop(struct sequence_list *list); /* NULL when empty */
void sequence_list_drop(struct sequence_list *list, struct sequence *sequence);

#endif
