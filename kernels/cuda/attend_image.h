/*
 * attend_image.h: the image that attend_plan() writes and the kernels of attention read: a header,
 * then tables of rows and of work. Host and device read the same bytes; all sections begin at
 * multiples of 16 bytes.
 *
 * ROWS OF A MATRIX An item packs the query heads of its rows that share a KV head, row by row:
 * packed row i is row i / heads of the item, query head `head` + i % heads of the KV head's. Each
 * item stands for all KV heads, one piece of work each.
 *
 * PARTS What a row has of one split (o, not yet divided, m and l of each head) goes to place part +
 * split among the partial results: float [slots][H][D], then float [slots][H][2] = m, l; m in units
 * of log2. A row whose part is ATTEND_NO_PART goes to `out` at once.
 */
#ifndef MSERVE_KERNELS_CUDA_ATTEND_IMAGE_H
#define MSERVE_KERNELS_CUDA_ATTEND_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    ATTEND_SPLIT = 256,     /* positions */
    ATTEND_PAGE = 32,       /* positions of a KV block: DEVICE_BLOCK_TOKENS */
    ATTEND_SPLIT_PAGES = 8, /* ATTEND_SPLIT / ATTEND_PAGE */
    ATTEND_WARP_ROWS = 16,  /* packed rows that one warp has */
};

#define ATTEND_NO_PART UINT32_MAX

/* What there is to do; the bits of attend_plan()'s kinds. */
enum attend_kind {
    ATTEND_SINGLE = 1 << 0, /* items of one warp: up to ATTEND_WARP_ROWS packed rows, one split */
    ATTEND_TILES = 1 << 1,  /* items of one block: up to attend_tile_rows() packed rows */
    ATTEND_FOLD = 1 << 2,   /* rows with partial results */
    ATTEND_PLAIN = 1 << 3,  /* a head size without matrix units: just the rows */
};

/* Head sizes that matrix units work on; for any other there is only the plain kernel. */
static inline bool attend_has_tiles(uint32_t head_dim)
{
    return head_dim == 32 || head_dim == 64 || head_dim == 96 || head_dim == 128 || head_dim == 256;
}

/* Packed rows of one block: at 256 two warps share 16 rows, each with half of the columns. */
static inline uint32_t attend_tile_rows(uint32_t head_dim)
{
    return (head_dim > 128 ? 2 : 4) * ATTEND_WARP_ROWS;
}

/* Offsets are bytes from the header's begin. */
struct attend_header {
    uint32_t rows;      /* of the step */
    uint32_t blocks_at; /* uint32_t: KV block ids of the sequences, one sequence after another */
    uint32_t rows_at; /* struct attend_row: those of the step, in order; later, those of cascades */
    uint32_t singles, singles_at; /* struct attend_item */
    uint32_t tiles, tiles_at;     /* struct attend_item, longest first */
    uint32_t folds, folds_at;     /* struct attend_fold */
    uint32_t slots;               /* places for partial results: of all steps */
    uint32_t unused[6];
};

struct attend_row {
    uint32_t row;      /* of the step: of qkv and out */
    uint32_t position; /* attends to 0 .. position */
    uint32_t part;     /* place of split 0 among the partial results, or ATTEND_NO_PART */
    uint32_t blocks;   /* entry of the sequence's first block id */
};

/*
 * Rows that read the same blocks in splits from .. to - 1; their positions ascend, or are past
 * `end`.
 */
struct attend_item {
    uint32_t first; /* index from rows_at on */
    uint32_t rows;
    uint32_t head, heads; /* of the query heads that share a KV head */
    uint32_t from, to;    /* splits */
    uint32_t end;         /* positions from here on read as zero */
    uint32_t unused;
};

/* A row whose partial results part .. part + splits - 1 are folded, from left to right. */
struct attend_fold {
    uint32_t row, part, splits, unused;
};

#endif
