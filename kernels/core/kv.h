/*
 * kv.h: which KV blocks are free. A fixed number of them, handed out one at a time, the one given
 * back last first. A block belongs to one sequence; a later issue counts references here, so that
 * sequences with a common beginning can share its blocks.
 */
#ifndef MSERVE_KERNELS_CORE_KV_H
#define MSERVE_KERNELS_CORE_KV_H

#include <stdbool.h>
#include <stdint.h>

struct kv {
    uint32_t *stack;   /* free blocks, the next one last */
    uint32_t free_len; /* of them */
    uint32_t blocks;   /* in all */
};

void kv_init(struct kv *kv, uint32_t blocks);
void kv_release(struct kv *kv);

/* False when none is free. */
static inline bool kv_take(struct kv *kv, uint32_t *ret_block)
{
    if (kv->free_len == 0)
        return false;
    *ret_block = kv->stack[--kv->free_len];
    return true;
}

/* Gives back a sequence's table, the tail first: its beginning is what is used again first. */
void kv_give_back(struct kv *kv, const uint32_t *table, uint32_t len);

#endif
