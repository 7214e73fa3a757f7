/*
 * quantise.h: 32 inputs as int8 with a scale, as llama.cpp does for Q8_0 too. One rule for the
 * scalar path and AVX-512, so that they differ in the order and rounding of sums alone; AVX2 has its
 * own (q8_avx2.c).
 *
 * d = max |x| / 127, q = x / d to the nearest (ties to even). A block that holds a NaN or an infinity
 * has d = NaN, so that each product with it is NaN. Where 127 / max overflows (max below 4e-37), the
 * block is 0.
 */
#ifndef MSERVE_KERNELS_CPU_QUANTISE_H
#define MSERVE_KERNELS_CPU_QUANTISE_H

#include <math.h>
#include <stdint.h>

enum { QUANT_LEN = 32 };

/* What x is multiplied by; sets the scale. `most` is the largest |x|, `finite` that all are. */
static inline float quantise_scale(float most, int finite, float *ret_scale)
{
    float factor = 127.0f / most;

    if (!finite) {
        *ret_scale = NAN;
        return 0.0f;
    }
    if (!(factor <= 3.402823e38f)) {
        *ret_scale = 0.0f;
        return 0.0f;
    }
    *ret_scale = most / 127.0f;
    return factor;
}

#endif
