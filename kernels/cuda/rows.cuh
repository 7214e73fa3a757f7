/*
 * rows.cuh: how the kernels that work row by row read, write and add up a row.
 *
 * A row is cut into chunks of CHUNK neighbouring numbers; thread t of T has chunks t, t + T, ... of
 * it. Where width and addresses allow (`wide`), a chunk moves 16 bytes an instruction, else number
 * by number, by the same thread in the same order, so that the bits are the same. What a chunk has
 * past the end of its row reads as 0 and is not written.
 */
#ifndef MSERVE_KERNELS_CUDA_ROWS_CUH
#define MSERVE_KERNELS_CUDA_ROWS_CUH

#include "kernels/cuda/launch.h"
#include "kernels/cuda/simt.cuh"

constexpr uint32_t CHUNK = 8, WARP = 32, ROWS_GRID_MAX = 1024;

struct chunk {
    float at[CHUNK];
};

struct words {
    uint32_t at[CHUNK];
};

/* Which numbers of a row: len of them from `at` on; wide: CHUNK, to be moved 16 bytes at a time. */
struct span {
    uint32_t at, len;
    bool wide;
};

/* A chunk of bytes. */
struct alignas(8) half_quad {
    uint32_t word[2];
};

/* Of rows side by side; `addresses` of all arrays, or'ed. */
DEVICE bool rows_are_wide(uint32_t width, uintptr_t addresses)
{
    return width % CHUNK == 0 && addresses % sizeof(struct quad) == 0;
}

DEVICE struct span span_of(uint32_t chunk, uint32_t width, bool wide)
{
    uint32_t at = chunk * CHUNK;
    uint32_t left = width - at;

    return {at, left < CHUNK ? left : CHUNK, wide};
}

/* Numbers of 32 bits, as they stand. */
DEVICE struct words get_words(const void *row, const struct span &span)
{
    const uint32_t *from = (const uint32_t *)row + span.at;
    struct words words;

    if (span.wide) {
        struct quad low = load_16(from);
        struct quad high = load_16(from + 4);

        UNROLL
        for (uint32_t i = 0; i < 4; i++) {
            words.at[i] = low.word[i];
            words.at[4 + i] = high.word[i];
        }
        return words;
    }
    UNROLL
    for (uint32_t i = 0; i < CHUNK; i++)
        words.at[i] = i < span.len ? from[i] : 0;
    return words;
}

DEVICE struct chunk get_floats(const float *row, const struct span &span)
{
    struct words words = get_words(row, span);
    struct chunk x;

    UNROLL
    for (uint32_t i = 0; i < CHUNK; i++)
        x.at[i] = float_of(words.at[i]);
    return x;
}

DEVICE void put_floats(float *row, const struct span &span, const struct chunk &x)
{
    if (span.wide) {
        struct quad low, high;

        UNROLL
        for (uint32_t i = 0; i < 4; i++) {
            low.word[i] = bits_of(x.at[i]);
            high.word[i] = bits_of(x.at[4 + i]);
        }
        store_16(row + span.at, low);
        store_16(row + span.at + 4, high);
        return;
    }
    UNROLL
    for (uint32_t i = 0; i < CHUNK; i++)
        if (i < span.len)
            row[span.at + i] = x.at[i];
}

DEVICE struct chunk get_bf16(const uint16_t *row, const struct span &span)
{
    struct chunk x;

    if (span.wide) {
        struct quad quad = load_16(row + span.at);

        UNROLL
        for (uint32_t i = 0; i < 4; i++) {
            x.at[2 * i] = bf16_low(quad.word[i]);
            x.at[2 * i + 1] = bf16_high(quad.word[i]);
        }
        return x;
    }
    UNROLL
    for (uint32_t i = 0; i < CHUNK; i++)
        x.at[i] = i < span.len ? bf16_value(row[span.at + i]) : 0.0f;
    return x;
}

DEVICE void put_bf16(uint16_t *row, const struct span &span, const struct chunk &x)
{
    if (span.wide) {
        struct quad quad;

        UNROLL
        for (uint32_t i = 0; i < 4; i++)
            quad.word[i] = bf16_pair(x.at[2 * i], x.at[2 * i + 1]);
        store_16(row + span.at, quad);
        return;
    }
    UNROLL
    for (uint32_t i = 0; i < CHUNK; i++)
        if (i < span.len)
            row[span.at + i] = bf16_of(x.at[i]);
}

/* Eight numbers of a byte each, the first lowest. */
DEVICE void put_bytes(uint8_t *row, const struct span &span, const struct half_quad &bytes)
{
    if (span.wide) {
        *(struct half_quad *)(row + span.at) = bytes;
        return;
    }
    UNROLL
    for (uint32_t i = 0; i < CHUNK; i++)
        if (i < span.len)
            row[span.at + i] = (uint8_t)(bytes.word[i / 4] >> (8 * (i % 4)));
}

/* Saturating at 448; NaN stays. */
DEVICE struct half_quad fp8_bytes(const struct chunk &x)
{
    struct half_quad bytes;

    UNROLL
    for (uint32_t i = 0; i < 2; i++)
        bytes.word[i] = (uint32_t)fp8_pair(x.at[4 * i], x.at[4 * i + 1]) |
                        (uint32_t)fp8_pair(x.at[4 * i + 2], x.at[4 * i + 3]) << 16;
    return bytes;
}

/*
 * work(span, i) for each chunk of this thread, i counting them. HELD > 0: at most so many, and
 * unrolled, so that what is kept in an array by i stays in registers; 0: any number, i is 0.
 */
template <uint32_t THREADS, uint32_t HELD, typename Work>
DEVICE void each_chunk(uint32_t width, bool wide, const Work &work)
{
    uint32_t chunks = (width + CHUNK - 1) / CHUNK;

    if constexpr (HELD > 0) {
        UNROLL
        for (uint32_t i = 0; i < HELD; i++)
            if (i * THREADS + threadIdx.x < chunks)
                work(span_of(i * THREADS + threadIdx.x, width, wide), i);
    } else {
        for (uint32_t chunk = threadIdx.x; chunk < chunks; chunk += THREADS)
            work(span_of(chunk, width, wide), 0u);
    }
}

/*
 * Where the warps of a block put their part of a sum: two sets of slots in turn, so that a warp can
 * be a sum ahead of one that still reads, and each sum has one barrier.
 */
struct meeting {
    double *slot; /* shared: meeting_bytes() of them */
    uint32_t turn;
};

constexpr uint32_t meeting_bytes(uint32_t threads)
{
    return 2 * threads / WARP * (uint32_t)sizeof(double);
}

/* This warp's slot of a new turn is filled and everybody's are there. */
template <uint32_t THREADS, typename T> DEVICE const T *meet(struct meeting *meeting, T value)
{
    T *slot = (T *)(meeting->slot + (meeting->turn++ % 2) * (THREADS / WARP));

    if (threadIdx.x % WARP == 0)
        slot[threadIdx.x / WARP] = value;
    block_sync();
    return slot;
}

/* Each thread's value added up, all get it: over lanes as a tree, over warps from the first on. */
template <uint32_t THREADS, typename T> DEVICE T block_sum(struct meeting *meeting, T value)
{
    const T *slot;

    UNROLL
    for (uint32_t mask = WARP / 2; mask > 0; mask /= 2)
        value += lane_xor(value, mask);
    slot = meet<THREADS>(meeting, value);
    value = slot[0];
    UNROLL
    for (uint32_t warp = 1; warp < THREADS / WARP; warp++)
        value += slot[warp];
    return value;
}

template <uint32_t THREADS> DEVICE uint32_t block_most(struct meeting *meeting, uint32_t value)
{
    const uint32_t *slot;

    UNROLL
    for (uint32_t mask = WARP / 2; mask > 0; mask /= 2) {
        uint32_t other = lane_xor(value, mask);

        value = other > value ? other : value;
    }
    slot = meet<THREADS>(meeting, value);
    UNROLL
    for (uint32_t warp = 0; warp < THREADS / WARP; warp++)
        value = slot[warp] > value ? slot[warp] : value;
    return value;
}

/* 1 / sqrt(mean of squares + eps). A sum past all floats would silence its row: NaN instead. */
DEVICE float norm_scale(float squares, uint32_t len, float eps)
{
    float scale = 1.0f / sqrtf(squares / (float)len + eps);

    return bits_of(squares) < 0x7f800000u ? scale : float_of(0x7fffffffu);
}

/* Blocks for so many rows: a block does every so many-th. */
static inline uint32_t rows_grid(uint32_t most)
{
    return most < ROWS_GRID_MAX ? most : ROWS_GRID_MAX;
}

/* Enqueues kernel<threads, chunks a thread holds>: one that holds a row in registers, if any. */
#define LAUNCH_ROWS(kernel, gpu, width, most, args)                                                \
    do {                                                                                           \
        uint32_t grid = rows_grid(most);                                                           \
                                                                                                   \
        if ((width) <= 128 * CHUNK)                                                                \
            LAUNCH((kernel<128, 1>), 128, gpu, grid, meeting_bytes(128), args);                    \
        else if ((width) <= 256 * 2 * CHUNK)                                                       \
            LAUNCH((kernel<256, 2>), 256, gpu, grid, meeting_bytes(256), args);                    \
        else if ((width) <= 512 * 4 * CHUNK)                                                       \
            LAUNCH((kernel<512, 4>), 512, gpu, grid, meeting_bytes(512), args);                    \
        else                                                                                       \
            LAUNCH((kernel<512, 0>), 512, gpu, grid, meeting_bytes(512), args);                    \
    } while (0)

#endif
