/* retry.c: one query each; the protocol is on the server. */
#include "sql/retry.h"

#include "config/log.h"
#include "sql/queries.h"

#include <string.h>

enum { LINK_AT_ONCE = 50000 };

static const char *copy_text(const struct db_result *result, int column, struct arena *arena)
{
    struct slice text = db_get_slice(result, 0, column);

    return arena_copy(arena, text.data ? text.data : "", text.len);
}

enum err job_set_hold(struct db *db, const struct uuid *job, bool hold, struct job_hold *ret)
{
    struct db_result result = {0};
    enum err rc = db_exec(db, QUERY_JOB_SET_HOLD,
                          DB_PARAMS(db_uuid(job), hold ? db_text("paused") : db_null()), &result);

    if (rc)
        return rc;
    if (result.rows == 0 || db_is_null(&result, 0, 0))
        rc = ERR_NOT_FOUND;
    else
        rc = job_state_parse(db_get_slice(&result, 0, 0), &ret->state);
    if (!rc)
        ret->held = db_get_bool(&result, 0, 1);
    db_result_release(&result);
    return rc;
}

static enum err read_source(const struct db_result *result, struct arena *arena,
                            struct retry_source *ret)
{
    struct slice sha256 = db_get_slice(result, 0, 9);

    if (!db_is_null(result, 0, 11))
        ret->gone = copy_text(result, 11, arena);
    else if (sha256.len != sizeof(ret->content_sha256))
        return fail(ERR_SCHEMA, "the digest of a job has %zu bytes", sha256.len);
    else
        memcpy(ret->content_sha256, sha256.data, sizeof(ret->content_sha256));
    ret->sealed = !db_is_null(result, 0, 1);
    ret->endpoint = copy_text(result, 2, arena);
    ret->tier = copy_text(result, 3, arena);
    ret->window = copy_text(result, 4, arena);
    if (!db_is_null(result, 0, 5))
        ret->metadata = (struct slice){copy_text(result, 5, arena), db_get_slice(result, 0, 5).len};
    ret->priority = db_get_i32(result, 0, 6);
    ret->input_name = copy_text(result, 7, arena);
    ret->topic = copy_text(result, 8, arena);
    ret->root = db_get_uuid(result, 0, 10);
    return job_state_parse(db_get_slice(result, 0, 0), &ret->state);
}

enum err retry_source(struct db *db, const struct uuid *job, struct arena *arena,
                      struct retry_source *ret)
{
    struct db_result result = {0};
    struct retry_source source = {.job = *job};
    enum err rc = db_exec(db, QUERY_RETRY_SOURCE, DB_PARAMS(db_uuid(job)), &result);

    if (rc)
        return rc;
    rc = result.rows == 0 ? ERR_NOT_FOUND : read_source(&result, arena, &source);
    if (!rc)
        *ret = source;
    db_result_release(&result);
    return rc;
}

enum err retry_count(struct db *db, const struct uuid *job, const char *statuses,
                     struct retry_count *ret)
{
    struct db_result result = {0};
    struct slice digest;
    enum err rc =
        db_exec(db, QUERY_RETRY_COUNT, DB_PARAMS(db_uuid(job), db_text(statuses)), &result);

    if (rc)
        return rc;
    ret->lines = db_get_i64(&result, 0, 0);
    ret->invalid = db_get_i64(&result, 0, 1);
    digest = db_get_slice(&result, 0, 2);
    if (digest.len == sizeof(ret->digest))
        memcpy(ret->digest, digest.data, sizeof(ret->digest));
    else
        rc = fail(ERR_SCHEMA, "a digest has %zu bytes", digest.len);
    db_result_release(&result);
    return rc;
}

enum err retry_find(struct db *db, const char *key, struct arena *arena, struct retry_found *ret)
{
    struct db_result result = {0};
    struct retry_found found = {0};
    enum err rc = db_exec(db, QUERY_RETRY_FOUND, DB_PARAMS(db_text(key)), &result);

    if (rc)
        return rc;
    if (result.rows > 0) {
        found.there = true;
        found.job = db_get_uuid(&result, 0, 0);
        found.key = copy_text(&result, 1, arena);
        found.sealed = db_get_bool(&result, 0, 2);
        rc = job_state_parse(db_get_slice(&result, 0, 3), &found.state);
        found.tier = copy_text(&result, 4, arena);
        found.window = copy_text(&result, 5, arena);
        found.priority = db_get_i32(&result, 0, 6);
    }
    if (!rc)
        *ret = found;
    db_result_release(&result);
    return rc;
}

static enum err read_chunk(const struct db_result *result, int row, struct retry_chunk *ret)
{
    uint32_t bits;
    struct slice map = db_get_bits(result, row, 6, &bits);

    *ret = (struct retry_chunk){
        .chunk = db_get_i32(result, row, 0),
        .part = db_get_i32(result, row, 1),
        .first_line = db_get_i64(result, row, 2),
        .lines = (uint32_t)db_get_i32(result, row, 3),
        .first_offset = db_get_i64(result, row, 4),
        .last_offset = db_get_i64(result, row, 5),
    };
    if (bits != ret->lines || map.len > sizeof(ret->wanted))
        return fail(ERR_SCHEMA, "a map of lines has %u bits for %u lines", bits, ret->lines);
    memcpy(ret->wanted, map.data, map.len);
    return ERR_OK;
}

enum err retry_chunks(struct db *db, const struct uuid *job, const char *statuses, int32_t after,
                      struct retry_chunk *ret, uint32_t max, uint32_t *ret_count)
{
    struct db_result result = {0};
    enum err rc = db_exec(
        db, QUERY_RETRY_CHUNKS,
        DB_PARAMS(db_uuid(job), db_text(statuses), db_i32(after), db_i64((int64_t)max)), &result);

    if (rc)
        return rc;
    for (int row = 0; !rc && row < result.rows; row++)
        rc = read_chunk(&result, row, &ret[row]);
    *ret_count = (uint32_t)result.rows;
    db_result_release(&result);
    return rc;
}

enum err retry_lines(struct db *db, const struct uuid *job, const char *statuses, int64_t after,
                     struct retry_line *ret, uint32_t max, uint32_t *ret_count)
{
    struct db_result result = {0};
    enum err rc = db_exec(
        db, QUERY_RETRY_LINES,
        DB_PARAMS(db_uuid(job), db_text(statuses), db_i64(after), db_i64((int64_t)max)), &result);

    if (rc)
        return rc;
    for (int row = 0; row < result.rows; row++)
        ret[row] = (struct retry_line){db_get_i64(&result, row, 0), db_get_i64(&result, row, 1)};
    *ret_count = (uint32_t)result.rows;
    db_result_release(&result);
    return ERR_OK;
}

enum err retry_link(struct db *db, const struct uuid *job, const struct uuid *of,
                    const char *statuses, const int64_t *skipped, size_t skipped_count,
                    int64_t *ret_lines)
{
    int64_t after = -1, lines = 0;
    bool more = true;
    enum err rc = ERR_OK;

    while (!rc && more) {
        struct db_result result = {0};

        rc = db_exec(db, QUERY_RETRY_LINK,
                     DB_PARAMS(db_uuid(job), db_uuid(of), db_text(statuses),
                               db_i64_array(skipped, skipped_count), db_i64(after), db_i64(lines),
                               db_i64(LINK_AT_ONCE)),
                     &result);
        if (rc)
            break;
        more = !db_is_null(&result, 0, 0);
        after = db_get_i64(&result, 0, 0);
        lines = db_get_i64(&result, 0, 1);
        db_result_release(&result);
    }
    *ret_lines = lines;
    return rc;
}
