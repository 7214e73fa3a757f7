/* The calls of cuBLASLt, in the order in which its reference asks for them. */
#include "kernels/cuda/multiply.h"

#include <string.h>

/* Buffers are aligned to 256; a part of one begins at a multiple of 16 rows. */
enum { ALIGNMENT = 16 };

static int32_t blas_type(enum number type)
{
    static const int32_t types[NUMBER_COUNT] = {
        [NUMBER_F32] = BLAS_F32,   [NUMBER_BF16] = BLAS_BF16,   [NUMBER_FP8] = BLAS_FP8,
        [NUMBER_INT8] = BLAS_INT8, [NUMBER_INT32] = BLAS_INT32,
    };

    return types[type];
}

size_t number_bytes(enum number type)
{
    switch (type) {
    case NUMBER_BF16:
        return 2;
    case NUMBER_FP8:
    case NUMBER_INT8:
        return 1;
    default:
        return 4;
    }
}

static bool describe_fp8(const struct multiply *multiply)
{
    const struct blas *blas = &multiply->library->blas;
    int32_t mode = BLAS_SCALE_OUTER_VEC;
    int8_t fast = multiply->library->fast_accumulate;
    /* Proposals look at whether there are scales and how they are aligned, not at what is there. */
    const uintptr_t somewhere = 4096;

    return !blas->MatmulDescSetAttribute(multiply->desc, BLAS_DESC_A_SCALE_POINTER, &somewhere,
                                         sizeof(somewhere)) &&
           !blas->MatmulDescSetAttribute(multiply->desc, BLAS_DESC_B_SCALE_POINTER, &somewhere,
                                         sizeof(somewhere)) &&
           !blas->MatmulDescSetAttribute(multiply->desc, BLAS_DESC_A_SCALE_MODE, &mode,
                                         sizeof(mode)) &&
           !blas->MatmulDescSetAttribute(multiply->desc, BLAS_DESC_B_SCALE_MODE, &mode,
                                         sizeof(mode)) &&
           !blas->MatmulDescSetAttribute(multiply->desc, BLAS_DESC_FAST_ACCUM, &fast, sizeof(fast));
}

bool multiply_open(const struct multiply_library *library, const struct matmul_shape *shape,
                   struct multiply *ret)
{
    const struct blas *blas = &library->blas;
    bool whole = shape->weight == NUMBER_INT8;
    int32_t transposed = BLAS_OP_T, plain = BLAS_OP_N;

    *ret = (struct multiply){.library = library, .shape = *shape};
    return !blas->MatmulDescCreate(&ret->desc, whole ? BLAS_COMPUTE_32I : BLAS_COMPUTE_32F,
                                   whole ? BLAS_INT32 : BLAS_F32) &&
           !blas->MatmulDescSetAttribute(ret->desc, BLAS_DESC_TRANSA, &transposed,
                                         sizeof(transposed)) &&
           !blas->MatmulDescSetAttribute(ret->desc, BLAS_DESC_TRANSB, &plain, sizeof(plain)) &&
           (shape->weight != NUMBER_FP8 || describe_fp8(ret)) &&
           !blas->MatrixLayoutCreate(&ret->weight, blas_type(shape->weight), shape->inputs,
                                     shape->outputs, shape->inputs);
}

void multiply_close(struct multiply *multiply)
{
    const struct blas *blas = multiply->library ? &multiply->library->blas : NULL;

    if (multiply->weight)
        blas->MatrixLayoutDestroy(multiply->weight);
    if (multiply->desc)
        blas->MatmulDescDestroy(multiply->desc);
    memset(multiply, 0, sizeof(*multiply));
}

bool multiply_rows_open(const struct multiply *multiply, uint32_t rows, struct multiply_rows *ret)
{
    const struct blas *blas = &multiply->library->blas;
    const struct matmul_shape *shape = &multiply->shape;

    *ret = (struct multiply_rows){.rows = rows};
    return !blas->MatrixLayoutCreate(&ret->in, blas_type(shape->weight), shape->inputs, rows,
                                     shape->inputs) &&
           !blas->MatrixLayoutCreate(&ret->out, blas_type(shape->out), shape->outputs, rows,
                                     shape->outputs);
}

void multiply_rows_close(const struct multiply *multiply, struct multiply_rows *rows)
{
    if (rows->in)
        multiply->library->blas.MatrixLayoutDestroy(rows->in);
    if (rows->out)
        multiply->library->blas.MatrixLayoutDestroy(rows->out);
    memset(rows, 0, sizeof(*rows));
}

static void *preference_new(const struct blas *blas, size_t workspace_bytes)
{
    const uint64_t workspace = workspace_bytes;
    const uint32_t none = BLAS_REDUCTION_NONE, alignment = ALIGNMENT;
    void *preference = NULL;
    bool good;

    if (blas->MatmulPreferenceCreate(&preference))
        return NULL;
    good = !blas->MatmulPreferenceSetAttribute(preference, BLAS_PREF_MAX_WORKSPACE, &workspace,
                                               sizeof(workspace));
    for (int32_t i = BLAS_PREF_MIN_ALIGNMENT_A; i <= BLAS_PREF_MIN_ALIGNMENT_D; i++)
        good = good &&
               !blas->MatmulPreferenceSetAttribute(preference, i, &alignment, sizeof(alignment));
    if (!workspace_bytes)
        good = good && !blas->MatmulPreferenceSetAttribute(preference, BLAS_PREF_REDUCTION_SCHEME,
                                                           &none, sizeof(none));
    if (good)
        return preference;
    blas->MatmulPreferenceDestroy(preference);
    return NULL;
}

uint32_t multiply_propose(const struct multiply *multiply, const struct multiply_rows *rows,
                          size_t workspace_bytes, uint32_t most, struct blas_proposal *ret)
{
    const struct blas *blas = &multiply->library->blas;
    void *preference = preference_new(blas, workspace_bytes);
    int len = 0;

    if (!preference)
        return 0;
    if (blas->MatmulAlgoGetHeuristic(multiply->library->handle, multiply->desc, multiply->weight,
                                     rows->in, rows->out, rows->out, preference, (int)most, ret,
                                     &len) ||
        len < 0)
        len = 0;
    blas->MatmulPreferenceDestroy(preference);
    return (uint32_t)len < most ? (uint32_t)len : most;
}

bool multiply_fits(const struct multiply *multiply, const struct multiply_rows *rows,
                   const struct blas_algo *algo)
{
    struct blas_proposal about = {0};

    return !multiply->library->blas.MatmulAlgoCheck(multiply->library->handle, multiply->desc,
                                                    multiply->weight, rows->in, rows->out,
                                                    rows->out, algo, &about) &&
           about.workspace_bytes == 0;
}

struct multiply_about multiply_describe(const struct multiply *multiply,
                                        const struct blas_algo *algo)
{
    const struct blas *blas = &multiply->library->blas;
    /* What cannot be asked stays at a value that is never admitted. */
    struct multiply_about about = {.id = -1, .split_k = -1, .reduction = UINT32_MAX};
    size_t written;

    blas->MatmulAlgoConfigGetAttribute(algo, BLAS_ALGO_ID, &about.id, sizeof(about.id), &written);
    blas->MatmulAlgoConfigGetAttribute(algo, BLAS_ALGO_SPLITK_NUM, &about.split_k,
                                       sizeof(about.split_k), &written);
    blas->MatmulAlgoConfigGetAttribute(algo, BLAS_ALGO_REDUCTION_SCHEME, &about.reduction,
                                       sizeof(about.reduction), &written);
    blas->MatmulAlgoConfigGetAttribute(algo, BLAS_ALGO_TILE, &about.tile, sizeof(about.tile),
                                       &written);
    blas->MatmulAlgoConfigGetAttribute(algo, BLAS_ALGO_STAGES, &about.stages, sizeof(about.stages),
                                       &written);
    return about;
}

int32_t multiply_run(const struct multiply *multiply, const struct multiply_rows *rows,
                     const struct blas_algo *algo, const struct multiply_call *call)
{
    static const float one = 1, zero = 0;
    static const int32_t whole_one = 1, whole_zero = 0;
    const struct blas *blas = &multiply->library->blas;
    bool whole = multiply->shape.weight == NUMBER_INT8;
    int32_t status = BLAS_SUCCESS;

    if (multiply->shape.weight == NUMBER_FP8) {
        status = blas->MatmulDescSetAttribute(multiply->desc, BLAS_DESC_A_SCALE_POINTER,
                                              &call->weight_scale, sizeof(call->weight_scale));
        if (!status)
            status = blas->MatmulDescSetAttribute(multiply->desc, BLAS_DESC_B_SCALE_POINTER,
                                                  &call->in_scale, sizeof(call->in_scale));
    }
    if (status)
        return status;
    return blas->Matmul(multiply->library->handle, multiply->desc,
                        whole ? (const void *)&whole_one : &one, call->weight, multiply->weight,
                        call->in, rows->in, whole ? (const void *)&whole_zero : &zero, call->out,
                        rows->out, call->out, rows->out, algo, call->workspace,
                        call->workspace_bytes, multiply->library->stream);
}
