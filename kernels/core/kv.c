/* kv.c: a stack of block ids. */
#include "kernels/core/kv.h"

#include <assert.h>
#include <stdlib.h>

#include "config/buffer.h"

void kv_init(struct kv *kv, uint32_t blocks)
{
    kv->stack = xcalloc(blocks, sizeof(*kv->stack));
    kv->blocks = kv->free_len = blocks;
    for (uint32_t i = 0; i < blocks; i++)
        kv->stack[i] = blocks - 1 - i; /* block 0 is the first to go */
}

void kv_release(struct kv *kv)
{
    free(kv->stack);
    *kv = (struct kv){0};
}

void kv_give_back(struct kv *kv, const uint32_t *table, uint32_t len)
{
    assert(len <= kv->blocks - kv->free_len);
    for (uint32_t i = len; i > 0; i--)
        kv->stack[kv->free_len++] = table[i - 1];
}
