/* test_scheduler.c: folding, ends of jobs, and the rows that only the scheduler can write. */
#include "scheduler/scheduler.h"
#include "tests/flow/pg.h"
#include "tests/flow/queue.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct db *db;
static struct scheduler *scheduler;

static struct scheduler_options options_of_test(void)
{
    return (struct scheduler_options){.db = pg_options(),
                                      .interval_ms = 10,
                                      .abandoned_after_ms = 3600000,
                                      .deltas_max = 1000000,
                                      .lease_ms = 30000,
                                      .currency = "EUR"};
}

static int set_up(void **state)
{
    (void)state;
    queue_clear(db);
    return 0;
}

static void play_round(void)
{
    assert_int_equal(scheduler_round(scheduler, NULL), ERR_OK);
}

static void assert_state(const struct job *job, enum job_state expected)
{
    struct arena arena = {0};
    struct job now;

    assert_int_equal(job_get(db, &job->job, &arena, &now), ERR_OK);
    assert_string_equal(job_state_name(now.state), job_state_name(expected));
    arena_release(&arena);
}

static void assert_balanced(void)
{
    assert_int_equal(pg_number(db, "select count(*) from mserve.ledger_check where "
                                   "unexplained_ns = 0 and jobs_unexplained_ns = 0 and "
                                   "jobs_differ = 0 and bitmaps_differ = 0 and workers_differ = 0"),
                     1);
}

static void commit_lines(struct queue_worker *worker, const struct job *job, uint32_t first,
                         uint32_t count)
{
    struct queue_batch *b = queue_batch(worker, job, first, count, ROW_COMPLETED);
    struct commit_result result;

    assert_int_equal(queue_commit(worker, b, &result), ERR_OK);
    free(b);
}

/* A job ends when it has as many rows as lines, and not a second before. */
static void test_progress_is_folded_and_the_job_ends(void **state)
{
    struct job job = queue_job(db, "fold", 40, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);

    (void)state;
    commit_lines(&worker, &job, 0, 39);
    play_round();
    assert_state(&job, JOB_IN_PROGRESS);
    assert_int_equal(pg_number(db, "select completed from mserve.jobs"), 39);
    commit_lines(&worker, &job, 39, 1);
    play_round();
    assert_state(&job, JOB_COMPLETED);
    play_round();
    assert_int_equal(pg_number(db, "select completed from mserve.jobs"), 40);
    assert_int_equal(pg_number(db, "select count(*) from mserve.job_deltas"), 0);
    assert_int_equal(pg_number(db,
                               "select count(*) from mserve.jobs where finalizing_at is not null "
                               "and completed_at >= finalizing_at"),
                     1);
    assert_balanced();
    queue_worker_close(&worker);
}

/* The delta with the lower id becomes visible after the higher one was folded; it is not lost. */
static void test_deltas_committed_out_of_id_order_are_all_folded(void **state)
{
    struct job job = queue_job(db, "order", 40, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct db *other = pg_connect();

    (void)state;
    (void)job;
    assert_int_equal(db_begin(other), ERR_OK);
    pg_do(other,
          "insert into mserve.job_deltas (job, input_tokens) select job, 5 from mserve.jobs");
    commit_lines(&worker, &job, 0, 16);
    play_round();
    assert_int_equal(pg_number(db, "select input_tokens from mserve.jobs"), 48);
    assert_int_equal(db_commit(other), ERR_OK);
    play_round();
    assert_int_equal(pg_number(db, "select input_tokens from mserve.jobs"), 53);
    db_close(other);
    queue_worker_close(&worker);
}

/* More waits than one fold may take: one round takes them all, in folds that are each bounded. */
static void test_a_long_queue_is_folded_in_bounded_pieces(void **state)
{
    struct job jobs[3] = {queue_job(db, "a", 40, true), queue_job(db, "b", 40, true),
                          queue_job(db, "c", 40, true)};
    struct scheduler_options options = options_of_test();
    struct scheduler *careful;

    (void)state;
    options.deltas_max = 7;
    pg_do(db, "insert into mserve.job_deltas (job, completed) select job, 1 from mserve.jobs, "
              "generate_series(1, 40)");
    assert_int_equal(pg_number(db, "select count(*) from mserve.tick(3600000, 7) "
                                   "where event = 'more'"),
                     1);
    assert_int_equal(pg_number(db, "select count(*) from mserve.job_deltas"), 120 - 7);
    assert_int_equal(scheduler_open(&options, &careful), ERR_OK);
    assert_int_equal(scheduler_round(careful, NULL), ERR_OK);
    for (int i = 0; i < 3; i++)
        assert_state(&jobs[i], JOB_COMPLETED);
    assert_int_equal(pg_number(db, "select count(*) from mserve.job_deltas"), 0);
    assert_int_equal(pg_number(db, "select sum(completed) from mserve.jobs"), 120);
    scheduler_close(careful);
}

/* A terminal job never changes again, but for what a burial still books as lost. */
static void test_only_lost_grows_after_the_end(void **state)
{
    struct job job = queue_job(db, "after", 16, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);

    (void)state;
    commit_lines(&worker, &job, 0, 16);
    play_round();
    pg_do(db, "insert into mserve.job_deltas (job, lost_ns) select job, 7 from mserve.jobs");
    play_round();
    assert_state(&job, JOB_COMPLETED);
    assert_int_equal(pg_number(db, "select lost_ns from mserve.jobs"), 7);
    queue_worker_close(&worker);
}

/* Counts that would not fit are a mistake of ours: they stay to be seen, and harm no other job. */
static void test_a_delta_that_does_not_fit_stops_nobody(void **state)
{
    struct job bad = queue_job(db, "bad", 16, true), good = queue_job(db, "good", 16, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);

    (void)state;
    pg_do(db, "insert into mserve.job_deltas (job, completed) select job, 17 from mserve.jobs "
              "where idempotency_key = 'bad'");
    commit_lines(&worker, &good, 0, 16);
    play_round();
    assert_state(&good, JOB_COMPLETED);
    assert_state(&bad, JOB_IN_PROGRESS);
    assert_int_equal(pg_number(db, "select sum(completed) from mserve.job_deltas"), 17);
    queue_worker_close(&worker);
}

/* Some rows are there, then the user cancels and no worker is left: the scheduler writes the rest. */
static void test_a_cancel_without_workers_ends_with_a_row_for_each_line(void **state)
{
    struct job job = queue_job(db, "cancel", 200, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    enum job_state now;

    (void)state;
    commit_lines(&worker, &job, 5, 50);
    assert_int_equal(lease_leave(worker.db, &worker.lease, 0, "drained"), ERR_OK);
    assert_int_equal(job_cancel(db, &job.job, &now), ERR_OK);
    play_round();
    play_round();
    assert_state(&job, JOB_CANCELLED);
    assert_int_equal(pg_number(db, "select cancelled from mserve.jobs"), 150);
    assert_int_equal(pg_number(db, "select completed from mserve.jobs"), 50);
    assert_int_equal(pg_number(db, "select count(*) from mserve.results where status = 'cancelled' "
                                   "and custom_id = 'r' || line and status_code is null "
                                   "and error->>'code' = 'batch_cancelled'"),
                     150);
    assert_int_equal(
        pg_number(db, "select count(*) from mserve.partitions where owner is not null"), 0);
    assert_balanced();
    queue_worker_close(&worker);
}

/* What a worker holds is the worker's to write: there is one writer. */
static void test_held_partitions_are_left_to_their_holder(void **state)
{
    struct job job = queue_job(db, "held", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 2);
    struct queue_batch *b;
    struct commit_result result;
    enum job_state now;

    (void)state;
    assert_int_equal(job_cancel(db, &job.job, &now), ERR_OK);
    play_round();
    play_round();
    assert_state(&job, JOB_CANCELLING);
    assert_int_equal(pg_number(db, "select count(*) from mserve.results"), 32);
    b = queue_batch(&worker, &job, 0, 64, ROW_CANCELLED);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    assert_int_equal(result.rows_inserted, 32);
    play_round();
    assert_state(&job, JOB_CANCELLED);
    free(b);
    queue_worker_close(&worker);
}

static void test_a_job_past_its_window_expires(void **state)
{
    struct job job = queue_job(db, "window", 32, true);

    (void)state;
    play_round();
    assert_state(&job, JOB_IN_PROGRESS);
    pg_do(db, "update mserve.jobs set created_at = created_at - interval '2 days', "
              "expires_at = expires_at - interval '2 days'");
    play_round();
    play_round();
    assert_state(&job, JOB_EXPIRED);
    assert_int_equal(pg_number(db,
                               "select count(*) from mserve.results where status = 'expired' and "
                               "error->>'message' = 'This request could not be executed before the "
                               "completion window expired.'"),
                     32);
    assert_balanced();
}

/* All rows were there when the window passed: it is completed. */
static void test_a_job_that_is_done_does_not_expire(void **state)
{
    struct job job = queue_job(db, "done", 32, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);

    (void)state;
    commit_lines(&worker, &job, 0, 32);
    pg_do(db, "update mserve.jobs set created_at = created_at - interval '2 days', "
              "expires_at = expires_at - interval '2 days'");
    play_round();
    assert_state(&job, JOB_COMPLETED);
    queue_worker_close(&worker);
}

static void test_silent_uploads_fail_and_leave_no_rows(void **state)
{
    struct job silent = queue_job(db, "silent", 32, false), late = queue_job(db, "late", 32, false);
    struct job alive = queue_job(db, "alive", 32, false);

    (void)state;
    pg_do(db, "update mserve.jobs set heard_at = heard_at - interval '2 hours' "
              "where idempotency_key = 'silent'; "
              "update mserve.jobs set created_at = created_at - interval '2 days', "
              "expires_at = expires_at - interval '2 days' where idempotency_key = 'late'");
    play_round();
    assert_state(&silent, JOB_FAILED);
    assert_state(&late, JOB_FAILED);
    assert_state(&alive, JOB_VALIDATING);
    assert_int_equal(pg_number(db, "select count(*) from mserve.jobs where error_code in "
                                   "('upload_abandoned', 'upload_expired')"),
                     2);
    assert_int_equal(pg_number(db, "select count(*) from mserve.chunks"), 2);
    assert_int_equal(pg_number(db, "select count(*) from mserve.batch_object where "
                                   "object->'errors'->'data'->0->>'code' = 'upload_abandoned'"),
                     1);
}

/* An upload in the middle of its statement holds its job; the others are ended all the same. */
static void test_a_job_that_somebody_holds_expires_a_round_later(void **state)
{
    struct job held = queue_job(db, "held", 16, false), free_one = queue_job(db, "free", 16, false);
    struct db *other = pg_connect();

    (void)state;
    pg_do(db, "update mserve.jobs set heard_at = heard_at - interval '2 hours'");
    assert_int_equal(db_begin(other), ERR_OK);
    pg_do(other, "select from mserve.jobs where idempotency_key = 'held' for share");
    play_round();
    assert_state(&free_one, JOB_FAILED);
    assert_state(&held, JOB_VALIDATING);
    assert_int_equal(db_commit(other), ERR_OK);
    play_round();
    assert_state(&held, JOB_FAILED);
    db_close(other);
}

static void test_workers_whose_lease_ran_out_are_buried(void **state)
{
    struct queue_worker gone = queue_worker("gone", 1, 2),
                        here = queue_worker("here", LEASE_LONG_MS, 2);

    (void)state;
    usleep(5000);
    play_round();
    assert_int_equal(pg_number(db, "select count(*) from mserve.workers where closed_why = "
                                   "'lease_ran_out' and name = 'gone'"),
                     1);
    assert_int_equal(pg_number(db, "select count(*) from mserve.partitions where owner is null"),
                     2);
    assert_int_equal(lease_renew(here.db, &here.lease, 0, 0), ERR_OK);
    queue_worker_close(&gone);
    queue_worker_close(&here);
}

/*
 * The server was away for longer than the leases: all of them ran out, and nobody could renew. Who
 * comes back first must not bury the others; each has a lease's time to renew. (The lease of 100
 * years stands for a server that started a moment ago.)
 */
static void test_after_a_restart_a_lease_is_left_to_renew(void **state)
{
    struct queue_worker back = queue_worker("back", LEASE_LONG_MS, 2);

    (void)state;
    pg_do(db, "update mserve.workers set lease_until = now() - interval '1 s', "
              "lease_ms = 36525 * 86400000::bigint");
    play_round();
    assert_int_equal(lease_renew(back.db, &back.lease, 0, 0), ERR_OK);
    pg_do(db, "update mserve.workers set lease_until = now() - interval '1 s', lease_ms = 1");
    play_round();
    assert_int_equal(lease_renew(back.db, &back.lease, 0, 0), ERR_LOST);
    queue_worker_close(&back);
}

/* While another scheduler is at it, a round does nothing and harms nothing. */
static void test_one_scheduler_at_a_time(void **state)
{
    struct job job = queue_job(db, "two", 16, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct db *other = pg_connect();

    (void)state;
    commit_lines(&worker, &job, 0, 16);
    assert_int_equal(db_begin(other), ERR_OK);
    pg_do(other, "select * from mserve.tick(1000000)");
    play_round();
    assert_state(&job, JOB_IN_PROGRESS);
    db_rollback(other);
    play_round();
    assert_state(&job, JOB_COMPLETED);
    db_close(other);
    queue_worker_close(&worker);
}

/* A child that plays rounds until it is killed. */
static pid_t fork_scheduler(void)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct scheduler_options options = options_of_test();
        struct scheduler *mine;

        options.lease_ms = 300;
        if (scheduler_open(&options, &mine) == ERR_OK)
            while (scheduler_round(mine, NULL) == ERR_OK)
                usleep(1000);
        _exit(1);
    }
    return pid;
}

/* Two schedulers are killed again and again while jobs run and are cancelled: nothing is off. */
static void test_schedulers_killed_at_any_moment(void **state)
{
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 2);
    pid_t pids[2] = {fork_scheduler(), fork_scheduler()};
    enum job_state now;

    (void)state;
    srand(5);
    for (int i = 0; i < 24; i++) {
        char key[16];
        struct job job;

        snprintf(key, sizeof(key), "kill-%d", i);
        job = queue_job(db, key, 64, true);
        commit_lines(&worker, &job, 0, 20);
        commit_lines(&worker, &job, 20, 44);
        assert_int_equal(job_cancel(db, &job.job, &now), ERR_OK);
        usleep((useconds_t)(rand() % 8000));
        kill(pids[i % 2], SIGKILL);
        waitpid(pids[i % 2], NULL, 0);
        pids[i % 2] = fork_scheduler();
    }
    for (int i = 0; i < 2; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    /* A sweeper that was killed holds its partition until its lease has run out. */
    for (int i = 0; i < 200 && pg_number(db, "select count(*) from mserve.jobs where state = "
                                             "'cancelled'") < 24;
         i++) {
        play_round();
        usleep(10000);
    }
    assert_int_equal(pg_number(db, "select count(*) from mserve.jobs where state = 'cancelled' and "
                                   "completed + cancelled = 64"),
                     24);
    assert_int_equal(pg_number(db, "select count(*) from mserve.results"), 24 * 64);
    assert_balanced();
    queue_worker_close(&worker);
}

static void test_a_lost_database_is_found_again(void **state)
{
    (void)state;
    pg_do(db,
          "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() "
          "and datname = current_database()");
    assert_int_equal(scheduler_round(scheduler, NULL), ERR_DATABASE);
    assert_int_equal(scheduler_round(scheduler, NULL), ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_progress_is_folded_and_the_job_ends, set_up),
        cmocka_unit_test_setup(test_deltas_committed_out_of_id_order_are_all_folded, set_up),
        cmocka_unit_test_setup(test_a_long_queue_is_folded_in_bounded_pieces, set_up),
        cmocka_unit_test_setup(test_only_lost_grows_after_the_end, set_up),
        cmocka_unit_test_setup(test_a_delta_that_does_not_fit_stops_nobody, set_up),
        cmocka_unit_test_setup(test_a_cancel_without_workers_ends_with_a_row_for_each_line, set_up),
        cmocka_unit_test_setup(test_held_partitions_are_left_to_their_holder, set_up),
        cmocka_unit_test_setup(test_a_job_past_its_window_expires, set_up),
        cmocka_unit_test_setup(test_a_job_that_is_done_does_not_expire, set_up),
        cmocka_unit_test_setup(test_silent_uploads_fail_and_leave_no_rows, set_up),
        cmocka_unit_test_setup(test_a_job_that_somebody_holds_expires_a_round_later, set_up),
        cmocka_unit_test_setup(test_workers_whose_lease_ran_out_are_buried, set_up),
        cmocka_unit_test_setup(test_after_a_restart_a_lease_is_left_to_renew, set_up),
        cmocka_unit_test_setup(test_one_scheduler_at_a_time, set_up),
        cmocka_unit_test_setup(test_schedulers_killed_at_any_moment, set_up),
        cmocka_unit_test_setup(test_a_lost_database_is_found_again, set_up),
    };
    struct scheduler_options options;
    int failed;

    pg_create("scheduler");
    db = pg_connect();
    queue_set_up(db);
    options = options_of_test();
    assert_int_equal(scheduler_open(&options, &scheduler), ERR_OK);
    failed = cmocka_run_group_tests_name("scheduler", tests, NULL, NULL);
    scheduler_close(scheduler);
    db_close(db);
    pg_drop();
    return failed;
}
