/*
 * results.c: which rows are asked for next: pages by line; in order of completion the lines of a list,
 * which is made once or, for who follows, of what the chunk index says is new.
 */
#include "producer/results/results.h"
#include "config/log.h"
#include "producer/interrupt.h"
#include "producer/job_view.h"
#include "producer/patience.h"
#include "producer/results/results_format.h"
#include "producer/results/results_write.h"
#include "producer/spill.h"
#include "sql/queries.h"

#include <stdlib.h>
#include <string.h>

enum {
    PAGE_BYTES = 2 << 20, /* about what a page shall come to */
    PAGE_ROWS_MIN = 16,
    PAGE_ROWS_FIRST = 256,
    PAGE_ROWS_MAX = 16384,
    PICKS = 1024,
    ORDER_BYTES = 8 << 20,
    LOOK_EVERY_MS = 1000,      /* while nobody tells us of news */
    TOLD_LOOK_EVERY_MS = 5000, /* while somebody does */
};

/* Lines that are to be written, wherever they lie. */
struct picks {
    int64_t line[PICKS];
    bool taken[PICKS]; /* written already, when the page broke off */
    size_t count;
};

struct writer {
    struct db *db;
    const struct results_options *options;
    struct uuid job; /* with `latest` the first of the chain */
    bool chain;      /* which has retries: it costs more to read than a job alone */
    struct results_sink *out, *errors;
    struct results_counts counts;
    struct arena arena;
    struct results_join join;
    struct results_index index;
    struct picks picks;
    int64_t next_line; /* input order: the first that was not handled */
    int64_t page_rows;
    uint64_t page_bytes; /* of the rows of this page, about */
    uint64_t handled;    /* rows, ever */
    struct spill *order; /* of completion: the lines, as they were committed */
    uint64_t order_at;   /* bytes of it that were read */
    uint32_t listens_on; /* generation of the connection; 0: none */
    bool told;           /* the last wait ended because news were told of */
    bool trusts;         /* news are told of, as far as we know: it need not look often */
};

/* ------------------------------------------------------------------------------------ one row in ---- */

/* Where a row or document goes; NULL: nowhere. */
static struct results_sink *sink_for(struct writer *writer, bool completed)
{
    if (writer->errors != NULL)
        return completed ? writer->out : writer->errors;
    if (writer->options->status == RESULTS_ALL ||
        (writer->options->status == RESULTS_OK) == completed)
        return writer->out;
    return NULL;
}

static void count(struct writer *writer, const struct results_sink *sink)
{
    if (sink == writer->out)
        writer->counts.written++;
    else
        writer->counts.errors++;
}

static struct results_sink *add_part(struct writer *writer, const struct result_row *row)
{
    struct results_sink *sink;

    if (!results_join_add(&writer->join, &writer->arena, row))
        return NULL;
    sink = sink_for(writer, results_join_completed(&writer->join));
    if (sink == NULL)
        return NULL;
    writer->counts.unreadable += writer->join.unreadable;
    results_join_line(&writer->join, &sink->lines, writer->options->format);
    return sink;
}

static struct results_sink *add_row(struct writer *writer, const struct result_row *row)
{
    struct results_sink *sink = sink_for(writer, row->completed);

    if (sink == NULL)
        return NULL;
    if (writer->options->format == RESULTS_CSV)
        writer->counts.unreadable += !results_csv_line(&sink->lines, &writer->arena, row);
    else
        results_openai_line(&sink->lines, row);
    return sink;
}

/* Nobody reads any of it any more. */
static bool stopped(const struct writer *writer)
{
    return writer->out->stopped && (writer->errors == NULL || writer->errors->stopped);
}

static enum err handle(struct writer *writer, const struct result_row *row)
{
    struct results_sink *sink =
        writer->options->join ? add_part(writer, row) : add_row(writer, row);

    writer->handled++;
    writer->page_bytes += row->custom_id.len + row->response.len + row->error.len + 128;
    if (sink == NULL)
        return ERR_OK;
    count(writer, sink);
    /* Rows may be larger than those before: what is too much for memory is written at once. */
    return results_sink_full(sink) ? results_sink_flush(sink) : ERR_OK;
}

static enum err flush(struct writer *writer)
{
    enum err rc = results_sink_flush(writer->out);

    if (rc == ERR_OK && writer->errors != NULL)
        rc = results_sink_flush(writer->errors);
    if (rc == ERR_OK && interrupted())
        rc = ERR_INTERRUPTED;
    return rc;
}

static struct results_query query_of(const struct writer *writer)
{
    return (struct results_query){
        .job = &writer->job,
        .latest = writer->chain,
        .join = writer->options->join,
        .status = writer->errors != NULL ? RESULTS_ALL : writer->options->status,
        .from = writer->next_line,
        .before = INT64_MAX,
    };
}

/* ------------------------------------------------------------------------------------- by line ---- */

static enum err on_page_row(void *arg, const struct result_row *row)
{
    struct writer *writer = arg;

    writer->next_line = row->line + 1;
    return handle(writer, row);
}

/* The next page is to be of a size that neither memory nor a slow reader minds. */
static void fit_page(struct writer *writer, int64_t rows)
{
    int64_t fitting =
        writer->page_bytes > 0 ? rows * PAGE_BYTES / (int64_t)writer->page_bytes : PAGE_ROWS_MAX;

    if (fitting > writer->page_rows * 8)
        fitting = writer->page_rows * 8;
    if (fitting > PAGE_ROWS_MAX)
        fitting = PAGE_ROWS_MAX;
    writer->page_rows = fitting > PAGE_ROWS_MIN ? fitting : PAGE_ROWS_MIN;
}

/* All rows from next_line on that lie before `before`. */
static enum err write_pages(struct writer *writer, int64_t before)
{
    int64_t asked = 0, rows = 0;
    enum err rc = ERR_OK;

    while (rc == ERR_OK && rows == asked && writer->next_line < before && !stopped(writer)) {
        struct results_query query = query_of(writer);

        query.before = before;
        query.document = writer->join.first_line >= 0 && writer->join.here < writer->join.parts
                             ? writer->join.first_line
                             : writer->next_line;
        asked = writer->page_rows;
        writer->page_bytes = 0;
        rc = results_rows_page(writer->db, &query, asked, on_page_row, writer, &rows);
        fit_page(writer, rows);
        if (rc == ERR_OK)
            rc = flush(writer);
    }
    if (rc == ERR_OK && before < INT64_MAX && before > writer->next_line)
        writer->next_line = before; /* lines that were not wanted lie there */
    return rc;
}

static enum err write_in_input_order(struct writer *writer, bool ended)
{
    int64_t before = INT64_MAX;
    enum err rc = ERR_OK;

    if (writer->options->follow && !ended)
        rc = results_index_prefix(&writer->index, writer->db, &writer->job, writer->next_line,
                                  &before);
    return rc == ERR_OK ? write_pages(writer, before) : rc;
}

/* -------------------------------------------------------------------------- in order of completion ---- */

static int compare_lines(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

    return (left > right) - (left < right);
}

static enum err on_picked_row(void *arg, const struct result_row *row)
{
    struct writer *writer = arg;
    struct picks *picks = &writer->picks;
    const int64_t *at =
        bsearch(&row->line, picks->line, picks->count, sizeof(picks->line[0]), compare_lines);

    if (at != NULL)
        picks->taken[at - picks->line] = true;
    return handle(writer, row);
}

/* Those that were not written before the page broke off. */
static void keep_the_rest(struct picks *picks)
{
    size_t kept = 0;

    for (size_t i = 0; i < picks->count; i++) {
        if (!picks->taken[i])
            picks->line[kept++] = picks->line[i];
    }
    picks->count = kept;
}

static enum err write_picks(struct writer *writer)
{
    struct results_query query = query_of(writer);
    struct picks *picks = &writer->picks;
    enum err rc;

    if (picks->count == 0)
        return ERR_OK;
    qsort(picks->line, picks->count, sizeof(picks->line[0]), compare_lines);
    memset(picks->taken, 0, sizeof(picks->taken));
    rc = results_rows_of(writer->db, &query, picks->line, picks->count, on_picked_row, writer);
    if (rc != ERR_OK) {
        keep_the_rest(picks);
        return rc;
    }
    picks->count = 0;
    return flush(writer);
}

static enum err on_ordered_line(void *arg, int64_t line)
{
    struct writer *writer = arg;

    return spill_append(writer->order, &line, sizeof(line));
}

/* The list is made once: a sort of all rows on each page would cost more than they do. */
static enum err write_in_order(struct writer *writer)
{
    struct results_query query = query_of(writer);
    enum err rc = ERR_OK;

    if (writer->order == NULL) {
        writer->order = spill_new(writer->options->spool_dir ? writer->options->spool_dir : "/tmp",
                                  "the order of the rows", ORDER_BYTES);
        rc = results_rows_order(writer->db, &query, on_ordered_line, writer);
        if (rc != ERR_OK) {
            spill_free(writer->order);
            writer->order = NULL;
        }
    }
    while (rc == ERR_OK && !stopped(writer)) {
        uint64_t left = spill_size(writer->order) - writer->order_at;
        size_t bytes = left < sizeof(writer->picks.line) ? left : sizeof(writer->picks.line);

        rc = write_picks(writer); /* also what was left of the page before */
        if (rc != ERR_OK || bytes == 0)
            break;
        rc = spill_read(writer->order, writer->order_at, writer->picks.line, bytes);
        if (rc == ERR_OK) {
            writer->picks.count = bytes / sizeof(writer->picks.line[0]);
            writer->order_at += bytes;
        }
    }
    return rc;
}

/* A line that no page has room for is not taken, and so found again. */
static enum err on_fresh_line(void *arg, int64_t line)
{
    struct writer *writer = arg;
    enum err rc = writer->picks.count == PICKS ? write_picks(writer) : ERR_OK;

    if (rc == ERR_OK && stopped(writer))
        return ERR_OK;
    if (rc == ERR_OK)
        writer->picks.line[writer->picks.count++] = line;
    return rc;
}

static enum err write_as_they_come(struct writer *writer)
{
    enum err rc = write_picks(writer); /* what an earlier call could not get */

    if (rc == ERR_OK)
        rc = results_index_fresh(&writer->index, writer->db, &writer->job, writer->next_line,
                                 on_fresh_line, writer);
    return rc == ERR_OK ? write_picks(writer) : rc;
}

/* ----------------------------------------------------------------------------------- to the end ---- */

/* Whether nothing will follow: of a chain, that all its jobs have ended. */
static enum err has_ended(struct writer *writer, bool *ret)
{
    struct job_progress progress;
    struct db_result result = {0};
    enum err rc;

    if (!writer->options->latest) {
        rc = job_view_progress(writer->db, &writer->job, &progress);
        if (rc == ERR_OK)
            *ret = job_state_is_terminal(progress.state);
        return rc;
    }
    rc = db_exec(writer->db, QUERY_RESULTS_CHAIN, DB_PARAMS(db_uuid(&writer->job)), &result);
    if (rc == ERR_OK)
        *ret = result.rows > 0 && db_get_bool(&result, 0, 2);
    db_result_release(&result);
    return rc;
}

/* Before the rows are looked at, so that what is said meanwhile is heard. Without it, it is found. */
static enum err listen_for_news(struct writer *writer)
{
    char channel[64], id[UUID_BATCH_SIZE];
    enum err rc;

    if (!writer->options->follow || writer->listens_on == db_generation(writer->db))
        return ERR_OK;
    snprintf(channel, sizeof(channel), "mserve_job_%s",
             uuid_format_batch(writer->job, id) + strlen("batch_"));
    rc = db_listen(writer->db, channel);
    if (rc == ERR_OK || db_is_open(writer->db))
        writer->listens_on = db_generation(writer->db);
    return db_is_open(writer->db) ? ERR_OK : rc;
}

/* The state is asked for before the rows: what had ended then has all its rows. */
static enum err write_more(struct writer *writer)
{
    const struct results_options *options = writer->options;
    bool ended = false;
    enum err rc = listen_for_news(writer);

    if (rc == ERR_OK)
        rc = has_ended(writer, &ended);
    if (rc == ERR_OK && options->order == RESULTS_INPUT)
        rc = write_in_input_order(writer, ended);
    else if (rc == ERR_OK)
        rc = options->follow ? write_as_they_come(writer) : write_in_order(writer);
    if (rc == ERR_OK)
        writer->counts.complete = ended;
    return rc;
}

/* `found`: rows have come since the last wait. If nobody told of them, nobody is to be relied on. */
static enum err wait_for_news(struct writer *writer, bool found)
{
    enum err rc;

    if (found && !writer->told)
        writer->trusts = false;
    writer->told = false;
    rc = db_wait_notice(writer->db, writer->trusts ? TOLD_LOOK_EVERY_MS : LOOK_EVERY_MS,
                        &writer->told);
    writer->trusts = writer->trusts || writer->told;
    return rc == ERR_OK && interrupted() ? ERR_INTERRUPTED : rc;
}

static enum err write_until_done(struct writer *writer)
{
    struct patience patience = {0};

    for (;;) {
        uint64_t before = writer->handled;
        enum err rc = write_more(writer);

        if (rc == ERR_OK) {
            patience_reset(&patience);
            if (writer->counts.complete || stopped(writer) || !writer->options->follow)
                return ERR_OK;
            rc = wait_for_news(writer, writer->handled > before);
        }
        if (rc != ERR_OK && !patience_try(&patience, writer->db, rc))
            return rc == ERR_DATABASE && interrupted() ? ERR_INTERRUPTED : rc;
    }
}

static void begin_sink(const struct results_options *options, struct results_sink *sink)
{
    if (sink != NULL && options->format == RESULTS_CSV)
        buffer_add_text(&sink->lines, options->join ? results_join_heading : results_csv_heading);
}

/* The sentences for what cannot be done with this job, and the chain's first job. */
static enum err look_at_job(struct writer *writer)
{
    bool of_documents = true, retry = false, there = true;
    struct db_result result = {0};
    char id[UUID_BATCH_SIZE];
    enum err rc = ERR_OK;

    if (writer->options->latest) {
        rc = db_exec(writer->db, QUERY_RESULTS_CHAIN, DB_PARAMS(db_uuid(&writer->job)), &result);
        if (rc == ERR_OK && result.rows > 0) {
            writer->job = db_get_uuid(&result, 0, 0);
            there = db_get_bool(&result, 0, 1);
            writer->chain = db_get_bool(&result, 0, 3);
        }
        db_result_release(&result);
    }
    if (rc == ERR_OK && !there)
        rc = fail(
            ERR_NOT_FOUND,
            "the first job of the chain, %s, is not there any more; without --latest there are "
            "the rows of the retry alone",
            uuid_format_batch(writer->job, id));
    if (rc != ERR_OK || !writer->options->join)
        return rc;
    rc =
        db_exec(writer->db, QUERY_RESULTS_HAS_DOCUMENTS, DB_PARAMS(db_uuid(&writer->job)), &result);
    if (rc == ERR_OK && result.rows > 0) {
        of_documents = db_get_bool(&result, 0, 0);
        retry = db_get_bool(&result, 0, 1);
    }
    db_result_release(&result);
    if (rc == ERR_OK && !of_documents)
        rc = fail(ERR_USAGE, "%s was not made of documents, so there is nothing to join%s",
                  uuid_format_batch(writer->job, id),
                  retry ? "; it is a retry: add --latest, to join those of its first job"
                        : " (mserve-submit --documents makes such jobs)");
    return rc;
}

enum err results_write(struct db *db, const struct uuid *job, const struct results_options *options,
                       struct results_sink *out, struct results_sink *errors,
                       struct results_counts *ret)
{
    struct writer *writer = xcalloc(1, sizeof(*writer));
    enum err rc;

    *writer = (struct writer){
        .db = db,
        .options = options,
        .job = *job,
        .out = out,
        .errors = errors,
        .next_line = (int64_t)options->from_line,
        .page_rows = PAGE_ROWS_FIRST,
    };
    results_join_init(&writer->join);
    results_index_init(&writer->index);
    rc = look_at_job(writer);
    if (rc == ERR_OK) {
        begin_sink(options, out);
        begin_sink(options, errors);
        rc = flush(writer);
    }
    if (rc == ERR_OK)
        rc = write_until_done(writer);
    *ret = writer->counts;
    spill_free(writer->order);
    results_index_release(&writer->index);
    results_join_release(&writer->join);
    arena_release(&writer->arena);
    free(writer);
    return rc;
}
