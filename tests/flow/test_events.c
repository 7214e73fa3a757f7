/* test_events.c: which events come about, in which transaction, and what they say. */
#include "scheduler/scheduler.h"
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

#define EVERY                                                                                      \
    "{batch.completed,batch.failed,batch.expired,batch.cancelled,batch.in_progress,"               \
    "batch.preempted,request.completed}"

static struct db *db;

static int set_up(void **state)
{
    (void)state;
    queue_clear(db);
    pg_do(db,
          "truncate mserve.webhook_endpoints, mserve.webhook_events, mserve.webhook_pages cascade;"
          "delete from mserve.tenants where tenant <> 'default'");
    return 0;
}

static void add_endpoint(const char *name, const char *events, bool every_job)
{
    char query[512];

    snprintf(query, sizeof(query),
             "insert into mserve.webhook_endpoints (name, url, secret, events, every_job) "
             "values ('%s', 'https://%s.example', '', '%s', %s)",
             name, name, events, every_job ? "true" : "false");
    pg_do(db, query);
}

static void fold(void)
{
    pg_do(db, "select mserve.tick(3600000)");
}

static int64_t events_of(const char *type)
{
    char query[256];

    snprintf(query, sizeof(query), "select count(*) from mserve.webhook_events where type = '%s'",
             type);
    return pg_number(db, query);
}

static void commit_rows(struct queue_worker *worker, const struct job *job, uint32_t first,
                        uint32_t count, enum row_status status)
{
    struct queue_batch *b = queue_batch(worker, job, first, count, status);
    struct commit_result result;

    assert_int_equal(queue_commit(worker, b, &result), ERR_OK);
    free(b);
}

static void compose_all(void)
{
    pg_do(db, "select mserve.webhook_compose(array(select event from mserve.webhook_events))");
    assert_int_equal(pg_number(db,
                               "select count(*) from mserve.webhook_events where body is null or "
                               "octet_length(body) >= 20000 or (body::json->>'id') <> "
                               "'evt_' || mserve.hex(event)"),
                     0);
}

/* The event is there when the state is: neither before nor without it, and once. */
static void test_an_event_comes_with_the_state_it_tells_of(void **state)
{
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct job job;

    (void)state;
    add_endpoint("named", "{batch.completed}", false);
    job = queue_job(db, "a", 40, true);
    pg_do(db, "update mserve.jobs set webhook = (select endpoint from mserve.webhook_endpoints)");
    commit_rows(&worker, &job, 0, 40, ROW_COMPLETED);
    pg_do(db, "begin; select mserve.tick(3600000); rollback");
    assert_int_equal(pg_number(db, "select count(*) from mserve.webhook_events"), 0);
    assert_int_equal(pg_number(db, "select count(*) from mserve.jobs where state = 'completed'"),
                     0);
    fold();
    fold();
    assert_int_equal(pg_number(db,
                               "select count(*) from mserve.webhook_events e join mserve.jobs j on "
                               "j.job = e.job where j.state = 'completed' and e.xmin = j.xmin and "
                               "e.event = mserve.event_id(j.job, 'batch.completed', 0)"),
                     1);
    assert_int_equal(pg_number(db, "select count(*) from mserve.webhook_deliveries"), 1);
    queue_worker_close(&worker);
}

/* Who wants no such event, is disabled, belongs to somebody else or was not named is owed nothing. */
static void test_only_those_who_want_it_are_owed_it(void **state)
{
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct job job;

    (void)state;
    pg_do(db, "insert into mserve.tenants (tenant) values ('other')");
    job = queue_job(db, "a", 8, true);
    commit_rows(&worker, &job, 0, 8, ROW_COMPLETED);
    fold();
    assert_int_equal(pg_number(db, "select count(*) from mserve.webhook_events"), 0);

    add_endpoint("every", "{batch.completed}", true);
    add_endpoint("asleep", "{batch.completed}", true);
    add_endpoint("failures", "{batch.failed}", true);
    add_endpoint("unnamed", "{batch.completed}", false);
    add_endpoint("theirs", "{batch.completed}", true);
    pg_do(db, "update mserve.webhook_endpoints set state = 'disabled' where name = 'asleep';"
              "update mserve.webhook_endpoints set tenant = 'other' where name = 'theirs'");
    job = queue_job(db, "b", 8, true);
    pg_do(db, "update mserve.jobs set webhook = (select endpoint from mserve.webhook_endpoints "
              "where name = 'every') where idempotency_key = 'b'");
    commit_rows(&worker, &job, 0, 8, ROW_COMPLETED);
    fold();
    assert_int_equal(pg_number(db, "select count(*) from mserve.webhook_deliveries"), 1);
    assert_int_equal(pg_number(db, "select count(*) from mserve.webhook_deliveries d join "
                                   "mserve.webhook_endpoints e on e.endpoint = d.endpoint where "
                                   "e.name = 'every'"),
                     1);
    queue_worker_close(&worker);
}

/* A job that was never accepted ends, too; one that is accepted says so. */
static void test_jobs_that_end_before_their_seal_say_so(void **state)
{
    (void)state;
    add_endpoint("every", EVERY, true);
    queue_job(db, "cancelled", 8, false);
    pg_do(db, "select mserve.job_cancel(job) from mserve.jobs");
    assert_int_equal(events_of("batch.cancelled"), 1);
    queue_job(db, "silent", 8, false);
    pg_do(db, "update mserve.jobs set heard_at = heard_at - interval '1 day'");
    fold();
    assert_int_equal(events_of("batch.failed"), 1);
    assert_int_equal(events_of("batch.in_progress"), 0);
    queue_job(db, "sealed", 8, true);
    assert_int_equal(events_of("batch.in_progress"), 1);
    compose_all();
    assert_int_equal(
        pg_number(db, "select count(*) from mserve.webhook_events where type = 'batch.failed' and "
                      "body::json->'data'->'errors'->'data'->0->>'code' = 'upload_abandoned' and "
                      "body::json->'data'->>'status' = 'failed'"),
        1);
}

/* Completed, failed or cancelled: each row is on one page, and all pages come before the end. */
static void test_each_row_is_on_one_page(void **state)
{
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct job job;

    (void)state;
    add_endpoint("pages", "{request.completed,batch.cancelled}", true);
    job = queue_job(db, "a", 1000, true);
    commit_rows(&worker, &job, 0, 230, ROW_COMPLETED);
    /* Names that take six bytes a character when they are written as JSON. */
    pg_do(db, "update mserve.results set custom_id = repeat(chr(1), 150) || line where line < 150;"
              "update mserve.results set custom_id = repeat('x', 9000) where line = 7");
    fold();
    commit_rows(&worker, &job, 230, 20, ROW_FAILED);
    fold();
    commit_rows(&worker, &job, 250, 40, ROW_COMPLETED);
    pg_do(db, "select mserve.job_cancel(job) from mserve.jobs");
    commit_rows(&worker, &job, 290, 710, ROW_CANCELLED);
    fold();
    assert_int_equal(events_of("batch.cancelled"), 1);
    compose_all();
    assert_int_equal(pg_number(db, "select count(*) - count(distinct line) from "
                                   "mserve.webhook_events, unnest(lines) line"),
                     0);
    assert_int_equal(pg_number(db, "select count(*) from mserve.webhook_events e, "
                                   "json_array_elements(e.body::json->'data'->'requests') r "
                                   "join mserve.results s on s.line = (r->>'line')::bigint and "
                                   "s.status = r->>'status' where e.type = 'request.completed' and "
                                   "(r->>'custom_id' = s.custom_id or s.line = 7)"),
                     1000);
    assert_int_equal(pg_number(db, "select count(*) from mserve.webhook_events p, "
                                   "mserve.webhook_events e where e.type = 'batch.cancelled' and "
                                   "p.created_at > e.created_at"),
                     0);
    assert_int_equal(pg_number(db,
                               "select max(seq) - count(*) from mserve.webhook_events where type "
                               "= 'request.completed'"),
                     0);
    assert_int_equal(pg_number(db, "select count(*) from mserve.webhook_pages"), 0);
    queue_worker_close(&worker);
}

/* A page waits for a hundred rows or for a second, whichever is first. */
static void test_a_page_waits_for_rows_but_not_for_long(void **state)
{
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct job job;

    (void)state;
    add_endpoint("pages", "{request.completed}", true);
    job = queue_job(db, "a", 400, true);
    commit_rows(&worker, &job, 0, 99, ROW_COMPLETED);
    fold();
    pg_do(db, "update mserve.webhook_pages set since = clock_timestamp() + interval '1 hour'");
    fold();
    assert_int_equal(events_of("request.completed"), 0);
    commit_rows(&worker, &job, 99, 1, ROW_COMPLETED);
    fold();
    assert_int_equal(events_of("request.completed"), 1);
    commit_rows(&worker, &job, 100, 1, ROW_COMPLETED);
    fold();
    pg_do(db, "update mserve.webhook_pages set since = clock_timestamp() - interval '1 second'");
    fold();
    assert_int_equal(events_of("request.completed"), 2);
    queue_worker_close(&worker);
}

/* Nobody pays for what nobody wants; who begins to want it gets what comes from then on. */
static void test_rows_are_named_only_where_somebody_wants_to_know(void **state)
{
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct job job = queue_job(db, "a", 40, true);

    (void)state;
    commit_rows(&worker, &job, 0, 20, ROW_COMPLETED);
    assert_int_equal(
        pg_number(db, "select count(*) from mserve.job_deltas where lines is not null"), 0);
    add_endpoint("late", "{request.completed}", true);
    pg_do(db, "update mserve.jobs set pages = true");
    commit_rows(&worker, &job, 20, 20, ROW_COMPLETED);
    fold();
    assert_int_equal(pg_number(db, "select sum(cardinality(lines)) from mserve.webhook_events"),
                     20);
    queue_worker_close(&worker);
}

/* Two workers of one job vanish within a minute: it is said once, and why. */
static void test_an_interruption_is_told_once_a_minute(void **state)
{
    struct queue_worker first = queue_worker("first", LEASE_LONG_MS, 2);
    struct queue_worker second = queue_worker("second", LEASE_LONG_MS, 2);
    struct queue_worker *worker[] = {&first, &second};
    struct job job;

    (void)state;
    add_endpoint("every", EVERY, true);
    job = queue_job(db, "a", 64, true);
    queue_job(db, "untouched", 64, true);
    for (int i = 0; i < 2; i++) {
        struct queue_batch *b = queue_batch(worker[i], &job, 0, 0, ROW_COMPLETED);
        struct commit_result result;
        uint32_t line = 0;

        while (!queue_worker_holds(worker[i], &job, line))
            line++;
        queue_save(worker[i], b, &job, line, 1, 5, 700);
        assert_int_equal(queue_commit(worker[i], b, &result), ERR_OK);
        free(b);
    }
    pg_do(db, "update mserve.jobs set created_at = created_at - interval '10 s';"
              "update mserve.workers set lease_until = clock_timestamp() - interval '1 s'");
    pg_do(db, "select mserve.bury_vanished(worker) from mserve.workers order by name");
    assert_int_equal(pg_number(db, "select count(*) from mserve.attempts where why = 'vanished'"),
                     2);
    assert_int_equal(events_of("batch.preempted"), 1);
    compose_all();
    assert_int_equal(
        pg_number(db,
                  "select count(*) from mserve.webhook_events where type = 'batch.preempted' and "
                  "body::json->'data'->'preemption'->>'worker' = 'first' and "
                  "body::json->'data'->'preemption'->>'why' = 'vanished'"),
        1);
    queue_worker_close(&first);
    queue_worker_close(&second);
}

/* Whatever people put into metadata, the body stays small; it is written once. */
static void test_a_body_fits_and_stays_as_it_is(void **state)
{
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct job job;

    (void)state;
    add_endpoint("every", "{batch.completed}", true);
    job = queue_job(db, "a", 8, true);
    commit_rows(&worker, &job, 0, 8, ROW_COMPLETED);
    pg_do(db, "update mserve.workers set price_per_hour = 3600, currency = 'EUR';"
              "update mserve.jobs set metadata = json_build_object('k', repeat(chr(1), 8000))");
    fold();
    compose_all();
    assert_int_equal(
        pg_number(db,
                  "select count(*) from mserve.webhook_events, lateral (select body::json->'data' "
                  "as d) b where d->>'metadata' is null and (d->>'metadata_omitted')::boolean "
                  "and d->>'status' = 'completed' and d->'cost'->0->>'currency' = 'EUR' and "
                  "(d->'request_counts'->>'completed')::int = 8 and "
                  "(d->>'gpu_seconds')::numeric * 1e9 = (select sum(gpu_ns) from "
                  "mserve.results)"),
        1);
    pg_do(db, "update mserve.jobs set metadata = '{\"k\":\"v\"}'; "
              "select mserve.webhook_compose(array(select event from mserve.webhook_events))");
    assert_int_equal(pg_number(db, "select count(*) from mserve.webhook_events where "
                                   "body::json->'data'->>'metadata' is null"),
                     1);
    pg_do(db, "update mserve.webhook_events set body = null");
    compose_all();
    assert_int_equal(pg_number(db, "select count(*) from mserve.webhook_events where "
                                   "body::json->'data'->'metadata'->>'k' = 'v'"),
                     1);
    queue_worker_close(&worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_an_event_comes_with_the_state_it_tells_of, set_up),
        cmocka_unit_test_setup(test_only_those_who_want_it_are_owed_it, set_up),
        cmocka_unit_test_setup(test_jobs_that_end_before_their_seal_say_so, set_up),
        cmocka_unit_test_setup(test_each_row_is_on_one_page, set_up),
        cmocka_unit_test_setup(test_a_page_waits_for_rows_but_not_for_long, set_up),
        cmocka_unit_test_setup(test_rows_are_named_only_where_somebody_wants_to_know, set_up),
        cmocka_unit_test_setup(test_an_interruption_is_told_once_a_minute, set_up),
        cmocka_unit_test_setup(test_a_body_fits_and_stays_as_it_is, set_up),
    };
    int failed;

    pg_create("events");
    db = pg_connect();
    queue_set_up(db);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    db_close(db);
    pg_drop();
    return failed;
}
