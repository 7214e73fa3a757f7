/*
 * enqueue.cuh: what stands between LAUNCH (simt_ptx.cuh) and the queue of an NVIDIA GPU
 * (runtime.cu): one function, so that capture, faults and the limits of shared memory are dealt
 * with in one place.
 */
#ifndef MSERVE_KERNELS_CUDA_ENQUEUE_CUH
#define MSERVE_KERNELS_CUDA_ENQUEUE_CUH

#include "kernels/cuda/gpu.h"

struct launch_shape {
    const char *name;   /* the kernel's, for what is said of a fault; lives for ever */
    const void *kernel; /* the function, as cudaLaunchKernel wants it */
    uint32_t grid;      /* blocks; 0: nothing is launched */
    uint32_t threads;   /* of a block */
    size_t shared_bytes;
};

/* Enqueues one kernel. args: the addresses of its arguments, which are copied. */
void gpu_enqueue(struct gpu *gpu, const struct launch_shape *shape, void **args);

#endif
