/* command_hold.c: pause, resume: a job waits without losing anything, and goes on. */
#include "config/log.h"
#include "producer/commands/command.h"
#include "producer/job_view.h"
#include "sql/retry.h"

#include <stdio.h>

static struct {
    bool json;
} typed;

/* One that has ended or is to end cannot be paused, and needs not be resumed. */
static enum err refuse(const struct uuid *job, const struct job_hold *hold, const char *verb)
{
    char id[UUID_BATCH_SIZE];

    uuid_format_batch(*job, id);
    if (hold->state == JOB_VALIDATING || hold->state == JOB_IN_PROGRESS)
        return fail(ERR_USAGE, "%s cannot be %s: its completion window has passed", id, verb);
    return fail(ERR_USAGE, "%s cannot be %s: it is %s", id, verb, job_state_name(hold->state));
}

static enum err print_job(struct cli *cli, const struct uuid *job, const char *word)
{
    struct buffer json = {0};
    char id[UUID_BATCH_SIZE];
    enum err rc = ERR_OK;

    if (typed.json)
        rc = job_view_object(cli->db, job, &json);
    if (rc == ERR_OK && typed.json)
        printf("%s\n", json.data);
    else if (rc == ERR_OK)
        printf("%s %s\n", uuid_format_batch(*job, id), word);
    buffer_release(&json);
    return rc == ERR_OK ? cli_flush() : rc;
}

static enum err set_hold(struct cli *cli, const struct options_rest *rest, bool wanted)
{
    struct job_hold hold;
    struct uuid job;
    enum err rc = job_view_find(cli->db, rest->argument[0], &job);

    if (rc == ERR_OK)
        rc = job_set_hold(cli->db, &job, wanted, &hold);
    if (rc != ERR_OK)
        return rc;
    if (job_state_is_terminal(hold.state) || hold.state == JOB_CANCELLING || hold.held != wanted)
        return refuse(&job, &hold, wanted ? "paused" : "resumed");
    return print_job(cli, &job, wanted ? "paused" : job_state_name(hold.state));
}

static enum err run_pause(struct cli *cli, const struct options_rest *rest)
{
    return set_hold(cli, rest, true);
}

static enum err run_resume(struct cli *cli, const struct options_rest *rest)
{
    return set_hold(cli, rest, false);
}

static const struct option rows[] = {
    {"json", 'j', OPTION_FLAG, NULL, &typed.json, .sentence = "Prints the job as JSON."},
    COMMAND_CONFIG,
};

#define ROWS(table) .row = (table), .row_count = sizeof(table) / sizeof((table)[0])

static const struct command commands[] = {
    {{.name = "pause",
      .arguments = "ID",
      .summary = "Holds a job: nothing more of it is begun until it is resumed.",
      .details = "What runs of it is saved and goes on where it stopped. Its window goes on\n"
                 "running: it may still expire, and be cancelled.",
      ROWS(rows),
      .arguments_min = 1,
      .arguments_max = 1},
     COMMAND_SCHEMA,
     run_pause},
    {{.name = "resume",
      .arguments = "ID",
      .summary = "Lets a paused job go on.",
      ROWS(rows),
      .arguments_min = 1,
      .arguments_max = 1},
     COMMAND_SCHEMA,
     run_resume},
};

const struct command_group command_hold = {commands, sizeof(commands) / sizeof(commands[0])};
