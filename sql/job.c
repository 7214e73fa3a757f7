/* job.c: what submitters and people do to jobs: one query each, the protocol is on the server. */
#include "sql/job.h"

#include "config/log.h"
#include "sql/queries.h"

#include <string.h>

static const char *const state_names[] = {
    [JOB_VALIDATING] = "validating", [JOB_IN_PROGRESS] = "in_progress",
    [JOB_FINALIZING] = "finalizing", [JOB_COMPLETED] = "completed",
    [JOB_FAILED] = "failed",         [JOB_EXPIRED] = "expired",
    [JOB_CANCELLING] = "cancelling", [JOB_CANCELLED] = "cancelled",
};

enum { STATES = sizeof(state_names) / sizeof(state_names[0]) };

const char *job_state_name(enum job_state state)
{
    return (unsigned)state < STATES ? state_names[state] : "?";
}

bool job_state_is_terminal(enum job_state state)
{
    return state == JOB_COMPLETED || state == JOB_FAILED || state == JOB_EXPIRED ||
           state == JOB_CANCELLED;
}

enum err job_state_parse(struct slice name, enum job_state *ret)
{
    for (int i = 0; i < STATES; i++)
        if (strlen(state_names[i]) == name.len &&
            memcmp(state_names[i], name.data, name.len) == 0) {
            *ret = (enum job_state)i;
            return ERR_OK;
        }
    return fail(ERR_SCHEMA, "a job is in a state that this program does not know: %.*s",
                (int)name.len, name.data);
}

static const char *copy_text(const struct db_result *result, int column, struct arena *arena)
{
    struct slice text = db_get_slice(result, 0, column);

    return arena_copy(arena, text.data ? text.data : "", text.len);
}

enum err job_get(struct db *db, const struct uuid *job, struct arena *arena, struct job *ret)
{
    struct db_result result = {0};
    struct job found = {.job = *job};
    enum err rc;

    rc = db_exec(db, QUERY_JOB_GET, DB_PARAMS(db_uuid(job)), &result);
    if (!rc && result.rows == 0)
        rc = ERR_NOT_FOUND;
    if (!rc)
        rc = job_state_parse(db_get_slice(&result, 0, 0), &found.state);
    if (!rc) {
        found.tenant = copy_text(&result, 1, arena);
        found.topic = copy_text(&result, 2, arena);
        found.partitions = (uint32_t)db_get_i32(&result, 0, 3);
        found.partition_first = (uint32_t)db_get_i32(&result, 0, 4);
        found.chunk_lines_max = (uint32_t)db_get_i32(&result, 0, 5);
        found.chunk_bytes_max = (uint32_t)db_get_i32(&result, 0, 6);
        found.sealed = !db_is_null(&result, 0, 7);
        found.lines = db_get_i64(&result, 0, 7);
        found.created_us = db_get_time_us(&result, 0, 8);
        found.expires_us = db_get_time_us(&result, 0, 9);
        *ret = found;
    }
    db_result_release(&result);
    return rc;
}

enum err job_open(struct db *db, const struct job_spec *spec, struct arena *arena, struct job *ret)
{
    struct db_result result = {0};
    struct uuid job;
    bool made;
    enum err rc;

    rc = db_exec(
        db, QUERY_JOB_OPEN,
        DB_PARAMS(db_text(spec->idempotency_key),
                  db_bytea(spec->content_sha256, sizeof(spec->content_sha256)),
                  db_text(spec->input_name), db_text(spec->endpoint), db_text(spec->tier),
                  db_text(spec->model), db_text(spec->topic), db_i32((int32_t)spec->partitions),
                  db_i32((int32_t)spec->chunk_lines_max), db_i32((int32_t)spec->chunk_bytes_max),
                  db_text(spec->completion_window), db_i64((int64_t)spec->window_ms),
                  db_json(spec->metadata), db_i32(spec->priority)),
        &result);
    if (rc)
        return rc;
    job = db_get_uuid(&result, 0, 0);
    made = db_get_bool(&result, 0, 1);
    db_result_release(&result);
    rc = job_get(db, &job, arena, ret);
    if (!rc)
        ret->made = made;
    return rc;
}

/* The fields of the chunks as the arrays that the query takes. */
struct chunk_arrays {
    int32_t *chunk, *lines, *part;
    int64_t *first_line, *first_offset, *last_offset, *bytes, *work;
    struct slice *sha256, *custom_ids;
};

static void to_arrays(struct arena *arena, const struct job_chunk *chunks, size_t count,
                      struct chunk_arrays *ret)
{
    ret->chunk = arena_zalloc(arena, count, sizeof(*ret->chunk));
    ret->lines = arena_zalloc(arena, count, sizeof(*ret->lines));
    ret->part = arena_zalloc(arena, count, sizeof(*ret->part));
    ret->first_line = arena_zalloc(arena, count, sizeof(*ret->first_line));
    ret->first_offset = arena_zalloc(arena, count, sizeof(*ret->first_offset));
    ret->last_offset = arena_zalloc(arena, count, sizeof(*ret->last_offset));
    ret->bytes = arena_zalloc(arena, count, sizeof(*ret->bytes));
    ret->work = arena_zalloc(arena, count, sizeof(*ret->work));
    ret->sha256 = arena_zalloc(arena, count, sizeof(*ret->sha256));
    ret->custom_ids = arena_zalloc(arena, count, sizeof(*ret->custom_ids));
    for (size_t i = 0; i < count; i++) {
        ret->chunk[i] = chunks[i].chunk;
        ret->lines[i] = (int32_t)chunks[i].lines;
        ret->part[i] = chunks[i].part;
        ret->first_line[i] = chunks[i].first_line;
        ret->first_offset[i] = chunks[i].first_offset;
        ret->last_offset[i] = chunks[i].last_offset;
        ret->bytes[i] = chunks[i].bytes;
        ret->work[i] = chunks[i].work;
        ret->sha256[i] = (struct slice){(const char *)chunks[i].sha256, sizeof(chunks[i].sha256)};
        ret->custom_ids[i] = chunks[i].custom_ids;
    }
}

enum err job_add_chunks(struct db *db, const struct uuid *job, const struct job_chunk *chunks,
                        size_t count)
{
    struct db_result result = {0};
    struct arena arena = {0};
    struct chunk_arrays a;
    enum err rc;

    to_arrays(&arena, chunks, count, &a);
    rc = db_exec(db, QUERY_JOB_ADD_CHUNKS,
                 DB_PARAMS(db_uuid(job), db_i32_array(a.chunk, count),
                           db_i64_array(a.first_line, count), db_i32_array(a.lines, count),
                           db_i32_array(a.part, count), db_i64_array(a.first_offset, count),
                           db_i64_array(a.last_offset, count), db_i64_array(a.bytes, count),
                           db_bytea_array(a.sha256, count), db_bytea_array(a.custom_ids, count),
                           db_i64_array(a.work, count)),
                 &result);
    if (rc == ERR_LOST)
        rc = fail(ERR_INTERNAL, "chunks were not taken: %s", db_message(db));
    else if (!rc && !db_get_bool(&result, 0, 0))
        rc = ERR_LOST;
    db_result_release(&result);
    arena_release(&arena);
    return rc;
}

enum err job_chunks_there(struct db *db, const struct uuid *job, struct arena *arena,
                          struct job_chunk_map *ret)
{
    struct db_result result = {0};
    struct job_chunk_map map = {0};
    enum err rc;

    rc = db_exec(db, QUERY_JOB_CHUNKS_THERE, DB_PARAMS(db_uuid(job)), &result);
    if (rc)
        return rc;
    map.count = (uint32_t)result.rows;
    if (result.rows > 0)
        map.bits = (uint32_t)db_get_i32(&result, result.rows - 1, 0) + 1;
    map.map = arena_zalloc(arena, map.bits / 8 + 1, 1);
    for (int row = 0; row < result.rows; row++) {
        uint32_t chunk = (uint32_t)db_get_i32(&result, row, 0);

        map.map[chunk / 8] |= (uint8_t)(1u << chunk % 8);
    }
    db_result_release(&result);
    *ret = map;
    return ERR_OK;
}

enum err job_seal(struct db *db, const struct uuid *job, uint32_t chunks, int64_t lines,
                  int64_t lines_blank)
{
    struct db_result result = {0};
    struct slice answer;
    enum err rc;

    rc = db_exec(
        db, QUERY_JOB_SEAL,
        DB_PARAMS(db_uuid(job), db_i32((int32_t)chunks), db_i64(lines), db_i64(lines_blank)),
        &result);
    if (rc)
        return rc;
    answer = db_get_slice(&result, 0, 0);
    if (strcmp(answer.data, "incomplete") == 0)
        rc = ERR_AGAIN;
    else if (strcmp(answer.data, "ended") == 0)
        rc = ERR_LOST;
    db_result_release(&result);
    return rc;
}

enum err job_heard(struct db *db, const struct uuid *job)
{
    return db_exec(db, QUERY_JOB_HEARD, DB_PARAMS(db_uuid(job)), NULL);
}

enum err job_cancel(struct db *db, const struct uuid *job, enum job_state *ret_state)
{
    struct db_result result = {0};
    enum err rc;

    rc = db_exec(db, QUERY_JOB_CANCEL, DB_PARAMS(db_uuid(job)), &result);
    if (rc)
        return rc;
    if (result.rows == 0 || db_is_null(&result, 0, 0))
        rc = ERR_NOT_FOUND;
    else
        rc = job_state_parse(db_get_slice(&result, 0, 0), ret_state);
    db_result_release(&result);
    return rc;
}

enum err blob_put(struct db *db, const uint8_t sha256[32], struct slice compressed)
{
    return db_exec(db, QUERY_BLOB_PUT,
                   DB_PARAMS(db_bytea(sha256, 32), db_bytea(compressed.data, compressed.len)),
                   NULL);
}

enum err blob_get(struct db *db, const struct uuid *job, const uint8_t sha256[32],
                  struct arena *arena, struct slice *ret)
{
    struct db_result result = {0};
    struct slice body;
    enum err rc;

    rc = db_exec(db, QUERY_BLOB_GET, DB_PARAMS(db_uuid(job), db_bytea(sha256, 32)), &result);
    if (rc)
        return rc;
    if (result.rows == 0) {
        rc = ERR_NOT_FOUND;
    } else {
        body = db_get_slice(&result, 0, 0);
        *ret = (struct slice){arena_copy(arena, body.data, body.len), body.len};
    }
    db_result_release(&result);
    return rc;
}

enum err tier_register(struct db *db, const char *tier, const char *topic, uint32_t partitions,
                       const struct slice *served_names, size_t names, uint32_t *ret_partitions)
{
    struct db_result result = {0};
    enum err rc;

    rc = db_exec(db, QUERY_TIER_REGISTER,
                 DB_PARAMS(db_text(tier), db_text(topic), db_i32((int32_t)partitions),
                           db_text_array(served_names, names)),
                 &result);
    if (rc)
        return rc;
    *ret_partitions = (uint32_t)db_get_i32(&result, 0, 0);
    db_result_release(&result);
    return ERR_OK;
}
