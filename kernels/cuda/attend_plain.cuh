/*
 * attend_plain.cuh: attention for head sizes that matrix units do not take, with the same splits
 * and folds; a warp walks through the context of one query head of one row.
 */
#ifndef MSERVE_KERNELS_CUDA_ATTEND_PLAIN_CUH
#define MSERVE_KERNELS_CUDA_ATTEND_PLAIN_CUH

#include "kernels/cuda/attend_run.cuh"
#include "kernels/cuda/attend_tile.cuh"

/*
 * What a warp has in shared memory: floats [D], [D], [D], [32]. Lane i alone uses d = i, i + 32 …
 * of `split` and `all`.
 */
struct attend_desk {
    float *query, *split, *all, *weight;
};

static inline size_t attend_plain_bytes(uint32_t dims)
{
    return (3 * static_cast<size_t>(dims) + ATTEND_PAGE) * sizeof(float);
}

template <bool FP8> DEVICE float attend_number(const void *from, size_t at)
{
    if (FP8)
        return fp8_low(static_cast<const uint8_t *>(from)[at]);
    return bf16_value(static_cast<const uint16_t *>(from)[at]);
}

DEVICE float attend_warp_most(float value)
{
    for (uint32_t mask = 16; mask > 0; mask /= 2)
        value = fmaxf(value, lane_xor(value, mask));
    return value;
}

DEVICE float attend_warp_sum(float value)
{
    for (uint32_t mask = 16; mask > 0; mask /= 2)
        value += lane_xor(value, mask);
    return value;
}

/* m, and the lane's own part of l. */
struct attend_lane {
    float most, sum;
};

/* The first `len` positions of a page, keys and values [32][D] from number `at` on. */
template <bool FP8>
DEVICE void attend_plain_page(struct attend_lane &state, const struct attend_desk &desk,
                              const struct attend_run &run, size_t at, uint32_t len)
{
    const uint32_t dims = run.args.head_dim, lane = threadIdx.x;
    float score = 0.0f, top, base, keep;

    for (uint32_t d = 0; lane < len && d < dims; d++)
        score = fmaf(desk.query[d], attend_number<FP8>(run.args.kv.k, at + lane * dims + d), score);
    top = attend_warp_most(lane < len ? score : -INFINITY);
    top = fmaxf(state.most, top * run.scale);
    base = attend_base(top);
    keep = exp2_fast(state.most - base);
    score = lane < len ? exp2_fast(fmaf(score, run.scale, -base)) : 0.0f;
    state.most = top;
    state.sum = state.sum * keep + score;
    desk.weight[lane] = bf16_value(bf16_of(score));
    warp_sync();
    for (uint32_t d = lane; d < dims; d += 32) {
        float out = desk.split[d] * keep;

        for (uint32_t t = 0; t < len; t++)
            out = fmaf(desk.weight[t], attend_number<FP8>(run.args.kv.v, at + t * dims + d), out);
        desk.split[d] = out;
    }
    warp_sync(); /* the weights are done with */
}

/* A split is done: into what was before it. */
DEVICE void attend_plain_fold(struct attend_lane &all, struct attend_lane &split,
                              const struct attend_desk &desk, uint32_t dims)
{
    struct attend_scale scale = attend_meet(all.most, split.most);

    all.sum = attend_add(scale, all.sum, attend_warp_sum(split.sum));
    all.most = scale.most;
    for (uint32_t d = threadIdx.x; d < dims; d += 32) {
        desk.all[d] = attend_add(scale, desk.all[d], desk.split[d]);
        desk.split[d] = 0.0f;
    }
    split.most = -INFINITY;
    split.sum = 0.0f;
}

/* One block of one warp a row and query head; moves 2 D numbers a position. */
template <bool FP8> KERNEL(32) void attend_plain(struct attend_run run)
{
    SHARED(float, shared);
    const struct attend_args &args = run.args;
    const struct attend_header *header = attend_header_of(args);
    const uint32_t dims = args.head_dim, ratio = args.heads / args.kv_heads, page = ATTEND_PAGE;
    const size_t width = static_cast<size_t>(args.heads + 2 * args.kv_heads) * dims;
    const struct attend_desk desk = {shared, shared + dims, shared + 2 * dims, shared + 3 * dims};

    for (uint32_t work = blockIdx.x; work < header->rows * args.heads; work += gridDim.x) {
        const struct attend_row &row =
            attend_at<struct attend_row>(header, header->rows_at)[work / args.heads];
        const uint32_t *block = attend_at<uint32_t>(header, header->blocks_at) + row.blocks;
        const uint32_t head = work % args.heads, end = row.position + 1;
        struct attend_lane split = {-INFINITY, 0.0f}, all = split;

        for (uint32_t d = threadIdx.x; d < dims; d += 32) {
            desk.query[d] = bf16_value(args.qkv[row.row * width + head * dims + d]);
            desk.split[d] = desk.all[d] = 0.0f;
        }
        warp_sync();
        for (uint32_t t = 0; t < end; t += ATTEND_PAGE) {
            size_t at =
                (static_cast<size_t>(block[t / ATTEND_PAGE]) * args.kv_heads + head / ratio) *
                ATTEND_PAGE * dims;

            attend_plain_page<FP8>(split, desk, run, at, end - t < page ? end - t : page);
            if ((t + ATTEND_PAGE) % ATTEND_SPLIT == 0 || t + ATTEND_PAGE >= end)
                attend_plain_fold(all, split, desk, dims);
        }
        for (uint32_t d = threadIdx.x; d < dims; d += 32)
            args.out[(static_cast<size_t>(row.row) * args.heads + head) * dims + d] =
                bf16_of(attend_done(desk.all[d], 1.0f / all.sum));
    }
}

#endif
