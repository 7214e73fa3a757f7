/*
 * library.h: finds shared libraries that are not ours, at run time: libcublasLt and NVML. A machine
 * without them runs all the same, so nothing is linked.
 *
 * Looked for in this order, the newest version first in each place:
 *   - what the GPU's module brings itself (gpu_module.symbol)
 *   - the file or folder that the environment variable names; if it is set, nowhere else
 *   - the loader's path
 *   - a CUDA Toolkit: $CUDA_HOME, then /usr/local/cuda*
 *   - beside an installed PyTorch: in the site-packages of the python3s of $VIRTUAL_ENV,
 *     $CONDA_PREFIX, $HOME/.local and the system. No python is started
 */
#ifndef MSERVE_KERNELS_CUDA_LIBRARY_H
#define MSERVE_KERNELS_CUDA_LIBRARY_H

#include "kernels/cuda/gpu.h"

#include <stdbool.h>
#include <stddef.h>

enum { LIBRARY_PATH_SIZE = 512, LIBRARY_WHY_SIZE = 768 };

/* What is looked for. */
struct library_kind {
    const char *name;     /* for people: "libcublasLt" */
    const char *variable; /* of the environment, or NULL */
    const char *files[4]; /* best first, NULL ends it */
    const char *probe;    /* a function that it must have */
    bool everywhere;      /* false: only where the variable says and in the loader's path */
};

extern const struct library_kind library_cublaslt, library_nvml;

struct library {
    const struct gpu_module *module; /* the one that brings it, or NULL */
    void *handle;                    /* dlopen's, or NULL */
    char path[LIBRARY_PATH_SIZE];    /* where it came from, for people */
};

/*
 * False when there is none: `why` then is one sentence that says where was looked. `module` may be
 * NULL. Only the module called "cuda" works with what lies on this machine; any other brings its own
 * or has none.
 */
bool library_open(const struct library_kind *kind, const struct gpu_module *module,
                  struct library *ret, char why[LIBRARY_WHY_SIZE]);

/* A function by its C name, NULL: it has none. */
void *library_symbol(const struct library *library, const char *name);

void library_close(struct library *library);

#endif
