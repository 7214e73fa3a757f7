/*
 * float_avx512.c: F32, F16 and BF16 by fused multiply-add in single precision, one input after
 * another; a product is not rounded before it is added. Weights are widened when they are loaded,
 * which is exact.
 *
 * TILE of 32 outputs: [K][32] in the format of the file. ROW: [K] floats.
 *
 * Twelve rows by 32 outputs at a time: 24 sums in 32 registers.
 */
#include "kernels/cpu/product.h"

#include <immintrin.h>
#include <string.h>

#include "kernels/model/tensor.h"

enum { LANES = 32, ROWS = 12, STEP = 16 };

static size_t tile_bytes4(uint32_t inputs)
{
    return (size_t)inputs * LANES * 4;
}

static size_t tile_bytes2(uint32_t inputs)
{
    return (size_t)inputs * LANES * 2;
}

static size_t row_bytes(uint32_t inputs)
{
    return product_row_bytes((size_t)inputs * sizeof(float));
}

static void pack4(const uint8_t *row, uint32_t inputs, uint32_t lane, uint8_t *tile)
{
    for (uint32_t k = 0; k < inputs; k++)
        memcpy(tile + ((size_t)k * LANES + lane) * 4, row + (size_t)k * 4, 4);
}

static void pack2(const uint8_t *row, uint32_t inputs, uint32_t lane, uint8_t *tile)
{
    for (uint32_t k = 0; k < inputs; k++)
        memcpy(tile + ((size_t)k * LANES + lane) * 2, row + (size_t)k * 2, 2);
}

static void prepare(const float *in, uint32_t inputs, uint8_t *row)
{
    memcpy(row, in, inputs * sizeof(float));
}

/* Sixteen weights as floats. */
typedef __m512 load_fn(const uint8_t *at);

static inline __m512 load_f32(const uint8_t *at)
{
    return _mm512_load_ps(at);
}

static inline __m512 load_f16(const uint8_t *at)
{
    return _mm512_cvtph_ps(_mm256_load_si256((const void *)at));
}

static inline __m512 load_bf16(const uint8_t *at)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_load_si256((const void *)at));

    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* One tile of outputs for `rows` rows; `rows`, `size` (bytes of a weight) and `load` are constants. */
static inline __attribute__((always_inline)) void multiply_rows(const struct panel *panel,
                                                                const struct share *share,
                                                                const uint32_t rows,
                                                                const uint32_t size, load_fn *load)
{
    const uint8_t *w = panel->weights, *ahead = share->ahead;
    const uint8_t *a[ROWS / 3];
    size_t stride = panel->row_bytes;
    float *out = panel->out + share->first * panel->stride;
    __m512 sum[ROWS][2];

    for (uint32_t m = 0; m < rows; m++)
        sum[m][0] = sum[m][1] = _mm512_setzero_ps();
    for (uint32_t i = 0; i < (rows + 2) / 3; i++)
        a[i] = panel->input + (share->first + 3 * i) * stride;
    for (uint32_t k = 0; k < panel->inputs; k += STEP) {
        uint32_t len = panel->inputs - k < STEP ? panel->inputs - k : STEP;

        for (uint32_t i = 0; i < share->lines; i++)
            _mm_prefetch(ahead + 64 * i, _MM_HINT_T1);
        ahead += STEP * LANES * size;
#pragma GCC unroll 4
        for (uint32_t j = 0; j < len; j++) {
            __m512 w0 = load(w), w1 = load(w + 16 * size);

            w += LANES * size;
#pragma GCC unroll 12
            for (uint32_t m = 0; m < rows; m++) {
                __m512 x =
                    _mm512_set1_ps(*(const float *)(const void *)(a[m / 3] + m % 3 * stride));

                sum[m][0] = _mm512_fmadd_ps(w0, x, sum[m][0]);
                sum[m][1] = _mm512_fmadd_ps(w1, x, sum[m][1]);
            }
            for (uint32_t i = 0; i < (rows + 2) / 3; i++)
                a[i] += sizeof(float);
        }
    }
    for (uint32_t m = 0; m < rows; m++) {
        _mm512_storeu_ps(out + m * panel->stride, sum[m][0]);
        _mm512_storeu_ps(out + m * panel->stride + 16, sum[m][1]);
    }
}

static inline __attribute__((always_inline)) void multiply(const struct panel *panel,
                                                           const uint32_t size, load_fn *load)
{
    struct share share = {0};

    while (share_next(&share, panel, ROWS, STEP * LANES * size / 64))
        switch (share.rows) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        multiply_rows(panel, &share, n, size, load);                                               \
        break
            CASE(1);
            CASE(2);
            CASE(3);
            CASE(4);
            CASE(5);
            CASE(6);
            CASE(7);
            CASE(8);
            CASE(9);
            CASE(10);
            CASE(11);
            CASE(12);
#undef CASE
        }
}

static void multiply_f32(const struct panel *panel)
{
    multiply(panel, 4, load_f32);
}

static void multiply_f16(const struct panel *panel)
{
    multiply(panel, 2, load_f16);
}

static void multiply_bf16(const struct panel *panel)
{
    multiply(panel, 2, load_bf16);
}

const struct product product_avx512_f32 = {
    .numerics = "avx512/f32-fma/1",
    .isa = ISA_AVX512,
    .type = TENSOR_F32,
    .tile = LANES,
    .tile_bytes = tile_bytes4,
    .row_bytes = row_bytes,
    .pack = pack4,
    .prepare = prepare,
    .multiply = multiply_f32,
};

const struct product product_avx512_f16 = {
    .numerics = "avx512/f16-fma/1",
    .isa = ISA_AVX512,
    .type = TENSOR_F16,
    .tile = LANES,
    .tile_bytes = tile_bytes2,
    .row_bytes = row_bytes,
    .pack = pack2,
    .prepare = prepare,
    .multiply = multiply_f16,
};

const struct product product_avx512_bf16 = {
    .numerics = "avx512/bf16-fma/1",
    .isa = ISA_AVX512,
    .type = TENSOR_BF16,
    .tile = LANES,
    .tile_bytes = tile_bytes2,
    .row_bytes = row_bytes,
    .pack = pack2,
    .prepare = prepare,
    .multiply = multiply_bf16,
};
