/* db_result.c: typed values out of a result, in binary form or (db_script) in text form. */
#include "sql/db_internal.h"

#include "config/log.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* PostgreSQL counts from 2000-01-01. */
static const int64_t epoch_us = INT64_C(946684800) * 1000000;

static _Noreturn void misused(const struct db_result *result, int row, int column, const char *what)
{
    log_error("bug", "what=\"result misused\" wanted=%s row=%d of=%d column=%d of=%d type=%u", what,
              row, result->rows, column, result->pg ? PQnfields(result->pg) : 0,
              result->pg ? (unsigned)PQftype(result->pg, column) : 0);
    abort();
}

static bool is_text_form(const struct db_result *result, int column)
{
    return PQfformat(result->pg, column) == 0;
}

static void check(const struct db_result *result, int row, int column, const char *what)
{
    if (!result->pg || row < 0 || row >= result->rows || column < 0 ||
        column >= PQnfields(result->pg))
        misused(result, row, column, what);
}

/* The value's `len` bytes; NULL for a null. */
static const char *fixed(const struct db_result *result, int row, int column, int len,
                         const char *what)
{
    check(result, row, column, what);
    if (PQgetisnull(result->pg, row, column))
        return NULL;
    if (is_text_form(result, column) || PQgetlength(result->pg, row, column) != len)
        misused(result, row, column, what);
    return PQgetvalue(result->pg, row, column);
}

static int64_t parse_i64(const struct db_result *result, int row, int column)
{
    const char *text = PQgetvalue(result->pg, row, column);
    char *end;
    long long value;

    errno = 0;
    value = strtoll(text, &end, 10);
    if (errno || end == text || *end)
        misused(result, row, column, "number");
    return value;
}

void db_result_release(struct db_result *result)
{
    PQclear(result->pg);
    *result = (struct db_result){0};
}

bool db_is_null(const struct db_result *result, int row, int column)
{
    check(result, row, column, "any");
    return PQgetisnull(result->pg, row, column);
}

bool db_get_bool(const struct db_result *result, int row, int column)
{
    const char *at = fixed(result, row, column, 1, "bool");

    return at && *at;
}

int32_t db_get_i32(const struct db_result *result, int row, int column)
{
    const char *at = fixed(result, row, column, 4, "int4");
    uint32_t value = 0;

    if (at)
        memcpy(&value, at, sizeof(value));
    return (int32_t)be32toh(value);
}

int64_t db_get_i64(const struct db_result *result, int row, int column)
{
    uint64_t value;

    check(result, row, column, "int8");
    if (PQgetisnull(result->pg, row, column))
        return 0;
    if (is_text_form(result, column))
        return parse_i64(result, row, column);
    if (PQgetlength(result->pg, row, column) == 4)
        return db_get_i32(result, row, column);
    memcpy(&value, fixed(result, row, column, 8, "int8"), sizeof(value));
    return (int64_t)be64toh(value);
}

struct uuid db_get_uuid(const struct db_result *result, int row, int column)
{
    struct uuid uuid = {{0}};
    const char *at = fixed(result, row, column, sizeof(uuid.bytes), "uuid");

    if (at)
        memcpy(uuid.bytes, at, sizeof(uuid.bytes));
    return uuid;
}

struct slice db_get_slice(const struct db_result *result, int row, int column)
{
    check(result, row, column, "bytes");
    if (PQgetisnull(result->pg, row, column))
        return (struct slice){NULL, 0};
    return (struct slice){PQgetvalue(result->pg, row, column),
                          (size_t)PQgetlength(result->pg, row, column)};
}

int64_t db_get_time_us(const struct db_result *result, int row, int column)
{
    const char *at = fixed(result, row, column, 8, "timestamptz");
    uint64_t value;

    if (!at)
        return 0;
    memcpy(&value, at, sizeof(value));
    return (int64_t)be64toh(value) + epoch_us;
}

struct slice db_get_bits(const struct db_result *result, int row, int column, uint32_t *ret_bits)
{
    struct slice value = db_get_slice(result, row, column);
    uint32_t bits;

    *ret_bits = 0;
    if (!value.data)
        return value;
    if (value.len < sizeof(bits) || is_text_form(result, column))
        misused(result, row, column, "bits");
    memcpy(&bits, value.data, sizeof(bits));
    bits = be32toh(bits);
    value = (struct slice){value.data + sizeof(bits), value.len - sizeof(bits)};
    if (value.len != (bits + 7) / 8)
        misused(result, row, column, "bits");
    *ret_bits = bits;
    return value;
}
