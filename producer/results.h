/*
 * results.h: the output lines of a job, as OpenAI writes them, in constant memory.
 *
 * Rows are asked for in pages by the key (job, line), so that no transaction stays open however
 * slowly somebody reads, and a job that runs is written as far as it is.
 */
#ifndef MSERVE_PRODUCER_RESULTS_H
#define MSERVE_PRODUCER_RESULTS_H

#include "config/uuid.h"
#include "sql/db.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum results_order { RESULTS_INPUT, RESULTS_COMPLETION };
enum results_status { RESULTS_ALL, RESULTS_OK, RESULTS_ERROR };

struct results_options {
    enum results_order order;
    enum results_status status;
    bool follow; /* stays until the job has ended, and writes rows as they come; while PostgreSQL
                    is away it waits (patience.h) */
};

struct results_counts {
    uint64_t written;
    bool complete; /* the job had ended and all its rows were seen */
};

/*
 * Writes one line a row to `out`. In input order a running job is written up to the first line
 * that has no row only with `follow`; without, lines that are missing are left out. ERR_IO, with a
 * sentence, when `out` cannot be written; ERR_INTERRUPTED.
 */
enum err results_write(struct db *db, const struct uuid *job, const struct results_options *options,
                       FILE *out, struct results_counts *ret);

/*
 * The same into a file of that name ("-": standard output), which appears when it is whole: what
 * was there before stays until then. A link stays a link: the file it leads to is written. A device,
 * a pipe, or a file in a folder where none can be made is written to as it is.
 */
enum err results_write_file(struct db *db, const struct uuid *job,
                            const struct results_options *options, const char *path,
                            struct results_counts *ret);

/* Whether that could be done now: ERR_IO, with a sentence. Changes nothing. */
enum err results_try_file(const char *path);

#endif
