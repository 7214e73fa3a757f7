/*
 * database.h: how a worker's connections to PostgreSQL are set up. No time-out is longer than a lease,
 * so that a server that hangs is noticed while the lease can still be saved; a worker that was
 * stopped inside a transaction loses its locks to `idle_in_transaction`.
 */
#ifndef MSERVE_CONSUMER_DATABASE_H
#define MSERVE_CONSUMER_DATABASE_H

#include "config/settings.h"
#include "sql/db.h"

/* The strings are those of the settings and of `name`, which is seen in pg_stat_activity. */
struct db_options database_options(const struct settings *settings, const char *name);

#endif
