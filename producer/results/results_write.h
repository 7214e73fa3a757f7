/*
 * results_write.h: the rows of one job, from the database into sinks. results_file.c opens those.
 *
 * results.c decides what is asked for next; results_index.c knows, from the chunk index, which lines have
 * rows that were not written yet.
 */
#ifndef MSERVE_PRODUCER_RESULTS_WRITE_H
#define MSERVE_PRODUCER_RESULTS_WRITE_H

#include "producer/results/results.h"
#include "producer/results/results_join.h"
#include "producer/results/results_rows.h"
#include "producer/results/results_sink.h"

/* `errors` may be NULL: then options->status says which rows `out` gets. Sinks are flushed, not finished. */
enum err results_write(struct db *db, const struct uuid *job, const struct results_options *options,
                       struct results_sink *out, struct results_sink *errors,
                       struct results_counts *ret);

/* ---- results_index.c ---- */

/* Which lines have rows, as the chunk index says, and which of them were seen. {0} at first. */
struct results_index {
    int32_t chunk_whole; /* input order: all chunks up to this one (-1: none) have all their rows */
    uint8_t *bits;       /* order of completion: a bit for each line that was seen */
    uint64_t lines;      /* that `bits` has room for */
};

void results_index_init(struct results_index *index);
void results_index_release(struct results_index *index);

/* *ret: all lines from `from` up to this one have rows; `from` where its own has none. */
enum err results_index_prefix(struct results_index *index, struct db *db, const struct uuid *job,
                              int64_t from, int64_t *ret);

/*
 * Hands over each line from `from` on that has a row and was not seen before; what on_line_cb failed for
 * counts as not seen. It may make queries of its own.
 */
enum err results_index_fresh(struct results_index *index, struct db *db, const struct uuid *job,
                             int64_t from, enum err (*on_line_cb)(void *arg, int64_t line),
                             void *arg);

#endif
