/*
 * memory.cuh: the memory of emulated cards, and host memory that they reach: of this process's
 * heap, so that AddressSanitizer watches its bounds, counted against the size of the card. What is
 * fresh is 0xff (NaN). All gpus of one card share it.
 */
#ifndef MSERVE_KERNELS_CUDA_EMU_MEMORY_CUH
#define MSERVE_KERNELS_CUDA_EMU_MEMORY_CUH

#include <stddef.h>
#include <stdint.h>

enum { EMU_MEMORY_ALIGNMENT = 256 };

struct emu_block {
    struct emu_block *next;
    char *at;
    size_t bytes;
    bool host;
};

/* What one gpu has taken. Zeros are an empty one. */
struct emu_memory {
    uint32_t card;
    uint64_t limit_bytes; /* of the card */
    struct emu_block *blocks;
};

void *emu_memory_take(struct emu_memory *memory, size_t bytes, bool host); /* NULL: no more */
bool emu_memory_give(struct emu_memory *memory, void *at, bool host);      /* false: not taken */
void emu_memory_give_all(struct emu_memory *memory);
uint64_t emu_memory_free(const struct emu_memory *memory);

/* The block in which `at` lies, NULL for memory that was not taken. */
const struct emu_block *emu_memory_find(const struct emu_memory *memory, const void *at);

#endif
