/*
 * matmul_set.h: what the files behind matmul.h share.
 *
 *   matmul.c    the set, its products, running them
 *   multiply.c  one shape as cuBLASLt sees it
 *   probe.c     the data that show an order of adding, and asking the card whether bits are the same
 *   class.c     which algorithm's bits are a shape's
 *   tuner.c     what each listed number of rows is run by
 *   choices.c   what was chosen, on the disk
 */
#ifndef MSERVE_KERNELS_CUDA_MATMUL_SET_H
#define MSERVE_KERNELS_CUDA_MATMUL_SET_H

#include "config/sha256.h"
#include "kernels/cuda/multiply.h"

enum {
    LIST_MAX = 48,
    CLASS_ROWS = 2048, /* where a class is fixed: full tiles, far from what is special */
    LIST_STEP = 16,    /* every listed number is a multiple */
};

/* How one listed number of rows is run. */
struct choice {
    struct blas_algo algo;
    bool member; /* algo has the class's bits here */
    bool cached; /* by an earlier run */
    uint32_t tried, admitted;
    float ms, free_ms; /* 0: not timed */
};

struct matmul {
    struct matmul_set *set;
    struct matmul *next;
    struct matmul_shape shape;
    uint32_t len; /* of the set's list, up to rows_max */
    bool own;     /* by product.cu */
    struct multiply multiply;
    struct multiply_rows rows[LIST_MAX];
    struct choice choice[LIST_MAX];
    uint8_t class_hash[SHA256_BYTES]; /* of the class's bits; zeros: own */
};

struct choices;

struct matmul_set {
    const struct gpu_module *module;
    struct gpu *gpu;
    struct gpu_about about;
    uint32_t driver;
    struct matmul_options options;
    uint32_t list[LIST_MAX], len;
    struct library found;
    bool blas; /* library is there */
    struct multiply_library library;
    struct matmul *first;
    struct gpu_event *event_begin, *event;
    uint64_t deadline_ns; /* of tuning */
    struct choices *choices;
    struct matmul_figure *figure;
    uint32_t figures;
    char about_library[LIBRARY_WHY_SIZE + 64];
    char fingerprint[64];
    char fault[192];
};

#endif
