/* test_views.c: the public views: exact OpenAI lines and objects, costs, and a bill that adds up. */
#include "tests/flow/pg.h"
#include "tests/flow/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct db *db;
static struct job job;

/* The first value of a query, as text; the caller frees it. */
static char *text_of(const char *query)
{
    struct db_result result = {0};
    char *copy;

    assert_int_equal(db_script(db, query, (struct slice){NULL, 0}, &result), ERR_OK);
    assert_int_equal(result.rows, 1);
    copy = xstrdup(db_get_slice(&result, 0, 0).data);
    db_result_release(&result);
    return copy;
}

static void assert_text(const char *query, const char *expected)
{
    char *text = text_of(query);

    assert_string_equal(text, expected);
    free(text);
}

/* `expected` with each $ replaced by the job's 32 digits. */
static void assert_line(int line, const char *expected)
{
    char query[128], hex[UUID_BATCH_SIZE];
    struct buffer full = {0};

    uuid_format_batch(job.job, hex);
    for (; *expected; expected++) {
        if (*expected == '$')
            buffer_add_text(&full, hex + strlen("batch_"));
        else
            buffer_add_byte(&full, *expected);
    }
    snprintf(query, sizeof(query), "select output from mserve.batch_results where line = %d", line);
    assert_text(query, full.data);
    buffer_release(&full);
}

/* One job of 32 lines, every kind of row, and books that have something in every account. */
static int set_up(void **state)
{
    struct queue_worker worker;
    struct queue_batch *b;
    struct commit_job of_job;
    struct commit_result result;

    (void)state;
    queue_clear(db);
    job = queue_job(db, "views", 32, true);
    worker = queue_worker("w", LEASE_LONG_MS, 4);
    b = queue_batch(&worker, &job, 0, 32, ROW_COMPLETED);
    b->rows[1].response = SLICE("{ \"text\" : \"nul \\u0000 \\\" é\",\n \"n\": 1e400 }");
    b->rows[1].custom_id = SLICE("quote \" and \\ and \n");
    b->rows[2].status = ROW_FAILED;
    b->rows[2].status_code = 400;
    b->rows[2].response = SLICE("{\"error\":{\"code\":\"context_length_exceeded\"}}");
    b->rows[3].status = ROW_FAILED;
    b->rows[3].status_code = 500;
    b->rows[3].response = (struct slice){NULL, 0};
    b->rows[3].error = SLICE("{\"code\":\"x\",\"message\":\"y\"}");
    b->rows[4].status = ROW_EXPIRED;
    b->rows[4].status_code = 0;
    b->rows[4].response = (struct slice){NULL, 0};
    b->rows[4].error = SLICE("{\"code\":\"batch_expired\",\"message\":\"z\"}");
    b->batch.books.held_ns += 70 + 5 + 6 + 4 + 8 + 7;
    b->batch.books.wip_ns = 70;
    b->batch.books.shared_ns = 5;
    b->batch.books.recompute_ns = 6;
    b->batch.books.overhead_ns = 4;
    b->batch.books.idle_ns = 8;
    b->batch.books.lost_ns = 7;
    of_job = (struct commit_job){job.job, 70, 5, 6};
    b->batch.jobs = &of_job;
    b->batch.jobs_count = 1;
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    assert_int_equal(result.rows_inserted, 32);
    free(b);
    queue_worker_close(&worker);
    return 0;
}

static void test_output_lines_are_openais_to_the_byte(void **state)
{
    (void)state;
    assert_line(0,
                "{\"id\":\"batch_req_$_0\",\"custom_id\":\"r0\",\"response\":{\"status_code\":200,"
                "\"request_id\":\"req_$_0\",\"body\":{\"ok\": true}},\"error\":null}");
    assert_line(1, "{\"id\":\"batch_req_$_1\",\"custom_id\":\"quote \\\" and \\\\ and \\n\","
                   "\"response\":{\"status_code\":200,\"request_id\":\"req_$_1\",\"body\":"
                   "{ \"text\" : \"nul \\u0000 \\\" é\",\n \"n\": 1e400 }},\"error\":null}");
    assert_line(2,
                "{\"id\":\"batch_req_$_2\",\"custom_id\":\"r2\",\"response\":{\"status_code\":400,"
                "\"request_id\":\"req_$_2\",\"body\":{\"error\":{\"code\":"
                "\"context_length_exceeded\"}}},\"error\":null}");
    assert_line(3,
                "{\"id\":\"batch_req_$_3\",\"custom_id\":\"r3\",\"response\":{\"status_code\":500,"
                "\"request_id\":\"req_$_3\",\"body\":{\"error\":{\"code\":\"x\",\"message\":"
                "\"y\"}}},\"error\":null}");
    assert_line(4, "{\"id\":\"batch_req_$_4\",\"custom_id\":\"r4\",\"response\":null,\"error\":"
                   "{\"code\":\"batch_expired\",\"message\":\"z\"}}");
}

static void test_the_batch_object_has_openais_members(void **state)
{
    (void)state;
    assert_text("select string_agg(k, ' ') from mserve.batch_object, json_object_keys(object) k",
                "id object endpoint model errors input_file_id completion_window status "
                "output_file_id error_file_id created_at in_progress_at expires_at finalizing_at "
                "completed_at failed_at expired_at cancelling_at cancelled_at request_counts usage "
                "metadata");
    assert_text("select object->>'status' from mserve.batch_object", "in_progress");
    assert_text("select object->'request_counts'->>'total' from mserve.batch_object", "32");
    assert_int_equal(
        pg_number(db, "select count(*) from mserve.batch_object where object->>'id' = batch_id and "
                      "(object->>'created_at')::bigint = floor(extract(epoch from created_at)) and "
                      "object->>'output_file_id' is null and object->>'errors' is null"),
        1);
}

/* 3.6 EUR an hour are 10^-3 EUR a second: a nanosecond is 10^-12 EUR. */
static void test_costs_are_time_times_price(void **state)
{
    (void)state;
    pg_do(db, "update mserve.jobs set shared_ns = 5000000, recompute_ns = 3000000, "
              "lost_ns = 2000000; update mserve.results set gpu_ns = 1000000000 where line = 0");
    assert_int_equal(pg_number(db, "select count(*) from mserve.job_cost where currency = 'EUR'"),
                     1);
    assert_int_equal(pg_number(db, "select rows_ns from mserve.job_cost"),
                     pg_number(db, "select sum(gpu_ns) from mserve.results"));
    assert_int_equal(pg_number(db, "select (rows_money * 1000000000)::bigint from mserve.job_cost"),
                     1000031); /* 1 s and 31 lines of about a microsecond, in 10^-9 EUR */
    assert_text("select shared_money::text from mserve.job_cost", "0.000005000");
    assert_text("select uncharged_money::text from mserve.job_cost", "0.000005000");
    assert_int_equal(pg_number(db, "select (charged_money = rows_money + shared_money)::int from "
                                   "mserve.job_cost"),
                     1);
}

static bool check_is_clean(void)
{
    return pg_number(db, "select count(*) from mserve.ledger_check where unexplained_ns = 0 and "
                         "jobs_unexplained_ns = 0 and jobs_differ = 0 and bitmaps_differ = 0 and "
                         "workers_differ = 0 and checkpoints_unexplained_ns = 0 and "
                         "checkpoints_differ = 0 and attempts_differ = 0") == 1;
}

/* A nanosecond, a bit or a count that is moved anywhere shows. */
static void test_the_ledger_check_sees_a_planted_nanosecond(void **state)
{
    static const char *const plants[] = {
        "update mserve.results set gpu_ns = gpu_ns + 1 where line = 7",
        "delete from mserve.results where line = 4", /* a row without cost */
        "update mserve.worker_ledger set held_ns = held_ns + 1",
        "update mserve.worker_ledger set shared_ns = shared_ns - 1",
        "update mserve.worker_ledger set recompute_ns = recompute_ns + 1",
        "update mserve.worker_ledger set overhead_ns = overhead_ns + 1",
        "update mserve.worker_ledger set idle_ns = idle_ns + 1",
        "update mserve.worker_ledger set lost_ns = lost_ns + 1",
        "update mserve.worker_ledger set wip_ns = wip_ns + 1",
        "update mserve.worker_ledger set held_ns = held_ns + 1, idle_ns = idle_ns + 1",
        "update mserve.worker_ledger set shared_ns = shared_ns + 1, idle_ns = idle_ns - 1",
        "update mserve.job_deltas set rows_ns = rows_ns + 1",
        "update mserve.job_deltas set completed = completed - 1, failed = failed + 1",
        "update mserve.job_deltas set shared_ns = shared_ns + 1",
        "update mserve.jobs set output_tokens = output_tokens + 1",
        "update mserve.chunks set done_count = 15 where chunk = 0",
        "update mserve.chunks set done_map = set_bit(done_map, 3, 0) where chunk = 1",
        "update mserve.workers set booked_ns = booked_ns - 1",
        "update mserve.workers set wip_ns = wip_ns - 1",
        "update mserve.workers set ledger_seq = 7",
        "update mserve.worker_ledger set handed_over_ns = handed_over_ns + 1, "
        "taken_over_ns = taken_over_ns + 1, lost_ns = lost_ns + 1",
        "update mserve.worker_ledger set handed_over_ns = handed_over_ns + 1, "
        "held_ns = held_ns + 1",
        "insert into mserve.checkpoints (job, line, chunk, attempt, tokens, gpu_ns, worker, state) "
        "select job, 3, 0, 1, 7, 0, worker, '' from mserve.jobs, mserve.workers",
        "update mserve.job_deltas set lost_ns = lost_ns + 1",
        "insert into mserve.attempts (worker, seq, job, line, gpu_ns, why) "
        "select worker, 1, job, 3, 5, 'fenced' from mserve.jobs, mserve.workers",
    };

    (void)state;
    assert_true(check_is_clean());
    for (size_t i = 0; i < sizeof(plants) / sizeof(plants[0]); i++) {
        assert_int_equal(db_begin(db), ERR_OK);
        pg_do(db, plants[i]);
        if (check_is_clean())
            fail_msg("not seen: %s", plants[i]);
        db_rollback(db);
    }
    assert_true(check_is_clean());
}

static void test_job_status_counts_what_was_folded(void **state)
{
    (void)state;
    assert_int_equal(pg_number(db, "select remaining from mserve.job_status"), 32);
    pg_do(db, "update mserve.jobs set completed = 7, failed = 1");
    assert_text("select percent::text from mserve.job_status", "25.0");
}

/* Those that never ran are counted too: of a job that has ended the counts add up. */
static void test_the_counts_of_a_batch_object_add_up(void **state)
{
    (void)state;
    pg_do(db, "update mserve.jobs set completed = 20, failed = 3, cancelled = 4, expired = 5");
    assert_text("select object->>'request_counts' from mserve.batch_object",
                "{\"total\" : 32, \"completed\" : 20, \"failed\" : 3, \"cancelled\" : 4, "
                "\"expired\" : 5}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_output_lines_are_openais_to_the_byte, set_up),
        cmocka_unit_test_setup(test_the_batch_object_has_openais_members, set_up),
        cmocka_unit_test_setup(test_costs_are_time_times_price, set_up),
        cmocka_unit_test_setup(test_the_ledger_check_sees_a_planted_nanosecond, set_up),
        cmocka_unit_test_setup(test_job_status_counts_what_was_folded, set_up),
        cmocka_unit_test_setup(test_the_counts_of_a_batch_object_add_up, set_up),
    };
    int failed;

    pg_create("views");
    db = pg_connect();
    queue_set_up(db);
    failed = cmocka_run_group_tests_name("views", tests, NULL, NULL);
    db_close(db);
    pg_drop();
    return failed;
}
