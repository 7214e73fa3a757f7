/*
 * module.h: finds and opens the shared objects that have the face of gpu.h: mserve-cuda.so and
 * mserve-cuda-emu.so. Each is looked for once in the life of a process, and stays loaded.
 *
 * Looked for, in this order:
 *   - the file that the environment variable MSERVE_GPU_MODULE names, if it is of that name
 *   - beside the running program, then in kernels/cuda of each folder above it (a build)
 *   - <libdir>/mserve, where it is installed
 */
#ifndef MSERVE_KERNELS_CUDA_MODULE_H
#define MSERVE_KERNELS_CUDA_MODULE_H

#include "kernels/cuda/gpu.h"

/*
 * `name`: "cuda" or "cuda-emu". NULL when there is none that works; *ret_why then says why in one
 * sentence. Both live as long as the process. Any thread may call it.
 */
const struct gpu_module *module_open(const char *name, const char **ret_why);

/*
 * The same of one file, without looking anywhere else, and not remembered. `why` has room for
 * MODULE_WHY_SIZE bytes.
 */
enum { MODULE_WHY_SIZE = 512 };
const struct gpu_module *module_load(const char *path, char *why);

#endif
