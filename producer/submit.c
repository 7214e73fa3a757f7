/* submit.c: the order of things. */
#include "producer/submit.h"
#include "config/clock.h"
#include "config/failpoint.h"
#include "config/log.h"
#include "config/utf8.h"
#include "producer/documents/document_template.h"
#include "producer/interrupt.h"
#include "producer/patience.h"
#include "producer/results/results.h"
#include "producer/submit_internal.h"
#include "producer/upload.h"
#include "sql/queries.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* No statement of an upload takes as long: a server that is silent for this time is not there. */
enum { REPLY_TIMEOUT_MS = 20000 };

static void on_spool_cb(void *data, uint64_t bytes)
{
    struct submit *submit = data;
    char note[64];

    snprintf(note, sizeof(note), "%" PRIu64 " MB", bytes / 1000000);
    progress_show(&submit->progress, "reading", bytes, 0, note, clock_mono_ns());
}

static void on_scan_cb(void *data, uint64_t bytes, uint64_t requests)
{
    struct submit *submit = data;
    char count[32], note[64];

    snprintf(note, sizeof(note), "%s requests", progress_number(requests, count));
    progress_show(&submit->progress, "checking", bytes, input_size(submit->input), note,
                  clock_mono_ns());
}

static struct scan_options scan_options(struct submit *submit)
{
    const struct settings_submit *settings = &submit->cli->settings->submit;

    return (struct scan_options){
        .rules = {.has_endpoint = submit->has_endpoint, .endpoint = submit->endpoint},
        .line_bytes_max = settings->line_bytes_max,
        .spool_dir = settings->spool_dir,
        .on_progress_cb = on_scan_cb,
        .data = submit,
    };
}

/* The tier that answers to the model of the first good line, or the one that was named. */
static enum err choose_tier(struct submit *submit, const char *model)
{
    enum err rc;

    if (submit->options->tier != NULL)
        return tiers_find(&submit->tiers, submit->options->tier, &submit->tier);
    if (model == NULL)
        return ERR_OK;
    rc = tiers_serving(&submit->tiers, model, &submit->tier);
    return rc == ERR_NOT_FOUND ? ERR_OK : rc;
}

/* Endpoint and tier: what the lines have in common, and what is not known before one is read. */
static enum err look_ahead(struct submit *submit)
{
    struct scan_options options = scan_options(submit);
    struct scan_first first = {0};
    enum err rc;

    options.rules.models = submit->options->any_model ? NULL : &submit->tiers.all;
    rc = scan_find_first(submit->input, &options, &first);
    if (rc != ERR_OK)
        return rc;
    if (!submit->has_endpoint && first.has_endpoint) {
        submit->has_endpoint = true;
        submit->endpoint = first.endpoint;
    }
    rc = choose_tier(submit, first.model);
    free(first.model);
    return rc;
}

/* Better now than after the job ran. */
static enum err check_output(const struct submit *submit)
{
    const char *output = submit->options->output;
    struct stat there;

    if (output == NULL)
        return ERR_OK;
    if (strcmp(output, "-") != 0 && stat(output, &there) == 0 &&
        (submit->documents != NULL ? submit_documents_reads(submit, &there)
                                   : input_is(submit->input, &there)))
        return fail(ERR_USAGE, "--output %s is the input itself; its results would replace it",
                    output);
    return results_try_file(output);
}

static bool answers_to(const struct tier *tier, struct slice model)
{
    for (uint32_t i = 0; i < tier->models.count; i++)
        if (tier->models.name[i].len == model.len &&
            memcmp(tier->models.name[i].data, model.data, model.len) == 0)
            return true;
    return false;
}

/* All requests have the template's model: better one sentence before anything is read. */
static enum err check_template(struct submit *submit)
{
    struct slice model = document_template_model(submit->documents->template);
    const char *name = arena_copy(&submit->arena, model.data, model.len);
    enum err rc = choose_tier(submit, name);

    if (rc != ERR_OK)
        return rc;
    if (submit->tier == NULL)
        return fail(ERR_INPUT,
                    "%s: no tier serves the model \"%s\"; choose one with --tier and "
                    "--any-model, or name another",
                    submit->options->template, name);
    if (!submit->options->any_model && !answers_to(submit->tier, model))
        return fail(ERR_INPUT, "%s: the tier %s does not serve the model \"%s\"",
                    submit->options->template, submit->tier->name, name);
    return ERR_OK;
}

static enum err make_input(struct submit *submit)
{
    enum err rc = check_template(submit);

    return rc == ERR_OK ? submit_documents_read(submit) : rc;
}

static enum err validate(struct submit *submit)
{
    struct input_spool spool = {
        .dir = submit->cli->settings->submit.spool_dir,
        .line_bytes_max = submit->cli->settings->submit.line_bytes_max,
        .on_progress_cb = on_spool_cb,
        .data = submit,
    };
    struct scan_options options;
    enum err rc =
        submit->documents != NULL ? make_input(submit) : input_spool(submit->input, &spool);

    if (rc == ERR_OK)
        rc = look_ahead(submit);
    if (rc != ERR_OK)
        return rc;
    options = scan_options(submit);
    if (!submit->options->any_model)
        options.rules.models = submit->tier != NULL ? &submit->tier->models : &submit->tiers.all;
    return scan_run(submit->input, &options, &submit->scan);
}

/* What stands in the way of sending it. */
static enum err judge(struct submit *submit)
{
    uint64_t invalid = line_index_invalid(submit->scan.index);

    progress_wipe(&submit->progress);
    if (submit->scan.requests == 0)
        return fail(ERR_INPUT, "%s has no requests: %s", submit_from(submit),
                    submit->scan.blanks > 0 ? "all its lines are blank" : "it is empty");
    if (invalid > 0 && (strcmp(submit->options->on_invalid, "skip") != 0 || !submit->has_endpoint ||
                        submit->tier == NULL))
        return submit_report_invalid(submit);
    if (submit->tier == NULL) /* no line is bad, so a tier was found: this cannot be */
        return fail(ERR_INTERNAL, "no tier was found for valid lines");
    return ERR_OK;
}

/*
 * The key that --new asks for: that of the newest job while it uploads, else one that nobody has. Of
 * --changed also while it runs: documents of a job that has ended are here because something failed.
 */
static enum err renewed_key(struct submit *submit, const char *base, const char **ret)
{
    const char *query = submit->options->changed ? QUERY_DOCUMENTS_KEY : QUERY_JOB_KEY_NEWEST;
    struct db_result result = {0};
    char key[128];
    unsigned number = 0;
    enum err rc = db_exec(submit->cli->db, query, DB_PARAMS(db_text(base)), &result);

    if (rc != ERR_OK)
        return rc;
    snprintf(key, sizeof(key), "%s", base);
    if (result.rows > 0) {
        struct slice newest = db_get_slice(&result, 0, 0);
        const char *slash = strrchr(newest.data, '/');

        if (slash != NULL)
            number = (unsigned)strtoul(slash + 1, NULL, 10);
        if (db_get_bool(&result, 0, 1))
            snprintf(key, sizeof(key), "%s", newest.data);
        else
            snprintf(key, sizeof(key), "%s/%u", base, number + 1);
    }
    db_result_release(&result);
    *ret = arena_copy(&submit->arena, key, strlen(key));
    return ERR_OK;
}

/* Of the jobs that --new made of this content one may wait for what the log has lost. */
static enum err missing_key(struct submit *submit, const char *base, const char **ret)
{
    struct db_result result = {0};
    enum err rc =
        db_exec(submit->cli->db, QUERY_JOB_KEY_MISSING, DB_PARAMS(db_text(base)), &result);

    if (rc != ERR_OK)
        return rc;
    if (result.rows > 0) {
        struct slice key = db_get_slice(&result, 0, 0);

        *ret = arena_copy(&submit->arena, key.data, key.len);
    }
    db_result_release(&result);
    return ERR_OK;
}

static enum err choose_key(struct submit *submit, const char **ret)
{
    if (submit->options->idempotency_key != NULL) {
        *ret = submit->options->idempotency_key;
        return ERR_OK;
    }
    *ret = submit_key(submit);
    return submit->options->renew || submit->options->changed ? renewed_key(submit, *ret, ret)
                                                              : missing_key(submit, *ret, ret);
}

/* Kafka is asked before there is a row that says a job is coming, unless the job is there already. */
static enum err reach_kafka(struct submit *submit, const char *key)
{
    struct publisher_options options = {
        .kafka = &submit->cli->settings->kafka,
        .topic = submit->tier->topic,
        .partitions = submit->tier->partitions,
        .message_timeout_ms = (uint32_t)submit->cli->settings->submit.outage_max_ms,
    };
    struct db_result result = {0};
    bool sealed;
    enum err rc;

    if (submit->publisher != NULL)
        return ERR_OK;
    rc = db_exec(submit->cli->db, QUERY_JOB_BY_KEY, DB_PARAMS(db_text(key)), &result);

    if (rc != ERR_OK)
        return rc;
    sealed = result.rows > 0 && !db_get_bool(&result, 0, 0);
    db_result_release(&result);
    return sealed ? ERR_OK : publisher_open(&options, &submit->publisher);
}

/* A file name may be any bytes, a column may not. */
static const char *clean_name(struct submit *submit)
{
    const char *name = submit->options->input_name != NULL ? submit->options->input_name
                                                           : input_name(submit->input);
    struct buffer text = {0};
    const char *clean;

    utf8_add_clean(&text, (struct slice){name, strlen(name)});
    clean = arena_copy(&submit->arena, text.data, text.len);
    buffer_release(&text);
    return clean;
}

static enum err open_job(struct submit *submit, const char *key)
{
    const struct settings_submit *settings = &submit->cli->settings->submit;
    const struct tier *tier = submit->tier;
    struct job_spec spec = {
        .idempotency_key = key,
        .input_name = clean_name(submit),
        .endpoint = endpoint_url(submit->endpoint),
        .tier = tier->name,
        .model = submit->scan.model,
        .topic = tier->topic,
        .partitions = tier->partitions,
        .chunk_lines_max = chunk_cut_lines(submit->scan.requests, tier->partitions,
                                           settings->chunk_lines_min, settings->chunk_lines_max),
        .chunk_bytes_max = (uint32_t)settings->chunk_bytes_max,
        .completion_window = submit->window,
        .window_ms = submit->window_ms,
        .metadata = submit->metadata,
        .priority = submit->priority,
    };
    enum err rc;

    memcpy(spec.content_sha256, submit->scan.sha256, sizeof(spec.content_sha256));
    rc = FAILPOINT_CALL("job.inserted", ERR_DATABASE,
                        job_open(submit->cli->db, &spec, &submit->arena, &submit->job));
    if (rc == ERR_CONFLICT)
        return fail(ERR_CONFLICT,
                    "the idempotency key \"%s\" belongs to a job with other content; "
                    "choose another key",
                    key);
    if (rc == ERR_OK)
        rc = submit_check_same(submit);
    if (rc == ERR_OK && submit->options->on_opened_cb != NULL)
        rc = submit->options->on_opened_cb(submit->options->data, &submit->job);
    return rc == ERR_OK ? submit_set_webhook(submit) : rc;
}

/* Before the seal; it may be done again, as all that a lost reply was about. */
static enum err record_documents(struct submit *submit)
{
    struct patience patience = {.limit_ms = submit->cli->settings->submit.outage_max_ms};
    enum err rc;

    do
        rc = submit_series_record(submit);
    while (patience_try(&patience, submit->cli->db, rc));
    return rc;
}

/* Sends what the index lacks. A job that has ended is as it is. */
static enum err bring(struct submit *submit)
{
    struct upload_options options = {
        .settings = submit->cli->settings,
        .db = submit->cli->db,
        .job = &submit->job,
        .input = submit->input,
        .scan = &submit->scan,
        .progress = &submit->progress,
        .publisher = strcmp(submit->job.topic, submit->tier->topic) == 0 ? submit->publisher : NULL,
    };
    char sent[32];
    uint64_t count = 0;
    enum err rc;

    if (job_state_is_terminal(submit->job.state))
        return ERR_OK;
    rc = record_documents(submit);
    if (rc == ERR_OK)
        rc = upload_run(&options, &count);
    if (rc == ERR_LOST)
        rc = ERR_OK; /* sealed by another or ended: shown as it is */
    if (rc == ERR_OK && submit->job.sealed && count > 0)
        fprintf(stderr, "%s: %s requests that the log had lost were sent again\n",
                submit->cli->program, progress_number(count, sent));
    return rc;
}

/* Any of it may be done again: a job that a lost reply was about is found by its key. */
static enum err begin(struct submit *submit)
{
    const char *key;
    enum err rc = choose_key(submit, &key);

    if (rc == ERR_OK)
        rc = reach_kafka(submit, key);
    return rc == ERR_OK ? open_job(submit, key) : rc;
}

static enum err enqueue(struct submit *submit)
{
    struct patience patience = {.limit_ms = submit->cli->settings->submit.outage_max_ms};
    enum err rc;

    do
        rc = begin(submit);
    while (patience_try(&patience, submit->cli->db, rc));
    if (rc == ERR_DATABASE && interrupted())
        rc = ERR_INTERRUPTED;
    submit->begun = rc == ERR_OK;
    submit->waited = patience.said;
    if (rc == ERR_OK)
        rc = bring(submit);
    publisher_close(submit->publisher);
    submit->publisher = NULL;
    return rc;
}

/* A server was away for too long: what is so far, and what to do. */
static void say_try_again(const struct submit *submit)
{
    const char *program = submit->cli->program;
    char id[UUID_BATCH_SIZE];

    if (!submit->begun) {
        if (submit->waited) /* else one sentence is enough */
            fprintf(stderr, "%s: nothing was enqueued; try again\n", program);
        return;
    }
    uuid_format_batch(submit->job.job, id);
    fprintf(stderr, "%s: try again: the same command goes on with %s where it stopped%s%s\n",
            program, id, submit->options->renew ? ", unless it is accepted: mserve get " : "",
            submit->options->renew ? id : "");
}

/* Everything up to the point from which something is sent. */
static enum err prepare(struct submit *submit)
{
    enum err rc = submit_check_options(submit);

    if (rc == ERR_OK)
        rc = submit->options->documents != NULL ? submit_documents_open(submit)
                                                : input_open(submit->options->file, &submit->input);
    if (rc == ERR_OK)
        rc = check_output(submit);
    if (rc == ERR_OK)
        rc = cli_connect(submit->cli, true);
    if (rc == ERR_OK)
        rc = submit_find_webhook(submit);
    if (rc == ERR_OK)
        rc = tiers_load(submit->cli->db, &submit->tiers);
    return rc == ERR_OK ? validate(submit) : rc;
}

/* Documents were looked for, and there are none. */
static bool has_nothing(const struct submit *submit)
{
    return submit->documents != NULL && submit->scan.requests == 0;
}

enum err submit_run(struct cli *cli, const struct submit_options *options)
{
    struct submit submit = {.cli = cli, .options = options};
    bool accepted = false;
    enum err rc;

    cli->reply_timeout_ms = REPLY_TIMEOUT_MS;
    progress_init(&submit.progress, false);
    rc = prepare(&submit);
    if (rc == ERR_OK && !has_nothing(&submit))
        rc = judge(&submit);
    progress_wipe(&submit.progress);
    if (rc == ERR_OK && has_nothing(&submit)) {
        rc = submit_documents_say_none(&submit);
    } else if (rc == ERR_OK && options->dry_run) {
        rc = submit_report_dry(&submit);
    } else if (rc == ERR_OK) {
        rc = enqueue(&submit);
        accepted = rc == ERR_OK;
        if (accepted)
            rc = submit_report_job(&submit);
    }
    progress_wipe(&submit.progress);
    if (rc == ERR_INTERRUPTED && !accepted)
        fprintf(stderr, "%s: interrupted; the same command goes on where it stopped\n",
                cli->program);
    if ((rc == ERR_BROKER || rc == ERR_DATABASE) && !accepted)
        say_try_again(&submit);
    scan_release(&submit.scan);
    submit_documents_close(submit.documents);
    submit_series_release(&submit);
    input_close(submit.input);
    tiers_release(&submit.tiers);
    arena_release(&submit.arena);
    return rc;
}

enum err submit_show(struct cli *cli, const struct submit_options *options, const struct uuid *job,
                     const char *tier)
{
    struct tier shown = {.name = tier};
    struct submit submit = {.cli = cli, .options = options, .tier = &shown};
    enum err rc;

    progress_init(&submit.progress, false);
    rc = job_get(cli->db, job, &submit.arena, &submit.job);
    if (rc == ERR_OK)
        rc = submit_report_job(&submit);
    arena_release(&submit.arena);
    return rc;
}
