/* command_results.c: results, errors. */
#include "producer/commands/command.h"
#include "producer/job_view.h"
#include "producer/results/results.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static struct {
    const char *output, *order, *status, *format, *errors;
    uint64_t from_line;
    bool follow, latest, join;
} typed = {.output = "-", .order = "input", .status = "all", .format = "openai"};

static bool is(const char *typed_word, const char *word)
{
    return strcmp(typed_word, word) == 0;
}

/* Standard error says when there is more to come. */
static void say(struct cli *cli, const struct results_counts *counts)
{
    if (!counts->complete)
        fprintf(stderr, "%s: the job has not ended: these are the results so far\n", cli->program);
    if (counts->unreadable > 0)
        fprintf(stderr,
                "%s: %" PRIu64
                " responses are no JSON that can be read: their text is left empty\n",
                cli->program, counts->unreadable);
}

static enum err write_results(struct cli *cli, const char *id, enum results_status status)
{
    struct results_options options = {
        .order = is(typed.order, "completion") ? RESULTS_COMPLETION : RESULTS_INPUT,
        .status = status,
        .format = is(typed.format, "csv") ? RESULTS_CSV : RESULTS_OPENAI,
        .from_line = typed.from_line,
        .errors = typed.errors,
        .spool_dir = cli->settings->submit.spool_dir,
        .follow = typed.follow,
        .latest = typed.latest,
        .join = typed.join,
    };
    struct results_counts counts;
    struct uuid job;
    enum err rc = job_view_find(cli->db, id, &job);

    if (rc == ERR_OK)
        rc = results_write_file(cli->db, &job, &options, typed.output, &counts);
    if (rc == ERR_OK)
        say(cli, &counts);
    return rc;
}

static enum err run_results(struct cli *cli, const struct options_rest *rest)
{
    enum results_status status = RESULTS_ALL;

    if (is(typed.status, "ok"))
        status = RESULTS_OK;
    else if (is(typed.status, "error"))
        status = RESULTS_ERROR;
    return write_results(cli, rest->argument[0], status);
}

static enum err run_errors(struct cli *cli, const struct options_rest *rest)
{
    return write_results(cli, rest->argument[0], RESULTS_ERROR);
}

#define OUTPUT                                                                                     \
    {                                                                                              \
        "output", 'o', OPTION_PATH, "FILE", &typed.output,                                         \
            .sentence =                                                                            \
                "Where to; the file appears when it is whole, compressed if its name ends "        \
                "in .zst. - is standard output."                                                   \
    }
#define ORDER                                                                                      \
    {                                                                                              \
        "order", 0, OPTION_CHOICE, "ORDER", &typed.order,                                          \
            .sentence = "input: as in the file; completion: as they were finished.",               \
            .choices = "input|completion"                                                          \
    }
#define FORMAT                                                                                     \
    {                                                                                              \
        "format", 0, OPTION_CHOICE, "FORMAT", &typed.format,                                       \
            .sentence = "openai: OpenAI's output lines; csv: a table with a heading.",             \
            .choices = "openai|csv"                                                                \
    }
#define FROM_LINE                                                                                  \
    {                                                                                              \
        "from-line", 0, OPTION_U64, "N", &typed.from_line,                                         \
            .sentence = "Begins with this request, counted from 0.", .max = INT64_MAX              \
    }
#define FOLLOW                                                                                     \
    {                                                                                              \
        "follow", 'f', OPTION_FLAG, NULL, &typed.follow,                                           \
            .sentence = "Stays until the job has ended and writes rows as they come."              \
    }
#define LATEST                                                                                     \
    {                                                                                              \
        "latest", 0, OPTION_FLAG, NULL, &typed.latest,                                             \
            .sentence = "Reads a job and its retries as one: of each line the newest row."         \
    }
#define JOIN                                                                                       \
    {                                                                                              \
        "join", 0, OPTION_FLAG, NULL, &typed.join,                                                 \
            .sentence = "One line for each document, its parts in order."                          \
    }

static const struct option results_rows[] = {
    OUTPUT,
    {"errors", 0, OPTION_PATH, "FILE", &typed.errors,
     .sentence = "Where rows go that are not completed; without it, to the others."},
    ORDER,
    {"status", 's', OPTION_CHOICE, "WHICH", &typed.status,
     .sentence = "All rows, those that are ok, or the others.", .choices = "all|ok|error"},
    FORMAT,
    FROM_LINE,
    FOLLOW,
    LATEST,
    JOIN,
    COMMAND_CONFIG,
};

static const struct option errors_rows[] = {
    OUTPUT, ORDER, FORMAT, FROM_LINE, FOLLOW, LATEST, JOIN, COMMAND_CONFIG,
};

static const struct command commands[] = {
    {{.name = "results",
      .arguments = "ID",
      .summary = "Writes the results of a job: OpenAI's output lines, a table, or documents.",
      .row = results_rows,
      .row_count = sizeof(results_rows) / sizeof(results_rows[0]),
      .arguments_min = 1,
      .arguments_max = 1},
     COMMAND_SCHEMA,
     run_results},
    {{.name = "errors",
      .arguments = "ID",
      .summary = "Writes the rows that failed, were cancelled or expired.",
      .row = errors_rows,
      .row_count = sizeof(errors_rows) / sizeof(errors_rows[0]),
      .arguments_min = 1,
      .arguments_max = 1},
     COMMAND_SCHEMA,
     run_errors},
};

const struct command_group command_results = {commands, sizeof(commands) / sizeof(commands[0])};
