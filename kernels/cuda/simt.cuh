/*
 * simt.cuh: what kernels are written in: threads, warps, barriers, shared memory, matrix units and
 * asynchronous copies, under names of our own. Two headers implement it: simt_ptx.cuh for nvcc (the
 * instructions of the PTX ISA), emu/simt_host.cuh for the C++ compiler (a fiber for each thread).
 * Of CUDA itself a kernel uses threadIdx.x, blockIdx.x, blockDim.x and gridDim.x, which both have:
 * grids and blocks have one dimension. A block has whole warps, 1024 threads at most.
 *
 *   KERNEL(threads) void name(struct x_args args)   a kernel, in blocks of so many threads
 *   DEVICE                           before a function that kernels call
 *   LAUNCH(kernel, threads, gpu, grid, shared_bytes, args)   enqueues it; copies args; a template
 *                                    with a comma stands in parentheses: (attend<64, 2>)
 *   SHARED(type, name)               type *name = the block's shared memory (all of it is asked for
 *                                    at launch), aligned to 128 bytes
 *   UNROLL                           before a loop that is unrolled whole
 *
 *   block_sync()                     all threads of the block meet, and agree on memory
 *   warp_sync()                      the 32 of the warp do
 *   lane_xor(value, mask)            the value that lane (own ^ mask) gives: float, double,
 *                                    uint32_t, uint64_t
 *   lane_from(value, lane)           that of one lane
 *   warp_any(bool)  warp_ballot(bool)
 *   shared_add(at, value)            atomic, in shared memory: uint32_t, uint64_t; returns nothing
 *
 *   struct quad                      16 bytes, uint32_t word[4]
 *   load_16(from)  store_16(to, quad)   one access of 16 bytes, aligned to 16: global or shared
 *
 *   bf16_pair(low, high)             two floats as bf16, `low` in the low half
 *   bf16_low(pair)  bf16_high(pair)  and back, exact
 *   bf16_of(float)  bf16_value(uint16_t)
 *   fp8_pair(low, high)  fp8_low(pair)  fp8_high(pair)
 *                                    e4m3 in a uint16_t, saturating at 448
 *   exp2_fast(float)                 2^x by the hardware's approximation; 0 for -infinity
 *   bits_of(float)  float_of(uint32_t)
 *
 *   tile_load_4(out, row)            ldmatrix.x4: four tiles of 8 x 8 numbers of 16 bits; lane l
 *                                    names row l % 8 of tile l / 8, in shared memory, aligned to 16
 *                                    bytes. out: uint32_t[4]
 *   tile_load_4t(out, row)           the same, each tile transposed
 *   tile_multiply(c, a, b)           mma.sync m16n8k16: float c[4] += bf16 a[4] b[2]
 *
 *   copy_16(to, from, ok)            cp.async: 16 bytes into shared memory; zeros unless ok, then
 *                                    nothing is read
 *   copies_commit()                  closes a group of copies of this thread
 *   copies_wait<N>()                 until at most N of its groups are open; a barrier then shows
 *                                    what landed to other threads
 *
 * block_sync is reached by all threads of a block or none; warp_*, lane_*, tile_* by all of a warp,
 * at the same line of the source. A thread ends with no copy of its own under way.
 * Numbers are rounded to nearest, ties to even; subnormals stay. nvcc fuses nothing (-fmad=false):
 * what is to be fused says fmaf().
 */
#ifndef MSERVE_KERNELS_CUDA_SIMT_CUH
#define MSERVE_KERNELS_CUDA_SIMT_CUH

#include <math.h>
#include <stddef.h>
#include <stdint.h>

struct alignas(16) quad {
    uint32_t word[4];
};

#ifdef __CUDACC__
#include "kernels/cuda/simt_ptx.cuh"
#else
#include "kernels/cuda/emu/simt_host.cuh"
#endif

#endif
