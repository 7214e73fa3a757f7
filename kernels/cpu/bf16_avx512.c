/*
 * bf16_avx512.c: BF16 by VDPBF16PS: two products of bfloat16 are added to a lane. Operands are rounded
 * to bfloat16, to the nearest, as the instruction wants them; it takes denormals for 0.
 *
 * TILE of 32 outputs: [(K + 1) / 2][32][2] bfloat16, 0 after an odd K. ROW: [(K + 1) / 2][2] bfloat16.
 *
 * Twelve rows by 32 outputs at a time: 24 sums in 32 registers.
 */
#include "kernels/cpu/product.h"

#include <immintrin.h>
#include <string.h>

#include "kernels/model/tensor.h"

enum { LANES = 32, ROWS = 12, STEP = 8 /* pairs */, PAIR = 4 /* bytes */ };

static size_t tile_bytes(uint32_t inputs)
{
    return (size_t)(inputs + 1) / 2 * LANES * PAIR;
}

static size_t row_bytes(uint32_t inputs)
{
    return product_row_bytes((size_t)(inputs + 1) / 2 * PAIR);
}

static void pack(const uint8_t *row, uint32_t inputs, uint32_t lane, uint8_t *tile)
{
    for (uint32_t k = 0; k < inputs; k++)
        memcpy(tile + ((size_t)(k / 2) * LANES + lane) * PAIR + k % 2 * 2, row + (size_t)k * 2, 2);
}

static void prepare(const float *in, uint32_t inputs, uint8_t *row)
{
    for (uint32_t k = 0; k < (inputs + 1) / 2 * 2; k += 16) {
        uint32_t len = inputs - k < 16 ? inputs - k : 16;
        __m512 x = _mm512_maskz_loadu_ps((__mmask16)((1u << len) - 1), in + k);
        __m256i pairs = (__m256i)_mm512_cvtneps_pbh(x);

        _mm256_mask_storeu_epi16(row + 2 * k, (__mmask16)((1u << (len + 1) / 2 * 2) - 1), pairs);
    }
}

/* The pair of a row that every lane is multiplied by. */
static inline __m512bh two(const uint8_t *at)
{
    int32_t value;

    memcpy(&value, at, sizeof(value));
    return (__m512bh)_mm512_set1_epi32(value);
}

/* One tile of outputs for `rows` rows, a constant. */
static inline __attribute__((always_inline)) void
multiply_rows(const struct panel *panel, const struct share *share, const uint32_t rows)
{
    const uint8_t *w = panel->weights, *ahead = share->ahead;
    const uint8_t *a[ROWS / 3];
    size_t stride = panel->row_bytes;
    uint32_t pairs = (panel->inputs + 1) / 2;
    float *out = panel->out + share->first * panel->stride;
    __m512 sum[ROWS][2];

    UNROLL
    for (uint32_t m = 0; m < rows; m++)
        sum[m][0] = sum[m][1] = _mm512_setzero_ps();
    UNROLL
    for (uint32_t i = 0; i < (rows + 2) / 3; i++)
        a[i] = panel->input + (share->first + 3 * i) * stride;
    for (uint32_t k = 0; k < pairs; k += STEP) {
        uint32_t len = pairs - k < STEP ? pairs - k : STEP;

        for (uint32_t i = 0; i < share->lines; i++)
            _mm_prefetch(ahead + 64 * i, _MM_HINT_T1);
        ahead += STEP * LANES * PAIR;
#pragma GCC unroll 4
        for (uint32_t j = 0; j < len; j++) {
            __m512bh w0 = (__m512bh)_mm512_load_si512(w);
            __m512bh w1 = (__m512bh)_mm512_load_si512(w + 64);

            w += LANES * PAIR;
            UNROLL
            for (uint32_t m = 0; m < rows; m++) {
                __m512bh x = two(a[m / 3] + m % 3 * stride);

                sum[m][0] = _mm512_dpbf16_ps(sum[m][0], w0, x);
                sum[m][1] = _mm512_dpbf16_ps(sum[m][1], w1, x);
            }
            UNROLL
            for (uint32_t i = 0; i < (rows + 2) / 3; i++)
                a[i] += PAIR;
        }
    }
    UNROLL
    for (uint32_t m = 0; m < rows; m++) {
        _mm512_storeu_ps(out + m * panel->stride, sum[m][0]);
        _mm512_storeu_ps(out + m * panel->stride + 16, sum[m][1]);
    }
}

static void multiply(const struct panel *panel)
{
    struct share share = {0};

    while (share_next(&share, panel, ROWS, STEP * LANES * PAIR / 64))
        switch (share.rows) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        multiply_rows(panel, &share, n);                                                           \
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

const struct product product_avx512_bf16_dot = {
    .numerics = "avx512_bf16/bf16-dot/1",
    .isa = ISA_AVX512_BF16,
    .type = TENSOR_BF16,
    .tile = LANES,
    .tile_bytes = tile_bytes,
    .row_bytes = row_bytes,
    .pack = pack,
    .prepare = prepare,
    .multiply = multiply,
};
