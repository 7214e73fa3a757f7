/*
 * results_index.c: what is new, by the bits of the chunk index. They are set in the transaction that
 * writes the rows, so that a row that becomes visible late is new when it does: no number that grows and
 * no time would show that.
 */
#include "producer/interrupt.h"
#include "producer/results/results_write.h"
#include "sql/queries.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNKS = 256, ROOM = 65536 };

enum { CHUNK, FIRST_LINE, DONE_MAP };

void results_index_init(struct results_index *index)
{
    *index = (struct results_index){.chunk_whole = -1};
}

void results_index_release(struct results_index *index)
{
    free(index->bits);
    results_index_init(index);
}

static enum err get_chunks(struct db *db, const struct uuid *job, int32_t before,
                           struct db_result *ret)
{
    enum err rc = db_exec(db, QUERY_CHUNKS_DONE,
                          DB_PARAMS(db_uuid(job), db_i32(before), db_i32(CHUNKS)), ret);

    return rc == ERR_OK && interrupted() ? ERR_INTERRUPTED : rc;
}

static bool has_row(struct slice map, uint32_t i)
{
    return ((uint8_t)map.data[i / 8] >> (7 - i % 8) & 1) != 0;
}

/* --------------------------------------------------------------------------------- input order ---- */

/* Moves *end over the lines of one chunk; true when it comes to the chunk's end. */
static bool pass_chunk(const struct db_result *result, int row, int64_t *end)
{
    int64_t first = db_get_i64(result, row, FIRST_LINE);
    uint32_t bits;
    struct slice map = db_get_bits(result, row, DONE_MAP, &bits);

    if (first > *end) /* the chunk before is not there yet */
        return false;
    while (*end < first + bits && has_row(map, (uint32_t)(*end - first)))
        ++*end;
    return *end >= first + bits;
}

enum err results_index_prefix(struct results_index *index, struct db *db, const struct uuid *job,
                              int64_t from, int64_t *ret)
{
    int64_t end = from;
    bool whole = true;
    int rows = CHUNKS;

    while (whole && rows == CHUNKS) {
        struct db_result result = {0};
        enum err rc = get_chunks(db, job, index->chunk_whole, &result);

        if (rc != ERR_OK) {
            db_result_release(&result);
            return rc;
        }
        rows = result.rows;
        for (int row = 0; row < rows && whole; row++) {
            whole = pass_chunk(&result, row, &end);
            if (whole)
                index->chunk_whole = db_get_i32(&result, row, CHUNK);
        }
        db_result_release(&result);
    }
    *ret = end;
    return ERR_OK;
}

/* -------------------------------------------------------------------------- order of completion ---- */

static void make_room(struct results_index *index, uint64_t lines)
{
    uint64_t room = index->lines > 0 ? index->lines : ROOM;

    while (room < lines)
        room *= 2;
    if (room == index->lines)
        return;
    index->bits = xrealloc(index->bits, room / 8, 1);
    memset(index->bits + index->lines / 8, 0, (room - index->lines) / 8);
    index->lines = room;
}

/* The lines of one chunk that have a row and were not seen. */
static enum err look_at_chunk(struct results_index *index, const struct db_result *result, int row,
                              int64_t from, enum err (*on_line_cb)(void *arg, int64_t line),
                              void *arg)
{
    int64_t first = db_get_i64(result, row, FIRST_LINE);
    uint32_t bits;
    struct slice map = db_get_bits(result, row, DONE_MAP, &bits);
    enum err rc = ERR_OK;

    make_room(index, (uint64_t)first + bits);
    for (uint32_t i = 0; i < bits && rc == ERR_OK; i++) {
        uint64_t line = (uint64_t)first + i;

        if (first + i < from || !has_row(map, i) || (index->bits[line / 8] >> line % 8 & 1) != 0)
            continue;
        rc = on_line_cb(arg, first + i);
        if (rc == ERR_OK)
            index->bits[line / 8] |= (uint8_t)(1U << line % 8);
    }
    return rc;
}

enum err results_index_fresh(struct results_index *index, struct db *db, const struct uuid *job,
                             int64_t from, enum err (*on_line_cb)(void *arg, int64_t line),
                             void *arg)
{
    int32_t chunk = -1;
    int rows = CHUNKS;
    enum err rc = ERR_OK;

    while (rc == ERR_OK && rows == CHUNKS) {
        struct db_result result = {0};

        rc = get_chunks(db, job, chunk, &result);
        rows = rc == ERR_OK ? result.rows : 0;
        for (int row = 0; row < rows && rc == ERR_OK; row++) {
            rc = look_at_chunk(index, &result, row, from, on_line_cb, arg);
            chunk = db_get_i32(&result, row, CHUNK);
        }
        db_result_release(&result);
    }
    return rc;
}
