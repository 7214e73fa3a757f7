/*
 * product.h: one way to keep and multiply a matrix: a number format on an instruction set. The
 * inside of matrix.h. All of it works on one tile of outputs or one row of inputs; matrix.c walks.
 */
#ifndef MSERVE_KERNELS_CPU_PRODUCT_H
#define MSERVE_KERNELS_CPU_PRODUCT_H

#include "kernels/cpu/isa.h"

#include <stddef.h>
#include <stdint.h>

/*
 * A loop whose count is constant once its function is inlined, to be unrolled whole and before
 * registers are given out: arrays that it indexes become registers.
 */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* One tile of outputs, for some rows. */
struct panel {
    const uint8_t *weights; /* of the tile */
    const uint8_t *ahead;   /* of the tile that comes next, to be fetched meanwhile, or NULL */
    const uint8_t *input;   /* prepared rows */
    size_t row_bytes;       /* from one to the next */
    uint32_t rows;          /* at least 1 */
    uint32_t inputs;
    float *out; /* [rows][stride], a whole tile of each row */
    size_t stride;
};

struct product {
    const char *numerics;
    enum isa isa;
    uint32_t type; /* enum tensor_type */
    uint32_t tile;

    size_t (*tile_bytes)(uint32_t inputs); /* a multiple of 64 */
    size_t (*row_bytes)(uint32_t inputs);  /* a multiple of 64 */

    /* Writes one row of weights, in the format of the file, as output `lane` of a tile. */
    void (*pack)(const uint8_t *row, uint32_t inputs, uint32_t lane, uint8_t *tile);

    /* Follows the last row of a tile; NULL where nothing has to. Lanes that got no row are 0. */
    void (*seal)(uint32_t inputs, uint8_t *tile);

    void (*prepare)(const float *in, uint32_t inputs, uint8_t *row);
    void (*multiply)(const struct panel *panel);
};

extern const struct product product_scalar_q8_0, product_scalar_f32, product_scalar_f16,
    product_scalar_bf16;
extern const struct product product_avx512_q8_0, product_avx512_f32, product_avx512_f16,
    product_avx512_bf16, product_avx512_bf16_dot;
extern const struct product product_avx2_q8_0, product_avx2_f32, product_avx2_f16,
    product_avx2_bf16;

/*
 * A walk over the rows of a panel, some at a time, as evenly as they go. Meanwhile the tile that comes
 * next is fetched, a share of each step's lines with every group of rows; a single group is bound by
 * memory, and there the hardware fetches better alone.
 */
struct share {
    uint32_t first, rows; /* of the panel; `rows` 0 before the first */
    const uint8_t *ahead; /* the share's place in the first step of the next tile */
    uint32_t lines;       /* to fetch in each step */
    uint32_t group, groups, lines_done;
};

/* Moves to the next group, of `most` rows at most; false after the last. A step is `lines` lines. */
static inline bool share_next(struct share *share, const struct panel *panel, uint32_t most,
                              uint32_t lines)
{
    if (share->rows == 0)
        share->groups = (panel->rows + most - 1) / most;
    share->first += share->rows;
    if (share->group == share->groups)
        return false;
    share->rows = (panel->rows - share->first + share->groups - share->group - 1) /
                  (share->groups - share->group);
    share->group++;
    share->lines = 0;
    share->ahead = panel->weights; /* with no lines to fetch: any place */
    if (panel->ahead != NULL && share->groups > 1) {
        share->ahead = panel->ahead + 64 * (size_t)share->lines_done;
        share->lines = lines * share->group / share->groups - share->lines_done;
        share->lines_done += share->lines;
    }
    return true;
}

/*
 * Rows that lie a multiple of 4096 bytes apart would share a few lines of the first cache: an odd
 * number of lines.
 */
static inline size_t product_row_bytes(size_t bytes)
{
    return ((bytes + 63) / 64 | 1) * 64;
}

#endif
