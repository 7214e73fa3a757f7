/* forward.c: the order of operations, and the weights they use. */
#include "kernels/model/forward.h"

#include "config/log.h"

#include <assert.h>
#include <stdlib.h>

struct layer_weights {
    const struct weight *attn_norm;
    const struct weight *qkv;
    const struct weight *attn_output;
    const struct weight *ffn_norm;
    const struct weight *gate_up;
    const struct weight *down;
};

struct forward {
    struct device device;
    const struct ops *ops;
    struct backend *backend;
    uint32_t layers;
    const struct weight *token_embd;
    const struct weight *output_norm;
    const struct weight *output;
    struct layer_weights *layer; /* [layers] */
    struct {
        struct step *step;
        uint32_t *pick; /* [sequences_max] wanted rows that are sampled */
    } slot[DEVICE_STEPS];
};

static struct forward *forward_of(struct device *device)
{
    return (struct forward *)(void *)device;
}

enum err forward_plan(const struct ops *ops, const struct model *model,
                      const struct device_limits *limits, struct engine_plan *ret)
{
    ops->plan(ops, model, limits, ret);
    return ERR_OK;
}

static enum err load(struct forward *forward, unsigned uses, const struct weight **ret,
                     const struct gguf_tensor *a, const struct gguf_tensor *b,
                     const struct gguf_tensor *c)
{
    const struct gguf_tensor *tensors[] = {a, b, c};
    uint32_t len = b == NULL ? 1 : c == NULL ? 2 : 3;

    return forward->ops->weight(forward->backend, tensors, len, uses, ret);
}

static enum err load_gain(struct forward *forward, const struct weight **ret,
                          const struct gguf_tensor *tensor)
{
    return load(forward, WEIGHT_GAIN, ret, tensor, NULL, NULL);
}

static enum err load_layer(struct forward *forward, const struct model_layer *from,
                           struct layer_weights *to)
{
    enum err err = load_gain(forward, &to->attn_norm, from->attn_norm);

    if (err == ERR_OK)
        err = load(forward, WEIGHT_LINEAR, &to->qkv, from->attn_q, from->attn_k, from->attn_v);
    if (err == ERR_OK)
        err = load(forward, WEIGHT_LINEAR, &to->attn_output, from->attn_output, NULL, NULL);
    if (err == ERR_OK)
        err = load_gain(forward, &to->ffn_norm, from->ffn_norm);
    if (err == ERR_OK)
        err = load(forward, WEIGHT_LINEAR, &to->gate_up, from->ffn_gate, from->ffn_up, NULL);
    if (err == ERR_OK)
        err = load(forward, WEIGHT_LINEAR, &to->down, from->ffn_down, NULL, NULL);
    return err;
}

static enum err load_weights(struct forward *forward, const struct model *model)
{
    bool tied = model->output == model->token_embd;
    unsigned head = WEIGHT_LINEAR | WEIGHT_HEAD;
    enum err err = load(forward, WEIGHT_EMBED | (tied ? head : 0), &forward->token_embd,
                        model->token_embd, NULL, NULL);

    if (err == ERR_OK)
        err = load(forward, WEIGHT_GAIN | WEIGHT_FINAL, &forward->output_norm, model->output_norm,
                   NULL, NULL);
    forward->output = forward->token_embd;
    if (err == ERR_OK && !tied)
        err = load(forward, head, &forward->output, model->output, NULL, NULL);
    forward->layers = model->hyper.layers;
    forward->layer = xcalloc(forward->layers, sizeof(*forward->layer));
    for (uint32_t i = 0; i < forward->layers && err == ERR_OK; i++)
        err = load_layer(forward, &model->layer[i], &forward->layer[i]);
    return err;
}

enum err forward_open(const struct device_ops *device, const struct ops *ops,
                      const struct model *model, const struct device_limits *limits,
                      struct device **ret)
{
    struct forward *forward = xcalloc(1, sizeof(*forward));
    enum err err;

    forward->device.ops = device;
    forward->ops = ops;
    err = ops->open(ops, model, limits, &forward->backend);
    if (err == ERR_OK)
        err = load_weights(forward, model);
    if (err) {
        forward_close(&forward->device);
        return err;
    }
    for (unsigned slot = 0; slot < DEVICE_STEPS; slot++)
        forward->slot[slot].pick = xcalloc(limits->sequences_max, sizeof(uint32_t));
    *ret = &forward->device;
    return ERR_OK;
}

void forward_close(struct device *device)
{
    struct forward *forward = forward_of(device);

    if (device == NULL)
        return;
    forward->ops->close(forward->backend);
    for (unsigned slot = 0; slot < DEVICE_STEPS; slot++)
        free(forward->slot[slot].pick);
    free(forward->layer);
    free(forward);
}

struct slots *forward_slots(struct device *device)
{
    return forward_of(device)->ops->slots(forward_of(device)->backend);
}

struct step *forward_begin(struct device *device, unsigned slot)
{
    struct forward *forward = forward_of(device);

    forward->slot[slot].step = forward->ops->begin(forward->backend, slot);
    return forward->slot[slot].step;
}

static void enqueue_layer(struct forward *forward, unsigned slot, uint32_t layer)
{
    const struct layer_weights *weights = &forward->layer[layer];
    const struct ops *ops = forward->ops;
    struct backend *backend = forward->backend;

    ops->norm(backend, slot, weights->attn_norm, layer == 0);
    ops->linear(backend, slot, weights->qkv, ACT_NORMED, ACT_QKV, 0);
    ops->qkv_post(backend, slot, layer);
    ops->attn(backend, slot, layer);
    ops->linear(backend, slot, weights->attn_output, ACT_HEADS, ACT_DELTA, 0);
    ops->norm(backend, slot, weights->ffn_norm, false);
    ops->linear(backend, slot, weights->gate_up, ACT_NORMED, ACT_PAIR, 0);
    ops->glu(backend, slot);
    ops->linear(backend, slot, weights->down, ACT_FF, ACT_DELTA, 0);
}

void forward_forward(struct device *device, unsigned slot)
{
    struct forward *forward = forward_of(device);
    const struct ops *ops = forward->ops;

    assert(forward->slot[slot].step->rows > 0);
    ops->start(forward->backend, slot);
    ops->embed(forward->backend, slot, forward->token_embd);
    for (uint32_t layer = 0; layer < forward->layers; layer++)
        enqueue_layer(forward, slot, layer);
    ops->norm(forward->backend, slot, forward->output_norm, false);
    ops->pool(forward->backend, slot);
    ops->submit(forward->backend);
}

/* Logits are made for as many rows at once as the backend has room for. */
void forward_sample(struct device *device, unsigned slot)
{
    struct forward *forward = forward_of(device);
    const struct ops *ops = forward->ops;
    const struct step *step = forward->slot[slot].step;
    const struct slots *slots = ops->slots(forward->backend);
    const uint32_t most = ops->picked_max(forward->backend);
    uint32_t *pick = forward->slot[slot].pick;
    uint32_t picked = 0;

    for (uint32_t i = 0; i < step->wanted; i++)
        if (!slots->pool[step->seq_slot[step->want_seq[i]]])
            pick[picked++] = i;
    for (uint32_t i = 0; i < picked; i += most) {
        uint32_t len = picked - i < most ? picked - i : most;

        ops->gather(forward->backend, slot, pick + i, len);
        ops->linear(forward->backend, slot, forward->output, ACT_PICKED, ACT_LOGITS, len);
        ops->sample(forward->backend, slot, pick + i, len);
    }
    ops->end(forward->backend, slot);
    ops->submit(forward->backend);
}

enum err forward_done(struct device *device, unsigned slot, int timeout_ms, struct step_result *ret)
{
    struct forward *forward = forward_of(device);

    return forward->ops->done(forward->backend, slot, timeout_ms, ret);
}

const char *forward_numerics(const struct device *device)
{
    const struct forward *forward = (const struct forward *)(const void *)device;

    return forward->ops->numerics(forward->backend);
}

struct backend *forward_backend(struct device *device)
{
    return forward_of(device)->backend;
}
