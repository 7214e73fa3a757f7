/* gguf.c: opens a file and answers for its keys and tensors. */
#include "kernels/model/gguf_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

const struct gguf_type_name gguf_types[GGUF_TYPES] = {
    [GGUF_U8] = {"u8", 1},       [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
    [GGUF_I16] = {"i16", 2},     [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
    [GGUF_F32] = {"f32", 4},     [GGUF_BOOL] = {"bool", 1}, [GGUF_TEXT] = {"text", 0},
    [GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

const char *gguf_show(struct slice name, struct shown *shown)
{
    size_t len = name.len < sizeof(shown->text) - 1 ? name.len : sizeof(shown->text) - 1;

    memcpy(shown->text, name.data, len);
    shown->text[len] = '\0';
    return shown->text;
}

int gguf_compare(struct slice a, struct slice b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len > 0 ? memcmp(a.data, b.data, len) : 0;

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

int gguf_compare_keys(const void *a, const void *b)
{
    return gguf_compare(((const struct key *)a)->name, ((const struct key *)b)->name);
}

static enum err new_gguf(const char *name, const void *data, size_t size, bool mapped,
                         struct gguf **ret)
{
    struct gguf *gguf = xcalloc(1, sizeof(*gguf));
    enum err err;

    gguf->name = xstrdup(name);
    gguf->data = data;
    gguf->size = size;
    gguf->mapped = mapped;
    err = gguf_read(gguf);
    if (err)
        gguf_close(gguf);
    else
        *ret = gguf;
    return err;
}

enum err gguf_parse(const char *name, const void *data, size_t size, struct gguf **ret)
{
    return new_gguf(name, data, size, false, ret);
}

enum err gguf_open(const char *path, struct gguf **ret)
{
    struct stat stat;
    void *data = MAP_FAILED;
    enum err err = ERR_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return fail(ERR_MODEL, "model %s: %s", path, strerror(errno));
    if (fstat(fd, &stat) != 0)
        err = fail(ERR_MODEL, "model %s: %s", path, strerror(errno));
    else if (!S_ISREG(stat.st_mode))
        err = fail(ERR_MODEL, "model %s: not a file", path);
    else if (stat.st_size < 24)
        err = fail(ERR_MODEL, "model %s: %lld bytes are too few for a GGUF file", path,
                   (long long)stat.st_size);
    if (err == ERR_OK) {
        data = mmap(NULL, (size_t)stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
            err = fail(ERR_MODEL, "model %s: mmap: %s", path, strerror(errno));
    }
    close(fd);
    return err ? err : new_gguf(path, data, (size_t)stat.st_size, true, ret);
}

void gguf_close(struct gguf *gguf)
{
    if (gguf == NULL)
        return;
    if (gguf->mapped)
        munmap((void *)(uintptr_t)gguf->data, gguf->size);
    free(gguf->by_name);
    free(gguf->tensors);
    free(gguf->keys);
    free(gguf->name);
    free(gguf);
}

const char *gguf_name(const struct gguf *gguf)
{
    return gguf->name;
}

struct slice gguf_bytes(const struct gguf *gguf)
{
    return (struct slice){(const char *)gguf->data, gguf->size};
}

uint32_t gguf_tensors(const struct gguf *gguf)
{
    return gguf->tensors_len;
}

const struct gguf_tensor *gguf_tensor(const struct gguf *gguf, uint32_t index)
{
    return &gguf->tensors[index];
}

const struct gguf_tensor *gguf_find(const struct gguf *gguf, const char *name)
{
    struct slice wanted = {name, strlen(name)};
    uint32_t low = 0;
    uint32_t high = gguf->tensors_len;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct gguf_tensor *tensor = &gguf->tensors[gguf->by_name[middle]];
        int order = gguf_compare(wanted, tensor->name);

        if (order == 0)
            return tensor;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static const struct key *find_key(const struct gguf *gguf, const char *name)
{
    struct key wanted = {.name = {name, strlen(name)}};

    return bsearch(&wanted, gguf->keys, gguf->keys_len, sizeof(*gguf->keys), gguf_compare_keys);
}

static enum err wrong_type(const struct gguf *gguf, const struct key *key, const char *wanted)
{
    return refuse(gguf, key->value - gguf->data, "key %s is %s%s, not %s", SHOW(key->name),
                  key->array ? "an array of " : "", gguf_types[key->type].name, wanted);
}

/* True when `key` is an integer; *ret is its value, as if it had endlessly many bits. */
static bool integer(const struct key *key, __int128 *ret)
{
    static const bool is_signed[GGUF_TYPES] = {
        [GGUF_I8] = true, [GGUF_I16] = true, [GGUF_I32] = true, [GGUF_I64] = true};
    uint32_t bytes = gguf_types[key->type].bytes;
    uint64_t value = 0;

    if (key->array || bytes == 0 || key->type == GGUF_F32 || key->type == GGUF_F64 ||
        key->type == GGUF_BOOL)
        return false;
    memcpy(&value, key->value, bytes);
    *ret = value;
    if (is_signed[key->type] && (value >> (8 * bytes - 1)) != 0)
        *ret -= (__int128)1 << (8 * bytes);
    return true;
}

enum err gguf_u32(const struct gguf *gguf, const char *name, uint32_t *ret)
{
    const struct key *key = find_key(gguf, name);
    __int128 value;

    if (key == NULL)
        return ERR_NOT_FOUND;
    if (!integer(key, &value))
        return wrong_type(gguf, key, "an integer");
    if (value < 0 || value > UINT32_MAX)
        return refuse(gguf, key->value - gguf->data, "key %s is out of range", name);
    *ret = (uint32_t)value;
    return ERR_OK;
}

enum err gguf_f32(const struct gguf *gguf, const char *name, float *ret)
{
    const struct key *key = find_key(gguf, name);
    double wide;

    if (key == NULL)
        return ERR_NOT_FOUND;
    if (key->array || (key->type != GGUF_F32 && key->type != GGUF_F64))
        return wrong_type(gguf, key, "a float");
    if (key->type == GGUF_F32) {
        memcpy(ret, key->value, sizeof(*ret));
    } else {
        memcpy(&wide, key->value, sizeof(wide));
        *ret = (float)wide;
    }
    return ERR_OK;
}

enum err gguf_bool(const struct gguf *gguf, const char *name, bool *ret)
{
    const struct key *key = find_key(gguf, name);

    if (key == NULL)
        return ERR_NOT_FOUND;
    if (key->array || key->type != GGUF_BOOL)
        return wrong_type(gguf, key, "a bool");
    *ret = *key->value == 1;
    return ERR_OK;
}

static struct slice text_at(const uint8_t *value)
{
    uint64_t len;

    memcpy(&len, value, sizeof(len));
    return (struct slice){(const char *)value + sizeof(len), (size_t)len};
}

enum err gguf_text(const struct gguf *gguf, const char *name, struct slice *ret)
{
    const struct key *key = find_key(gguf, name);

    if (key == NULL)
        return ERR_NOT_FOUND;
    if (key->array || key->type != GGUF_TEXT)
        return wrong_type(gguf, key, "a text");
    *ret = text_at(key->value);
    return ERR_OK;
}

enum err gguf_array(const struct gguf *gguf, const char *name, enum gguf_type type,
                    struct gguf_array *ret)
{
    const struct key *key = find_key(gguf, name);

    if (key == NULL)
        return ERR_NOT_FOUND;
    if (!key->array || key->type != type)
        return wrong_type(gguf, key, gguf_types[type].name);
    if (key->len > UINT32_MAX)
        return refuse(gguf, key->value - gguf->data, "key %s has too many elements", name);
    *ret = (struct gguf_array){(uint32_t)key->len, key->value};
    return ERR_OK;
}

float gguf_array_f32(const struct gguf_array *array, uint32_t index)
{
    float value;

    memcpy(&value, array->data + (size_t)index * sizeof(value), sizeof(value));
    return value;
}

int32_t gguf_array_i32(const struct gguf_array *array, uint32_t index)
{
    int32_t value;

    memcpy(&value, array->data + (size_t)index * sizeof(value), sizeof(value));
    return value;
}

struct slice gguf_array_next(struct gguf_array *array)
{
    struct slice text = text_at(array->data);

    array->len--;
    array->data += sizeof(uint64_t) + text.len;
    return text;
}
