/*
 * step.h: the arrays of device.h in plain memory: those of a step, of what was sampled by it, and of
 * the slots. For devices whose arrays are the host's own; each has one of these a step slot.
 */
#ifndef MSERVE_KERNELS_STEP_H
#define MSERVE_KERNELS_STEP_H

#include "kernels/device.h"

#include <stdint.h>

/* What struct step_result points to. */
struct sampled {
    uint32_t *token;  /* [sequences_max] */
    float *logprob;   /* [sequences_max] */
    uint8_t *bad;     /* [sequences_max] */
    float *embedding; /* [sequences_max][embedding_len] */
};

/* All zeros. Large ones take memory only as they are used. */
void step_init(struct step *step, const struct device_limits *limits);
void step_release(struct step *step);

void sampled_init(struct sampled *sampled, const struct device_limits *limits,
                  uint32_t embedding_len);
void sampled_release(struct sampled *sampled);

void slots_init(struct slots *slots, const struct device_limits *limits);
void slots_release(struct slots *slots);

/* Bytes of a step's arrays and of what was sampled by it. */
uint64_t step_bytes(const struct device_limits *limits, uint32_t embedding_len);

#endif
