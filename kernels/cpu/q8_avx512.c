/*
 * q8_avx512.c: Q8_0 by VPDPBUSD: four products of an unsigned by a signed byte are added to a lane.
 *
 * Weights are kept as w + 128; what this adds to a sum, 128 times the sum of the operand's bytes, is
 * where the sum starts from. For each block of 32 inputs: 8 steps of 4 inputs, then the sum, exact
 * so far, is multiplied by both scales and added in single precision (one rounding).
 *
 * TILE of 32 outputs, 8.5 bits a weight: [K / 32] { half d[32]; uint8 (w + 128)[8][32][4] }
 * ROW, 10 bits an input: [K / 32] { int8 q[32]; float d; int32 start }
 *
 * Six rows by 32 outputs at a time: 12 sums of integers and 12 of floats in 32 registers.
 */
#include "kernels/cpu/product.h"

#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/quantise.h"
#include "kernels/model/tensor.h"

enum { LANES = 32, ROWS = 6, STEPS = QUANT_LEN / 4 };

struct tile_block {
    uint16_t d[LANES];
    uint8_t q[STEPS][LANES][4];
};

struct row_block {
    int8_t q[QUANT_LEN];
    float d;
    int32_t start;
};

static size_t tile_bytes(uint32_t inputs)
{
    return inputs / QUANT_LEN * sizeof(struct tile_block);
}

static size_t row_bytes(uint32_t inputs)
{
    return product_row_bytes(inputs / QUANT_LEN * sizeof(struct row_block));
}

static void pack(const uint8_t *row, uint32_t inputs, uint32_t lane, uint8_t *tile)
{
    struct tile_block *block = (struct tile_block *)(void *)tile;

    for (uint32_t k = 0; k < inputs; k += QUANT_LEN, block++, row += 34) {
        memcpy(&block->d[lane], row, 2);
        for (int i = 0; i < QUANT_LEN; i++)
            block->q[i / 4][lane][i % 4] = row[2 + i] ^ 0x80;
    }
}

static void prepare(const float *in, uint32_t inputs, uint8_t *row)
{
    struct row_block *block = (struct row_block *)(void *)row;

    for (uint32_t k = 0; k < inputs; k += QUANT_LEN, block++) {
        __m512 x0 = _mm512_loadu_ps(in + k), x1 = _mm512_loadu_ps(in + k + 16);
        __m512 size0 = _mm512_abs_ps(x0), size1 = _mm512_abs_ps(x1),
               most = _mm512_set1_ps(3.40282347e38f);
        int finite = _mm512_cmp_ps_mask(size0, most, _CMP_LE_OQ) == 0xffff &&
                     _mm512_cmp_ps_mask(size1, most, _CMP_LE_OQ) == 0xffff;
        float d,
            factor = quantise_scale(_mm512_reduce_max_ps(_mm512_max_ps(size0, size1)), finite, &d);
        __m512i q0, q1;

        q0 = _mm512_cvtps_epi32(_mm512_mul_ps(x0, _mm512_set1_ps(factor)));
        q1 = _mm512_cvtps_epi32(_mm512_mul_ps(x1, _mm512_set1_ps(factor)));
        _mm_storeu_si128((__m128i *)(void *)block->q, _mm512_cvtsepi32_epi8(q0));
        _mm_storeu_si128((__m128i *)(void *)(block->q + 16), _mm512_cvtsepi32_epi8(q1));
        block->d = d;
        block->start = finite ? -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(q0, q1)) : 0;
    }
}

/* The four bytes of a row that every lane is multiplied by. */
static inline __m512i four(const uint8_t *at)
{
    int32_t value;

    memcpy(&value, at, sizeof(value));
    return _mm512_set1_epi32(value);
}

/* One tile of outputs for `rows` rows, a constant. */
static inline __attribute__((always_inline)) void
multiply_rows(const struct panel *panel, const struct share *share, const uint32_t rows)
{
    const struct tile_block *w = (const struct tile_block *)(const void *)panel->weights;
    const struct tile_block *end = w + panel->inputs / QUANT_LEN;
    const uint8_t *low = panel->input + share->first * panel->row_bytes,
                  *high = low + 3 * panel->row_bytes;
    const uint8_t *ahead = share->ahead;
    size_t stride = panel->row_bytes;
    uint32_t lines = share->lines;
    float *out = panel->out + share->first * panel->stride;
    __m512 sum[ROWS][2];

#define AT(m, field)                                                                               \
    (((m) < 3 ? low + (m)*stride : high + ((m)-3) * stride) + offsetof(struct row_block, field))
    UNROLL
    for (uint32_t m = 0; m < rows; m++)
        sum[m][0] = sum[m][1] = _mm512_setzero_ps();
    for (; w < end; w++, low += sizeof(struct row_block), high += sizeof(struct row_block)) {
        __m512i dot[ROWS][2];
        __m512 d0 = _mm512_cvtph_ps(_mm256_load_si256((const void *)w->d));
        __m512 d1 = _mm512_cvtph_ps(_mm256_load_si256((const void *)(w->d + 16)));

        for (uint32_t i = 0; i < lines; i++)
            _mm_prefetch(ahead + 64 * i, _MM_HINT_T1);
        ahead += sizeof(*w);
        UNROLL
        for (uint32_t m = 0; m < rows; m++)
            dot[m][0] = dot[m][1] = four(AT(m, start));
        UNROLL
        for (uint32_t s = 0; s < STEPS; s++) {
            __m512i w0 = _mm512_load_si512(w->q[s]), w1 = _mm512_load_si512(w->q[s][16]);

            UNROLL
            for (uint32_t m = 0; m < rows; m++) {
                __m512i a = four(AT(m, q) + 4 * s);

                dot[m][0] = _mm512_dpbusd_epi32(dot[m][0], w0, a);
                dot[m][1] = _mm512_dpbusd_epi32(dot[m][1], w1, a);
            }
        }
        UNROLL
        for (uint32_t m = 0; m < rows; m++) {
            __m512 d = _mm512_castsi512_ps(four(AT(m, d)));

            sum[m][0] =
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[m][0]), _mm512_mul_ps(d0, d), sum[m][0]);
            sum[m][1] =
                _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[m][1]), _mm512_mul_ps(d1, d), sum[m][1]);
        }
    }
#undef AT
    UNROLL
    for (uint32_t m = 0; m < rows; m++) {
        _mm512_storeu_ps(out + m * panel->stride, sum[m][0]);
        _mm512_storeu_ps(out + m * panel->stride + 16, sum[m][1]);
    }
}

static void multiply(const struct panel *panel)
{
    struct share share = {0};

    while (share_next(&share, panel, ROWS, sizeof(struct tile_block) / 64))
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
#undef CASE
        }
}

const struct product product_avx512_q8_0 = {
    .numerics = "avx512/q8_0-vnni/1",
    .isa = ISA_AVX512,
    .type = TENSOR_Q8_0,
    .tile = LANES,
    .tile_bytes = tile_bytes,
    .row_bytes = row_bytes,
    .pack = pack,
    .prepare = prepare,
    .multiply = multiply,
};
