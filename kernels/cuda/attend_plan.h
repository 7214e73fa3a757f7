/*
 * attend_plan.h: what attention works on in a step: which parts of which contexts, for which rows.
 * The host writes it into one image, the device reads it there; the same for prefill, decode, and
 * rows that share the beginning of their contexts.
 *
 * A context is cut into splits of ATTEND_SPLIT positions, from position 0, whatever the step reads
 * of it. A split is summed up on its own, starting from nothing, and splits are folded from left to
 * right, so a row's result depends on the positions alone. Rows of different sequences that name
 * the same blocks for a whole split read it together (cascade): they are rows of one matrix then.
 */
#ifndef MSERVE_KERNELS_CUDA_ATTEND_PLAN_H
#define MSERVE_KERNELS_CUDA_ATTEND_PLAN_H

#include "kernels/cuda/attend_image.h"
#include "kernels/device.h"

#include <stddef.h>

struct attend_planner;

struct attend_shape {
    uint32_t heads, kv_heads, head_dim;
    struct device_limits limits;
    bool cascade; /* rows that share whole splits read them together */
};

struct attend_planner *attend_planner_new(const struct attend_shape *shape);
void attend_planner_free(struct attend_planner *planner); /* NULL is allowed */

/* Bytes that an image can have at most, and those of the partial results that its kernels leave. */
size_t attend_image_bytes(const struct attend_shape *shape);
size_t attend_part_bytes(const struct attend_shape *shape);

/*
 * Writes the image of a step at `image` (host memory, aligned to 16 bytes); returns its bytes.
 * *ret_kinds: which kernels have something to do (enum attend_kind). A graph of attention is good
 * for any step whose kinds are among those it was recorded for: without work a kernel ends at once.
 *
 * Costs the host time proportional to rows and splits: 35 us for 512 sequences that decode after
 * 1,000 tokens (AMD EPYC of the Zen 4 line under KVM, one thread; tests/unit/kernels/cuda/
 * test_attend_plan.c says what it is here).
 */
size_t attend_plan(struct attend_planner *planner, const struct step *step,
                   const struct slots *slots, void *image, uint32_t *ret_kinds);

#endif
