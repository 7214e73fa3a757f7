/*
 * ref_device.h: the reference backend: readable C, one thread that works and others that help, f32.
 * The truth that faster backends are compared with, and a way to run without a GPU.
 */
#ifndef MSERVE_KERNELS_REF_REF_DEVICE_H
#define MSERVE_KERNELS_REF_REF_DEVICE_H

#include "kernels/ops.h"

extern const struct device_ops ref_device;
extern const struct ops ref_ops;

#endif
