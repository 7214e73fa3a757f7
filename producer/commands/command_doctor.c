/* command_doctor.c: what is wrong with a stack. */
#include "producer/commands/command.h"
#include "producer/doctor/doctor.h"

#include <stdio.h>

static bool as_json;

static enum err run_doctor(struct cli *cli, const struct options_rest *rest)
{
    enum err rc = doctor_run(command_config, as_json, stdout);
    enum err flushed = cli_flush();

    (void)cli;
    (void)rest;
    return flushed != ERR_OK ? flushed : rc;
}

static const struct option rows[] = {
    {"json", 'j', OPTION_FLAG, NULL, &as_json, .sentence = "As JSON, one object."},
    COMMAND_CONFIG,
};

static const struct command commands[] = {
    {{.name = "doctor",
      .summary = "Looks at a whole stack, and says what is wrong and what to do.",
      .details = "Changes nothing. The exit status is 0, or 1 when there is a problem.",
      .row = rows,
      .row_count = sizeof(rows) / sizeof(rows[0])},
     COMMAND_NOTHING,
     run_doctor},
};

const struct command_group command_doctor = {commands, sizeof(commands) / sizeof(commands[0])};
