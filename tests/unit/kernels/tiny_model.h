/* tiny_model.h: a small random model that is read already, and random ids for it. */
#ifndef MSERVE_TESTS_KERNELS_TINY_MODEL_H
#define MSERVE_TESTS_KERNELS_TINY_MODEL_H

#include "kernels/model/model.h"
#include "tiny_gguf.h"

/* The model of `options`; *file are its bytes, which it needs and the caller releases after it. */
struct model *tiny_open(const struct tiny_options *options, struct buffer *file);

enum { TINY_VOCAB = 320 }; /* of a model that does not say otherwise */

/* `len` ids below TINY_VOCAB. */
void tiny_ids(uint32_t *ids, uint32_t len, uint64_t seed);

#endif
