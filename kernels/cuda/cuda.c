/*
 * cuda.c: the tables of the backend, for the card and for its emulation; what a plan says, and what
 * comes out of a step.
 */
#include "kernels/cuda/cuda.h"

#include "config/clock.h"
#include "config/log.h"
#include "kernels/cuda/card.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/numbers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the card's memory a KV pool of no stated size leaves this to the driver and to chance. */
enum { KV_ROOM_PERCENT = 93 };
#define CONTEXT_BYTES (512ull << 20)

enum err cuda_fault(struct backend *backend, const char *doing)
{
    const char *fault = backend->module->fault(backend->gpu);

    if (fault == NULL && backend->products != NULL)
        fault = matmul_fault(backend->products);
    return fault != NULL ? fail(ERR_DEVICE, "the GPU failed while %s: %s", doing, fault) : ERR_OK;
}

/* ---- planning ---- */

static void cuda_plan(const struct ops *ops, const struct model *model,
                      const struct device_limits *limits, struct engine_plan *ret)
{
    struct card_shape shape;
    struct card card;

    *ret = (struct engine_plan){0};
    if (card_find(ops->own, limits->gpu, &card))
        return; /* opening says so again */
    card_shape_init(&shape, model, limits, card.about.capability);
    card_plan(&shape, model, ret);
}

/* ---- steps ---- */

static struct slots *cuda_slots(struct backend *backend)
{
    return &backend->slots;
}

static struct step *cuda_begin(struct backend *backend, unsigned slot)
{
    return &backend->steps[slot].step;
}

static uint32_t cuda_picked_max(const struct backend *backend)
{
    return backend->shape.picked_max;
}

static void place_step(struct backend *backend, const struct card_step *card,
                       struct step_result *ret)
{
    const struct gpu_module *module = backend->module;
    const uint64_t number = card->number;
    struct gpu_event *begin = backend->events[number % EVENT_STEPS].begin;
    struct timeline_step step = {
        .enqueued_ns = card->enqueued_ns,
        .seen_ns = clock_mono_ns(),
        .lasted_ms =
            module->event_ms(backend->gpu, begin, backend->events[number % EVENT_STEPS].end),
    };
    struct price_work work;

    if (number > 0)
        step.gap_ms =
            module->event_ms(backend->gpu, backend->events[(number - 1) % EVENT_STEPS].end, begin);
    timeline_place(&backend->timeline, &step, &ret->begin_ns, &ret->end_ns);
    price_work_of(&card->step, &work);
    prices_split(&backend->prices, &work, ret->end_ns - ret->begin_ns, ret->part_ns);
}

static enum err cuda_done(struct backend *backend, unsigned slot, int timeout_ms,
                          struct step_result *ret)
{
    struct card_step *card = &backend->steps[slot];
    const size_t slots = backend->shape.limits.sequences_max;
    enum err err;

    if (!backend->module->event_wait(backend->gpu, backend->events[card->number % EVENT_STEPS].end,
                                     timeout_ms))
        return ERR_AGAIN;
    err = cuda_fault(backend, "computing a step");
    if (err)
        return err;
    for (uint32_t i = 0; i < card->step.wanted; i++)
        card->bad[i] = card->result[2 * slots + i] != 0;
    *ret = (struct step_result){
        .token = card->result,
        .logprob = (const float *)(const void *)(card->result + slots),
        .bad = card->bad,
        .embedding = card->embedding,
    };
    place_step(backend, card, ret);
    return ERR_OK;
}

static const char *cuda_numerics(const struct backend *backend)
{
    return backend->numerics;
}

/* Through host memory that the card reads, waiting. */
static void move_row(struct backend *backend, enum area area, size_t offset, void *host,
                     size_t bytes, bool read)
{
    const struct gpu_module *module = backend->module;
    struct gpu_event *event = backend->events[0].begin;
    uint8_t *pinned = module->take_host(backend->gpu, bytes);
    uint8_t *device = backend->area[area] + offset;

    if (pinned == NULL || cuda_fault(backend, "moving a row"))
        return;
    if (!read)
        memcpy(pinned, host, bytes);
    module->copy(backend->gpu, read ? pinned : device, read ? device : pinned, bytes);
    module->event_record(backend->gpu, event);
    module->event_wait(backend->gpu, event, -1);
    if (read)
        memcpy(host, pinned, bytes);
    module->give_host(backend->gpu, pinned);
}

static bool is_float(enum act act)
{
    return act == ACT_STREAM || act == ACT_LOGITS;
}

void cuda_read(struct backend *backend, enum act act, uint32_t row, uint32_t len, float *ret)
{
    const size_t each = is_float(act) ? sizeof(float) : sizeof(uint16_t);
    uint16_t *half = xcalloc(len, sizeof(*half));

    move_row(backend, cuda_area(act), (size_t)row * len * each,
             is_float(act) ? (void *)ret : (void *)half, len * each, true);
    for (uint32_t i = 0; i < len && !is_float(act); i++)
        ret[i] = number_from_bf16(half[i]);
    free(half);
}

void cuda_write(struct backend *backend, enum act act, uint32_t row, uint32_t len, const float *x)
{
    const size_t each = is_float(act) ? sizeof(float) : sizeof(uint16_t);
    float *same = xcalloc(len, sizeof(*same));
    uint16_t *half = xcalloc(len, sizeof(*half));

    memcpy(same, x, len * sizeof(*x));
    for (uint32_t i = 0; i < len; i++)
        half[i] = number_bf16(x[i]);
    move_row(backend, cuda_area(act), (size_t)row * len * each,
             is_float(act) ? (void *)same : (void *)half, len * each, false);
    free(same);
    free(half);
}

#define OPS(its_name)                                                                              \
    {                                                                                              \
        .name = (its_name), .own = (its_name), .plan = cuda_plan, .open = cuda_open,               \
        .close = cuda_close, .weight = cuda_weight, .slots = cuda_slots, .begin = cuda_begin,      \
        .done = cuda_done, .clock_ns = clock_mono_ns, .numerics = cuda_numerics,                   \
        .picked_max = cuda_picked_max, .start = cuda_start, .embed = cuda_embed,                   \
        .norm = cuda_norm, .linear = cuda_linear, .qkv_post = cuda_qkv_post, .attn = cuda_attn,    \
        .glu = cuda_glu, .pool = cuda_pool, .gather = cuda_gather, .sample = cuda_sample,          \
        .end = cuda_end, .submit = cuda_submit                                                     \
    }

static const struct ops cuda_ops = OPS("cuda");
const struct ops cuda_emu_ops = OPS("cuda-emu");

/* ---- the device ---- */

/* With all weights there: what things cost, which bits these are. */
static enum err settle(struct device *device)
{
    struct backend *backend = forward_backend(device);
    enum err err;

    loader_close(backend);
    err = cuda_calibrate(device);
    if (err)
        return err;
    prices_weights(&backend->prices, &device->decode_weight, &device->chunk_weight);
    snprintf(backend->numerics, sizeof(backend->numerics), "%s/sm_%u/%s/kv-%s/%s/1",
             backend->module->name, backend->about.capability, number_name(backend->shape.linear),
             number_name(backend->shape.kv), matmul_fingerprint(backend->products));
    return ERR_OK;
}

static enum err open_device(const struct device_ops *device, const struct ops *ops,
                            const struct model *model, const struct device_limits *limits,
                            struct device **ret)
{
    struct device *opened;
    enum err err = forward_open(device, ops, model, limits, &opened);

    if (err)
        return err;
    err = settle(opened);
    if (err)
        forward_close(opened);
    else
        *ret = opened;
    return err;
}

/* What is left of the card when all else has its place; attention's part grows with the pool. */
static enum err room_of(const struct ops *ops, const struct model *model,
                        const struct device_limits *limits, uint64_t *ret)
{
    struct device_limits with = *limits;
    struct engine_plan one, two;
    uint64_t all, base, block;
    struct card card;
    enum err err = card_find(ops->own, limits->gpu, &card);

    if (err)
        return err;
    with.blocks = 1;
    cuda_plan(ops, model, &with, &one);
    with.blocks = 1025;
    cuda_plan(ops, model, &with, &two);
    all = card.about.memory_bytes / 100 * KV_ROOM_PERCENT;
    base = one.weight_bytes + one.activation_bytes + CONTEXT_BYTES;
    block = (two.kv_bytes + two.activation_bytes - one.kv_bytes - one.activation_bytes) / 1024;
    *ret = all > base ? (all - base) / block * one.kv_bytes : 0;
    return ERR_OK;
}

static uint64_t step_clock_ns(const struct device *device)
{
    (void)device;
    return clock_mono_ns();
}

#define DEVICE(its, label, instead)                                                                \
    static bool its##_device_usable(const char **ret_why)                                          \
    {                                                                                              \
        return card_usable(label, ret_why);                                                        \
    }                                                                                              \
    static enum err its##_device_room(const struct model *model,                                   \
                                      const struct device_limits *limits, uint64_t *ret)           \
    {                                                                                              \
        return room_of(&its##_ops, model, limits, ret);                                            \
    }                                                                                              \
    static enum err its##_device_plan(const struct model *model,                                   \
                                      const struct device_limits *limits, struct engine_plan *ret) \
    {                                                                                              \
        return forward_plan(&its##_ops, model, limits, ret);                                       \
    }                                                                                              \
    static enum err its##_device_open(const struct model *model,                                   \
                                      const struct engine_options *options,                        \
                                      const struct device_limits *limits, struct device **ret)     \
    {                                                                                              \
        (void)options;                                                                             \
        return open_device(&its##_device, &its##_ops, model, limits, ret);                         \
    }                                                                                              \
    const struct device_ops its##_device = {                                                       \
        .name = (label),                                                                           \
        .needs_model = true,                                                                       \
        .usable = its##_device_usable,                                                             \
        .otherwise = (instead),                                                                    \
        .kv_room = its##_device_room,                                                              \
        .plan = its##_device_plan,                                                                 \
        .open = its##_device_open,                                                                 \
        .close = forward_close,                                                                    \
        .slots = forward_slots,                                                                    \
        .begin = forward_begin,                                                                    \
        .forward = forward_forward,                                                                \
        .sample = forward_sample,                                                                  \
        .done = forward_done,                                                                      \
        .clock_ns = step_clock_ns,                                                                 \
        .numerics = forward_numerics,                                                              \
    }

DEVICE(cuda, "cuda", "cpu");
DEVICE(cuda_emu, "cuda-emu", NULL);
