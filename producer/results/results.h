/*
 * results.h: what came out of a job, in the form that is asked for, in constant memory.
 *
 * Rows come in pages of some megabytes, each a COPY of its own, so that no transaction stays open
 * however slowly somebody reads, a job that runs is written as far as it is, and who was cut off goes
 * on where it was. docs/results.md says what each form looks like.
 */
#ifndef MSERVE_PRODUCER_RESULTS_H
#define MSERVE_PRODUCER_RESULTS_H

#include "config/uuid.h"
#include "sql/db.h"

#include <stdbool.h>
#include <stdint.h>

enum results_order { RESULTS_INPUT, RESULTS_COMPLETION };
enum results_status { RESULTS_ALL, RESULTS_OK, RESULTS_ERROR };
enum results_format { RESULTS_OPENAI, RESULTS_CSV };

/* {0} is everything there is, in input order, as OpenAI's lines. */
struct results_options {
    enum results_order order;
    enum results_status status;
    enum results_format format;
    uint64_t from_line; /* nothing before this request, counted from 0 */
    const char
        *errors; /* rows that are not completed go to this file instead; NULL: with the others */
    const char *spool_dir; /* for a list of lines too long for memory; NULL: /tmp */
    bool follow;           /* stays until the job has ended, and writes rows as they come */
    bool latest;           /* of each line of the first job of a chain of retries the newest row */
    bool join;             /* one line a document, its parts in order */
};

struct results_counts {
    uint64_t written;    /* rows, or documents, to the file of the results */
    uint64_t errors;     /* to the file of errors */
    uint64_t unreadable; /* of them: what they say is no JSON, so that no text was found in it */
    bool complete;       /* the job (the chain) had ended and all its rows were seen */
};

/*
 * Writes them to the file of that name ("-": standard output), which appears when it is whole: what was
 * there before stays until then. A link stays a link: the file it leads to is written. A device, a pipe,
 * or a file in a folder where none can be made is written to as it is. A name that ends in .zst: it is
 * compressed. The same goes for options->errors; both appear at the end, one after the other.
 *
 * In input order a running job is written up to the first line that has no row only with `follow`;
 * without, lines that are missing are left out. While PostgreSQL is away it waits (patience.h).
 *
 * ERR_USAGE: options that do not go together, a job that has no documents (`join`); ERR_NOT_FOUND: the
 * first job of the chain is gone (`latest`); ERR_IO: a file cannot be written; ERR_INTERRUPTED. All with
 * a sentence.
 */
enum err results_write_file(struct db *db, const struct uuid *job,
                            const struct results_options *options, const char *path,
                            struct results_counts *ret);

/* Whether that could be done now: ERR_IO, with a sentence. Changes nothing. */
enum err results_try_file(const char *path);

#endif
