/*
 * attend_tile.cuh: one page of 32 positions for 16 rows of queries, by one warp, with matrix units;
 * and how results of splits are folded. Prefill, decode and cascades all come here, so that a row's
 * bits do not depend on the company it had.
 *
 * For a row q and the positions t of a split, in pages of 32 from left to right, with
 * s_t = (log2(e) / sqrt(D)) (sum over d of q_d K_td):
 *     m' = max(m, max s_t)     f = 2^(m - m')     p_t = 2^(s_t - m')
 *     l = l f + sum of p_t                       o_d = o_d f + sum over t of bf16(p_t) V_td
 * A page of which the row sees nothing leaves m, l and o as they are, to the last bit: 2^0 is 1,
 * and nothing but zeros is added. The sum l stands in four lanes until the split is done.
 *
 * Splits of a row are folded from left to right, beginning with m = -infinity, l = 0, o = 0.
 */
#ifndef MSERVE_KERNELS_CUDA_ATTEND_TILE_CUH
#define MSERVE_KERNELS_CUDA_ATTEND_TILE_CUH

#include <math.h>

#include "kernels/cuda/attend_image.h"
#include "kernels/cuda/simt.cuh"

/*
 * What a lane has of its warp's 16 rows, as the matrix units lay it out: rows lane / 4 and lane / 4
 * + 8 (index 0 and 1), of each eight columns those from 2 (lane % 4) on: out[column / 8] has two of
 * the one row, then two of the other.
 */
template <uint32_t WIDTH> struct attend_state {
    float most[2], sum[2];
    float out[WIDTH / 8][4];
};

/* What two results are multiplied with before they are added. */
struct attend_scale {
    float most, old, fresh;
};

/* Of a maximum; so that -infinity less it is no NaN. */
DEVICE float attend_base(float most)
{
    return most == -INFINITY ? 0.0f : most;
}

/* The one way in which two results meet; `old` is of the positions before those of `fresh`. */
DEVICE struct attend_scale attend_meet(float old, float fresh)
{
    struct attend_scale scale;
    float base;

    scale.most = fmaxf(old, fresh);
    base = attend_base(scale.most);
    scale.old = exp2_fast(old - base);
    scale.fresh = exp2_fast(fresh - base);
    return scale;
}

DEVICE float attend_add(struct attend_scale scale, float old, float fresh)
{
    return fmaf(old, scale.old, fresh * scale.fresh);
}

/* What goes to `out`; no -0, which depends on whether zeros were added. */
DEVICE float attend_done(float out, float one_over_sum)
{
    return out * one_over_sum + 0.0f;
}

template <uint32_t WIDTH> DEVICE void attend_clear(struct attend_state<WIDTH> &state)
{
    UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        state.most[i] = -INFINITY;
        state.sum[i] = 0.0f;
    }
    UNROLL
    for (uint32_t c = 0; c < WIDTH / 8; c++)
        state.out[c][0] = state.out[c][1] = state.out[c][2] = state.out[c][3] = 0.0f;
}

/*
 * score[n] = of 16 rows and positions 8n .. 8n + 7; queries and keys in shared memory, bf16
 * [16][line] and [32][line].
 */
template <uint32_t DIMS>
DEVICE void attend_score(float score[4][4], const uint16_t *query, const uint16_t *key,
                         uint32_t line)
{
    const uint32_t lane = threadIdx.x % 32;

    query += lane % 16 * line + lane / 16 * 8;
    key += (lane / 16 * 8 + lane % 8) * line + lane / 8 % 2 * 8;
    UNROLL
    for (uint32_t n = 0; n < 4; n++)
        score[n][0] = score[n][1] = score[n][2] = score[n][3] = 0.0f;
    UNROLL
    for (uint32_t d = 0; d < DIMS; d += 16) {
        uint32_t a[4], b[4];

        tile_load_4(a, query + d);
        tile_load_4(b, key + d);
        tile_multiply(score[0], a, b);
        tile_multiply(score[1], a, b + 2);
        tile_load_4(b, key + 16 * line + d);
        tile_multiply(score[2], a, b);
        tile_multiply(score[3], a, b + 2);
    }
}

/*
 * Turns scores into weights, and scales what was there before. Row i sees the positions below
 * limit[i]; `position` is that of score[0]'s first column.
 */
template <uint32_t WIDTH>
DEVICE void attend_weigh(struct attend_state<WIDTH> &state, float score[4][4], uint32_t position,
                         const uint32_t limit[2], float scale)
{
    float top[2] = {-INFINITY, -INFINITY}, base[2], keep[2];

    position += threadIdx.x % 4 * 2;
    UNROLL
    for (uint32_t n = 0; n < 4; n++)
        UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        if (position + n * 8 + i % 2 >= limit[i / 2])
            score[n][i] = -INFINITY;
        top[i / 2] = fmaxf(top[i / 2], score[n][i]);
    }
    UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        top[i] = fmaxf(top[i], lane_xor(top[i], 1));
        top[i] = fmaxf(top[i], lane_xor(top[i], 2));
        top[i] = fmaxf(state.most[i], top[i] * scale);
        base[i] = attend_base(top[i]);
        keep[i] = exp2_fast(state.most[i] - base[i]);
        state.most[i] = top[i];
        state.sum[i] *= keep[i];
    }
    UNROLL
    for (uint32_t c = 0; c < WIDTH / 8; c++)
        UNROLL
    for (uint32_t i = 0; i < 4; i++)
        state.out[c][i] *= keep[i / 2];
    UNROLL
    for (uint32_t n = 0; n < 4; n++)
        UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        score[n][i] = exp2_fast(fmaf(score[n][i], scale, -base[i / 2]));
        state.sum[i / 2] += score[n][i];
    }
}

/* out += weights times values: bf16 [32][line] in shared memory, the first of WIDTH columns. */
template <uint32_t WIDTH>
DEVICE void attend_values(struct attend_state<WIDTH> &state, const float weight[4][4],
                          const uint16_t *value, uint32_t line)
{
    const uint32_t lane = threadIdx.x % 32;

    value += lane % 16 * line + lane / 16 * 8;
    UNROLL
    for (uint32_t half = 0; half < 2; half++, value += 16 * line) {
        const float(*w)[4] = weight + 2 * half;
        const uint32_t a[4] = {bf16_pair(w[0][0], w[0][1]), bf16_pair(w[0][2], w[0][3]),
                               bf16_pair(w[1][0], w[1][1]), bf16_pair(w[1][2], w[1][3])};

        UNROLL
        for (uint32_t c = 0; c < WIDTH / 8; c += 2) {
            uint32_t b[4];

            tile_load_4t(b, value + c * 8);
            tile_multiply(state.out[c], a, b);
            tile_multiply(state.out[c + 1], a, b + 2);
        }
    }
}

/* A split is done: the four lanes of a row agree on its sum. */
template <uint32_t WIDTH> DEVICE void attend_finish(struct attend_state<WIDTH> &state)
{
    UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        state.sum[i] += lane_xor(state.sum[i], 1);
        state.sum[i] += lane_xor(state.sum[i], 2);
    }
}

/* `split` comes after all that is in `state`. */
template <uint32_t WIDTH>
DEVICE void attend_join(struct attend_state<WIDTH> &state, const struct attend_state<WIDTH> &split)
{
    struct attend_scale scale[2];

    UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        scale[i] = attend_meet(state.most[i], split.most[i]);
        state.most[i] = scale[i].most;
        state.sum[i] = attend_add(scale[i], state.sum[i], split.sum[i]);
    }
    UNROLL
    for (uint32_t c = 0; c < WIDTH / 8; c++)
        UNROLL
    for (uint32_t i = 0; i < 4; i++)
        state.out[c][i] = attend_add(scale[i / 2], state.out[c][i], split.out[c][i]);
}

#endif
