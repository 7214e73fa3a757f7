/* tiny_gguf.c: writes files that kernels/model/gguf.c reads; shares no code with it. */
#include "tiny_gguf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void add_u32(struct buffer *buffer, uint32_t value)
{
    buffer_add(buffer, &value, sizeof(value));
}

static void add_u64(struct buffer *buffer, uint64_t value)
{
    buffer_add(buffer, &value, sizeof(value));
}

void writer_add_text(struct buffer *buffer, const char *text, size_t len)
{
    add_u64(buffer, len);
    buffer_add(buffer, text, len);
}

void writer_key(struct gguf_writer *writer, const char *key, enum gguf_type type)
{
    writer_add_text(&writer->keys, key, strlen(key));
    add_u32(&writer->keys, type);
    writer->keys_len++;
}

void writer_u32(struct gguf_writer *writer, const char *key, uint32_t value)
{
    writer_key(writer, key, GGUF_U32);
    add_u32(&writer->keys, value);
}

void writer_f32(struct gguf_writer *writer, const char *key, float value)
{
    writer_key(writer, key, GGUF_F32);
    buffer_add(&writer->keys, &value, sizeof(value));
}

void writer_bool(struct gguf_writer *writer, const char *key, bool value)
{
    writer_key(writer, key, GGUF_BOOL);
    buffer_add_byte(&writer->keys, value ? 1 : 0);
}

void writer_text(struct gguf_writer *writer, const char *key, const char *text)
{
    writer_key(writer, key, GGUF_TEXT);
    writer_add_text(&writer->keys, text, strlen(text));
}

void writer_array(struct gguf_writer *writer, const char *key, enum gguf_type type, uint64_t len)
{
    writer_key(writer, key, GGUF_ARRAY);
    add_u32(&writer->keys, type);
    add_u64(&writer->keys, len);
}

/* Nearest half, ties to even. */
static uint16_t half_of(float value)
{
    double size = fabs((double)value);
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    int exponent;
    double fraction;

    if (size == 0.0)
        return sign;
    frexp(size, &exponent); /* size = m 2^exponent, 1/2 <= m < 1 */
    exponent = exponent < -13 ? -13 : exponent;
    fraction = nearbyint(ldexp(size, 11 - exponent)); /* 1024..2048, less when subnormal */
    if (fraction >= 2048.0) {
        fraction /= 2.0;
        exponent++;
    }
    if (exponent > 16)
        return sign | 0x7c00;
    if (fraction < 1024.0)
        return sign | (uint16_t)fraction;
    return (uint16_t)(sign | (exponent + 14) << 10 | ((int)fraction - 1024));
}

static double half_value(uint16_t bits)
{
    int exponent = (bits >> 10) & 31;
    int fraction = bits & 1023;
    double size = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);

    return (bits & 0x8000) != 0 ? -size : size;
}

/* Nearest bfloat16, ties to even. */
static uint16_t bfloat_of(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* One block of 32: the scale, then the quotients. */
static void q8_block(const float *value, uint16_t *scale, int8_t *q)
{
    float most = 0.0f;
    double d;

    for (int i = 0; i < 32; i++)
        most = fmaxf(most, fabsf(value[i]));
    *scale = half_of(most / 127.0f);
    d = half_value(*scale);
    for (int i = 0; i < 32; i++) {
        double near = d > 0.0 ? nearbyint((double)value[i] / d) : 0.0;

        q[i] = (int8_t)fmax(-127.0, fmin(127.0, near));
    }
}

static void encode(enum tensor_type type, const float *value, uint64_t len, struct buffer *out)
{
    for (uint64_t i = 0; i < len; i += type == TENSOR_Q8_0 ? 32 : 1) {
        uint16_t bits = type == TENSOR_F16 ? half_of(value[i]) : bfloat_of(value[i]);
        int8_t q[32];

        if (type == TENSOR_F32) {
            buffer_add(out, &value[i], sizeof(value[i]));
            continue;
        }
        if (type == TENSOR_Q8_0)
            q8_block(value + i, &bits, q);
        buffer_add(out, &bits, sizeof(bits));
        if (type == TENSOR_Q8_0)
            buffer_add(out, q, sizeof(q));
    }
}

void tiny_round(enum tensor_type type, float *value, uint64_t len)
{
    for (uint64_t i = 0; i < len; i += type == TENSOR_Q8_0 ? 32 : 1) {
        if (type == TENSOR_F16) {
            value[i] = (float)half_value(half_of(value[i]));
        } else if (type == TENSOR_BF16) {
            uint32_t bits = (uint32_t)bfloat_of(value[i]) << 16;

            memcpy(&value[i], &bits, sizeof(bits));
        } else if (type == TENSOR_Q8_0) {
            uint16_t scale;
            int8_t q[32];

            q8_block(value + i, &scale, q);
            for (int j = 0; j < 32; j++)
                value[i + (uint64_t)j] = (float)(half_value(scale) * q[j]);
        }
    }
}

static void pad(struct buffer *buffer, uint32_t alignment)
{
    while (buffer->len % alignment != 0)
        buffer_add_byte(buffer, 0);
}

void writer_tensor(struct gguf_writer *writer, const char *name, enum tensor_type type,
                   uint32_t dims, const uint64_t *dim, const float *value)
{
    uint64_t len = 1;

    pad(&writer->data, writer->alignment > 0 ? writer->alignment : 32);
    writer_add_text(&writer->tensors, name, strlen(name));
    add_u32(&writer->tensors, dims);
    for (uint32_t i = 0; i < dims; i++) {
        add_u64(&writer->tensors, dim[i]);
        len *= dim[i];
    }
    add_u32(&writer->tensors, type);
    add_u64(&writer->tensors, writer->data.len);
    encode(type, value, len, &writer->data);
    writer->tensors_len++;
}

struct buffer writer_finish(struct gguf_writer *writer)
{
    struct buffer file = {0};

    if (writer->alignment > 0)
        writer_u32(writer, "general.alignment", writer->alignment);
    buffer_add(&file, "GGUF", 4);
    add_u32(&file, 3);
    add_u64(&file, writer->tensors_len);
    add_u64(&file, writer->keys_len);
    buffer_add(&file, writer->keys.data, writer->keys.len);
    buffer_add(&file, writer->tensors.data, writer->tensors.len);
    pad(&file, writer->alignment > 0 ? writer->alignment : 32);
    buffer_add(&file, writer->data.data, writer->data.len);
    buffer_release(&writer->keys);
    buffer_release(&writer->tensors);
    buffer_release(&writer->data);
    *writer = (struct gguf_writer){0};
    return file;
}

/* xorshift64*; good enough for weights. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1Du;
}

/* -1 .. 1 */
static float random_float(uint64_t *state)
{
    return (float)(int32_t)(next_random(state) >> 32) * 0x1p-31f;
}

enum { WORD_BYTES = 24 };

static bool is_new(char (*word)[WORD_BYTES], uint32_t count, const char *text)
{
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(word[i], text) == 0)
            return false;
    return true;
}

/* Word number `index`: a letter, or two earlier words together, so that merges chain. */
static void make_word(uint64_t *random, char (*word)[WORD_BYTES], uint32_t index)
{
    static const char *const letters[] = {"\u2581", "a", "e", "h", "i", "n", "o", "r", "s", "t"};
    char text[2 * WORD_BYTES];

    if (index < 10) {
        strcpy(word[index], letters[index]);
        return;
    }
    do {
        strcpy(text, word[next_random(random) % index]);
        strcat(text, word[next_random(random) % (index < 40 ? index : 40)]);
    } while (strlen(text) >= WORD_BYTES || !is_new(word, index, text));
    strcpy(word[index], text);
}

void tiny_vocabulary(struct gguf_writer *writer, uint32_t vocab, uint64_t seed)
{
    static const char *const special[] = {"<unk>", "<s>", "</s>"};
    char(*word)[WORD_BYTES] = xcalloc(vocab, sizeof(*word));
    uint64_t random = seed * 2 + 1;

    writer_text(writer, "tokenizer.ggml.model", "llama");
    writer_array(writer, "tokenizer.ggml.tokens", GGUF_TEXT, vocab);
    for (uint32_t i = 0; i < vocab; i++) {
        char byte[8];

        if (i < 3) {
            writer_add_text(&writer->keys, special[i], strlen(special[i]));
        } else if (i < 259) {
            snprintf(byte, sizeof(byte), "<0x%02X>", i - 3);
            writer_add_text(&writer->keys, byte, 6);
        } else {
            make_word(&random, word, i - 259);
            writer_add_text(&writer->keys, word[i - 259], strlen(word[i - 259]));
        }
    }
    writer_array(writer, "tokenizer.ggml.scores", GGUF_F32, vocab);
    for (uint32_t i = 0; i < vocab; i++) {
        float score = i < 259 ? 0.0f : -(float)(next_random(&random) % 64);

        buffer_add(&writer->keys, &score, sizeof(score));
    }
    writer_array(writer, "tokenizer.ggml.token_type", GGUF_I32, vocab);
    for (uint32_t i = 0; i < vocab; i++)
        add_u32(&writer->keys, i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1);
    writer_u32(writer, "tokenizer.ggml.bos_token_id", 1);
    writer_u32(writer, "tokenizer.ggml.eos_token_id", 2);
    writer_u32(writer, "tokenizer.ggml.unknown_token_id", 0);
    free(word);
}

/* A matrix of `out` rows of `in` numbers, or a vector around 1 where `out` is 0. */
static void add_random(struct gguf_writer *writer, const struct tiny_options *options,
                       uint64_t *random, const char *name, uint32_t in, uint32_t out)
{
    uint64_t dim[2] = {in, out};
    uint64_t len = (uint64_t)in * (out > 0 ? out : 1);
    float *value = xcalloc(len, sizeof(*value));

    for (uint64_t i = 0; i < len; i++)
        value[i] = out > 0 ? random_float(random) * 1.7f / sqrtf((float)in)
                           : 1.0f + 0.2f * random_float(random);
    if (out > 0)
        tiny_round(options->rounded, value, len);
    writer_tensor(writer, name, out > 0 ? options->type : TENSOR_F32, out > 0 ? 2 : 1, dim, value);
    free(value);
}

static void add_layer(struct gguf_writer *writer, const struct tiny_options *o, uint64_t *random,
                      uint32_t layer)
{
    const struct {
        const char *name;
        uint32_t in, out;
    } tensors[] = {
        {"attn_norm", o->embed, 0},
        {"attn_q", o->embed, o->heads * o->head_dim},
        {"attn_k", o->embed, o->kv_heads * o->head_dim},
        {"attn_v", o->embed, o->kv_heads * o->head_dim},
        {"attn_output", o->heads * o->head_dim, o->embed},
        {"ffn_norm", o->embed, 0},
        {"ffn_gate", o->embed, o->ff},
        {"ffn_up", o->embed, o->ff},
        {"ffn_down", o->ff, o->embed},
    };
    char name[64];

    for (size_t i = 0; i < sizeof(tensors) / sizeof(tensors[0]); i++) {
        snprintf(name, sizeof(name), "blk.%u.%s.weight", layer, tensors[i].name);
        add_random(writer, o, random, name, tensors[i].in, tensors[i].out);
    }
}

static void add_rope_freqs(struct gguf_writer *writer, const struct tiny_options *o)
{
    uint64_t dim = o->rope_dim / 2;
    float *value = xcalloc(dim, sizeof(*value));

    for (uint64_t i = 0; i < dim; i++)
        value[i] = 1.0f + 0.75f * (float)i;
    writer_tensor(writer, "rope_freqs.weight", TENSOR_F32, 1, &dim, value);
    free(value);
}

static void add_parameters(struct gguf_writer *writer, const struct tiny_options *o)
{
    writer_text(writer, "general.architecture", "llama");
    writer_text(writer, "general.name", "tiny");
    writer_u32(writer, "llama.context_length", o->context);
    writer_u32(writer, "llama.embedding_length", o->embed);
    writer_u32(writer, "llama.feed_forward_length", o->ff);
    writer_u32(writer, "llama.block_count", o->layers);
    writer_u32(writer, "llama.attention.head_count", o->heads);
    writer_u32(writer, "llama.attention.head_count_kv", o->kv_heads);
    writer_f32(writer, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    writer_f32(writer, "llama.rope.freq_base", 10000.0f);
    if (o->key_length) {
        writer_u32(writer, "llama.attention.key_length", o->head_dim);
        writer_u32(writer, "llama.attention.value_length", o->head_dim);
    }
    if (o->rope_dim != o->head_dim)
        writer_u32(writer, "llama.rope.dimension_count", o->rope_dim);
    if (o->chat_template != NULL)
        writer_text(writer, "tokenizer.chat_template", o->chat_template);
}

static void set_default(uint32_t *value, uint32_t unset)
{
    if (*value == 0)
        *value = unset;
}

struct buffer tiny_llama(const struct tiny_options *options)
{
    struct tiny_options o = *options;
    struct gguf_writer writer = {0};
    uint64_t random = o.seed * 2 + 0x9E3779B97F4A7C15u;

    set_default(&o.layers, 2);
    set_default(&o.heads, 4);
    set_default(&o.kv_heads, 2);
    set_default(&o.head_dim, 8);
    set_default(&o.embed, 32);
    set_default(&o.ff, 64);
    set_default(&o.vocab, 320);
    set_default(&o.context, 256);
    set_default(&o.rope_dim, o.head_dim);
    add_parameters(&writer, &o);
    tiny_vocabulary(&writer, o.vocab, o.seed);
    add_random(&writer, &o, &random, "token_embd.weight", o.embed, o.vocab);
    for (uint32_t layer = 0; layer < o.layers; layer++)
        add_layer(&writer, &o, &random, layer);
    add_random(&writer, &o, &random, "output_norm.weight", o.embed, 0);
    if (o.untied)
        add_random(&writer, &o, &random, "output.weight", o.embed, o.vocab);
    if (o.rope_freqs)
        add_rope_freqs(&writer, &o);
    return writer_finish(&writer);
}

void tiny_save(const struct buffer *file, char *path, size_t size)
{
    int fd;

    snprintf(path, size, "/tmp/mserve-tiny-XXXXXX");
    fd = mkstemp(path);
    if (fd < 0 || write(fd, file->data, file->len) != (ssize_t)file->len || close(fd) != 0) {
        perror(path);
        abort();
    }
}
