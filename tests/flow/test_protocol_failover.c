/*
 * test_protocol_failover.c: the database forgets its last transactions. Nobody goes on as if they
 * had been; what they cost comes back as lost, and every row is there once in the end.
 */
#include "tests/flow/history.h"
#include "tests/flow/pg.h"
#include "tests/flow/proof.h"
#include "tests/flow/scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static struct db *db;

static int set_up(void **state)
{
    (void)state;
    scene_clear(db);
    return 0;
}

static uint64_t commit_lines(struct queue_worker *worker, const struct job *job, uint32_t first,
                             uint32_t count)
{
    struct queue_batch *b = queue_batch(worker, job, first, count, ROW_COMPLETED);
    uint64_t held_ns = b->batch.books.held_ns;
    struct commit_result result;

    assert_int_equal(queue_commit(worker, b, &result), ERR_OK);
    free(b);
    return held_ns;
}

/* COMMIT was executed, its reply was lost, and then it itself: it lands again, as if for the first
 * time, and is there once. */
static void test_a_commit_that_was_lost_with_its_reply(void **state)
{
    struct job job = queue_job(db, "lost", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b = queue_batch(&worker, &job, 0, 64, ROW_COMPLETED);
    struct commit_result result;

    (void)state;
    history_mark(db);
    assert_int_equal(commit_run(worker.commit, &b->batch, &result), ERR_OK); /* unheard */
    history_go_back(db);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_DATABASE);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    assert_false(result.landed_before);
    assert_int_equal(scene_rows(db), 64);
    assert_int_equal(pg_number(db, "select sum(gpu_ns) from mserve.results"), 64 * 1000 + 63 * 32);
    proof_assert(db);
    queue_worker_close(&worker);
    free(b);
}

/* Commits that were confirmed are gone, one or several: the worker hears it at its next renewal or
 * commit, and leaves; its time comes back as lost, and another writes the rows. */
static void test_confirmed_commits_that_were_lost(void **state)
{
    (void)state;
    for (uint32_t k = 1; k <= 3; k++) {
        struct queue_worker worker, heir;
        struct queue_batch *next;
        struct commit_result result;
        struct job job;
        uint64_t kept_ns, lost_ns = 0;

        scene_clear(db);
        job = queue_job(db, "k", 128, true);
        worker = queue_worker("w", LEASE_LONG_MS, 4);
        kept_ns = commit_lines(&worker, &job, 0, 16);
        history_mark(db);
        for (uint32_t i = 1; i <= k; i++)
            lost_ns += commit_lines(&worker, &job, 16 * i, 16);
        history_go_back(db);
        history_reconnect(&worker);

        next = queue_batch(&worker, &job, 96, 16, ROW_COMPLETED);
        assert_int_equal(lease_renew(worker.db, &worker.lease, worker.seq, kept_ns + lost_ns),
                         ERR_LOST);
        assert_int_equal(queue_commit(&worker, next, &result), ERR_LOST);
        assert_int_equal(lease_leave(worker.db, &worker.lease, kept_ns + lost_ns, "history"),
                         ERR_OK);
        assert_int_equal(scene_rows(db), 16);
        assert_int_equal(pg_number(db, "select sum(lost_ns) from mserve.worker_ledger"), lost_ns);
        heir = queue_worker("heir", LEASE_LONG_MS, 4);
        assert_int_equal(heir.partitions_count, 4);
        commit_lines(&heir, &job, 16, 112);
        assert_int_equal(scene_rows(db), 128);
        assert_int_equal(pg_number(db, "select sum(held_ns) from mserve.worker_ledger"),
                         128 * 1000 + 127 * 64 + lost_ns);
        proof_assert(db);
        queue_worker_close(&worker);
        queue_worker_close(&heir);
        free(next);
    }
}

/* The claim was lost, and another makes it again: the epochs are the same, the tokens are not. */
static void test_a_claim_that_was_lost_is_fenced_by_its_token(void **state)
{
    struct job job = queue_job(db, "epoch", 64, true);
    struct queue_worker early = queue_worker("early", LEASE_LONG_MS, 0);
    struct queue_worker late = queue_worker("late", LEASE_LONG_MS, 0);
    struct queue_batch *b;
    struct commit_result result;

    (void)state;
    history_mark(db);
    queue_worker_claim(&early, 4);
    b = queue_batch(&early, &job, 0, 64, ROW_COMPLETED);
    history_go_back(db);
    history_reconnect(&early);
    history_reconnect(&late);
    queue_worker_claim(&late, 4);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(early.partitions[i].part, late.partitions[i].part);
        assert_int_equal(early.partitions[i].epoch, late.partitions[i].epoch);
    }
    assert_int_equal(lease_renew(early.db, &early.lease, 0, 0), ERR_OK); /* it is open */
    assert_int_equal(queue_commit(&early, b, &result), ERR_AGAIN);
    assert_int_equal(result.fenced_count, 4);
    commit_lines(&late, &job, 0, 64);
    assert_int_equal(queue_commit(&early, b, &result), ERR_AGAIN);
    assert_int_equal(scene_rows_of(db, &late.lease), 64);
    assert_int_equal(scene_rows(db), 64);
    proof_assert(db);
    queue_worker_close(&early);
    queue_worker_close(&late);
    free(b);
}

/* The database does not know the worker any more. */
static void test_a_registration_that_was_lost(void **state)
{
    struct job job = queue_job(db, "unknown", 64, true);
    struct lease_partition claimed[4];
    struct queue_worker worker;
    struct queue_batch *b;
    struct commit_result result;
    uint32_t count;

    (void)state;
    history_mark(db);
    worker = queue_worker("w", LEASE_LONG_MS, 4);
    commit_lines(&worker, &job, 0, 32);
    b = queue_batch(&worker, &job, 32, 32, ROW_COMPLETED);
    history_go_back(db);
    history_reconnect(&worker);
    assert_int_equal(lease_renew(worker.db, &worker.lease, worker.seq, 0), ERR_LOST);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_LOST);
    assert_int_equal(lease_claim(worker.db, &worker.lease, "t", 4, claimed, &count), ERR_LOST);
    assert_int_equal(lease_leave(worker.db, &worker.lease, 99, "history"), ERR_OK);
    assert_int_equal(scene_rows(db), 0);
    assert_int_equal(pg_number(db, "select count(*) from mserve.workers"), 0);
    queue_worker_close(&worker);
    free(b);
}

/* A burial and the claim behind it are gone: the worker that was buried is the holder again, and
 * the other, who had already written, is not. */
static void test_a_burial_that_was_lost(void **state)
{
    struct job job = queue_job(db, "burial", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4),
                        heir = queue_worker("h", LEASE_LONG_MS, 0);
    struct queue_batch *more;
    struct commit_result result;

    (void)state;
    history_mark(db);
    scene_expire(db, "w");
    assert_int_equal(lease_bury_expired(db, NULL), ERR_OK);
    queue_worker_claim(&heir, 4);
    commit_lines(&heir, &job, 0, 32);
    more = queue_batch(&heir, &job, 32, 32, ROW_COMPLETED);
    history_go_back(db);
    history_reconnect(&worker);
    history_reconnect(&heir);
    assert_int_equal(queue_commit(&heir, more, &result), ERR_LOST); /* its first commit is gone */
    assert_int_equal(lease_leave(heir.db, &heir.lease, 5000, "history"), ERR_OK);
    commit_lines(&worker, &job, 0, 64);
    assert_int_equal(scene_rows_of(db, &worker.lease), 64);
    assert_int_equal(scene_rows(db), 64);
    proof_assert(db);
    queue_worker_close(&worker);
    queue_worker_close(&heir);
    free(more);
}

/* The job went back to before its seal, or is not there at all: the worker had seen what is no more,
 * and hears so. A job that was never accepted ends without rows. */
static void test_a_seal_that_was_lost(void **state)
{
    (void)state;
    for (int is_job_lost = 0; is_job_lost < 2; is_job_lost++) {
        struct queue_worker worker;
        struct queue_batch *b;
        struct commit_result result;
        struct job job;
        enum job_state now;

        scene_clear(db);
        worker = queue_worker("w", LEASE_LONG_MS, 4);
        if (is_job_lost)
            history_mark(db);
        job = queue_job(db, "seal", 64, false);
        if (!is_job_lost)
            history_mark(db);
        assert_int_equal(job_seal(db, &job.job, 4, 64, 0), ERR_OK);
        b = queue_batch(&worker, &job, 0, 64, ROW_COMPLETED);
        history_go_back(db);
        history_reconnect(&worker);
        assert_int_equal(lease_renew(worker.db, &worker.lease, 0, 0), ERR_OK);
        assert_int_equal(queue_commit(&worker, b, &result), ERR_LOST);
        assert_int_equal(job_cancel(db, &job.job, &now), is_job_lost ? ERR_NOT_FOUND : ERR_OK);
        assert_int_equal(scene_rows(db), 0);
        assert_int_equal(pg_number(db, "select count(*) from mserve.chunks"), 0);
        proof_assert(db);
        queue_worker_close(&worker);
        free(b);
    }
}

/* Books alone, of a job that is not there any more, go nowhere either. */
static void test_the_books_of_a_job_that_was_lost(void **state)
{
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct commit_job of_job = {.wip_ns = 5, .shared_ns = 3, .recompute_ns = 2};
    struct queue_batch *b;
    struct commit_result result;
    struct job job;

    (void)state;
    history_mark(db);
    job = queue_job(db, "books", 64, true);
    of_job.job = job.job;
    b = queue_batch(&worker, &job, 0, 0, ROW_COMPLETED);
    b->batch.jobs = &of_job;
    b->batch.jobs_count = 1;
    b->batch.books = (struct commit_books){10, 5, 3, 2, 0, 0, 0};
    history_go_back(db);
    history_reconnect(&worker);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_LOST);
    pg_do(db, "select * from mserve.tick(3600000)");
    proof_assert(db);
    queue_worker_close(&worker);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_commit_that_was_lost_with_its_reply, set_up),
        cmocka_unit_test_setup(test_confirmed_commits_that_were_lost, set_up),
        cmocka_unit_test_setup(test_a_claim_that_was_lost_is_fenced_by_its_token, set_up),
        cmocka_unit_test_setup(test_a_registration_that_was_lost, set_up),
        cmocka_unit_test_setup(test_a_burial_that_was_lost, set_up),
        cmocka_unit_test_setup(test_a_seal_that_was_lost, set_up),
        cmocka_unit_test_setup(test_the_books_of_a_job_that_was_lost, set_up),
    };
    int failed;

    db = scene_open("protocol_failover");
    failed = cmocka_run_group_tests_name("protocol_failover", tests, NULL, NULL);
    scene_close(db);
    return failed;
}
