/*
 * job_documents.c: a document of a series is one digest, of its path and of its own digest, so that
 * a set of many costs the same for short paths and long ones.
 */
#include "sql/job_documents.h"

#include "sql/queries.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_BYTES = 16 }; /* of a digest: two of a million alike are one in 10^26 */

struct series_row {
    uint8_t key[KEY_BYTES];
    struct uuid job;
    uint8_t has; /* enum series_has; SERIES_NOT: the slot is free */
};

enum err job_documents_add(struct db *db, const struct uuid *job, const char *series,
                           const struct job_document *documents, size_t count)
{
    struct db_result result = {0};
    struct arena arena = {0};
    int64_t *first_line = arena_zalloc(&arena, count, sizeof(*first_line));
    int32_t *parts = arena_zalloc(&arena, count, sizeof(*parts));
    struct slice *path = arena_zalloc(&arena, count, sizeof(*path));
    struct slice *sha256 = arena_zalloc(&arena, count, sizeof(*sha256));
    struct slice answer;
    enum err rc;

    for (size_t i = 0; i < count; i++) {
        first_line[i] = documents[i].first_line;
        parts[i] = documents[i].parts;
        path[i] = (struct slice){documents[i].path, strlen(documents[i].path)};
        sha256[i] = (struct slice){(const char *)documents[i].sha256, SHA256_BYTES};
    }
    rc = db_exec(db, QUERY_DOCUMENTS_ADD,
                 DB_PARAMS(db_uuid(job), db_text(series), db_i64_array(first_line, count),
                           db_i32_array(parts, count), db_text_array(path, count),
                           db_bytea_array(sha256, count)),
                 &result);
    arena_release(&arena);
    if (rc != ERR_OK)
        return rc;
    answer = db_get_slice(&result, 0, 0);
    if (strcmp(answer.data, "ended") == 0)
        rc = ERR_LOST;
    else if (strcmp(answer.data, "other series") == 0)
        rc = ERR_CONFLICT;
    db_result_release(&result);
    return rc;
}

static void make_key(struct sha256 *sha, struct slice path, const uint8_t sha256[SHA256_BYTES],
                     uint8_t ret[KEY_BYTES])
{
    uint8_t digest[SHA256_BYTES];

    sha256_add(sha, sha256, SHA256_BYTES);
    sha256_add(sha, path.data, path.len);
    sha256_end(sha, digest);
    memcpy(ret, digest, KEY_BYTES);
}

/* The row of this key, or the free one where it belongs. */
static struct series_row *find_slot(const struct series *series, const uint8_t key[KEY_BYTES])
{
    uint64_t at;

    memcpy(&at, key, sizeof(at));
    for (;; at++) {
        struct series_row *row = &series->slot[at & series->mask];

        if (row->has == SERIES_NOT || memcmp(row->key, key, KEY_BYTES) == 0)
            return row;
    }
}

static void fill(struct series *series, const struct db_result *result)
{
    struct sha256 sha;

    sha256_init(&sha);
    for (int i = 0; i < result->rows; i++) {
        struct slice digest = db_get_slice(result, i, 1);
        uint8_t key[KEY_BYTES];
        struct series_row *row;

        if (digest.len != SHA256_BYTES)
            continue; /* nothing is the same as that */
        make_key(&sha, db_get_slice(result, i, 0), (const uint8_t *)digest.data, key);
        row = find_slot(series, key);
        series->count += row->has == SERIES_NOT;
        memcpy(row->key, key, sizeof(key));
        row->job = db_get_uuid(result, i, 2);
        row->has = db_get_bool(result, i, 3) ? SERIES_RUNNING : SERIES_DONE;
    }
    sha256_release(&sha);
}

enum err series_load(struct db *db, const char *name, struct series *ret)
{
    struct db_result result = {0};
    struct series series = {0};
    size_t size = 16;
    enum err rc = db_exec(db, QUERY_DOCUMENTS_SERIES, DB_PARAMS(db_text(name)), &result);

    if (rc != ERR_OK)
        return rc;
    while (size < (size_t)result.rows * 2)
        size *= 2;
    series.slot = xcalloc(size, sizeof(*series.slot));
    series.mask = size - 1;
    fill(&series, &result);
    db_result_release(&result);
    *ret = series;
    return ERR_OK;
}

void series_release(struct series *series)
{
    free(series->slot);
    *series = (struct series){0};
}

enum series_has series_find(const struct series *series, const char *path,
                            const uint8_t sha256[SHA256_BYTES], struct uuid *ret_job)
{
    const struct series_row *row;
    uint8_t key[KEY_BYTES];
    struct sha256 sha;

    if (series->count == 0)
        return SERIES_NOT;
    sha256_init(&sha);
    make_key(&sha, (struct slice){path, strlen(path)}, sha256, key);
    sha256_release(&sha);
    row = find_slot(series, key);
    if (row->has != SERIES_NOT)
        *ret_job = row->job;
    return (enum series_has)row->has;
}
