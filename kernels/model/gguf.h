/*
 * gguf.h: a GGUF version 3 file, mapped read-only: its keys, and where its tensors lie.
 *
 * FILE, little-endian
 *   header   "GGUF"    version u32    tensors u64    keys u64
 *   key      name (length u64, bytes)    type u32    value; an array is: type u32, length u64, values
 *   tensor   name    dimensions u32    each u64, fastest first    format u32    offset u64
 *   data     from the next multiple of general.alignment (default 32); offsets count from there
 *
 * A file is not trusted. Each count is checked against the bytes that are left before anything is
 * allocated for it, each product for overflow; names are unique; tensors lie in the file, aligned,
 * without overlap, in a format that mserve reads. What is wrong is said in one sentence with file,
 * byte and reason (ERR_MODEL). Values of keys are checked by who asks for them.
 *
 * Immutable once open: any thread may read it. Slices and data point into the mapping.
 */
#ifndef MSERVE_KERNELS_MODEL_GGUF_H
#define MSERVE_KERNELS_MODEL_GGUF_H

#include "config/buffer.h"
#include "config/errors.h"

#include <stdbool.h>
#include <stdint.h>

struct gguf;

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_TEXT,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPES
};

struct gguf_tensor {
    struct slice name;
    uint32_t type;    /* enum tensor_type, kernels/model/tensor.h */
    uint32_t dims;    /* 1..4 */
    uint64_t dim[4];  /* each >= 1, fastest first; those after `dims` are 1 */
    uint64_t len;     /* elements */
    uint64_t bytes;   /* of all of it */
    uint64_t offset;  /* in the data section */
    const void *data; /* aligned as the file is */
};

enum err gguf_open(const char *path, struct gguf **ret);

/* The same on memory, which the caller keeps until gguf_close(). `name` stands in messages. */
enum err gguf_parse(const char *name, const void *data, size_t size, struct gguf **ret);
void gguf_close(struct gguf *gguf); /* NULL is allowed */

const char *gguf_name(const struct gguf *gguf);   /* path, as opened */
struct slice gguf_bytes(const struct gguf *gguf); /* the whole file */

uint32_t gguf_tensors(const struct gguf *gguf);
const struct gguf_tensor *gguf_tensor(const struct gguf *gguf, uint32_t index);
const struct gguf_tensor *gguf_find(const struct gguf *gguf, const char *name); /* or NULL */

/*
 * Values. ERR_NOT_FOUND, not logged: no such key. ERR_MODEL: it is there, of another type or out of
 * range. gguf_u32() takes integers of any type that fit, gguf_f32() both floats.
 */
enum err gguf_u32(const struct gguf *gguf, const char *key, uint32_t *ret);
enum err gguf_f32(const struct gguf *gguf, const char *key, float *ret);
enum err gguf_bool(const struct gguf *gguf, const char *key, bool *ret);
enum err gguf_text(const struct gguf *gguf, const char *key, struct slice *ret);

struct gguf_array {
    uint32_t len;
    const uint8_t *data;
};

/* An array of `type` with less than 2^32 elements. */
enum err gguf_array(const struct gguf *gguf, const char *key, enum gguf_type type,
                    struct gguf_array *ret);
float gguf_array_f32(const struct gguf_array *array, uint32_t index);
int32_t gguf_array_i32(const struct gguf_array *array, uint32_t index);

/* Texts one after another: moves `array` to the next. For an array of GGUF_TEXT with len > 0. */
struct slice gguf_array_next(struct gguf_array *array);

#endif
