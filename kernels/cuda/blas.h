/*
 * blas.h: the part of cuBLASLt that we use, declared by ourselves after the cublasLt.h of CUDA 13.0
 * (the names behind the numbers are theirs, so that its reference can be searched), because the
 * library is opened at run time and its headers are not needed to build. The numbers have been the
 * same since CUDA 12.9, where rows and columns got scales of their own.
 *
 * Descriptors are opaque: the library makes and destroys them. An algorithm is 64 bytes that mean
 * something to that version of the library on that card only.
 */
#ifndef MSERVE_KERNELS_CUDA_BLAS_H
#define MSERVE_KERNELS_CUDA_BLAS_H

#include "kernels/cuda/library.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BLAS_SUCCESS = 0, BLAS_NOT_INITIALIZED = 1, BLAS_INVALID = 7, BLAS_NOT_SUPPORTED = 15 };

/* cudaDataType */
enum { BLAS_F32 = 0, BLAS_INT8 = 3, BLAS_INT32 = 10, BLAS_BF16 = 14, BLAS_FP8 = 28 };

/* cublasComputeType_t, cublasOperation_t */
enum { BLAS_COMPUTE_32F = 68, BLAS_COMPUTE_32I = 72 };
enum { BLAS_OP_N = 0, BLAS_OP_T = 1 };

/* cublasLtMatmulDescAttributes_t */
enum {
    BLAS_DESC_TRANSA = 3,           /* int32_t */
    BLAS_DESC_TRANSB = 4,           /* int32_t */
    BLAS_DESC_A_SCALE_POINTER = 17, /* const void * */
    BLAS_DESC_B_SCALE_POINTER = 18,
    BLAS_DESC_FAST_ACCUM = 25,   /* int8_t */
    BLAS_DESC_A_SCALE_MODE = 31, /* int32_t, cublasLtMatmulMatrixScale_t */
    BLAS_DESC_B_SCALE_MODE = 32,
};
enum { BLAS_SCALE_SCALAR = 0, BLAS_SCALE_OUTER_VEC = 3 };

/* cublasLtMatmulPreferenceAttributes_t */
enum {
    BLAS_PREF_MAX_WORKSPACE = 1,    /* uint64_t */
    BLAS_PREF_REDUCTION_SCHEME = 3, /* uint32_t, a mask */
    BLAS_PREF_MIN_ALIGNMENT_A = 5,  /* uint32_t */
    BLAS_PREF_MIN_ALIGNMENT_B = 6,
    BLAS_PREF_MIN_ALIGNMENT_C = 7,
    BLAS_PREF_MIN_ALIGNMENT_D = 8,
};
enum { BLAS_REDUCTION_NONE = 0 };

/* cublasLtMatmulAlgoConfigAttributes_t */
enum {
    BLAS_ALGO_ID = 0,               /* int32_t */
    BLAS_ALGO_TILE = 1,             /* uint32_t */
    BLAS_ALGO_SPLITK_NUM = 2,       /* int32_t */
    BLAS_ALGO_REDUCTION_SCHEME = 3, /* uint32_t */
    BLAS_ALGO_CTA_SWIZZLING = 4,    /* uint32_t */
    BLAS_ALGO_CUSTOM_OPTION = 5,    /* uint32_t */
    BLAS_ALGO_STAGES = 6,           /* uint32_t */
};

/* cublasLtMatmulAlgo_t, cublasLtMatmulHeuristicResult_t */
struct blas_algo {
    uint64_t data[8];
};

struct blas_proposal {
    struct blas_algo algo;
    size_t workspace_bytes;
    int32_t state; /* BLAS_SUCCESS: the rest is good */
    float waves;
    int32_t reserved[4];
};

/* The functions, each under the name after "cublasLt". Matrices are column-major there. */
struct blas {
    int32_t (*Create)(void **ret_handle);
    int32_t (*Destroy)(void *handle);
    size_t (*GetVersion)(void); /* 130100 for 13.1.0 */
    const char *(*GetStatusString)(int32_t status);
    int32_t (*MatmulDescCreate)(void **ret, int32_t compute, int32_t scale);
    int32_t (*MatmulDescDestroy)(void *desc);
    int32_t (*MatmulDescSetAttribute)(void *desc, int32_t attribute, const void *value,
                                      size_t size);
    int32_t (*MatrixLayoutCreate)(void **ret, int32_t type, uint64_t rows, uint64_t columns,
                                  int64_t stride);
    int32_t (*MatrixLayoutDestroy)(void *layout);
    int32_t (*MatmulPreferenceCreate)(void **ret);
    int32_t (*MatmulPreferenceDestroy)(void *preference);
    int32_t (*MatmulPreferenceSetAttribute)(void *preference, int32_t attribute, const void *value,
                                            size_t size);
    int32_t (*MatmulAlgoGetHeuristic)(void *handle, void *desc, void *a, void *b, void *c, void *d,
                                      void *preference, int wanted, struct blas_proposal *ret,
                                      int *ret_len);
    int32_t (*MatmulAlgoCheck)(void *handle, void *desc, void *a, void *b, void *c, void *d,
                               const struct blas_algo *algo, struct blas_proposal *ret);
    int32_t (*MatmulAlgoConfigGetAttribute)(const struct blas_algo *algo, int32_t attribute,
                                            void *value, size_t size, size_t *ret_written);
    /* d = alpha op(a) op(b) + beta c, in the queue `stream` */
    int32_t (*Matmul)(void *handle, void *desc, const void *alpha, const void *a, void *a_layout,
                      const void *b, void *b_layout, const void *beta, const void *c,
                      void *c_layout, void *d, void *d_layout, const struct blas_algo *algo,
                      void *workspace, size_t workspace_bytes, void *stream);
};

/* Looks all of them up. False: *ret_missing names the first that the library has not. */
bool blas_load(const struct library *library, struct blas *ret, const char **ret_missing);

#ifdef __cplusplus
}
#endif

#endif
