/* weights.c: which matrices a model has, what they take, and packing them with all threads. */
#include "kernels/cpu/cpu.h"

#include "config/log.h"
#include "kernels/model/tensor.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* Calls on_matrix(arg, tensors, len, rows) for all that is multiplied with. */
static void for_matrices(const struct model *model, const struct device_limits *limits,
                         void (*on_matrix)(void *arg, const struct gguf_tensor *const *tensors,
                                           uint32_t len, uint32_t rows),
                         void *arg)
{
    uint32_t picked =
        limits->sequences_max < HOST_PICKED_MAX ? limits->sequences_max : HOST_PICKED_MAX;

    for (uint32_t i = 0; i < model->hyper.layers; i++) {
        const struct model_layer *layer = &model->layer[i];

        on_matrix(arg, (const struct gguf_tensor *[]){layer->attn_q, layer->attn_k, layer->attn_v},
                  3, limits->rows_max);
        on_matrix(arg, (const struct gguf_tensor *[]){layer->attn_output}, 1, limits->rows_max);
        on_matrix(arg, (const struct gguf_tensor *[]){layer->ffn_gate, layer->ffn_up}, 2,
                  limits->rows_max);
        on_matrix(arg, (const struct gguf_tensor *[]){layer->ffn_down}, 1, limits->rows_max);
    }
    on_matrix(arg, (const struct gguf_tensor *[]){model->output}, 1, picked);
}

struct planning {
    enum isa isa;
    struct weights_plan *plan;
};

static void add_matrix(void *arg, const struct gguf_tensor *const *tensors, uint32_t len,
                       uint32_t rows)
{
    struct planning *planning = arg;
    struct matrix matrix;
    uint64_t input;

    if (matrix_plan(planning->isa, tensors, len, &matrix))
        return; /* opening says so again */
    input = (uint64_t)rows * matrix.row_bytes;
    planning->plan->bytes += matrix.bytes;
    if (planning->plan->input_bytes < input)
        planning->plan->input_bytes = input;
}

void weights_plan(enum isa isa, const struct model *model, const struct device_limits *limits,
                  struct weights_plan *ret)
{
    struct planning planning = {isa, ret};
    uint64_t gains = (2 * (uint64_t)model->hyper.layers + 1) * model->hyper.embed;

    *ret = (struct weights_plan){.bytes = gains * sizeof(float)};
    for_matrices(model, limits, add_matrix, &planning);
}

struct naming {
    enum isa isa;
    const char *own;
    char *at;
    size_t size;
};

/* "q8_0-vnni.1" of "avx512/q8_0-vnni/1": the first word only where it is another than the loops'. */
static void add_name(void *arg, const struct gguf_tensor *const *tensors, uint32_t len,
                     uint32_t rows)
{
    struct naming *naming = arg;
    const size_t own = strlen(naming->own);
    struct matrix matrix;
    char name[64];

    (void)rows;
    if (matrix_plan(naming->isa, tensors, len, &matrix))
        return;
    snprintf(name, sizeof(name), "%s", matrix_numerics(&matrix));
    if (strncmp(name, naming->own, own) == 0 && name[own] == '/')
        memmove(name, name + own + 1, strlen(name) - own);
    for (char *c = name; *c != '\0'; c++)
        *c = *c == '/' ? '.' : *c;
    if (strstr(naming->at, name) == NULL)
        snprintf(naming->at + strlen(naming->at), naming->size - strlen(naming->at), "%s%s",
                 naming->at[0] != '\0' ? "+" : "", name);
}

/* Raise the number when any bit of any result of loops.c, attend.c or host/common.c changes. */
void weights_numerics(enum isa isa, const struct model *model, bool half, char *ret, size_t size)
{
    /* The loops are the same with and without products of bfloat16. */
    enum isa loops = isa == ISA_AVX512_BF16 ? ISA_AVX512 : isa;
    char types[64] = "";
    struct naming naming = {isa, isa_name(loops), types, sizeof(types)};

    for_matrices(model, &(struct device_limits){0}, add_name, &naming);
    snprintf(ret, size, "cpu/%s/%s/%s/1", isa_name(loops), types, half ? "kv-f16" : "kv-f32");
}

static enum err no_room(size_t bytes)
{
    return fail(ERR_MEMORY, "the weights do not fit into memory: %zu MiB more", bytes >> 20);
}

struct packing {
    const struct matrix *matrix;
    const struct gguf_tensor *const *tensors;
    uint32_t len;
    uint8_t *packed;
    _Atomic int err;
};

static void pack_tiles(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    struct packing *packing = arg;
    const struct matrix *matrix = packing->matrix;
    uint32_t last = end * matrix->tile < matrix->outputs ? end * matrix->tile : matrix->outputs;
    enum err err = matrix_pack(matrix, packing->tensors, packing->len, begin * matrix->tile, last,
                               packing->packed);

    (void)thread;
    if (err)
        atomic_store(&packing->err, (int)err);
}

static enum err pack(struct cpu *cpu, const struct gguf_tensor *const *tensors, uint32_t len,
                     struct weight *weight)
{
    struct matrix *matrix = &weight->matrix;
    struct packing packing = {.matrix = matrix, .tensors = tensors, .len = len};
    enum err err = matrix_plan(cpu->isa, tensors, len, matrix);

    if (err)
        return err;
    packing.packed = memory_take(&cpu->host.memory, matrix->bytes);
    if (packing.packed == NULL)
        return no_room(matrix->bytes);
    team_run(cpu->host.team, (matrix->outputs + matrix->tile - 1) / matrix->tile,
             matrix->tile_bytes, pack_tiles, &packing);
    matrix->packed = packing.packed;
    return (enum err)packing.err;
}

enum err cpu_weight(struct backend *backend, const struct gguf_tensor *const *tensors, uint32_t len,
                    unsigned uses, const struct weight **ret)
{
    struct weight *weight = memory_take(&backend->memory, sizeof(*weight));
    float *gain;

    if (weight == NULL)
        return no_room(sizeof(*weight));
    weight->table = tensors[0];
    *ret = weight;
    if ((uses & WEIGHT_GAIN) != 0) {
        gain = memory_take(&backend->memory, tensors[0]->dim[0] * sizeof(float));
        if (gain == NULL)
            return no_room(tensors[0]->dim[0] * sizeof(float));
        tensor_format(tensors[0]->type)->to_f32(tensors[0]->data, tensors[0]->dim[0], gain);
        weight->gain = gain;
    }
    return (uses & WEIGHT_LINEAR) != 0 ? pack(cpu_of(backend), tensors, len, weight) : ERR_OK;
}
