/* matrix.c: which product a matrix gets, and the walk over its tiles. */
#include "kernels/cpu/matrix.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "config/log.h"
#include "kernels/cpu/product.h"
#include "kernels/model/gguf.h"
#include "kernels/model/tensor.h"

enum {
    TILE_MAX = 64,
    EDGE_ROWS = 32,
    /* Prepared rows that stay in the second cache while all tiles pass. */
    ROWS_BYTES = 384 << 10,
    ROWS_MIN = 48, /* and a multiple of it */
};

/* For each format, the highest instruction set first. */
static const struct product *const products[] = {
#ifdef __x86_64__
    &product_avx512_q8_0, &product_avx512_f32, &product_avx512_f16, &product_avx512_bf16_dot,
    &product_avx512_bf16, &product_avx2_q8_0,  &product_avx2_f32,   &product_avx2_f16,
    &product_avx2_bf16,
#endif
    &product_scalar_q8_0, &product_scalar_f32, &product_scalar_f16, &product_scalar_bf16,
};

static const struct product *find_product(enum isa isa, uint32_t type)
{
    for (size_t i = 0; i < sizeof(products) / sizeof(products[0]); i++)
        if (products[i]->type == type && products[i]->isa <= isa)
            return products[i];
    return NULL;
}

/* The format they share, or floats. */
static uint32_t common_type(const struct gguf_tensor *const *tensors, uint32_t len)
{
    for (uint32_t i = 1; i < len; i++)
        if (tensors[i]->type != tensors[0]->type)
            return TENSOR_F32;
    return tensors[0]->type;
}

enum err matrix_plan(enum isa isa, const struct gguf_tensor *const *tensors, uint32_t len,
                     struct matrix *ret)
{
    uint32_t type = common_type(tensors, len);
    const struct product *product = find_product(isa, type);
    uint64_t outputs = 0, inputs = tensors[0]->dim[0], tiles;
    size_t tile_bytes;

    assert(len >= 1 && len <= MATRIX_TENSORS_MAX);
    if (product == NULL)
        return fail(ERR_MODEL, "%.*s: matrices of format %u are not supported",
                    (int)tensors[0]->name.len, tensors[0]->name.data, type);
    for (uint32_t i = 0; i < len; i++) {
        assert(tensors[i]->dim[0] == inputs);
        outputs += tensors[i]->dim[1];
    }
    if (inputs > INT32_MAX / 64 || outputs > INT32_MAX)
        return fail(ERR_MODEL, "%.*s: a matrix of more rows or columns than can be multiplied",
                    (int)tensors[0]->name.len, tensors[0]->name.data);
    tile_bytes = product->tile_bytes((uint32_t)inputs);
    tiles = (outputs + product->tile - 1) / product->tile;
    if (tiles > SIZE_MAX / 2 / tile_bytes)
        return fail(ERR_MODEL, "%.*s: larger than memory can be", (int)tensors[0]->name.len,
                    tensors[0]->name.data);
    *ret = (struct matrix){
        .product = product,
        .outputs = (uint32_t)outputs,
        .inputs = (uint32_t)inputs,
        .tile = product->tile,
        .tile_bytes = tile_bytes,
        .bytes = (size_t)tiles * tile_bytes,
        .row_bytes = product->row_bytes((uint32_t)inputs),
    };
    return ERR_OK;
}

/* Row n of the tensors, as they lie one after another; in *ret_type its format. */
static const uint8_t *row_at(const struct gguf_tensor *const *tensors, uint64_t n,
                             const struct tensor_format **ret_format)
{
    const struct tensor_format *format;

    while (n >= (*tensors)->dim[1])
        n -= (*tensors++)->dim[1];
    format = tensor_format((*tensors)->type);
    *ret_format = format;
    return (const uint8_t *)(*tensors)->data +
           n * ((*tensors)->dim[0] / format->block_len * format->block_bytes);
}

enum err matrix_pack(const struct matrix *matrix, const struct gguf_tensor *const *tensors,
                     uint32_t len, uint32_t n0, uint32_t n1, uint8_t *packed)
{
    const struct product *product = matrix->product;
    bool floats = common_type(tensors, len) != tensors[0]->type;
    float *values = floats ? malloc(matrix->inputs * sizeof(*values)) : NULL;

    assert(n0 % matrix->tile == 0 && (n1 % matrix->tile == 0 || n1 == matrix->outputs));
    if (floats && values == NULL)
        return fail(ERR_MEMORY, "packing a matrix: no memory for a row of %u floats",
                    matrix->inputs);
    for (uint32_t n = n0; n < n1; n++) {
        uint8_t *tile = packed + n / matrix->tile * matrix->tile_bytes;
        const struct tensor_format *format;
        const uint8_t *row = row_at(tensors, n, &format);

        if (n % matrix->tile == 0)
            memset(tile, 0, matrix->tile_bytes);
        if (floats)
            format->to_f32(row, matrix->inputs, values);
        product->pack(floats ? (const uint8_t *)values : row, matrix->inputs, n % matrix->tile,
                      tile);
        if (product->seal != NULL && (n % matrix->tile == matrix->tile - 1 || n == n1 - 1))
            product->seal(matrix->inputs, tile);
    }
    free(values);
    return ERR_OK;
}

void matrix_prepare(const struct matrix *matrix, const float *in, size_t stride, uint32_t rows,
                    uint8_t *input)
{
    for (uint32_t m = 0; m < rows; m++)
        matrix->product->prepare(in + m * stride, matrix->inputs, input + m * matrix->row_bytes);
}

/* The last tile, of which only `lanes` outputs are there. */
static void multiply_edge(struct panel panel, const struct product *product, uint32_t lanes)
{
    __attribute__((aligned(64), uninitialized)) float edge[EDGE_ROWS * TILE_MAX];
    uint32_t rows = panel.rows;
    size_t stride = panel.stride;
    float *out = panel.out;

    panel.out = edge;
    panel.stride = product->tile;
    for (uint32_t m = 0; m < rows; m += EDGE_ROWS, panel.input += EDGE_ROWS * panel.row_bytes) {
        panel.rows = rows - m < EDGE_ROWS ? rows - m : EDGE_ROWS;
        product->multiply(&panel);
        for (uint32_t i = 0; i < panel.rows; i++)
            memcpy(out + (m + i) * stride, edge + i * panel.stride, lanes * sizeof(float));
    }
}

static uint32_t rows_at_once(const struct matrix *matrix)
{
    size_t rows = ROWS_BYTES / matrix->row_bytes / ROWS_MIN * ROWS_MIN;

    return rows < ROWS_MIN ? ROWS_MIN : (uint32_t)rows;
}

void matrix_multiply(const struct matrix *matrix, const uint8_t *input, uint32_t rows, uint32_t n0,
                     uint32_t n1, float *out, size_t stride)
{
    const struct product *product = matrix->product;
    uint32_t at_once = rows_at_once(matrix);

    assert(n0 % matrix->tile == 0 && (n1 % matrix->tile == 0 || n1 == matrix->outputs));
    for (uint32_t m = 0; m < rows; m += at_once)
        for (uint32_t n = n0; n < n1; n += matrix->tile) {
            const uint8_t *weights = matrix->packed + n / matrix->tile * matrix->tile_bytes;
            struct panel panel = {
                .weights = weights,
                .ahead = n + matrix->tile < n1 ? weights + matrix->tile_bytes : NULL,
                .input = input + m * matrix->row_bytes,
                .row_bytes = matrix->row_bytes,
                .rows = rows - m < at_once ? rows - m : at_once,
                .inputs = matrix->inputs,
                .out = out + m * stride + n,
                .stride = stride,
            };

            if (n1 - n >= matrix->tile)
                product->multiply(&panel);
            else
                multiply_edge(panel, product, n1 - n);
        }
}

const char *matrix_numerics(const struct matrix *matrix)
{
    return matrix->product->numerics;
}
