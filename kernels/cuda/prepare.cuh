/*
 * prepare.cuh: a row of floats becomes a row as products take it (struct prepared): bf16, or fp8 or
 * int8 times a scale of its own.
 *
 * The scale is the row's largest magnitude over 448 or 127. 1 for a row that is nothing but zeros,
 * and for one under PREPARE_LEAST, which rounds to zeros: 448 over it would be infinite. A row with
 * NaN or infinity has the scale NaN, whatever its bytes are, so every product with it is NaN.
 */
#ifndef MSERVE_KERNELS_CUDA_PREPARE_CUH
#define MSERVE_KERNELS_CUDA_PREPARE_CUH

#include "kernels/cuda/rows.cuh"

#define PREPARE_LEAST 1e-30f

/* bytes of a chunk: x times `inverse`, rounded to whole numbers. */
DEVICE struct half_quad int8_bytes(const struct chunk &x, float inverse)
{
    struct half_quad bytes = {{0, 0}};

    UNROLL
    for (uint32_t i = 0; i < CHUNK; i++) {
        /* Adding 1.5 * 2^23 leaves the whole number in the lowest bits. */
        uint32_t whole = bits_of(x.at[i] * inverse + 12582912.0f);

        bytes.word[i / 4] |= (whole & 0xffu) << (8 * (i % 4));
    }
    return bytes;
}

DEVICE struct half_quad fp8_scaled(const struct chunk &x, float inverse)
{
    struct chunk y;

    UNROLL
    for (uint32_t i = 0; i < CHUNK; i++)
        y.at[i] = x.at[i] * inverse;
    return fp8_bytes(y);
}

/* Bits of magnitudes are in the order of magnitudes, infinity and then NaN above all. */
DEVICE uint32_t most_bits(uint32_t most, const struct chunk &x)
{
    UNROLL
    for (uint32_t i = 0; i < CHUNK; i++) {
        uint32_t bits = bits_of(x.at[i]) & 0x7fffffffu;

        most = bits > most ? bits : most;
    }
    return most;
}

/* What a row's numbers are multiplied by; *ret_scale is what undoes it. */
DEVICE float inverse_scale(uint32_t most, float largest, float *ret_scale)
{
    float magnitude = float_of(most);

    *ret_scale = 1.0f;
    if (most >= 0x7f800000u)
        *ret_scale = float_of(0x7fffffffu);
    if (magnitude >= PREPARE_LEAST && most < 0x7f800000u) {
        *ret_scale = magnitude / largest;
        return largest / magnitude;
    }
    return most < 0x7f800000u ? 1.0f : 0.0f;
}

/*
 * Writes row `row` of out. make(span, i, again) returns the chunk; it is asked a second time, again
 * true, where the row's largest magnitude had to be found first. All of the block come here.
 */
template <uint32_t THREADS, uint32_t HELD, typename Make>
DEVICE void prepare_row(struct meeting *meeting, const struct prepared &out, size_t row,
                        uint32_t width, bool wide, const Make &make)
{
    uint8_t *bytes = (uint8_t *)out.value + row * width;
    bool fp8 = out.type == NUMBER_FP8;
    uint32_t most = 0;
    float inverse, scale;

    if (out.type == NUMBER_BF16) {
        each_chunk<THREADS, HELD>(width, wide, [&](const struct span &span, uint32_t i) {
            put_bf16((uint16_t *)out.value + row * width, span, make(span, i, false));
        });
        return;
    }
    each_chunk<THREADS, HELD>(width, wide, [&](const struct span &span, uint32_t i) {
        most = most_bits(most, make(span, i, false));
    });
    most = block_most<THREADS>(meeting, most);
    inverse = inverse_scale(most, fp8 ? 448.0f : 127.0f, &scale);
    if (threadIdx.x == 0)
        out.scale[row] = scale;
    each_chunk<THREADS, HELD>(width, wide, [&](const struct span &span, uint32_t i) {
        struct chunk x = make(span, i, true);

        put_bytes(bytes, span, fp8 ? fp8_scaled(x, inverse) : int8_bytes(x, inverse));
    });
}

#endif
