/*
 * rotate.cu: the angles of a step's positions; then, layer by layer, what makes queries of a row of
 * qkv, and keys and values in the cache.
 */
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/table.cuh"
#include "kernels/maths.h"

#include <assert.h>
#include <math.h>

/* A head of the longest, 1024 numbers, is ROTATE_HELD chunks a lane. BLOCK: of KV, in positions. */
constexpr uint32_t ANGLES_THREADS = 128, ROTATE_THREADS = 256, ROTATE_HELD = 4, BLOCK = 32;

/*
 * angle[row][i] = cos, sin of position[row] * frequency[i], computed in double, `ref`'s to the bit
 *
 *   position u32 [rows], frequency f64 [pairs], angle f32 [rows][pairs][2]
 *
 * Threads do a pair each. Bytes moved: 8 a pair, once a step. Speed: not measured: no GPU at hand.
 */
KERNEL(ANGLES_THREADS) void angles_of_rows(struct angles_args args)
{
    const size_t len = (size_t)*args.rows.len * args.pairs;

    for (size_t at = (size_t)blockIdx.x * ANGLES_THREADS + threadIdx.x; at < len;
         at += (size_t)gridDim.x * ANGLES_THREADS) {
        const double position = (double)args.position[at / args.pairs];
        double sine, cosine;

        maths_sincos(position * args.frequency[at % args.pairs], &sine, &cosine);
        args.angle[2 * at] = (float)cosine;
        args.angle[2 * at + 1] = (float)sine;
    }
}

/* One head of a row: a query's, a key's or a value's. */
struct head {
    uint16_t *in;
    void *out;         /* where it goes: `in`, or its place in the cache */
    bool fp8;          /* what it is there */
    const float *gain; /* NULL: it is not normed */
    const float *bias; /* NULL: none */
    bool turns;
};

DEVICE struct head head_of(const struct rotate_args &args, size_t row, uint32_t index)
{
    const size_t width = (size_t)(args.heads + 2 * args.kv_heads) * args.head_dim;
    const size_t at = (size_t)index * args.head_dim;
    const bool query = index < args.heads;
    const bool key = !query && index < args.heads + args.kv_heads;
    struct head head = {args.qkv + row * width + at, NULL, false, NULL, NULL, query || key};

    head.out = head.in;
    if (query || key)
        head.gain = query ? args.q_gain : args.k_gain;
    if (args.bias != NULL)
        head.bias = args.bias + at;
    if (!query) {
        const uint32_t place = args.place[row];
        const uint32_t group = index - args.heads - (key ? 0 : args.kv_heads);
        const size_t block = (size_t)(place / BLOCK) * args.kv_heads + group;
        const size_t start = (block * BLOCK + place % BLOCK) * args.head_dim;
        void *cache = key ? args.kv.k : args.kv.v;

        head.fp8 = args.kv.type == NUMBER_FP8;
        head.out = (uint8_t *)cache + (head.fp8 ? start : start * sizeof(uint16_t));
    }
    return head;
}

DEVICE struct chunk get_head(const struct head &head, const struct span &span)
{
    struct chunk x = get_bf16(head.in, span);

    if (head.bias != NULL) {
        struct chunk bias = get_floats(head.bias, span);

        UNROLL
        for (uint32_t i = 0; i < CHUNK; i++)
            x.at[i] += bias.at[i];
    }
    return x;
}

DEVICE void norm_head(const float *gain, const struct span &span, float scale, struct chunk *x)
{
    struct chunk gains = get_floats(gain, span);

    UNROLL
    for (uint32_t i = 0; i < CHUNK; i++)
        x->at[i] = x->at[i] * scale * gains.at[i];
}

/* The pairs of a chunk, as far as they are among the first rope_dim numbers of the head. */
DEVICE void turn_head(const float *angles, uint32_t rope_dim, struct span span, struct chunk *x)
{
    struct chunk angle;

    if (span.at >= rope_dim)
        return;
    span.len = span.len < rope_dim - span.at ? span.len : rope_dim - span.at;
    angle = get_floats(angles, span);
    UNROLL
    for (uint32_t i = 0; i < CHUNK; i += 2) {
        float a = x->at[i];
        float b = x->at[i + 1];

        if (i < span.len) {
            x->at[i] = a * angle.at[i] - b * angle.at[i + 1];
            x->at[i + 1] = a * angle.at[i + 1] + b * angle.at[i];
        }
    }
}

/* fp8 has no infinity: NaN stands for it, or it would be a silent 448. */
DEVICE void put_head(const struct head &head, const struct span &span, struct chunk x)
{
    if (!head.fp8) {
        put_bf16((uint16_t *)head.out, span, x);
        return;
    }
    UNROLL
    for (uint32_t i = 0; i < CHUNK; i++)
        x.at[i] += x.at[i] * 0.0f;
    put_bytes((uint8_t *)head.out, span, fp8_bytes(x));
}

DEVICE bool heads_are_wide(const struct rotate_args &args)
{
    uintptr_t addresses = (uintptr_t)args.qkv | (uintptr_t)args.angle | (uintptr_t)args.bias |
                          (uintptr_t)args.q_gain | (uintptr_t)args.k_gain | (uintptr_t)args.kv.k |
                          (uintptr_t)args.kv.v;

    return rows_are_wide(args.head_dim, addresses) && args.rope_dim % CHUNK == 0;
}

/* Lanes that share a head, a power of two: a chunk each, or HELD of them. */
DEVICE uint32_t head_lanes(uint32_t head_dim)
{
    uint32_t lanes = 1;

    while (lanes < WARP && lanes * CHUNK < head_dim)
        lanes *= 2;
    return lanes;
}

/*
 * x = qkv + bias; x = gain x / sqrt(mean(x^2) + eps) over the D numbers of a query's or key's head;
 * (x[2i], x[2i + 1]) = (a cos - b sin, a sin + b cos) for 2i < rope_dim. In float, rounded once.
 *
 *   qkv bf16 [rows][(H + 2G) D], angle f32 [rows][rope_dim / 2][2], bias f32 [(H + 2G) D],
 *   q_gain, k_gain f32 [D], place u32 [rows], kv bf16 or fp8 [blocks][G][32][D]
 *
 * A block does a row; a warp as many heads at once as have room in it with a chunk a lane (D = 128:
 * two), HELD chunks a lane where a head is longer than 256. A lane's squares are added up in order,
 * lanes as a tree. Bytes moved: 4 a number of qkv, 3 a number of keys and values with fp8. Speed:
 * not measured: no GPU at hand.
 */
template <uint32_t HELD> KERNEL(ROTATE_THREADS) void rotate_rows(struct rotate_args args)
{
    const uint32_t dim = args.head_dim;
    const uint32_t heads = args.heads + 2 * args.kv_heads;
    const uint32_t lanes = head_lanes(dim);
    const uint32_t together = ROTATE_THREADS / lanes;
    const bool wide = heads_are_wide(args);
    const bool normed = args.q_gain != NULL || args.k_gain != NULL;

    for (uint32_t row = blockIdx.x; row < *args.rows.len; row += gridDim.x)
        for (uint32_t first = 0; first < heads; first += together) {
            const uint32_t index = first + threadIdx.x / lanes;
            const struct head head = head_of(args, row, index < heads ? index : 0);
            struct chunk x[HELD];
            float squares = 0.0f;

            UNROLL
            for (uint32_t i = 0; i < HELD; i++) {
                const uint32_t chunk = i * WARP + threadIdx.x % lanes;

                if (index >= heads || chunk * CHUNK >= dim)
                    continue;
                x[i] = get_head(head, span_of(chunk, dim, wide));
                UNROLL
                for (uint32_t k = 0; k < CHUNK; k++)
                    squares = fmaf(x[i].at[k], x[i].at[k], squares);
            }
            for (uint32_t mask = lanes / 2; normed && mask > 0; mask /= 2)
                squares += lane_xor(squares, mask);
            UNROLL
            for (uint32_t i = 0; i < HELD; i++) {
                const uint32_t chunk = i * WARP + threadIdx.x % lanes;
                const struct span span = span_of(chunk, dim, wide);

                if (index >= heads || chunk * CHUNK >= dim)
                    continue;
                if (head.gain != NULL)
                    norm_head(head.gain, span, norm_scale(squares, dim, args.eps), &x[i]);
                if (head.turns)
                    turn_head(args.angle + (size_t)row * args.rope_dim, args.rope_dim, span, &x[i]);
                put_head(head, span, x[i]);
            }
        }
}

void launch_angles(struct gpu *gpu, const struct angles_args *args)
{
    const uint64_t pairs = (uint64_t)args->rows.most * args->pairs;
    const uint64_t blocks = (pairs + ANGLES_THREADS - 1) / ANGLES_THREADS;

    LAUNCH(angles_of_rows, ANGLES_THREADS, gpu,
           rows_grid(blocks < UINT32_MAX ? (uint32_t)blocks : UINT32_MAX), 0, *args);
}

void launch_rotate(struct gpu *gpu, const struct rotate_args *args)
{
    const uint32_t grid = rows_grid(args->rows.most);

    assert(args->head_dim <= ROTATE_HELD * WARP * CHUNK);
    if (args->head_dim <= WARP * CHUNK)
        LAUNCH(rotate_rows<1>, ROTATE_THREADS, gpu, grid, 0, *args);
    else
        LAUNCH(rotate_rows<ROTATE_HELD>, ROTATE_THREADS, gpu, grid, 0, *args);
}
