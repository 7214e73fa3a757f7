/* submit_series.c: what is left out tonight, and what is written down for tomorrow. */
#include "producer/submit_series.h"

#include "config/log.h"
#include "config/utf8.h"
#include "producer/interrupt.h"
#include "producer/submit_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_DOCUMENTS = 5000 }; /* in one statement: about 1 MB */

enum err submit_series_load(struct submit *submit)
{
    if (!submit->options->changed)
        return ERR_OK;
    return series_load(submit->cli->db, submit->options->series, &submit->series.done);
}

bool submit_series_leaves_out(struct submit *submit, const struct document *document)
{
    struct submit_series *series = &submit->series;
    struct uuid job = {0};

    switch (series_find(&series->done, document->path, document->sha256, &job)) {
    case SERIES_NOT:
        return false;
    case SERIES_DONE:
        series->unchanged++;
        return true;
    case SERIES_RUNNING:
        break;
    }
    if (series->running > 0 && !uuid_equal(series->runs_in, job))
        series->runs_in_others = true;
    series->runs_in = job;
    series->running++;
    return true;
}

void submit_series_add_counts(const struct submit *submit, struct buffer *to)
{
    const struct submit_series *series = &submit->series;
    char number[32], id[UUID_BATCH_SIZE];

    if (series->unchanged > 0)
        buffer_printf(to, "%s unchanged", progress_number(series->unchanged, number));
    if (series->running > 0) {
        uuid_format_batch(series->runs_in, id);
        buffer_printf(to, "%s%s still running in %s%s", to->len > 0 ? ", " : "",
                      progress_number(series->running, number), id,
                      series->runs_in_others ? " and others" : "");
    }
}

void submit_series_say(const struct submit *submit)
{
    struct buffer text = {0};
    char number[32];

    if (!submit->options->changed || submit->documents->count == 0)
        return;
    submit_series_add_counts(submit, &text);
    fprintf(stderr, "%s: %s%s%s to do\n", submit->cli->program, text.len > 0 ? text.data : "",
            text.len > 0 ? ", " : "", progress_number(submit->documents->count, number));
    buffer_release(&text);
}

static enum err add_batch(struct submit *submit, uint64_t first, size_t count)
{
    const struct submit_document *item = submit->documents->item + first;
    struct job_document *batch = xcalloc(count, sizeof(*batch));
    enum err rc;

    for (size_t i = 0; i < count; i++)
        batch[i] = (struct job_document){.path = item[i].path,
                                         .sha256 = item[i].sha256,
                                         .first_line = (int64_t)item[i].first_line,
                                         .parts = (int32_t)item[i].parts};
    rc =
        job_documents_add(submit->cli->db, &submit->job.job, submit->options->series, batch, count);
    free(batch);
    return rc;
}

static enum err refuse_series(const struct submit *submit)
{
    char id[UUID_BATCH_SIZE];

    uuid_format_batch(submit->job.job, id);
    return fail(ERR_CONFLICT,
                "%s is not of the series \"%s\"; give the key of a job of that series, or another "
                "key",
                id, submit->options->series != NULL ? submit->options->series : "");
}

enum err submit_series_record(struct submit *submit)
{
    enum err rc = ERR_OK;

    if (submit->documents == NULL)
        return ERR_OK;
    for (uint64_t at = 0; at < submit->documents->count && rc == ERR_OK;) {
        uint64_t left = submit->documents->count - at;
        size_t count = left < BATCH_DOCUMENTS ? (size_t)left : BATCH_DOCUMENTS;

        rc = interrupted() ? ERR_INTERRUPTED : add_batch(submit, at, count);
        at += count;
    }
    return rc == ERR_CONFLICT ? refuse_series(submit) : rc;
}

void submit_series_release(struct submit *submit)
{
    series_release(&submit->series.done);
}
