/* command_jobs.c: get, list, watch, cancel. */
#include "config/clock.h"
#include "config/json.h"
#include "config/utf8.h"
#include "producer/command.h"
#include "producer/interrupt.h"
#include "producer/job_view.h"
#include "producer/patience.h"
#include "producer/progress.h"
#include "sql/queries.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_EVERY_MS = 500, LIST_DEFAULT = 20, LIST_MAX = 1000 };

static struct {
    bool json;
    const char *state;
    const char *after;
    uint32_t limit;
} typed = {.limit = LIST_DEFAULT};

/* ---- get ---- */

static enum err run_get(struct cli *cli, const struct options_rest *rest)
{
    struct buffer json = {0};
    struct uuid job;
    enum err rc = job_view_find(cli->db, rest->argument[0], &job);

    if (rc == ERR_OK)
        rc = job_view_object(cli->db, &job, &json);
    if (rc == ERR_OK)
        printf("%s\n", json.data);
    buffer_release(&json);
    return rc == ERR_OK ? cli_flush() : rc;
}

static const struct option get_rows[] = {COMMAND_CONFIG};

/* ---- list ---- */

#define LIST_ROW "%-38s  %-11s  %10s  %10s  %9s  %-12s  %-16s  %s\n"

static void print_row(const struct db_result *result, int row)
{
    struct uuid job = db_get_uuid(result, row, 0);
    char id[UUID_BATCH_SIZE], done[32], lines[32] = "?", failed[32], created[32];
    time_t when = (time_t)(db_get_time_us(result, row, 7) / 1000000);
    struct buffer file = {0};
    struct tm tm;

    if (!db_is_null(result, row, 4))
        progress_number((uint64_t)db_get_i64(result, row, 4), lines);
    progress_number((uint64_t)db_get_i64(result, row, 5), done);
    progress_number((uint64_t)db_get_i64(result, row, 6), failed);
    strftime(created, sizeof(created), "%Y-%m-%d %H:%M", localtime_r(&when, &tm));
    utf8_add_printable(&file, db_get_slice(result, row, 3));
    printf(LIST_ROW, uuid_format_batch(job, id), db_get_slice(result, row, 1).data, done, lines,
           failed, db_get_slice(result, row, 2).data, created, file.data);
    buffer_release(&file);
}

static void say_held(const struct db_result *result, int row)
{
    char id[UUID_BATCH_SIZE];

    if (!db_is_null(result, row, 9))
        fprintf(stderr, "%s is held: %s\n", uuid_format_batch(db_get_uuid(result, row, 0), id),
                db_get_slice(result, row, 9).data);
}

static void print_table(const struct db_result *result, int rows)
{
    printf(LIST_ROW, "ID", "STATE", "DONE", "REQUESTS", "FAILED", "TIER", "CREATED", "FILE");
    for (int row = 0; row < rows; row++)
        print_row(result, row);
    fflush(stdout);
    for (int row = 0; row < rows; row++)
        say_held(result, row);
    if (result->rows > rows)
        fprintf(stderr, "there are more: --limit, or --after with the last id\n");
}

static void print_id(const char *key, const struct db_result *result, int row)
{
    char id[UUID_BATCH_SIZE];

    if (row < 0)
        printf(",\"%s\":null", key);
    else
        printf(",\"%s\":\"%s\"", key, uuid_format_batch(db_get_uuid(result, row, 0), id));
}

/* The page as OpenAI's API has it. */
static void print_page(const struct db_result *result, int rows)
{
    fputs("{\"object\":\"list\",\"data\":[", stdout);
    for (int row = 0; row < rows; row++)
        printf("%s%s", row > 0 ? ",\n" : "\n", db_get_slice(result, row, 8).data);
    fputs("]", stdout);
    print_id("first_id", result, rows > 0 ? 0 : -1);
    print_id("last_id", result, rows - 1);
    printf(",\"has_more\":%s}\n", result->rows > rows ? "true" : "false");
}

static enum err run_list(struct cli *cli, const struct options_rest *rest)
{
    struct db_result result = {0};
    struct uuid after;
    enum err rc = ERR_OK;
    int rows;

    (void)rest;
    if (typed.after != NULL)
        rc = job_view_find(cli->db, typed.after, &after);
    if (rc == ERR_OK)
        rc = db_exec(cli->db, QUERY_JOBS_LIST,
                     DB_PARAMS(db_text(typed.state),
                               typed.after != NULL ? db_uuid(&after) : db_null(),
                               db_i32((int32_t)typed.limit + 1)),
                     &result);
    if (rc != ERR_OK)
        return rc;
    rows = result.rows < (int)typed.limit ? result.rows : (int)typed.limit;
    if (typed.json)
        print_page(&result, rows);
    else
        print_table(&result, rows);
    db_result_release(&result);
    return cli_flush();
}

static const struct option list_rows[] = {
    {"state", 's', OPTION_CHOICE, "STATE", &typed.state, .sentence = "Only jobs in this state.",
     .choices = "validating|in_progress|finalizing|completed|failed|expired|cancelling|cancelled"},
    {"limit", 'l', OPTION_U32, "N", &typed.limit,
     .sentence = "How many, from new to old; 20 without it.", .min = 1, .max = LIST_MAX},
    {"after", 'a', OPTION_TEXT, "ID", &typed.after,
     .sentence = "Those that are older than this job: the next page."},
    {"json", 'j', OPTION_FLAG, NULL, &typed.json, .sentence = "A page as OpenAI's API has it."},
    COMMAND_CONFIG,
};

/* ---- watch ---- */

/* What has come since the last look, for a rate. */
struct rate {
    uint64_t began_ns;
    int64_t began_tokens;
};

static void show(struct progress *bar, const struct job_progress *progress, struct rate *rate)
{
    uint64_t now = clock_mono_ns();
    int64_t tokens = progress->input_tokens + progress->output_tokens;
    double seconds;
    char done[32], lines[32], failed[32], note[200];
    int len;

    if (rate->began_ns == 0) {
        rate->began_ns = now;
        rate->began_tokens = tokens;
    }
    seconds = (double)(now - rate->began_ns) / 1e9;
    len = snprintf(note, sizeof(note), "%s of %s requests",
                   progress_number((uint64_t)progress->done, done),
                   progress_number((uint64_t)(progress->lines > 0 ? progress->lines : 0), lines));
    if (progress->failed > 0)
        len += snprintf(note + len, sizeof(note) - (size_t)len, ", %s failed",
                        progress_number((uint64_t)progress->failed, failed));
    if (seconds > 1)
        len += snprintf(note + len, sizeof(note) - (size_t)len, ", %.0f tokens/s",
                        (double)(tokens - rate->began_tokens) / seconds);
    snprintf(note + len, sizeof(note) - (size_t)len, ", %.1f s of device time",
             (double)progress->gpu_ns / 1e9);
    progress_show(bar, job_state_name(progress->state), (uint64_t)progress->done,
                  progress->lines > 0 ? (uint64_t)progress->lines : 0, note, now);
}

static void print_end(const struct uuid *job, const struct job_progress *progress)
{
    char id[UUID_BATCH_SIZE], number[32];

    printf("%s %s", uuid_format_batch(*job, id), job_state_name(progress->state));
    printf(": %s completed", progress_number((uint64_t)progress->completed, number));
    printf(", %s failed", progress_number((uint64_t)progress->failed, number));
    if (progress->cancelled > 0)
        printf(", %s cancelled", progress_number((uint64_t)progress->cancelled, number));
    if (progress->expired > 0)
        printf(", %s expired", progress_number((uint64_t)progress->expired, number));
    printf(", %s tokens in", progress_number((uint64_t)progress->input_tokens, number));
    printf(", %s out, %.3f s of device time\n",
           progress_number((uint64_t)progress->output_tokens, number),
           (double)progress->gpu_ns / 1e9);
}

static enum err run_watch(struct cli *cli, const struct options_rest *rest)
{
    struct patience patience = {0};
    struct progress bar;
    struct rate rate = {0};
    struct job_progress progress;
    struct uuid job;
    bool held = false;
    enum err rc = job_view_find(cli->db, rest->argument[0], &job);

    progress_init(&bar, false);
    while (rc == ERR_OK) {
        rc = job_view_progress(cli->db, &job, &progress);
        if (rc != ERR_OK)
            progress_wipe(&bar);
        if (patience_try(&patience, cli->db, rc)) { /* the job goes on without us */
            rc = ERR_OK;
            continue;
        }
        if (rc == ERR_DATABASE && interrupted())
            rc = ERR_INTERRUPTED;
        if (rc != ERR_OK || job_state_is_terminal(progress.state))
            break;
        patience_reset(&patience);
        job_view_say_hold(&job, &progress, &bar, &held);
        show(&bar, &progress, &rate);
        usleep(LOOK_EVERY_MS * 1000);
        if (interrupted())
            rc = ERR_INTERRUPTED;
    }
    progress_wipe(&bar);
    if (rc != ERR_OK)
        return rc;
    print_end(&job, &progress);
    rc = cli_flush();
    return rc == ERR_OK ? job_view_outcome(&progress) : rc;
}

static const struct option watch_rows[] = {COMMAND_CONFIG};

/* ---- cancel ---- */

static enum err run_cancel(struct cli *cli, const struct options_rest *rest)
{
    enum job_state state;
    char id[UUID_BATCH_SIZE];
    struct buffer json = {0};
    struct uuid job;
    enum err rc = job_view_find(cli->db, rest->argument[0], &job);

    if (rc == ERR_OK)
        rc = job_cancel(cli->db, &job, &state);
    if (rc == ERR_OK && typed.json)
        rc = job_view_object(cli->db, &job, &json);
    if (rc != ERR_OK)
        return rc;
    if (typed.json)
        printf("%s\n", json.data);
    else
        printf("%s %s\n", uuid_format_batch(job, id), job_state_name(state));
    buffer_release(&json);
    return cli_flush();
}

static const struct option cancel_rows[] = {
    {"json", 'j', OPTION_FLAG, NULL, &typed.json, .sentence = "Prints the job as JSON."},
    COMMAND_CONFIG,
};

#define ROWS(table) .row = (table), .row_count = sizeof(table) / sizeof((table)[0])

static const struct command commands[] = {
    {{.name = "get",
      .arguments = "ID",
      .summary = "Prints a job: the OpenAI batch object.",
      ROWS(get_rows),
      .arguments_min = 1,
      .arguments_max = 1},
     COMMAND_SCHEMA,
     run_get},
    {{.name = "list", .summary = "Lists your jobs, from new to old.", ROWS(list_rows)},
     COMMAND_SCHEMA,
     run_list},
    {{.name = "watch",
      .arguments = "ID",
      .summary = "Follows a job until it has ended; the exit status says how.",
      ROWS(watch_rows),
      .arguments_min = 1,
      .arguments_max = 1},
     COMMAND_SCHEMA,
     run_watch},
    {{.name = "cancel",
      .arguments = "ID",
      .summary = "Ends a job: what has a result keeps it, the rest becomes cancelled rows.",
      ROWS(cancel_rows),
      .arguments_min = 1,
      .arguments_max = 1},
     COMMAND_SCHEMA,
     run_cancel},
};

const struct command_group command_jobs = {commands, sizeof(commands) / sizeof(commands[0])};
