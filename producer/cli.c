/* cli.c: settings, then the database. */
#include "producer/cli.h"
#include "config/clock.h"
#include "config/log.h"
#include "config/streams.h"
#include "producer/interrupt.h"
#include "sql/migrate.h"

#include <unistd.h>

enum { PAUSE_MS_MIN = 250, PAUSE_MS_MAX = 10000, OUTAGE_S_MAX = 300 };

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
    };
    enum err rc = db_open(&options, &cli->db);

    return rc == ERR_OK && check ? migrate_check(cli->db) : rc;
}

/* Pauses before each try; the tries are quiet, for the outage was told of already. */
static enum err reopen_patiently(struct cli *cli, struct cli_outage *outage)
{
    enum err rc = ERR_DATABASE;

    while (rc == ERR_DATABASE &&
           clock_mono_ns() - outage->began_ns < OUTAGE_S_MAX * (uint64_t)CLOCK_NS_PER_S) {
        usleep(outage->pause_ms * 1000); /* a signal ends it early */
        if (interrupted())
            return ERR_INTERRUPTED;
        outage->pause_ms =
            outage->pause_ms < PAUSE_MS_MAX / 2 ? 2 * outage->pause_ms : PAUSE_MS_MAX;
        if (db_is_open(cli->db))
            return ERR_OK;
        log_hush(true);
        rc = db_reopen(cli->db);
        log_hush(false);
    }
    return rc;
}

enum err cli_outlast(struct cli *cli, struct cli_outage *outage)
{
    enum err rc;

    if (outage->began_ns == 0) {
        *outage = (struct cli_outage){clock_mono_ns(), PAUSE_MS_MIN};
        log_warn("cli.outage", "waiting for PostgreSQL to come back, for %d minutes at most",
                 OUTAGE_S_MAX / 60);
    }
    rc = reopen_patiently(cli, outage);
    if (rc == ERR_OK || rc == ERR_INTERRUPTED)
        return rc;
    return db_is_open(cli->db) ? rc : db_reopen(cli->db); /* once more, aloud */
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
