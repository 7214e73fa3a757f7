/*
 * class.h: which bits a shape of weights has: those of one algorithm, found without a clock, so that
 * every worker with this kind of GPU and library finds the same.
 */
#ifndef MSERVE_KERNELS_CUDA_CLASS_H
#define MSERVE_KERNELS_CUDA_CLASS_H

#include "kernels/cuda/probe.h"

/*
 * The class is that of the library's first proposal for CLASS_ROWS rows without a workspace that
 * adds K up in one piece, is of the family preferred on this card (class.c) if there is such a one,
 * gives a row the same bits at every place, and gives the product. Afterwards probe->want has its
 * rows. False: there is none.
 */
bool class_find(struct probe *probe, const struct multiply *multiply, struct blas_algo *ret);

/* Whether an algorithm may stand for a class at all, whatever its bits on the data tried. */
bool class_allows(struct multiply_about about);

/* Whether the library proposes anything that could be a class. Nothing is run. */
bool class_likely(const struct multiply *multiply);

#endif
