/*
 * gguf_file.h: what gguf_read.c fills and gguf.c answers from. For these two alone.
 */
#ifndef MSERVE_KERNELS_MODEL_GGUF_FILE_H
#define MSERVE_KERNELS_MODEL_GGUF_FILE_H

#include "config/log.h"
#include "kernels/model/gguf.h"

struct key {
    struct slice name;
    enum gguf_type type; /* of an array: of its elements */
    bool array;
    uint64_t len;         /* of an array */
    const uint8_t *value; /* of an array: its first element */
};

struct gguf {
    char *name;
    const uint8_t *data;
    size_t size;
    bool mapped;
    struct key *keys; /* sorted by name */
    uint32_t keys_len;
    struct gguf_tensor *tensors; /* in file order */
    uint32_t *by_name;           /* indices into tensors */
    uint32_t tensors_len;
};

struct gguf_type_name {
    const char *name;
    uint32_t bytes; /* 0: its length is in the file */
};

extern const struct gguf_type_name gguf_types[GGUF_TYPES];

/* A name from the file, cut to what a message can hold; fail() escapes what a terminal obeys. */
struct shown {
    char text[96];
};

const char *gguf_show(struct slice name, struct shown *shown);

#define SHOW(name) gguf_show(name, &(struct shown){{0}})

#define refuse(gguf, at, format, ...)                                                              \
    fail(ERR_MODEL, "model %s: byte %zu: " format, (gguf)->name, (size_t)(at), __VA_ARGS__)

int gguf_compare(struct slice a, struct slice b);
int gguf_compare_keys(const void *a, const void *b);

/* Reads and checks the whole header. What it allocated before it failed is gguf_close()'s. */
enum err gguf_read(struct gguf *gguf);

#endif
