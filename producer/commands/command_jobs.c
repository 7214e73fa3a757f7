/* command_jobs.c: get, list, cancel. */
#include "config/json.h"
#include "config/utf8.h"
#include "producer/commands/command.h"
#include "producer/job_view.h"
#include "producer/progress.h"
#include "sql/queries.h"

#include <stdio.h>
#include <time.h>

enum { LIST_DEFAULT = 20, LIST_MAX = 1000 };

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
