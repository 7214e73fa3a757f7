/* ref.c: how much memory, the weights as floats, and the tables. */
#include "kernels/ref/ref.h"

#include "config/log.h"
#include "kernels/model/tensor.h"
#include "kernels/ref/ref_device.h"

#include <stdlib.h>

/* Floats of K, or of V. */
static size_t kv_len(const struct model_hyper *h, const struct device_limits *limits)
{
    return (size_t)limits->blocks * BLOCK * h->layers * h->kv_heads * h->head_dim;
}

static size_t matrix_len(uint64_t rows, uint64_t columns)
{
    return (rows + LANES - 1) / LANES * LANES * columns;
}

static uint64_t weight_bytes(const struct model *model)
{
    const struct model_hyper *h = &model->hyper;
    uint64_t layer = matrix_len(host_width(h, ACT_QKV), h->embed) +
                     matrix_len(h->embed, host_width(h, ACT_HEADS)) +
                     matrix_len(2 * (uint64_t)h->ff, h->embed) + matrix_len(h->embed, h->ff) +
                     2 * (uint64_t)h->embed;
    uint64_t table = matrix_len(h->vocab, h->embed);

    return sizeof(float) *
           (h->layers * layer + h->embed + table * (model->output != model->token_embd ? 2 : 1));
}

static void plan(const struct arithmetic *arithmetic, const struct model *model,
                 const struct device_limits *limits, struct engine_plan *ret)
{
    (void)arithmetic;
    ret->weight_bytes = weight_bytes(model);
    ret->kv_bytes = 2 * sizeof(float) * kv_len(&model->hyper, limits);
    ret->activation_bytes += (uint64_t)host_threads(limits) * limits->context_max * sizeof(float);
}

static enum err open_ref(struct backend *backend, const struct model *model)
{
    const struct device_limits *limits = &backend->limits;
    size_t kv_bytes = kv_len(&model->hyper, limits) * sizeof(float);
    uint32_t threads = host_threads(limits);
    struct ref *ref = ref_of(backend);

    ref->half = limits->kv != ENGINE_KV_F32;
    ref->k = memory_take(&backend->memory, kv_bytes);
    ref->v = memory_take(&backend->memory, kv_bytes);
    ref->score = memory_take(&backend->memory, threads * sizeof(*ref->score));
    if (ref->k == NULL || ref->v == NULL || ref->score == NULL)
        return fail(ERR_MEMORY, "a KV pool of %zu MiB does not fit into memory",
                    2 * kv_bytes >> 20);
    for (uint32_t i = 0; i < threads; i++) {
        ref->score[i] = memory_take(&backend->memory, limits->context_max * sizeof(float));
        if (ref->score[i] == NULL)
            return fail(ERR_MEMORY, "contexts of %u tokens do not fit into memory",
                        limits->context_max);
    }
    return ERR_OK;
}

static enum err no_room(size_t bytes)
{
    return fail(ERR_MEMORY, "the weights do not fit into memory as floats: %zu MiB more",
                bytes >> 20);
}

/* Row by row, into the lanes of its tile. */
static void pack(const struct gguf_tensor *tensor, struct weight *weight, uint32_t first)
{
    const struct tensor_format *format = tensor_format(tensor->type);
    size_t columns = weight->columns;
    size_t row_bytes = columns / format->block_len * format->block_bytes;
    float *plain = xcalloc(columns, sizeof(*plain));

    for (uint32_t row = 0; row < tensor->dim[1]; row++) {
        uint32_t to = first + row;
        float *tile = weight->value + to / LANES * LANES * columns;

        format->to_f32((const uint8_t *)tensor->data + row * row_bytes, columns, plain);
        for (size_t k = 0; k < columns; k++)
            tile[k * LANES + to % LANES] = plain[k];
    }
    free(plain);
}

static enum err ref_weight(struct backend *backend, const struct gguf_tensor *const *tensors,
                           uint32_t len, unsigned uses, const struct weight **ret)
{
    struct weight *weight = memory_take(&backend->memory, sizeof(*weight));
    uint32_t at = 0;
    size_t size;

    (void)uses; /* tiles serve them all */
    if (weight == NULL)
        return no_room(sizeof(*weight));
    weight->columns = (uint32_t)tensors[0]->dim[0];
    *ret = weight;
    if (tensors[0]->dims == 1) {
        weight->value = memory_take(&backend->memory, weight->columns * sizeof(float));
        if (weight->value == NULL)
            return no_room(weight->columns * sizeof(float));
        tensor_format(tensors[0]->type)->to_f32(tensors[0]->data, weight->columns, weight->value);
        return ERR_OK;
    }
    for (uint32_t i = 0; i < len; i++)
        weight->rows += (uint32_t)tensors[i]->dim[1];
    size = matrix_len(weight->rows, weight->columns) * sizeof(float);
    weight->value = memory_take(&backend->memory, size);
    if (weight->value == NULL)
        return no_room(size);
    for (uint32_t i = 0; i < len; i++) {
        pack(tensors[i], weight, at);
        at += (uint32_t)tensors[i]->dim[1];
    }
    return ERR_OK;
}

/* Goes into the numerics id. Raise the number when any bit of any result changes. */
static const char *ref_numerics(const struct backend *backend)
{
    return backend->limits.kv == ENGINE_KV_F32 ? "ref/scalar/f32/kv-f32/1"
                                               : "ref/scalar/f32/kv-f16/1";
}

static const struct arithmetic floats = {
    .size = sizeof(struct ref),
    .plan = plan,
    .open = open_ref,
    .embed = ref_embed,
    .norm = ref_norm,
    .linear = ref_linear,
    .qkv_post = ref_qkv_post,
    .attn = ref_attn,
    .glu = ref_glu,
};

const struct ops ref_ops = {
    .name = "ref",
    .own = &floats,
    .weight = ref_weight,
    .numerics = ref_numerics,
    HOST_OPS,
};

static enum err device_plan(const struct model *model, const struct device_limits *limits,
                            struct engine_plan *ret)
{
    return forward_plan(&ref_ops, model, limits, ret);
}

static enum err device_open(const struct model *model, const struct engine_options *options,
                            const struct device_limits *limits, struct device **ret)
{
    (void)options;
    return forward_open(&ref_device, &ref_ops, model, limits, ret);
}

const struct device_ops ref_device = {
    .name = "ref",
    .plan = device_plan,
    .open = device_open,
    HOST_DEVICE,
};
