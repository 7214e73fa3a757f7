/* sequence.c: the pool, and lists. */
#include "kernels/core/sequence.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { POOL_BLOCK = 64, KEEP_BYTES = 256 * 1024 };

void sequence_pool_release(struct sequence_pool *pool)
{
    for (uint32_t i = 0; i < pool->len; i++) {
        struct sequence *sequence = sequence_at(pool, i);

        free(sequence->token);
        free(sequence->embedding);
        free(sequence->logprob);
        free(sequence->path);
        stops_free(sequence->stops);
        buffer_release(&sequence->text);
    }
    for (uint32_t i = 0; i < pool->len; i += POOL_BLOCK)
        free(pool->blocks[i / POOL_BLOCK]);
    free(pool->blocks);
    *pool = (struct sequence_pool){0};
}

struct sequence *sequence_at(const struct sequence_pool *pool, uint32_t i)
{
    return &pool->blocks[i / POOL_BLOCK][i % POOL_BLOCK];
}

static void grow(struct sequence_pool *pool)
{
    const size_t size = POOL_BLOCK * sizeof(struct sequence);
    struct sequence *block = aligned_alloc(_Alignof(struct sequence), size);

    if (block == NULL)
        block = xmalloc(SIZE_MAX); /* logs and ends */
    memset(block, 0, size);
    pool->blocks = xrealloc(pool->blocks, pool->len / POOL_BLOCK + 1, sizeof(*pool->blocks));
    pool->blocks[pool->len / POOL_BLOCK] = block;
    pool->len += POOL_BLOCK;
    for (uint32_t i = POOL_BLOCK; i > 0; i--) {
        block[i - 1].next = pool->free;
        pool->free = &block[i - 1];
    }
}

struct sequence *sequence_new(struct sequence_pool *pool)
{
    struct sequence *sequence;

    if (pool->free == NULL)
        grow(pool);
    sequence = pool->free;
    pool->free = sequence->next;
    *sequence = (struct sequence){
        .token = sequence->token,
        .cap = sequence->cap,
        .text = sequence->text,
        .embedding = sequence->embedding,
        .logprob = sequence->logprob,
        .logprob_cap = sequence->logprob_cap,
        .path = sequence->path,
        .path_cap = sequence->path_cap,
    };
    buffer_clear(&sequence->text);
    return sequence;
}

void sequence_free(struct sequence_pool *pool, struct sequence *sequence)
{
    assert(sequence->state == SEQUENCE_FINISHED);
    stops_free(sequence->stops);
    sequence->stops = NULL;
    if (sequence->cap > KEEP_BYTES / sizeof(*sequence->token)) {
        free(sequence->token);
        sequence->token = NULL;
        sequence->cap = 0;
    }
    if (sequence->logprob_cap > KEEP_BYTES / sizeof(*sequence->logprob)) {
        free(sequence->logprob);
        sequence->logprob = NULL;
        sequence->logprob_cap = 0;
    }
    if (sequence->text.cap > KEEP_BYTES)
        buffer_release(&sequence->text);
    sequence->state = SEQUENCE_FREE;
    sequence->next = pool->free;
    pool->free = sequence;
}

void sequence_reserve(struct sequence *sequence, uint32_t cap)
{
    uint32_t more = sequence->cap < 64 ? 64 : sequence->cap;

    if (sequence->cap >= cap)
        return;
    while (more < cap)
        more += more / 2;
    sequence->token = xrealloc(sequence->token, more, sizeof(*sequence->token));
    sequence->cap = more;
}

void sequence_reserve_path(struct sequence *sequence, uint32_t len)
{
    if (sequence->path_cap >= len)
        return;
    sequence->path_cap = len < 16 ? 16 : len + len / 2;
    sequence->path = xrealloc(sequence->path, sequence->path_cap, sizeof(*sequence->path));
}

void sequence_keep_logprob(struct sequence *sequence, float logprob)
{
    const uint32_t at = sequence_tokens_len(sequence) - 1;

    if (at >= sequence->logprob_cap) {
        sequence->logprob_cap = at < 64 ? 64 : at + at / 2;
        sequence->logprob =
            xrealloc(sequence->logprob, sequence->logprob_cap, sizeof(*sequence->logprob));
    }
    sequence->logprob[at] = logprob;
}

/* Between two neighbours, each of which may be NULL: an end of the list. */
static void link_between(struct sequence_list *list, struct sequence *prev,
                         struct sequence *sequence, struct sequence *next)
{
    sequence->prev = prev;
    sequence->next = next;
    *(prev != NULL ? &prev->next : &list->first) = sequence;
    *(next != NULL ? &next->prev : &list->last) = sequence;
    list->len++;
}

void sequence_list_add(struct sequence_list *list, struct sequence *sequence)
{
    link_between(list, list->last, sequence, NULL);
}

void sequence_list_insert(struct sequence_list *list, struct sequence *sequence)
{
    struct sequence *next = list->first;

    while (next != NULL && next->order < sequence->order)
        next = next->next;
    link_between(list, next != NULL ? next->prev : list->last, sequence, next);
}

void sequence_list_drop(struct sequence_list *list, struct sequence *sequence)
{
    struct sequence *prev = sequence->prev, *next = sequence->next;

    *(prev != NULL ? &prev->next : &list->first) = next;
    *(next != NULL ? &next->prev : &list->last) = prev;
    list->len--;
}

struct sequence *sequence_list_pop(struct sequence_list *list)
{
    struct sequence *sequence = list->first;

    if (sequence != NULL)
        sequence_list_drop(list, sequence);
    return sequence;
}
