/*
 * job_documents.h: which lines of a job came from which document, and what a series of jobs has done
 * already, so that tonight's job need not do it again.
 *
 * A series is a name that jobs of one tenant share. A document is known in it by its path and the
 * sha256 of its bytes. What counts is the newest accepted job of the series that has the path: while it
 * runs, or when all lines of the document completed there (or in a retry of it), there is nothing to
 * do for these bytes.
 *
 * Errors as in db.h.
 */
#ifndef MSERVE_SQL_JOB_DOCUMENTS_H
#define MSERVE_SQL_JOB_DOCUMENTS_H

#include "config/sha256.h"
#include "config/uuid.h"
#include "sql/db.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct job_document {
    const char *path; /* UTF-8 */
    const uint8_t *sha256;
    int64_t first_line;
    int32_t parts;
};

/*
 * Between job_open() and job_seal(), in batches of any size; `series` NULL: none. May be repeated, also
 * after the seal. ERR_LOST, not logged: the job has ended unsealed. ERR_CONFLICT, not logged: it is of
 * another series, or of none.
 */
enum err job_documents_add(struct db *db, const struct uuid *job, const char *series,
                           const struct job_document *documents, size_t count);

/* What is not to be done again. {0} is an empty series. Read-only once loaded: any thread. */
struct series {
    struct series_row *slot; /* hash table, linear probing */
    size_t mask;             /* its size - 1 */
    size_t count;
};

enum series_has {
    SERIES_NOT,     /* to be done */
    SERIES_DONE,    /* its lines completed */
    SERIES_RUNNING, /* the job that has it runs */
};

/* About 100 bytes a document, for the time of the call 200 more. */
enum err series_load(struct db *db, const char *name, struct series *ret);
void series_release(struct series *series);

/* *ret_job is set unless it is SERIES_NOT. */
enum series_has series_find(const struct series *series, const char *path,
                            const uint8_t sha256[SHA256_BYTES], struct uuid *ret_job);

#endif
