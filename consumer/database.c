/* database.c: time-outs that follow from the lease. */
#include "consumer/database.h"

static uint32_t part_of_lease(const struct settings *settings, uint64_t parts, uint32_t least_ms)
{
    uint64_t ms = settings->worker.lease_ms / parts;

    return ms > least_ms ? (uint32_t)ms : least_ms;
}

struct db_options database_options(const struct settings *settings, const char *name)
{
    return (struct db_options){
        .dsn = settings->postgres.dsn,
        .password = settings->postgres.password,
        .application_name = name,
        .connect_timeout_ms = part_of_lease(settings, 3, 2000),
        .reply_timeout_ms = part_of_lease(settings, 2, 5000),
        .lock_timeout_ms = part_of_lease(settings, 6, 500),
        .idle_in_transaction_timeout_ms = part_of_lease(settings, 2, 2000),
    };
}
