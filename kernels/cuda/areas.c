/* areas.c: lengths, as the shapes in areas.h have them. */
#include "kernels/cuda/areas.h"

#include "kernels/cuda/image.h"
#include "kernels/model/tensor.h"

/*
 * The first with matrix units for fp8; what the last of the listed numbers of rows is rounded up to
 * (matmul.h), which has every power of two below it.
 */
enum { CAPABILITY_FP8 = 89, ROW_PAD = 16 };

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

uint32_t card_qkv_width(const struct model_hyper *h)
{
    return (h->heads + 2 * h->kv_heads) * h->head_dim;
}

/* The layers' weights: fp8 that the card lacks is planned around. */
static enum number linear_number(const struct model *model, enum engine_weights asked,
                                 uint32_t capability)
{
    const bool quantised = model->layer[0].attn_q->type == TENSOR_Q8_0;

    switch (asked) {
    case ENGINE_WEIGHTS_FP8:
        return capability >= CAPABILITY_FP8 ? NUMBER_FP8 : quantised ? NUMBER_INT8 : NUMBER_BF16;
    case ENGINE_WEIGHTS_INT8:
        return NUMBER_INT8;
    default:
        return NUMBER_BF16;
    }
}

void card_shape_init(struct card_shape *shape, const struct model *model,
                     const struct device_limits *limits, uint32_t capability)
{
    const uint32_t rows = (limits->rows_max + ROW_PAD - 1) / ROW_PAD * ROW_PAD;
    uint32_t picked = ROW_PAD;

    *shape = (struct card_shape){
        .hyper = model->hyper,
        .limits = *limits,
        .linear = linear_number(model, limits->weights, capability),
        .kv = limits->kv == ENGINE_KV_FP8 ? NUMBER_FP8 : NUMBER_BF16,
        .rows = rows,
        .picked_max = smaller(smaller(limits->sequences_max, CUDA_PICKED_MAX), limits->rows_max),
    };
    while (picked < shape->picked_max)
        picked *= 2;
    shape->picked = smaller(picked, rows);
}

static uint32_t widest_input(const struct model_hyper *h)
{
    return larger(larger(h->embed, h->ff), h->heads * h->head_dim);
}

static uint32_t widest_output(const struct model_hyper *h)
{
    return larger(larger(card_qkv_width(h), 2 * h->ff), h->embed);
}

struct attend_shape card_attend_shape(const struct card_shape *shape)
{
    const struct model_hyper *h = &shape->hyper;

    return (struct attend_shape){h->heads, h->kv_heads, h->head_dim, shape->limits, true};
}

uint64_t area_bytes(const struct card_shape *shape, enum area area)
{
    const struct model_hyper *h = &shape->hyper;
    const struct attend_shape attend = card_attend_shape(shape);
    const uint64_t rows = shape->rows, slots = shape->limits.sequences_max;
    const bool narrow = shape->linear != NUMBER_BF16;

    switch (area) {
    case AREA_STREAM:
        return rows * h->embed * sizeof(float);
    case AREA_NORMED:
    case AREA_DELTA:
        return rows * h->embed * sizeof(uint16_t);
    case AREA_QKV:
        return rows * card_qkv_width(h) * sizeof(uint16_t);
    case AREA_HEADS:
        return rows * h->heads * h->head_dim * sizeof(uint16_t);
    case AREA_PAIR:
        return rows * 2 * h->ff * sizeof(uint16_t);
    case AREA_FF:
        return narrow ? 0 : rows * h->ff * sizeof(uint16_t);
    case AREA_PICKED:
        return (uint64_t)shape->picked * h->embed * sizeof(uint16_t);
    case AREA_LOGITS:
        return (uint64_t)shape->picked * h->vocab * sizeof(float);
    case AREA_PREPARED:
        return narrow ? rows * widest_input(h) : 0;
    case AREA_SCALE:
        return narrow ? rows * sizeof(float) : 0;
    case AREA_SUMS:
        return shape->linear == NUMBER_INT8 ? rows * widest_output(h) * sizeof(int32_t) : 0;
    case AREA_ANGLE:
        return rows * h->rope_dim * sizeof(float);
    case AREA_K:
    case AREA_V:
        return (uint64_t)shape->limits.blocks * DEVICE_BLOCK_TOKENS * h->layers * h->kv_heads *
               h->head_dim * number_bytes(shape->kv);
    case AREA_PART:
        return attend_part_bytes(&attend);
    case AREA_LAST:
        return slots * sizeof(uint32_t);
    case AREA_RESULT:
        return 3 * slots * sizeof(uint32_t);
    case AREA_POOL:
        return slots * h->embed * sizeof(double);
    case AREA_EMBEDDING:
        return slots * h->embed * sizeof(float);
    case AREA_IMAGE:
        return image_bytes(&shape->limits) + attend_image_bytes(&attend);
    case AREA_SAMPLING:
        return sampling_bytes(&shape->limits);
    case AREA_FREQUENCY:
        return h->rope_dim / 2 * sizeof(double);
    case AREA_COUNT:
        break;
    }
    return 0;
}

static uint64_t matrix_bytes(uint64_t outputs, uint64_t inputs, enum number number)
{
    return outputs * inputs * number_bytes(number) +
           (number != NUMBER_BF16 ? outputs * sizeof(float) : 0);
}

uint64_t card_weight_bytes(const struct card_shape *shape, const struct model *model)
{
    const struct model_hyper *h = &shape->hyper;
    const uint64_t heads = (uint64_t)h->heads * h->head_dim;
    const uint64_t layer = matrix_bytes(card_qkv_width(h), h->embed, shape->linear) +
                           matrix_bytes(h->embed, heads, shape->linear) +
                           matrix_bytes(2 * (uint64_t)h->ff, h->embed, shape->linear) +
                           matrix_bytes(h->embed, h->ff, shape->linear) +
                           2 * h->embed * sizeof(float);
    const uint64_t table = matrix_bytes(h->vocab, h->embed, NUMBER_BF16);

    return h->layers * layer + h->embed * sizeof(float) +
           (model->output != model->token_embd ? 2 : 1) * table;
}

void card_plan(const struct card_shape *shape, const struct model *model, struct engine_plan *ret)
{
    *ret = (struct engine_plan){
        .weight_bytes = card_weight_bytes(shape, model),
        .kv_bytes = area_bytes(shape, AREA_K) + area_bytes(shape, AREA_V),
        .kv_tokens = (uint64_t)shape->limits.blocks * DEVICE_BLOCK_TOKENS,
        .context_max = shape->limits.context_max,
    };
    for (enum area area = 0; area < AREA_COUNT; area++)
        if (area != AREA_K && area != AREA_V)
            ret->activation_bytes += area_bytes(shape, area);
}
