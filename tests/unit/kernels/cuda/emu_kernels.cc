/* emu_kernels.cc: what is wrong stands in emu_kernels.h. */
#include "emu_kernels.h"

#include <sched.h>

#include "kernels/cuda/simt.cuh"

enum { THREADS = 64 };

struct trial_args {
    uint32_t *out;
    const uint32_t *in;
};

#define TRIAL(name) KERNEL(THREADS) void name([[maybe_unused]] struct trial_args args)

TRIAL(missing_warp)
{
    if (threadIdx.x < 32)
        block_sync();
}

TRIAL(two_barriers)
{
    if (threadIdx.x < 32)
        block_sync();
    else
        block_sync();
}

TRIAL(half_a_warp_waits)
{
    if (threadIdx.x % 2 == 1)
        block_sync();
    block_sync();
}

TRIAL(half_a_warp_gives)
{
    if (threadIdx.x % 2 == 1)
        args.out[threadIdx.x] = lane_xor(threadIdx.x, 2);
}

TRIAL(no_such_lane)
{
    args.out[threadIdx.x] = lane_from(threadIdx.x, 32);
}

TRIAL(crooked_tile)
{
    SHARED(struct quad, shared);
    uint32_t tile[4];

    tile_load_4(tile, reinterpret_cast<uint32_t *>(shared + threadIdx.x % 4) + 1);
    args.out[threadIdx.x] = tile[0];
}

TRIAL(crooked_copy)
{
    SHARED(struct quad, shared);

    copy_16(&shared[threadIdx.x], args.in + 1, true);
    copies_commit();
    copies_wait<0>();
}

TRIAL(crooked_load)
{
    args.out[threadIdx.x] = load_16(args.in + threadIdx.x).word[0];
}

TRIAL(copy_outside)
{
    SHARED(struct quad, shared);

    copy_16(&shared[threadIdx.x + 1], args.in, true);
    copies_commit();
    copies_wait<0>();
}

TRIAL(tile_outside)
{
    SHARED(struct quad, shared);
    uint32_t tile[4];

    tile_load_4t(tile, &shared[threadIdx.x + 1]);
    args.out[threadIdx.x] = tile[0];
}

TRIAL(add_outside)
{
    shared_add(args.out, 1u);
}

TRIAL(store_outside)
{
    SHARED(uint32_t, shared);

    if (threadIdx.x == 0)
        static_cast<volatile uint32_t *>(shared)[THREADS * 4] = 0;
}

TRIAL(load_outside)
{
    SHARED(uint32_t, shared);

    args.out[threadIdx.x] = static_cast<volatile uint32_t *>(shared)[THREADS * 4 + threadIdx.x];
}

TRIAL(store_over_the_end)
{
    static_cast<volatile uint32_t *>(args.out)[threadIdx.x + 1] = 0;
}

TRIAL(copy_left_alone)
{
    SHARED(struct quad, shared);

    copy_16(&shared[threadIdx.x], args.in, true);
    copies_commit();
}

TRIAL(warp_race)
{
    SHARED(uint32_t, shared);

    shared[threadIdx.x] = threadIdx.x;
    args.out[threadIdx.x] = shared[threadIdx.x ^ 1];
}

TRIAL(no_barrier)
{
    SHARED(uint32_t, shared);

    shared[threadIdx.x] = threadIdx.x;
    warp_sync();
    args.out[threadIdx.x] = shared[threadIdx.x ^ 32];
}

TRIAL(wait_one_short)
{
    SHARED(struct quad, shared);

    copy_16(&shared[threadIdx.x], args.in, true);
    copies_commit();
    copies_wait<1>();
    args.out[threadIdx.x] = shared[threadIdx.x].word[0];
    copies_wait<0>();
}

TRIAL(copy_too_soon)
{
    SHARED(struct quad, shared);

    shared[threadIdx.x].word[0] = 77;
    copy_16(&shared[threadIdx.x], args.in, true);
    copies_commit();
    args.out[threadIdx.x] = shared[threadIdx.x].word[0];
    copies_wait<0>();
}

TRIAL(unset)
{
    SHARED(uint32_t, shared);

    args.out[threadIdx.x] = shared[threadIdx.x];
    shared[threadIdx.x] = 0; /* the next block is not to see it */
}

TRIAL(order)
{
    static uint32_t next;

    for (uint32_t half = 0; half < 2; half++) {
        uint32_t turn = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED) % (2 * THREADS);
        args.out[turn] = threadIdx.x;
        warp_sync();
    }
}

TRIAL(add_one)
{
    args.out[threadIdx.x]++;
}

TRIAL(hold)
{
    while (threadIdx.x == 0 && __atomic_load_n(args.in, __ATOMIC_ACQUIRE) == 0)
        sched_yield();
}

static void (*const trials[TRIAL_COUNT])(struct trial_args args) = {
    missing_warp,
    two_barriers,
    half_a_warp_waits,
    half_a_warp_gives,
    no_such_lane,
    crooked_tile,
    crooked_copy,
    crooked_load,
    copy_outside,
    tile_outside,
    add_outside,
    store_outside,
    load_outside,
    store_over_the_end,
    copy_left_alone,
    warp_race,
    no_barrier,
    wait_one_short,
    copy_too_soon,
    unset,
    order,
    add_one,
    hold,
};

void trial_launch(struct gpu *gpu, enum trial trial, uint32_t *out, const uint32_t *in)
{
    const struct trial_args args = {out, in};
    uint32_t grid = trial == TRIAL_UNSET ? 2 : 1;

    LAUNCH(trials[trial], THREADS, gpu, grid, THREADS * sizeof(struct quad), args);
}

void trial_launch_shape(struct gpu *gpu, uint32_t threads, size_t shared_bytes, uint32_t *out)
{
    const struct trial_args args = {out, nullptr};

    LAUNCH(add_one, threads, gpu, 1, shared_bytes, args);
}
