/* work.c: reads the chunk index. */
#include "sql/work.h"

#include "config/log.h"
#include "sql/queries.h"

#include <string.h>
#include <zstd.h>

enum { CHUNKS_PER_JOB = 4, JOBS_PER_TENANT = 64, NAME_BYTES_MAX = 512 };

/* The columns of work_open.sql. */
enum {
    COL_JOB,
    COL_CHUNK,
    COL_PART,
    COL_FIRST_LINE,
    COL_LINES,
    COL_DONE_COUNT,
    COL_DONE_MAP,
    COL_FIRST_OFFSET,
    COL_LAST_OFFSET,
    COL_BYTES,
    COL_WORK,
    COL_TENANT,
    COL_ENDPOINT,
    COL_PRIORITY,
    COL_CREATED_AT,
    COL_WISH,
    COL_CUSTOM_IDS,
    COL_SUSPECT,
};

static enum work_wish wish_of(struct slice word)
{
    if (!word.data || strcmp(word.data, "run") == 0)
        return WORK_RUN;
    if (strcmp(word.data, "hold") == 0)
        return WORK_HOLD;
    return strcmp(word.data, "expire") == 0 ? WORK_EXPIRE : WORK_CANCEL;
}

/* Tenants and endpoints repeat from row to row: one copy for a run of equal ones. */
static const char *copy_shared(struct arena *arena, struct slice text, const char *before)
{
    return before && strcmp(before, text.data) == 0 ? before
                                                    : arena_copy(arena, text.data, text.len);
}

static enum err read_chunk(const struct db_result *result, int row, struct arena *arena,
                           const struct work_chunk *before, struct work_chunk *ret)
{
    uint32_t bits;
    struct slice map = db_get_bits(result, row, COL_DONE_MAP, &bits);
    struct slice custom_ids = db_get_slice(result, row, COL_CUSTOM_IDS);

    ret->job = db_get_uuid(result, row, COL_JOB);
    ret->chunk = db_get_i32(result, row, COL_CHUNK);
    ret->part = db_get_i32(result, row, COL_PART);
    ret->first_line = db_get_i64(result, row, COL_FIRST_LINE);
    ret->lines = (uint32_t)db_get_i32(result, row, COL_LINES);
    ret->done_count = (uint32_t)db_get_i32(result, row, COL_DONE_COUNT);
    if (bits != ret->lines || map.len > sizeof(ret->done_map))
        return fail(ERR_SCHEMA, "a chunk's done_map has %u bits for %u lines", bits, ret->lines);
    memset(ret->done_map, 0, sizeof(ret->done_map));
    memcpy(ret->done_map, map.data, map.len);
    ret->first_offset = db_get_i64(result, row, COL_FIRST_OFFSET);
    ret->last_offset = db_get_i64(result, row, COL_LAST_OFFSET);
    ret->bytes = db_get_i64(result, row, COL_BYTES);
    ret->work = db_get_i64(result, row, COL_WORK);
    ret->tenant =
        copy_shared(arena, db_get_slice(result, row, COL_TENANT), before ? before->tenant : NULL);
    ret->endpoint = copy_shared(arena, db_get_slice(result, row, COL_ENDPOINT),
                                before ? before->endpoint : NULL);
    ret->priority = db_get_i32(result, row, COL_PRIORITY);
    ret->created_us = db_get_time_us(result, row, COL_CREATED_AT);
    ret->wish = wish_of(db_get_slice(result, row, COL_WISH));
    ret->suspect = db_get_bool(result, row, COL_SUSPECT);
    ret->custom_ids = (struct slice){NULL, 0};
    if (custom_ids.data)
        ret->custom_ids =
            (struct slice){arena_copy(arena, custom_ids.data, custom_ids.len), custom_ids.len};
    return ERR_OK;
}

static enum err run_query(struct db *db, const struct work_query *query, struct arena *arena,
                          struct db_result *ret)
{
    size_t count = query->in_hand_count;
    struct uuid *jobs = arena_zalloc(arena, count + 1, sizeof(*jobs));
    int32_t *chunks = arena_zalloc(arena, count + 1, sizeof(*chunks));
    uint32_t per_job = query->chunks_per_job ? query->chunks_per_job : CHUNKS_PER_JOB;
    uint32_t per_tenant = query->jobs_per_tenant ? query->jobs_per_tenant : JOBS_PER_TENANT;

    for (size_t i = 0; i < count; i++) {
        jobs[i] = query->in_hand[i].job;
        chunks[i] = query->in_hand[i].chunk;
    }
    return db_exec(db, QUERY_WORK_OPEN,
                   DB_PARAMS(db_text(query->topic), db_i32_array(query->parts, query->parts_count),
                             db_uuid_array(jobs, count), db_i32_array(chunks, count),
                             db_i64(per_job), db_i64(per_tenant), db_bool(query->wished_only)),
                   ret);
}

enum err work_open(struct db *db, const struct work_query *query, struct arena *arena,
                   struct work_chunk **ret, size_t *ret_count)
{
    struct db_result result = {0};
    struct work_chunk *chunks;
    enum err rc = run_query(db, query, arena, &result);

    if (rc)
        return rc;
    chunks = arena_zalloc(arena, (size_t)result.rows + 1, sizeof(*chunks));
    for (int row = 0; !rc && row < result.rows; row++)
        rc = read_chunk(&result, row, arena, row ? &chunks[row - 1] : NULL, &chunks[row]);
    if (!rc) {
        *ret = chunks;
        *ret_count = (size_t)result.rows;
    }
    db_result_release(&result);
    return rc;
}

enum err work_wishes(struct db *db, const struct uuid *jobs, size_t count, enum work_wish *ret)
{
    struct db_result result = {0};
    enum err rc = db_exec(db, QUERY_WORK_WISHES, DB_PARAMS(db_uuid_array(jobs, count)), &result);

    if (rc)
        return rc;
    for (int row = 0; row < result.rows && (size_t)row < count; row++)
        ret[row] = wish_of(db_get_slice(&result, row, 0));
    db_result_release(&result);
    return ERR_OK;
}

/* The fields of `missing` as the arrays that the query takes, in the arena. */
static enum err run_mark_missing(struct db *db, const struct uuid *worker, const char *topic,
                                 const struct work_missing *missing, size_t count,
                                 struct arena *arena, struct db_result *ret)
{
    int32_t *part = arena_zalloc(arena, count, sizeof(*part));
    int32_t *chunk = arena_zalloc(arena, count, sizeof(*chunk));
    int64_t *epoch = arena_zalloc(arena, count, sizeof(*epoch));
    int64_t *token = arena_zalloc(arena, count, sizeof(*token));
    int64_t *first = arena_zalloc(arena, count, sizeof(*first));
    int64_t *last = arena_zalloc(arena, count, sizeof(*last));
    struct uuid *job = arena_zalloc(arena, count, sizeof(*job));

    for (size_t i = 0; i < count; i++) {
        part[i] = missing[i].part;
        chunk[i] = missing[i].chunk;
        epoch[i] = missing[i].epoch;
        token[i] = missing[i].token;
        first[i] = missing[i].first_offset;
        last[i] = missing[i].last_offset;
        job[i] = missing[i].job;
    }
    return db_exec(db, QUERY_WORK_MISSING,
                   DB_PARAMS(db_uuid(worker), db_text(topic), db_i32_array(part, count),
                             db_i64_array(epoch, count), db_i64_array(token, count),
                             db_uuid_array(job, count), db_i32_array(chunk, count),
                             db_i64_array(first, count), db_i64_array(last, count)),
                   ret);
}

enum err work_mark_missing(struct db *db, const struct uuid *worker, const char *topic,
                           const struct work_missing *missing, size_t count, bool *marked)
{
    struct db_result result = {0};
    struct arena arena = {0};
    enum err rc = run_mark_missing(db, worker, topic, missing, count, &arena, &result);

    for (size_t i = 0; !rc && i < count; i++) {
        marked[i] = false;
        for (int row = 0; row < result.rows; row++)
            marked[i] = marked[i] || (db_get_i32(&result, row, 1) == missing[i].chunk &&
                                      uuid_equal(db_get_uuid(&result, row, 0), missing[i].job));
    }
    db_result_release(&result);
    arena_release(&arena);
    return rc;
}

/* The text of `lines` names, each ended by a zero byte; {NULL, 0} when it cannot be. */
static struct slice unpack_names(struct slice packed, uint32_t lines, struct arena *arena)
{
    unsigned long long size =
        packed.data ? ZSTD_getFrameContentSize(packed.data, packed.len) : ZSTD_CONTENTSIZE_ERROR;
    char *text;

    if (size > (unsigned long long)lines * (NAME_BYTES_MAX + 1)) /* "unknown" and "error" too */
        return (struct slice){NULL, 0};
    text = arena_alloc(arena, size + 1);
    if (ZSTD_decompress(text, size, packed.data, packed.len) != size)
        return (struct slice){NULL, 0};
    return (struct slice){text, size};
}

bool work_names(struct slice custom_ids, uint32_t lines, struct arena *arena, struct slice *ret)
{
    struct slice text = unpack_names(custom_ids, lines, arena);
    const char *at = text.data;
    const char *end = at ? at + text.len : NULL;
    bool whole = at != NULL;

    for (uint32_t i = 0; i < lines; i++) {
        const char *zero = at < end ? memchr(at, '\0', (size_t)(end - at)) : NULL;

        whole = whole && zero;
        ret[i] = zero ? (struct slice){at, (size_t)(zero - at)} : SLICE("");
        at = zero ? zero + 1 : end;
    }
    return whole && at == end;
}

enum err work_custom_ids(struct db *db, const struct uuid *job, int32_t chunk, struct arena *arena,
                         struct slice *ret)
{
    struct db_result result = {0};
    struct slice found;
    enum err rc;

    rc = db_exec(db, QUERY_WORK_CUSTOM_IDS, DB_PARAMS(db_uuid(job), db_i32(chunk)), &result);
    if (rc)
        return rc;
    if (result.rows == 0) {
        rc = ERR_NOT_FOUND;
    } else {
        found = db_get_slice(&result, 0, 0);
        *ret = (struct slice){arena_copy(arena, found.data, found.len), found.len};
    }
    db_result_release(&result);
    return rc;
}
