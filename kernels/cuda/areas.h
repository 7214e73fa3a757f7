/*
 * areas.h: what the backend has on the card, area by area, and how long each is. Planning and
 * opening ask the same function, so they cannot disagree.
 */
#ifndef MSERVE_KERNELS_CUDA_AREAS_H
#define MSERVE_KERNELS_CUDA_AREAS_H

#include "kernels/cuda/attend_plan.h"
#include "kernels/cuda/launch.h"
#include "kernels/device.h"
#include "kernels/model/model.h"

/* Rows of logits that are made at once; padded like all rows that are multiplied. */
enum { CUDA_PICKED_MAX = 512 };

enum area {
    /* Activations, one row for each row of a step (the last two: that is sampled). */
    AREA_STREAM,   /* f32 [rows][E] */
    AREA_NORMED,   /* bf16 [rows][E] */
    AREA_QKV,      /* bf16 [rows][(H + 2 G) D] */
    AREA_HEADS,    /* bf16 [rows][H D] */
    AREA_DELTA,    /* bf16 [rows][E] */
    AREA_PAIR,     /* bf16 [rows][2 F] */
    AREA_FF,       /* bf16 [rows][F] */
    AREA_PICKED,   /* bf16 [picked][E] */
    AREA_LOGITS,   /* f32 [picked][V] */
    AREA_PREPARED, /* fp8 or int8 [rows][widest input]; empty with bf16 weights, as are */
    AREA_SCALE,    /* f32 [rows] of it */
    AREA_SUMS,     /* int32 [rows][widest output], int8 only */
    AREA_ANGLE,    /* f32 [rows][rope_dim / 2][2] */
    /* The KV cache, all layers: [layers][blocks][G][32][D] each. */
    AREA_K,
    AREA_V,
    AREA_PART, /* partial results of attention */
    /* What stays with a sequence's slot. */
    AREA_LAST, /* u32 [slots] token sampled last */
    AREA_POOL, /* f64 [slots][E] */
    /* What a step brings and gives. */
    AREA_IMAGE,     /* struct image_head and what follows it (image.h) */
    AREA_SAMPLING,  /* struct sampling_head and what follows it */
    AREA_RESULT,    /* [3][slots] by want: token u32, log-probability f32, bad u32 */
    AREA_EMBEDDING, /* f32 [slots][E] by want */
    AREA_FREQUENCY, /* f64 [rope_dim / 2] */
    AREA_COUNT
};

/* All that the lengths depend on. */
struct card_shape {
    struct model_hyper hyper;
    struct device_limits limits;
    enum number linear;  /* of the layers' weights: NUMBER_BF16, _FP8 or _INT8 */
    enum number kv;      /* NUMBER_BF16 or NUMBER_FP8 */
    uint32_t rows;       /* rows_max as products pad it */
    uint32_t picked_max; /* rows of logits at once */
    uint32_t picked;     /* as products pad them, at most */
};

/* What the weights become and keys and values are stored as, on a card of that capability. */
void card_shape_init(struct card_shape *shape, const struct model *model,
                     const struct device_limits *limits, uint32_t capability);

/* What attention is planned for. */
struct attend_shape card_attend_shape(const struct card_shape *shape);

uint64_t area_bytes(const struct card_shape *shape, enum area area);

/* Numbers of a row of the matrices' inputs and outputs. */
uint32_t card_qkv_width(const struct model_hyper *hyper);

/* The weights, as they lie on the card, with their scales. */
uint64_t card_weight_bytes(const struct card_shape *shape, const struct model *model);

/* Fills all of *ret. */
void card_plan(const struct card_shape *shape, const struct model *model, struct engine_plan *ret);

static inline const char *number_name(enum number number)
{
    static const char *const name[NUMBER_COUNT] = {"f32", "bf16", "fp8", "int8", "int32"};

    return name[number];
}

static inline uint32_t number_bytes(enum number number)
{
    static const uint8_t bytes[NUMBER_COUNT] = {4, 2, 1, 1, 4};

    return bytes[number];
}

#endif
