/* purge.c: one query each; the rules are on the server. */
#include "sql/purge.h"

#include "sql/queries.h"

#include <stdio.h>
#include <string.h>

enum err purge_count(struct db *db, uint64_t older_ms, struct purge_count *ret)
{
    struct db_result result = {0};
    enum err rc = db_exec(db, QUERY_PURGE_COUNT, DB_PARAMS(db_i64((int64_t)older_ms)), &result);

    if (rc)
        return rc;
    ret->jobs = db_get_i64(&result, 0, 0);
    ret->rows = db_get_i64(&result, 0, 1);
    ret->before_us = db_get_i64(&result, 0, 2);
    db_result_release(&result);
    return ERR_OK;
}

enum err purge_next_partition(struct db *db, const char *after, char ret[PURGE_NAME_SIZE])
{
    struct db_result result = {0};
    enum err rc = db_exec(db, QUERY_PURGE_NEXT_PARTITION, DB_PARAMS(db_text(after)), &result);

    if (rc)
        return rc;
    if (result.rows == 0)
        rc = ERR_NOT_FOUND;
    else
        snprintf(ret, PURGE_NAME_SIZE, "%s", db_get_slice(&result, 0, 0).data);
    db_result_release(&result);
    return rc;
}

enum err purge_partition(struct db *db, const char *name, int64_t before_us,
                         enum purge_partition *ret)
{
    struct db_result result = {0};
    struct slice word;
    enum err rc =
        db_exec(db, QUERY_PURGE_PARTITION, DB_PARAMS(db_text(name), db_i64(before_us)), &result);

    if (rc)
        return rc;
    word = db_get_slice(&result, 0, 0);
    *ret = strcmp(word.data, "dropped") == 0 ? PURGE_DROPPED
           : strcmp(word.data, "busy") == 0  ? PURGE_BUSY
                                             : PURGE_KEPT;
    db_result_release(&result);
    return ERR_OK;
}

enum err purge_jobs(struct db *db, int64_t before_us, const struct uuid *after, struct uuid *ret,
                    uint32_t max, uint32_t *ret_count)
{
    struct db_result result = {0};
    enum err rc =
        db_exec(db, QUERY_PURGE_JOBS,
                DB_PARAMS(db_i64(before_us), db_uuid(after), db_i64((int64_t)max)), &result);

    if (rc)
        return rc;
    for (int row = 0; row < result.rows; row++)
        ret[row] = db_get_uuid(&result, row, 0);
    *ret_count = (uint32_t)result.rows;
    db_result_release(&result);
    return ERR_OK;
}

static enum err count(struct db *db, const char *query, struct db_params params, int64_t *ret)
{
    struct db_result result = {0};
    enum err rc = db_exec(db, query, params, &result);

    if (rc)
        return rc;
    *ret = db_get_i64(&result, 0, 0);
    db_result_release(&result);
    return ERR_OK;
}

enum err purge_rows(struct db *db, const struct uuid *job, int64_t before_us, uint32_t rows_max,
                    int64_t *ret_rows)
{
    return count(db, QUERY_PURGE_ROWS,
                 DB_PARAMS(db_uuid(job), db_i64(before_us), db_i32((int32_t)rows_max)), ret_rows);
}

enum err purge_rest(struct db *db, const struct uuid *job)
{
    return db_exec(db, QUERY_PURGE_REST, DB_PARAMS(db_uuid(job)), NULL);
}

enum err purge_blobs(struct db *db, int64_t before_us, uint32_t blobs_max, int64_t *ret_blobs)
{
    return count(db, QUERY_PURGE_BLOBS, DB_PARAMS(db_i64(before_us), db_i32((int32_t)blobs_max)),
                 ret_blobs);
}
