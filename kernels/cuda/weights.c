/*
 * weights.c: from the file to the card. Rows are turned into the card's numbers by all cores, a
 * stretch of them at a time, while the stretch before is on its way.
 */
#include "kernels/cuda/cuda.h"

#include "config/log.h"
#include "kernels/cuda/numbers.h"
#include "kernels/host/team.h"
#include "kernels/model/tensor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STRETCH_BYTES = 8 << 20, STRETCH_ROWS = 1 << 16, STRETCHES = 2 };

/* Rows in host memory that the card reads. */
struct stretch {
    uint8_t *value; /* [STRETCH_BYTES] */
    float *scale;   /* [STRETCH_ROWS] */
    struct gpu_event *sent;
    bool busy;
};

struct loader {
    struct team *team;
    struct stretch stretch[STRETCHES];
    uint32_t turn; /* which stretch is next */
    float **row;   /* [threads][widest input] */
};

/* The weight that is on its way. */
struct sending {
    struct backend *backend;
    struct weight *weight;
    size_t row_bytes;
    uint32_t stretch_rows;
};

/* What the team works on: rows `first` and on of a tensor, into a stretch. */
struct turning {
    const struct sending *sending;
    const struct gguf_tensor *tensor;
    const struct stretch *stretch;
    uint32_t first;
};

static float largest(const float *x, uint32_t len)
{
    float most = 0.0f;

    for (uint32_t i = 0; i < len; i++)
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

/* The scale of the row; its numbers are value times scale. */
static float turn_row(const float *x, uint32_t len, enum number type, uint8_t *out)
{
    const float most = type == NUMBER_FP8 ? fp8_most : int8_most;
    const float size = type == NUMBER_BF16 || type == NUMBER_F32 ? 0.0f : largest(x, len);
    const float scale = size > 0.0f ? size / most : 1.0f;

    switch (type) {
    case NUMBER_BF16:
        for (uint32_t i = 0; i < len; i++)
            ((uint16_t *)(void *)out)[i] = number_bf16(x[i]);
        break;
    case NUMBER_FP8:
        for (uint32_t i = 0; i < len; i++)
            out[i] = number_fp8(x[i] / scale);
        break;
    case NUMBER_INT8:
        for (uint32_t i = 0; i < len; i++)
            ((int8_t *)(void *)out)[i] = number_int8(x[i] / scale);
        break;
    default:
        memcpy(out, x, len * sizeof(*x));
    }
    return scale;
}

static void turn_rows(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    const struct turning *turning = arg;
    const struct sending *sending = turning->sending;
    const struct tensor_format *format = tensor_format(turning->tensor->type);
    const uint32_t inputs = sending->weight->inputs;
    const size_t from_bytes = inputs / format->block_len * format->block_bytes;
    float *row = sending->backend->loader->row[thread];

    for (uint32_t i = begin; i < end; i++) {
        format->to_f32((const uint8_t *)turning->tensor->data +
                           (size_t)(turning->first + i) * from_bytes,
                       inputs, row);
        turning->stretch->scale[i] = turn_row(row, inputs, sending->weight->type,
                                              turning->stretch->value + i * sending->row_bytes);
    }
}

static void send_stretch(const struct sending *sending, const struct gguf_tensor *tensor,
                         uint32_t first, uint32_t rows, uint32_t to_row)
{
    const struct gpu_module *module = sending->backend->module;
    struct loader *loader = sending->backend->loader;
    struct stretch *stretch = &loader->stretch[loader->turn++ % STRETCHES];
    struct turning turning = {sending, tensor, stretch, first};
    struct weight *weight = sending->weight;
    struct gpu *gpu = sending->backend->gpu;

    if (stretch->busy)
        module->event_wait(gpu, stretch->sent, -1);
    team_run(loader->team, rows, weight->inputs, turn_rows, &turning);
    module->copy(gpu, (uint8_t *)weight->value + to_row * sending->row_bytes, stretch->value,
                 rows * sending->row_bytes);
    if (weight->scale != NULL)
        module->copy(gpu, weight->scale + to_row, stretch->scale, rows * sizeof(float));
    module->event_record(gpu, stretch->sent);
    stretch->busy = true;
}

static void send_tensors(const struct sending *sending, const struct gguf_tensor *const *tensors,
                         uint32_t len)
{
    uint32_t to_row = 0;

    for (uint32_t i = 0; i < len; i++) {
        const uint32_t rows = tensors[i]->dims == 1 ? 1 : (uint32_t)tensors[i]->dim[1];

        for (uint32_t first = 0; first < rows; first += sending->stretch_rows) {
            const uint32_t left = rows - first;
            const uint32_t many = left < sending->stretch_rows ? left : sending->stretch_rows;

            send_stretch(sending, tensors[i], first, many, to_row);
            to_row += many;
        }
    }
}

enum err loader_open(struct backend *backend)
{
    const struct gpu_module *module = backend->module;
    const struct model_hyper *h = &backend->shape.hyper;
    struct loader *loader = xcalloc(1, sizeof(*loader));
    uint32_t widest = h->embed > h->ff ? h->embed : h->ff;
    bool ok = true;

    backend->loader = loader;
    loader->team = team_new(0, false);
    loader->row = xcalloc(team_threads(loader->team), sizeof(*loader->row));
    if (widest < h->heads * h->head_dim)
        widest = h->heads * h->head_dim;
    for (uint32_t i = 0; i < team_threads(loader->team); i++)
        loader->row[i] = xcalloc(widest, sizeof(float));
    for (int i = 0; i < STRETCHES; i++) {
        struct stretch *stretch = &loader->stretch[i];

        stretch->value = module->take_host(backend->gpu, STRETCH_BYTES);
        stretch->scale = module->take_host(backend->gpu, STRETCH_ROWS * sizeof(float));
        stretch->sent = module->event_new(backend->gpu);
        ok = ok && stretch->value != NULL && stretch->scale != NULL && stretch->sent != NULL;
    }
    if (!ok || (size_t)widest * sizeof(float) > STRETCH_BYTES)
        return fail(ERR_MEMORY, "rows of %u weights do not fit into %d MiB of pinned memory",
                    widest, STRETCHES * STRETCH_BYTES >> 20);
    return ERR_OK;
}

void loader_close(struct backend *backend)
{
    struct loader *loader = backend->loader;

    if (loader == NULL)
        return;
    for (int i = 0; i < STRETCHES; i++) {
        if (loader->stretch[i].busy)
            backend->module->event_wait(backend->gpu, loader->stretch[i].sent, -1);
        backend->module->give_host(backend->gpu, loader->stretch[i].value);
        backend->module->give_host(backend->gpu, loader->stretch[i].scale);
    }
    for (uint32_t i = 0; i < team_threads(loader->team); i++)
        free(loader->row[i]);
    free(loader->row);
    team_free(loader->team);
    free(loader);
    backend->loader = NULL;
}

static struct weight *new_weight(struct backend *backend, const struct gguf_tensor *const *tensors,
                                 uint32_t len, unsigned uses)
{
    const bool layer = (uses & (WEIGHT_GAIN | WEIGHT_EMBED | WEIGHT_HEAD)) == 0;
    struct weight *weight = xcalloc(1, sizeof(*weight));

    weight->uses = uses;
    weight->inputs = (uint32_t)tensors[0]->dim[0];
    weight->type = (uses & WEIGHT_GAIN) != 0 ? NUMBER_F32
                   : layer                   ? backend->shape.linear
                                             : NUMBER_BF16;
    for (uint32_t i = 0; i < len; i++)
        weight->outputs += tensors[i]->dims == 1 ? 1 : (uint32_t)tensors[i]->dim[1];
    weight->next = backend->weights;
    backend->weights = weight;
    return weight;
}

enum err cuda_weight(struct backend *backend, const struct gguf_tensor *const *tensors,
                     uint32_t len, unsigned uses, const struct weight **ret)
{
    struct weight *weight = new_weight(backend, tensors, len, uses);
    const size_t row_bytes = (size_t)weight->inputs * number_bytes(weight->type);
    const bool narrow = weight->type == NUMBER_FP8 || weight->type == NUMBER_INT8;
    struct sending sending = {backend, weight, row_bytes, (uint32_t)(STRETCH_BYTES / row_bytes)};

    *ret = weight;
    if (sending.stretch_rows > STRETCH_ROWS)
        sending.stretch_rows = STRETCH_ROWS;
    weight->value = backend->module->take(backend->gpu, weight->outputs * row_bytes);
    if (narrow)
        weight->scale = backend->module->take(backend->gpu, weight->outputs * sizeof(float));
    if (weight->value == NULL || (narrow && weight->scale == NULL))
        return fail(ERR_MEMORY, "the weights do not fit onto the GPU: %zu MiB more",
                    weight->outputs * row_bytes >> 20);
    send_tensors(&sending, tensors, len);
    return cuda_fault(backend, "loading weights");
}
