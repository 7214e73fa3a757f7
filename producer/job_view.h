/*
 * job_view.h: what people see of jobs: one, many, how far, what came out, what it cost.
 *
 * Only jobs of the connection's tenant are seen. Errors as in db.h.
 */
#ifndef MSERVE_PRODUCER_JOB_VIEW_H
#define MSERVE_PRODUCER_JOB_VIEW_H

#include "config/uuid.h"
#include "producer/progress.h"
#include "sql/db.h"
#include "sql/job.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/*
 * The job that `text` names: batch_ and 32 digits, a UUID, or the beginning of either when only one
 * job begins so. ERR_NOT_FOUND or ERR_USAGE, with a sentence.
 */
enum err job_view_find(struct db *db, const char *text, struct uuid *ret);

/* Adds the OpenAI batch object as JSON. ERR_NOT_FOUND, not logged. */
enum err job_view_object(struct db *db, const struct uuid *job, struct buffer *ret);

/*
 * How far a job is, all of one moment: the counts are those of the rows that there are, folded or not.
 * No number ever goes back, unless the database did.
 */
struct job_progress {
    enum job_state state;
    int64_t lines; /* -1: not sealed */
    int64_t done;  /* rows that there are: the sum of the four */
    int64_t completed, failed, cancelled, expired;
    int64_t input_tokens, output_tokens;
    int64_t gpu_ns;    /* on its rows */
    int64_t device_ns; /* that, what is shared, in work, read again and lost */
    int64_t devices;   /* of the workers that serve its tier now */
    char charged
        [64]; /* so far, "0.000004593 USD"; "": nothing yet, or only job_view_charged() knows */
    bool priced_alike; /* `charged` says all */
    char hold[256];    /* why a part of it does not run, a sentence; "": nothing of it is held */
};

enum err job_view_progress(struct db *db, const struct uuid *job, struct job_progress *ret);

/*
 * What the job is charged so far, from each of its rows: "0.12 USD + 0.07 EUR", "" where it is nothing.
 * Takes as long as it has rows.
 */
enum err job_view_charged(struct db *db, const struct uuid *job, char *ret, size_t size);

/*
 * Says on standard error, under the bar, when a part of the job is held, and when that is over: each
 * once. *said is false at first.
 */
void job_view_say_hold(const struct uuid *job, const struct job_progress *progress,
                       struct progress *bar, bool *said);

/* What a program's exit status says of a job that has ended: ERR_OK, ERR_PARTIAL, … */
enum err job_view_outcome(const struct job_progress *progress);

#endif
