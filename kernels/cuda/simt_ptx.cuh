/*
 * simt_ptx.cuh: the words of simt.cuh for nvcc. Matrix units, asynchronous copies and conversions
 * are instructions of the PTX ISA (its names stand beside each); their twins for the host are in
 * emu/simt_host.cuh.
 */
#ifndef MSERVE_KERNELS_CUDA_SIMT_PTX_CUH
#define MSERVE_KERNELS_CUDA_SIMT_PTX_CUH

#include "kernels/cuda/enqueue.cuh"

/* 1: a block a processor will do; without it ptxas spills to make room for more. */
#define KERNEL(threads) static __global__ __launch_bounds__(threads, 1)
#define DEVICE          static __device__ __forceinline__
#define UNROLL          _Pragma("unroll")
#define SHARED(type, name)                                                                         \
    extern __shared__ __align__(128) unsigned char simt_shared[];                                  \
    type *name = reinterpret_cast<type *>(simt_shared)
#define LAUNCH(kernel, threads, gpu, grid, shared_bytes, args)                                     \
    simt_launch(gpu, #kernel, kernel, threads, grid, shared_bytes, args)

template <class A>
static inline void simt_launch(struct gpu *gpu, const char *name, void (*kernel)(A),
                               uint32_t threads, uint32_t grid, size_t shared_bytes, A args)
{
    struct launch_shape shape = {name, reinterpret_cast<const void *>(kernel), grid, threads,
                                 shared_bytes};
    void *list[] = {&args};

    static_assert(sizeof(A) <= 4096, "what a kernel is given has 4 KiB at most");
    gpu_enqueue(gpu, &shape, list);
}

/* ---- threads that meet ---- */

DEVICE void block_sync()
{
    __syncthreads();
}

DEVICE void warp_sync()
{
    __syncwarp();
}

DEVICE float lane_xor(float value, uint32_t mask)
{
    return __shfl_xor_sync(~0u, value, static_cast<int>(mask));
}

DEVICE double lane_xor(double value, uint32_t mask)
{
    return __shfl_xor_sync(~0u, value, static_cast<int>(mask));
}

DEVICE uint32_t lane_xor(uint32_t value, uint32_t mask)
{
    return __shfl_xor_sync(~0u, value, static_cast<int>(mask));
}

DEVICE uint64_t lane_xor(uint64_t value, uint32_t mask)
{
    return __shfl_xor_sync(~0u, value, static_cast<int>(mask));
}

DEVICE float lane_from(float value, uint32_t lane)
{
    return __shfl_sync(~0u, value, static_cast<int>(lane));
}

DEVICE double lane_from(double value, uint32_t lane)
{
    return __shfl_sync(~0u, value, static_cast<int>(lane));
}

DEVICE uint32_t lane_from(uint32_t value, uint32_t lane)
{
    return __shfl_sync(~0u, value, static_cast<int>(lane));
}

DEVICE uint64_t lane_from(uint64_t value, uint32_t lane)
{
    return __shfl_sync(~0u, value, static_cast<int>(lane));
}

DEVICE bool warp_any(bool value)
{
    return __any_sync(~0u, value);
}

DEVICE uint32_t warp_ballot(bool value)
{
    return __ballot_sync(~0u, value);
}

/* ---- memory ---- */

DEVICE uint32_t simt_shared_address(const void *at)
{
    return static_cast<uint32_t>(__cvta_generic_to_shared(at));
}

/* red.shared.add */
DEVICE void shared_add(uint32_t *at, uint32_t value)
{
    asm volatile("red.shared.add.u32 [%0], %1;" ::"r"(simt_shared_address(at)), "r"(value)
                 : "memory");
}

DEVICE void shared_add(uint64_t *at, uint64_t value)
{
    asm volatile("red.shared.add.u64 [%0], %1;" ::"r"(simt_shared_address(at)), "l"(value)
                 : "memory");
}

DEVICE struct quad load_16(const void *from)
{
    uint4 seen = *static_cast<const uint4 *>(from);
    struct quad value = {{seen.x, seen.y, seen.z, seen.w}};

    return value;
}

DEVICE void store_16(void *to, struct quad value)
{
    *static_cast<uint4 *>(to) =
        make_uint4(value.word[0], value.word[1], value.word[2], value.word[3]);
}

/* cp.async: the last operand is how many bytes are read, the rest is zeros. */
DEVICE void copy_16(void *to, const void *from, bool ok)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(simt_shared_address(to)),
                 "l"(from), "r"(ok ? 16u : 0u)
                 : "memory");
}

DEVICE void copies_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int N> DEVICE void copies_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* ---- numbers ---- */

DEVICE uint32_t bits_of(float value)
{
    return __float_as_uint(value);
}

DEVICE float float_of(uint32_t bits)
{
    return __uint_as_float(bits);
}

#include "kernels/cuda/fp8.cuh"

/* cvt.rn.bf16x2.f32: its first source becomes the high half. */
DEVICE uint32_t bf16_pair(float low, float high)
{
    uint32_t pair;

    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

DEVICE float bf16_low(uint32_t pair)
{
    return __uint_as_float(pair << 16);
}

DEVICE float bf16_high(uint32_t pair)
{
    return __uint_as_float(pair & 0xffff0000u);
}

DEVICE uint16_t bf16_of(float value)
{
    uint16_t number;

    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(number) : "f"(value));
    return number;
}

DEVICE float bf16_value(uint16_t number)
{
    return __uint_as_float(static_cast<uint32_t>(number) << 16);
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
/* cvt.rn.satfinite.e4m3x2.f32, and back by way of halves, which hold every e4m3 */
DEVICE uint16_t fp8_pair(float low, float high)
{
    uint16_t pair;

    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
    return pair;
}

DEVICE float fp8_low(uint16_t pair)
{
    float value;

    asm("{ .reg .b32 both; .reg .b16 low, high; cvt.rn.f16x2.e4m3x2 both, %1;"
        " mov.b32 {low, high}, both; cvt.f32.f16 %0, low; }"
        : "=f"(value)
        : "h"(pair));
    return value;
}

DEVICE float fp8_high(uint16_t pair)
{
    float value;

    asm("{ .reg .b32 both; .reg .b16 low, high; cvt.rn.f16x2.e4m3x2 both, %1;"
        " mov.b32 {low, high}, both; cvt.f32.f16 %0, high; }"
        : "=f"(value)
        : "h"(pair));
    return value;
}
#else
DEVICE uint16_t fp8_pair(float low, float high)
{
    return static_cast<uint16_t>(fp8_encode(low) | fp8_encode(high) << 8);
}

DEVICE float fp8_low(uint16_t pair)
{
    return fp8_decode(pair);
}

DEVICE float fp8_high(uint16_t pair)
{
    return fp8_decode(static_cast<uint32_t>(pair) >> 8);
}
#endif

DEVICE float exp2_fast(float value)
{
    float power;

    asm("ex2.approx.f32 %0, %1;" : "=f"(power) : "f"(value));
    return power;
}

/* ---- tiles ---- */

DEVICE void tile_load_4(uint32_t out[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(simt_shared_address(row))
                 : "memory");
}

DEVICE void tile_load_4t(uint32_t out[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(simt_shared_address(row))
                 : "memory");
}

DEVICE void tile_multiply(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif
