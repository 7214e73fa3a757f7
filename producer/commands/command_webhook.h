/*
 * command_webhook.h: between command_webhook.c, which knows the sub-commands and the endpoints, and
 * command_webhook_log.c, which knows what was sent to them. Nobody else includes it.
 */
#ifndef MSERVE_PRODUCER_COMMAND_WEBHOOK_H
#define MSERVE_PRODUCER_COMMAND_WEBHOOK_H

#include "config/options.h"
#include "producer/cli.h"
#include "sql/webhook.h"

/* As typed. */
struct webhook_typed {
    bool json;
    bool every_job;
    bool ed25519;
    bool failed;
    const char *secret_file;
    struct option_list event;
    uint64_t since_ms;
    uint64_t overlap_ms;
    uint32_t limit;
};

/* The endpoint of that name. ERR_NOT_FOUND, with a sentence. */
enum err command_webhook_find(struct cli *cli, const char *name, struct webhook_endpoint *ret);

/* A time for people, or "-". */
const char *command_webhook_when(const struct db_result *result, int row, int column, char out[32]);

enum err command_webhook_test(struct cli *cli, const char *name);
enum err command_webhook_replay(struct cli *cli, const char *what,
                                const struct webhook_typed *typed);
/* `name` is NULL for all endpoints. */
enum err command_webhook_log(struct cli *cli, const char *name, const struct webhook_typed *typed);

#endif
