/*
 * opening.c: a card that is taken: what is refused before anything is, all memory there will ever be,
 * and the products that the model needs.
 */
#include "kernels/cuda/cuda.h"

#include "config/log.h"
#include "kernels/cuda/card.h"
#include "kernels/model/tensor.h"

#include <inttypes.h>
#include <stdlib.h>

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

void cuda_close(struct backend *backend)
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
    static const char *const asked[] = {"auto", "bf16", "fp8", "int8"};

    log_info("gpu.plan", "gpu=\"%s\" uuid=%s weights=%s asked=%s kv=%s products=\"%s\"%s%s%s",
             backend->about.name, backend->about.uuid, number_name(backend->shape.linear),
             asked[backend->shape.limits.weights], number_name(backend->shape.kv),
             matmul_library(backend->products), why != NULL ? " why=\"" : "",
             why != NULL ? why : "", why != NULL ? "\"" : "");
}

enum err cuda_open(const struct ops *ops, const struct model *model,
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
    attend = card_attend_shape(&backend->shape);
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
