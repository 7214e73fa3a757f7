/* test_commit.c: the fenced commit, one thing going wrong at a time. */
#include "config/log.h"
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

/* Each test starts with free partitions and no workers, results, deltas. */
static int set_up(void **state)
{
    (void)state;
    queue_clear(db);
    return 0;
}

static int64_t rows(void)
{
    return pg_number(db, "select count(*) from mserve.results");
}

/* Rows, bits, deltas and books of one commit, and nothing else. */
static void test_a_commit_writes_rows_bits_deltas_and_books(void **state)
{
    struct job job = queue_job(db, "one", 40, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b = queue_batch(&worker, &job, 0, 40, ROW_COMPLETED);
    struct commit_result result;

    (void)state;
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    assert_int_equal(result.rows_inserted, 40);
    assert_int_equal(result.rows_duplicate, 0);
    assert_int_equal(rows(), 40);
    assert_int_equal(pg_number(db, "select sum(done_count) from mserve.chunks"), 40);
    assert_int_equal(pg_number(db, "select count(*) from mserve.chunks where whole"), 3);
    assert_int_equal(pg_number(db, "select sum(completed) from mserve.job_deltas"), 40);
    assert_int_equal(pg_number(db, "select sum(output_tokens) from mserve.job_deltas"), 200);
    assert_int_equal(pg_number(db, "select rows_ns from mserve.worker_ledger"),
                     pg_number(db, "select sum(gpu_ns) from mserve.results"));
    assert_int_equal(pg_number(db, "select booked_ns from mserve.workers"),
                     pg_number(db, "select sum(gpu_ns) from mserve.results"));
    assert_int_equal(pg_number(db,
                               "select count(*) from mserve.results where "
                               "custom_id = 'r' || line and response::text = '{\"ok\": true}' "
                               "and error is null and status_code = 200 and worker is not null"),
                     40);
    free(b);
    queue_worker_close(&worker);
}

/* The same batch again is recognised by its number; a later one with the same lines by its rows. */
static void test_nothing_lands_twice(void **state)
{
    struct job job = queue_job(db, "twice", 32, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b = queue_batch(&worker, &job, 0, 16, ROW_COMPLETED);
    struct queue_batch *wider;
    struct commit_result result;

    (void)state;
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    assert_true(result.landed_before);
    assert_int_equal(pg_number(db, "select count(*) from mserve.worker_ledger"), 1);

    wider = queue_batch(&worker, &job, 0, 32, ROW_FAILED);
    assert_int_equal(queue_commit(&worker, wider, &result), ERR_OK);
    assert_int_equal(result.rows_inserted, 16);
    assert_int_equal(result.rows_duplicate, 16);
    assert_int_equal(pg_number(db, "select count(*) from mserve.attempts where why = 'duplicate'"),
                     16);
    assert_int_equal(pg_number(db, "select lost_ns from mserve.worker_ledger where seq = 2"),
                     pg_number(db, "select sum(gpu_ns) from mserve.attempts"));
    assert_int_equal(pg_number(db, "select sum(lost_ns) from mserve.job_deltas"),
                     pg_number(db, "select sum(gpu_ns) from mserve.attempts"));
    assert_int_equal(pg_number(db, "select sum(held_ns - rows_ns - lost_ns) from "
                                   "mserve.worker_ledger"),
                     0);
    free(b);
    free(wider);
    queue_worker_close(&worker);
}

/* One partition was lost: nothing is written, the rest goes through under the same number. */
static void test_a_lost_partition_is_named_and_the_rest_lands(void **state)
{
    struct job job = queue_job(db, "fenced", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b = queue_batch(&worker, &job, 0, 64, ROW_COMPLETED);
    struct commit_attempt attempt;
    struct commit_result result;
    uint32_t kept = 0;

    (void)state;
    pg_do(db, "update mserve.partitions set token = token + 1 where part = 2");
    assert_int_equal(queue_commit(&worker, b, &result), ERR_AGAIN);
    assert_int_equal(result.fenced_count, 1);
    assert_int_equal(worker.partitions[result.fenced[0]].part, 2);
    assert_int_equal(rows(), 0);

    attempt = (struct commit_attempt){.job = job.job, .why = ATTEMPT_FENCED};
    for (uint32_t i = 0; i < b->batch.rows_count; i++) {
        if (b->chunks[b->rows[i].chunk].partition == result.fenced[0])
            attempt.gpu_ns += b->rows[i].gpu_ns;
        else
            b->rows[kept++] = b->rows[i];
    }
    b->batch.rows_count = kept;
    b->batch.attempts = &attempt;
    b->batch.attempts_count = 1;
    worker.partitions[2] = worker.partitions[3];
    b->batch.partitions_count = 3;
    for (uint32_t i = 0; i < b->batch.chunks_count; i++)
        if (b->chunks[i].partition == 3)
            b->chunks[i].partition = 2;
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    assert_int_equal(result.rows_inserted, 48);
    assert_int_equal(pg_number(db, "select sum(held_ns - rows_ns - lost_ns) from "
                                   "mserve.worker_ledger"),
                     0);
    assert_int_equal(pg_number(db, "select count(*) from mserve.attempts where why = 'fenced'"), 1);
    free(b);
    queue_worker_close(&worker);
}

static void test_a_buried_worker_writes_nothing(void **state)
{
    struct job job = queue_job(db, "buried", 16, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b = queue_batch(&worker, &job, 0, 16, ROW_COMPLETED);
    struct commit_result result;

    (void)state;
    assert_int_equal(lease_leave(db, &worker.lease, 0, "error"), ERR_OK);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_LOST);
    assert_int_equal(rows(), 0);
    assert_int_equal(lease_renew(db, &worker.lease, 0, 0), ERR_LOST);
    assert_int_equal(lease_release(db, &worker.lease, "t", (int32_t[]){0}, 1), ERR_LOST);
    free(b);
    queue_worker_close(&worker);
}

/* The database went back behind a commit that was confirmed: renewal and commit both notice. */
static void test_a_database_that_went_back_is_noticed(void **state)
{
    struct job job = queue_job(db, "history", 32, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b = queue_batch(&worker, &job, 0, 16, ROW_COMPLETED);
    struct queue_batch *next;
    struct commit_result result;

    (void)state;
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    assert_int_equal(lease_renew(db, &worker.lease, worker.seq, 0), ERR_OK);
    pg_do(db, "update mserve.workers set ledger_seq = 0");
    assert_int_equal(lease_renew(db, &worker.lease, worker.seq, 0), ERR_LOST);
    next = queue_batch(&worker, &job, 16, 16, ROW_COMPLETED);
    assert_int_equal(queue_commit(&worker, next, &result), ERR_LOST);
    free(b);
    free(next);
    queue_worker_close(&worker);
}

/* Rows that PostgreSQL cannot take become failed rows; all others are stored as they are. */
static void test_unstorable_rows_are_found_by_halving(void **state)
{
    struct job job = queue_job(db, "halves", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b = queue_batch(&worker, &job, 0, 64, ROW_COMPLETED);
    struct commit_result result;

    (void)state;
    b->rows[0].response = SLICE("{\"torn\": ");
    b->rows[17].response = SLICE("\"\xff\"");
    b->rows[63].gpu_ns = (uint64_t)INT64_MAX + 1; /* negative for the database */
    b->batch.books.held_ns = 1000000;
    assert_int_equal(queue_commit(&worker, b, &result), ERR_REJECTED); /* its cost is the fault */

    b->rows[63].gpu_ns = 1063;
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    assert_int_equal(result.rows_unstorable, 2);
    assert_int_equal(result.rows_inserted, 64);
    assert_int_equal(pg_number(db,
                               "select count(*) from mserve.results where status = 'failed' and "
                               "error->>'code' = 'result_unstorable' and line in (0, 17)"),
                     2);
    assert_int_equal(pg_number(db, "select sum(failed) from mserve.job_deltas"), 2);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    assert_true(result.landed_before);
    free(b);
    queue_worker_close(&worker);
}

static void test_a_line_twice_in_a_batch_is_a_mistake(void **state)
{
    struct job job = queue_job(db, "line", 16, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b = queue_batch(&worker, &job, 0, 16, ROW_COMPLETED);
    struct commit_result result;

    (void)state;
    b->rows[3].line = 4;
    assert_int_equal(queue_commit(&worker, b, &result), ERR_INTERNAL);
    assert_int_equal(rows(), 0);
    free(b);
    queue_worker_close(&worker);
}

/* A chunk that lies in a partition which the batch does not name cannot be written through another. */
static void test_a_chunk_outside_the_fence_is_a_mistake(void **state)
{
    struct job job = queue_job(db, "outside", 16, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b = queue_batch(&worker, &job, 0, 16, ROW_COMPLETED);
    struct commit_result result;

    (void)state;
    b->chunks[0].partition = (b->chunks[0].partition + 1) % 4;
    assert_int_equal(queue_commit(&worker, b, &result), ERR_INTERNAL);
    assert_int_equal(rows(), 0);
    free(b);
    queue_worker_close(&worker);
}

/* Books without rows; work in progress moves in and out, and by job. */
static void test_books_alone_are_a_commit(void **state)
{
    struct job job = queue_job(db, "books", 16, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b = queue_batch(&worker, &job, 0, 0, ROW_COMPLETED);
    struct commit_job of_job = {job.job, 70, 5, 6};
    struct commit_result result;

    (void)state;
    b->batch.books = (struct commit_books){100, 70, 5, 6, 4, 8, 7};
    b->batch.jobs = &of_job;
    b->batch.jobs_count = 1;
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    b->batch.seq = 2;
    b->batch.books = (struct commit_books){.held_ns = 0, .wip_ns = 30};
    b->batch.attempts = &(struct commit_attempt){.job = job.job, .gpu_ns = 40};
    b->batch.attempts_count = 1;
    of_job = (struct commit_job){job.job, 30, 0, 0};
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    assert_int_equal(pg_number(db, "select wip_ns from mserve.worker_ledger where seq = 2"), -40);
    assert_int_equal(pg_number(db, "select sum(held_ns - wip_ns - shared_ns - recompute_ns - "
                                   "overhead_ns - idle_ns - lost_ns) from mserve.worker_ledger"),
                     0);
    assert_int_equal(pg_number(db, "select sum(lost_ns) from mserve.job_deltas"), 40);

    assert_int_equal(lease_leave(db, &worker.lease, 110, "drained"), ERR_OK);
    assert_int_equal(pg_number(db, "select sum(lost_ns) from mserve.worker_ledger"), 47 + 30 + 10);
    assert_int_equal(pg_number(db, "select sum(lost_ns) from mserve.job_deltas"), 40 + 30);
    assert_int_equal(pg_number(db, "select sum(held_ns) from mserve.worker_ledger"), 110);
    free(b);
    queue_worker_close(&worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_commit_writes_rows_bits_deltas_and_books, set_up),
        cmocka_unit_test_setup(test_nothing_lands_twice, set_up),
        cmocka_unit_test_setup(test_a_lost_partition_is_named_and_the_rest_lands, set_up),
        cmocka_unit_test_setup(test_a_buried_worker_writes_nothing, set_up),
        cmocka_unit_test_setup(test_a_database_that_went_back_is_noticed, set_up),
        cmocka_unit_test_setup(test_unstorable_rows_are_found_by_halving, set_up),
        cmocka_unit_test_setup(test_a_line_twice_in_a_batch_is_a_mistake, set_up),
        cmocka_unit_test_setup(test_a_chunk_outside_the_fence_is_a_mistake, set_up),
        cmocka_unit_test_setup(test_books_alone_are_a_commit, set_up),
    };
    int failed;

    pg_create("commit");
    db = pg_connect();
    queue_set_up(db);
    failed = cmocka_run_group_tests_name("commit", tests, NULL, NULL);
    db_close(db);
    pg_drop();
    return failed;
}
