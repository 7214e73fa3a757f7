/* One row a function: where its pointer goes in struct blas, and its name. */
#include "kernels/cuda/blas.h"

#include <string.h>

static const struct {
    size_t offset;
    const char *name;
} functions[] = {
#define FUNCTION(name)                                                                             \
    {                                                                                              \
        offsetof(struct blas, name), "cublasLt" #name                                              \
    }
    FUNCTION(Create),
    FUNCTION(Destroy),
    FUNCTION(GetVersion),
    FUNCTION(GetStatusString),
    FUNCTION(MatmulDescCreate),
    FUNCTION(MatmulDescDestroy),
    FUNCTION(MatmulDescSetAttribute),
    FUNCTION(MatrixLayoutCreate),
    FUNCTION(MatrixLayoutDestroy),
    FUNCTION(MatmulPreferenceCreate),
    FUNCTION(MatmulPreferenceDestroy),
    FUNCTION(MatmulPreferenceSetAttribute),
    FUNCTION(MatmulAlgoGetHeuristic),
    FUNCTION(MatmulAlgoCheck),
    FUNCTION(MatmulAlgoConfigGetAttribute),
    FUNCTION(Matmul),
#undef FUNCTION
};

_Static_assert(sizeof(struct blas_algo) == 64, "cublasLtMatmulAlgo_t");
_Static_assert(sizeof(struct blas_proposal) == 96, "cublasLtMatmulHeuristicResult_t");
_Static_assert(sizeof(functions) / sizeof(functions[0]) == sizeof(struct blas) / sizeof(void *),
               "every function of struct blas has its row");

bool blas_load(const struct library *library, struct blas *ret, const char **ret_missing)
{
    for (unsigned i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        void *at = library_symbol(library, functions[i].name);

        if (!at) {
            *ret_missing = functions[i].name;
            return false;
        }
        memcpy((char *)ret + functions[i].offset, &at, sizeof(at));
    }
    return true;
}
