/*
 * results_rows.h: rows of `results`, of a chain of retries or of documents, a page at a time.
 *
 * Errors as in db.h. One thread.
 */
#ifndef MSERVE_PRODUCER_RESULTS_ROWS_H
#define MSERVE_PRODUCER_RESULTS_ROWS_H

#include "config/uuid.h"
#include "producer/results/results.h"
#include "sql/db.h"

#include <stdbool.h>
#include <stdint.h>

/* Slices are borrowed for the call; {NULL, 0} is a null. */
struct result_row {
    int64_t line;     /* of the job that was asked for */
    struct uuid job;  /* whose row it is: that job, or a retry */
    int64_t job_line; /* the line there */
    struct slice custom_id;
    struct slice status;
    bool completed;
    bool has_status_code;
    int32_t status_code;
    struct slice response, error; /* JSON */
    int64_t input_tokens, output_tokens;
    int64_t gpu_ns;
    int64_t finished_us; /* since 1970 */
    /* With `join` only: its document */
    int64_t first_line;
    int32_t parts;
    struct slice path;
};

struct results_query {
    const struct uuid *job; /* with `latest` the first of the chain */
    bool latest;
    bool join;
    enum results_status status; /* not with `join` */
    int64_t from;               /* the first line */
    int64_t before;             /* the line behind the last */
    int64_t document;           /* with `join`: the first line of the first document */
};

typedef enum err results_row_cb(void *arg, const struct result_row *row);

/* At most `rows_max` rows, by line. *ret_rows, also after a failure: how many were handed over. */
enum err results_rows_page(struct db *db, const struct results_query *query, int64_t rows_max,
                           results_row_cb *on_row_cb, void *arg, int64_t *ret_rows);

/* Rows of these lines, as they were committed; of `query`, job, latest and status count. */
enum err results_rows_of(struct db *db, const struct results_query *query, const int64_t *lines,
                         size_t count, results_row_cb *on_row_cb, void *arg);

/* The lines from query->from on, as their rows were committed. */
enum err results_rows_order(struct db *db, const struct results_query *query,
                            enum err (*on_line_cb)(void *arg, int64_t line), void *arg);

#endif
