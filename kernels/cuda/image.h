/*
 * image.h: what a step brings to the card: all that changes from step to step, in two pieces of host
 * memory that are copied whole. Every array has its fixed place, so that recorded launches find it.
 *
 *     image      head, then arrays by row, pools, and what attend_plan() writes
 *     sampling   head, then arrays by picked row and by embedding; made when want_* are known
 */
#ifndef MSERVE_KERNELS_CUDA_IMAGE_H
#define MSERVE_KERNELS_CUDA_IMAGE_H

#include "kernels/cuda/launch.h"
#include "kernels/device.h"

/* Rows of logits are made in passes of CUDA_PICKED_MAX; as many as the most sequences want. */
enum { SAMPLING_PASSES_MAX = 16 };

struct image_head {
    uint32_t rows;
    uint32_t pools;
};

/* Where each array begins. */
struct image_places {
    size_t token;    /* int32 [rows_max] */
    size_t slot;     /* u32 [rows_max] */
    size_t position; /* u32 [rows_max] */
    size_t place;    /* u32 [rows_max] of its KV: block * 32 + position % 32 */
    size_t pool;     /* struct pool_item [sequences_max] */
    size_t attend;   /* the rest */
};

struct sampling_head {
    uint32_t picked[SAMPLING_PASSES_MAX]; /* rows of each pass */
    uint32_t embeddings;
};

struct sampling_places {
    size_t row;       /* u32 [sequences_max] of ACT_NORMED */
    size_t sample;    /* struct sample_row [sequences_max] */
    size_t embedding; /* struct embedding_item [sequences_max] */
    size_t end;
};

struct image_places image_places(const struct device_limits *limits);
struct sampling_places sampling_places(const struct device_limits *limits);

/* Bytes: of an image up to places.attend, and of a sampling image. */
size_t image_bytes(const struct device_limits *limits);
size_t sampling_bytes(const struct device_limits *limits);

/* Writes all but attention's part. */
void image_write(const struct image_places *places, const struct step *step,
                 const struct slots *slots, void *image);

/* Passes of at most `picked_max` rows. Returns the bytes to copy; *ret_picked is the sum of the passes. */
size_t sampling_write(const struct sampling_places *places, const struct step *step,
                      const struct slots *slots, uint32_t picked_max, void *sampling,
                      uint32_t *ret_picked);

#endif
