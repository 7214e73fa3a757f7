/* host.c: how much memory, what is in it, and one line for each operation that is enqueued. */
#include "kernels/host/host.h"

#include "config/log.h"

#include <sched.h>
#include <stdlib.h>

uint32_t host_width(const struct model_hyper *h, enum act act)
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

uint32_t host_threads(const struct device_limits *limits)
{
    cpu_set_t set;

    if (limits->threads > 0)
        return limits->threads;
    return sched_getaffinity(0, sizeof(set), &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
}

static uint32_t picked_of(const struct device_limits *limits)
{
    return limits->sequences_max < HOST_PICKED_MAX ? limits->sequences_max : HOST_PICKED_MAX;
}

static size_t act_bytes(const struct model_hyper *h, const struct device_limits *limits,
                        enum act act)
{
    size_t rows = act == ACT_PICKED || act == ACT_LOGITS ? picked_of(limits) : limits->rows_max;

    return rows * host_width(h, act) * sizeof(float);
}

void host_plan(const struct ops *ops, const struct model *model, const struct device_limits *limits,
               struct engine_plan *ret)
{
    const struct arithmetic *arithmetic = ops->own;
    const struct model_hyper *h = &model->hyper;
    uint64_t sequence = h->embed * sizeof(double) + sizeof(uint32_t);
    uint64_t row = h->rope_dim * sizeof(float) + sizeof(struct row);
    uint64_t thread = sizeof(struct sample_scratch) + h->vocab * (sizeof(float) + sizeof(uint32_t));

    *ret = (struct engine_plan){
        .activation_bytes = limits->sequences_max * sequence + limits->rows_max * row +
                            host_threads(limits) * thread + h->rope_dim / 2 * sizeof(double) +
                            DEVICE_STEPS * step_bytes(limits, h->embed),
        .kv_tokens = (uint64_t)limits->blocks * HOST_BLOCK,
        .context_max = limits->context_max,
    };
    for (enum act act = 0; act < ACT_COUNT; act++)
        ret->activation_bytes += act_bytes(h, limits, act);
    arithmetic->plan(arithmetic, model, limits, ret);
}

/* One of the small arrays; `*ok` stays false once one was refused. */
static void *take(struct backend *backend, size_t count, size_t size, bool *ok)
{
    void *at = memory_take(&backend->memory, count * size);

    *ok = *ok && at != NULL;
    return at;
}

static bool take_scratch(struct backend *backend, uint32_t vocab)
{
    uint32_t threads = host_threads(&backend->limits);
    bool ok = true;

    backend->scratch = take(backend, threads, sizeof(*backend->scratch), &ok);
    for (uint32_t i = 0; ok && i < threads; i++) {
        backend->scratch[i].weight = take(backend, vocab, sizeof(float), &ok);
        backend->scratch[i].heap = take(backend, vocab, sizeof(uint32_t), &ok);
    }
    return ok;
}

static enum err allocate(struct backend *backend)
{
    const struct model_hyper *h = &backend->hyper;
    const struct device_limits *limits = &backend->limits;
    size_t sequences = limits->sequences_max;
    bool ok = true;

    for (enum act act = 0; act < ACT_COUNT; act++) {
        backend->act_width[act] = host_width(h, act);
        backend->act[act] = take(backend, 1, act_bytes(h, limits, act), &ok);
    }
    backend->row = take(backend, limits->rows_max, sizeof(*backend->row), &ok);
    backend->angle = take(backend, (size_t)limits->rows_max * h->rope_dim, sizeof(float), &ok);
    backend->frequency = take(backend, h->rope_dim / 2, sizeof(*backend->frequency), &ok);
    backend->last = take(backend, sequences, sizeof(*backend->last), &ok);
    backend->pool = take(backend, sequences * h->embed, sizeof(*backend->pool), &ok);
    if (!ok || !take_scratch(backend, h->vocab))
        return fail(ERR_MEMORY, "steps of %u rows do not fit into memory", limits->rows_max);
    slots_init(&backend->slots, limits);
    for (unsigned slot = 0; slot < DEVICE_STEPS; slot++) {
        step_init(&backend->steps[slot].step, limits);
        sampled_init(&backend->steps[slot].sampled, limits, h->embed);
    }
    return ERR_OK;
}

enum err host_open(const struct ops *ops, const struct model *model,
                   const struct device_limits *limits, struct backend **ret)
{
    const struct arithmetic *arithmetic = ops->own;
    struct backend *backend;
    enum err err;

    if (limits->kv == ENGINE_KV_FP8)
        return fail(ERR_SETTINGS,
                    "keys and values as fp8 are for GPUs; backend \"%s\" has f16 "
                    "and f32",
                    ops->name);
    backend = xcalloc(1, arithmetic->size);
    backend->arithmetic = arithmetic;
    backend->hyper = model->hyper;
    backend->limits = *limits;
    backend->team = team_new(host_threads(limits), arithmetic->pinned);
    err = allocate(backend);
    if (err == ERR_OK)
        err = arithmetic->open(backend, model);
    if (err == ERR_OK) {
        model_frequencies(model, backend->frequency);
        queue_start(backend);
        if (!backend->queue.running)
            err = fail(ERR_DEVICE, "the thread that computes could not be started");
    }
    if (err) {
        host_close(backend);
        return err;
    }
    *ret = backend;
    return ERR_OK;
}

void host_close(struct backend *backend)
{
    if (backend == NULL)
        return;
    queue_stop(backend);
    for (unsigned slot = 0; slot < DEVICE_STEPS; slot++) {
        step_release(&backend->steps[slot].step);
        sampled_release(&backend->steps[slot].sampled);
    }
    slots_release(&backend->slots);
    team_free(backend->team);
    memory_release(&backend->memory);
    free(backend);
}

struct slots *host_slots(struct backend *backend)
{
    return &backend->slots;
}

struct step *host_begin(struct backend *backend, unsigned slot)
{
    backend->steps[slot].done = false;
    return &backend->steps[slot].step;
}

uint32_t host_picked_max(const struct backend *backend)
{
    return picked_of(&backend->limits);
}

uint64_t host_clock_ns(const struct device *device)
{
    (void)device;
    return queue_clock_ns();
}

void host_start(struct backend *backend, unsigned slot)
{
    queue_add(backend, (struct command){.kind = COMMAND_START, .slot = slot});
}

void host_embed(struct backend *backend, unsigned slot, const struct weight *table)
{
    queue_add(backend, (struct command){.kind = COMMAND_EMBED, .slot = slot, .weight = table});
}

void host_norm(struct backend *backend, unsigned slot, const struct weight *gain, bool first)
{
    queue_add(backend,
              (struct command){.kind = COMMAND_NORM, .slot = slot, .weight = gain, .first = first});
}

void host_linear(struct backend *backend, unsigned slot, const struct weight *weight, enum act in,
                 enum act out, uint32_t rows)
{
    queue_add(backend, (struct command){.kind = COMMAND_LINEAR,
                                        .slot = slot,
                                        .weight = weight,
                                        .in = in,
                                        .out = out,
                                        .len = rows});
}

void host_qkv_post(struct backend *backend, unsigned slot, uint32_t layer)
{
    queue_add(backend, (struct command){.kind = COMMAND_QKV_POST, .slot = slot, .layer = layer});
}

void host_attn(struct backend *backend, unsigned slot, uint32_t layer)
{
    queue_add(backend, (struct command){.kind = COMMAND_ATTN, .slot = slot, .layer = layer});
}

void host_glu(struct backend *backend, unsigned slot)
{
    queue_add(backend, (struct command){.kind = COMMAND_GLU, .slot = slot});
}

void host_pool(struct backend *backend, unsigned slot)
{
    queue_add(backend, (struct command){.kind = COMMAND_POOL, .slot = slot});
}

void host_gather(struct backend *backend, unsigned slot, const uint32_t *pick, uint32_t len)
{
    queue_add(backend,
              (struct command){.kind = COMMAND_GATHER, .slot = slot, .pick = pick, .len = len});
}

void host_sample(struct backend *backend, unsigned slot, const uint32_t *pick, uint32_t len)
{
    queue_add(backend,
              (struct command){.kind = COMMAND_SAMPLE, .slot = slot, .pick = pick, .len = len});
}

void host_end(struct backend *backend, unsigned slot)
{
    queue_add(backend, (struct command){.kind = COMMAND_END, .slot = slot});
}
