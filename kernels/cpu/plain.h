/*
 * plain.h: how F32, F16 and BF16 lie where nothing is gained by another order: a tile is
 * [K][lanes] in the format of the file, a prepared row [K] floats.
 */
#ifndef MSERVE_KERNELS_CPU_PLAIN_H
#define MSERVE_KERNELS_CPU_PLAIN_H

#include "kernels/cpu/product.h"

#include <string.h>

/* Of weights of `bytes` each; a multiple of 64. */
static inline size_t plain_tile_bytes(uint32_t inputs, uint32_t lanes, size_t bytes)
{
    return ((size_t)inputs * lanes * bytes + 63) / 64 * 64;
}

static inline size_t plain_row_bytes(uint32_t inputs)
{
    return product_row_bytes((size_t)inputs * sizeof(float));
}

/* One row of weights into lane `lane` of a tile. */
static inline void plain_pack(const uint8_t *row, uint32_t inputs, uint32_t lane, uint8_t *tile,
                              uint32_t lanes, size_t bytes)
{
    for (uint32_t k = 0; k < inputs; k++)
        memcpy(tile + ((size_t)k * lanes + lane) * bytes, row + k * bytes, bytes);
}

static inline void plain_prepare(const float *in, uint32_t inputs, uint8_t *row)
{
    memcpy(row, in, inputs * sizeof(float));
}

#endif
