/* db_param.c: query parameters in PostgreSQL's binary form. */
#include "sql/db_internal.h"

#include <assert.h>
#include <endian.h>
#include <limits.h>
#include <string.h>

/* Numbers of built-in types; they have not changed since these types exist. */
enum {
    OID_BOOL = 16,
    OID_BYTEA = 17,
    OID_I64 = 20,
    OID_I32 = 23,
    OID_TEXT = 25,
    OID_JSON = 114,
    OID_UUID = 2950,
    OID_BYTEA_ARRAY = 1001,
    OID_I32_ARRAY = 1007,
    OID_TEXT_ARRAY = 1009,
    OID_I64_ARRAY = 1016,
    OID_UUID_ARRAY = 2951,
};

static const struct {
    Oid type;
    Oid element;   /* of an array */
    size_t stride; /* bytes from one C element to the next */
} kinds[] = {
    [DB_NULL] = {0, 0, 0},
    [DB_BOOL] = {OID_BOOL, 0, 0},
    [DB_I32] = {OID_I32, 0, 0},
    [DB_I64] = {OID_I64, 0, 0},
    [DB_TEXT] = {OID_TEXT, 0, 0},
    [DB_BYTEA] = {OID_BYTEA, 0, 0},
    [DB_UUID] = {OID_UUID, 0, 0},
    [DB_JSON] = {OID_JSON, 0, 0},
    [DB_I32_ARRAY] = {OID_I32_ARRAY, OID_I32, sizeof(int32_t)},
    [DB_I64_ARRAY] = {OID_I64_ARRAY, OID_I64, sizeof(int64_t)},
    [DB_TEXT_ARRAY] = {OID_TEXT_ARRAY, OID_TEXT, sizeof(struct slice)},
    [DB_BYTEA_ARRAY] = {OID_BYTEA_ARRAY, OID_BYTEA, sizeof(struct slice)},
    [DB_UUID_ARRAY] = {OID_UUID_ARRAY, OID_UUID, 16},
};

static void add_u32(struct buffer *buffer, uint32_t value)
{
    value = htobe32(value);
    buffer_add(buffer, &value, sizeof(value));
}

static void add_u64(struct buffer *buffer, uint64_t value)
{
    value = htobe64(value);
    buffer_add(buffer, &value, sizeof(value));
}

static void add_bytes(struct buffer *buffer, struct slice bytes)
{
    assert(bytes.len <= INT_MAX);
    if (!bytes.data) {
        add_u32(buffer, UINT32_MAX); /* null */
        return;
    }
    add_u32(buffer, (uint32_t)bytes.len);
    buffer_add(buffer, bytes.data, bytes.len);
}

static void add_element(struct buffer *buffer, enum db_kind kind, const char *at)
{
    int32_t i32;
    int64_t i64;

    switch (kind) {
    case DB_I32_ARRAY:
        memcpy(&i32, at, sizeof(i32));
        add_u32(buffer, sizeof(i32));
        add_u32(buffer, (uint32_t)i32);
        break;
    case DB_I64_ARRAY:
        memcpy(&i64, at, sizeof(i64));
        add_u32(buffer, sizeof(i64));
        add_u64(buffer, (uint64_t)i64);
        break;
    case DB_UUID_ARRAY:
        add_bytes(buffer, (struct slice){at, 16});
        break;
    default:
        add_bytes(buffer, *(const struct slice *)(const void *)at);
        break;
    }
}

/* One dimension from index 1: {dimensions, has nulls, element type, length, lower bound}, elements. */
static void add_array(struct buffer *buffer, const struct db_param *param)
{
    assert(param->count <= INT32_MAX);
    add_u32(buffer, param->count ? 1 : 0);
    add_u32(buffer, 0);
    add_u32(buffer, kinds[param->kind].element);
    if (param->count) {
        add_u32(buffer, (uint32_t)param->count);
        add_u32(buffer, 1);
    }
    for (size_t i = 0; i < param->count; i++)
        add_element(buffer, param->kind, (const char *)param->data + i * kinds[param->kind].stride);
}

/* Encodes into the buffer; false when the caller's bytes can be sent as they are. */
static bool encode_one(struct buffer *buffer, const struct db_param *param)
{
    switch (param->kind) {
    case DB_BOOL:
        buffer_add_byte(buffer, param->value != 0);
        return true;
    case DB_I32:
        add_u32(buffer, (uint32_t)param->value);
        return true;
    case DB_I64:
        add_u64(buffer, (uint64_t)param->value);
        return true;
    case DB_I32_ARRAY:
    case DB_I64_ARRAY:
    case DB_TEXT_ARRAY:
    case DB_BYTEA_ARRAY:
    case DB_UUID_ARRAY:
        add_array(buffer, param);
        return true;
    default:
        return false;
    }
}

void db_params_encode(struct db_params params, struct buffer *encoded, struct db_wire_params *ret)
{
    size_t start[DB_PARAMS_MAX];

    assert(params.count <= DB_PARAMS_MAX);
    buffer_clear(encoded);
    buffer_reserve(encoded, 1);
    for (int i = 0; i < params.count; i++) {
        const struct db_param *param = &params.param[i];

        ret->types[i] = kinds[param->kind].type;
        ret->formats[i] = 1;
        start[i] = encoded->len;
        if (encode_one(encoded, param)) {
            assert(encoded->len - start[i] <= INT_MAX);
            ret->lengths[i] = (int)(encoded->len - start[i]);
        } else {
            assert(param->count <= INT_MAX);
            start[i] = SIZE_MAX;
            ret->values[i] = param->data;
            ret->lengths[i] = (int)param->count;
        }
    }
    for (int i = 0; i < params.count; i++)
        if (start[i] != SIZE_MAX)
            ret->values[i] =
                encoded->data + start[i]; /* only now does the buffer stay where it is */
}

struct db_param db_text(const char *text)
{
    return (struct db_param){
        .kind = text ? DB_TEXT : DB_NULL, .data = text, .count = text ? strlen(text) : 0};
}
