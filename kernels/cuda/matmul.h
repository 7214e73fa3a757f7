/*
 * matmul.h: rows times weights on a GPU, through cuBLASLt where that gives the same bits for a row
 * whatever rows stand beside it, through our own kernel (product.cu) where it does not.
 *
 * SAME BITS cuBLASLt promises nothing across M, the number of rows. So M is padded to a short list,
 * and for each shape of weights one result is fixed without a clock: that of the class (class.h).
 * matmul_tune() runs every algorithm that the library proposes for every listed M on rows that are
 * chosen to show a different order of adding, and admits it only if every row has the class's bits.
 * The clock chooses among those admitted alone; so any choice, on any machine, gives the same bits,
 * and the class's fingerprint says which these are.
 *
 * PADDING A run of any number of rows may read and write as many as matmul_padded(set, rows_max of
 * the shape) says: `in` and `out` are that long. What stands in `in` past the rows wanted is never
 * seen in them, and what is written there in `out` means nothing.
 *
 * MEMORY matmul_tune() takes device memory and gives it back: matmul_tune_bytes() at most, so it comes
 * before what fills the card. matmul_run() allocates nothing, waits for nothing, and may be captured.
 *
 * THREADS That of its gpu.
 */
#ifndef MSERVE_KERNELS_CUDA_MATMUL_H
#define MSERVE_KERNELS_CUDA_MATMUL_H

#include "config/errors.h"
#include "kernels/cuda/launch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct matmul_set; /* all products of one gpu */
struct matmul;     /* one shape */

/*
 * out [rows][outputs] = in [rows][inputs] times weight [outputs][inputs], transposed.
 *
 *   weight   in         out
 *   bf16     bf16       bf16 or f32
 *   fp8      fp8        bf16 or f32   times in.scale[row] and weight_scale[output]
 *   int8     int8       int32         exact; the scales are `rescale`'s
 */
struct matmul_shape {
    uint32_t outputs,
        inputs; /* inputs: a multiple of 8; of 16 for fp8 and int8, outputs of 8 then */
    enum number weight, out;
    uint32_t rows_max; /* rows of a run at most; 0 or more than the set's: the set's */
};

struct matmul_options {
    uint32_t rows_max;  /* of the whole set: the step's token budget, 1 .. 65536 */
    uint32_t budget_ms; /* for matmul_tune(); 0: 20,000. What it has no time for is not compared */
    bool no_cache;      /* nothing is read from or written to the disk */
    const char *cache;  /* folder of the choices; NULL: $MSERVE_CACHE, or mserve in $XDG_CACHE_HOME
                           * or ~/.cache */
    bool fast_accumulate; /* fp8: cuBLASLt's FAST_ACCUM. Another class, so other bits */
};

/*
 * `module`, `gpu` are borrowed until close; `driver` and `about` are what list() said. Without
 * cuBLASLt it says so once and multiplies by its own kernel. ERR_LIMIT, ERR_MEMORY.
 */
enum err matmul_set_open(const struct gpu_module *module, struct gpu *gpu,
                         const struct gpu_about *about, uint32_t driver,
                         const struct matmul_options *options, struct matmul_set **ret);
void matmul_set_close(struct matmul_set *set); /* and its products; NULL is allowed */

/*
 * Whether such a product can be had here; if not, *ret_why is one sentence. bf16 always can. int8
 * needs cuBLASLt; fp8 one that scales rows and columns on this card (Hopper does; where it does not,
 * int8 is as fast).
 */
bool matmul_can(struct matmul_set *set, const struct matmul_shape *shape, const char **ret_why);

/*
 * The product of this shape; the same shape gives the same one, with the larger rows_max. Before
 * matmul_tune(). ERR_LIMIT: numbers that do not fit the table above; ERR_DEVICE: matmul_can() is
 * false; ERR_MEMORY.
 */
enum err matmul_add(struct matmul_set *set, const struct matmul_shape *shape, struct matmul **ret);

/* Device bytes that matmul_tune() takes at most, for the shapes added so far. */
size_t matmul_tune_bytes(const struct matmul_set *set);

/*
 * Fixes what each product is run by. Waits for the gpu. ERR_DEVICE: the gpu failed, or an fp8 or int8
 * product has no algorithm that keeps a row's bits; ERR_MEMORY.
 */
enum err matmul_tune(struct matmul_set *set);

/* The listed numbers of rows, ascending: 16 .. rows_max rounded up to 16. */
const uint32_t *matmul_list(const struct matmul_set *set, uint32_t *ret_len);

/* The first listed number that is not below `rows` (1 .. rows_max). */
uint32_t matmul_padded(const struct matmul_set *set, uint32_t rows);

/*
 * Enqueues out = in * weight for rows 0 .. rows - 1 (1 .. the shape's rows_max). All pointers are
 * device memory, aligned to 256 bytes. weight_scale [outputs] is for fp8; NULL else. After tune.
 */
void matmul_run(const struct matmul *matmul, const void *weight, const float *weight_scale,
                const struct prepared *in, void *out, uint32_t rows);

/*
 * Which bits these products have: "products/5f0c…", a hash of the classes' bits over all shapes
 * added, in any order; "products/own" where all are the own kernel's. Part of the numerics id. After
 * tune; lives as long as the set.
 */
const char *matmul_fingerprint(const struct matmul_set *set);

/* NULL, or what the library said of the first run that it refused; nothing after it means anything. */
const char *matmul_fault(const struct matmul_set *set);

/* "cuBLASLt 13.1.0 (/usr/lib/libcublasLt.so.13)", or "own kernel: libcublasLt was not found: …". */
const char *matmul_library(const struct matmul_set *set);

/* What tuning found for one shape at one listed number of rows. */
struct matmul_figure {
    struct matmul_shape shape;
    uint32_t rows; /* as listed */
    uint32_t
        run_rows; /* what is run for it: the next listed that has a member; 0: the own kernel */
    uint32_t tried, admitted;
    float ms;      /* of the one chosen, 0 where it was not timed */
    float free_ms; /* of the fastest that cuBLASLt has, bits or no bits; 0 where it was not timed */
    bool cached;   /* chosen by an earlier run; verified now */
};

/* All of them, in order of shape and rows; after tune, live as long as the set. */
const struct matmul_figure *matmul_figures(const struct matmul_set *set, uint32_t *ret_len);

/* The price of same bits: the sum of ms over that of free_ms, where both are known; 0: nowhere. */
double matmul_price(const struct matmul_set *set);

#endif
