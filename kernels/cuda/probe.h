/*
 * probe.h: rows and weights made to show in which order a product adds up, on the card, and the
 * question whether an algorithm's rows have the bits that they should have.
 *
 * There are PROBE_ROWS different rows. A third is of numbers of very mixed magnitude; in a third
 * what one half of K adds the other takes away, or each number what its neighbour adds, so that the
 * result is nearly all rounding; the rest has zeros but in the last numbers of K, where an algorithm
 * that forgets the tail gives zero. They lie in three arrangements, which repeat with a period that
 * is prime, so that each row comes to lie at every place of a tile:
 *
 *   PROBE_MIXED    all rows, each several times, shuffled
 *   PROBE_ODD      shuffled otherwise, with rows of NaN (of anything, for int8) between them: what
 *                  pads an odd number of rows must not be seen in them
 *   PROBE_ONE      one row at every place
 */
#ifndef MSERVE_KERNELS_CUDA_PROBE_H
#define MSERVE_KERNELS_CUDA_PROBE_H

#include "kernels/cuda/matmul_set.h"

enum {
    PROBE_ROWS = 64,
    PROBE_PERIOD = 509,
    PROBE_WEIGHTS = 251, /* different rows of weights */
    PROBE_SEEN = 1024,   /* columns of the class that are hashed */
};

enum arrangement { PROBE_MIXED, PROBE_ODD, PROBE_ONE, PROBE_ARRANGEMENTS };

struct probe {
    struct matmul_set *set;
    struct matmul_shape shape;
    uint32_t most; /* rows of a call */
    size_t out_row_bytes;
    /* on the card */
    void *weight, *in[PROBE_ARRANGEMENTS], *out, *want, *workspace;
    float *weight_scale, *in_scale[PROBE_ARRANGEMENTS];
    uint32_t *row[PROBE_ARRANGEMENTS], *differs;
    size_t workspace_bytes;
    /* on the host */
    void *host; /* the gpu can reach it */
    size_t host_bytes;
    uint32_t place[PROBE_ROWS]; /* where each row first stands in PROBE_MIXED, and so in `want` */
    void *rows, *weights;       /* as the card has them: [PROBE_ROWS][K], [PROBE_WEIGHTS][K] */
    float row_scale[PROBE_ROWS], column_scale[PROBE_WEIGHTS];
};

/* Device bytes that a shape's probe takes at most. */
size_t probe_bytes(const struct matmul_set *set, const struct matmul_shape *shape);

/* Takes memory and enqueues the data. ERR_MEMORY. */
enum err probe_open(struct matmul_set *set, const struct matmul_shape *shape, struct probe *ret);
void probe_close(struct probe *probe);

/*
 * Runs it on PROBE_MIXED with CLASS_ROWS rows: what comes out is what is wanted from now on.
 * False: the library refused it.
 */
bool probe_fix(struct probe *probe, const struct multiply *multiply,
               const struct multiply_rows *rows, const struct blas_algo *algo);

/* Whether every row of every arrangement has the bits wanted. */
bool probe_same(struct probe *probe, const struct multiply *multiply,
                const struct multiply_rows *rows, const struct blas_algo *algo,
                unsigned arrangements);

/* Whether what is wanted is the product, by doubles, as exactly as floats can add it up. */
bool probe_right(struct probe *probe);

/* The hash of what is wanted. */
void probe_hash(struct probe *probe, uint8_t ret[SHA256_BYTES]);

/* Milliseconds of one run, from several; 0: it could not be run. */
float probe_time(struct probe *probe, const struct multiply *multiply,
                 const struct multiply_rows *rows, const struct blas_algo *algo);

#endif
