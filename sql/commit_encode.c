/* commit_encode.c: rows and checkpoints in the form that COPY … (format binary) reads. */
#include "sql/commit_internal.h"

#include <assert.h>
#include <endian.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const struct slice status_names[] = {
    [ROW_COMPLETED] = {"completed", 9},
    [ROW_FAILED] = {"failed", 6},
    [ROW_CANCELLED] = {"cancelled", 9},
    [ROW_EXPIRED] = {"expired", 7},
};

/*
 * A row is: number of fields, u16, then each field as length, i32 (-1: null), and bytes. Fields in
 * the order of the staging table (sql/queries/commit_staging.sql).
 */
enum {
    FIELDS = 17,
    /* lengths of all fields, and the bytes of those of fixed size */
    ROW_FIXED_BYTES = 2 + FIELDS * 4 + 16 + 8 + 2 + 4 * 4 + 8 + 8 + 4 + 1,
    CHECKPOINT_FIXED_BYTES = 2 + FIELDS * 4 + 16 + 8 + 4 + 8 + 4 + 4,
};

static char *put_u16(char *at, uint16_t value)
{
    value = htobe16(value);
    memcpy(at, &value, sizeof(value));
    return at + sizeof(value);
}

static char *put_u32(char *at, uint32_t value)
{
    value = htobe32(value);
    memcpy(at, &value, sizeof(value));
    return at + sizeof(value);
}

static char *put_u64(char *at, uint64_t value)
{
    value = htobe64(value);
    memcpy(at, &value, sizeof(value));
    return at + sizeof(value);
}

static char *put_bytes(char *at, struct slice bytes)
{
    if (!bytes.data)
        return put_u32(at, UINT32_MAX);
    at = put_u32(at, (uint32_t)bytes.len);
    memcpy(at, bytes.data, bytes.len);
    return at + bytes.len;
}

static char *put_i32_field(char *at, uint32_t value)
{
    return put_u32(put_u32(at, 4), value);
}

static char *put_i64_field(char *at, uint64_t value)
{
    return put_u64(put_u32(at, 8), value);
}

static char *put_nulls(char *at, int count)
{
    while (count-- > 0)
        at = put_u32(at, UINT32_MAX);
    return at;
}

static char *put_key(char *at, const struct commit_chunk *chunk, int64_t line)
{
    at = put_u16(at, FIELDS);
    at = put_bytes(at, (struct slice){(const char *)chunk->job.bytes, sizeof(chunk->job.bytes)});
    return put_i64_field(at, (uint64_t)line);
}

static char *put_row(char *at, const struct commit_batch *batch, const struct commit_row *row)
{
    at = put_key(at, &batch->chunks[row->chunk], row->line);
    at = put_bytes(at, row->custom_id);
    at = put_bytes(at, status_names[row->status]);
    at = row->status_code ? put_u16(put_u32(at, 2), (uint16_t)row->status_code)
                          : put_u32(at, UINT32_MAX);
    at = put_bytes(at, row->response);
    at = put_bytes(at, row->error);
    at = put_i32_field(at, row->input_tokens);
    at = put_i32_field(at, row->cached_tokens);
    at = put_i32_field(at, row->output_tokens);
    at = put_i64_field(at, row->gpu_ns);
    at = put_i32_field(at, row->attempt);
    at = put_i64_field(at, row->recompute_ns);
    at = put_i32_field(at, row->resumed_tokens);
    at = put_u32(at, 1);
    *at++ = row->numerics_changed;
    return put_nulls(at, 2);
}

/* `place` is that of its chunk among the chunks of the script. */
static char *put_checkpoint(char *at, const struct commit_batch *batch,
                            const struct commit_checkpoint *saved, uint32_t place)
{
    at = put_key(at, &batch->chunks[saved->chunk], saved->line);
    at = put_nulls(at, 7);
    at = put_i32_field(at, saved->tokens);
    at = put_i64_field(at, saved->gpu_ns);
    at = put_i32_field(at, saved->attempt);
    at = put_nulls(at, 3);
    at = put_i32_field(at, place + 1);
    return put_bytes(at,
                     (struct slice){saved->state.data ? saved->state.data : "", saved->state.len});
}

static void encode_row(const struct commit_batch *batch, const struct commit_row *row,
                       struct buffer *out)
{
    size_t bytes = ROW_FIXED_BYTES + row->custom_id.len + status_names[row->status].len +
                   row->response.len + row->error.len;
    char *start;

    assert(row->custom_id.len <= INT_MAX && row->response.len <= INT_MAX &&
           row->error.len <= INT_MAX);
    start = buffer_reserve(out, bytes);
    out->len += (size_t)(put_row(start, batch, row) - start);
}

static int compare_replacements(const void *a, const void *b)
{
    uint32_t left = ((const struct commit_replacement *)a)->row;
    uint32_t right = ((const struct commit_replacement *)b)->row;

    return (left > right) - (left < right);
}

static void begin_copy(struct buffer *out)
{
    static const char header[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0"; /* with flags and extension */

    buffer_clear(out);
    buffer_add(out, header, 19);
}

static void end_copy(struct buffer *out)
{
    buffer_add(out, "\xff\xff", 2);
}

static void add_rows(const struct commit_batch *batch, const uint32_t *order, uint32_t first,
                     uint32_t count, const struct commit_replacement *replaced,
                     uint32_t replaced_count, struct buffer *out)
{
    for (uint32_t i = first; i < first + count; i++) {
        struct commit_replacement wanted = {.row = order[i]};
        const struct commit_replacement *found = NULL;
        struct commit_row row = batch->rows[order[i]];

        if (replaced_count)
            found =
                bsearch(&wanted, replaced, replaced_count, sizeof(*replaced), compare_replacements);
        if (found) {
            row.status = ROW_FAILED;
            row.status_code = 0;
            row.response = (struct slice){NULL, 0};
            row.error = (struct slice){found->error, strlen(found->error)};
        }
        encode_row(batch, &row, out);
    }
}

static void add_checkpoints(const struct commit_batch *batch, const uint32_t *places,
                            struct buffer *out)
{
    for (uint32_t i = 0; i < batch->checkpoints_count; i++) {
        const struct commit_checkpoint *saved = &batch->checkpoints[i];
        char *start;

        assert(saved->state.len <= INT_MAX);
        start = buffer_reserve(out, CHECKPOINT_FIXED_BYTES + saved->state.len);
        out->len += (size_t)(put_checkpoint(start, batch, saved, places[saved->chunk]) - start);
    }
}

void commit_encode_rows(const struct commit_batch *batch, const uint32_t *order, uint32_t first,
                        uint32_t count, const struct commit_replacement *replaced,
                        uint32_t replaced_count, struct buffer *out)
{
    begin_copy(out);
    add_rows(batch, order, first, count, replaced, replaced_count, out);
    end_copy(out);
}

void commit_encode_all(const struct commit_batch *batch, const struct commit_touched *touched,
                       const uint32_t *order, const struct commit_replacement *replaced,
                       uint32_t replaced_count, struct buffer *out)
{
    begin_copy(out);
    add_rows(batch, order, 0, batch->rows_count, replaced, replaced_count, out);
    add_checkpoints(batch, touched->places, out);
    end_copy(out);
}

struct key {
    struct uuid job;
    int64_t line;
    uint32_t row;
};

static int compare_keys(const void *a, const void *b)
{
    const struct key *left = a, *right = b;
    int order = memcmp(left->job.bytes, right->job.bytes, sizeof(left->job.bytes));

    return order ? order : (left->line > right->line) - (left->line < right->line);
}

/* Requests finish in any order; rows are locked in that of their key. */
const uint32_t *commit_order(const struct commit_batch *batch, struct arena *arena)
{
    struct key *keys = arena_zalloc(arena, batch->rows_count + 1, sizeof(*keys));
    uint32_t *order = arena_zalloc(arena, batch->rows_count + 1, sizeof(*order));

    for (uint32_t i = 0; i < batch->rows_count; i++)
        keys[i] = (struct key){batch->chunks[batch->rows[i].chunk].job, batch->rows[i].line, i};
    qsort(keys, batch->rows_count, sizeof(*keys), compare_keys);
    for (uint32_t i = 0; i < batch->rows_count; i++)
        order[i] = keys[i].row;
    return order;
}
