/*
 * submit_series.h: jobs that belong together, and what tonight's need not do again.
 *
 * Between submit.c, submit_documents.c and sql/job_documents.h; one thread.
 */
#ifndef MSERVE_PRODUCER_SUBMIT_SERIES_H
#define MSERVE_PRODUCER_SUBMIT_SERIES_H

#include "config/buffer.h"
#include "config/errors.h"
#include "producer/documents/documents.h"
#include "sql/job_documents.h"

struct submit;

struct submit_series {
    struct series done; /* with --changed */
    uint64_t unchanged;
    uint64_t running;
    struct uuid runs_in; /* the job of the last of these */
    bool runs_in_others; /* and not of all of them */
};

/* With --changed: what was done. The database is connected. */
enum err submit_series_load(struct submit *submit);

/* True for a document that is not to be sent; counts it. */
bool submit_series_leaves_out(struct submit *submit, const struct document *document);

/* Adds "8,412 unchanged, 12 still running in batch_…"; nothing where nothing was left out. */
void submit_series_add_counts(const struct submit *submit, struct buffer *to);

/* With --changed: says what is left out and what is to do, where there is something to do. */
void submit_series_say(const struct submit *submit);

/*
 * Writes down which lines come from which documents, before the job is sealed. ERR_LOST, not logged:
 * it has ended. ERR_CONFLICT: it belongs to another series.
 */
enum err submit_series_record(struct submit *submit);

void submit_series_release(struct submit *submit);

#endif
