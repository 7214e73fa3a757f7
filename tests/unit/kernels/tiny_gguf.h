/*
 * tiny_gguf.h: GGUF files made by tests: a writer, and small random models of the llama architecture
 * with a vocabulary of their own. Same options, same bytes.
 */
#ifndef MSERVE_TESTS_KERNELS_TINY_GGUF_H
#define MSERVE_TESTS_KERNELS_TINY_GGUF_H

#include "config/buffer.h"
#include "kernels/model/gguf.h"
#include "kernels/model/tensor.h"

#include <stdbool.h>
#include <stdint.h>

/* {0} is a file without keys and tensors. Keys and tensors stand in the order in which they come. */
struct gguf_writer {
    struct buffer keys;
    struct buffer tensors;
    struct buffer data;
    uint64_t keys_len;
    uint64_t tensors_len;
    uint32_t alignment; /* 0: 32, without the key */
};

void writer_key(struct gguf_writer *writer, const char *key, enum gguf_type type);
void writer_u32(struct gguf_writer *writer, const char *key, uint32_t value);
void writer_f32(struct gguf_writer *writer, const char *key, float value);
void writer_bool(struct gguf_writer *writer, const char *key, bool value);
void writer_text(struct gguf_writer *writer, const char *key, const char *text);

/* The head of an array; its `len` elements are then added to writer->keys by the caller. */
void writer_array(struct gguf_writer *writer, const char *key, enum gguf_type type, uint64_t len);
void writer_add_text(struct buffer *buffer, const char *text, size_t len); /* length, then bytes */

/* `value` has the product of the `dims` dimensions, each row whole blocks of the format. */
void writer_tensor(struct gguf_writer *writer, const char *name, enum tensor_type type,
                   uint32_t dims, const uint64_t *dim, const float *value);

/* The whole file; the writer is empty afterwards. */
struct buffer writer_finish(struct gguf_writer *writer);

/* Rounds to what `type` can hold, by its definition and not by kernels/model/tensor.c. */
void tiny_round(enum tensor_type type, float *value, uint64_t len);

/* Zeros stand for the value in brackets. */
struct tiny_options {
    uint64_t seed;
    uint32_t layers;          /* [2] */
    uint32_t heads;           /* [4] */
    uint32_t kv_heads;        /* [2] */
    uint32_t head_dim;        /* [8] */
    uint32_t embed;           /* [32] */
    uint32_t ff;              /* [64] */
    uint32_t vocab;           /* [320], at least 290 */
    uint32_t context;         /* [256] */
    uint32_t rope_dim;        /* [head_dim] */
    enum tensor_type type;    /* of matrices */
    enum tensor_type rounded; /* matrices are first rounded to what this type holds */
    bool untied;              /* with its own output.weight */
    bool key_length;          /* head_dim stands in attention.key_length; else embed / heads */
    bool rope_freqs;          /* with rope_freqs.weight */
    const char *chat_template;
};

/* A vocabulary: <unk> <s> </s>, 256 bytes, then letters, pairs and random words up to `vocab`. */
void tiny_vocabulary(struct gguf_writer *writer, uint32_t vocab, uint64_t seed);

struct buffer tiny_llama(const struct tiny_options *options);

/* Writes the bytes into a new file, whose path goes to `path` (at least 64 bytes). */
void tiny_save(const struct buffer *file, char *path, size_t size);

#endif
