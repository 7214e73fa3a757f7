/* random_model.c: the header goes through a buffer, weights are written row by row as they are made. */
#include "kernels/bench/random_model.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/buffer.h"
#include "config/log.h"
#include "kernels/maths.h"
#include "kernels/model/gguf.h"

enum { ALIGNMENT = 32, BLOCK = 32, FIRST_WORD = 259, TENSORS_A_LAYER = 9, NAME_BYTES = 48 };

static const struct random_shape shapes[] = {
    {"tiny", 64, 2, 4, 2, 160, 512, 2048},          {"15m", 288, 6, 6, 6, 768, 32000, 2048},
    {"110m", 768, 12, 12, 12, 2048, 32000, 2048},   {"1.1b", 2048, 22, 32, 4, 5632, 32000, 2048},
    {"8b", 4096, 32, 32, 8, 14336, 128256, 131072},
};

struct tensor {
    char name[NAME_BYTES];
    uint32_t columns;
    uint32_t rows; /* 0: a norm, `columns` ones */
    enum tensor_type type;
    uint64_t offset;
    uint64_t bytes;
};

/* The file on its way. */
struct writer {
    const struct random_shape *shape;
    enum tensor_type type;
    struct buffer header;
    uint32_t keys;
    struct tensor *tensor;
    uint32_t tensors;
    uint64_t bytes; /* of the tensors so far */
};

const struct random_shape *random_shape_find(const char *name)
{
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        if (strcmp(shapes[i].name, name) == 0)
            return &shapes[i];
    return NULL;
}

static void add_u32(struct buffer *buffer, uint32_t value)
{
    buffer_add(buffer, &value, sizeof(value));
}

static void add_u64(struct buffer *buffer, uint64_t value)
{
    buffer_add(buffer, &value, sizeof(value));
}

static void add_text(struct buffer *buffer, const char *text)
{
    add_u64(buffer, strlen(text));
    buffer_add_text(buffer, text);
}

static void key(struct writer *writer, const char *name, enum gguf_type type)
{
    add_text(&writer->header, name);
    add_u32(&writer->header, type);
    writer->keys++;
}

static void key_u32(struct writer *writer, const char *name, uint32_t value)
{
    key(writer, name, GGUF_U32);
    add_u32(&writer->header, value);
}

static void key_f32(struct writer *writer, const char *name, float value)
{
    key(writer, name, GGUF_F32);
    buffer_add(&writer->header, &value, sizeof(value));
}

static void key_text(struct writer *writer, const char *name, const char *text)
{
    key(writer, name, GGUF_TEXT);
    add_text(&writer->header, text);
}

static void key_array(struct writer *writer, const char *name, enum gguf_type type, uint64_t len)
{
    key(writer, name, GGUF_ARRAY);
    add_u32(&writer->header, type);
    add_u64(&writer->header, len);
}

/* Word 0 is a blank, 1 is a, 26 is z, 27 is aa: numerals with the digits a to z and no zero. */
static void word(uint32_t number, char *ret, size_t size)
{
    size_t at = size - 1;

    if (number == 0) {
        snprintf(ret, size, "\u2581");
        return;
    }
    ret[at] = '\0';
    for (; number > 0; number = (number - 1) / 26)
        ret[--at] = (char)('a' + (number - 1) % 26);
    memmove(ret, ret + at, size - at);
}

static void add_token(struct buffer *buffer, uint32_t id)
{
    static const char *const control[] = {"<unk>", "<s>", "</s>"};
    char text[16];

    if (id < 3)
        snprintf(text, sizeof(text), "%s", control[id]);
    else if (id < FIRST_WORD)
        snprintf(text, sizeof(text), "<0x%02X>", id - 3);
    else
        word(id - FIRST_WORD, text, sizeof(text));
    add_text(buffer, text);
}

static void add_vocabulary(struct writer *writer)
{
    const uint32_t vocab = writer->shape->vocab;

    key_text(writer, "tokenizer.ggml.model", "llama");
    key_array(writer, "tokenizer.ggml.tokens", GGUF_TEXT, vocab);
    for (uint32_t id = 0; id < vocab; id++)
        add_token(&writer->header, id);
    key_array(writer, "tokenizer.ggml.scores", GGUF_F32, vocab);
    for (uint32_t id = 0; id < vocab; id++) {
        const float score = id < FIRST_WORD ? 0.0f : -(float)(id - FIRST_WORD);

        buffer_add(&writer->header, &score, sizeof(score));
    }
    key_array(writer, "tokenizer.ggml.token_type", GGUF_I32, vocab);
    for (uint32_t id = 0; id < vocab; id++) /* unknown, control, byte, normal */
        add_u32(&writer->header, id == 0 ? 2 : id < 3 ? 3 : id < FIRST_WORD ? 6 : 1);
    key_u32(writer, "tokenizer.ggml.unknown_token_id", 0);
    key_u32(writer, "tokenizer.ggml.bos_token_id", 1);
    key_u32(writer, "tokenizer.ggml.eos_token_id", 2);
}

/* llama.cpp's number for "mostly of this type". */
static uint32_t file_type(enum tensor_type type)
{
    return type == TENSOR_Q8_0 ? 7 : type == TENSOR_BF16 ? 32 : type == TENSOR_F16 ? 1 : 0;
}

static void add_keys(struct writer *writer)
{
    const struct random_shape *shape = writer->shape;
    char name[32];

    snprintf(name, sizeof(name), "random %s", shape->name);
    key_text(writer, "general.architecture", "llama");
    key_text(writer, "general.name", name);
    key_u32(writer, "general.file_type", file_type(writer->type));
    key_u32(writer, "general.quantization_version", 2);
    key_u32(writer, "llama.vocab_size", shape->vocab);
    key_u32(writer, "llama.context_length", shape->context);
    key_u32(writer, "llama.embedding_length", shape->embed);
    key_u32(writer, "llama.feed_forward_length", shape->ff);
    key_u32(writer, "llama.block_count", shape->layers);
    key_u32(writer, "llama.attention.head_count", shape->heads);
    key_u32(writer, "llama.attention.head_count_kv", shape->kv_heads);
    key_u32(writer, "llama.rope.dimension_count", shape->embed / shape->heads);
    key_f32(writer, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    key_f32(writer, "llama.rope.freq_base", 10000.0f);
    add_vocabulary(writer);
}

static void add_tensor(struct writer *writer, const char *name, uint32_t columns, uint32_t rows)
{
    struct tensor *tensor = &writer->tensor[writer->tensors++];
    const struct tensor_format *format;

    tensor->type = rows > 0 ? writer->type : TENSOR_F32;
    format = tensor_format(tensor->type);
    snprintf(tensor->name, sizeof(tensor->name), "%s.weight", name);
    tensor->columns = columns;
    tensor->rows = rows;
    tensor->offset = writer->bytes;
    tensor->bytes =
        (uint64_t)(rows > 0 ? rows : 1) * (columns / format->block_len) * format->block_bytes;
    writer->bytes += (tensor->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void add_layer(struct writer *writer, uint32_t layer)
{
    const struct random_shape *s = writer->shape;
    const uint32_t kv = s->embed / s->heads * s->kv_heads;
    const struct {
        const char *name;
        uint32_t columns, rows;
    } parts[TENSORS_A_LAYER] = {
        {"attn_norm", s->embed, 0},
        {"attn_q", s->embed, s->embed},
        {"attn_k", s->embed, kv},
        {"attn_v", s->embed, kv},
        {"attn_output", s->embed, s->embed},
        {"ffn_norm", s->embed, 0},
        {"ffn_gate", s->embed, s->ff},
        {"ffn_up", s->embed, s->ff},
        {"ffn_down", s->ff, s->embed},
    };
    char name[NAME_BYTES - 8];

    for (int i = 0; i < TENSORS_A_LAYER; i++) {
        snprintf(name, sizeof(name), "blk.%u.%s", layer, parts[i].name);
        add_tensor(writer, name, parts[i].columns, parts[i].rows);
    }
}

static void add_tensors(struct writer *writer)
{
    const struct random_shape *shape = writer->shape;

    writer->tensor = xcalloc(shape->layers * TENSORS_A_LAYER + 3, sizeof(*writer->tensor));
    add_tensor(writer, "token_embd", shape->embed, shape->vocab);
    for (uint32_t layer = 0; layer < shape->layers; layer++)
        add_layer(writer, layer);
    add_tensor(writer, "output_norm", shape->embed, 0);
    add_tensor(writer, "output", shape->embed, shape->vocab);
}

/* Everything before the data section, which begins at a multiple of ALIGNMENT. */
static struct buffer finish_header(struct writer *writer)
{
    struct buffer file = {0};

    buffer_add_text(&file, "GGUF");
    add_u32(&file, 3);
    add_u64(&file, writer->tensors);
    add_u64(&file, writer->keys);
    buffer_add(&file, writer->header.data, writer->header.len);
    for (uint32_t i = 0; i < writer->tensors; i++) {
        const struct tensor *tensor = &writer->tensor[i];

        add_text(&file, tensor->name);
        add_u32(&file, tensor->rows > 0 ? 2 : 1);
        add_u64(&file, tensor->columns);
        if (tensor->rows > 0)
            add_u64(&file, tensor->rows);
        add_u32(&file, tensor->type);
        add_u64(&file, tensor->offset);
    }
    while (file.len % ALIGNMENT != 0)
        buffer_add_byte(&file, 0);
    return file;
}

/* xorshift64*. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

/* Nearly normal with a deviation of 0.02: four numbers of 16 bits, added and centred. */
static float next_weight(uint64_t *state)
{
    const uint64_t random = next_random(state);
    const int64_t sum = (int64_t)((random & 0xffff) + (random >> 16 & 0xffff) +
                                  (random >> 32 & 0xffff) + (random >> 48));

    return (float)(sum - 131070) * (0.02f / 37837.0f);
}

static uint16_t half_bits(float value)
{
    uint32_t bits;

    value = maths_half(value);
    memcpy(&bits, &value, sizeof(bits));
    if (fabsf(value) < 0x1p-14f)
        return (uint16_t)(bits >> 31 << 15 | (uint32_t)(fabsf(value) * 0x1p24f));
    return (uint16_t)(bits >> 31 << 15 | ((bits & 0x7fffffff) - (112u << 23)) >> 13);
}

static uint16_t bfloat_bits(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Each block: its largest size over 127 as a half, then the nearest multiples of that. */
static void encode_q8(const float *value, uint32_t len, uint8_t *ret)
{
    for (uint32_t at = 0; at < len; at += BLOCK, ret += 2 + BLOCK) {
        float most = 0.0f, scale;
        uint16_t bits;

        for (uint32_t i = 0; i < BLOCK; i++)
            most = fabsf(value[at + i]) > most ? fabsf(value[at + i]) : most;
        bits = half_bits(most / 127.0f);
        scale = tensor_half(bits);
        memcpy(ret, &bits, sizeof(bits));
        for (uint32_t i = 0; i < BLOCK; i++) {
            const float near = rintf(value[at + i] / scale);

            ret[2 + i] = (uint8_t)(int8_t)(near > 127.0f    ? 127.0f
                                           : near < -127.0f ? -127.0f
                                                            : near);
        }
    }
}

static void encode(enum tensor_type type, const float *value, uint32_t len, uint8_t *ret)
{
    if (type == TENSOR_F32) {
        memcpy(ret, value, len * sizeof(*value));
        return;
    }
    if (type == TENSOR_Q8_0) {
        encode_q8(value, len, ret);
        return;
    }
    for (uint32_t i = 0; i < len; i++) {
        const uint16_t bits = type == TENSOR_F16 ? half_bits(value[i]) : bfloat_bits(value[i]);

        memcpy(ret + 2 * i, &bits, sizeof(bits));
    }
}

/* False when the file could not take it (errno says why). */
static bool write_tensor(FILE *file, const struct tensor *tensor, uint64_t *random)
{
    static const char zeros[ALIGNMENT];
    const uint32_t rows = tensor->rows > 0 ? tensor->rows : 1;
    const size_t row_bytes = tensor->bytes / rows, rest = tensor->bytes % ALIGNMENT;
    float *value = xcalloc(tensor->columns, sizeof(*value));
    uint8_t *bytes = xmalloc(row_bytes);
    bool written = true;

    for (uint32_t row = 0; row < rows && written; row++) {
        for (uint32_t i = 0; i < tensor->columns; i++)
            value[i] = tensor->rows > 0 ? next_weight(random) : 1.0f;
        encode(tensor->type, value, tensor->columns, bytes);
        written = fwrite(bytes, 1, row_bytes, file) == row_bytes;
    }
    if (written && rest > 0)
        written = fwrite(zeros, 1, ALIGNMENT - rest, file) == ALIGNMENT - rest;
    free(value);
    free(bytes);
    return written;
}

static bool write_all(FILE *file, struct writer *writer, uint64_t seed)
{
    struct buffer header = finish_header(writer);
    uint64_t random = seed * 2 + 1; /* never 0 */
    bool written = fwrite(header.data, 1, header.len, file) == header.len;

    for (uint32_t i = 0; i < writer->tensors && written; i++)
        written = write_tensor(file, &writer->tensor[i], &random);
    buffer_release(&header);
    return written && fflush(file) == 0;
}

enum err random_model_write(const char *path, const struct random_shape *shape,
                            enum tensor_type type, uint64_t seed)
{
    struct writer writer = {.shape = shape, .type = type};
    FILE *file = fopen(path, "wb");
    enum err rc = ERR_OK;
    struct stat stat;
    int error;

    if (file == NULL)
        return fail(ERR_IO, "%s: %s", path, strerror(errno));
    add_keys(&writer);
    add_tensors(&writer);
    errno = 0;
    error = write_all(file, &writer, seed) ? 0 : errno;
    if (fclose(file) != 0 && error == 0)
        error = errno;
    if (error != 0) {
        if (lstat(path, &stat) == 0 && S_ISREG(stat.st_mode)) /* never a device */
            unlink(path);
        rc = fail(ERR_IO, "%s: %s", path, strerror(error));
    }
    buffer_release(&writer.header);
    free(writer.tensor);
    return rc;
}
