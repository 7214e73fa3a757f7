/* tuner.h: finds what each listed number of rows of one shape is run by (matmul.h). */
#ifndef MSERVE_KERNELS_CUDA_TUNER_H
#define MSERVE_KERNELS_CUDA_TUNER_H

#include "kernels/cuda/matmul_set.h"

/*
 * Fixes the class of one product and its choices, until the set's deadline by trying all there is,
 * after it by the class's own algorithm where that does. ERR_DEVICE: fp8 or int8 without a class, or
 * the gpu failed; ERR_MEMORY.
 */
enum err tune_one(struct matmul *matmul);

#endif
