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
    [ATTEMPT_PREEMPTED] = "preempted", [ATTEMPT_CRASHED] = "crashed",
    [ATTEMPT_HUNG] = "hung",           [ATTEMPT_OUT_OF_MEMORY] = "out_of_memory",
    [ATTEMPT_VANISHED] = "vanished",   [ATTEMPT_FENCED] = "fenced",
    [ATTEMPT_DEADLINE] = "deadline",   [ATTEMPT_CANCELLED] = "cancelled",
    [ATTEMPT_DUPLICATE] = "duplicate", [ATTEMPT_UNUSABLE] = "unusable",
    [ATTEMPT_HELD] = "held",
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

/* Its place among the touched ones; it is one of them from now on. */
static uint32_t touch(const struct commit_batch *batch, uint32_t chunk, int64_t line,
                      struct commit_touched *touched)
{
    const struct commit_chunk *at;

    assert(chunk < batch->chunks_count);
    at = &batch->chunks[chunk];
    assert(at->partition < batch->partitions_count);
    assert(line >= at->first_line && line - at->first_line < at->lines);
    if (touched->places[chunk] == UINT32_MAX) {
        touched->places[chunk] = touched->count;
        touched->chunk[touched->count++] = chunk;
    }
    return touched->places[chunk];
}

void commit_find_touched(const struct commit_batch *batch, struct arena *arena,
                         struct commit_touched *ret)
{
    size_t room = (size_t)batch->chunks_count + 1;

    *ret = (struct commit_touched){.chunk = arena_zalloc(arena, room, sizeof(*ret->chunk)),
                                   .map = arena_zalloc(arena, room, sizeof(*ret->map)),
                                   .places = arena_zalloc(arena, room, sizeof(*ret->places))};
    memset(ret->places, 0xff, room * sizeof(*ret->places));
    for (uint32_t i = 0; i < batch->rows_count; i++) {
        const struct commit_row *row = &batch->rows[i];
        const struct commit_chunk *chunk = &batch->chunks[row->chunk];
        char **map = &ret->map[touch(batch, row->chunk, row->line, ret)];

        if (!*map) {
            *map = arena_zalloc(arena, chunk->lines + 1, 1);
            memset(*map, '0', chunk->lines);
        }
        (*map)[row->line - chunk->first_line] = '1';
    }
    for (uint32_t i = 0; i < batch->checkpoints_count; i++)
        touch(batch, batch->checkpoints[i].chunk, batch->checkpoints[i].line, ret);
    for (uint32_t i = 0; i < batch->discards_count; i++)
        touch(batch, batch->discards[i].chunk, batch->discards[i].line, ret);
}

static void add_chunks(const struct commit_batch *batch, const struct commit_touched *touched,
                       struct buffer *out)
{
    const uint32_t *chunk = touched->chunk;

    ADD_UUIDS(out, touched->count, batch->chunks[chunk[i]].job);
    ADD_NUMBERS(out, touched->count, batch->chunks[chunk[i]].chunk);
    ADD_NUMBERS(out, touched->count, batch->chunks[chunk[i]].partition + 1);
    open_array(out);
    for (uint32_t i = 0; i < touched->count; i++) {
        next_element(out);
        buffer_add_text(out, touched->map[i] ? touched->map[i] : "0");
    }
    close_array(out);
}

static void add_discards(const struct commit_batch *batch, struct buffer *out)
{
    const struct commit_discard *at = batch->discards;

    ADD_UUIDS(out, batch->discards_count, batch->chunks[at[i].chunk].job);
    ADD_NUMBERS(out, batch->discards_count, at[i].line);
}

/* A number of tokens; below 0: not known. */
static void add_known(struct buffer *out, int32_t tokens)
{
    next_element(out);
    if (tokens < 0)
        buffer_add_text(out, "null");
    else
        buffer_add_i64(out, tokens);
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
    ADD_NUMBERS(out, batch->attempts_count, at[i].attempt ? at[i].attempt : 1);
    open_array(out);
    for (uint32_t i = 0; i < batch->attempts_count; i++)
        add_known(out, at[i].tokens_kept);
    close_array(out);
    open_array(out);
    for (uint32_t i = 0; i < batch->attempts_count; i++)
        add_known(out, at[i].tokens_lost);
    close_array(out);
    ADD_NUMBERS(out, batch->attempts_count, at[i].kept_ns);
    ADD_NUMBERS(out, batch->attempts_count, at[i].recompute_ns);
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
    buffer_printf(out, "%" PRIu64 ", %" PRIu64 ", ", books->held_ns, books->wip_ns);
    add_wip_jobs(batch, out);
    buffer_printf(out, ", %" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64,
                  books->shared_ns, books->recompute_ns, books->overhead_ns, books->idle_ns,
                  books->lost_ns);
    buffer_printf(out, ", %" PRIu64, batch->sampled);
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

static bool has_suspects(const struct commit_batch *batch)
{
    for (uint32_t i = 0; i < batch->chunks_count; i++)
        if (batch->chunks[i].suspect)
            return true;
    return false;
}

/* Suspicion ends with the request's row. Statements without rows of their own: see db_script(). */
static void add_suspects_end(const struct commit_batch *batch, struct buffer *out)
{
    if (!has_suspects(batch))
        return;
    buffer_add_text(out, "delete from mserve.suspects s using pg_temp.staging g "
                         "where s.job = g.job and s.line = g.line and g.chunk is null; "
                         "delete from mserve.suspect_deaths s using pg_temp.staging g "
                         "where s.job = g.job and s.line = g.line and g.chunk is null; ");
}

static void add_running(const struct commit_batch *batch, struct buffer *out)
{
    if (!batch->running.data && !batch->ends_running)
        return;
    buffer_add_text(out, "update mserve.workers set running = ");
    if (batch->running.data) {
        buffer_add_byte(out, '\'');
        buffer_add(out, batch->running.data, batch->running.len); /* ids and numbers alone */
        buffer_add_byte(out, '\'');
    } else {
        buffer_add_text(out, "null");
    }
    buffer_add_text(out, " where worker = '");
    add_uuid(out, batch->worker);
    buffer_add_text(out, "'; ");
}

void commit_write_script(const struct commit_batch *batch, const struct commit_touched *touched,
                         struct buffer *out)
{
    buffer_clear(out);
    buffer_add_text(out, "begin isolation level read committed; "
                         "copy pg_temp.staging from stdin (format binary); "
                         "select mserve.check_accepted(");
    add_job_ids(batch, out);
    buffer_add_text(out, "); select inserted, duplicates, late from mserve.commit_batch('");
    add_uuid(out, batch->worker);
    buffer_printf(out, "', %" PRId64 ", %" PRId64 ", %" PRIu64 ", %" PRIu32 ", %" PRIu32 ", ",
                  batch->token, batch->seq, batch->lease_ms, batch->rows_count,
                  batch->checkpoints_count);
    add_partitions(batch, out);
    add_chunks(batch, touched, out);
    add_discards(batch, out);
    add_attempts(batch, out);
    add_books(batch, out);
    buffer_add_text(out, "); ");
    add_suspects_end(batch, out);
    add_running(batch, out);
    buffer_add_text(out, "commit");
}
