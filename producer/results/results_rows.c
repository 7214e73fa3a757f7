/* results_rows.c: which query it is, and what its columns are. */
#include "producer/results/results_rows.h"
#include "sql/queries.h"

#include <string.h>

enum {
    LINE,
    JOB,
    JOB_LINE,
    CUSTOM_ID,
    STATUS,
    STATUS_CODE,
    RESPONSE,
    ERROR,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    GPU_NS,
    FINISHED_AT,
    FIRST_LINE,
    PARTS,
    PATH,
};

struct reader {
    results_row_cb *on_row_cb;
    enum err (*on_line_cb)(void *arg, int64_t line);
    void *arg;
    int64_t rows;
    bool join;
};

static bool is_completed(struct slice status)
{
    return status.len == strlen("completed") && memcmp(status.data, "completed", status.len) == 0;
}

static enum err on_row(void *arg, const struct db_copied *copied)
{
    struct reader *reader = arg;
    struct result_row row = {
        .line = db_copied_i64(copied, LINE),
        .job = db_copied_uuid(copied, JOB),
        .job_line = db_copied_i64(copied, JOB_LINE),
        .custom_id = copied->field[CUSTOM_ID],
        .status = copied->field[STATUS],
        .completed = is_completed(copied->field[STATUS]),
        .has_status_code = copied->field[STATUS_CODE].data != NULL,
        .status_code = db_copied_i32(copied, STATUS_CODE),
        .response = copied->field[RESPONSE],
        .error = copied->field[ERROR],
        .input_tokens = db_copied_i64(copied, INPUT_TOKENS),
        .output_tokens = db_copied_i64(copied, OUTPUT_TOKENS),
        .gpu_ns = db_copied_i64(copied, GPU_NS),
        .finished_us = db_copied_time_us(copied, FINISHED_AT),
    };

    if (reader->join) {
        row.first_line = db_copied_i64(copied, FIRST_LINE);
        row.parts = db_copied_i32(copied, PARTS);
        row.path = copied->field[PATH];
    }
    reader->rows++;
    return reader->on_row_cb(reader->arg, &row);
}

enum err results_rows_page(struct db *db, const struct results_query *query, int64_t rows_max,
                           results_row_cb *on_row_cb, void *arg, int64_t *ret_rows)
{
    struct reader reader = {.on_row_cb = on_row_cb, .arg = arg, .join = query->join};
    enum err rc;

    if (query->join)
        rc = db_copy_out(
            db, query->latest ? QUERY_RESULTS_LATEST_DOCUMENTS_PAGE : QUERY_RESULTS_DOCUMENTS_PAGE,
            DB_PARAMS(db_uuid(query->job), db_i64(query->document), db_i64(query->from),
                      db_i64(query->before), db_i64(rows_max)),
            on_row, &reader);
    else
        rc = db_copy_out(db, query->latest ? QUERY_RESULTS_LATEST_PAGE : QUERY_RESULTS_PAGE,
                         DB_PARAMS(db_uuid(query->job), db_i64(query->from), db_i64(query->before),
                                   db_i32((int32_t)query->status), db_i64(rows_max)),
                         on_row, &reader);
    *ret_rows = reader.rows;
    return rc;
}

enum err results_rows_of(struct db *db, const struct results_query *query, const int64_t *lines,
                         size_t count, results_row_cb *on_row_cb, void *arg)
{
    struct reader reader = {.on_row_cb = on_row_cb, .arg = arg};

    return db_copy_out(
        db, query->latest ? QUERY_RESULTS_LATEST_LINES : QUERY_RESULTS_LINES,
        DB_PARAMS(db_uuid(query->job), db_i64_array(lines, count), db_i32((int32_t)query->status)),
        on_row, &reader);
}

static enum err on_line(void *arg, const struct db_copied *copied)
{
    struct reader *reader = arg;

    return reader->on_line_cb(reader->arg, db_copied_i64(copied, 0));
}

enum err results_rows_order(struct db *db, const struct results_query *query,
                            enum err (*on_line_cb)(void *arg, int64_t line), void *arg)
{
    struct reader reader = {.on_line_cb = on_line_cb, .arg = arg};

    return db_copy_out(
        db, query->latest ? QUERY_RESULTS_LATEST_ORDER : QUERY_RESULTS_ORDER,
        DB_PARAMS(db_uuid(query->job), db_i64(query->from), db_i32((int32_t)query->status)),
        on_line, &reader);
}
