/*
 * cli.h: what every command of a person begins with: settings, a plain log, a database of the right
 * schema.
 */
#ifndef MSERVE_PRODUCER_CLI_H
#define MSERVE_PRODUCER_CLI_H

#include "config/settings.h"
#include "sql/db.h"

#include <stdbool.h>
#include <stdint.h>

struct cli {
    const char *program;
    struct settings *settings;
    struct db *db;             /* NULL until cli_connect() */
    uint32_t reply_timeout_ms; /* as in struct db_options; for the connection */
};

/* Before anything else: there are three streams, and errors are plain sentences on the last. */
void cli_init(struct cli *cli, const char *program);

/* `config` is the path given with --config, or NULL. */
enum err cli_load(struct cli *cli, const char *config);

/* Connects; `check`: and refuses a schema that this program does not know. */
enum err cli_connect(struct cli *cli, bool check);

void cli_close(struct cli *cli);

/* Flushes standard output: ERR_IO, with a sentence, when somewhere something could not be written. */
enum err cli_flush(void);

#endif
