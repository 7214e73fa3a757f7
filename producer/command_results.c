/* command_results.c: results, errors. */
#include "producer/command.h"
#include "producer/job_view.h"
#include "producer/results.h"

#include <stdio.h>
#include <string.h>

static struct {
    const char *output, *order, *status;
    bool follow;
} typed = {.output = "-", .order = "input", .status = "all"};

/* Standard error says when there is more to come. */
static enum err write_results(struct cli *cli, const char *id, enum results_status status)
{
    struct results_options options = {
        .order = strcmp(typed.order, "completion") == 0 ? RESULTS_COMPLETION : RESULTS_INPUT,
        .status = status,
        .follow = typed.follow,
    };
    struct results_counts counts;
    struct uuid job;
    enum err rc = job_view_find(cli->db, id, &job);

    if (rc == ERR_OK)
        rc = results_write_file(cli->db, &job, &options, typed.output, &counts);
    if (rc == ERR_OK && !counts.complete)
        fprintf(stderr, "%s: the job has not ended: these are the results so far\n", cli->program);
    return rc;
}

static enum err run_results(struct cli *cli, const struct options_rest *rest)
{
    enum results_status status = RESULTS_ALL;

    if (strcmp(typed.status, "ok") == 0)
        status = RESULTS_OK;
    else if (strcmp(typed.status, "error") == 0)
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
            .sentence = "Where to; the file appears when it is whole. - is standard output."       \
    }
#define ORDER                                                                                      \
    {                                                                                              \
        "order", 0, OPTION_CHOICE, "ORDER", &typed.order,                                          \
            .sentence = "input: as in the file; completion: as they were finished.",               \
            .choices = "input|completion"                                                          \
    }
#define FOLLOW                                                                                     \
    {                                                                                              \
        "follow", 'f', OPTION_FLAG, NULL, &typed.follow,                                           \
            .sentence = "Stays until the job has ended and writes rows as they come."              \
    }

static const struct option results_rows[] = {
    OUTPUT,
    ORDER,
    {"status", 's', OPTION_CHOICE, "WHICH", &typed.status,
     .sentence = "All rows, those that are ok, or the others.", .choices = "all|ok|error"},
    FOLLOW,
    COMMAND_CONFIG,
};

static const struct option errors_rows[] = {OUTPUT, ORDER, FOLLOW, COMMAND_CONFIG};

static const struct command commands[] = {
    {{.name = "results",
      .arguments = "ID",
      .summary = "Writes the results of a job, one OpenAI output line each.",
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
