/* emu_kernels.h: small kernels, most of them wrong, that the emulation itself is tested with. */
#ifndef MSERVE_TESTS_EMU_KERNELS_H
#define MSERVE_TESTS_EMU_KERNELS_H

#include "kernels/cuda/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Blocks of 64 threads; `out` and `in` are of 64 words, or what the comment says. */
enum trial {
    /* These are wrong, and end the process. */
    TRIAL_MISSING_WARP,      /* a barrier that the second warp never reaches */
    TRIAL_TWO_BARRIERS,      /* each warp waits at one of its own */
    TRIAL_HALF_A_WARP_WAITS, /* a barrier for odd lanes */
    TRIAL_HALF_A_WARP_GIVES, /* an exchange of odd lanes */
    TRIAL_NO_SUCH_LANE,
    TRIAL_CROOKED_TILE, /* rows that are not aligned */
    TRIAL_CROOKED_COPY,
    TRIAL_CROOKED_LOAD,
    TRIAL_COPY_OUTSIDE, /* of shared memory */
    TRIAL_TILE_OUTSIDE,
    TRIAL_ADD_OUTSIDE,
    TRIAL_STORE_OUTSIDE,
    TRIAL_LOAD_OUTSIDE,       /* seen by AddressSanitizer alone */
    TRIAL_STORE_OVER_THE_END, /* of `out`, likewise */
    TRIAL_COPY_LEFT_ALONE,
    TRIAL_WARP_RACE, /* seen by ThreadSanitizer alone */
    TRIAL_DEATHS,

    /* These are as wrong, but go on; what they write shows it. */
    TRIAL_NO_BARRIER = TRIAL_DEATHS, /* out: what the other warp gave */
    TRIAL_WAIT_ONE_SHORT,            /* out: what was copied */
    TRIAL_COPY_TOO_SOON,             /* out: what was there before the copy */
    TRIAL_UNSET,                     /* out: fresh shared memory */

    /* And these are right. */
    TRIAL_ORDER,   /* out[128]: numbers of threads in the order in which they ran */
    TRIAL_ADD_ONE, /* to every word of out */
    TRIAL_HOLD,    /* until in[0], of the host's memory, is not 0 */
    TRIAL_COUNT
};

void trial_launch(struct gpu *gpu, enum trial trial, uint32_t *out, const uint32_t *in);

/* A launch that no card takes: so many threads, so much shared memory. */
void trial_launch_shape(struct gpu *gpu, uint32_t threads, size_t shared_bytes, uint32_t *out);

#ifdef __cplusplus
}
#endif

#endif
