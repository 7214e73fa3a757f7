/*
 * loops.h: the arithmetic of the `cpu` backend beside the products of matrices (matrix.h), once for
 * each instruction set: loops over rows of floats, and attention. Pure functions.
 *
 * NUMBERS Each output is a function of its row alone. rotate, glu, round_half and what sampling needs
 * give `ref`'s bits; norm and attend have an order of sums of their own, which depends on the
 * instruction set and on nothing else.
 */
#ifndef MSERVE_KERNELS_CPU_LOOPS_H
#define MSERVE_KERNELS_CPU_LOOPS_H

#include "kernels/cpu/isa.h"
#include "kernels/device.h"
#include "kernels/sample.h"

#include <stdint.h>

enum { LOOPS_BLOCK = DEVICE_BLOCK_TOKENS, LOOPS_SPLIT = 256, LOOPS_WIDEST = 16, LOOPS_TILE = 8 };

/*
 * Rows row0 .. row0 + rows - 1 of one sequence, positions side by side, and the query heads that
 * share a key head: their attention over positions 0 .. each row's own.
 *
 * K of a block is [D][32], V is [32][padded D]; `half`: as halves, else floats.
 */
struct attend {
    const float *q; /* of the first row and head: already rotated (and rounded, for `half`) */
    float *out;     /* likewise */
    uint32_t q_stride, out_stride; /* floats from a row to the next */
    uint32_t rows;
    uint32_t heads;         /* that share the key head, side by side in a row */
    uint32_t head_dim;      /* D */
    uint32_t position;      /* of the first row */
    const uint32_t *blocks; /* of the sequence */
    const void *k, *v;      /* of this layer and key head, block 0 */
    const void *ahead;      /* K that is read after this, to be fetched meanwhile; any address */
    size_t block_bytes;     /* from a block to the next */
    bool half;
    float *scratch; /* attend_scratch() floats, aligned to 64 bytes */
};

struct loops {
    /* x += delta (unless NULL), out = gain x / sqrt(mean(x^2) + eps). */
    void (*norm)(float *x, const float *delta, const float *gain, uint32_t len, float eps,
                 float *out);

    /* Pairs (2i, 2i + 1) of each head turn by angle i, a cosine and a sine. */
    void (*rotate)(float *x, uint32_t heads, uint32_t head_dim, uint32_t rope_dim,
                   const float *angle);

    void (*round_half)(float *x, uint32_t len); /* each to the nearest half */
    void (*to_half)(const float *x, uint32_t len, uint16_t *out);
    void (*glu)(const float *gate, const float *up, uint32_t len, float *out);
    void (*attend)(const struct attend *attend);
    struct sample_loops sample;
};

extern const struct loops loops_scalar, loops_avx2, loops_avx512;

/* Those of a level that this machine runs. */
const struct loops *loops_of(enum isa isa);

/* Numbers of a head of V as it is stored. */
static inline uint32_t loops_padded(uint32_t head_dim)
{
    return (head_dim + LOOPS_WIDEST - 1) / LOOPS_WIDEST * LOOPS_WIDEST;
}

/* Floats of scratch for `rows` rows of `heads` heads: highest score and sum so far of each, then
 * queries, scores and results of a tile. */
static inline size_t attend_scratch(uint32_t rows, uint32_t heads, uint32_t head_dim)
{
    return ((size_t)2 * rows * heads + LOOPS_WIDEST - 1) / LOOPS_WIDEST * LOOPS_WIDEST +
           (size_t)LOOPS_TILE * (2 * loops_padded(head_dim) + LOOPS_SPLIT);
}

#endif
