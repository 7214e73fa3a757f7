/*
 * goldens.h: the reference results for stories260K.f32.gguf (made by llama.cpp, one JSON a line).
 */
#ifndef MSERVE_TESTS_KERNELS_GOLDENS_H
#define MSERVE_TESTS_KERNELS_GOLDENS_H

#include "config/buffer.h"

#include <stdint.h>

enum { GOLDENS_MAX = 32, GOLDEN_IDS_MAX = 256, GOLDEN_EMBEDDING_MAX = 128 };

struct golden {
    struct slice prompt;
    uint32_t ids[GOLDEN_IDS_MAX]; /* of the prompt, <s> first */
    uint32_t ids_len;
    struct slice text; /* greedy continuation, 64 tokens */
    float embedding[GOLDEN_EMBEDDING_MAX];
    uint32_t embedding_len;
};

struct goldens {
    struct golden golden[GOLDENS_MAX];
    uint32_t len;
    char model[4096]; /* path of the model file */
    struct arena arena;
};

/* NULL where the files are absent, with a printed reason. Aborts on a file it cannot read. */
struct goldens *goldens_open(void);
void goldens_close(struct goldens *goldens);

/* A whole file with a final NUL, in `arena`. Aborts when it cannot be read. */
struct slice read_whole(struct arena *arena, const char *path);

#endif
