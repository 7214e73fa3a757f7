/*
 * cuda.c: the tables of the backend, for the card and for its emulation; opening, which takes all
 * memory there will ever be; and what comes out of a step.
 */
#include "kernels/cuda/cuda.h"

#include "config/log.h"
#include "kernels/cuda/card.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/numbers.h"
#include "kernels/model/tensor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Of the card's memory a KV pool of no stated size leaves this to the driver and to chance. */
enum { KV_ROOM_PERCENT = 93 };
#define CONTEXT_BYTES (512ull << 20)

uint64_t cuda_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

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

static enum err check_model(const struct card_shape *shape)
{
    const struct model_hyper *h = &shape->hyper;
    const uint32_t unit = shape->linear == NUMBER_BF16 ? 8 : 16;

    if (h->embed % unit != 0 || h->ff % unit != 0 || h->heads * h->head_dim % unit != 0)
        return fail(ERR_SETTINGS,
                    "a GPU multiplies rows of a multiple of %u numbers, this model has rows of %u, "
                    "%u and %u: use the backend \"cpu\"",
                    unit, h->embed, h->ff, h->heads * h->head_dim);
    return ERR_OK;
}

static enum err check_limits(const struct device_limits *limits)
{
    if (limits->kv == ENGINE_KV_F32)
        return fail(ERR_SETTINGS, "a GPU keeps keys and values as bf16 or fp8, not as f32");
    return ERR_OK;
}

/* What does not fit is refused before anything is taken, with the sum. */
static enum err check_memory(const struct card_shape *shape, const struct model *model,
                             const struct gpu_about *about, uint64_t free_bytes)
{
    struct engine_plan plan;
    uint64_t sum;

    card_plan(shape, model, &plan);
    sum = plan.weight_bytes + plan.kv_bytes + plan.activation_bytes;
    if (sum <= free_bytes)
        return ERR_OK;
    return fail(
        ERR_MEMORY,
        "the plan does not fit onto %s: weights %" PRIu64 " MiB + KV cache %" PRIu64
        " MiB (%" PRIu64 " tokens) + activations %" PRIu64 " MiB = %" PRIu64 " MiB, and %" PRIu64
        " of %" PRIu64 " MiB are free: lower kv_tokens, rows_max or sequences_max",
        about->name, plan.weight_bytes >> 20, plan.kv_bytes >> 20, plan.kv_tokens,
        plan.activation_bytes >> 20, sum >> 20, free_bytes >> 20, about->memory_bytes >> 20);
}

/* ---- opening ---- */

static struct attend_shape attend_shape_of(const struct card_shape *shape)
{
    const struct model_hyper *h = &shape->hyper;

    return (struct attend_shape){h->heads, h->kv_heads, h->head_dim, shape->limits, true};
}

static enum err take_areas(struct backend *backend)
{
    bool ok = true;

    for (enum area area = 0; area < AREA_COUNT; area++) {
        const uint64_t bytes = area_bytes(&backend->shape, area);

        backend->area[area] = bytes > 0 ? backend->module->take(backend->gpu, bytes) : NULL;
        ok = ok && (bytes == 0 || backend->area[area] != NULL);
    }
    for (unsigned slot = 0; slot < DEVICE_STEPS; slot++) {
        struct card_step *card = &backend->steps[slot];

        card->image =
            backend->module->take_host(backend->gpu, area_bytes(&backend->shape, AREA_IMAGE));
        card->sampling =
            backend->module->take_host(backend->gpu, area_bytes(&backend->shape, AREA_SAMPLING));
        card->result =
            backend->module->take_host(backend->gpu, area_bytes(&backend->shape, AREA_RESULT));
        card->embedding =
            backend->module->take_host(backend->gpu, area_bytes(&backend->shape, AREA_EMBEDDING));
        card->bad = xcalloc(backend->shape.limits.sequences_max, 1);
        step_init(&card->step, &backend->shape.limits);
        ok = ok && card->image != NULL && card->sampling != NULL && card->result != NULL &&
             card->embedding != NULL;
    }
    slots_init(&backend->slots, &backend->shape.limits);
    for (int i = 0; i < EVENT_STEPS; i++) {
        backend->events[i].begin = backend->module->event_new(backend->gpu);
        backend->events[i].end = backend->module->event_new(backend->gpu);
        ok = ok && backend->events[i].begin != NULL && backend->events[i].end != NULL;
    }
    return ok ? ERR_OK : fail(ERR_MEMORY, "the GPU's memory is taken by somebody else");
}

/* What a step must not read before it was written. */
static void clear_areas(struct backend *backend)
{
    static const enum area cleared[] = {AREA_LAST,  AREA_POOL, AREA_RESULT,
                                        AREA_IMAGE, AREA_K,    AREA_V};

    for (size_t i = 0; i < sizeof(cleared) / sizeof(cleared[0]); i++)
        backend->module->zero(backend->gpu, backend->area[cleared[i]],
                              area_bytes(&backend->shape, cleared[i]));
}

/* Radians per position of each pair, as the host backends have them. */
static void send_frequencies(struct backend *backend, const struct model *model)
{
    const struct model_hyper *h = &backend->shape.hyper;
    const size_t bytes = area_bytes(&backend->shape, AREA_FREQUENCY);
    double *frequency = xcalloc(h->rope_dim / 2 + 1, sizeof(*frequency));

    model_frequencies(model, frequency);
    if (bytes > 0)
        backend->module->copy(backend->gpu, backend->area[AREA_FREQUENCY], frequency, bytes);
    free(frequency);
}

static enum err add_product(struct backend *backend, enum product product, uint32_t outputs,
                            uint32_t inputs)
{
    const bool head = product == PRODUCT_HEAD;
    const enum number weight = head ? NUMBER_BF16 : backend->shape.linear;
    const struct matmul_shape shape = {
        .outputs = outputs,
        .inputs = inputs,
        .weight = weight,
        .out = head                    ? NUMBER_F32
               : weight == NUMBER_INT8 ? NUMBER_INT32
                                       : NUMBER_BF16,
        .rows_max = head ? backend->shape.picked_max : backend->shape.limits.rows_max,
    };

    return matmul_add(backend->products, &shape, &backend->product[product]);
}

/*
 * What the library cannot multiply is planned around as well: int8 of a quantised file, else bf16.
 * *ret_why: why, or NULL.
 */
static void settle_numbers(struct backend *backend, const struct model *model, const char **ret_why)
{
    const struct model_hyper *h = &backend->shape.hyper;
    struct matmul_shape shape = {card_qkv_width(h), h->embed, NUMBER_FP8, NUMBER_BF16, 0};
    const char *why = NULL;

    *ret_why = NULL;
    if (backend->shape.linear == NUMBER_FP8 && !matmul_can(backend->products, &shape, ret_why))
        backend->shape.linear =
            model->layer[0].attn_q->type == TENSOR_Q8_0 ? NUMBER_INT8 : NUMBER_BF16;
    shape.weight = NUMBER_INT8;
    shape.out = NUMBER_INT32;
    if (backend->shape.linear == NUMBER_INT8 && !matmul_can(backend->products, &shape, &why)) {
        backend->shape.linear = NUMBER_BF16;
        *ret_why = *ret_why != NULL ? *ret_why : why;
    }
}

static enum err add_products(struct backend *backend)
{
    const struct model_hyper *h = &backend->shape.hyper;
    enum err err = add_product(backend, PRODUCT_QKV, card_qkv_width(h), h->embed);

    if (err == ERR_OK)
        err = add_product(backend, PRODUCT_OUTPUT, h->embed, h->heads * h->head_dim);
    if (err == ERR_OK)
        err = add_product(backend, PRODUCT_PAIR, 2 * h->ff, h->embed);
    if (err == ERR_OK)
        err = add_product(backend, PRODUCT_DOWN, h->embed, h->ff);
    if (err == ERR_OK)
        err = add_product(backend, PRODUCT_HEAD, h->vocab, h->embed);
    return err;
}

static void cuda_close(struct backend *backend)
{
    struct weight *weight, *next;

    if (backend == NULL)
        return;
    loader_close(backend);
    matmul_set_close(backend->products);
    attend_planner_free(backend->planner);
    for (weight = backend->weights; weight != NULL; weight = next) {
        next = weight->next;
        free(weight);
    }
    if (backend->gpu != NULL)
        backend->module->close(backend->gpu);
    for (unsigned slot = 0; slot < DEVICE_STEPS; slot++) {
        step_release(&backend->steps[slot].step);
        free(backend->steps[slot].bad);
    }
    slots_release(&backend->slots);
    free(backend);
}

/* Another number type than was asked for, or a library that is not there, is said. */
static void log_plan(const struct backend *backend, const char *why)
{
    static const char *const number[NUMBER_COUNT] = {"f32", "bf16", "fp8", "int8", "int32"};
    static const char *const asked[] = {"auto", "bf16", "fp8", "int8"};

    log_info("gpu.plan", "gpu=\"%s\" uuid=%s weights=%s asked=%s kv=%s products=\"%s\"%s%s%s",
             backend->about.name, backend->about.uuid, number[backend->shape.linear],
             asked[backend->shape.limits.weights], number[backend->shape.kv],
             matmul_library(backend->products), why != NULL ? " why=\"" : "",
             why != NULL ? why : "", why != NULL ? "\"" : "");
}

static enum err cuda_open(const struct ops *ops, const struct model *model,
                          const struct device_limits *limits, struct backend **ret)
{
    struct backend *backend;
    struct attend_shape attend;
    struct card card;
    const char *why = NULL;
    enum err err = check_limits(limits);

    if (err == ERR_OK)
        err = card_find(ops->own, limits->gpu, &card);
    if (err)
        return err;
    backend = xcalloc(1, sizeof(*backend));
    backend->module = card.module;
    backend->run = card.module->kernels;
    backend->about = card.about;
    backend->driver = card.driver;
    card_shape_init(&backend->shape, model, limits, card.about.capability);
    backend->image = image_places(limits);
    backend->sampling = sampling_places(limits);
    attend = attend_shape_of(&backend->shape);
    err = check_model(&backend->shape);
    if (err)
        goto done;
    backend->gpu = card.module->open(card.index, &why);
    if (backend->gpu == NULL) {
        err = fail(ERR_DEVICE, "GPU %s cannot be opened: %s", card.about.uuid, why);
        goto done;
    }
    err =
        matmul_set_open(backend->module, backend->gpu, &backend->about, backend->driver,
                        &(struct matmul_options){.rows_max = limits->rows_max}, &backend->products);
    if (err)
        goto done;
    settle_numbers(backend, model, &why);
    err = check_memory(&backend->shape, model, &backend->about,
                       card.module->memory_free(backend->gpu));
    if (err == ERR_OK)
        err = add_products(backend);
    if (err == ERR_OK) /* before the areas: trying products takes memory, and gives it back */
        err = matmul_tune(backend->products);
    if (err == ERR_OK)
        err = take_areas(backend);
    if (err == ERR_OK)
        err = loader_open(backend);
    if (err)
        goto done;
    backend->planner = attend_planner_new(&attend);
    clear_areas(backend);
    send_frequencies(backend, model);
    log_plan(backend, why);
    *ret = backend;
    backend = NULL;
done:
    cuda_close(backend);
    return err;
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
        .seen_ns = cuda_clock_ns(),
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
        .done = cuda_done, .clock_ns = cuda_clock_ns, .numerics = cuda_numerics,                   \
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
    static const char *const number[NUMBER_COUNT] = {"f32", "bf16", "fp8", "int8", "int32"};
    struct backend *backend = forward_backend(device);
    enum err err;

    loader_close(backend);
    err = cuda_calibrate(device);
    if (err)
        return err;
    prices_weights(&backend->prices, &device->decode_weight, &device->chunk_weight);
    snprintf(backend->numerics, sizeof(backend->numerics), "%s/sm_%u/%s/kv-%s/%s/1",
             backend->module->name, backend->about.capability, number[backend->shape.linear],
             number[backend->shape.kv], matmul_fingerprint(backend->products));
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
    return cuda_clock_ns();
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
