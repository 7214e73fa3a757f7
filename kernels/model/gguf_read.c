/* gguf_read.c: one pass over the header with a cursor that knows what is left. */
#include "kernels/model/gguf_file.h"

#include "kernels/model/tensor.h"

#include <stdlib.h>
#include <string.h>

enum {
    KEYS_MAX = 65536,
    TENSORS_MAX = 65536,
    KEY_BYTES_MAX = 65535,
    TENSOR_NAME_BYTES_MAX = 64,
    NESTING_MAX = 4,
    ALIGNMENT_DEFAULT = 32,
    ALIGNMENT_MAX = 65536,
    KEY_BYTES_LEAST = 8 + 4 + 1,         /* empty name, type, smallest value */
    TENSOR_BYTES_LEAST = 8 + 4 + 8 + 12, /* empty name, one dimension, format, offset */
};

/* What is left of the file while it is read. */
struct cursor {
    const struct gguf *gguf;
    size_t at;
};

static size_t left(const struct cursor *cursor)
{
    return cursor->gguf->size - cursor->at;
}

/* Takes `size` bytes; `what` says what they were to be. */
static enum err take(struct cursor *cursor, size_t size, const char *what, const uint8_t **ret)
{
    if (size > left(cursor))
        return refuse(cursor->gguf, cursor->at, "the file ends inside %s: %zu bytes are missing",
                      what, size - left(cursor));
    *ret = cursor->gguf->data + cursor->at;
    cursor->at += size;
    return ERR_OK;
}

static enum err take_u32(struct cursor *cursor, const char *what, uint32_t *ret)
{
    const uint8_t *bytes;
    enum err err = take(cursor, sizeof(*ret), what, &bytes);

    if (err == ERR_OK)
        memcpy(ret, bytes, sizeof(*ret));
    return err;
}

static enum err take_u64(struct cursor *cursor, const char *what, uint64_t *ret)
{
    const uint8_t *bytes;
    enum err err = take(cursor, sizeof(*ret), what, &bytes);

    if (err == ERR_OK)
        memcpy(ret, bytes, sizeof(*ret));
    return err;
}

static enum err take_text(struct cursor *cursor, size_t most, const char *what, struct slice *ret)
{
    uint64_t len;
    const uint8_t *bytes;
    enum err err = take_u64(cursor, what, &len);

    if (err)
        return err;
    if (len > most)
        return refuse(cursor->gguf, cursor->at - 8, "%s has %llu bytes, at most %zu are allowed",
                      what, (unsigned long long)len, most);
    err = take(cursor, (size_t)len, what, &bytes);
    if (err == ERR_OK)
        *ret = (struct slice){(const char *)bytes, (size_t)len};
    return err;
}

static enum err take_type(struct cursor *cursor, enum gguf_type *ret)
{
    uint32_t type;
    enum err err = take_u32(cursor, "the type of a value", &type);

    if (err)
        return err;
    if (type >= GGUF_TYPES)
        return refuse(cursor->gguf, cursor->at - 4, "value type %u is unknown", type);
    *ret = (enum gguf_type)type;
    return ERR_OK;
}

static enum err check_bools(const struct cursor *cursor, const uint8_t *bytes, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++)
        if (bytes[i] > 1)
            return refuse(cursor->gguf, bytes + i - cursor->gguf->data,
                          "a bool is %u, neither 0 nor 1", bytes[i]);
    return ERR_OK;
}

/* Steps over `len` values of a type of fixed size. */
static enum err skip_fixed(struct cursor *cursor, enum gguf_type type, uint64_t len)
{
    const uint8_t *bytes;
    enum err err;

    if (len > left(cursor) / gguf_types[type].bytes)
        return refuse(cursor->gguf, cursor->at, "the file ends inside a value of %llu x %s",
                      (unsigned long long)len, gguf_types[type].name);
    err = take(cursor, (size_t)len * gguf_types[type].bytes, "a value", &bytes);
    if (err == ERR_OK && type == GGUF_BOOL)
        err = check_bools(cursor, bytes, len);
    return err;
}

static enum err skip_array(struct cursor *cursor, unsigned depth);

static enum err skip_values(struct cursor *cursor, enum gguf_type type, uint64_t len,
                            unsigned depth)
{
    struct slice text;
    enum err err = ERR_OK;

    if (gguf_types[type].bytes > 0)
        return skip_fixed(cursor, type, len);
    if (len > left(cursor) / 8)
        return refuse(cursor->gguf, cursor->at, "the file ends inside an array of %llu x %s",
                      (unsigned long long)len, gguf_types[type].name);
    for (uint64_t i = 0; i < len && err == ERR_OK; i++)
        err = type == GGUF_TEXT ? take_text(cursor, SIZE_MAX, "a text", &text)
                                : skip_array(cursor, depth + 1);
    return err;
}

static enum err take_array(struct cursor *cursor, enum gguf_type *type, uint64_t *len)
{
    enum err err = take_type(cursor, type);

    return err ? err : take_u64(cursor, "the length of an array", len);
}

static enum err skip_array(struct cursor *cursor, unsigned depth)
{
    enum gguf_type type;
    uint64_t len;
    enum err err;

    if (depth >= NESTING_MAX)
        return refuse(cursor->gguf, cursor->at, "arrays are nested more than %d deep", NESTING_MAX);
    err = take_array(cursor, &type, &len);
    return err ? err : skip_values(cursor, type, len, depth);
}

static enum err read_key(struct cursor *cursor, struct key *key)
{
    enum err err = take_text(cursor, KEY_BYTES_MAX, "the name of a key", &key->name);

    if (err == ERR_OK)
        err = take_type(cursor, &key->type);
    key->array = err == ERR_OK && key->type == GGUF_ARRAY;
    key->len = 1;
    if (key->array)
        err = take_array(cursor, &key->type, &key->len);
    if (err)
        return err;
    key->value = cursor->gguf->data + cursor->at;
    return skip_values(cursor, key->type, key->len, 0);
}

static enum err read_keys(struct cursor *cursor, struct gguf *gguf)
{
    enum err err = ERR_OK;

    gguf->keys = xcalloc(gguf->keys_len, sizeof(*gguf->keys));
    for (uint32_t i = 0; i < gguf->keys_len && err == ERR_OK; i++)
        err = read_key(cursor, &gguf->keys[i]);
    if (err)
        return err;
    qsort(gguf->keys, gguf->keys_len, sizeof(*gguf->keys), gguf_compare_keys);
    for (uint32_t i = 1; i < gguf->keys_len; i++)
        if (gguf_compare_keys(&gguf->keys[i - 1], &gguf->keys[i]) == 0)
            return refuse(gguf, gguf->keys[i].value - gguf->data, "key %s stands twice",
                          SHOW(gguf->keys[i].name));
    return ERR_OK;
}

/* Dimensions, format, and from these the number of elements and bytes. */
static enum err read_shape(struct cursor *cursor, struct gguf_tensor *tensor)
{
    const struct tensor_format *format;
    uint64_t blocks;
    enum err err = ERR_OK;

    tensor->len = 1;
    for (uint32_t i = 0; i < 4; i++) {
        tensor->dim[i] = 1;
        if (i < tensor->dims)
            err = take_u64(cursor, "a dimension", &tensor->dim[i]);
        if (err)
            return err;
        if (tensor->dim[i] == 0 ||
            __builtin_mul_overflow(tensor->len, tensor->dim[i], &tensor->len))
            return refuse(cursor->gguf, cursor->at - 8, "tensor %s: dimension %u is %llu",
                          SHOW(tensor->name), i, (unsigned long long)tensor->dim[i]);
    }
    err = take_u32(cursor, "the format of a tensor", &tensor->type);
    if (err)
        return err;
    format = tensor_format(tensor->type);
    if (format == NULL || format->block_bytes == 0)
        return refuse(cursor->gguf, cursor->at - 4,
                      "tensor %s has format %s (%u), which is not supported; F32, F16, BF16 and "
                      "Q8_0 are",
                      SHOW(tensor->name), format != NULL ? format->name : "unknown", tensor->type);
    if (tensor->dim[0] % format->block_len != 0)
        return refuse(cursor->gguf, cursor->at - 4,
                      "tensor %s: rows of %llu are not whole %s blocks of %u", SHOW(tensor->name),
                      (unsigned long long)tensor->dim[0], format->name, format->block_len);
    blocks = tensor->len / format->block_len;
    if (__builtin_mul_overflow(blocks, format->block_bytes, &tensor->bytes))
        return refuse(cursor->gguf, cursor->at - 4, "tensor %s is too large", SHOW(tensor->name));
    return ERR_OK;
}

static enum err read_tensor(struct cursor *cursor, struct gguf_tensor *tensor)
{
    enum err err = take_text(cursor, TENSOR_NAME_BYTES_MAX, "the name of a tensor", &tensor->name);

    if (err == ERR_OK)
        err = take_u32(cursor, "the number of dimensions", &tensor->dims);
    if (err)
        return err;
    if (tensor->dims < 1 || tensor->dims > 4)
        return refuse(cursor->gguf, cursor->at - 4, "tensor %s has %u dimensions, not 1 to 4",
                      SHOW(tensor->name), tensor->dims);
    err = read_shape(cursor, tensor);
    return err ? err : take_u64(cursor, "the offset of a tensor", &tensor->offset);
}

static int compare_tensor_names(const void *a, const void *b, void *tensors)
{
    const struct gguf_tensor *tensor = tensors;

    return gguf_compare(tensor[*(const uint32_t *)a].name, tensor[*(const uint32_t *)b].name);
}

static int compare_offsets(const void *a, const void *b, void *tensors)
{
    const struct gguf_tensor *x = (const struct gguf_tensor *)tensors + *(const uint32_t *)a;
    const struct gguf_tensor *y = (const struct gguf_tensor *)tensors + *(const uint32_t *)b;

    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* Where the data section is, that each tensor lies in it, and that no two share a byte. */
static enum err place_tensors(struct gguf *gguf, size_t header_end, uint32_t alignment)
{
    size_t start = (header_end + alignment - 1) & ~((size_t)alignment - 1);
    size_t room = start < gguf->size ? gguf->size - start : 0;
    const struct gguf_tensor *before = NULL;

    for (uint32_t i = 0; i < gguf->tensors_len; i++)
        gguf->by_name[i] = i;
    qsort_r(gguf->by_name, gguf->tensors_len, sizeof(uint32_t), compare_offsets, gguf->tensors);
    for (uint32_t i = 0; i < gguf->tensors_len; i++) {
        struct gguf_tensor *tensor = &gguf->tensors[gguf->by_name[i]];

        if (tensor->offset % alignment != 0)
            return refuse(gguf, start, "tensor %s: offset %llu is no multiple of %u",
                          SHOW(tensor->name), (unsigned long long)tensor->offset, alignment);
        if (tensor->offset > room || tensor->bytes > room - tensor->offset)
            return refuse(gguf, start,
                          "tensor %s needs %llu bytes from offset %llu, but the data section "
                          "that starts here has %zu",
                          SHOW(tensor->name), (unsigned long long)tensor->bytes,
                          (unsigned long long)tensor->offset, room);
        if (before != NULL && before->offset + before->bytes > tensor->offset)
            return refuse(gguf, start + tensor->offset, "tensors %s and %s overlap",
                          SHOW(before->name), SHOW(tensor->name));
        tensor->data = gguf->data + start + tensor->offset;
        before = tensor;
    }
    return ERR_OK;
}

static enum err read_tensors(struct cursor *cursor, struct gguf *gguf)
{
    enum err err = ERR_OK;

    gguf->tensors = xcalloc(gguf->tensors_len, sizeof(*gguf->tensors));
    gguf->by_name = xcalloc(gguf->tensors_len, sizeof(*gguf->by_name));
    for (uint32_t i = 0; i < gguf->tensors_len && err == ERR_OK; i++)
        err = read_tensor(cursor, &gguf->tensors[i]);
    return err;
}

/* Leaves by_name in the order of names: gguf_find() searches it. */
static enum err check_names(struct gguf *gguf)
{
    qsort_r(gguf->by_name, gguf->tensors_len, sizeof(uint32_t), compare_tensor_names,
            gguf->tensors);
    for (uint32_t i = 1; i < gguf->tensors_len; i++) {
        struct slice name = gguf->tensors[gguf->by_name[i]].name;

        if (gguf_compare(gguf->tensors[gguf->by_name[i - 1]].name, name) == 0)
            return refuse(gguf, (const uint8_t *)name.data - gguf->data, "tensor %s stands twice",
                          SHOW(name));
    }
    return ERR_OK;
}

static enum err read_alignment(const struct gguf *gguf, uint32_t *ret)
{
    enum err err = gguf_u32(gguf, "general.alignment", ret);

    if (err == ERR_NOT_FOUND) {
        *ret = ALIGNMENT_DEFAULT;
        return ERR_OK;
    }
    if (err == ERR_OK && (*ret < 8 || *ret > ALIGNMENT_MAX || (*ret & (*ret - 1)) != 0))
        return fail(ERR_MODEL, "model %s: general.alignment is %u, not a power of two from 8 to %d",
                    gguf->name, *ret, ALIGNMENT_MAX);
    return err;
}

static enum err read_count(struct cursor *cursor, const char *what, uint64_t most, size_t least,
                           uint32_t *ret)
{
    uint64_t count;
    enum err err = take_u64(cursor, what, &count);

    if (err)
        return err;
    if (count > most || count > left(cursor) / least)
        return refuse(cursor->gguf, cursor->at - 8, "%s is %llu, more than %s", what,
                      (unsigned long long)count,
                      count > most ? "mserve allows" : "the file can hold");
    *ret = (uint32_t)count;
    return ERR_OK;
}

static enum err read_header(struct cursor *cursor, struct gguf *gguf)
{
    const uint8_t *magic;
    uint32_t version;
    enum err err = take(cursor, 4, "the header", &magic);

    if (err)
        return err;
    if (memcmp(magic, "GGUF", 4) != 0)
        return refuse(gguf, 0, "not a GGUF file: it begins with %02x %02x %02x %02x", magic[0],
                      magic[1], magic[2], magic[3]);
    err = take_u32(cursor, "the header", &version);
    if (err)
        return err;
    if (version != 3)
        return refuse(gguf, 4, "GGUF version %u%s is not supported, only version 3", version,
                      __builtin_bswap32(version) == 3 ? " (a big-endian file)" : "");
    err = read_count(cursor, "the number of tensors", TENSORS_MAX, TENSOR_BYTES_LEAST,
                     &gguf->tensors_len);
    return err ? err
               : read_count(cursor, "the number of keys", KEYS_MAX, KEY_BYTES_LEAST,
                            &gguf->keys_len);
}

enum err gguf_read(struct gguf *gguf)
{
    struct cursor cursor = {gguf, 0};
    uint32_t alignment;
    enum err err = read_header(&cursor, gguf);

    if (err == ERR_OK)
        err = read_keys(&cursor, gguf);
    if (err == ERR_OK)
        err = read_alignment(gguf, &alignment);
    if (err == ERR_OK)
        err = read_tensors(&cursor, gguf);
    if (err == ERR_OK)
        err = place_tensors(gguf, cursor.at, alignment);
    return err ? err : check_names(gguf);
}
