/*
 * commit_script.c: the whole commit as one message of text: begin, copy, the function, commit.
 *
 * One simple-protocol message is read by the server before it begins, and run to its end without
 * another word from us: we may be stopped at any point, and no lock waits for us. Everything in it
 * is a number, a UUID, a bit, or quoted here.
 */
#include "sql/commit_internal.h"

#include "config/json.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

static const char *const attempt_whys[] = {
    [ATTEMPT_FENCED] = "fenced",
    [ATTEMPT_CANCELLED] = "cancelled",
};

/* Arrays are written element by element between these two: '{a,b,c}', */
static void open_array(struct buffer *out)
{
    buffer_add_text(out, "'{");
}

static void next_element(struct buffer *out)
{
    if (out->data[out->len - 1] != '{')
        buffer_add_byte(out, ',');
}

static void close_array(struct buffer *out)
{
    buffer_add_text(out, "}', ");
}

/* In double quotes for the array, inside the single quotes of the literal. */
static void add_text_element(struct buffer *out, const char *text)
{
    next_element(out);
    buffer_add_byte(out, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            buffer_add_byte(out, '\\');
        if (*text == '\'')
            buffer_add_byte(out, '\'');
        buffer_add_byte(out, *text);
    }
    buffer_add_byte(out, '"');
}

static void add_uuid(struct buffer *out, struct uuid uuid)
{
    char text[UUID_TEXT_SIZE];

    buffer_add_text(out, uuid_format(uuid, text));
}

/* '{…}', of one expression over i, from 0 to count - 1. */
#define ADD_NUMBERS(out, count, expression)                                                        \
    do {                                                                                           \
        open_array(out);                                                                           \
        for (uint32_t i = 0; i < (count); i++) {                                                   \
            next_element(out);                                                                     \
            buffer_add_i64(out, (int64_t)(expression));                                            \
        }                                                                                          \
        close_array(out);                                                                          \
    } while (0)

#define ADD_UUIDS(out, count, expression)                                                          \
    do {                                                                                           \
        open_array(out);                                                                           \
        for (uint32_t i = 0; i < (count); i++) {                                                   \
            next_element(out);                                                                     \
            add_uuid(out, (expression));                                                           \
        }                                                                                          \
        close_array(out);                                                                          \
    } while (0)

static void add_partitions(const struct commit_batch *batch, struct buffer *out)
{
    const struct commit_partition *at = batch->partitions;

    open_array(out);
    for (uint32_t i = 0; i < batch->partitions_count; i++)
        add_text_element(out, at[i].topic);
    close_array(out);
    ADD_NUMBERS(out, batch->partitions_count, at[i].part);
    ADD_NUMBERS(out, batch->partitions_count, at[i].epoch);
    ADD_NUMBERS(out, batch->partitions_count, at[i].token);
}

/* The lines that get their row now, a digit each; *ret_touched are the chunks that have one. */
static char **bitmaps(const struct commit_batch *batch, struct arena *arena, uint32_t **ret_touched,
                      uint32_t *ret_count)
{
    char **map = arena_zalloc(arena, batch->chunks_count + 1, sizeof(*map));
    uint32_t *touched = arena_zalloc(arena, batch->chunks_count + 1, sizeof(*touched));
    uint32_t count = 0;

    for (uint32_t i = 0; i < batch->rows_count; i++) {
        const struct commit_row *row = &batch->rows[i];
        const struct commit_chunk *chunk = &batch->chunks[row->chunk];

        assert(row->chunk < batch->chunks_count && chunk->partition < batch->partitions_count);
        assert(row->line >= chunk->first_line && row->line - chunk->first_line < chunk->lines);
        if (!map[row->chunk]) {
            map[row->chunk] = arena_zalloc(arena, chunk->lines + 1, 1);
            memset(map[row->chunk], '0', chunk->lines);
            touched[count++] = row->chunk;
        }
        map[row->chunk][row->line - chunk->first_line] = '1';
    }
    *ret_touched = touched;
    *ret_count = count;
    return map;
}

static void add_chunks(const struct commit_batch *batch, struct arena *arena, struct buffer *out)
{
    uint32_t *touched, count;
    char **map = bitmaps(batch, arena, &touched, &count);

    ADD_UUIDS(out, count, batch->chunks[touched[i]].job);
    ADD_NUMBERS(out, count, batch->chunks[touched[i]].chunk);
    ADD_NUMBERS(out, count, batch->chunks[touched[i]].partition + 1);
    open_array(out);
    for (uint32_t i = 0; i < count; i++) {
        next_element(out);
        buffer_add_text(out, map[touched[i]]);
    }
    close_array(out);
}

static void add_attempts(const struct commit_batch *batch, struct buffer *out)
{
    const struct commit_attempt *at = batch->attempts;

    ADD_UUIDS(out, batch->attempts_count, at[i].job);
    ADD_NUMBERS(out, batch->attempts_count, at[i].line);
    ADD_NUMBERS(out, batch->attempts_count, at[i].gpu_ns);
    open_array(out);
    for (uint32_t i = 0; i < batch->attempts_count; i++)
        add_text_element(out, attempt_whys[at[i].why]);
    close_array(out);
}

/* {"job": ns}, of those that have work in progress; null when none has. */
static void add_wip_jobs(const struct commit_batch *batch, struct buffer *out)
{
    size_t start = out->len;

    buffer_add_text(out, "'{");
    for (uint32_t i = 0; i < batch->jobs_count; i++) {
        if (batch->jobs[i].wip_ns == 0)
            continue;
        next_element(out);
        buffer_add_byte(out, '"');
        add_uuid(out, batch->jobs[i].job);
        buffer_add_text(out, "\":");
        buffer_add_u64(out, batch->jobs[i].wip_ns);
    }
    if (out->data[out->len - 1] == '{') {
        out->len = start;
        buffer_add_text(out, "null");
    } else {
        buffer_add_text(out, "}'");
    }
}

static void add_books(const struct commit_batch *batch, struct buffer *out)
{
    const struct commit_books *books = &batch->books;

    ADD_UUIDS(out, batch->jobs_count, batch->jobs[i].job);
    ADD_NUMBERS(out, batch->jobs_count, batch->jobs[i].shared_ns);
    ADD_NUMBERS(out, batch->jobs_count, batch->jobs[i].recompute_ns);
    ADD_NUMBERS(out, batch->jobs_count, batch->jobs[i].lost_ns);
    buffer_printf(out, "%" PRIu64 ", %" PRIu64 ", ", books->held_ns, books->wip_ns);
    add_wip_jobs(batch, out);
    buffer_printf(out, ", %" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64,
                  books->shared_ns, books->recompute_ns, books->overhead_ns, books->idle_ns,
                  books->lost_ns);
}

/* Of which jobs it writes; one may come several times. */
static void add_job_ids(const struct commit_batch *batch, struct buffer *out)
{
    open_array(out);
    for (uint32_t i = 0; i < batch->chunks_count; i++) {
        if (i > 0 && uuid_equal(batch->chunks[i].job, batch->chunks[i - 1].job))
            continue;
        next_element(out);
        add_uuid(out, batch->chunks[i].job);
    }
    for (uint32_t i = 0; i < batch->attempts_count; i++) {
        next_element(out);
        add_uuid(out, batch->attempts[i].job);
    }
    for (uint32_t i = 0; i < batch->jobs_count; i++) {
        next_element(out);
        add_uuid(out, batch->jobs[i].job);
    }
    buffer_add_text(out, "}'");
}

void commit_write_script(const struct commit_batch *batch, struct arena *arena, struct buffer *out)
{
    buffer_clear(out);
    buffer_add_text(out, "begin isolation level read committed; "
                         "copy pg_temp.staging from stdin (format binary); "
                         "select mserve.check_accepted(");
    add_job_ids(batch, out);
    buffer_add_text(out, "); select inserted, duplicates from mserve.commit_batch('");
    add_uuid(out, batch->worker);
    buffer_printf(out, "', %" PRId64 ", %" PRId64 ", %" PRIu64 ", %" PRIu32 ", ", batch->token,
                  batch->seq, batch->lease_ms, batch->rows_count);
    add_partitions(batch, out);
    add_chunks(batch, arena, out);
    add_attempts(batch, out);
    add_books(batch, out);
    buffer_add_text(out, "); commit");
}
