/* mserve_main.c: mserve: finds the command, makes ready what it needs, runs it. */
#include "config/log.h"
#include "producer/commands/command.h"
#include "producer/interrupt.h"
#include "producer/submit_command.h"

#include <stdio.h>
#include <string.h>

enum { COMMANDS_MAX = 32 };

const char *command_config;

static const struct command_group *const groups[] = {
    &command_jobs,   &command_watch,  &command_hold,  &command_retry,   &command_results,
    &command_cost,   &command_worker, &command_dead,  &command_webhook, &command_tenant,
    &command_doctor, &command_purge,  &command_admin,
};

static enum err run_completion(struct cli *cli, const struct options_rest *rest);

static const struct option no_rows[] = {COMMAND_CONFIG};
static const struct command completion = {
    {.name = "completion",
     .arguments = "bash|zsh|fish [PROGRAM]",
     .summary = "Prints what a shell needs to complete mserve and mserve-submit, or one of them.",
     .details = "bash:  source <(mserve completion bash)\n"
                "zsh:   source <(mserve completion zsh)\n"
                "fish:  mserve completion fish | source",
     .row = no_rows,
     .row_count = 0,
     .arguments_min = 1,
     .arguments_max = 2,
     .choices = "bash|zsh|fish"},
    COMMAND_NOTHING,
    run_completion};

/* The tables side by side: what options.h wants, and what is run. */
static struct options_command all_options[COMMANDS_MAX];
static const struct command *all[COMMANDS_MAX];
static struct options_program program = {
    .name = "mserve",
    .summary = "Looks after jobs of batch inference. To submit one: mserve-submit.",
    .command = all_options,
};

static void add_command(const struct command *command)
{
    all[program.command_count] = command;
    all_options[program.command_count++] = command->options;
}

static void add_commands(void)
{
    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
        for (size_t k = 0; k < groups[i]->count; k++)
            add_command(&groups[i]->command[k]);
    add_command(&completion);
}

static enum err run_completion(struct cli *cli, const struct options_rest *rest)
{
    const struct options_program submit = {submit_command.name, submit_command.summary,
                                           &submit_command, 1};
    const struct options_program *const programs[] = {&program, &submit};
    const char *only = rest->count > 1 ? rest->argument[1] : NULL;
    enum err rc = ERR_OK;

    (void)cli;
    if (only != NULL && strcmp(only, program.name) != 0 && strcmp(only, submit.name) != 0)
        return fail(ERR_USAGE, "Completions exist for mserve and mserve-submit, not for \"%.60s\".",
                    only);
    for (size_t i = 0; i < 2 && rc == ERR_OK; i++)
        if (only == NULL || strcmp(only, programs[i]->name) == 0)
            rc = options_print_completion(programs[i], rest->argument[0], stdout);
    return rc == ERR_OK ? cli_flush() : rc;
}

static enum err make_ready(struct cli *cli, enum command_needs needs)
{
    enum err rc = ERR_OK;

    if (needs != COMMAND_NOTHING)
        rc = cli_load(cli, command_config);
    if (rc == ERR_OK && needs == COMMAND_SCHEMA)
        rc = cli_connect(cli, true);
    return rc;
}

int main(int argc, char **argv)
{
    const struct options_command *found;
    const struct command *command;
    struct options_rest rest;
    struct cli cli;
    enum err rc;

    cli_init(&cli, "mserve");
    interrupt_catch();
    add_commands();
    rc = options_find_command(&program, argc, argv, &found);
    if (rc != ERR_OK || found == NULL)
        return err_exit_status(rc != ERR_OK ? rc : cli_flush());
    command = all[found - all_options];
    rc = options_parse("mserve", found, argc - 1, argv + 1, &rest);
    if (rc != ERR_OK || rest.served)
        return err_exit_status(rc != ERR_OK ? rc : cli_flush());
    rc = make_ready(&cli, command->needs);
    if (rc == ERR_OK)
        rc = command->run(&cli, &rest);
    cli_close(&cli);
    return err_exit_status(rc);
}
