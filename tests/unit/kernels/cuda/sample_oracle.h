/*
 * sample_oracle.h: what kernels/cuda/sample.cu must answer, worked out twice with a sort: with
 * whole numbers, as the kernel means it, down to the token; and with doubles, as kernels/sample.c
 * means it, for what is kept and how likely each token is.
 */
#ifndef MSERVE_TESTS_SAMPLE_ORACLE_H
#define MSERVE_TESTS_SAMPLE_ORACLE_H

#include "kernels/cuda/launch.h"

struct oracle_row {
    uint32_t vocab;
    const float *logits; /* finite */
    const struct sample_row *row;
    const uint32_t *mask; /* of this row, or NULL */
    const uint16_t *seen; /* of this row's slot, or NULL */
};

/* The logit after penalties. */
float oracle_penalised(const struct oracle_row *from, uint32_t id);

/* The highest that is allowed, the lowest id among equals; UINT32_MAX: none is. */
uint32_t oracle_greedy(const struct oracle_row *from);

/* The token, from integer masses; a temperature of 0 is greedy. */
uint32_t oracle_token(const struct oracle_row *from);

/* kept[id] = 1 when the filters leave it something to weigh: by integers, by doubles. */
void oracle_kept(const struct oracle_row *from, uint8_t *kept);

/* probability[id], by doubles; 0 for what is not kept. */
void oracle_distribution(const struct oracle_row *from, double *probability);

#endif
