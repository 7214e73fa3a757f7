/*
 * test_protocol_reply.c: a commit whose outcome its worker does not know, because the connection
 * broke before, in or behind it: each row and each nanosecond counts once, whatever comes next.
 */
#include "tests/flow/pg.h"
#include "tests/flow/proof.h"
#include "tests/flow/queue.h"
#include "tests/flow/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static struct db *db;
static struct wire *wire;

/* Each test starts with free partitions and no workers, jobs, results. */
static int set_up(void **state)
{
    (void)state;
    pg_do(db, "truncate mserve.results, mserve.attempts, mserve.worker_ledger, mserve.job_deltas, "
              "mserve.jobs cascade; update mserve.partitions set owner = null; "
              "delete from mserve.workers");
    return 0;
}

static int64_t rows(void)
{
    return pg_number(db, "select count(*) from mserve.results");
}

static int64_t cost_of_rows(void)
{
    return pg_number(db, "select coalesce(sum(gpu_ns), 0) from mserve.results");
}

/* A worker that commits through the wire, with all partitions. */
static struct queue_worker worker_on_wire(void)
{
    struct queue_worker worker = queue_worker("wired", 30000, QUEUE_PARTITIONS);
    struct db_options options = wire_options(wire);

    commit_close(worker.commit);
    assert_int_equal(commit_open(&options, &worker.commit), ERR_OK);
    return worker;
}

/* Its lease ran out while nobody looked; another buries it and takes all it had. */
static struct queue_worker successor_of(const struct queue_worker *worker)
{
    struct queue_worker successor = queue_worker("successor", 30000, 0);
    uint32_t buried;

    (void)worker;
    pg_do(db, "update mserve.workers set lease_until = now() - interval '1 s' "
              "where name = 'wired'");
    assert_int_equal(lease_bury_expired(db, &buried), ERR_OK);
    assert_int_equal(buried, 1);
    queue_worker_claim(&successor, QUEUE_PARTITIONS);
    assert_int_equal(successor.partitions_count, QUEUE_PARTITIONS);
    return successor;
}

/* COMMIT was executed, its reply was lost, and nothing else happened: once is enough. */
static void test_a_reply_lost_is_found_by_asking_again(void **state)
{
    struct job job = queue_job(db, "reply", 64, true);
    struct queue_worker worker = worker_on_wire();
    struct queue_batch *b = queue_batch(&worker, &job, 0, 32, ROW_COMPLETED);
    struct queue_batch *next;
    struct commit_result result;

    (void)state;
    wire_when(wire, WIRE_SERVER, 'C', "COMMIT", WIRE_CUT);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_DATABASE);
    assert_int_equal(rows(), 32);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    assert_true(result.landed_before);
    assert_int_equal(rows(), 32);
    assert_int_equal(pg_number(db, "select count(*) from mserve.worker_ledger"), 1);

    next = queue_batch(&worker, &job, 32, 32, ROW_COMPLETED);
    assert_int_equal(queue_commit(&worker, next, &result), ERR_OK);
    assert_false(result.landed_before);
    assert_int_equal(result.rows_inserted, 32);
    assert_int_equal(cost_of_rows(), 64 * 1000 + 63 * 32);
    proof_assert(db);
    free(b);
    free(next);
    queue_worker_close(&worker);
}

/* The connection broke at any message before the server had all of it: nothing landed, so it lands
 * when it is sent again. */
static void test_a_batch_lost_on_its_way_lands_when_sent_again(void **state)
{
    static const char lost[] = {'Q', 'd', 'c'};
    struct job job = queue_job(db, "request", 64, true);
    struct queue_worker worker = worker_on_wire();
    struct commit_result result;

    (void)state;
    for (uint32_t i = 0; i < sizeof(lost); i++) {
        struct queue_batch *b = queue_batch(&worker, &job, 16 * i, 16, ROW_COMPLETED);

        wire_when(wire, WIRE_CLIENT, lost[i], lost[i] == 'Q' ? "begin" : "", WIRE_CUT);
        assert_int_equal(queue_commit(&worker, b, &result), ERR_DATABASE);
        assert_int_equal(rows(), 16 * i);
        assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
        assert_false(result.landed_before);
        assert_int_equal(result.rows_inserted, 16);
        free(b);
    }
    proof_assert(db);
    queue_worker_close(&worker);
}

/* The reply was lost, and before the worker could ask, it was buried and its partitions went to
 * another, who reads what is done and does it over nevertheless: rows and cost stay the first's. */
static void test_a_reply_lost_and_the_worker_buried(void **state)
{
    struct job job = queue_job(db, "buried", 64, true);
    struct queue_worker worker = worker_on_wire(), successor;
    struct queue_batch *b = queue_batch(&worker, &job, 0, 32, ROW_COMPLETED);
    struct queue_batch *over;
    struct commit_result result;

    (void)state;
    wire_when(wire, WIRE_SERVER, 'C', "COMMIT", WIRE_CUT);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_DATABASE);
    successor = successor_of(&worker);
    assert_int_equal(pg_number(db, "select sum(done_count) from mserve.chunks"), 32);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_LOST);

    over = queue_batch(&successor, &job, 0, 64, ROW_FAILED);
    assert_int_equal(queue_commit(&successor, over, &result), ERR_OK);
    assert_int_equal(result.rows_inserted, 32);
    assert_int_equal(result.rows_duplicate, 32);
    assert_int_equal(cost_of_rows(), 64 * 1000 + 63 * 32);
    assert_int_equal(pg_number(db, "select count(*) from mserve.results r join mserve.workers w "
                                   "using (worker) where line < 32 and w.name = 'wired' and "
                                   "status = 'completed'"),
                     32);
    assert_int_equal(pg_number(db, "select sum(lost_ns) from mserve.worker_ledger"),
                     32 * 1000 + 31 * 16);
    assert_int_equal(pg_number(db, "select sum(lost_ns) from mserve.job_deltas"),
                     32 * 1000 + 31 * 16);
    proof_assert(db);
    free(b);
    free(over);
    queue_worker_close(&worker);
    queue_worker_close(&successor);
}

/* The batch was lost on its way and the worker buried: its successor writes the rows, and what the
 * worker had last reported is lost, booked by the burial as an estimate. */
static void test_a_batch_lost_and_the_worker_buried(void **state)
{
    struct job job = queue_job(db, "never", 64, true);
    struct queue_worker worker = worker_on_wire(), successor;
    struct queue_batch *b = queue_batch(&worker, &job, 0, 32, ROW_COMPLETED);
    struct queue_batch *over;
    struct commit_result result;

    (void)state;
    assert_int_equal(lease_renew(worker.db, &worker.lease, 0, 20000), ERR_OK);
    wire_when(wire, WIRE_CLIENT, 'c', "", WIRE_CUT);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_DATABASE);
    successor = successor_of(&worker);
    over = queue_batch(&successor, &job, 0, 64, ROW_COMPLETED);
    assert_int_equal(queue_commit(&successor, over, &result), ERR_OK);
    assert_int_equal(result.rows_inserted, 64);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_LOST);
    assert_int_equal(pg_number(db, "select sum(lost_ns) from mserve.worker_ledger where estimated"),
                     20000);
    assert_int_equal(cost_of_rows(), 64 * 1000 + 63 * 32);
    proof_assert(db);
    free(b);
    free(over);
    queue_worker_close(&worker);
    queue_worker_close(&successor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_reply_lost_is_found_by_asking_again, set_up),
        cmocka_unit_test_setup(test_a_batch_lost_on_its_way_lands_when_sent_again, set_up),
        cmocka_unit_test_setup(test_a_reply_lost_and_the_worker_buried, set_up),
        cmocka_unit_test_setup(test_a_batch_lost_and_the_worker_buried, set_up),
    };
    int failed;

    pg_create("protocol_reply");
    db = pg_connect();
    queue_set_up(db);
    wire = wire_open();
    failed = cmocka_run_group_tests_name("protocol_reply", tests, NULL, NULL);
    wire_close(wire);
    db_close(db);
    pg_drop();
    return failed;
}
