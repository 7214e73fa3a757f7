/*
 * numbers.h: floats as the numbers of a card, on the host: to nearest, ties to even. Weights become
 * these when they are loaded.
 */
#ifndef MSERVE_KERNELS_CUDA_NUMBERS_H
#define MSERVE_KERNELS_CUDA_NUMBERS_H

#include <stdint.h>
#include <string.h>

static const float fp8_most = 448.0f, int8_most = 127.0f;

static inline float number_from_bf16(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float x;

    memcpy(&x, &wide, sizeof(x));
    return x;
}

/* NaN stays NaN. */
static inline uint16_t number_bf16(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/*
 * E4M3 without infinities: sign, 4 bits of exponent (bias 7), 3 of mantissa; 0x7f is NaN, 448 the most.
 * Larger ones saturate. Below 2^-6 numbers are multiples of 2^-9, which is what adding 3 * 2^13 rounds to.
 */
static inline uint8_t number_fp8(float x)
{
    uint32_t bits, sign, size_bits;
    float size, rounded;

    memcpy(&bits, &x, sizeof(bits));
    sign = bits >> 24 & 0x80u;
    size_bits = bits & 0x7fffffffu;
    memcpy(&size, &size_bits, sizeof(size));
    if (size_bits > 0x7f800000u)
        return (uint8_t)(sign | 0x7fu);
    if (size >= fp8_most)
        return (uint8_t)(sign | 0x7eu);
    if (size < 0x1p-6f) {
        rounded = (size + 24576.0f) - 24576.0f; /* 3 * 2^13: its last place is 2^-9 */
        return (uint8_t)(sign | (uint32_t)(rounded * 512.0f));
    }
    size_bits += 0x7ffffu + (size_bits >> 20 & 1u);
    return (uint8_t)(sign | ((size_bits >> 20) - (120u << 3)));
}

/* |x| <= 127.5; ties to even, as adding 1.5 * 2^23 rounds. */
static inline int8_t number_int8(float x)
{
    return (int8_t)((x + 12582912.0f) - 12582912.0f);
}

#endif
