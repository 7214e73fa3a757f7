/*
 * sample.h: one token from one row of logits. Shared by the backends whose sampling runs on a CPU.
 *
 * temperature 0 takes the highest logit. Otherwise, with weights e^((logit - highest) / temperature),
 * filters apply in this order: min_p drops what weighs less than min_p times the highest, top_k keeps
 * the k heaviest, top_p keeps the fewest heaviest that reach this part of what is left. One uniform
 * number (philox.h, counter: position, choice, draw 0) then picks along the running sum.
 * Ties go to the lowest id everywhere, sums have one order: equal arguments, equal token.
 */
#ifndef MSERVE_KERNELS_SAMPLE_H
#define MSERVE_KERNELS_SAMPLE_H

#include "kernels/engine.h"

#include <stdbool.h>
#include <stdint.h>

/* True when all are finite. */
bool sample_finite(const float *logits, uint32_t vocab);

/* Index of the highest; the lowest index among equals. */
uint32_t sample_greedy(const float *logits, uint32_t vocab);

/* The loops over a whole vocabulary, for a backend that has faster ones: to the bit the same. */
struct sample_loops {
    bool (*finite)(const float *logits, uint32_t vocab);
    uint32_t (*greedy)(const float *logits, uint32_t vocab);
    /* weight = e^((logit - highest) / temperature); 0 where the quotient leaves float's range. */
    void (*weigh)(const float *logits, uint32_t vocab, float highest, float temperature,
                  float *weight);
    float (*logprob)(const float *logits, uint32_t vocab, uint32_t id);
};

extern const struct sample_loops sample_plain;

/* What sample_token() needs beside the logits. */
struct sample_scratch {
    float *weight;                    /* [vocab] */
    uint32_t *heap;                   /* [vocab] */
    const struct sample_loops *loops; /* NULL: sample_plain */
};

/*
 * The token at `position` (the one it will have). `logits` must be finite, vocab >= 1. Values out of
 * range in `sampling` count as off: temperature <= 0 is greedy, top_p outside (0, 1), min_p <= 0.
 */
uint32_t sample_token(const float *logits, uint32_t vocab, const struct engine_sampling *sampling,
                      uint32_t position, const struct sample_scratch *scratch);

/*
 * ln(e^logits[id] / sum of e^logits), at most 0: in double but for the exponentials. Id i is added to
 * sum i mod 16, in the order of ids, and the sums from the first to the last. `logits` are finite.
 */
float sample_logprob(const float *logits, uint32_t vocab, uint32_t id);

#endif
