/* test_db.c: values, failures and migrations against a real PostgreSQL. */
#include "sql/db.h"
#include "sql/migrate.h"
#include "sql/migrations.h"
#include "tests/flow/pg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

static const char *dsn;

struct copied {
    int rows;
    int64_t sum;
    int fail_at; /* this row, from 1; 0: none */
};

static enum err on_copied_cb(void *arg, const struct db_copied *row)
{
    static const struct uuid uuid = {{1, 35, 69, 103, 137, 171, 205, 239, 254, 220, 186, 152}};
    struct copied *copied = arg;

    assert_int_equal(row->count, 7);
    copied->rows++;
    copied->sum += db_copied_i64(row, 0);
    assert_true(db_copied_i64(row, 1) == INT64_MIN);
    assert_true(uuid_equal(db_copied_uuid(row, 2), uuid));
    assert_int_equal(db_copied_i32(row, 3), -7);
    assert_null(row->field[4].data);
    assert_true(db_copied_time_us(row, 5) == INT64_C(946684801000000));
    assert_int_equal(row->field[6].len, 100000);
    return copied->rows == copied->fail_at ? ERR_IO : ERR_OK;
}

/* Rows larger than any buffer on the way; one that fails ends it, and the connection serves on. */
static void test_rows_come_as_a_stream(void **state)
{
    static const char query[] =
        "copy (select n, $1, $2, (-7)::int2, null::text, timestamptz '2000-01-01 00:00:01+00', "
        "repeat('x', 100000) from unnest($3) n) to stdout (format binary)";
    static const int64_t numbers[] = {-1, 2, INT64_C(1) << 40};
    static const struct uuid uuid = {{1, 35, 69, 103, 137, 171, 205, 239, 254, 220, 186, 152}};
    struct db_params params =
        DB_PARAMS(db_i64(INT64_MIN), db_uuid(&uuid), db_i64_array(numbers, 3));
    struct copied copied = {0}, failing = {.fail_at = 2};
    struct db *db = pg_connect();

    (void)state;
    assert_int_equal(db_copy_out(db, query, params, on_copied_cb, &copied), ERR_OK);
    assert_int_equal(copied.rows, 3);
    assert_true(copied.sum == (INT64_C(1) << 40) + 1);
    assert_int_equal(db_copy_out(db, query, params, on_copied_cb, &failing), ERR_IO);
    assert_int_equal(failing.rows, 2);
    assert_int_equal(db_copy_out(db, "copy (select 1 / $1) to stdout (format binary)",
                                 DB_PARAMS(db_i64(0)), on_copied_cb, &failing),
                     ERR_REJECTED);
    assert_int_equal(pg_number(db, "select 1"), 1);
    db_close(db);
}

/* What is said while nobody waits is heard by the next wait; nothing is heard twice. */
static void test_a_notice_ends_the_wait(void **state)
{
    struct db *db = pg_connect(), *other = pg_connect();
    bool told = true;

    (void)state;
    assert_int_equal(db_listen(db, "mserve_test_1"), ERR_OK);
    assert_int_equal(db_wait_notice(db, 0, &told), ERR_OK);
    assert_false(told);
    pg_do(other, "notify mserve_test_2");
    pg_do(other, "notify mserve_test_1");
    assert_int_equal(db_wait_notice(db, 60000, &told), ERR_OK);
    assert_true(told);
    assert_int_equal(db_wait_notice(db, 1, &told), ERR_OK);
    assert_false(told);
    db_close(other);
    db_close(db);
}

/* What goes in as a parameter comes out as a value, in both directions' binary form. */
static void test_values_come_back_as_they_went(void **state)
{
    static const int64_t numbers[] = {INT64_MIN, 0, INT64_MAX};
    static const struct uuid uuid = {{1, 35, 69, 103, 137, 171, 205, 239, 254, 220, 186, 152}};
    struct db *db = pg_connect();
    struct db_result result = {0};
    uint32_t bits;

    (void)state;
    assert_int_equal(
        db_exec(db,
                "select $1::int8, $2::text, $3::bytea, $4::uuid, $5::bool, $6::int8[] = "
                "'{-9223372036854775808,0,9223372036854775807}', $7::int4, null::int8, "
                "b'1010000001'::varbit, timestamptz '2000-01-01 00:00:01+00', $8::json",
                DB_PARAMS(db_i64(INT64_MIN), db_text("naïve"), db_bytea("a\0b", 3), db_uuid(&uuid),
                          db_bool(true), db_i64_array(numbers, 3), db_i32(-7),
                          db_json(SLICE("{ \"a\":\"\\u0000\"}"))),
                &result),
        ERR_OK);
    assert_true(db_get_i64(&result, 0, 0) == INT64_MIN);
    assert_string_equal(db_get_slice(&result, 0, 1).data, "naïve");
    assert_int_equal(db_get_slice(&result, 0, 2).len, 3);
    assert_memory_equal(db_get_slice(&result, 0, 2).data, "a\0b", 3);
    assert_true(uuid_equal(db_get_uuid(&result, 0, 3), uuid));
    assert_true(db_get_bool(&result, 0, 4));
    assert_true(db_get_bool(&result, 0, 5));
    assert_int_equal(db_get_i32(&result, 0, 6), -7);
    assert_true(db_is_null(&result, 0, 7));
    assert_int_equal((uint8_t)db_get_bits(&result, 0, 8, &bits).data[0], 0xa0);
    assert_int_equal(bits, 10);
    assert_true(db_get_time_us(&result, 0, 9) == INT64_C(946684801000000));
    assert_string_equal(db_get_slice(&result, 0, 10).data, "{ \"a\":\"\\u0000\"}");
    db_result_release(&result);
    db_close(db);
}

static void test_each_failure_has_its_code(void **state)
{
    static const struct {
        const char *statement;
        enum err err;
    } cases[] = {
        {"insert into t values (1)", ERR_CONFLICT},
        {"insert into t values (null)", ERR_REJECTED},
        {"select '{'::json", ERR_REJECTED},
        {"select * from not_there", ERR_SCHEMA},
        {"set local statement_timeout = 50; select pg_sleep(5)", ERR_AGAIN},
        {"do $$ begin raise exception 'x' using errcode = 'MS002', detail = '1,2'; end $$",
         ERR_LOST},
        {"syntax error", ERR_INTERNAL},
        {"select 1 / 0", ERR_REJECTED},
    };
    struct db *db = pg_connect();

    (void)state;
    pg_do(db, "create table t (n int primary key); insert into t values (1)");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(db_begin(db), ERR_OK);
        assert_int_equal(db_script(db, cases[i].statement, (struct slice){NULL, 0}, NULL),
                         cases[i].err);
        assert_int_equal(db_commit(db), ERR_INTERNAL);
        db_rollback(db);
        assert_true(db_is_open(db));
    }
    db_close(db);
}

static void test_a_raised_detail_can_be_read(void **state)
{
    struct db *db = pg_connect();

    (void)state;
    assert_int_equal(
        db_exec(db,
                "do $$ begin raise exception 'x' using errcode = 'MS002', detail = '1,2'; end $$",
                DB_NO_PARAMS, NULL),
        ERR_LOST);
    assert_string_equal(db_sqlstate(db), "MS002");
    assert_string_equal(db_detail(db), "1,2");
    db_close(db);
}

/* The backend is ended under us; then the socket is cut: each time one failure, then all is well. */
static void test_a_lost_connection_is_noticed_and_made_again(void **state)
{
    struct db *db = pg_connect();
    uint32_t generation = db_generation(db);

    (void)state;
    assert_int_equal(
        db_exec(db, "select pg_terminate_backend(pg_backend_pid())", DB_NO_PARAMS, NULL),
        ERR_DATABASE);
    assert_false(db_is_open(db));
    assert_int_equal(db_exec(db, "select 1", DB_NO_PARAMS, NULL), ERR_DATABASE);
    db_rollback(db);
    assert_int_equal(db_reopen(db), ERR_OK);
    assert_int_equal(db_generation(db), generation + 1);

    shutdown(db_socket(db), SHUT_RDWR);
    assert_int_equal(db_exec(db, "select 1", DB_NO_PARAMS, NULL), ERR_DATABASE);
    assert_int_equal(db_reopen(db), ERR_OK);
    assert_int_equal(pg_number(db, "select 1"), 1);
    db_close(db);
}

static void test_a_silent_server_is_given_up(void **state)
{
    struct db_options options = {.dsn = dsn, .reply_timeout_ms = 200};
    struct db *db;

    (void)state;
    assert_int_equal(db_open(&options, &db), ERR_OK);
    assert_int_equal(db_exec(db, "select pg_sleep(3)", DB_NO_PARAMS, NULL), ERR_DATABASE);
    assert_false(db_is_open(db));
    db_close(db);
}

static void test_no_server_and_no_database_are_told_apart(void **state)
{
    struct db_options nobody = {.dsn = "host=127.0.0.1 port=1 dbname=x"};
    char other[2100];
    struct db_options no_database = {.dsn = other};
    struct db *db;

    (void)state;
    assert_int_equal(db_open(&nobody, &db), ERR_DATABASE);
    snprintf(other, sizeof(other), "%s dbname=there_is_no_such_database", dsn);
    assert_int_equal(db_open(&no_database, &db), ERR_SCHEMA);
}

/* More data than any socket buffer holds, in one copy between other statements. */
static void test_copy_runs_inside_a_script(void **state)
{
    struct db *db = pg_connect();
    struct db_result result = {0};
    struct buffer lines = {0};

    (void)state;
    for (int i = 0; i < 1000000; i++) {
        buffer_add_i64(&lines, i);
        buffer_add_byte(&lines, '\n');
    }
    assert_int_equal(db_script(db,
                               "begin; create temp table c (n int) on commit drop; "
                               "copy c from stdin; select count(*), sum(n) from c; commit",
                               buffer_slice(&lines), &result),
                     ERR_OK);
    assert_int_equal(db_get_i64(&result, 0, 0), 1000000);
    assert_true(db_get_i64(&result, 0, 1) == INT64_C(499999500000));
    db_result_release(&result);

    assert_int_equal(db_script(db,
                               "begin; create temp table c (n smallint) on commit drop; "
                               "copy c from stdin; commit",
                               buffer_slice(&lines), NULL),
                     ERR_REJECTED);
    db_rollback(db);
    assert_int_equal(pg_number(db, "select 1"), 1);
    buffer_release(&lines);
    db_close(db);
}

static void test_migrations_are_applied_once_and_guarded(void **state)
{
    struct db *db = pg_connect();
    FILE *out = tmpfile();
    long after_first;

    (void)state;
    assert_int_equal(migrate_check(db), ERR_SCHEMA);
    assert_int_equal(migrate_run(db, out), ERR_OK);
    assert_int_equal(migrate_check(db), ERR_OK);
    after_first = ftell(out);
    assert_int_equal(migrate_run(db, out), ERR_OK);
    assert_in_range(ftell(out) - after_first, 1, 30);
    assert_int_equal(pg_number(db, "select count(*) from mserve.schema_migrations"),
                     migrations_count);

    pg_do(db, "update mserve.schema_migrations set sha256 = 'x' where number = 1");
    assert_int_equal(migrate_check(db), ERR_SCHEMA);
    assert_int_equal(migrate_run(db, out), ERR_SCHEMA);
    pg_do(db, "truncate mserve.schema_migrations; insert into mserve.schema_migrations "
              "values (9999, 'of the future', '')");
    assert_int_equal(migrate_check(db), ERR_SCHEMA);
    assert_int_equal(migrate_run(db, out), ERR_SCHEMA);
    fclose(out);
    db_close(db);
}

/* Every column of every table and view says what it is, and every constraint has a name of its own. */
static void test_every_column_has_a_comment(void **state)
{
    struct db *db = pg_connect();

    (void)state;
    assert_int_equal(
        pg_number(db,
                  "select count(*) from pg_class c join pg_attribute a on a.attrelid = c.oid "
                  "where c.relnamespace = 'mserve'::regnamespace and c.relkind in ('r', 'p', 'v') "
                  "and not c.relispartition and a.attnum > 0 "
                  "and col_description(c.oid, a.attnum) is null"),
        0);
    assert_int_equal(
        pg_number(db,
                  "select count(*) from pg_proc p where p.pronamespace = 'mserve'::regnamespace "
                  "and obj_description(p.oid, 'pg_proc') is null "
                  "and p.proname not in ('uuid7', 'current_tenant')"),
        0);
    db_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_come_back_as_they_went),
        cmocka_unit_test(test_each_failure_has_its_code),
        cmocka_unit_test(test_a_raised_detail_can_be_read),
        cmocka_unit_test(test_a_lost_connection_is_noticed_and_made_again),
        cmocka_unit_test(test_a_silent_server_is_given_up),
        cmocka_unit_test(test_no_server_and_no_database_are_told_apart),
        cmocka_unit_test(test_copy_runs_inside_a_script),
        cmocka_unit_test(test_rows_come_as_a_stream),
        cmocka_unit_test(test_a_notice_ends_the_wait),
        cmocka_unit_test(test_migrations_are_applied_once_and_guarded),
        cmocka_unit_test(test_every_column_has_a_comment),
    };
    int failed;

    dsn = pg_create("db");
    failed = cmocka_run_group_tests_name("db", tests, NULL, NULL);
    pg_drop();
    return failed;
}
