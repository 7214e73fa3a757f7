/*
 * test_protocol_commit.c: commits that meet others on the same rows or locks, and rows that cannot
 * be stored.
 */
#include "tests/flow/pg.h"
#include "tests/flow/proof.h"
#include "tests/flow/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct db *db;

static int set_up(void **state)
{
    (void)state;
    scene_clear(db);
    return 0;
}

static struct commit_result commit_lines(struct queue_worker *worker, const struct job *job,
                                         uint32_t first, uint32_t count, enum row_status status)
{
    struct queue_batch *b = queue_batch(worker, job, first, count, status);
    struct commit_result result;

    assert_int_equal(queue_commit(worker, b, &result), ERR_OK);
    free(b);
    return result;
}

static int64_t rows_with(const char *status)
{
    struct db_result result = {0};
    int64_t rows;

    assert_int_equal(db_exec(db, "select count(*) from mserve.results where status = $1",
                             DB_PARAMS(db_text(status)), &result),
                     ERR_OK);
    rows = db_get_i64(&result, 0, 0);
    db_result_release(&result);
    return rows;
}

/* The results of some lines land, then the rows that a cancel wishes for all: what is done stays. */
static void test_results_then_the_cancelled_rows_of_the_same_lines(void **state)
{
    struct job job = queue_job(db, "after", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct commit_result result;

    (void)state;
    commit_lines(&worker, &job, 10, 30, ROW_COMPLETED);
    result = commit_lines(&worker, &job, 0, 64, ROW_CANCELLED);
    assert_int_equal(result.rows_inserted, 34);
    assert_int_equal(result.rows_duplicate, 30);
    assert_int_equal(rows_with("completed"), 30);
    assert_int_equal(rows_with("cancelled"), 34);
    assert_int_equal(pg_number(db, "select sum(lost_ns) from mserve.worker_ledger"), 0);
    proof_assert(db);
    queue_worker_close(&worker);
}

/* The other way round: the lines stay cancelled, and what their results cost is lost. */
static void test_cancelled_rows_then_results_of_the_same_lines(void **state)
{
    struct job job = queue_job(db, "before", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct commit_result result;

    (void)state;
    commit_lines(&worker, &job, 0, 64, ROW_CANCELLED);
    result = commit_lines(&worker, &job, 10, 30, ROW_COMPLETED);
    assert_int_equal(result.rows_inserted, 0);
    assert_int_equal(result.rows_duplicate, 30);
    assert_int_equal(rows_with("cancelled"), 64);
    assert_int_equal(pg_number(db, "select sum(lost_ns) from mserve.worker_ledger"),
                     30 * 1000 + 49 * 30 / 2);
    assert_int_equal(pg_number(db, "select sum(lost_ns) from mserve.job_deltas"),
                     30 * 1000 + 49 * 30 / 2);
    assert_int_equal(pg_number(db, "select count(*) from mserve.attempts where why = 'duplicate' "
                                   "and line between 10 and 39"),
                     30);
    proof_assert(db);
    queue_worker_close(&worker);
}

/*
 * A sweeper has read what is open and falls asleep; a worker takes the partition and commits one of
 * these lines. Whichever comes second is fenced: one writer.
 */
static void test_a_sweeper_and_a_worker_never_both_write(void **state)
{
    struct job job = queue_job(db, "trade", 64, true);
    struct queue_worker sweeper = queue_worker("sweeper", LEASE_LONG_MS, 4), worker;
    struct queue_batch *b = queue_batch(&sweeper, &job, 0, 64, ROW_CANCELLED);
    struct commit_result result;
    enum job_state now;

    (void)state;
    assert_int_equal(job_cancel(db, &job.job, &now), ERR_OK);
    scene_expire(db, "sweeper");
    assert_int_equal(lease_bury_expired(db, NULL), ERR_OK);
    worker = queue_worker("worker", LEASE_LONG_MS, 4);
    commit_lines(&worker, &job, 0, 20, ROW_COMPLETED);
    assert_int_equal(queue_commit(&sweeper, b, &result), ERR_LOST);
    assert_int_equal(scene_rows(db), 20);
    commit_lines(&worker, &job, 0, 64, ROW_CANCELLED);
    assert_int_equal(rows_with("completed"), 20);
    assert_int_equal(rows_with("cancelled"), 44);
    proof_assert(db);
    queue_worker_close(&sweeper);
    queue_worker_close(&worker);
    free(b);
}

/* A partition was released and claimed by another in the meantime: only its rows are refused. */
static void test_a_released_partition_is_fenced(void **state)
{
    struct job job = queue_job(db, "release", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4),
                        heir = queue_worker("h", LEASE_LONG_MS, 0);
    struct queue_batch *b = queue_batch(&worker, &job, 0, 64, ROW_COMPLETED);
    int32_t part = worker.partitions[1].part;
    struct commit_result result;

    (void)state;
    assert_int_equal(lease_release(worker.db, &worker.lease, "t", &part, 1), ERR_OK);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_AGAIN); /* free is not its own either */
    assert_int_equal(result.fenced_count, 1);
    assert_int_equal(result.fenced[0], 1);
    queue_worker_claim(&heir, 4);
    assert_int_equal(heir.partitions_count, 1);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_AGAIN);
    assert_int_equal(result.fenced_count, 1);
    assert_int_equal(scene_rows(db), 0);
    assert_int_equal(pg_number(db, "select count(*) from mserve.worker_ledger"), 0);
    queue_worker_close(&worker);
    queue_worker_close(&heir);
    free(b);
}

/* A session that PostgreSQL never ends for a deadlock: it looks for one only after so long a wait. */
static struct db *connect_unyielding(void)
{
    struct db_options options = pg_options();
    char superuser[2100];
    struct db *ret;

    snprintf(superuser, sizeof(superuser), "%s user=postgres", options.dsn);
    options.dsn = superuser;
    assert_int_equal(db_open(&options, &ret), ERR_OK);
    pg_do(ret, "set deadlock_timeout = '10min'");
    return ret;
}

struct locker {
    struct db *db;
    enum err rc;
};

static void *lock_partitions(void *arg)
{
    struct locker *locker = arg;

    locker->rc = db_script(locker->db, "select from mserve.partitions order by part for update",
                           (struct slice){NULL, 0}, NULL);
    return NULL;
}

/*
 * Another session takes locks in the opposite order. The commit is the one that PostgreSQL ends: it
 * has written nothing, and the same batch lands when it is sent again, once. A third session holds the
 * commit up until the other one waits for it, so that it is the commit that closes the circle.
 */
static void test_a_deadlock_is_sent_again(void **state)
{
    struct job job = queue_job(db, "deadlock", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, QUEUE_PARTITIONS);
    struct queue_batch *b = queue_batch(&worker, &job, 0, 64, ROW_COMPLETED);
    struct locker other = {.db = connect_unyielding()};
    struct db *third = pg_connect(), *watcher = connect_unyielding(); /* sees superusers wait */
    struct scene_commit commit;
    pthread_t thread;

    (void)state;
    assert_int_equal(db_begin(third), ERR_OK);
    pg_do(third, "select from mserve.chunks where chunk = 0 for update");
    assert_int_equal(db_begin(other.db), ERR_OK);
    pg_do(other.db, "select from mserve.chunks where chunk = 1 for update");
    scene_commit_start(&commit, &worker, b);
    scene_await_blocked(watcher, 1);
    assert_int_equal(pthread_create(&thread, NULL, lock_partitions, &other), 0);
    scene_await_blocked(watcher, 2);
    assert_int_equal(db_commit(third), ERR_OK);
    assert_int_equal(scene_commit_end(&commit), ERR_AGAIN);
    assert_string_equal(db_sqlstate(commit_db(worker.commit)), "40P01");
    assert_int_equal(commit.result.fenced_count, 0);
    assert_int_equal(scene_rows(db), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(other.rc, ERR_OK); /* after the deadlock */
    assert_int_equal(db_commit(other.db), ERR_OK);

    assert_int_equal(queue_commit(&worker, b, &commit.result), ERR_OK);
    assert_false(commit.result.landed_before);
    assert_int_equal(scene_rows(db), 64);
    assert_int_equal(pg_number(db, "select count(*) from mserve.worker_ledger"), 1);
    proof_assert(db);
    db_close(other.db);
    db_close(watcher);
    db_close(third);
    queue_worker_close(&worker);
    free(b);
}

/* Somebody sits on a lock for longer than we wait: nothing is written, then everything is. */
static void test_a_lock_that_takes_too_long_is_tried_again(void **state)
{
    struct job job = queue_job(db, "slow", 64, true);
    struct db_options hasty = pg_options();
    struct db *other = pg_connect();
    struct queue_worker worker;
    struct queue_batch *b;
    struct commit_result result;

    (void)state;
    hasty.lock_timeout_ms = 50;
    worker = scene_worker("w", LEASE_LONG_MS, &hasty);
    queue_worker_claim(&worker, QUEUE_PARTITIONS);
    b = queue_batch(&worker, &job, 0, 64, ROW_COMPLETED);
    assert_int_equal(db_begin(other), ERR_OK);
    pg_do(other, "select from mserve.partitions where part = 3 for update");
    assert_int_equal(queue_commit(&worker, b, &result), ERR_AGAIN);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_AGAIN);
    assert_int_equal(scene_rows(db), 0);
    assert_int_equal(db_commit(other), ERR_OK);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    assert_int_equal(result.rows_inserted, 64);
    proof_assert(db);
    db_close(other);
    queue_worker_close(&worker);
    free(b);
}

/* Bytes that json does not take, nesting that exhausts the server's stack, text that is not UTF-8:
 * each becomes a failed row that keeps its cost, and all others are stored as they are. */
static void test_rows_that_cannot_be_stored(void **state)
{
    enum { DEPTH = 200000 };
    struct job job = queue_job(db, "unstorable", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b = queue_batch(&worker, &job, 0, 64, ROW_COMPLETED);
    char *deep = malloc(DEPTH);
    struct commit_result result;

    (void)state;
    memset(deep, '[', DEPTH);
    b->rows[3].response = SLICE("{\"torn\": ");
    b->rows[20].response = (struct slice){deep, DEPTH};
    b->rows[21].response = SLICE("\"\xc3\x28\"");
    b->rows[40].status = ROW_FAILED;
    b->rows[40].response = (struct slice){NULL, 0};
    b->rows[40].error = SLICE("not json");
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    assert_int_equal(result.rows_inserted, 64);
    assert_int_equal(result.rows_unstorable, 4);
    assert_int_equal(rows_with("completed"), 60);
    assert_int_equal(pg_number(db,
                               "select count(*) from mserve.results where status = 'failed' and "
                               "line in (3, 20, 21, 40) and error->>'code' = "
                               "'result_unstorable' and gpu_ns = 1000 + line "
                               "and response is null and status_code is null"),
                     4);
    assert_int_equal(pg_number(db, "select sum(failed) from mserve.job_deltas"), 4);
    proof_assert(db);
    free(deep);
    queue_worker_close(&worker);
    free(b);
}

/* A batch in which every single row is refused lands too. */
static void test_a_batch_of_nothing_but_unstorable_rows(void **state)
{
    struct job job = queue_job(db, "all", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b = queue_batch(&worker, &job, 0, 64, ROW_COMPLETED);
    struct commit_result result;

    (void)state;
    for (uint32_t i = 0; i < 64; i++)
        b->rows[i].response = SLICE("nonsense");
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    assert_int_equal(result.rows_unstorable, 64);
    assert_int_equal(rows_with("failed"), 64);
    proof_assert(db);
    queue_worker_close(&worker);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_results_then_the_cancelled_rows_of_the_same_lines, set_up),
        cmocka_unit_test_setup(test_cancelled_rows_then_results_of_the_same_lines, set_up),
        cmocka_unit_test_setup(test_a_sweeper_and_a_worker_never_both_write, set_up),
        cmocka_unit_test_setup(test_a_released_partition_is_fenced, set_up),
        cmocka_unit_test_setup(test_a_deadlock_is_sent_again, set_up),
        cmocka_unit_test_setup(test_a_lock_that_takes_too_long_is_tried_again, set_up),
        cmocka_unit_test_setup(test_rows_that_cannot_be_stored, set_up),
        cmocka_unit_test_setup(test_a_batch_of_nothing_but_unstorable_rows, set_up),
    };
    int failed;

    db = scene_open("protocol_commit");
    failed = cmocka_run_group_tests_name("protocol_commit", tests, NULL, NULL);
    scene_close(db);
    return failed;
}
