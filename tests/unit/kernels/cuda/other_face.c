/* other_face.c: a GPU module as an older or newer program would have it. */
#include "kernels/cuda/gpu.h"

const struct gpu_module *mserve_gpu_module(void);

const struct gpu_module *mserve_gpu_module(void)
{
    static const struct gpu_module module = {.face = GPU_FACE + 1, .name = "cuda"};

    return &module;
}
