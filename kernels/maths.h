/*
 * maths.h: exp, log, sine and cosine of our own, out of additions, multiplications and divisions
 * alone, which IEEE 754 rounds in one way only. So results depend neither on the C library's version
 * nor on the instruction set, and a loop around maths_exp32() becomes vector code.
 */
#ifndef MSERVE_KERNELS_MATHS_H
#define MSERVE_KERNELS_MATHS_H

#include <stdint.h>
#include <string.h>

/*
 * e^x in float: at most 2 units in the last place for -87 <= x <= 88; below it is 0 (no
 * subnormal numbers), above it stays at e^88. NaN gives an unspecified number: check before.
 *
 * e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln(2) / 2; r in two parts, so that n ln 2 is exact.
 */
static inline float maths_exp32(float x)
{
    float clamped = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float shifted = clamped * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: rounds to a whole n */
    float n = shifted - 12582912.0f;
    float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    uint32_t bits;
    float scale;

    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    memcpy(&bits, &shifted, sizeof(bits));
    bits = (bits + 127u) << 23; /* the low bits of `shifted` are n */
    memcpy(&scale, &bits, sizeof(scale));
    return x < -87.0f ? 0.0f : p * scale;
}

/*
 * The nearest half-precision number, ties to even, as a float; infinity from 65520 on. Below 2^-14
 * halves are multiples of 2^-24, which is what adding 0.75 rounds to.
 */
static inline float maths_half(float x)
{
    uint32_t bits, sign, normal, tiny;
    float rounded, size;

    memcpy(&bits, &x, sizeof(bits));
    sign = bits & 0x80000000u;
    bits ^= sign;
    memcpy(&size, &bits, sizeof(size));
    rounded = (size + 0.75f) - 0.75f;
    memcpy(&tiny, &rounded, sizeof(tiny));
    normal = (bits + 0xfffu + (bits >> 13 & 1u)) & ~0x1fffu;
    normal = bits >= 0x477ff000u ? 0x7f800000u : normal;
    normal = bits > 0x7f800000u ? bits : normal; /* NaN stays */
    bits = sign | (bits < 0x38800000u ? tiny : normal);
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* The same as the 16 bits of the half. */
static inline uint16_t maths_half_bits(float x)
{
    float rounded = maths_half(x);
    uint32_t bits, sign;
    float size;

    memcpy(&bits, &rounded, sizeof(bits));
    sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    memcpy(&size, &bits, sizeof(size));
    if (bits > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u);
    if (bits < 0x38800000u)
        return (uint16_t)(sign | (uint32_t)(size * 16777216.0f)); /* in units of 2^-24 */
    return (uint16_t)(sign | (bits == 0x7f800000u ? 0x7c00u : (bits >> 13) - (112u << 10)));
}

/* Double precision, for tables made once: errors below 1e-14 relative (sine, cosine: absolute). */
double maths_exp(double x);                                /* -700 <= x <= 700 */
double maths_log(double x);                                /* normal numbers > 0 */
void maths_sincos(double x, double *sine, double *cosine); /* |x| <= 1e8 */

#endif
