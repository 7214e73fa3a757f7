/*
 * product_scalar.c: products in plain C, which compilers vectorise across the outputs of a tile.
 * Floats are multiplied and added one after another as `ref` does it, so the bits are the same.
 *
 * TILE of 16 outputs
 *   Q8_0    [K / 32] { half d[16]; int8 q[32][16] }
 *   floats  [K][16], each in its stored format
 * ROW
 *   Q8_0    [K / 32] { float d; int8 q[32] }
 *   floats  [K]
 */
#include "kernels/cpu/plain.h"

#include <math.h>
#include <string.h>

#include "kernels/cpu/quantise.h"
#include "kernels/model/tensor.h"

enum { LANES = 16, CHUNK = 64 };

struct q8_tile {
    uint16_t d[LANES];
    int8_t q[QUANT_LEN][LANES];
};

struct q8_row {
    float d;
    int8_t q[QUANT_LEN];
};

static size_t q8_tile_bytes(uint32_t inputs)
{
    return (inputs / QUANT_LEN * sizeof(struct q8_tile) + 63) / 64 * 64;
}

static size_t q8_row_bytes(uint32_t inputs)
{
    return product_row_bytes(inputs / QUANT_LEN * sizeof(struct q8_row));
}

static void q8_pack(const uint8_t *row, uint32_t inputs, uint32_t lane, uint8_t *tile)
{
    struct q8_tile *block = (struct q8_tile *)(void *)tile;

    for (uint32_t k = 0; k < inputs; k += QUANT_LEN, block++, row += 34) {
        memcpy(&block->d[lane], row, 2);
        for (int i = 0; i < QUANT_LEN; i++)
            block->q[i][lane] = (int8_t)row[2 + i];
    }
}

static void q8_prepare(const float *in, uint32_t inputs, uint8_t *row)
{
    struct q8_row *block = (struct q8_row *)(void *)row;

    for (uint32_t k = 0; k < inputs; k += QUANT_LEN, block++) {
        float most = 0.0f, factor;
        int finite = 1;

        for (int i = 0; i < QUANT_LEN; i++) {
            float size = fabsf(in[k + (uint32_t)i]);

            most = size > most ? size : most;
            finite &= size <= 3.40282347e38f;
        }
        factor = quantise_scale(most, finite, &block->d);
        for (int i = 0; i < QUANT_LEN; i++)
            block->q[i] = finite ? (int8_t)lrintf(in[k + (uint32_t)i] * factor) : 0;
    }
}

/* Eight outputs as bytes, in 16 and in 32 bits. */
typedef int8_t bytes __attribute__((vector_size(8)));
typedef int16_t words __attribute__((vector_size(16)));
typedef int32_t longs __attribute__((vector_size(32)));

static inline words widen(const int8_t *at)
{
    bytes value;

    memcpy(&value, at, sizeof(value));
    return __builtin_convertvector(value, words);
}

/* Two products of int8 fit 16 bits: 2 * 128 * 127. */
static void q8_dot(const struct q8_tile *w, const int8_t *q, int32_t *ret_dot)
{
    longs dot[2] = {{0}};

    for (int k = 0; k < QUANT_LEN; k += 2)
        for (int i = 0; i < 2; i++) {
            words pair = widen(w->q[k] + 8 * i) * q[k] + widen(w->q[k + 1] + 8 * i) * q[k + 1];

            dot[i] += __builtin_convertvector(pair, longs);
        }
    memcpy(ret_dot, dot, sizeof(dot));
}

static void q8_multiply(const struct panel *panel)
{
    for (uint32_t m = 0; m < panel->rows; m++) {
        const struct q8_tile *w = (const struct q8_tile *)(const void *)panel->weights;
        const struct q8_row *a =
            (const struct q8_row *)(const void *)(panel->input + m * panel->row_bytes);
        float sum[LANES] = {0};

        for (uint32_t k = 0; k < panel->inputs; k += QUANT_LEN, w++, a++) {
            int32_t dot[LANES];

            q8_dot(w, a->q, dot);
            for (int i = 0; i < LANES; i++)
                sum[i] += (float)dot[i] * (tensor_half(w->d[i]) * a->d);
        }
        memcpy(panel->out + m * panel->stride, sum, sizeof(sum));
    }
}

static size_t f32_tile_bytes(uint32_t inputs)
{
    return plain_tile_bytes(inputs, LANES, 4);
}

static size_t f16_tile_bytes(uint32_t inputs)
{
    return plain_tile_bytes(inputs, LANES, 2);
}

static void pack4(const uint8_t *row, uint32_t inputs, uint32_t lane, uint8_t *tile)
{
    plain_pack(row, inputs, lane, tile, LANES, 4);
}

static void pack2(const uint8_t *row, uint32_t inputs, uint32_t lane, uint8_t *tile)
{
    plain_pack(row, inputs, lane, tile, LANES, 2);
}

/* Four outputs; compilers take plain loops over 16 apart, but not these. */
typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
enum { FOURS = LANES / 4, GROUP = 2 };

/* out[m][i] += the products of `len` columns of weights, as floats, for `rows` rows, a constant. */
static inline __attribute__((always_inline)) void add_rows(const float *restrict weights,
                                                           const float *in, size_t row_floats,
                                                           uint32_t len, float *out, size_t stride,
                                                           const uint32_t rows)
{
    four sum[GROUP][FOURS];

    for (uint32_t m = 0; m < rows; m++)
        memcpy(sum[m], out + m * stride, sizeof(sum[m]));
    for (uint32_t k = 0; k < len; k++, weights += LANES)
        for (uint32_t m = 0; m < rows; m++)
            for (int i = 0; i < FOURS; i++)
                sum[m][i] += *(const four *)(weights + 4 * i) * in[m * row_floats + k];
    for (uint32_t m = 0; m < rows; m++)
        memcpy(out + m * stride, sum[m], sizeof(sum[m]));
}

static void add_chunk(const struct panel *panel, const float *weights, uint32_t k, uint32_t len)
{
    size_t row_floats = panel->row_bytes / sizeof(float);

    for (uint32_t m = 0; m < panel->rows; m += GROUP) {
        const float *in = (const float *)(const void *)panel->input + m * row_floats + k;
        float *out = panel->out + m * panel->stride;

        if (panel->rows - m >= GROUP)
            add_rows(weights, in, row_floats, len, out, panel->stride, GROUP);
        else
            add_rows(weights, in, row_floats, len, out, panel->stride, 1);
    }
}

static void multiply_floats(const struct panel *panel, uint32_t type)
{
    const struct tensor_format *format = tensor_format(type);
    __attribute__((aligned(64), uninitialized)) float weights[CHUNK * LANES];

    for (uint32_t m = 0; m < panel->rows; m++)
        memset(panel->out + m * panel->stride, 0, LANES * sizeof(float));
    for (uint32_t k = 0; k < panel->inputs; k += CHUNK) {
        uint32_t len = panel->inputs - k < CHUNK ? panel->inputs - k : CHUNK;

        format->to_f32(panel->weights + (size_t)k * LANES * format->block_bytes,
                       (uint64_t)len * LANES, weights);
        add_chunk(panel, weights, k, len);
    }
}

static void f32_multiply(const struct panel *panel)
{
    multiply_floats(panel, TENSOR_F32);
}

static void f16_multiply(const struct panel *panel)
{
    multiply_floats(panel, TENSOR_F16);
}

static void bf16_multiply(const struct panel *panel)
{
    multiply_floats(panel, TENSOR_BF16);
}

const struct product product_scalar_q8_0 = {
    .numerics = "scalar/q8_0-int8/1",
    .isa = ISA_SCALAR,
    .type = TENSOR_Q8_0,
    .tile = LANES,
    .tile_bytes = q8_tile_bytes,
    .row_bytes = q8_row_bytes,
    .pack = q8_pack,
    .prepare = q8_prepare,
    .multiply = q8_multiply,
};

const struct product product_scalar_f32 = {
    .numerics = "scalar/f32/1",
    .isa = ISA_SCALAR,
    .type = TENSOR_F32,
    .tile = LANES,
    .tile_bytes = f32_tile_bytes,
    .row_bytes = plain_row_bytes,
    .pack = pack4,
    .prepare = plain_prepare,
    .multiply = f32_multiply,
};

const struct product product_scalar_f16 = {
    .numerics = "scalar/f16/1",
    .isa = ISA_SCALAR,
    .type = TENSOR_F16,
    .tile = LANES,
    .tile_bytes = f16_tile_bytes,
    .row_bytes = plain_row_bytes,
    .pack = pack2,
    .prepare = plain_prepare,
    .multiply = f16_multiply,
};

const struct product product_scalar_bf16 = {
    .numerics = "scalar/bf16/1",
    .isa = ISA_SCALAR,
    .type = TENSOR_BF16,
    .tile = LANES,
    .tile_bytes = f16_tile_bytes,
    .row_bytes = plain_row_bytes,
    .pack = pack2,
    .prepare = plain_prepare,
    .multiply = bf16_multiply,
};
