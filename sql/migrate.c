/* migrate.c: numbered migrations, each in a transaction of its own. */
#include "sql/migrate.h"

#include "config/log.h"
#include "sql/migrations.h"
#include "sql/queries.h"

#include <string.h>

static const struct slice no_copy = {NULL, 0};

/* What was applied must be the beginning of what this program has, byte for byte. */
static enum err check_applied(const struct db_result *applied)
{
    for (int row = 0; row < applied->rows; row++) {
        int number = db_get_i32(applied, row, 0);
        struct slice sha256 = db_get_slice(applied, row, 1);

        if (number > migrations_count)
            return fail(ERR_SCHEMA,
                        "the schema is at %d, newer than this program, which knows %d: use the "
                        "program that made it",
                        db_get_i32(applied, applied->rows - 1, 0), migrations_count);
        if (number != row + 1)
            return fail(ERR_SCHEMA, "mserve.schema_migrations lacks migration %d", row + 1);
        if (strcmp(sha256.data, migrations[row].sha256) != 0)
            return fail(
                ERR_SCHEMA,
                "migration %04d_%s was applied from another file (sha256 %.12s, here %.12s)",
                number, migrations[row].name, sha256.data, migrations[row].sha256);
    }
    return ERR_OK;
}

/* In a transaction: takes the lock and reads how far the schema is. */
static enum err lock_and_read(struct db *db, int *ret_count)
{
    struct db_result applied = {0};
    enum err rc;

    rc = db_exec(db, QUERY_MIGRATIONS_LOCK, DB_NO_PARAMS, NULL);
    if (!rc)
        rc = db_script(db, QUERY_MIGRATIONS_TABLE, no_copy, NULL);
    if (!rc)
        rc = db_exec(db, QUERY_MIGRATIONS_APPLIED, DB_NO_PARAMS, &applied);
    if (!rc)
        rc = check_applied(&applied);
    *ret_count = applied.rows;
    db_result_release(&applied);
    return rc;
}

static enum err apply(struct db *db, const struct migration *migration)
{
    enum err rc = db_script(db, migration->text, no_copy, NULL);

    if (!rc)
        rc = db_exec(db, QUERY_MIGRATION_RECORD,
                     DB_PARAMS(db_i32(migration->number), db_text(migration->name),
                               db_text(migration->sha256)),
                     NULL);
    if (rc == ERR_CONFLICT || rc == ERR_AGAIN || rc == ERR_LOST)
        return fail(rc, "migration %04d_%s: %s", migration->number, migration->name,
                    db_message(db));
    return rc;
}

/* Whatever the migrations made, roles have the rights of their kind, and nobody else has any. */
static enum err secure(struct db *db)
{
    enum err rc = db_exec(db, QUERY_SECURE, DB_NO_PARAMS, NULL);

    if (rc == ERR_AGAIN || rc == ERR_LOST)
        return fail(rc, "the rights of roles: %s; run it again", db_message(db));
    return rc;
}

/* One migration, or none when all are there: then the last step. */
static enum err step(struct db *db, FILE *out, bool *ret_done)
{
    int count = 0;
    enum err rc;

    rc = db_begin(db);
    if (!rc)
        rc = lock_and_read(db, &count);
    if (!rc && count < migrations_count)
        rc = apply(db, &migrations[count]);
    else if (!rc)
        rc = secure(db);
    if (!rc)
        rc = db_commit(db);
    if (rc) {
        db_rollback(db);
        return rc;
    }
    *ret_done = count == migrations_count;
    if (*ret_done)
        fprintf(out, "the schema is at %d\n", migrations_count);
    else
        fprintf(out, "applied %04d_%s\n", migrations[count].number, migrations[count].name);
    return ERR_OK;
}

enum err migrate_run(struct db *db, FILE *out)
{
    bool done = false;
    enum err rc = ERR_OK;

    while (!rc && !done)
        rc = step(db, out, &done);
    return rc;
}

enum err migrate_check(struct db *db)
{
    struct db_result result = {0};
    int count = 0;
    enum err rc;

    rc = db_exec(db, QUERY_MIGRATIONS_EXIST, DB_NO_PARAMS, &result);
    if (!rc && db_get_bool(&result, 0, 0)) {
        db_result_release(&result);
        rc = db_exec(db, QUERY_MIGRATIONS_APPLIED, DB_NO_PARAMS, &result);
        if (!rc)
            rc = check_applied(&result);
        count = result.rows;
    }
    db_result_release(&result);
    if (!rc && count < migrations_count)
        rc = fail(ERR_SCHEMA, "the schema is at %d, this program needs %d: run `mserve migrate`",
                  count, migrations_count);
    return rc;
}
