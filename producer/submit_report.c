/* submit_report.c: what people are told: bad lines, a dry run, a job and how it ends. */
#include "config/clock.h"
#include "config/json.h"
#include "config/log.h"
#include "config/utf8.h"
#include "producer/interrupt.h"
#include "producer/job_view.h"
#include "producer/patience.h"
#include "producer/results/results.h"
#include "producer/submit_internal.h"
#include "producer/watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    ENTRIES = 1024,
    SHOWN_ON_TERMINAL = 20,
    SHOWN_ELSEWHERE = 100,
    LOOK_EVERY_MS = 500,
};

/* Calls for each bad line; a function of its own so that nothing is kept in memory. */
typedef enum err each_invalid_fn(struct submit *submit, const struct line_entry *entry,
                                 uint64_t request, uint64_t number, struct buffer *text);

static enum err each_invalid(struct submit *submit, uint64_t max, each_invalid_fn *on_line_cb)
{
    struct line_index *index = submit->scan.index;
    struct line_entry *entry = xcalloc(ENTRIES, sizeof(*entry));
    struct buffer text = {0};
    uint64_t number = 0, request = 0;
    uint32_t count = 1;
    enum err rc = ERR_OK;

    while (rc == ERR_OK && count > 0 && number < max) {
        rc = line_index_read(index, request, entry, ENTRIES, &count);
        for (uint32_t i = 0; i < count && rc == ERR_OK && number < max; i++) {
            if ((entry[i].flags & LINE_INVALID) == 0)
                continue;
            buffer_clear(&text);
            rc = on_line_cb(submit, &entry[i], request + i, number++, &text);
        }
        request += count;
    }
    buffer_release(&text);
    free(entry);
    return rc;
}

static enum err print_json_cb(struct submit *submit, const struct line_entry *entry,
                              uint64_t request, uint64_t number, struct buffer *text)
{
    enum err rc;

    buffer_add_text(text, number > 0 ? ",\n" : "\n");
    rc = line_index_error_json(submit->scan.index, entry, request, text);
    if (rc == ERR_OK)
        fwrite(text->data, 1, text->len, stdout);
    return rc;
}

static enum err print_text_cb(struct submit *submit, const struct line_entry *entry,
                              uint64_t request, uint64_t number, struct buffer *text)
{
    enum err rc;

    (void)number;
    if (submit->documents != NULL) {
        const char *path = submit_documents_path(submit->documents, request);

        utf8_add_printable(text, (struct slice){path, strlen(path)});
        buffer_add_text(text, ", ");
    }
    rc = line_index_error_text(submit->scan.index, entry, request, text);
    if (rc == ERR_OK)
        fprintf(stderr, "%.*s\n", (int)text->len, text->data);
    return rc;
}

/* A job of failed rows alone needs an endpoint and a tier too, and no line says which. */
static const char *what_would_help(const struct submit *submit)
{
    if (strcmp(submit->options->on_invalid, "skip") != 0)
        return ". With --on-invalid skip they become failed rows and the rest runs";
    if (!submit->has_endpoint && submit->tier == NULL)
        return ": no line says to which endpoint and tier they go, to become failed rows there. "
               "Name them with --endpoint and --tier";
    if (!submit->has_endpoint)
        return ": no line says to which endpoint they go, to become failed rows there. Name it "
               "with --endpoint";
    return ": no line names a model that a tier serves, so no tier is found in which they become "
           "failed rows. Name it with --tier";
}

enum err submit_report_invalid(struct submit *submit)
{
    uint64_t invalid = line_index_invalid(submit->scan.index);
    uint64_t max = isatty(STDERR_FILENO) ? SHOWN_ON_TERMINAL : SHOWN_ELSEWHERE;
    char bad[32], all[32];
    enum err rc;

    if (submit->options->json) {
        fputs("{\"errors\":{\"object\":\"list\",\"data\":[", stdout);
        rc = each_invalid(submit, UINT64_MAX, print_json_cb);
        fputs("]}}\n", stdout);
    } else {
        rc = each_invalid(submit, max, print_text_cb);
        if (invalid > max)
            fprintf(stderr, "... and %s more; --json shows all of them\n",
                    progress_number(invalid - max, bad));
    }
    if (rc != ERR_OK)
        return rc;
    return fail(ERR_INPUT, "%s: %s of %s requests are not valid; nothing was sent%s",
                submit_from(submit), progress_number(invalid, bad),
                progress_number(submit->scan.requests, all), what_would_help(submit));
}

static void print_dry_json(struct submit *submit)
{
    const struct scan *scan = &submit->scan;
    struct buffer json = {0};

    json_write_open(&json, '{');
    json_write_key(&json, "object");
    json_write_text(&json, "batch.dry_run");
    json_write_key(&json, "endpoint");
    json_write_text(&json, endpoint_url(submit->endpoint));
    json_write_key(&json, "tier");
    json_write_text(&json, submit->tier->name);
    json_write_key(&json, "model");
    json_write_text(&json, scan->model);
    json_write_key(&json, "requests");
    json_write_u64(&json, scan->requests);
    json_write_key(&json, "invalid");
    json_write_u64(&json, line_index_invalid(scan->index));
    json_write_key(&json, "blank_lines");
    json_write_u64(&json, scan->blanks);
    json_write_key(&json, "bytes");
    json_write_u64(&json, input_size(submit->input));
    json_write_key(&json, "estimated_tokens");
    json_write_u64(&json, scan->work);
    json_write_close(&json, '}');
    printf("%s\n", json.data);
    buffer_release(&json);
}

/* A path as typed, or found by a shell: it may hold anything. Released with the job's texts. */
static const char *shown_path(struct submit *submit, const char *path)
{
    struct buffer text = {0};
    const char *shown;

    utf8_add_printable(&text, (struct slice){path, strlen(path)});
    shown = arena_copy(&submit->arena, text.data, text.len);
    buffer_release(&text);
    return shown;
}

enum err submit_report_dry(struct submit *submit)
{
    const struct scan *scan = &submit->scan;
    const char *file = shown_path(submit, submit_from(submit));
    uint64_t invalid = line_index_invalid(scan->index);
    char requests[32], tokens[32], bad[32];

    if (submit->options->json) {
        print_dry_json(submit);
        return cli_flush();
    }
    printf("%s: %s requests for %s on tier %s, about %s tokens; nothing was sent\n", file,
           progress_number(scan->requests, requests), endpoint_url(submit->endpoint),
           submit->tier->name, progress_number(scan->work, tokens));
    if (scan->blanks > 0)
        printf("%s: %" PRIu64 " blank lines are passed over\n", file, scan->blanks);
    if (invalid > 0) {
        printf("%s: %s requests are not valid and would become failed rows:\n", file,
               progress_number(invalid, bad));
        fflush(stdout);
        return each_invalid(submit, SHOWN_ELSEWHERE, print_text_cb);
    }
    return cli_flush();
}

static void show_running(struct submit *submit, const struct watch *watch)
{
    const struct job_progress *progress = &watch->last;
    char line[WATCH_LINE_SIZE];

    progress_show(&submit->progress, "running", (uint64_t)progress->done,
                  progress->lines > 0 ? (uint64_t)progress->lines : 0, watch_line(watch, line),
                  clock_mono_ns());
}

/*
 * Whatever ends this command from here on, the job has a name: the same command with --new would be
 * another.
 */
static void say_accepted(struct submit *submit)
{
    char id[UUID_BATCH_SIZE];

    if (!submit->options->json)
        fprintf(stderr, "%s is accepted and runs; waiting for its end\n",
                uuid_format_batch(submit->job.job, id));
}

/* Stays until the job has ended. A signal ends the waiting and leaves the job alone. */
static enum err wait_for_end(struct submit *submit, struct job_progress *ret)
{
    struct patience patience = {0};
    struct watch watch = {0};
    bool said = false, held = false;

    for (;;) {
        enum err rc = job_view_progress(submit->cli->db, &submit->job.job, ret);

        if (patience_try(&patience, submit->cli->db, rc)) /* the job goes on anyway */
            continue;
        if (rc == ERR_DATABASE && interrupted())
            return ERR_INTERRUPTED;
        if (rc != ERR_OK || job_state_is_terminal(ret->state))
            return rc;
        patience_reset(&patience);
        if (!said)
            say_accepted(submit);
        said = true;
        job_view_say_hold(&submit->job.job, ret, &submit->progress, &held);
        watch_see(&watch, ret, clock_mono_ns());
        show_running(submit, &watch);
        usleep(LOOK_EVERY_MS * 1000);
        if (interrupted())
            return ERR_INTERRUPTED;
    }
}

static enum err write_output(struct submit *submit)
{
    struct results_options options = {0};
    struct results_counts counts;
    char rows[32];
    enum err rc = results_write_file(submit->cli->db, &submit->job.job, &options,
                                     submit->options->output, &counts);

    if (rc == ERR_OK && !submit->options->json)
        fprintf(stderr, "%s rows written to %s\n", progress_number(counts.written, rows),
                shown_path(submit, submit->options->output));
    return rc;
}

static void print_text(struct submit *submit, const struct job_progress *progress)
{
    char id[UUID_BATCH_SIZE], lines[32], failed[32];

    uuid_format_batch(submit->job.job, id);
    printf("%s %s", id, job_state_name(progress->state));
    if (progress->lines >= 0)
        printf(", %s requests on tier %s", progress_number((uint64_t)progress->lines, lines),
               submit->tier->name);
    if (progress->failed > 0)
        printf(", %s failed", progress_number((uint64_t)progress->failed, failed));
    printf("\n");
    if (!submit->options->wait && !job_state_is_terminal(progress->state))
        fprintf(stderr, "to follow it: mserve watch %s\n", id);
}

static enum err print_job(struct submit *submit, const struct job_progress *progress)
{
    struct buffer json = {0};
    enum err rc = ERR_OK;

    progress_wipe(&submit->progress);
    if (submit->options->json) {
        rc = job_view_object(submit->cli->db, &submit->job.job, &json);
        if (rc == ERR_OK)
            printf("%s\n", json.data);
        buffer_release(&json);
    } else {
        print_text(submit, progress);
    }
    return rc == ERR_OK ? cli_flush() : rc;
}

/* With --output - the results alone go to standard output. */
static bool output_is_stdout(const struct submit_options *options)
{
    return options->output != NULL && strcmp(options->output, "-") == 0;
}

/* What can be done about a job whose end or results this command did not bring. */
static void say_what_remains(const struct submit *submit, bool waited, bool ended)
{
    const struct submit_options *options = submit->options;
    const char *program = submit->cli->program;
    char id[UUID_BATCH_SIZE];

    uuid_format_batch(submit->job.job, id);
    if (!ended)
        fprintf(stderr, "%s: %s%s goes on: mserve watch %s\n", program,
                waited ? "stopped waiting; " : "", id, id);
    else if (options->output == NULL)
        fprintf(stderr, "%s: %s has ended: mserve get %s\n", program, id, id);
    if (options->output != NULL)
        fprintf(stderr, "%s: the results of %s%s: mserve results %s%s\n", program, id,
                ended ? "" : ", then", output_is_stdout(options) ? "" : "--output FILE ", id);
}

enum err submit_report_job(struct submit *submit)
{
    const struct submit_options *options = submit->options;
    bool waits = options->wait || options->output != NULL;
    struct job_progress progress;
    enum err rc = waits ? wait_for_end(submit, &progress)
                        : job_view_progress(submit->cli->db, &submit->job.job, &progress);
    bool ended = rc == ERR_OK && job_state_is_terminal(progress.state);

    if (rc == ERR_OK && options->output != NULL)
        rc = write_output(submit);
    if (rc == ERR_OK && !output_is_stdout(options))
        rc = print_job(submit, &progress);
    progress_wipe(&submit->progress);
    if (rc != ERR_OK)
        say_what_remains(submit, waits, ended);
    else if (!waits && ended && !submit->job.made && progress.lines < 0)
        rc = fail(ERR_JOB_FAILED,
                  "this job was %s before it was complete; --new submits the file again",
                  job_state_name(progress.state));
    else if (waits)
        rc = job_view_outcome(&progress);
    return rc;
}
