/*
 * test_protocol_reply.c: a commit whose outcome its worker does not know, because the connection
 * broke before, in or behind it: each row and each nanosecond counts once, whatever comes next.
 */
#include "tests/flow/pg.h"
#include "tests/flow/proof.h"
#include "tests/flow/scene.h"
#include "tests/flow/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static struct db *db;
static struct wire *wire;

static int set_up(void **state)
{
    (void)state;
    wire_disarm(wire);
    scene_clear(db);
    return 0;
}

static int64_t cost_of_rows(void)
{
    return pg_number(db, "select coalesce(sum(gpu_ns), 0) from mserve.results");
}

/* A worker that commits through the wire, with all partitions. */
static struct queue_worker worker_on_wire(void)
{
    struct db_options options = wire_options(wire);
    struct queue_worker worker = scene_worker("wired", LEASE_LONG_MS, &options);

    queue_worker_claim(&worker, QUEUE_PARTITIONS);
    return worker;
}

/* Its lease ran out while nobody looked; another buries it and takes all it had. */
static struct queue_worker successor(void)
{
    struct queue_worker heir = queue_worker("heir", LEASE_LONG_MS, 0);
    uint32_t buried;

    scene_expire(db, "wired");
    assert_int_equal(lease_bury_expired(db, &buried), ERR_OK);
    assert_int_equal(buried, 1);
    queue_worker_claim(&heir, QUEUE_PARTITIONS);
    assert_int_equal(heir.partitions_count, QUEUE_PARTITIONS);
    return heir;
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
    assert_int_equal(scene_rows(db), 32);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    assert_true(result.landed_before);
    assert_int_equal(scene_rows(db), 32);
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

/*
 * The connection breaks at each message of a commit in turn, of the client and of the server: the
 * batch has landed or it has not, and when it is sent again it is there once.
 */
static void test_a_commit_broken_at_each_message(void **state)
{
    struct job job = queue_job(db, "each", 1024, true);
    struct queue_worker worker = worker_on_wire();
    struct commit_result result;
    uint32_t line = 0, lost = 0, landed = 0;
    enum err rc;

    (void)state;
    for (enum wire_side side = WIRE_CLIENT; side <= WIRE_SERVER; side++) {
        for (uint32_t n = 0;; n++, line += 16) {
            struct queue_batch *b = queue_batch(&worker, &job, line, 16, ROW_COMPLETED);

            queue_save(&worker, b, &job, line + 16, 1, n, 10);
            wire_when_nth(wire, side, n, WIRE_CUT);
            rc = queue_commit(&worker, b, &result);
            if (!wire_struck(wire))
                assert_int_equal(rc, ERR_OK);
            else if (rc) /* the server's last message is behind the outcome: it is not missed */
                assert_int_equal(rc, ERR_DATABASE);
            if (rc) {
                rc = queue_commit(&worker, b, &result);
                landed += result.landed_before;
                lost += !result.landed_before;
            }
            assert_int_equal(rc, ERR_OK);
            free(b);
            if (!wire_struck(wire))
                break;
        }
        line += 16;
    }
    assert_int_equal(scene_rows(db), line);
    assert_int_equal(worker.seq, line / 16);
    assert_true(lost >= 4 && landed >= 1);
    proof_assert(db);
    queue_worker_close(&worker);
}

/* The reply was lost, and before the worker could ask, it was buried and its partitions went to
 * another, who reads what is done and does it over nevertheless: rows and cost stay the first's. */
static void test_a_reply_lost_and_the_worker_buried(void **state)
{
    struct job job = queue_job(db, "buried", 64, true);
    struct queue_worker worker = worker_on_wire(), heir;
    struct queue_batch *b = queue_batch(&worker, &job, 0, 32, ROW_COMPLETED);
    struct queue_batch *over;
    struct commit_result result;

    (void)state;
    wire_when(wire, WIRE_SERVER, 'C', "COMMIT", WIRE_CUT);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_DATABASE);
    heir = successor();
    assert_int_equal(pg_number(db, "select sum(done_count) from mserve.chunks"), 32);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_LOST);

    over = queue_batch(&heir, &job, 0, 64, ROW_FAILED);
    assert_int_equal(queue_commit(&heir, over, &result), ERR_OK);
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
    queue_worker_close(&heir);
}

/* The batch was lost on its way and the worker buried: its successor writes the rows, and what the
 * worker had last reported is lost, booked by the burial as an estimate. */
static void test_a_batch_lost_and_the_worker_buried(void **state)
{
    struct job job = queue_job(db, "never", 64, true);
    struct queue_worker worker = worker_on_wire(), heir;
    struct queue_batch *b = queue_batch(&worker, &job, 0, 32, ROW_COMPLETED);
    struct queue_batch *over;
    struct commit_result result;

    (void)state;
    assert_int_equal(lease_renew(worker.db, &worker.lease, 0, 20000), ERR_OK);
    wire_when(wire, WIRE_CLIENT, 'c', "", WIRE_CUT);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_DATABASE);
    heir = successor();
    over = queue_batch(&heir, &job, 0, 64, ROW_COMPLETED);
    assert_int_equal(queue_commit(&heir, over, &result), ERR_OK);
    assert_int_equal(result.rows_inserted, 64);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_LOST);
    assert_int_equal(pg_number(db, "select sum(lost_ns) from mserve.worker_ledger where estimated"),
                     20000);
    assert_int_equal(cost_of_rows(), 64 * 1000 + 63 * 32);
    proof_assert(db);
    free(b);
    free(over);
    queue_worker_close(&worker);
    queue_worker_close(&heir);
}

/* The same with checkpoints in the batch, one that is new, one that goes on and one that a row takes
 * over: each is taken over once, whether the worker asks again or another comes. */
static void test_a_reply_lost_with_checkpoints(void **state)
{
    (void)state;
    for (int is_buried = 0; is_buried < 2; is_buried++) {
        struct queue_worker worker, heir;
        struct queue_batch *b;
        struct commit_result result;
        struct job job;

        scene_clear(db);
        job = queue_job(db, "saved", 64, true);
        worker = worker_on_wire();
        b = queue_batch(&worker, &job, 0, 0, ROW_COMPLETED);
        queue_save(&worker, b, &job, 3, 1, 10, 500);
        queue_save(&worker, b, &job, 20, 1, 10, 600);
        assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
        free(b);
        b = queue_batch(&worker, &job, 0, 16, ROW_COMPLETED);
        queue_save(&worker, b, &job, 20, 1, 15, 70);
        queue_save(&worker, b, &job, 40, 1, 3, 8);
        wire_when(wire, WIRE_SERVER, 'C', "COMMIT", WIRE_CUT);
        assert_int_equal(queue_commit(&worker, b, &result), ERR_DATABASE);
        heir = is_buried ? successor() : queue_worker("idle", LEASE_LONG_MS, 0);
        assert_int_equal(queue_commit(&worker, b, &result), is_buried ? ERR_LOST : ERR_OK);
        assert_true(is_buried || result.landed_before);
        free(b);
        b = queue_batch(is_buried ? &heir : &worker, &job, 16, 48, ROW_COMPLETED);
        assert_int_equal(queue_commit(is_buried ? &heir : &worker, b, &result), ERR_OK);
        assert_int_equal(cost_of_rows(), 64 * 1000 + 63 * 32 + 500 + 600 + 70 + 8);
        assert_int_equal(pg_number(db, "select gpu_ns from mserve.results where line = 20"),
                         1020 + 670);
        assert_int_equal(pg_number(db, "select count(*) from mserve.checkpoints"), 0);
        assert_int_equal(pg_number(db, "select sum(lost_ns) from mserve.worker_ledger"), 0);
        proof_assert(db);
        free(b);
        queue_worker_close(&worker);
        queue_worker_close(&heir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_reply_lost_is_found_by_asking_again, set_up),
        cmocka_unit_test_setup(test_a_commit_broken_at_each_message, set_up),
        cmocka_unit_test_setup(test_a_reply_lost_and_the_worker_buried, set_up),
        cmocka_unit_test_setup(test_a_batch_lost_and_the_worker_buried, set_up),
        cmocka_unit_test_setup(test_a_reply_lost_with_checkpoints, set_up),
    };
    int failed;

    db = scene_open("protocol_reply");
    wire = wire_open();
    failed = cmocka_run_group_tests_name("protocol_reply", tests, NULL, NULL);
    wire_close(wire);
    scene_close(db);
    return failed;
}
