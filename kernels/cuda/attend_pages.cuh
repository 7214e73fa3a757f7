/*
 * attend_pages.cuh: what stands in shared memory while an item is worked on, and how it gets there:
 * the item's queries, and pages of keys and values, copied while the page before is worked on.
 *
 *   bf16   queries [ROWS][LINE], keys and values [2 stages][2][32][LINE]
 *   fp8    queries [ROWS][LINE], keys and values [2][32][LINE], and as they came: fp8 [2][32][D]
 *
 * A line is 16 bytes longer than a head, so that the eight rows of a tile lie in different banks.
 */
#ifndef MSERVE_KERNELS_CUDA_ATTEND_PAGES_CUH
#define MSERVE_KERNELS_CUDA_ATTEND_PAGES_CUH

#include "kernels/cuda/attend_image.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/simt.cuh"

/* A kernel's shape: head size, warps of a block, type of the KV cache. */
template <uint32_t D, uint32_t W, enum number T>
struct attend_shape_of {
    static const uint32_t DIMS = D; static const uint32_t WARPS = W;
    static const bool FP8 = T == NUMBER_FP8;
    static const bool WALKS = W > 1; /* else an item is one split */
    static const uint32_t THREADS = W * 32;
    static const uint32_t WAYS = W > 1 && D > 128 ? 2 : 1; /* warps that share rows */
    static const uint32_t WIDTH = D / WAYS;                /* columns of a warp's results */
    static const uint32_t ROWS = W / WAYS * ATTEND_WARP_ROWS;
    static const uint32_t LINE = D + 8;
    static const uint32_t PAGE = ATTEND_PAGE * LINE; /* numbers of one page of keys */
    static const uint32_t PAGES = ROWS * LINE;       /* where pages begin */
    static const uint32_t RAW = PAGES + 2 * PAGE;    /* fp8: where they stand as they came */
    static const uint32_t BYTES = FP8 ? 2 * RAW + 2 * ATTEND_PAGE * D : 2 * PAGES + 8 * PAGE;
};

/* All threads of an item meet: a warp or a block. */
template <class S> DEVICE void attend_sync()
{
    if (S::WARPS == 1)
        warp_sync();
    else
        block_sync();
}

/*
 * Begins to copy keys and values of one KV head and page. Positions from `end` on become zeros and
 * are not read: there may be NaN, and NaN times nothing is NaN.
 */
template <class S>
DEVICE void attend_fetch(uint16_t *shared, const struct attend_args &args, const uint32_t *block,
                         uint32_t kv_head, uint32_t page, uint32_t end)
{
    const uint32_t size = S::FP8 ? 1 : 2, each = S::DIMS * size / 16; /* copies of a position */
    const uint32_t line = S::FP8 ? S::DIMS : S::LINE * 2, len = end - page * ATTEND_PAGE;
    const size_t from =
        (static_cast<size_t>(block[page]) * args.kv_heads + kv_head) * ATTEND_PAGE * S::DIMS * size;
    const char *k = static_cast<const char *>(args.kv.k) + from;
    const char *v = static_cast<const char *>(args.kv.v) + from;
    char *to =
        reinterpret_cast<char *>(shared + (S::FP8 ? S::RAW : S::PAGES + page % 2 * 2 * S::PAGE));

    for (uint32_t i = threadIdx.x; i < ATTEND_PAGE * each; i += S::THREADS) {
        uint32_t at = i / each * line + i % each * 16;

        copy_16(to + at, k + i * 16, i / each < len);
        copy_16(to + ATTEND_PAGE * line + at, v + i * 16, i / each < len);
    }
    copies_commit();
}

/* What was copied as fp8 becomes bf16, which has all of its numbers. */
template <class S> DEVICE void attend_widen(uint16_t *shared)
{
    const uint32_t each = S::DIMS / 16;
    const uint16_t *raw = shared + S::RAW;
    uint16_t *to = shared + S::PAGES;

    for (uint32_t i = threadIdx.x; i < 2 * ATTEND_PAGE * each; i += S::THREADS) {
        struct quad in = load_16(raw + i * 8), out[2];

        UNROLL
        for (uint32_t w = 0; w < 4; w++) {
            uint16_t low = static_cast<uint16_t>(in.word[w]);
            uint16_t high = static_cast<uint16_t>(in.word[w] >> 16);

            out[w / 2].word[w % 2 * 2] = bf16_pair(fp8_low(low), fp8_high(low));
            out[w / 2].word[w % 2 * 2 + 1] = bf16_pair(fp8_low(high), fp8_high(high));
        }
        store_16(to + i / each * S::LINE + i % each * 16, out[0]);
        store_16(to + i / each * S::LINE + i % each * 16 + 8, out[1]);
    }
}

/* The item's packed rows; zeros where it has none. `first` is the query head of packed row 0. */
template <class S>
DEVICE void attend_queries(uint16_t *shared, const struct attend_args &args,
                           const struct attend_row *row, const struct attend_item &item,
                           uint32_t first)
{
    const uint32_t each = S::DIMS / 8;
    const size_t width = static_cast<size_t>(args.heads + 2 * args.kv_heads) * S::DIMS;

    for (uint32_t i = threadIdx.x; i < S::ROWS * each; i += S::THREADS) {
        uint32_t packed = i / each, r = packed / item.heads, column = i % each * 8;
        struct quad value = {{0, 0, 0, 0}};

        if (r < item.rows)
            value = load_16(args.qkv + row[r].row * width +
                            (first + packed % item.heads) * S::DIMS + column);
        store_16(shared + packed * S::LINE + column, value);
    }
}

#endif
