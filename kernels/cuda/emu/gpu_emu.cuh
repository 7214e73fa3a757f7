/*
 * gpu_emu.cuh: what the emulation's own libraries (blas_emu.cc, nvml_emu.cc) need of a gpu. The
 * `stream` that stream() gives is the gpu itself.
 */
#ifndef MSERVE_KERNELS_CUDA_EMU_GPU_EMU_CUH
#define MSERVE_KERNELS_CUDA_EMU_GPU_EMU_CUH

#include "kernels/cuda/emu/settings.cuh"
#include "kernels/cuda/gpu.h"

/*
 * Enqueues run(gpu, copy of the `bytes` at `args`), as if it were a launch: it is recorded while
 * the gpu captures, counts for fault_at, and does not run after a fault. At most 4096 bytes,
 * aligned to 16. `name` lives for ever.
 */
void emu_enqueue(struct gpu *gpu, const char *name, void (*run)(struct gpu *gpu, const void *args),
                 const void *args, size_t bytes);

/* Makes the gpu faulty, unless it is: the sentence is what fault() says from now on. */
void emu_fault(struct gpu *gpu, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The card's clock goes forward by so much, at what is enqueued now. From a call being run
 * alone. */
void emu_spend(struct gpu *gpu, uint64_t ns);

const struct emu_settings *emu_settings_of(const struct gpu *gpu);

/* What list() says of a card, and the bytes that are taken of it by this process. */
void emu_describe(uint32_t index, const struct emu_settings *settings, struct gpu_about *about);
uint64_t emu_memory_taken(uint32_t index);

#endif
