/*
 * kv.h: which KV blocks are free, and how many tables have each of the others. A fixed number of
 * them, handed out one at a time, the one given back last first. Sequences that begin alike have the
 * same blocks in their tables; a block whose ids somebody knows (prefix.h) may be kept when no table
 * has it any more.
 */
#ifndef MSERVE_KERNELS_CORE_KV_H
#define MSERVE_KERNELS_CORE_KV_H

#include <stdbool.h>
#include <stdint.h>

#define KV_NONE UINT32_MAX

struct kv_block {
    uint32_t users;   /* tables that have it */
    uint32_t leaving; /* of these, tables that go when the steps in flight are in */
    uint32_t node;    /* what knows its ids: a node of prefix.h, or KV_NONE */
};

struct kv {
    uint32_t *stack;   /* free blocks, the next one last */
    uint32_t free_len; /* of them */
    uint32_t blocks;   /* in all */
    uint32_t coming;   /* used only by tables that are leaving */
    struct kv_block *block;
};

void kv_init(struct kv *kv, uint32_t blocks);
void kv_release(struct kv *kv);

/* For one table. False when none is free. */
static inline bool kv_take(struct kv *kv, uint32_t *ret_block)
{
    if (kv->free_len == 0)
        return false;
    *ret_block = kv->stack[--kv->free_len];
    kv->block[*ret_block].users = 1;
    return true;
}

/* One more table has it; it is not free. */
void kv_share(struct kv *kv, uint32_t block);

/* The table will be given back, leaving. */
void kv_leave(struct kv *kv, const uint32_t *table, uint32_t len);

/*
 * One table less has it. True when that was the last one and a node knows its ids: then it is
 * neither free nor used, but the node's to keep. `leaving`: the table had been told to kv_leave().
 */
bool kv_give_back(struct kv *kv, uint32_t block, bool leaving);

#endif
