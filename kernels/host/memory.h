/*
 * memory.h: what a host backend allocates when it opens: zeros, aligned for vectors, given back all
 * together. From MEMORY_HUGE bytes on it asks for huge pages: weights and KV cache are read from end
 * to end, and with small pages the processor would spend its time looking up addresses.
 *
 * Zeros that were never written take no memory, so a KV pool grows as it is filled.
 */
#ifndef MSERVE_KERNELS_HOST_MEMORY_H
#define MSERVE_KERNELS_HOST_MEMORY_H

#include <stddef.h>
#include <stdint.h>

enum { MEMORY_ALIGN = 64, MEMORY_HUGE = 2 << 20 };

struct memory_piece;

/* {0} is valid and empty. */
struct memory {
    struct memory_piece *pieces;
    uint32_t len;
    uint64_t bytes; /* taken so far, as they were asked for */
};

/* NULL when there is no more; `bytes` may be 0. */
void *memory_take(struct memory *memory, size_t bytes);
void memory_release(struct memory *memory);

#endif
