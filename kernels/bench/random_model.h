/*
 * random_model.h: GGUF files with random weights, of the shapes that speed depends on: what a model
 * knows changes nothing in how fast it runs. Same shape, type and seed, same bytes, on any machine.
 *
 * The vocabulary is a valid SentencePiece-type one: three control tokens, 256 bytes, then the words
 * a, b, …, z, aa, ab, …, each of which merges from the one before it and a letter.
 */
#ifndef MSERVE_KERNELS_BENCH_RANDOM_MODEL_H
#define MSERVE_KERNELS_BENCH_RANDOM_MODEL_H

#include "config/errors.h"
#include "kernels/model/tensor.h"

#include <stdint.h>

struct random_shape {
    const char *name;
    uint32_t embed;
    uint32_t layers;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t ff;
    uint32_t vocab;
    uint32_t context;
};

/* "tiny", "15m", "110m", "1.1b" or "8b"; NULL for any other. */
const struct random_shape *random_shape_find(const char *name);

/* Matrices are of `type`, norms are floats of 1. What could not be finished is removed. */
enum err random_model_write(const char *path, const struct random_shape *shape,
                            enum tensor_type type, uint64_t seed);

#endif
