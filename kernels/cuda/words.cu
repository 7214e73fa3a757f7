/*
 * words.cu: every word of simt.cuh once, for tests/unit/kernels/cuda/test_cuda_words.c alone. Speed
 * is of no interest. Of thread t of a round, whose numbers are w[0..7], out holds
 *
 *    0 lane_xor(float w0, 5)      1 lane_from(float w0, 7)    2 lane_xor(w0, 9)   3 lane_from(w0, 31)
 *    4 lane_xor(w1:w0, 16)        6 lane_from(w1:w0, 3)       8 lane_xor(double w1:w0, 1)
 *   10 lane_from(double w1:w0, 30)   12 warp_ballot(w0 & 1)   13 warp_any(w1 % 64 == 0)
 *   14 bf16_pair(w0, w1)   15 bf16_of(w0)   16 bf16_low(w0)   17 bf16_high(w0)   18 bf16_value(w0)
 *   19 fp8_pair(w0, w1)    20 fp8_low(w0)   21 fp8_high(w0)   22 exp2_fast(w2)   23 bits_of(w0)
 *   24 tile_load_4, 4      28 tile_load_4t, 4: rows of the warp's w[0..3], lane l names row
 *      (5 l + 3) % 32
 *   32 tile_multiply(c, w[0..3], w[4..5]), 4: c[i] = (4 lane + i) / 64
 *   36 load_16 and store_16 of w[0..3], 4
 *   40 shared_add of w0    41 shared_add of w1:w0, of all threads
 *   43 w0 of the thread opposite, by block_sync
 *   44 w[0..3] of the next thread by copy_16, zeros for every third, 4
 *   48 w0 by a copy of the first group of two, 49 w4 by one of the second
 *   50 w0 of the next lane, by warp_sync
 *   52 blockIdx.x, blockDim.x, gridDim.x, threadIdx.x
 *   56 nothing, 8
 */
#include "kernels/cuda/simt.cuh"
#include "kernels/cuda/table.cuh"

struct words_shared {
    struct quad tile[WORDS_THREADS], first[WORDS_THREADS], second[WORDS_THREADS];
    uint64_t sum_64;
    uint32_t sum_32;
    uint32_t given[WORDS_THREADS], passed[WORDS_THREADS];
};

DEVICE void put_64(uint32_t *out, uint64_t value)
{
    out[0] = static_cast<uint32_t>(value);
    out[1] = static_cast<uint32_t>(value >> 32);
}

DEVICE double double_of(uint64_t bits)
{
    double value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

DEVICE uint64_t double_bits(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

DEVICE void words_of_warps(const uint32_t *w, uint32_t *out)
{
    uint64_t both = w[0] | static_cast<uint64_t>(w[1]) << 32;
    double number = double_of(both);

    out[0] = bits_of(lane_xor(float_of(w[0]), 5));
    out[1] = bits_of(lane_from(float_of(w[0]), 7));
    out[2] = lane_xor(w[0], 9);
    out[3] = lane_from(w[0], 31);
    put_64(out + 4, lane_xor(both, 16));
    put_64(out + 6, lane_from(both, 3));
    put_64(out + 8, double_bits(lane_xor(number, 1)));
    put_64(out + 10, double_bits(lane_from(number, 30)));
    out[12] = warp_ballot((w[0] & 1) != 0);
    out[13] = warp_any(w[1] % 64 == 0);
}

DEVICE void words_of_numbers(const uint32_t *w, uint32_t *out)
{
    uint16_t low = static_cast<uint16_t>(w[0]);

    out[14] = bf16_pair(float_of(w[0]), float_of(w[1]));
    out[15] = bf16_of(float_of(w[0]));
    out[16] = bits_of(bf16_low(w[0]));
    out[17] = bits_of(bf16_high(w[0]));
    out[18] = bits_of(bf16_value(low));
    out[19] = fp8_pair(float_of(w[0]), float_of(w[1]));
    out[20] = bits_of(fp8_low(low));
    out[21] = bits_of(fp8_high(low));
    out[22] = bits_of(exp2_fast(float_of(w[2])));
    out[23] = bits_of(float_of(w[0]));
}

DEVICE void words_of_tiles(struct words_shared *shared, const uint32_t *w, uint32_t *out)
{
    uint32_t lane = threadIdx.x % 32, warp = threadIdx.x - lane;
    const struct quad *row = &shared->tile[warp + (5 * lane + 3) % 32];
    struct quad own = {{w[0], w[1], w[2], w[3]}};
    uint32_t tile[4], a[4] = {w[0], w[1], w[2], w[3]}, b[2] = {w[4], w[5]};
    float c[4];

    store_16(&shared->tile[threadIdx.x], own);
    shared->passed[threadIdx.x] = w[0];
    warp_sync();
    out[50] = shared->passed[warp + (lane + 1) % 32];
    tile_load_4(tile, row);
    UNROLL
    for (uint32_t i = 0; i < 4; i++)
        out[24 + i] = tile[i];
    tile_load_4t(tile, row);
    UNROLL
    for (uint32_t i = 0; i < 4; i++)
        out[28 + i] = tile[i];
    UNROLL
    for (uint32_t i = 0; i < 4; i++)
        c[i] = static_cast<float>(4 * lane + i) / 64;
    tile_multiply(c, a, b);
    UNROLL
    for (uint32_t i = 0; i < 4; i++)
        out[32 + i] = bits_of(c[i]);
}

DEVICE void words_of_memory(struct words_shared *shared, const uint32_t *in, const uint32_t *w,
                            uint32_t *out)
{
    uint32_t t = threadIdx.x;

    store_16(out + 36, load_16(in));
    if (t == 0) {
        shared->sum_32 = 0;
        shared->sum_64 = 0;
    }
    shared->given[t] = w[0];
    block_sync();
    shared_add(&shared->sum_32, w[0]);
    shared_add(&shared->sum_64, w[0] | static_cast<uint64_t>(w[1]) << 32);
    out[43] = shared->given[(t + 32) % WORDS_THREADS];
    block_sync();
    out[40] = shared->sum_32;
    put_64(out + 41, shared->sum_64);
}

DEVICE void words_of_copies(struct words_shared *shared, const uint32_t *in, uint32_t *out)
{
    uint32_t t = threadIdx.x;
    struct quad next;

    copy_16(&shared->first[t], in, t % 3 != 0);
    copies_commit();
    copy_16(&shared->second[t], in + 4, true);
    copies_commit();
    copies_wait<1>();
    out[48] = shared->first[t].word[0];
    copies_wait<0>();
    out[49] = shared->second[t].word[0];
    block_sync();
    next = load_16(&shared->first[(t + 1) % WORDS_THREADS]);
    store_16(out + 44, next);
}

KERNEL(WORDS_THREADS) void words(struct words_args args)
{
    SHARED(struct words_shared, shared);
    uint32_t row = blockIdx.x * WORDS_THREADS + threadIdx.x;
    const uint32_t *in = args.in + row * WORDS_IN;
    uint32_t *out = args.out + row * WORDS_OUT;
    uint32_t w[WORDS_IN];

    UNROLL
    for (uint32_t i = 0; i < WORDS_IN; i++)
        w[i] = in[i];
    words_of_warps(w, out);
    words_of_numbers(w, out);
    words_of_tiles(shared, w, out);
    words_of_memory(shared, in, w, out);
    words_of_copies(shared, in, out);
    out[52] = blockIdx.x;
    out[53] = blockDim.x;
    out[54] = gridDim.x;
    out[55] = threadIdx.x;
}

void launch_words(struct gpu *gpu, const struct words_args *args)
{
    LAUNCH(words, WORDS_THREADS, gpu, args->rounds, sizeof(struct words_shared), *args);
}
