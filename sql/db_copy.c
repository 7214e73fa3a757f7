/* db_copy.c: rows as a stream: COPY in its binary form, taken apart row by row. */
#include "sql/db_internal.h"

#include "config/log.h"

#include <assert.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

/* PostgreSQL counts from 2000-01-01. */
static const int64_t epoch_us = INT64_C(946684800) * 1000000;

static const char signature[11] = "PGCOPY\n\377\r\n";

struct reader {
    enum err (*on_row_cb)(void *arg, const struct db_copied *row);
    void *arg;
    bool begun; /* the header was seen */
    enum err outcome;
};

/* ------------------------------------------------------------------------------ the statement ---- */

static void add_value(struct buffer *text, const struct db_param *param)
{
    char uuid[UUID_TEXT_SIZE];
    struct uuid id;

    switch (param->kind) {
    case DB_I32:
    case DB_I64: /* in brackets, and as text: the smallest number is not a minus and a number */
        buffer_printf(text, "('%lld'::bigint)", (long long)param->value);
        break;
    case DB_UUID:
        memcpy(id.bytes, param->data, sizeof(id.bytes));
        buffer_printf(text, "('%s'::uuid)", uuid_format(id, uuid));
        break;
    case DB_I64_ARRAY:
        buffer_add_text(text, "('{");
        for (size_t i = 0; i < param->count; i++) {
            if (i > 0)
                buffer_add_byte(text, ',');
            buffer_add_i64(text, ((const int64_t *)param->data)[i]);
        }
        buffer_add_text(text, "}'::bigint[])");
        break;
    default:
        log_error("bug", "what=\"a parameter of COPY is no number and no id\" kind=%d",
                  (int)param->kind);
        abort();
    }
}

/* The query with its parameters in it; what a parameter holds is never read again. */
static void write_in(struct buffer *text, const char *query, struct db_params params)
{
    while (*query != '\0') {
        size_t plain = strcspn(query, "$");
        char *end;
        long number;

        buffer_add(text, query, plain);
        query += plain;
        if (*query == '\0')
            return;
        number = strtol(query + 1, &end, 10);
        assert(number >= 1 && number <= params.count);
        add_value(text, &params.param[number - 1]);
        query = end;
    }
}

/* --------------------------------------------------------------------------------- the stream ---- */

static bool take(struct slice *bytes, void *out, size_t size)
{
    if (bytes->len < size)
        return false;
    if (out != NULL)
        memcpy(out, bytes->data, size);
    bytes->data += size;
    bytes->len -= size;
    return true;
}

static bool take_header(struct slice *bytes)
{
    char begin[sizeof(signature)];
    uint32_t flags, extension;

    return take(bytes, begin, sizeof(begin)) && memcmp(begin, signature, sizeof(begin)) == 0 &&
           take(bytes, &flags, sizeof(flags)) && flags == 0 &&
           take(bytes, &extension, sizeof(extension)) && take(bytes, NULL, be32toh(extension));
}

static bool take_field(struct slice *bytes, struct slice *ret)
{
    uint32_t wire;
    int32_t size;

    if (!take(bytes, &wire, sizeof(wire)))
        return false;
    size = (int32_t)be32toh(wire);
    *ret = (struct slice){NULL, 0};
    if (size < 0)
        return size == -1;
    *ret = (struct slice){bytes->data, (size_t)size};
    return take(bytes, NULL, (size_t)size);
}

/* *ret->count is -1 at the end of the stream. */
static bool take_row(struct slice *bytes, struct db_copied *ret)
{
    uint16_t count;

    if (!take(bytes, &count, sizeof(count)))
        return false;
    ret->count = (int16_t)be16toh(count);
    if (ret->count < -1 || ret->count > DB_COPY_FIELDS_MAX)
        return false;
    for (int i = 0; i < ret->count; i++) {
        if (!take_field(bytes, &ret->field[i]))
            return false;
    }
    return true;
}

/* The server sends whole rows, the first behind the header. */
static bool take_message(struct reader *reader, struct slice bytes)
{
    struct db_copied row;

    if (!reader->begun && !take_header(&bytes))
        return false;
    reader->begun = true;
    while (bytes.len > 0) {
        if (!take_row(&bytes, &row))
            return false;
        if (row.count >= 0 && reader->outcome == ERR_OK)
            reader->outcome = reader->on_row_cb(reader->arg, &row);
    }
    return true;
}

static enum err read_stream(struct db *db, struct reader *reader)
{
    for (;;) {
        char *data = NULL;
        int size = PQgetCopyData(db->conn, &data, 1);
        bool good = size <= 0 || take_message(reader, (struct slice){data, (size_t)size});

        PQfreemem(data);
        if (!good)
            return db_gone(db, "what it copies to us is not in COPY's binary form");
        if (size == -1)
            return ERR_OK;
        if (size < -1)
            return db_failed(db, NULL, "");
        if (size == 0) {
            enum err rc = db_wait(db, false);

            if (rc)
                return rc;
        }
    }
}

static enum err collect(struct db *db, const char *query, struct reader *reader)
{
    enum err outcome = ERR_OK;

    for (;;) {
        PGresult *result;
        ExecStatusType status;
        enum err rc = db_next_result(db, &result);

        if (rc || !result)
            return rc ? rc : outcome;
        status = PQresultStatus(result);
        if (status == PGRES_COPY_OUT)
            rc = read_stream(db, reader);
        else if (status != PGRES_COMMAND_OK && !outcome)
            outcome = db_failed(db, result, query);
        PQclear(result);
        if (rc || !db->conn)
            return rc ? rc : outcome;
    }
}

enum err db_copy_out(struct db *db, const char *query, struct db_params params,
                     enum err (*on_row_cb)(void *arg, const struct db_copied *row), void *arg)
{
    struct reader reader = {.on_row_cb = on_row_cb, .arg = arg};
    struct buffer text = {0};
    enum err rc;

    if (!db->conn)
        return db_not_open();
    db_error_clear(db);
    write_in(&text, query, params);
    rc = PQsendQuery(db->conn, text.data) ? db_flush(db) : db_failed(db, NULL, query);
    if (rc == ERR_OK)
        rc = collect(db, query, &reader);
    buffer_release(&text);
    return rc != ERR_OK ? rc : reader.outcome;
}

/* --------------------------------------------------------------------------------- the values ---- */

static _Noreturn void misused(const struct db_copied *row, int column, const char *what)
{
    log_error("bug", "what=\"copied row misused\" wanted=%s column=%d of=%d", what, column,
              row->count);
    abort();
}

/* A number of 2, 4 or 8 bytes; a null is 0. */
static int64_t number(const struct db_copied *row, int column, size_t size_max, const char *what)
{
    union {
        uint16_t u16;
        uint32_t u32;
        uint64_t u64;
    } wire;
    struct slice field = {NULL, 0};

    if (column >= 0 && column < row->count)
        field = row->field[column];
    else
        misused(row, column, what);
    if (field.data == NULL)
        return 0;
    if (field.len > size_max)
        misused(row, column, what);
    memcpy(&wire, field.data, field.len);
    switch (field.len) {
    case 2:
        return (int16_t)be16toh(wire.u16);
    case 4:
        return (int32_t)be32toh(wire.u32);
    case 8:
        return (int64_t)be64toh(wire.u64);
    default:
        misused(row, column, what);
    }
}

int32_t db_copied_i32(const struct db_copied *row, int column)
{
    return (int32_t)number(row, column, 4, "int4");
}

int64_t db_copied_i64(const struct db_copied *row, int column)
{
    return number(row, column, 8, "int8");
}

int64_t db_copied_time_us(const struct db_copied *row, int column)
{
    bool null = column >= 0 && column < row->count && row->field[column].data == NULL;

    return null ? 0 : number(row, column, 8, "timestamptz") + epoch_us;
}

struct uuid db_copied_uuid(const struct db_copied *row, int column)
{
    struct uuid uuid = {0};

    if (column < 0 || column >= row->count ||
        (row->field[column].data != NULL && row->field[column].len != sizeof(uuid.bytes)))
        misused(row, column, "uuid");
    if (row->field[column].data != NULL)
        memcpy(uuid.bytes, row->field[column].data, sizeof(uuid.bytes));
    return uuid;
}
