/* pg.c: a fresh database for a test program. */
#include "tests/flow/pg.h"

#include <libpq-fe.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char database[64], dsn[2048];

static const char *server(void)
{
    const char *text = getenv("MSERVE_POSTGRES_DSN");

    if (!text || !*text) {
        printf("1..0 # SKIP MSERVE_POSTGRES_DSN is not set: no PostgreSQL to test against\n");
        exit(77);
    }
    return text;
}

static enum err on_server(const char *begin, const char *end)
{
    struct db_options options = {.dsn = server(), .application_name = "mserve-test"};
    struct db *db;
    char statement[256];
    enum err rc;

    snprintf(statement, sizeof(statement), "%s %s %s", begin, database, end);
    assert_int_equal(db_open(&options, &db), ERR_OK);
    rc = db_script(db, statement, (struct slice){NULL, 0}, NULL);
    db_close(db);
    return rc;
}

/* The server's DSN with another dbname: as conninfo, whatever form it had. */
static void make_dsn(void)
{
    PQconninfoOption *options = PQconninfoParse(server(), NULL);
    size_t len = 0;

    assert_non_null(options);
    for (PQconninfoOption *option = options; option->keyword; option++)
        if (option->val && *option->val && strcmp(option->keyword, "dbname") != 0)
            len += (size_t)snprintf(dsn + len, sizeof(dsn) - len, "%s='%s' ", option->keyword,
                                    option->val);
    snprintf(dsn + len, sizeof(dsn) - len, "dbname='%s'", database);
    PQconninfoFree(options);
}

const char *pg_create(const char *name)
{
    snprintf(database, sizeof(database), "mserve_test_%s_%d", name, (int)getpid());
    assert_int_equal(on_server("create database", ""), ERR_OK);
    make_dsn();
    return dsn;
}

/* An autovacuum worker in it is a superuser's, whom the tests' role may not end: it soon leaves. */
void pg_drop(void)
{
    enum err rc = ERR_DENIED;

    for (int i = 0; i < 100 && rc == ERR_DENIED; i++) {
        usleep(i > 0 ? 100000 : 0);
        rc = on_server("drop database if exists", "with (force)");
    }
    assert_int_equal(rc, ERR_OK);
}

struct db_options pg_options(void)
{
    return (struct db_options){.dsn = dsn,
                               .application_name = "mserve-test",
                               .reply_timeout_ms = 60000,
                               .lock_timeout_ms = 20000,
                               .statement_timeout_ms = 60000,
                               .idle_in_transaction_timeout_ms = 10000};
}

struct db *pg_connect(void)
{
    struct db_options options = pg_options();
    struct db *db;

    assert_int_equal(db_open(&options, &db), ERR_OK);
    return db;
}

int64_t pg_number(struct db *db, const char *query)
{
    struct db_result result = {0};
    int64_t value;

    assert_int_equal(db_script(db, query, (struct slice){NULL, 0}, &result), ERR_OK);
    assert_true(result.rows > 0);
    value = db_is_null(&result, 0, 0) ? -1 : db_get_i64(&result, 0, 0);
    db_result_release(&result);
    return value;
}

void pg_do(struct db *db, const char *statements)
{
    assert_int_equal(db_script(db, statements, (struct slice){NULL, 0}, NULL), ERR_OK);
}
