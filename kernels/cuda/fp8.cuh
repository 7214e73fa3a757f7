/*
 * fp8.cuh: e4m3 in plain arithmetic: sign, 4 bits of exponent (bias 7), 3 of mantissa, no infinity,
 * NaN 0x7f, up to 448. The host's form of fp8_pair() and its inverses, and that of cards before
 * capability 89, which have no instruction for it. Needs DEVICE, bits_of() and float_of().
 */
#ifndef MSERVE_KERNELS_CUDA_FP8_CUH
#define MSERVE_KERNELS_CUDA_FP8_CUH

/* The nearest, ties to even; what is larger than 448, infinity too, becomes 448. */
DEVICE uint32_t fp8_encode(float value)
{
    uint32_t bits = bits_of(value), sign = bits >> 24 & 0x80u, size = bits & 0x7fffffffu;

    if (size > 0x7f800000u)
        return sign | 0x7fu;
    if (size > 0x43e00000u) /* 448 */
        return sign | 0x7eu;
    if (size < 0x3c800000u) /* 2^-6: below it are multiples of 2^-9, which is what 2^14 counts in */
        return sign | (bits_of(float_of(size) + 16384.0f) - 0x46800000u);
    return sign | (((size + 0x7ffffu + (size >> 20 & 1u)) >> 20) - (120u << 3));
}

DEVICE float fp8_decode(uint32_t code)
{
    uint32_t size = code & 0x7fu;
    float value = float_of(size << 20) * 0x1p120f; /* the exponents' biases are 120 apart */

    value = size == 0x7fu ? float_of(0x7fffffffu) : value;
    return code & 0x80u ? -value : value;
}

#endif
