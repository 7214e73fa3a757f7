/*
 * naive.h: the llama architecture in doubles, one sequence at a time, without a cache: another way to
 * the same logits, to compare backends with. For F32 files.
 */
#ifndef MSERVE_TESTS_KERNELS_NAIVE_H
#define MSERVE_TESTS_KERNELS_NAIVE_H

#include "kernels/model/model.h"

/* Logits [len][V] and final hidden states [len][E] of the ids; either may be NULL. */
void naive_forward(const struct model *model, const uint32_t *ids, uint32_t len, double *logits,
                   double *hidden);

/* Sum of squared differences over the sum of squares of `want`. */
double naive_nmse(const double *want, const float *got, uint32_t len);

#endif
