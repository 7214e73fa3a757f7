/*
 * multiply.h: one shape of product as cuBLASLt sees it: its descriptors, what algorithms the library
 * proposes for it, and running one of them. Nothing is decided here.
 *
 * cuBLASLt counts matrices in columns: our rows of weights [N][K] are its columns, so it makes
 * out^T [N x M] = weight^T^T [N x K] times in^T [K x M], and nothing is turned round in memory.
 */
#ifndef MSERVE_KERNELS_CUDA_MULTIPLY_H
#define MSERVE_KERNELS_CUDA_MULTIPLY_H

#include "kernels/cuda/blas.h"
#include "kernels/cuda/matmul.h"

/* What all shapes share. */
struct multiply_library {
    struct blas blas;
    void *handle;
    void *stream;
    uint32_t version;
    bool fast_accumulate;
};

struct multiply {
    const struct multiply_library *library;
    struct matmul_shape shape;
    void *desc, *weight;
};

/* The layouts of `in` and `out` with so many rows. */
struct multiply_rows {
    uint32_t rows;
    void *in, *out;
};

/* One call's arrays. */
struct multiply_call {
    const void *weight, *in;
    const float *weight_scale, *in_scale; /* fp8; NULL else */
    void *out;
    void *workspace;
    size_t workspace_bytes;
};

/* What the library says an algorithm is. */
struct multiply_about {
    int32_t id, split_k;
    uint32_t reduction, tile, stages;
};

/* False: the library does not know such a thing. The caller closes what was opened. */
bool multiply_open(const struct multiply_library *library, const struct matmul_shape *shape,
                   struct multiply *ret);
void multiply_close(struct multiply *multiply);
bool multiply_rows_open(const struct multiply *multiply, uint32_t rows, struct multiply_rows *ret);
void multiply_rows_close(const struct multiply *multiply, struct multiply_rows *rows);

/* At most `most` proposals, the library's best first. Without a workspace only one order of K. */
uint32_t multiply_propose(const struct multiply *multiply, const struct multiply_rows *rows,
                          size_t workspace_bytes, uint32_t most, struct blas_proposal *ret);

/* Whether this algorithm, proposed for another number of rows, does for this one. */
bool multiply_fits(const struct multiply *multiply, const struct multiply_rows *rows,
                   const struct blas_algo *algo);

struct multiply_about multiply_describe(const struct multiply *multiply,
                                        const struct blas_algo *algo);

/* Enqueues. The library's status. */
int32_t multiply_run(const struct multiply *multiply, const struct multiply_rows *rows,
                     const struct blas_algo *algo, const struct multiply_call *call);

size_t number_bytes(enum number type);

#endif
