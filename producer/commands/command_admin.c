/* command_admin.c: migrate, topics, check-config: what an operator does. */
#include "producer/commands/command.h"
#include "producer/topics.h"
#include "sql/migrate.h"

#include <stdio.h>

static bool print_values;

static enum err run_migrate(struct cli *cli, const struct options_rest *rest)
{
    enum err rc = cli_connect(cli, false);

    (void)rest;
    if (rc == ERR_OK)
        rc = migrate_run(cli->db, stdout);
    return rc == ERR_OK ? cli_flush() : rc;
}

static enum err run_topics(struct cli *cli, const struct options_rest *rest)
{
    enum err rc = topics_make(cli->settings, cli->db, stdout);

    (void)rest;
    return rc == ERR_OK ? cli_flush() : rc;
}

static enum err run_check_config(struct cli *cli, const struct options_rest *rest)
{
    enum err rc = settings_check(command_config, stdout);

    (void)rest;
    if (rc == ERR_OK && print_values) {
        rc = cli_load(cli, command_config);
        if (rc == ERR_OK)
            settings_print(cli->settings, stdout);
    }
    return rc == ERR_OK ? cli_flush() : rc;
}

static const struct option config_rows[] = {COMMAND_CONFIG};
static const struct option check_rows[] = {
    {"print", 'p', OPTION_FLAG, NULL, &print_values,
     .sentence = "Prints every setting, its value and where it comes from; no secrets."},
    COMMAND_CONFIG,
};

static const struct command commands[] = {
    {{.name = "migrate",
      .summary = "Brings the database schema to what this program knows.",
      .row = config_rows,
      .row_count = 1},
     COMMAND_SETTINGS,
     run_migrate},
    {{.name = "topics",
      .summary = "Makes the Kafka topics of the tiers in the settings, and registers the tiers.",
      .row = config_rows,
      .row_count = 1},
     COMMAND_SCHEMA,
     run_topics},
    {{.name = "check-config",
      .summary = "Checks the settings and says what is wrong, and where.",
      .row = check_rows,
      .row_count = sizeof(check_rows) / sizeof(check_rows[0])},
     COMMAND_NOTHING,
     run_check_config},
};

const struct command_group command_admin = {commands, sizeof(commands) / sizeof(commands[0])};
