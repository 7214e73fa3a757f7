/*
 * everywhere.h: what a function needs so that it may be called in a CUDA kernel as well as on the
 * host: one source for arithmetic that both sides must agree on. Plain C sees nothing of it.
 */
#ifndef MSERVE_KERNELS_EVERYWHERE_H
#define MSERVE_KERNELS_EVERYWHERE_H

#ifdef __CUDACC__
#define EVERYWHERE __host__ __device__
#else
#define EVERYWHERE
#endif

#endif
