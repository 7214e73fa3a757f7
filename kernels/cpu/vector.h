/*
 * vector.h: LANES floats that are worked on side by side, in the instruction set that the including
 * file is compiled for. What the compilers' vector types cannot say (a fused multiplication and
 * addition, halves) is here once for each set.
 */
#ifndef MSERVE_KERNELS_CPU_VECTOR_H
#define MSERVE_KERNELS_CPU_VECTOR_H

#include "kernels/maths.h"
#include "kernels/model/tensor.h"

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));

/* What is compiled once for each instruction set has its name at the end (meson.build). */
#ifndef LOOPS_ISA
#define LOOPS_ISA scalar
#endif
#define PASTE(name, isa)  name##_##isa
#define PASTED(name, isa) PASTE(name, isa)
#define OF_ISA(name)      PASTED(name, LOOPS_ISA)

#define ALWAYS static inline __attribute__((always_inline))

ALWAYS vec load(const float *at)
{
    vec value;

    memcpy(&value, at, sizeof(value));
    return value;
}

ALWAYS void store(float *at, vec value)
{
    memcpy(at, &value, sizeof(value));
}

/* Some of the lanes; the others are 0, and stay as they are in memory. */
ALWAYS vec load_some(const float *at, uint32_t len)
{
    vec value = {0};

    memcpy(&value, at, len * sizeof(float));
    return value;
}

ALWAYS void store_some(float *at, vec value, uint32_t len)
{
    memcpy(at, &value, len * sizeof(float));
}

ALWAYS vec all(float value)
{
    return value - (vec){0};
}

/* 0, 1, 2 … */
ALWAYS ivec lane_numbers(void)
{
    ivec number;

    for (int i = 0; i < LANES; i++)
        number[i] = i;
    return number;
}

ALWAYS vec choose(ivec mask, vec yes, vec no)
{
    return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
}

ALWAYS vec larger(vec a, vec b)
{
    return choose(a > b, a, b);
}

#if defined(__AVX512F__)
ALWAYS vec fused(vec a, vec b, vec c) /* a b + c, rounded once */
{
    return _mm512_fmadd_ps(a, b, c);
}

ALWAYS vec load_half(const uint16_t *at)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)at));
}

ALWAYS void store_half(uint16_t *at, vec value)
{
    _mm256_storeu_si256((__m256i *)(void *)at, _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}

ALWAYS vec round_half(vec value)
{
    return _mm512_cvtph_ps(_mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__AVX2__)
ALWAYS vec fused(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

ALWAYS vec load_half(const uint16_t *at)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)at));
}

ALWAYS void store_half(uint16_t *at, vec value)
{
    _mm_storeu_si128((__m128i *)(void *)at, _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}

ALWAYS vec round_half(vec value)
{
    return _mm256_cvtph_ps(_mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}
#else
ALWAYS vec fused(vec a, vec b, vec c) /* rounded twice: every machine can */
{
    return a * b + c;
}

ALWAYS vec load_half(const uint16_t *at)
{
    vec value;

    for (int i = 0; i < LANES; i++)
        value[i] = tensor_half(at[i]);
    return value;
}

ALWAYS vec round_half(vec value)
{
    for (int i = 0; i < LANES; i++)
        value[i] = maths_half(value[i]);
    return value;
}

ALWAYS void store_half(uint16_t *at, vec value)
{
    for (int i = 0; i < LANES; i++)
        at[i] = maths_half_bits(value[i]);
}
#endif

/* maths_exp32() of each lane, to the bit. */
ALWAYS vec exponential(vec x)
{
    vec clamped = choose(x < -87.0f, all(-87.0f), choose(x > 88.0f, all(88.0f), x));
    vec shifted = clamped * 1.44269504f + 12582912.0f;
    vec n = shifted - 12582912.0f;
    vec r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
    vec p = all(1.0f / 5040.0f);

    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    return choose(x < -87.0f, all(0.0f), p * (vec)(((uvec)shifted + 127u) << 23));
}

/* The sum of the lanes: neighbours first, then pairs … */
ALWAYS float add_lanes(vec value)
{
    float lane[LANES];

    memcpy(lane, &value, sizeof(lane));
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            lane[i] = lane[2 * i] + lane[2 * i + 1];
    return lane[0];
}

#endif
