/*
 * cost.h: one step's device time, split over its sequences to the nanosecond.
 *
 *     share = fixed / n + linear * rows / R + attention * kv / K + head * wanted / W
 *
 * where kv counts the KV tokens that a sequence's rows touch, those of a chunk and those of a decode
 * each with the weight that the device gives them: a decode reads them from memory for itself, the
 * rows of a chunk share what was read. A part that nobody takes (a head where nothing is wanted)
 * goes to the fixed part. Prices are fixed-point numbers, so one division a part and none a
 * sequence; the nanoseconds that rounding down leaves over go one each to the largest fractions,
 * among equals to the lowest index. So the shares add up exactly, nobody who does less than another
 * of its kind pays more than it, and equal work pays the same but for one nanosecond.
 */
#ifndef MSERVE_KERNELS_CORE_COST_H
#define MSERVE_KERNELS_CORE_COST_H

#include "kernels/device.h"

#include <stdint.h>

/* The work of a step's sequences, an entry each, and its sums, which the step plan has anyway. */
struct cost_work {
    uint32_t sequences;
    uint32_t plain;        /* the first of them have one row each, and it is wanted */
    const uint32_t *rows;  /* >= 1 */
    const uint32_t *ctx;   /* tokens in the KV cache before the step */
    const uint8_t *wanted; /* 1: its last row is sampled or pooled */
    uint64_t rows_sum;
    uint64_t kv_sum;                     /* of cost_kv(), each with its weight */
    uint16_t plain_weight, chunk_weight; /* of a KV token that a plain entry, another one touches */
    uint64_t wanted_sum;
};

/* Room for the fractions of a step of `sequences_max`. */
struct cost_scratch {
    uint32_t *fraction;
    uint32_t *candidate;
};

void cost_scratch_init(struct cost_scratch *scratch, uint32_t sequences_max);
void cost_scratch_release(struct cost_scratch *scratch);

/* `rows` rows after `ctx` tokens attend to ctx + 1, ctx + 2, … tokens. */
static inline uint64_t cost_kv(uint32_t rows, uint32_t ctx)
{
    return (uint64_t)rows * ctx + (uint64_t)rows * ((uint64_t)rows + 1) / 2;
}

/* Fills ret_ns[sequences]; its sum is the sum of part_ns, which is below 2^62. */
void cost_split(const uint64_t part_ns[PART_COUNT], const struct cost_work *work,
                struct cost_scratch *scratch, uint64_t *ret_ns);

/*
 * Parts of a step of which only the whole was measured: shares in parts per million that sum to
 * 1,000,000. Rounding goes to the fixed part.
 */
void cost_parts(uint64_t total_ns, const uint32_t share_ppm[PART_COUNT],
                uint64_t ret_part_ns[PART_COUNT]);

#endif
