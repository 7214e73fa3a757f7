/* kv.c: a stack of block ids, and counters. */
#include "kernels/core/kv.h"

#include <assert.h>
#include <stdlib.h>

#include "config/buffer.h"

void kv_init(struct kv *kv, uint32_t blocks)
{
    *kv = (struct kv){.blocks = blocks, .free_len = blocks};
    kv->stack = xcalloc(blocks, sizeof(*kv->stack));
    kv->block = xcalloc(blocks, sizeof(*kv->block));
    for (uint32_t i = 0; i < blocks; i++) {
        kv->stack[i] = blocks - 1 - i; /* block 0 is the first to go */
        kv->block[i].node = KV_NONE;
    }
}

void kv_release(struct kv *kv)
{
    free(kv->stack);
    free(kv->block);
    *kv = (struct kv){0};
}

static bool is_coming(const struct kv_block *block)
{
    return block->users > 0 && block->users == block->leaving;
}

void kv_share(struct kv *kv, uint32_t block)
{
    struct kv_block *it = &kv->block[block];

    kv->coming -= is_coming(it);
    it->users++;
}

void kv_leave(struct kv *kv, const uint32_t *table, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        struct kv_block *it = &kv->block[table[i]];

        it->leaving++;
        kv->coming += is_coming(it);
    }
}

bool kv_give_back(struct kv *kv, uint32_t block, bool leaving)
{
    struct kv_block *it = &kv->block[block];

    assert(it->users > 0 && it->leaving >= leaving);
    kv->coming -= is_coming(it);
    it->users--;
    it->leaving -= leaving;
    kv->coming += is_coming(it);
    if (it->users > 0)
        return false;
    if (it->node != KV_NONE)
        return true;
    kv->stack[kv->free_len++] = block;
    return false;
}
