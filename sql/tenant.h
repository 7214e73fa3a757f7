/*
 * tenant.h: which PostgreSQL roles may come in as what, and how what a tenant sent and got is erased.
 *
 * The caller is the owner of the schema. Errors as in db.h; what was asked for and cannot be is
 * ERR_USAGE, logged with the server's sentence. ERR_AGAIN, logged: others held the tables for too long.
 */
#ifndef MSERVE_SQL_TENANT_H
#define MSERVE_SQL_TENANT_H

#include "config/uuid.h"
#include "sql/db.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Gives a role that exists the rights of `kind`: "tenant" and "reader" of the tenant of that name, which
 * is made when it is not there; "worker" and "scheduler" of all (tenant NULL).
 */
enum err tenant_grant(struct db *db, const char *tenant, const char *role, const char *kind);

/* Takes all its rights. ERR_NOT_FOUND, not logged: nobody knew it. */
enum err tenant_revoke(struct db *db, const char *role);

/*
 * Takes the rights of all roles of a tenant; their names, parted by commas, come to `roles`. *ret_gone: it
 * had nothing and is forgotten. ERR_NOT_FOUND, not logged.
 */
enum err tenant_remove(struct db *db, const char *tenant, struct buffer *roles, bool *ret_gone);

/*
 * The order of erasing: tenant_erase_open() until it returns no rows, then tenant_erase_step() until it is
 * done. Whoever is killed in between begins again, and finds what is erased already.
 *
 * Takes the rights of the tenant's roles and asks for the end of its jobs; the rows of *ret are those that
 * have not ended: id, state. ERR_NOT_FOUND, not logged.
 */
enum err tenant_erase_open(struct db *db, const char *tenant, struct db_result *ret);

struct tenant_erasure {
    struct uuid job; /* in_job: at this one, behind `line` */
    bool in_job;
    int64_t line;
    uint64_t jobs; /* so far */
    uint64_t rows;
    bool done;
};

/* One transaction, of some thousand rows or one job's rest. {0} at first. */
enum err tenant_erase_step(struct db *db, const char *tenant, struct tenant_erasure *erasure);

#endif
