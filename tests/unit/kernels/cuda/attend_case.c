/* attend_case.c: steps for tests of attention. */
#include "tests/unit/kernels/cuda/attend_case.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void *zeros(size_t len, size_t size)
{
    void *at = calloc(len + 1, size);

    if (at == NULL)
        abort();
    return at;
}

struct attend_case *attend_case_new(const struct attend_shape *shape, uint32_t seed)
{
    const struct device_limits *limits = &shape->limits;
    struct attend_case *at = zeros(1, sizeof(*at));

    at->shape = *shape;
    at->step.seq_slot = zeros(limits->sequences_max, sizeof(uint32_t));
    at->step.seq_row = zeros(limits->sequences_max, sizeof(uint32_t));
    at->step.seq_rows = zeros(limits->sequences_max, sizeof(uint32_t));
    at->step.seq_ctx = zeros(limits->sequences_max, sizeof(uint32_t));
    at->slots.blocks_stride = (limits->context_max + ATTEND_PAGE - 1) / ATTEND_PAGE;
    at->slots.blocks =
        zeros((size_t)limits->sequences_max * at->slots.blocks_stride, sizeof(uint32_t));
    at->order = zeros(limits->blocks, sizeof(uint32_t));
    for (uint32_t i = 0; i < limits->blocks; i++) {
        uint32_t j;

        seed = seed * 1664525u + 1013904223u;
        j = (seed >> 8) % (i + 1);
        at->order[i] = at->order[j];
        at->order[j] = i;
    }
    return at;
}

void attend_case_free(struct attend_case *at)
{
    if (at == NULL)
        return;
    free(at->step.seq_slot);
    free(at->step.seq_row);
    free(at->step.seq_rows);
    free(at->step.seq_ctx);
    free(at->slots.blocks);
    free(at->order);
    free(at);
}

const uint32_t *attend_case_blocks(const struct attend_case *at, uint32_t sequence)
{
    return at->slots.blocks + (size_t)at->step.seq_slot[sequence] * at->slots.blocks_stride;
}

uint32_t attend_case_add(struct attend_case *at, uint32_t context, uint32_t rows, uint32_t like,
                         uint32_t shared)
{
    uint32_t s = at->step.sequences++;
    uint32_t len = (context + rows + ATTEND_PAGE - 1) / ATTEND_PAGE;
    uint32_t *blocks = at->slots.blocks + (size_t)s * at->slots.blocks_stride;

    assert(s < at->shape.limits.sequences_max && len <= at->slots.blocks_stride);
    assert(at->step.rows + rows <= at->shape.limits.rows_max && shared <= len);
    if (shared > 0)
        memcpy(blocks, attend_case_blocks(at, like), shared * sizeof(*blocks));
    for (uint32_t i = shared; i < len; i++) {
        assert(at->blocks_len < at->shape.limits.blocks);
        blocks[i] = at->order[at->blocks_len++];
    }
    at->step.seq_slot[s] = s;
    at->step.seq_row[s] = at->step.rows;
    at->step.seq_rows[s] = rows;
    at->step.seq_ctx[s] = context;
    at->step.rows += rows;
    return s;
}
