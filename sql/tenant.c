/* tenant.c: one query each; what they do is on the server. */
#include "sql/tenant.h"

#include "config/log.h"
#include "sql/queries.h"

enum { ERASE_ROWS = 2000, ERASE_BLOBS = 20 };

/* In words: the functions say why (SQLSTATE class MS), or a lock was not to be had. */
static enum err told(struct db *db, enum err rc)
{
    if (rc == ERR_LOST)
        return fail(ERR_USAGE, "%s", db_message(db));
    if (rc == ERR_AGAIN)
        return fail(ERR_AGAIN, "the tables are in use: %s; run the same command again",
                    db_message(db));
    return rc;
}

enum err tenant_grant(struct db *db, const char *tenant, const char *role, const char *kind)
{
    if (tenant != NULL)
        return told(db, db_exec(db, QUERY_TENANT_GRANT,
                                DB_PARAMS(db_text(tenant), db_text(role), db_text(kind)), NULL));
    return told(
        db, db_exec(db, QUERY_TENANT_GRANT_SERVICE, DB_PARAMS(db_text(role), db_text(kind)), NULL));
}

enum err tenant_revoke(struct db *db, const char *role)
{
    struct db_result result = {0};
    enum err rc = told(db, db_exec(db, QUERY_TENANT_REVOKE, DB_PARAMS(db_text(role)), &result));

    if (rc == ERR_OK && !db_get_bool(&result, 0, 0))
        rc = ERR_NOT_FOUND;
    db_result_release(&result);
    return rc;
}

enum err tenant_remove(struct db *db, const char *tenant, struct buffer *roles, bool *ret_gone)
{
    struct db_result result = {0};
    enum err rc = told(db, db_exec(db, QUERY_TENANT_REMOVE, DB_PARAMS(db_text(tenant)), &result));

    if (rc == ERR_OK && db_is_null(&result, 0, 0))
        rc = ERR_NOT_FOUND;
    if (rc == ERR_OK) {
        buffer_add_text(roles, db_get_slice(&result, 0, 0).data);
        *ret_gone = db_get_bool(&result, 0, 1);
    }
    db_result_release(&result);
    return rc;
}

enum err tenant_erase_open(struct db *db, const char *tenant, struct db_result *ret)
{
    struct db_result result = {0};
    enum err rc = db_exec(db, QUERY_TENANT_EXISTS, DB_PARAMS(db_text(tenant)), &result);

    if (rc == ERR_OK && !db_get_bool(&result, 0, 0))
        rc = ERR_NOT_FOUND;
    db_result_release(&result);
    if (rc != ERR_OK)
        return rc;
    return told(db, db_exec(db, QUERY_TENANT_ERASE_OPEN, DB_PARAMS(db_text(tenant)), ret));
}

static enum err next_job(struct db *db, const char *tenant, struct tenant_erasure *erasure)
{
    struct db_result result = {0};
    enum err rc = db_exec(db, QUERY_TENANT_ERASE_NEXT, DB_PARAMS(db_text(tenant)), &result);

    if (rc != ERR_OK)
        return rc;
    if (result.rows > 0) {
        erasure->job = db_get_uuid(&result, 0, 0);
        erasure->in_job = true;
        erasure->line = -1;
        db_result_release(&result);
        return ERR_OK;
    }
    db_result_release(&result);
    rc = db_exec(db, QUERY_TENANT_ERASE_REST, DB_PARAMS(db_text(tenant), db_i32(ERASE_BLOBS)),
                 &result);
    if (rc == ERR_OK)
        erasure->done = db_get_bool(&result, 0, 0);
    db_result_release(&result);
    return rc;
}

static enum err some_rows(struct db *db, struct tenant_erasure *erasure)
{
    struct db_result result = {0};
    enum err rc = db_exec(
        db, QUERY_TENANT_ERASE_ROWS,
        DB_PARAMS(db_uuid(&erasure->job), db_i64(erasure->line), db_i32(ERASE_ROWS)), &result);

    if (rc == ERR_OK && db_is_null(&result, 0, 0)) {
        rc = db_exec(db, QUERY_TENANT_ERASE_JOB, DB_PARAMS(db_uuid(&erasure->job)), NULL);
        erasure->in_job = false;
        erasure->jobs += rc == ERR_OK;
    } else if (rc == ERR_OK) {
        erasure->rows += (uint64_t)(db_get_i64(&result, 0, 0) - erasure->line);
        erasure->line = db_get_i64(&result, 0, 0);
    }
    db_result_release(&result);
    return rc;
}

enum err tenant_erase_step(struct db *db, const char *tenant, struct tenant_erasure *erasure)
{
    return told(db, erasure->in_job ? some_rows(db, erasure) : next_job(db, tenant, erasure));
}
