/* command_retry.c: retry: its options. */
#include "config/log.h"
#include "producer/commands/command.h"
#include "producer/retry.h"

#include <stdio.h>
#include <string.h>

static struct retry_options typed = {.statuses = "failed,expired,cancelled"};

/* Each known word once, in one order: the same set is the same retry. */
static enum err read_statuses(const char *text, char out[40])
{
    static const char *const word[] = {"failed", "expired", "cancelled"};
    bool wanted[3] = {false};

    for (const char *at = text, *end; at != NULL; at = end != NULL ? end + 1 : NULL) {
        size_t i = 0, len;

        end = strchr(at, ',');
        len = end != NULL ? (size_t)(end - at) : strlen(at);
        while (i < 3 && (strlen(word[i]) != len || strncmp(word[i], at, len) != 0))
            i++;
        if (i == 3)
            return fail(ERR_USAGE,
                        "--status is \"%.60s\" but must be some of failed, expired, cancelled, "
                        "separated by commas",
                        text);
        wanted[i] = true;
    }
    out[0] = '\0';
    for (size_t i = 0; i < 3; i++)
        if (wanted[i])
            snprintf(out + strlen(out), 40 - strlen(out), "%s%s", out[0] != '\0' ? "," : "",
                     word[i]);
    return ERR_OK;
}

static enum err run_retry(struct cli *cli, const struct options_rest *rest)
{
    char statuses[40];
    enum err rc = read_statuses(typed.statuses, statuses);

    if (rc != ERR_OK)
        return rc;
    typed.statuses = statuses;
    typed.job = rest->argument[0];
    typed.file = rest->count > 1 ? rest->argument[1] : NULL;
    return retry_run(cli, &typed);
}

static const struct option rows[] = {
    {"status", 's', OPTION_TEXT, "WHICH", &typed.statuses,
     .sentence = "Which requests: some of failed, expired, cancelled, separated by commas; all of "
                 "these without it."},
    {"tier", 't', OPTION_TEXT, "NAME", &typed.tier,
     .sentence = "The tier that runs them; without it the same as before. So with the next two."},
    {"completion-window", 'w', OPTION_TEXT, "TIME", &typed.window,
     .sentence = "Within which time the new job is to be done, like 24h, 90m or 7d."},
    {"priority", 'p', OPTION_TEXT, "NUMBER", &typed.priority,
     .sentence = "Higher goes first among your own jobs: -1000 to 1000."},
    {"wait", 0, OPTION_FLAG, NULL, &typed.wait,
     .sentence = "Stays until the new job has ended; the exit status says how."},
    {"output", 'o', OPTION_PATH, "FILE", &typed.output,
     .sentence = "Waits, then writes the new job's results there; - is standard output."},
    {"dry-run", 'n', OPTION_FLAG, NULL, &typed.dry_run,
     .sentence = "Says what would be retried; sends nothing."},
    {"json", 'j', OPTION_FLAG, NULL, &typed.json, .sentence = "Prints the new job as JSON."},
    COMMAND_CONFIG,
};

static const struct command commands[] = {
    {{.name = "retry",
      .arguments = "ID [FILE]",
      .summary = "Makes a new job of those requests of a job that failed, expired or were "
                 "cancelled.",
      .details =
          "The old job has ended and stays as it is. Its requests are read back from Kafka,\n"
          "or from the FILE that was submitted. The same command again shows the job that\n"
          "it made, or goes on with it.",
      .row = rows,
      .row_count = sizeof(rows) / sizeof(rows[0]),
      .arguments_min = 1,
      .arguments_max = 2,
      .files = true},
     COMMAND_SCHEMA,
     run_retry},
};

const struct command_group command_retry = {commands, sizeof(commands) / sizeof(commands[0])};
