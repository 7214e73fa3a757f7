/*
 * choices.h: what was chosen for products on this kind of GPU, kept on the disk, so that a worker that
 * starts again need not try everything again. A choice is a hint: whoever takes one checks its bits.
 *
 * FILE FORMAT one text file for each GPU name, driver and library, `matmul-<16 digits>.txt`:
 *   mserve-matmul 1
 *   key <all that a choice is good for>
 *   <outputs> <inputs> <weight> <out> <fast> <rows> <class> <algorithm> <ms> <free ms> <tried> <admitted>
 *   …
 *   end <SHA-256 of all lines before>
 * It is written beside and renamed, so a reader sees all of it or the one before. What is damaged or
 * of another key is left aside, with one warning. One thread.
 */
#ifndef MSERVE_KERNELS_CUDA_CHOICES_H
#define MSERVE_KERNELS_CUDA_CHOICES_H

#include "config/sha256.h"
#include "kernels/cuda/blas.h"

#include <stdint.h>

struct choices;

struct choice_record {
    uint32_t outputs, inputs, weight, out, fast, rows;
    uint8_t class_hash[SHA256_BYTES];
    struct blas_algo algo;
    float ms, free_ms;
    uint32_t tried, admitted;
};

/*
 * Reads what there is. `folder`: NULL is $MSERVE_CACHE, else mserve in $XDG_CACHE_HOME or ~/.cache.
 * Never fails: without a folder, nothing is found and nothing kept. `key` is copied; one line.
 */
struct choices *choices_open(const char *folder, const char *key);

/* The record of that shape, rows and class; NULL: none. Valid until the next put. */
const struct choice_record *choices_find(const struct choices *choices,
                                         const struct choice_record *like);

/* Copies; replaces the one of the same shape and rows. */
void choices_put(struct choices *choices, const struct choice_record *record);

/* Writes if anything was put; what fails is warned of. Then frees; NULL is allowed. */
void choices_close(struct choices *choices);

#endif
