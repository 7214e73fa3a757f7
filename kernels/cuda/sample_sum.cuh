/*
 * sample_sum.cuh: sums of whole numbers over a block, and where a running sum passes a target: each
 * warp adds up its share, and the share in which it happens is shared out again.
 *
 * ITEMS is a struct with lane_sum(items, begin, end, lane): the sum of what one lane of 32 has of
 * items begin … end - 1; for begin, begin + 1 and lane 0 that is the item itself.
 */
#ifndef MSERVE_KERNELS_CUDA_SAMPLE_SUM_CUH
#define MSERVE_KERNELS_CUDA_SAMPLE_SUM_CUH

#include "kernels/cuda/simt.cuh"

static constexpr uint32_t WARPS_MAX = 16;

/* Who a thread is in its block, and where warps leave their sums. */
struct team {
    uint64_t (*sum)[WARPS_MAX]; /* [2], shared: taken in turn, so that one barrier does for a sum */
    uint32_t turn;              /* which is written next */
    uint32_t warps, warp, lane;
};

/* Before the block's first barrier. Sums of warps that it does not have are 0. */
DEVICE struct team team_of(uint64_t (*sum)[WARPS_MAX])
{
    struct team team = {sum, 0, blockDim.x / 32, threadIdx.x / 32, threadIdx.x % 32};

    if (threadIdx.x >= team.warps && threadIdx.x < WARPS_MAX)
        sum[0][threadIdx.x] = sum[1][threadIdx.x] = 0;
    return team;
}

/* The sum of all threads' values; those of the warps stay in sum[turn ^ 1]. */
DEVICE uint64_t add_up(struct team *team, uint64_t value)
{
    uint64_t *sum = team->sum[team->turn];
    uint64_t total = 0;

    UNROLL
    for (uint32_t mask = 16; mask > 0; mask /= 2)
        value += lane_xor(value, mask);
    if (team->lane == 0)
        sum[team->warp] = value;
    block_sync();
    UNROLL
    for (uint32_t warp = 0; warp < WARPS_MAX; warp++)
        total += sum[warp];
    team->turn ^= 1;
    return total;
}

DEVICE uint64_t greatest(struct team *team, uint64_t value)
{
    uint64_t *sum = team->sum[team->turn];

    UNROLL
    for (uint32_t mask = 16; mask > 0; mask /= 2) {
        uint64_t other = lane_xor(value, mask);

        value = other > value ? other : value;
    }
    if (team->lane == 0)
        sum[team->warp] = value;
    block_sync();
    UNROLL
    for (uint32_t warp = 0; warp < WARPS_MAX; warp++)
        value = sum[warp] > value ? sum[warp] : value;
    team->turn ^= 1;
    return value;
}

/* How many of `len` items a warp has, so that its reads begin where those of a warp may. */
DEVICE uint32_t share_of(const struct team *team, uint32_t len)
{
    return (len + team->warps * 32 - 1) / (team->warps * 32) * 32;
}

/* The sum of items begin … end - 1, each warp's share apart: find() goes on from there. */
template <class ITEMS>
DEVICE uint64_t measure(struct team *team, const ITEMS *items, uint32_t begin, uint32_t end)
{
    uint32_t share = share_of(team, end - begin);
    uint32_t from = begin + team->warp * share;
    uint32_t to = end - begin < (team->warp + 1) * share ? end : from + share;

    return add_up(team, from < to ? lane_sum(items, from, to, team->lane) : 0);
}

struct spot {
    uint32_t item;
    uint64_t before; /* the sum of those before it */
};

/* Among 32 items or fewer, by each warp for itself. */
template <class ITEMS>
DEVICE struct spot find_near(const struct team *team, const ITEMS *items, uint32_t begin,
                             uint32_t end, uint64_t before, uint64_t target)
{
    uint32_t item = begin + team->lane;
    uint64_t own = item < end ? lane_sum(items, item, item + 1, 0) : 0;
    uint64_t upto = own;
    uint32_t beyond, lane = 0;
    struct spot spot;

    UNROLL
    for (uint32_t step = 1; step < 32; step *= 2) {
        uint64_t other = lane_from(upto, team->lane >= step ? team->lane - step : team->lane);

        upto += team->lane >= step ? other : 0;
    }
    beyond = warp_ballot(before + upto > target);
    while (begin + lane + 1 < end && (beyond >> lane & 1) == 0)
        lane++;
    spot.item = begin + lane;
    spot.before = before + lane_from(upto - own, lane);
    return spot;
}

/*
 * The first of items begin … end - 1 up to which their running sum is above `target`, known to all
 * threads. Their sums have just been taken by measure(); each round leaves one warp's share.
 */
template <class ITEMS>
DEVICE struct spot find(struct team *team, const ITEMS *items, uint32_t begin, uint32_t end,
                        uint64_t target)
{
    uint64_t before = 0;

    for (;;) {
        const uint64_t *sum = team->sum[team->turn ^ 1];
        uint32_t share = share_of(team, end - begin);
        uint32_t warp = 0;

        while (warp + 1 < team->warps && before + sum[warp] <= target)
            before += sum[warp++];
        begin += warp * share;
        end = end - begin > share ? begin + share : end;
        if (end - begin <= 32)
            return find_near(team, items, begin, end, before, target);
        measure(team, items, begin, end);
    }
}

#endif
