/* ref.c: how much memory, the weights as floats, and the tables. */
#include "kernels/ref/ref.h"

#include "config/log.h"
#include "kernels/maths.h"
#include "kernels/model/forward.h"
#include "kernels/model/tensor.h"
#include "kernels/ref/ref_device.h"

#include <stdlib.h>
#include <string.h>

static uint32_t width_of(const struct model_hyper *h, enum act act)
{
    switch (act) {
    case ACT_QKV:
        return (h->heads + 2 * h->kv_heads) * h->head_dim;
    case ACT_HEADS:
        return h->heads * h->head_dim;
    case ACT_PAIR:
        return 2 * h->ff;
    case ACT_FF:
        return h->ff;
    case ACT_LOGITS:
        return h->vocab;
    default:
        return h->embed;
    }
}

static uint32_t picked_of(const struct device_limits *limits)
{
    return limits->sequences_max < PICKED_MAX ? limits->sequences_max : PICKED_MAX;
}

static uint32_t rows_of(const struct device_limits *limits, enum act act)
{
    return act == ACT_PICKED || act == ACT_LOGITS ? picked_of(limits) : limits->rows_max;
}

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
    uint64_t layer = matrix_len(width_of(h, ACT_QKV), h->embed) +
                     matrix_len(h->embed, width_of(h, ACT_HEADS)) +
                     matrix_len(2 * (uint64_t)h->ff, h->embed) + matrix_len(h->embed, h->ff) +
                     2 * (uint64_t)h->embed;
    uint64_t table = matrix_len(h->vocab, h->embed);

    return sizeof(float) *
           (h->layers * layer + h->embed + table * (model->output != model->token_embd ? 2 : 1));
}

static void plan(const struct model *model, const struct device_limits *limits,
                 struct engine_plan *ret)
{
    const struct model_hyper *h = &model->hyper;
    uint64_t sequence = h->embed * sizeof(double);
    uint64_t row = h->rope_dim * sizeof(float) + sizeof(struct row);

    *ret = (struct engine_plan){
        .weight_bytes = weight_bytes(model),
        .kv_bytes = 2 * sizeof(float) * kv_len(h, limits),
        .activation_bytes = limits->sequences_max * sequence + limits->rows_max * row +
                            DEVICE_STEPS * step_bytes(limits, h->embed),
        .kv_tokens = (uint64_t)limits->blocks * BLOCK,
        .context_max = limits->context_max,
    };
    for (enum act act = 0; act < ACT_COUNT; act++)
        ret->activation_bytes += (uint64_t)rows_of(limits, act) * width_of(h, act) * sizeof(float);
}

/* Radians per position of each pair: base^(-2i / rope_dim), divided by what the file says. */
static void make_frequencies(struct backend *backend, const struct model *model)
{
    const struct model_hyper *h = &model->hyper;
    uint32_t pairs = h->rope_dim / 2;
    float *divisor = xcalloc(pairs, sizeof(*divisor));

    for (uint32_t i = 0; i < pairs; i++)
        divisor[i] = 1.0f;
    if (model->rope_freqs != NULL)
        tensor_format(model->rope_freqs->type)->to_f32(model->rope_freqs->data, pairs, divisor);
    backend->frequency = xcalloc(pairs, sizeof(*backend->frequency));
    for (uint32_t i = 0; i < pairs; i++)
        backend->frequency[i] =
            maths_exp(-2.0 * i / h->rope_dim * maths_log((double)h->rope_base)) /
            (double)divisor[i];
    free(divisor);
}

static void ref_close(struct backend *backend)
{
    if (backend == NULL)
        return;
    queue_stop(backend);
    for (unsigned slot = 0; slot < DEVICE_STEPS; slot++) {
        step_release(&backend->steps[slot].step);
        sampled_release(&backend->steps[slot].sampled);
    }
    for (struct weight *weight = backend->weights, *next; weight != NULL; weight = next) {
        next = weight->next;
        free(weight->value);
        free(weight);
    }
    for (uint32_t i = 0; backend->scratch != NULL && i < team_threads(backend->team); i++) {
        free(backend->scratch[i].weight);
        free(backend->scratch[i].heap);
        free(backend->score[i]);
    }
    for (enum act act = 0; act < ACT_COUNT; act++)
        free(backend->act[act]);
    slots_release(&backend->slots);
    free(backend->scratch);
    free(backend->score);
    free(backend->row);
    free(backend->frequency);
    free(backend->angle);
    free(backend->k);
    free(backend->v);
    free(backend->last);
    free(backend->pool);
    team_free(backend->team);
    free(backend);
}

/* Large blocks of zeros take no memory until they are used, so the KV pool grows as it is filled. */
static enum err allocate(struct backend *backend)
{
    const struct model_hyper *h = &backend->hyper;
    const struct device_limits *limits = &backend->limits;
    size_t sequences = limits->sequences_max;

    backend->k = calloc(kv_len(h, limits), sizeof(float));
    backend->v = calloc(kv_len(h, limits), sizeof(float));
    if (backend->k == NULL || backend->v == NULL)
        return fail(ERR_MEMORY, "a KV pool of %zu MiB does not fit into memory",
                    2 * kv_len(h, limits) * sizeof(float) >> 20);
    for (enum act act = 0; act < ACT_COUNT; act++) {
        backend->act_width[act] = width_of(h, act);
        backend->act[act] = calloc((size_t)rows_of(limits, act) * width_of(h, act), sizeof(float));
        if (backend->act[act] == NULL)
            return fail(ERR_MEMORY, "steps of %u rows do not fit into memory", limits->rows_max);
    }
    backend->row = xcalloc(limits->rows_max, sizeof(*backend->row));
    backend->angle = xcalloc((size_t)limits->rows_max * h->rope_dim, sizeof(float));
    backend->last = xcalloc(sequences, sizeof(*backend->last));
    backend->pool = xcalloc(sequences * h->embed, sizeof(*backend->pool));
    slots_init(&backend->slots, limits);
    for (unsigned slot = 0; slot < DEVICE_STEPS; slot++) {
        step_init(&backend->steps[slot].step, limits);
        sampled_init(&backend->steps[slot].sampled, limits, h->embed);
    }
    backend->scratch = xcalloc(team_threads(backend->team), sizeof(*backend->scratch));
    backend->score = xcalloc(team_threads(backend->team), sizeof(*backend->score));
    for (uint32_t i = 0; i < team_threads(backend->team); i++) {
        backend->score[i] = xcalloc(limits->context_max, sizeof(float));
        backend->scratch[i].weight = xcalloc(h->vocab, sizeof(float));
        backend->scratch[i].heap = xcalloc(h->vocab, sizeof(uint32_t));
    }
    return ERR_OK;
}

static enum err ref_open(const struct model *model, const struct device_limits *limits,
                         struct backend **ret)
{
    struct backend *backend = xcalloc(1, sizeof(*backend));
    enum err err;

    backend->hyper = model->hyper;
    backend->limits = *limits;
    backend->half = !limits->kv_f32;
    backend->team = team_new(limits->threads);
    err = allocate(backend);
    if (err) {
        ref_close(backend);
        return err;
    }
    make_frequencies(backend, model);
    queue_start(backend);
    if (!backend->queue.running) {
        ref_close(backend);
        return fail(ERR_DEVICE, "the reference backend could not start its %s", "thread");
    }
    *ret = backend;
    return ERR_OK;
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
                           uint32_t len, const struct weight **ret)
{
    struct weight *weight = xcalloc(1, sizeof(*weight));
    uint32_t at = 0;

    weight->next = backend->weights;
    backend->weights = weight;
    weight->columns = (uint32_t)tensors[0]->dim[0];
    *ret = weight;
    if (tensors[0]->dims == 1) {
        weight->value = xcalloc(weight->columns, sizeof(float));
        tensor_format(tensors[0]->type)->to_f32(tensors[0]->data, weight->columns, weight->value);
        return ERR_OK;
    }
    for (uint32_t i = 0; i < len; i++)
        weight->rows += (uint32_t)tensors[i]->dim[1];
    weight->value = calloc(matrix_len(weight->rows, weight->columns), sizeof(float));
    if (weight->value == NULL)
        return fail(ERR_MEMORY, "the weights do not fit into memory as floats: %zu MiB more",
                    matrix_len(weight->rows, weight->columns) * sizeof(float) >> 20);
    for (uint32_t i = 0; i < len; i++) {
        pack(tensors[i], weight, at);
        at += (uint32_t)tensors[i]->dim[1];
    }
    return ERR_OK;
}

static struct slots *ref_slots(struct backend *backend)
{
    return &backend->slots;
}

static struct step *ref_begin(struct backend *backend, unsigned slot)
{
    backend->steps[slot].done = false;
    return &backend->steps[slot].step;
}

/* Goes into the numerics id. Raise the number when any bit of any result changes. */
static const char *ref_numerics(const struct backend *backend)
{
    return backend->half ? "ref/scalar/f32/kv-f16/1" : "ref/scalar/f32/kv-f32/1";
}

static uint32_t ref_picked_max(const struct backend *backend)
{
    return picked_of(&backend->limits);
}

static void ref_start(struct backend *backend, unsigned slot)
{
    queue_add(backend, (struct command){.kind = COMMAND_START, .slot = slot});
}

static void ref_embed(struct backend *backend, unsigned slot, const struct weight *table)
{
    queue_add(backend, (struct command){.kind = COMMAND_EMBED, .slot = slot, .weight = table});
}

static void ref_norm(struct backend *backend, unsigned slot, const struct weight *gain, bool first)
{
    queue_add(backend,
              (struct command){.kind = COMMAND_NORM, .slot = slot, .weight = gain, .first = first});
}

static void ref_linear(struct backend *backend, unsigned slot, const struct weight *weight,
                       enum act in, enum act out, uint32_t rows)
{
    queue_add(backend, (struct command){.kind = COMMAND_LINEAR,
                                        .slot = slot,
                                        .weight = weight,
                                        .in = in,
                                        .out = out,
                                        .len = rows});
}

static void ref_qkv_post(struct backend *backend, unsigned slot, uint32_t layer)
{
    queue_add(backend, (struct command){.kind = COMMAND_QKV_POST, .slot = slot, .layer = layer});
}

static void ref_attn(struct backend *backend, unsigned slot, uint32_t layer)
{
    queue_add(backend, (struct command){.kind = COMMAND_ATTN, .slot = slot, .layer = layer});
}

static void ref_glu(struct backend *backend, unsigned slot)
{
    queue_add(backend, (struct command){.kind = COMMAND_GLU, .slot = slot});
}

static void ref_pool(struct backend *backend, unsigned slot)
{
    queue_add(backend, (struct command){.kind = COMMAND_POOL, .slot = slot});
}

static void ref_gather(struct backend *backend, unsigned slot, const uint32_t *pick, uint32_t len)
{
    queue_add(backend,
              (struct command){.kind = COMMAND_GATHER, .slot = slot, .pick = pick, .len = len});
}

static void ref_sample(struct backend *backend, unsigned slot, const uint32_t *pick, uint32_t len)
{
    queue_add(backend,
              (struct command){.kind = COMMAND_SAMPLE, .slot = slot, .pick = pick, .len = len});
}

static void ref_end(struct backend *backend, unsigned slot)
{
    queue_add(backend, (struct command){.kind = COMMAND_END, .slot = slot});
}

const struct ops ref_ops = {
    .name = "ref",
    .plan = plan,
    .open = ref_open,
    .close = ref_close,
    .weight = ref_weight,
    .slots = ref_slots,
    .begin = ref_begin,
    .done = queue_done,
    .clock_ns = queue_clock_ns,
    .numerics = ref_numerics,
    .picked_max = ref_picked_max,
    .start = ref_start,
    .embed = ref_embed,
    .norm = ref_norm,
    .linear = ref_linear,
    .qkv_post = ref_qkv_post,
    .attn = ref_attn,
    .glu = ref_glu,
    .pool = ref_pool,
    .gather = ref_gather,
    .sample = ref_sample,
    .end = ref_end,
    .submit = queue_submit,
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

static uint64_t device_clock_ns(const struct device *device)
{
    (void)device;
    return queue_clock_ns();
}

const struct device_ops ref_device = {
    .name = "ref",
    .needs_model = true,
    .plan = device_plan,
    .open = device_open,
    .close = forward_close,
    .slots = forward_slots,
    .begin = forward_begin,
    .forward = forward_forward,
    .sample = forward_sample,
    .done = forward_done,
    .clock_ns = device_clock_ns,
    .numerics = forward_numerics,
};
