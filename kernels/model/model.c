/* model.c: reads the keys, finds the tensors, and holds each against the others. */
#include "kernels/model/model.h"

#include "config/log.h"
#include "config/sha256.h"
#include "config/utf8.h"
#include "kernels/maths.h"
#include "kernels/model/tensor.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REQUIRED = UINT32_MAX, HEAD_DIM_LEAST = 2, HEAD_DIM_MAX = 1024 };

#define refuse(model, format, ...)                                                                 \
    fail(ERR_MODEL, "model %s: " format, gguf_name((model)->gguf), __VA_ARGS__)

/* The whole numbers, in the order in which they are read: a default may be an earlier one's. */
static const struct number {
    const char *key;
    size_t at; /* in struct model_hyper */
    uint32_t least;
    uint32_t most;
    uint32_t absent; /* REQUIRED, or 0: set_defaults() */
} numbers[] = {
    {"llama.block_count", offsetof(struct model_hyper, layers), 1, 1024, REQUIRED},
    {"llama.embedding_length", offsetof(struct model_hyper, embed), 1, 1 << 17, REQUIRED},
    {"llama.feed_forward_length", offsetof(struct model_hyper, ff), 1, 1 << 20, REQUIRED},
    {"llama.context_length", offsetof(struct model_hyper, context), 1, 1 << 24, REQUIRED},
    {"llama.attention.head_count", offsetof(struct model_hyper, heads), 1, 1024, REQUIRED},
    {"llama.attention.head_count_kv", offsetof(struct model_hyper, kv_heads), 1, 1024, 0},
    {"llama.attention.key_length", offsetof(struct model_hyper, head_dim), HEAD_DIM_LEAST,
     HEAD_DIM_MAX, 0},
    {"llama.rope.dimension_count", offsetof(struct model_hyper, rope_dim), 2, HEAD_DIM_MAX, 0},
};

static enum err read_numbers(const struct model *model, struct model_hyper *hyper)
{
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        const struct number *number = &numbers[i];
        uint32_t *value = (uint32_t *)(void *)((char *)hyper + number->at);
        enum err err = gguf_u32(model->gguf, number->key, value);

        if (err == ERR_NOT_FOUND && number->absent == REQUIRED)
            return refuse(model, "the key %s is missing", number->key);
        if (err == ERR_NOT_FOUND)
            *value = number->absent;
        else if (err)
            return err;
        else if (*value < number->least || *value > number->most)
            return refuse(model, "%s is %u, not %u to %u", number->key, *value, number->least,
                          number->most);
    }
    return ERR_OK;
}

static enum err read_float(const struct model *model, const char *key, float absent, float least,
                           float most, float *ret)
{
    enum err err = gguf_f32(model->gguf, key, ret);

    if (err == ERR_NOT_FOUND && absent == 0.0f)
        return refuse(model, "the key %s is missing", key);
    if (err == ERR_NOT_FOUND)
        *ret = absent;
    else if (err)
        return err;
    if (!(*ret >= least && *ret <= most))
        return refuse(model, "%s is %g, not %g to %g", key, (double)*ret, (double)least,
                      (double)most);
    return ERR_OK;
}

/* The values of a head are as many as its keys, which a file may say again. */
static enum err check_value_length(const struct model *model, const struct model_hyper *hyper)
{
    uint32_t value_length;
    enum err err = gguf_u32(model->gguf, "llama.attention.value_length", &value_length);

    if (err == ERR_NOT_FOUND)
        return ERR_OK;
    if (err == ERR_OK && value_length != hyper->head_dim)
        return refuse(model, "values of length %u beside keys of length %u are not supported",
                      value_length, hyper->head_dim);
    return err;
}

/* What the file does not say follows from what it says, and is held to the same limits. */
static enum err set_defaults(const struct model *model, struct model_hyper *hyper)
{
    if (hyper->kv_heads == 0)
        hyper->kv_heads = hyper->heads;
    if (hyper->heads % hyper->kv_heads != 0)
        return refuse(model, "%u query heads cannot share %u key and value heads", hyper->heads,
                      hyper->kv_heads);
    if (hyper->head_dim == 0 && hyper->embed % hyper->heads != 0)
        return refuse(model, "an embedding of %u cannot be split over %u heads", hyper->embed,
                      hyper->heads);
    if (hyper->head_dim == 0)
        hyper->head_dim = hyper->embed / hyper->heads;
    if (hyper->head_dim < HEAD_DIM_LEAST || hyper->head_dim > HEAD_DIM_MAX)
        return refuse(model, "heads of %u dimensions are not supported; those of %d to %d are",
                      hyper->head_dim, HEAD_DIM_LEAST, HEAD_DIM_MAX);
    if (hyper->rope_dim == 0)
        hyper->rope_dim = hyper->head_dim;
    if (hyper->rope_dim > hyper->head_dim || hyper->rope_dim % 2 != 0)
        return refuse(model, "%u dimensions cannot be rotated in heads of %u", hyper->rope_dim,
                      hyper->head_dim);
    return check_value_length(model, hyper);
}

/*
 * Keys that would change the computation in ways that are not implemented, and the values (often the
 * same twice) with which they do not.
 */
struct variant {
    const char *key;
    enum { WHOLE, NUMBER, FLAG } type;
    float harmless[2];
    const char *what;
};

/* Mean nothing where the type of scaling is "none". */
static const struct variant scalings[] = {
    {"llama.rope.scaling.factor", NUMBER, {0, 1}, "scaling of positions"},
    {"llama.rope.scale_linear", NUMBER, {0, 1}, "scaling of positions"},
};

static const struct variant variants[] = {
    {"llama.rope.scaling.attn_factor", NUMBER, {1, 1}, "scaling of attention"},
    {"llama.attention.causal", FLAG, {1, 1}, "attention to later positions"},
    {"llama.attention.sliding_window", WHOLE, {0, 0}, "attention to a window of positions"},
    {"llama.attention.max_alibi_bias", NUMBER, {0, 0}, "attention with a bias"},
    {"llama.attention.clamp_kqv", NUMBER, {0, 0}, "clamping of queries, keys and values"},
    {"llama.use_parallel_residual", FLAG, {0, 0}, "a parallel residual"},
    {"llama.expert_count", WHOLE, {0, 0}, "a mixture of experts"},
    {"llama.pooling_type", WHOLE, {0, 1}, "pooling other than by mean (1)"},
};

/* The key's value, whatever its type. Whole numbers beyond 2^24 are not exact, and never harmless. */
static enum err read_variant(const struct model *model, const struct variant *variant, float *ret)
{
    enum err err = ERR_OK;
    uint32_t whole = 0;
    bool flag = false;

    switch (variant->type) {
    case WHOLE:
        err = gguf_u32(model->gguf, variant->key, &whole);
        *ret = (float)whole;
        break;
    case NUMBER:
        err = gguf_f32(model->gguf, variant->key, ret);
        break;
    case FLAG:
        err = gguf_bool(model->gguf, variant->key, &flag);
        *ret = flag;
        break;
    }
    return err;
}

static enum err refuse_any(const struct model *model, const struct variant *variant, size_t len)
{
    for (; len > 0; variant++, len--) {
        float value;
        enum err err = read_variant(model, variant, &value);

        if (err == ERR_NOT_FOUND)
            continue;
        if (err)
            return err;
        if (value != variant->harmless[0] && value != variant->harmless[1])
            return refuse(model, "%s is %g: %s is not supported", variant->key, (double)value,
                          variant->what);
    }
    return ERR_OK;
}

static enum err refuse_scaling(const struct model *model)
{
    struct slice type;
    enum err err = gguf_text(model->gguf, "llama.rope.scaling.type", &type);

    if (err == ERR_NOT_FOUND)
        return refuse_any(model, scalings, sizeof(scalings) / sizeof(scalings[0]));
    if (err == ERR_OK && (type.len != 4 || memcmp(type.data, "none", 4) != 0))
        return refuse(model, "rope scaling of type %.*s is not supported",
                      (int)(type.len < 64 ? type.len : 64), type.data);
    return err;
}

static enum err refuse_variants(const struct model *model)
{
    enum err err = refuse_scaling(model);

    return err ? err : refuse_any(model, variants, sizeof(variants) / sizeof(variants[0]));
}

static enum err read_hyper(struct model *model)
{
    struct model_hyper *hyper = &model->hyper;
    struct slice architecture = {"", 0};
    enum err err = gguf_text(model->gguf, "general.architecture", &architecture);

    if (err != ERR_OK && err != ERR_NOT_FOUND)
        return err;
    if (architecture.len != 5 || memcmp(architecture.data, "llama", 5) != 0)
        return refuse(model, "architecture \"%.*s\" is not supported; llama is",
                      (int)(architecture.len < 64 ? architecture.len : 64), architecture.data);
    err = read_numbers(model, hyper);
    if (err == ERR_OK)
        err = set_defaults(model, hyper);
    if (err == ERR_OK)
        err = read_float(model, "llama.attention.layer_norm_rms_epsilon", 0.0f, 1e-12f, 1.0f,
                         &hyper->rms_eps);
    if (err == ERR_OK)
        err = read_float(model, "llama.rope.freq_base", 10000.0f, 1.0f, 1e12f, &hyper->rope_base);
    return err ? err : refuse_variants(model);
}

/* Finds a tensor and checks its shape; rows 0: a vector. Marks it as used. */
static enum err find_tensor(const struct model *model, const char *name, uint64_t rows,
                            uint64_t columns, bool *used, const struct gguf_tensor **ret)
{
    const struct gguf_tensor *tensor = gguf_find(model->gguf, name);
    uint32_t dims = rows > 0 ? 2 : 1;

    if (tensor == NULL)
        return refuse(model, "the tensor %s is missing", name);
    if (tensor->dims != dims || tensor->dim[0] != columns || (rows > 0 && tensor->dim[1] != rows))
        return refuse(model,
                      "tensor %s is of %u dimensions, %" PRIu64 " x %" PRIu64
                      ", but the keys make it %" PRIu64 " x %" PRIu64,
                      name, tensor->dims, tensor->dim[0], tensor->dim[1], columns,
                      rows > 0 ? rows : 1);
    used[tensor - gguf_tensor(model->gguf, 0)] = true;
    *ret = tensor;
    return ERR_OK;
}

static enum err find_layer(const struct model *model, uint32_t index, bool *used,
                           struct model_layer *layer)
{
    const struct model_hyper *h = &model->hyper;
    const struct {
        const char *name;
        uint32_t rows, columns;
        const struct gguf_tensor **tensor;
    } tensors[] = {
        {"attn_norm", 0, h->embed, &layer->attn_norm},
        {"attn_q", h->heads * h->head_dim, h->embed, &layer->attn_q},
        {"attn_k", h->kv_heads * h->head_dim, h->embed, &layer->attn_k},
        {"attn_v", h->kv_heads * h->head_dim, h->embed, &layer->attn_v},
        {"attn_output", h->embed, h->heads * h->head_dim, &layer->attn_output},
        {"ffn_norm", 0, h->embed, &layer->ffn_norm},
        {"ffn_gate", h->ff, h->embed, &layer->ffn_gate},
        {"ffn_up", h->ff, h->embed, &layer->ffn_up},
        {"ffn_down", h->embed, h->ff, &layer->ffn_down},
    };
    enum err err = ERR_OK;

    for (size_t i = 0; i < sizeof(tensors) / sizeof(tensors[0]) && err == ERR_OK; i++) {
        char name[64];

        snprintf(name, sizeof(name), "blk.%u.%s.weight", index, tensors[i].name);
        err =
            find_tensor(model, name, tensors[i].rows, tensors[i].columns, used, tensors[i].tensor);
    }
    return err;
}

/* A tensor that nothing here uses (a bias, an expert) would be left out of the computation. */
static enum err refuse_unused(const struct model *model, const bool *used)
{
    for (uint32_t i = 0; i < gguf_tensors(model->gguf); i++) {
        struct slice name = gguf_tensor(model->gguf, i)->name;

        if (!used[i])
            return refuse(model, "the tensor %.*s has no place in the llama architecture",
                          (int)name.len, name.data);
    }
    return ERR_OK;
}

/* Divisors near 0 would turn angles past what maths_sincos() reduces. */
static enum err check_rope_freqs(const struct model *model)
{
    float divisor[HEAD_DIM_MAX / 2];
    uint32_t len = model->hyper.rope_dim / 2;

    assert(len <= HEAD_DIM_MAX / 2);
    if (model->rope_freqs == NULL)
        return ERR_OK;
    tensor_format(model->rope_freqs->type)->to_f32(model->rope_freqs->data, len, divisor);
    for (uint32_t i = 0; i < len; i++)
        if (!(divisor[i] >= 0.25f && divisor[i] <= 1e9f))
            return refuse(model, "rope_freqs.weight[%u] is %g, not 0.25 to 1e9", i,
                          (double)divisor[i]);
    return ERR_OK;
}

static enum err find_tensors(struct model *model, bool *used)
{
    const struct model_hyper *h = &model->hyper;
    enum err err =
        find_tensor(model, "token_embd.weight", h->vocab, h->embed, used, &model->token_embd);

    if (err == ERR_OK)
        err = find_tensor(model, "output_norm.weight", 0, h->embed, used, &model->output_norm);
    model->output = model->token_embd;
    if (err == ERR_OK && gguf_find(model->gguf, "output.weight") != NULL)
        err = find_tensor(model, "output.weight", h->vocab, h->embed, used, &model->output);
    if (err == ERR_OK && gguf_find(model->gguf, "rope_freqs.weight") != NULL)
        err = find_tensor(model, "rope_freqs.weight", 0, h->rope_dim / 2, used, &model->rope_freqs);
    if (err == ERR_OK)
        err = check_rope_freqs(model);
    model->layer = xcalloc(h->layers, sizeof(*model->layer));
    for (uint32_t i = 0; i < h->layers && err == ERR_OK; i++)
        err = find_layer(model, i, used, &model->layer[i]);
    return err ? err : refuse_unused(model, used);
}

static enum err read_model(struct model *model)
{
    struct slice template;
    bool *used = NULL;
    enum err err = read_hyper(model);

    if (err)
        return err;
    if (gguf_tensors(model->gguf) == 0)
        return refuse(model, "it holds %s", "a vocabulary and no weights");
    err = tokenizer_new(model->gguf, &model->tokenizer);
    if (err)
        return err;
    model->hyper.vocab = tokenizer_vocab(model->tokenizer);
    used = xcalloc(gguf_tensors(model->gguf), sizeof(*used));
    err = find_tensors(model, used);
    free(used);
    if (err)
        return err;
    err = gguf_text(model->gguf, "tokenizer.chat_template", &template);
    if (err == ERR_OK)
        model->chat = chat_format_of_template(template);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err model_new(struct gguf *gguf, struct model **ret)
{
    struct model *model = xcalloc(1, sizeof(*model));
    enum err err;

    model->gguf = gguf;
    err = read_model(model);
    if (err)
        model_close(model);
    else
        *ret = model;
    return err;
}

enum err model_open(const char *path, struct model **ret)
{
    struct gguf *gguf;
    enum err err = gguf_open(path, &gguf);

    return err ? err : model_new(gguf, ret);
}

void model_close(struct model *model)
{
    if (model == NULL)
        return;
    tokenizer_free(model->tokenizer);
    gguf_close(model->gguf);
    free(model->layer);
    free(model);
}

enum err model_digest(const struct model *model, const char *wanted, uint8_t ret[32])
{
    char hex[SHA256_HEX_SIZE];
    uint8_t want[SHA256_BYTES];

    if (wanted != NULL && !hex_decode((struct slice){wanted, strlen(wanted)}, want, sizeof(want)))
        return fail(ERR_SETTINGS, "the model's sha256 must be 64 hexadecimal digits, not \"%s\"",
                    wanted);
    sha256_of(gguf_bytes(model->gguf), ret);
    if (wanted != NULL && memcmp(want, ret, sizeof(want)) != 0)
        return refuse(model, "the file's sha256 is %s, the settings want %s",
                      hex_encode(ret, SHA256_BYTES, hex), wanted);
    return ERR_OK;
}

/* A name as it may stand in a log or a table: whole valid characters, no control bytes. */
static void copy_name(struct slice name, char *out, size_t size)
{
    size_t len = name.len < size - 1 ? name.len : size - 1;

    len = utf8_valid_len((struct slice){name.data, len});
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)name.data[i] < 0x20 || name.data[i] == 0x7f ? '?' : name.data[i];
    out[len] = '\0';
}

void model_frequencies(const struct model *model, double *ret)
{
    const struct model_hyper *h = &model->hyper;
    uint32_t pairs = h->rope_dim / 2;
    float *divisor = xcalloc(pairs, sizeof(*divisor));

    for (uint32_t i = 0; i < pairs; i++)
        divisor[i] = 1.0f;
    if (model->rope_freqs != NULL)
        tensor_format(model->rope_freqs->type)->to_f32(model->rope_freqs->data, pairs, divisor);
    for (uint32_t i = 0; i < pairs; i++)
        ret[i] = maths_exp(-2.0 * i / h->rope_dim * maths_log((double)h->rope_base)) /
                 (double)divisor[i];
    free(divisor);
}

void model_describe(const struct model *model, struct engine_model *ret)
{
    const char *path = gguf_name(model->gguf);
    const char *base = strrchr(path, '/');
    struct slice name;

    base = base != NULL ? base + 1 : path;
    if (gguf_text(model->gguf, "general.name", &name) != ERR_OK || name.len == 0)
        name = (struct slice){base, strlen(base)};
    copy_name(name, ret->name, sizeof(ret->name));
    ret->vocab = model->hyper.vocab;
    ret->context_max = model->hyper.context;
    ret->embedding_len = model->hyper.embed;
    snprintf(ret->chat_format, sizeof(ret->chat_format), "%s",
             model->chat != NULL ? chat_format_name(model->chat) : "");
}
