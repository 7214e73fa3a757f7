/* memory.cc: a list of blocks for each gpu, a number of bytes for each card. */
#include "kernels/cuda/emu/memory.cuh"

#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/emu/gpu_emu.cuh"

static uint64_t taken[GPUS_MAX]; /* of each card, atomically */

uint64_t emu_memory_taken(uint32_t index)
{
    return __atomic_load_n(&taken[index], __ATOMIC_RELAXED);
}

static uint64_t card_bytes(size_t bytes)
{
    return (bytes + EMU_MEMORY_ALIGNMENT - 1) / EMU_MEMORY_ALIGNMENT * EMU_MEMORY_ALIGNMENT;
}

static bool book(struct emu_memory *memory, size_t bytes)
{
    uint64_t *at = &taken[memory->card], size = card_bytes(bytes);

    if (bytes > memory->limit_bytes)
        return false;
    if (__atomic_add_fetch(at, size, __ATOMIC_RELAXED) <= memory->limit_bytes)
        return true;
    __atomic_sub_fetch(at, size, __ATOMIC_RELAXED);
    return false;
}

void *emu_memory_take(struct emu_memory *memory, size_t bytes, bool host)
{
    struct emu_block *block;
    void *at = NULL;

    if (!host && !book(memory, bytes))
        return NULL;
    block = static_cast<struct emu_block *>(calloc(1, sizeof(*block)));
    if (block == NULL || posix_memalign(&at, EMU_MEMORY_ALIGNMENT, bytes > 0 ? bytes : 1) != 0) {
        if (!host)
            __atomic_sub_fetch(&taken[memory->card], card_bytes(bytes), __ATOMIC_RELAXED);
        free(block);
        return NULL;
    }
    memset(at, host ? 0 : 0xff, bytes);
    block->at = static_cast<char *>(at);
    block->bytes = bytes;
    block->host = host;
    block->next = memory->blocks;
    memory->blocks = block;
    return at;
}

static void drop(struct emu_memory *memory, struct emu_block **link)
{
    struct emu_block *block = *link;

    *link = block->next;
    if (!block->host)
        __atomic_sub_fetch(&taken[memory->card], card_bytes(block->bytes), __ATOMIC_RELAXED);
    free(block->at);
    free(block);
}

bool emu_memory_give(struct emu_memory *memory, void *at, bool host)
{
    for (struct emu_block **link = &memory->blocks; *link != NULL; link = &(*link)->next)
        if ((*link)->at == at && (*link)->host == host) {
            drop(memory, link);
            return true;
        }
    return false;
}

void emu_memory_give_all(struct emu_memory *memory)
{
    while (memory->blocks != NULL)
        drop(memory, &memory->blocks);
}

uint64_t emu_memory_free(const struct emu_memory *memory)
{
    uint64_t used = emu_memory_taken(memory->card);

    return used < memory->limit_bytes ? memory->limit_bytes - used : 0;
}

const struct emu_block *emu_memory_find(const struct emu_memory *memory, const void *at)
{
    const char *byte = static_cast<const char *>(at);

    for (const struct emu_block *block = memory->blocks; block != NULL; block = block->next)
        if (byte >= block->at && byte < block->at + block->bytes)
            return block;
    return NULL;
}
