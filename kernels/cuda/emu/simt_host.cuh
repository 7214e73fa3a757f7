/*
 * simt_host.cuh: the words of simt.cuh for the C++ compiler. A CUDA thread is a fiber (fibers.cuh);
 * a fiber goes on until it reaches a word that needs others, then another one does (block.cuh).
 * Every such word carries the line it stands in, so that threads that meet at different ones are
 * found. What a word does with memory is in simt_host.cc.
 */
#ifndef MSERVE_KERNELS_CUDA_EMU_SIMT_HOST_CUH
#define MSERVE_KERNELS_CUDA_EMU_SIMT_HOST_CUH

#include <string.h>

#include "kernels/cuda/gpu.h"

struct simt_index {
    uint32_t x;
};

/* What all threads of a block see alike. */
struct simt_place {
    struct simt_index block, threads, grid;
    void *shared;
};

/* What a thread sees; the beginning of the emulation's own record of it. */
struct simt_thread {
    struct simt_index index;
    const struct simt_place *place;
};

extern __thread struct simt_thread *simt_now __attribute__((tls_model("initial-exec")));

#define threadIdx (simt_now->index)
#define blockIdx  (simt_now->place->block)
#define blockDim  (simt_now->place->threads)
#define gridDim   (simt_now->place->grid)

#define KERNEL(threads) static
#define DEVICE          static inline
#define UNROLL
#define SHARED(type, name) type *name = static_cast<type *>(simt_now->place->shared)
#define LAUNCH(kernel, threads, gpu, grid, shared_bytes, args)                                     \
    simt_put(gpu, #kernel, kernel, threads, grid, shared_bytes, args)

/* A kernel that waits in the queue; a copy of its argument follows it there. */
struct simt_launch {
    const char *name;
    void (*enter)(void (*kernel)(void), const void *args);
    void (*kernel)(void);
    uint32_t threads, grid;
    size_t shared_bytes;
};

/* Enqueues it, or records it while the gpu captures. */
void simt_enqueue(struct gpu *gpu, const struct simt_launch *launch, const void *args,
                  size_t bytes);

template <class A> static void simt_enter(void (*kernel)(void), const void *args)
{
    reinterpret_cast<void (*)(A)>(kernel)(*static_cast<const A *>(args));
}

template <class A>
static inline void simt_put(struct gpu *gpu, const char *name, void (*kernel)(A), uint32_t threads,
                            uint32_t grid, size_t shared_bytes, const A &args)
{
    struct simt_launch launch = {name,    simt_enter<A>, reinterpret_cast<void (*)(void)>(kernel),
                                 threads, grid,          shared_bytes};

    static_assert(sizeof(A) <= 4096, "what a kernel is given has 4 KiB at most");
    static_assert(alignof(A) <= 16, "what a kernel is given is aligned to 16 bytes at most");
    simt_enqueue(gpu, &launch, &args, sizeof(A));
}

/* ---- words in simt_host.cc; `file` and `line` are those of the kernel ---- */

#define SIMT_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

void block_sync(SIMT_SITE);
void warp_sync(SIMT_SITE);
float lane_xor(float value, uint32_t mask, SIMT_SITE);
double lane_xor(double value, uint32_t mask, SIMT_SITE);
uint32_t lane_xor(uint32_t value, uint32_t mask, SIMT_SITE);
uint64_t lane_xor(uint64_t value, uint32_t mask, SIMT_SITE);
float lane_from(float value, uint32_t lane, SIMT_SITE);
double lane_from(double value, uint32_t lane, SIMT_SITE);
uint32_t lane_from(uint32_t value, uint32_t lane, SIMT_SITE);
uint64_t lane_from(uint64_t value, uint32_t lane, SIMT_SITE);
bool warp_any(bool value, SIMT_SITE);
uint32_t warp_ballot(bool value, SIMT_SITE);
void shared_add(uint32_t *at, uint32_t value, SIMT_SITE);
void shared_add(uint64_t *at, uint64_t value, SIMT_SITE);
struct quad load_16(const void *from, SIMT_SITE);
void store_16(void *to, struct quad value, SIMT_SITE);
void tile_load_4(uint32_t out[4], const void *row, SIMT_SITE);
void tile_load_4t(uint32_t out[4], const void *row, SIMT_SITE);
void tile_multiply(float c[4], const uint32_t a[4], const uint32_t b[2], SIMT_SITE);
void copy_16(void *to, const void *from, bool ok, SIMT_SITE);
void copies_commit();
void simt_copies_wait(uint32_t open);

template <int N> DEVICE void copies_wait()
{
    simt_copies_wait(N);
}

/* ---- numbers ---- */

DEVICE uint32_t bits_of(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

DEVICE float float_of(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

#include "kernels/cuda/fp8.cuh"

DEVICE uint16_t bf16_of(float value)
{
    uint32_t bits = bits_of(value);

    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return 0x7fff; /* as the instruction has it */
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

DEVICE float bf16_value(uint16_t number)
{
    return float_of(static_cast<uint32_t>(number) << 16);
}

DEVICE uint32_t bf16_pair(float low, float high)
{
    return bf16_of(low) | static_cast<uint32_t>(bf16_of(high)) << 16;
}

DEVICE float bf16_low(uint32_t pair)
{
    return float_of(pair << 16);
}

DEVICE float bf16_high(uint32_t pair)
{
    return float_of(pair & 0xffff0000u);
}

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

DEVICE float exp2_fast(float value)
{
    return exp2f(value);
}

#endif
