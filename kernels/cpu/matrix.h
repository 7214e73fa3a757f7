/*
 * matrix.h: packed weights and their products: out[m][n] = sum over k of weight[n][k] in[m][k].
 *
 * A matrix of N outputs by K inputs is kept in tiles of outputs, in a layout of its own for each
 * number format and instruction set. Its operand is prepared once, row by row, into another (int8
 * with a scale per 32 inputs for Q8_0, bfloat16, float), and multiplied tile by tile.
 *
 *     matrix_plan(isa, tensors, len, &m)            how many bytes
 *     matrix_pack(&m, tensors, len, 0, N, packed)   once, when a model is opened
 *     matrix_prepare(&m, in, K, rows, input)        once an operation; threads share the rows
 *     matrix_multiply(&m, input, M, n0, n1, ...)    threads share the outputs
 *
 * NUMBERS An output is a function of its row and its weights: the sum runs over k in one ascending
 * order for any M, any split of outputs, any split of rows. Lanes run across outputs. A NaN or an
 * infinity in a row of `in` gives NaN or an infinity in every output of that row (except that an
 * infinity times weights of 0 is NaN), and never touches another row. What differs between
 * instruction sets is named by matrix_numerics().
 *
 * All functions are pure: no threads, no memory of their own (a few KiB of stack), no state.
 */
#ifndef MSERVE_KERNELS_CPU_MATRIX_H
#define MSERVE_KERNELS_CPU_MATRIX_H

#include "config/errors.h"
#include "kernels/cpu/isa.h"

#include <stddef.h>
#include <stdint.h>

struct gguf_tensor; /* kernels/model/gguf.h */
struct product;     /* kernels/cpu/product.h */

enum { MATRIX_ALIGN = 64, MATRIX_TENSORS_MAX = 3 };

struct matrix {
    const struct product *product; /* format and instruction set */
    uint32_t outputs;              /* N */
    uint32_t inputs;               /* K */
    uint32_t tile;                 /* outputs are split at multiples of it */
    size_t tile_bytes;             /* of packed weights, for `tile` outputs */
    size_t bytes;                  /* of packed weights, all of them */
    size_t row_bytes;              /* of a prepared row */
    const uint8_t *packed;         /* [tiles][tile_bytes], set by the caller after matrix_pack() */
};

/*
 * The rows of 1 to 3 tensors of two dimensions and as many inputs, one after another, as one matrix.
 * `isa` is a level that this machine runs. Tensors of different formats are kept as floats. Fills
 * all of *ret but `packed`. ERR_MODEL: no product for the format, or too large.
 */
enum err matrix_plan(enum isa isa, const struct gguf_tensor *const *tensors, uint32_t len,
                     struct matrix *ret);

/*
 * Packs outputs [n0, n1) of the same tensors into the matrix's bytes at `packed`, which are aligned
 * to MATRIX_ALIGN (the caller asks for huge pages: reading speed doubles). n0 is a multiple of the
 * tile, n1 too or N. Threads may pack different outputs at once. ERR_MEMORY: for a row of floats.
 */
enum err matrix_pack(const struct matrix *matrix, const struct gguf_tensor *const *tensors,
                     uint32_t len, uint32_t n0, uint32_t n1, uint8_t *packed);

/*
 * Converts `rows` rows of K floats, `stride` floats apart, into as many of row_bytes at `input`,
 * aligned to MATRIX_ALIGN. A row does not depend on any other.
 */
void matrix_prepare(const struct matrix *matrix, const float *in, size_t stride, uint32_t rows,
                    uint8_t *input);

/*
 * out[m * stride + n] for m in [0, rows) and n in [n0, n1); n0 is a multiple of the tile, n1 too or
 * N. Nothing else of `out` is written. `input` is rows of row_bytes, from matrix_prepare().
 */
void matrix_multiply(const struct matrix *matrix, const uint8_t *input, uint32_t rows, uint32_t n0,
                     uint32_t n1, float *out, size_t stride);

/* "avx512/q8_0-vnni/1": instruction set, format and arithmetic, version of that arithmetic. */
const char *matrix_numerics(const struct matrix *matrix);

#endif
