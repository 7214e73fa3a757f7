/*
 * cpu_device.h: the fast backend on this machine's processors. `cpu` uses the best instruction set
 * that the machine has; the others are held to one, so that workers on different machines can give
 * the same tokens. Opening one that the machine does not run is refused.
 */
#ifndef MSERVE_KERNELS_CPU_CPU_DEVICE_H
#define MSERVE_KERNELS_CPU_CPU_DEVICE_H

#include "kernels/ops.h"

extern const struct device_ops cpu_device, cpu_scalar_device, cpu_avx2_device, cpu_avx512_device;
extern const struct ops cpu_ops, cpu_scalar_ops, cpu_avx2_ops, cpu_avx512_ops;

#endif
