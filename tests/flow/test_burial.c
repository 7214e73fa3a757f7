/* test_burial.c: burials of workers that vanished, and of those whose parent saw them die too late. */
#include "scheduler/policy/quarantine.h"
#include "sql/quarantine.h"
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

enum { POISON = 3, INNOCENT = 5 }; /* lines of one chunk */

static struct db *db;

static int set_up(void **state)
{
    (void)state;
    queue_clear(db);
    pg_do(db, "delete from mserve.suspects; delete from mserve.suspect_deaths");
    return 0;
}

static int64_t books_that_differ(void)
{
    return pg_number(db, "select unexplained_ns + jobs_unexplained_ns + jobs_differ + "
                         "bitmaps_differ + workers_differ + checkpoints_unexplained_ns + "
                         "checkpoints_differ + attempts_differ from mserve.ledger_check");
}

/* -------------------------------------------------------------------------- hosts that vanish ---- */

/* A worker on that host, with all partitions. */
static struct queue_worker worker_on(const char *host)
{
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, QUEUE_PARTITIONS);
    char update[128];

    snprintf(update, sizeof update, "update mserve.workers set host = '%s' where closed_at is null",
             host);
    pg_do(db, update);
    return worker;
}

/* Its lease has run out, and others notice. */
static void vanish(struct queue_worker *worker)
{
    uint32_t count;

    pg_do(db, "update mserve.workers set lease_ms = 1, lease_until = clock_timestamp() - "
              "interval '1 s' where closed_at is null");
    assert_int_equal(lease_bury_expired(db, &count), ERR_OK);
    assert_int_equal(count, 1);
    queue_worker_close(worker);
}

static void save(struct queue_worker *worker, const struct job *job, uint32_t line,
                 uint32_t attempt)
{
    struct queue_batch *batch = queue_batch(worker, job, 0, 0, ROW_COMPLETED);
    struct commit_result result;

    queue_save(worker, batch, job, line, attempt, 2 * attempt, 100);
    assert_int_equal(queue_commit(worker, batch, &result), ERR_OK);
    free(batch);
}

/* Both were open on a worker of that host when it vanished. */
static void vanish_with_both(const struct job *job, const char *host, uint32_t attempt)
{
    struct queue_worker worker = worker_on(host);

    save(&worker, job, POISON, attempt);
    save(&worker, job, INNOCENT, attempt);
    vanish(&worker);
}

/* It alone was open there, and the worker had written so before. */
static void vanish_alone(const struct job *job, const char *host)
{
    struct queue_worker worker = worker_on(host);
    struct queue_batch *batch = queue_batch(&worker, job, 0, 0, ROW_COMPLETED);
    struct commit_result result;
    char set[96], id[UUID_TEXT_SIZE];

    snprintf(set, sizeof set, "[{\"job\":\"%s\",\"line\":%d,\"chunk\":0}]",
             uuid_format(job->job, id), POISON);
    batch->batch.running = (struct slice){set, strlen(set)};
    assert_int_equal(queue_commit(&worker, batch, &result), ERR_OK);
    free(batch);
    vanish(&worker);
}

static enum quarantine_verdict verdict_on(const struct job *job, uint32_t line)
{
    static const struct quarantine_limits limits = {.deaths_alone = 3, .vanished = 4, .hosts = 2};
    struct quarantine_evidence evidence = {0};
    struct quarantine_line *lines;
    struct arena arena = {0};
    uint32_t count, cap;

    assert_int_equal(quarantine_lines(db, job->job, 0, 16, &arena, &lines, &count), ERR_OK);
    for (uint32_t i = 0; i < count; i++)
        if (lines[i].line == line)
            evidence = lines[i].evidence;
    arena_release(&arena);
    return quarantine_judge(&evidence, &limits, &cap);
}

static void complete(const struct job *job, uint32_t line)
{
    struct queue_worker worker = worker_on("calm");
    struct queue_batch *batch = queue_batch(&worker, job, line, 1, ROW_COMPLETED);
    struct commit_result result;

    batch->chunks[0].suspect = true;
    assert_int_equal(queue_commit(&worker, batch, &result), ERR_OK);
    assert_int_equal(lease_leave(worker.db, &worker.lease, batch->batch.books.held_ns, "drained"),
                     ERR_OK);
    free(batch);
    queue_worker_close(&worker);
}

/*
 * Hosts vanish, and a request was open on all of them. Up to the limit of workers and of hosts that means
 * nothing; then it runs alone; when as many vanish while it is alone it is found guilty. Its neighbour,
 * which was open there too, is done when both run alone. A worker that was asked to leave counts for
 * nothing.
 */
static void test_a_request_on_which_hosts_vanish_runs_alone_and_then_fails(void **state)
{
    struct job job = queue_job(db, "vanish", 16, true);
    struct queue_worker asked;

    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(verdict_on(&job, POISON), QUARANTINE_FREE);
        vanish_with_both(&job, "one", i + 1);
    }
    assert_int_equal(verdict_on(&job, POISON), QUARANTINE_FREE); /* on one host */
    assert_int_equal(pg_number(db, "select count(*) from mserve.suspect_deaths where apart"), 0);
    assert_int_equal(pg_number(db, "select min(open) from mserve.suspect_deaths"), 2);
    assert_int_equal(pg_number(db, "select count(*) from mserve.chunks where suspect"), 1);

    asked = worker_on("two");
    save(&asked, &job, POISON, 5);
    assert_int_equal(lease_drain(asked.db, &asked.lease, 0, "preempted"), ERR_OK);
    vanish(&asked);
    assert_int_equal(verdict_on(&job, POISON), QUARANTINE_FREE);

    vanish_with_both(&job, "two", 6);
    assert_int_equal(verdict_on(&job, POISON), QUARANTINE_APART);
    assert_int_equal(verdict_on(&job, INNOCENT), QUARANTINE_APART);
    complete(&job, INNOCENT);
    assert_int_equal(verdict_on(&job, INNOCENT), QUARANTINE_FREE);

    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(verdict_on(&job, POISON), QUARANTINE_APART);
        vanish_alone(&job, i % 2 ? "one" : "two");
    }
    assert_int_equal(verdict_on(&job, POISON), QUARANTINE_GUILTY);
    assert_int_equal(pg_number(db, "select count(*) from mserve.suspect_deaths where apart and "
                                   "open = 1 and not proven"),
                     4);
    assert_int_equal(pg_number(db, "select count(*) from mserve.workers where running is not null"),
                     0); /* what it proved stands in the evidence */
    assert_int_equal(books_that_differ(), 0);
}

/* ------------------------------------------------------------------------------- late burials ---- */

/* What its parent saw: it crashed with these two as the set that ran apart. */
static struct burial seen(const struct queue_worker *worker, const struct job *job,
                          struct burial_request requests[2])
{
    for (uint32_t i = 0; i < 2; i++)
        requests[i] = (struct burial_request){.job = job->job,
                                              .line = i == 0 ? POISON : INNOCENT,
                                              .accused = true,
                                              .attempt = 1,
                                              .tokens = 7,
                                              .cost_ns = 700};
    return (struct burial){.worker = worker->lease.worker,
                           .token = worker->lease.token,
                           .why = "crashed",
                           .ended = "crashed",
                           .proven = true,
                           .signal = 11,
                           .thread = "device",
                           .apart = true,
                           .charge = {.cap = 1, .deaths_alone = 1},
                           .held_ns = 5000,
                           .requests = requests,
                           .count = 2};
}

/* Changes with each row and each nanosecond that is booked. */
static int64_t booked(void)
{
    return pg_number(db, "select (select 1000000 * count(*) + sum(held_ns + lost_ns) from "
                         "mserve.worker_ledger) + (select 10000000000 * count(*) + "
                         "sum(gpu_ns + kept_ns) from mserve.attempts)::bigint");
}

/*
 * A guard was stopped past the lease. The child is buried by others, its partition is somebody else's,
 * and one of its requests has its row. Then the guard wakes and buries too, and as it does not hear
 * whether that landed, again: nothing is booked twice, and the request that has no row is accused, once.
 */
static void test_a_burial_that_comes_late_books_nothing_and_accuses_once(void **state)
{
    struct job job = queue_job(db, "late", 16, true);
    struct queue_worker dead = worker_on("one");
    struct burial_request requests[2];
    struct burial burial = seen(&dead, &job, requests);
    int64_t before;
    bool buried = true;

    (void)state;
    save(&dead, &job, POISON, 1);
    assert_int_equal(lease_renew(dead.db, &dead.lease, 1, 4000), ERR_OK);
    vanish(&dead);
    complete(&job, INNOCENT);
    before = booked();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(quarantine_bury(db, &burial, &buried), ERR_OK);
        assert_false(buried);
        assert_int_equal(booked(), before);
        assert_int_equal(pg_number(db, "select count(*) from mserve.suspects"), 1);
        assert_int_equal(pg_number(db, "select max(deaths_alone) from mserve.suspects"), 1);
        assert_int_equal(pg_number(db, "select count(*) from mserve.suspect_deaths"), 1);
    }
    assert_int_equal(pg_number(db, "select count(*) from mserve.suspect_deaths where proven and "
                                   "why = 'crashed' and open = 2"),
                     1);
    assert_int_equal(books_that_differ(), 0);
}

/* Who was first is first: after the parent's burial a lease that runs out means nothing. */
static void test_after_a_burial_in_time_there_is_no_other(void **state)
{
    struct job job = queue_job(db, "first", 16, true);
    struct queue_worker dead = worker_on("one");
    struct burial_request requests[2];
    struct burial burial = seen(&dead, &job, requests);
    int64_t before;
    uint32_t count;
    bool buried = false;

    (void)state;
    save(&dead, &job, POISON, 1);
    assert_int_equal(quarantine_bury(db, &burial, &buried), ERR_OK);
    assert_true(buried);
    assert_int_equal(pg_number(db, "select count(*) from mserve.suspects"), 2);
    before = booked();
    pg_do(db, "update mserve.workers set lease_ms = 1, lease_until = clock_timestamp() - "
              "interval '1 s'");
    assert_int_equal(lease_bury_expired(db, &count), ERR_OK);
    assert_int_equal(count, 0);
    assert_int_equal(quarantine_bury(db, &burial, &buried), ERR_OK);
    assert_false(buried);
    assert_int_equal(booked(), before);
    assert_int_equal(pg_number(db, "select max(deaths_alone) from mserve.suspects"), 1);
    assert_int_equal(books_that_differ(), 0);
    queue_worker_close(&dead);
}

/* -------------------------------------------------------------------------------- reading again ---- */

static int64_t recompute_of(const struct job *job, const char *table)
{
    char query[160], id[UUID_TEXT_SIZE];

    snprintf(query, sizeof query,
             "select sum(recompute_ns)::bigint from mserve.%s where job = '%s'", table,
             uuid_format(job->job, id));
    return pg_number(db, query);
}

/* The worker's books so far: it has read again for 30 ns, which a commit booked to that job. */
static void read_again(struct queue_worker *worker, const struct job *job)
{
    struct queue_batch *batch = queue_batch(worker, job, 0, 0, ROW_COMPLETED);
    struct commit_job of_job = {.job = job->job, .recompute_ns = 30};
    struct commit_result result;

    batch->batch.jobs = &of_job;
    batch->batch.jobs_count = 1;
    batch->batch.books.held_ns = batch->batch.books.recompute_ns = 30;
    assert_int_equal(queue_commit(worker, batch, &result), ERR_OK);
    free(batch);
}

/* Two jobs read again for 80 and for 50 ns; a commit booked 30 of these, and the worker knew of `knew`. */
static void die_reading_again(const struct job jobs[2], uint64_t knew)
{
    struct queue_worker dead = worker_on("one");
    struct burial_request requests[2];
    struct burial burial = seen(&dead, &jobs[0], requests);
    bool buried = false;

    read_again(&dead, &jobs[0]);
    requests[0].recompute_ns = 80;
    requests[0].booked_ns = knew;
    requests[1].job = jobs[1].job;
    requests[1].recompute_ns = 50;
    burial.recompute_ns = 130;
    assert_int_equal(quarantine_bury(db, &burial, &buried), ERR_OK);
    assert_true(buried);
    queue_worker_close(&dead);
}

/* What a worker that died had read again since its last commit is on the bill of whom it read it for. */
static void test_reading_again_is_booked_to_whom_it_was_for(void **state)
{
    const struct job jobs[2] = {queue_job(db, "a", 16, true), queue_job(db, "b", 16, true)};

    (void)state;
    die_reading_again(jobs, 30);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(recompute_of(&jobs[i], "attempts"), i == 0 ? 80 : 50);
        assert_int_equal(recompute_of(&jobs[i], "job_deltas"), i == 0 ? 80 : 50);
    }
    assert_int_equal(pg_number(db, "select sum(recompute_ns) from mserve.worker_ledger"), 130);
    assert_int_equal(pg_number(db, "select sum(recompute_ns) from mserve.bill where job is null"),
                     0);
    assert_int_equal(books_that_differ(), 0);
}

/* It did not live to know that its last commit had landed: no nanosecond is booked again. */
static void test_reading_again_is_not_booked_again(void **state)
{
    const struct job jobs[2] = {queue_job(db, "a", 16, true), queue_job(db, "b", 16, true)};

    (void)state;
    die_reading_again(jobs, 0);
    assert_int_equal(recompute_of(&jobs[0], "attempts"), 80);
    assert_in_range(pg_number(db, "select sum(recompute_ns) from mserve.worker_ledger"), 128, 130);
    assert_int_equal(books_that_differ(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_request_on_which_hosts_vanish_runs_alone_and_then_fails,
                               set_up),
        cmocka_unit_test_setup(test_a_burial_that_comes_late_books_nothing_and_accuses_once,
                               set_up),
        cmocka_unit_test_setup(test_after_a_burial_in_time_there_is_no_other, set_up),
        cmocka_unit_test_setup(test_reading_again_is_booked_to_whom_it_was_for, set_up),
        cmocka_unit_test_setup(test_reading_again_is_not_booked_again, set_up),
    };
    int failed;

    pg_create("burial");
    db = pg_connect();
    queue_set_up(db);
    failed = cmocka_run_group_tests_name("burial", tests, NULL, NULL);
    db_close(db);
    pg_drop();
    return failed;
}
