/*
 * maths.h: exp, log, sine and cosine of our own, out of additions, multiplications and divisions
 * alone, which IEEE 754 rounds in one way only. So results depend neither on the C library's version
 * nor on the instruction set, a CUDA kernel gets the host's bits, and a loop around maths_exp32()
 * becomes vector code. All of it stands here, so that kernels can include it.
 */
#ifndef MSERVE_KERNELS_MATHS_H
#define MSERVE_KERNELS_MATHS_H

#include "kernels/everywhere.h"

#include <stdint.h>
#include <string.h>

/*
 * e^x in float: at most 2 units in the last place for -87 <= x <= 88; below it is 0 (no
 * subnormal numbers), above it stays at e^88. NaN gives an unspecified number: check before.
 *
 * e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln(2) / 2; r in two parts, so that n ln 2 is exact.
 */
static inline EVERYWHERE float maths_exp32(float x)
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
static inline EVERYWHERE float maths_half(float x)
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
static inline EVERYWHERE uint16_t maths_half_bits(float x)
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

/*
 * Double precision, for tables made once and sums of logarithms: errors below 1e-14 relative (sine,
 * cosine: absolute). Argument reduction, then a short series.
 *
 * ln 2 in two parts: the low 21 bits of the first are zero, so that a whole number times it is exact.
 */
#define MATHS_LN2_HIGH 0x1.62e42feep-1
#define MATHS_LN2_LOW  0x1.a39ef35793c76p-33

static inline EVERYWHERE double maths_whole(double x)
{
    return (x + 0x1.8p52) - 0x1.8p52;
}

static inline EVERYWHERE double maths_power_of_two(int64_t n)
{
    uint64_t bits = (uint64_t)(n + 1023) << 52;
    double value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* e^x for -700 <= x <= 700. */
static inline EVERYWHERE double maths_exp(double x)
{
    double n = maths_whole(x * 1.4426950408889634);
    double r = (x - n * MATHS_LN2_HIGH) - n * MATHS_LN2_LOW;
    double sum = 1.0;

    for (int i = 16; i >= 1; i--)
        sum = 1.0 + sum * r / i;
    return sum * maths_power_of_two((int64_t)n);
}

/* Of normal numbers > 0: x = 2^n m with m in [sqrt(1/2), sqrt(2)); log m = 2 artanh((m-1)/(m+1)). */
static inline EVERYWHERE double maths_log(double x)
{
    uint64_t bits;
    int64_t n;
    double m, s, sum = 0.0;

    memcpy(&bits, &x, sizeof(bits));
    n = (int64_t)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffffu) | 0x3ff0000000000000u;
    memcpy(&m, &bits, sizeof(m));
    if (m > 1.4142135623730951) {
        m *= 0.5;
        n++;
    }
    s = (m - 1.0) / (m + 1.0);
    for (int i = 21; i >= 1; i -= 2)
        sum = sum * s * s + 1.0 / i;
    return (double)n * MATHS_LN2_HIGH + (2.0 * s * sum + (double)n * MATHS_LN2_LOW);
}

/* For |x| <= 1e8: series on [-pi/4, pi/4] after taking away a multiple of pi/2 in three parts. */
static inline EVERYWHERE void maths_sincos(double x, double *sine, double *cosine)
{
    double n = maths_whole(x * 0.6366197723675814);
    double r = ((x - n * 0x1.921fb544p+0) - n * 0x1.0b4611a6p-34) - n * 0x1.3198a2e037073p-69;
    double r2 = r * r;
    double s = 1.0;
    double c = 1.0;

    for (int i = 18; i >= 2; i -= 2) {
        s = 1.0 - s * r2 / (i * (i + 1));
        c = 1.0 - c * r2 / (i * (i - 1));
    }
    s *= r;
    switch ((int64_t)n & 3) {
    case 0:
        *sine = s;
        *cosine = c;
        break;
    case 1:
        *sine = c;
        *cosine = -s;
        break;
    case 2:
        *sine = -s;
        *cosine = -c;
        break;
    default:
        *sine = -c;
        *cosine = s;
        break;
    }
}

#endif
