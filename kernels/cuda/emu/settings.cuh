/*
 * settings.cuh: what MSERVE_EMU says of the emulated GPU: "seed=7,capability=89,memory_mib=64".
 * It is read once by each list() and open().
 *
 *   seed=N          chooses order and random numbers: N % 4 is fair, first, last, random
 *   order=          which warp, lane and block comes first: fair, first, last, random, or unfair:
 *                   one of the last three, by seed
 *   copies=         late: asynchronous copies land at their wait; early: at once
 *   capability=     80, 86, 89 or 90
 *   devices=N       0 to 64
 *   memory_mib=N    memory of each
 *   processors=N
 *   queue=          thread: a thread of its own works off what is enqueued; direct: the caller does
 *   fault_at=N      the N-th launch of a gpu fails, and it with it; 0: none
 *   nvml=PATH       what NVML says of the cards (nvml_emu.cc); without it they are well
 *   blas=           normal: some algorithms of cuBLASLt keep a row's bits; hostile: none of them
 *                   does; none: there is no such library (blas_emu.cc)
 *   blas_clock=N    products take times that are made up, from N; 0: the time they take
 */
#ifndef MSERVE_KERNELS_CUDA_EMU_SETTINGS_CUH
#define MSERVE_KERNELS_CUDA_EMU_SETTINGS_CUH

#include "kernels/cuda/emu/block.cuh"

enum emu_blas { EMU_BLAS_NORMAL, EMU_BLAS_NONE, EMU_BLAS_HOSTILE };

struct emu_settings {
    uint64_t seed, capability, devices, memory_mib, processors, fault_at, blas_clock;
    enum emu_blas blas;
    char nvml[256];
    enum schedule order;
    bool copies_late, direct;
};

/* False: *why says what is wrong with MSERVE_EMU; the words are the thread's until it asks
 * again. */
bool emu_settings_read(struct emu_settings *settings, const char **why);

#endif
