/* results.c: pages by key; in order of completion a cursor, or what the chunk index says is new. */
#include "producer/results.h"
#include "config/log.h"
#include "producer/interrupt.h"
#include "producer/job_view.h"
#include "producer/patience.h"
#include "sql/queries.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE_ROWS = 200, CHUNKS = 256, FOLLOW_EVERY_MS = 500 };

struct writer {
    struct db *db;
    const struct uuid *job;
    const struct results_options *options;
    FILE *out;
    struct results_counts counts;
    int64_t next_line; /* in input order: the first that is not written */
    bool stopped;      /* `out` is a pipe that nobody reads any more */
};

static enum err write_row(struct writer *writer, const struct db_result *result, int row)
{
    struct slice output = db_get_slice(result, row, 1);

    if (fwrite(output.data, 1, output.len, writer->out) == output.len &&
        putc('\n', writer->out) != EOF) {
        writer->counts.written++;
        return ERR_OK;
    }
    if (errno == EPIPE) { /* `mserve results … | head` is no failure */
        writer->stopped = true;
        return ERR_OK;
    }
    return fail(ERR_IO, "cannot write results: %s", strerror(errno));
}

static enum err flush(struct writer *writer)
{
    if (writer->stopped || fflush(writer->out) == 0)
        return ERR_OK;
    if (errno == EPIPE) {
        writer->stopped = true;
        return ERR_OK;
    }
    return fail(ERR_IO, "cannot write results: %s", strerror(errno));
}

/*
 * Pages in input order from next_line on, to the end of what is there. `gapless`: only up to the
 * first line that has no row yet.
 */
static enum err write_pages(struct writer *writer, bool gapless)
{
    int rows = PAGE_ROWS;
    enum err rc = ERR_OK;

    while (rc == ERR_OK && rows == PAGE_ROWS && !writer->stopped) {
        struct db_result result = {0};
        /* Where lines are left out on purpose a gap means nothing: all are asked for. */
        int32_t which = gapless ? RESULTS_ALL : (int32_t)writer->options->status;

        rc = db_exec(writer->db, QUERY_RESULTS_PAGE,
                     DB_PARAMS(db_uuid(writer->job), db_i64(writer->next_line - 1), db_i32(which),
                               db_i32(PAGE_ROWS)),
                     &result);
        rows = rc == ERR_OK ? result.rows : 0;
        for (int row = 0; row < rows && rc == ERR_OK && !writer->stopped; row++) {
            int64_t line = db_get_i64(&result, row, 0);
            int32_t wanted = (int32_t)writer->options->status;

            if (gapless && line != writer->next_line) {
                rows = 0;
                break;
            }
            if (!gapless || wanted == RESULTS_ALL ||
                (wanted == RESULTS_OK) == db_get_bool(&result, row, 2))
                rc = write_row(writer, &result, row);
            writer->next_line = line + 1;
        }
        db_result_release(&result);
        if (rc == ERR_OK && interrupted())
            rc = ERR_INTERRUPTED;
    }
    return rc == ERR_OK ? flush(writer) : rc;
}

static enum err write_cursor(struct writer *writer)
{
    int rows = 1;
    enum err rc = db_begin(writer->db);

    if (rc == ERR_OK)
        rc = db_exec(writer->db, QUERY_RESULTS_CURSOR,
                     DB_PARAMS(db_uuid(writer->job), db_i32((int32_t)writer->options->status)),
                     NULL);
    while (rc == ERR_OK && rows > 0 && !writer->stopped) {
        struct db_result result = {0};

        rc = db_exec(writer->db, QUERY_RESULTS_FETCH, DB_NO_PARAMS, &result);
        rows = rc == ERR_OK ? result.rows : 0;
        for (int row = 0; row < rows && rc == ERR_OK && !writer->stopped; row++)
            rc = write_row(writer, &result, row);
        db_result_release(&result);
        if (rc == ERR_OK && interrupted())
            rc = ERR_INTERRUPTED;
    }
    db_rollback(writer->db);
    return rc == ERR_OK ? flush(writer) : rc;
}

/* Lines that were written, one bit each: in order of completion a follower must know them. */
struct seen {
    uint8_t *bits;
    uint64_t lines; /* that `bits` has room for */
    int64_t fresh[PAGE_ROWS];
    size_t count; /* of `fresh`: seen, but not yet written */
};

static void make_room(struct seen *seen, uint64_t lines)
{
    uint64_t room = seen->lines > 0 ? seen->lines : 65536;

    while (room < lines)
        room *= 2;
    if (room == seen->lines)
        return;
    seen->bits = xrealloc(seen->bits, room / 8, 1);
    memset(seen->bits + seen->lines / 8, 0, (room - seen->lines) / 8);
    seen->lines = room;
}

static enum err write_fresh(struct writer *writer, struct seen *seen)
{
    struct db_result result = {0};
    enum err rc;

    if (seen->count == 0)
        return ERR_OK;
    rc = db_exec(writer->db, QUERY_RESULTS_LINES,
                 DB_PARAMS(db_uuid(writer->job), db_i64_array(seen->fresh, seen->count),
                           db_i32((int32_t)writer->options->status)),
                 &result);
    for (int row = 0; rc == ERR_OK && row < result.rows && !writer->stopped; row++)
        rc = write_row(writer, &result, row);
    db_result_release(&result);
    if (rc == ERR_OK) /* else they are asked for again */
        seen->count = 0;
    return rc;
}

/* The lines of one chunk that have a row and were not seen. */
static enum err look_at_chunk(struct writer *writer, struct seen *seen,
                              const struct db_result *result, int row)
{
    uint64_t first = (uint64_t)db_get_i64(result, row, 1);
    uint32_t bits;
    struct slice map = db_get_bits(result, row, 2, &bits);
    enum err rc = ERR_OK;

    make_room(seen, first + bits);
    for (uint32_t i = 0; i < bits && rc == ERR_OK; i++) {
        uint64_t line = first + i;

        if (((uint8_t)map.data[i / 8] >> (7 - i % 8) & 1) == 0 ||
            (seen->bits[line / 8] >> line % 8 & 1) != 0)
            continue;
        seen->bits[line / 8] |= (uint8_t)(1U << line % 8);
        seen->fresh[seen->count++] = (int64_t)line;
        if (seen->count == PAGE_ROWS)
            rc = write_fresh(writer, seen);
    }
    return rc;
}

static enum err write_new(struct writer *writer, struct seen *seen)
{
    int32_t chunk = -1;
    int rows = CHUNKS;
    enum err rc = write_fresh(writer, seen); /* what an earlier call could not get */

    while (rc == ERR_OK && rows == CHUNKS && !writer->stopped) {
        struct db_result result = {0};

        rc = db_exec(writer->db, QUERY_CHUNKS_DONE,
                     DB_PARAMS(db_uuid(writer->job), db_i32(chunk), db_i32(CHUNKS)), &result);
        rows = rc == ERR_OK ? result.rows : 0;
        for (int row = 0; row < rows && rc == ERR_OK; row++) {
            rc = look_at_chunk(writer, seen, &result, row);
            chunk = db_get_i32(&result, row, 0);
        }
        db_result_release(&result);
        if (rc == ERR_OK && interrupted())
            rc = ERR_INTERRUPTED;
    }
    if (rc == ERR_OK)
        rc = write_fresh(writer, seen);
    return rc == ERR_OK ? flush(writer) : rc;
}

/* What there is; `ended` says that nothing will follow. */
static enum err write_some(struct writer *writer, struct seen *seen, bool ended)
{
    const struct results_options *options = writer->options;

    if (options->order == RESULTS_INPUT)
        return write_pages(writer, options->follow && !ended);
    return options->follow ? write_new(writer, seen) : write_cursor(writer);
}

/* The state is asked for before the rows: what had ended then has all its rows. */
static enum err write_more(struct writer *writer, struct seen *seen)
{
    struct job_progress progress;
    enum err rc = job_view_progress(writer->db, writer->job, &progress);
    bool ended = rc == ERR_OK && job_state_is_terminal(progress.state);

    if (rc == ERR_OK)
        rc = write_some(writer, seen, ended);
    if (rc == ERR_OK)
        writer->counts.complete = ended;
    return rc;
}

/* A follower knows what it has written: it goes on there when the database comes back. */
static enum err write_until_done(struct writer *writer, struct seen *seen)
{
    struct patience patience = {0};

    for (;;) {
        enum err rc = write_more(writer, seen);

        if (writer->options->follow && patience_try(&patience, writer->db, rc))
            continue;
        if (rc != ERR_OK)
            return rc == ERR_DATABASE && interrupted() ? ERR_INTERRUPTED : rc;
        patience_reset(&patience);
        if (writer->counts.complete || writer->stopped || !writer->options->follow)
            return ERR_OK;
        usleep(FOLLOW_EVERY_MS * 1000);
        if (interrupted())
            return ERR_INTERRUPTED;
    }
}

enum err results_write(struct db *db, const struct uuid *job, const struct results_options *options,
                       FILE *out, struct results_counts *ret)
{
    struct writer writer = {.db = db, .job = job, .options = options, .out = out};
    struct seen seen = {0};
    enum err rc = write_until_done(&writer, &seen);

    free(seen.bits);
    *ret = writer.counts;
    return rc;
}
