/* cli.c: settings, then the database. */
#include "producer/cli.h"
#include "config/log.h"
#include "config/streams.h"
#include "sql/migrate.h"

void cli_init(struct cli *cli, const char *program)
{
    streams_open();
    *cli = (struct cli){.program = program};
    log_init(program, LOG_INFO, LOG_LOGFMT, true);
}

enum err cli_load(struct cli *cli, const char *config)
{
    enum err rc = settings_load(config, &cli->settings);

    if (rc == ERR_OK)
        settings_log_init(cli->settings, cli->program, true);
    return rc;
}

enum err cli_connect(struct cli *cli, bool check)
{
    struct db_options options = {
        .dsn = cli->settings->postgres.dsn,
        .password = cli->settings->postgres.password,
        .application_name = cli->program,
        .reply_timeout_ms = cli->reply_timeout_ms,
    };
    enum err rc = db_open(&options, &cli->db);

    return rc == ERR_OK && check ? migrate_check(cli->db) : rc;
}

void cli_close(struct cli *cli)
{
    db_close(cli->db);
    settings_free(cli->settings);
    *cli = (struct cli){.program = cli->program};
}

enum err cli_flush(void)
{
    return streams_flush();
}
