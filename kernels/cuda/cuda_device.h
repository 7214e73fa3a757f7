/*
 * cuda_device.h: the backend on NVIDIA GPUs, and the same on a GPU that is emulated on the host, for
 * tests. `cuda` runs on `cpu` where this machine has no module, no card or no cuBLASLt; `cuda-emu` is
 * refused where its module was not built.
 */
#ifndef MSERVE_KERNELS_CUDA_CUDA_DEVICE_H
#define MSERVE_KERNELS_CUDA_CUDA_DEVICE_H

#include "kernels/ops.h"

extern const struct device_ops cuda_device, cuda_emu_device;

extern const struct ops cuda_emu_ops;

/*
 * For tests: the `len` numbers of a row of an activation, whose width that is, as floats. The card has
 * nothing else to do.
 */
void cuda_read(struct backend *backend, enum act act, uint32_t row, uint32_t len, float *ret);
void cuda_write(struct backend *backend, enum act act, uint32_t row, uint32_t len, const float *x);

#endif
