/*
 * test_protocol_checkpoint.c: what becomes of a checkpoint and of its cost: it goes on in the next
 * checkpoint, in the request's row, or to the lost, in the same transaction.
 */
#include "scheduler/sweep.h"
#include "sql/checkpoint.h"
#include "tests/flow/history.h"
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

static struct queue_batch *nothing(const struct queue_worker *worker, const struct job *job)
{
    return queue_batch(worker, job, 0, 0, ROW_COMPLETED);
}

static struct commit_result commit(struct queue_worker *worker, struct queue_batch *b)
{
    struct commit_result result;

    assert_int_equal(queue_commit(worker, b, &result), ERR_OK);
    free(b);
    return result;
}

/* One commit of one checkpoint. */
static void save(struct queue_worker *worker, const struct job *job, uint32_t line,
                 uint32_t attempt, uint32_t tokens, uint64_t gpu_ns)
{
    struct queue_batch *b = nothing(worker, job);

    queue_save(worker, b, job, line, attempt, tokens, gpu_ns);
    commit(worker, b);
}

static void assert_saved(const struct job *job, uint32_t line, uint32_t attempt, uint32_t tokens,
                         uint64_t gpu_ns)
{
    struct arena arena = {0};
    struct checkpoint_row *rows;
    uint32_t count;
    char state[24];

    assert_int_equal(checkpoints_load(db, &job->job, line, 1, &arena, &rows, &count), ERR_OK);
    assert_int_equal(count, 1);
    assert_int_equal(rows[0].line, line);
    assert_int_equal(rows[0].attempt, attempt);
    assert_int_equal(rows[0].tokens, tokens);
    assert_int_equal(rows[0].gpu_ns, gpu_ns);
    snprintf(state, sizeof(state), "%u:%u", line, tokens);
    assert_int_equal(rows[0].state.len, strlen(state));
    assert_memory_equal(rows[0].state.data, state, strlen(state));
    arena_release(&arena);
}

static int64_t ledger(const char *columns)
{
    char query[160];

    snprintf(query, sizeof(query), "select coalesce(sum(%s), 0) from mserve.worker_ledger",
             columns);
    return pg_number(db, query);
}

static int64_t saved_count(void)
{
    return pg_number(db, "select count(*) from mserve.checkpoints");
}

static void bury(const char *name)
{
    uint32_t buried;

    scene_expire(db, name);
    assert_int_equal(lease_bury_expired(db, &buried), ERR_OK);
    assert_int_equal(buried, 1);
}

/* Each newer one replaces the one before and adds to its cost. */
static void test_a_checkpoint_grows(void **state)
{
    struct job job = queue_job(db, "grow", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);

    (void)state;
    save(&worker, &job, 5, 1, 10, 700);
    assert_saved(&job, 5, 1, 10, 700);
    save(&worker, &job, 5, 1, 30, 500);
    assert_saved(&job, 5, 1, 30, 1200);
    assert_int_equal(saved_count(), 1);
    assert_int_equal(ledger("handed_over_ns"), 700 + 1200);
    assert_int_equal(ledger("taken_over_ns"), 700);
    assert_int_equal(pg_number(db, "select count(*) from mserve.job_deltas"), 0);
    proof_assert(db);
    queue_worker_close(&worker);
}

/* Whether it completed or failed, a request's row costs what all its attempts cost. */
static void test_a_row_takes_its_checkpoint_over(void **state)
{
    struct job job = queue_job(db, "row", 64, true);
    struct queue_worker first = queue_worker("first", LEASE_LONG_MS, 4), second;
    struct queue_batch *b;

    (void)state;
    save(&first, &job, 3, 1, 10, 700);
    save(&first, &job, 20, 1, 4, 300);
    bury("first");
    second = queue_worker("second", LEASE_LONG_MS, 4);
    b = queue_batch(&second, &job, 3, 1, ROW_COMPLETED);
    b->rows[0].attempt = 2;
    b->rows[0].resumed_tokens = 10;
    b->rows[0].recompute_ns = 44;
    b->rows[0].numerics_changed = true;
    b->batch.sampled = 9;
    commit(&second, b);
    commit(&second, queue_batch(&second, &job, 20, 1, ROW_FAILED));
    assert_int_equal(saved_count(), 0);
    assert_int_equal(pg_number(db, "select gpu_ns from mserve.results where line = 3 and "
                                   "attempt = 2 and resumed_tokens = 10 and recompute_ns = 44 and "
                                   "numerics_changed"),
                     700 + 1003);
    assert_int_equal(pg_number(db, "select gpu_ns from mserve.results where line = 20 and not "
                                   "numerics_changed and resumed_tokens = 0"),
                     300 + 1020);
    assert_int_equal(ledger("taken_over_ns"), 1000);
    assert_int_equal(ledger("rows_ns"), 1000 + 1003 + 1020);
    assert_int_equal(ledger("lost_ns"), 0);
    assert_int_equal(ledger("sampled"), 9);
    assert_int_equal(pg_number(db, "select sum(rows_ns) from mserve.job_deltas"),
                     1000 + 1003 + 1020);
    proof_assert(db);
    queue_worker_close(&first);
    queue_worker_close(&second);
}

/* A line that is passed over leaves no checkpoint, and what it had cost is lost. */
static void test_what_is_passed_over_is_lost(void **state)
{
    static const struct {
        enum row_status status;
        const char *attempts;
    } ends[] = {{ROW_CANCELLED, "select sum(gpu_ns) from mserve.attempts where why = 'cancelled' "
                                "and line = 7 and attempt = 1 and tokens_lost = 12"},
                {ROW_EXPIRED, "select sum(gpu_ns) from mserve.attempts where why = 'deadline' "
                              "and line = 7 and attempt = 1 and tokens_lost = 12"}};

    (void)state;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        struct queue_worker worker;
        struct job job;

        scene_clear(db);
        job = queue_job(db, "over", 64, true);
        worker = queue_worker("w", LEASE_LONG_MS, 4);
        save(&worker, &job, 7, 1, 12, 900);
        commit(&worker, queue_batch(&worker, &job, 0, 64, ends[i].status));
        assert_int_equal(saved_count(), 0);
        assert_int_equal(pg_number(db, ends[i].attempts), 900);
        assert_int_equal(pg_number(db, "select count(*) from mserve.attempts"), 1);
        assert_int_equal(pg_number(db, "select gpu_ns from mserve.results where line = 7"), 0);
        assert_int_equal(pg_number(db, "select sum(lost_ns) from mserve.job_deltas"), 900);
        assert_int_equal(ledger("lost_ns"), 900);
        proof_assert(db);
        queue_worker_close(&worker);
    }
}

/* Nobody holds the partition any more: the scheduler, a worker without a device, does the same. */
static void test_the_sweep_passes_over_checkpoints(void **state)
{
    struct job job = queue_job(db, "sweep", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct sweep_options options = {.db = pg_options(), .lease_ms = 60000, .currency = "EUR"};
    enum job_state now;
    uint64_t rows;

    (void)state;
    save(&worker, &job, 7, 2, 12, 900);
    save(&worker, &job, 40, 1, 3, 80);
    bury("w");
    assert_int_equal(job_cancel(db, &job.job, &now), ERR_OK);
    assert_int_equal(sweep_run(db, &options, NULL, &rows), ERR_OK);
    assert_int_equal(rows, 64);
    assert_int_equal(saved_count(), 0);
    assert_int_equal(pg_number(db, "select sum(gpu_ns) from mserve.attempts where why = "
                                   "'cancelled' and (line, attempt) in ((7, 2), (40, 1))"),
                     980);
    assert_int_equal(pg_number(db, "select sum(l.taken_over_ns - l.lost_ns) from "
                                   "mserve.worker_ledger l join mserve.workers w using (worker) "
                                   "where w.device = 'none' and held_ns = 0"),
                     0);
    pg_do(db, "select * from mserve.tick(3600000)");
    assert_int_equal(pg_number(db, "select lost_ns from mserve.jobs where state = 'cancelled'"),
                     980);
    proof_assert(db);
    queue_worker_close(&worker);
}

/* The line has its row, or gets it in the same batch: nothing is written, the time is lost. */
static void test_a_checkpoint_of_a_line_with_a_row_is_late(void **state)
{
    struct job job = queue_job(db, "late", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b;
    struct commit_result result;

    (void)state;
    commit(&worker, queue_batch(&worker, &job, 0, 8, ROW_COMPLETED));
    b = queue_batch(&worker, &job, 8, 2, ROW_COMPLETED);
    queue_save(&worker, b, &job, 2, 1, 5, 60);
    queue_save(&worker, b, &job, 9, 1, 6, 7);
    queue_save(&worker, b, &job, 10, 1, 7, 500);
    result = commit(&worker, b);
    assert_int_equal(result.rows_inserted, 2);
    assert_int_equal(result.rows_duplicate, 0);
    assert_int_equal(result.checkpoints_late, 2);
    assert_saved(&job, 10, 1, 7, 500);
    assert_int_equal(saved_count(), 1);
    assert_int_equal(pg_number(db, "select sum(gpu_ns) from mserve.attempts where why = "
                                   "'duplicate' and line in (2, 9)"),
                     67);
    proof_assert(db);
    queue_worker_close(&worker);
}

/* One that cannot be used is deleted; the request starts over, in the same batch if need be. */
static void test_a_checkpoint_that_cannot_be_used(void **state)
{
    struct job job = queue_job(db, "bad", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b;

    (void)state;
    save(&worker, &job, 1, 3, 10, 100);
    save(&worker, &job, 2, 1, 20, 200);
    save(&worker, &job, 33, 1, 30, 300);
    b = queue_batch(&worker, &job, 2, 1, ROW_COMPLETED);
    queue_discard(&worker, b, &job, 1);
    queue_discard(&worker, b, &job, 2);
    queue_discard(&worker, b, &job, 33);
    queue_discard(&worker, b, &job, 34); /* of which there is none */
    queue_save(&worker, b, &job, 33, 2, 1, 9);
    commit(&worker, b);
    assert_int_equal(saved_count(), 1);
    assert_saved(&job, 33, 2, 1, 9);
    assert_int_equal(pg_number(db, "select gpu_ns from mserve.results where line = 2"), 1002);
    assert_int_equal(pg_number(db, "select sum(gpu_ns) from mserve.attempts where why = "
                                   "'unusable' and (line, attempt, tokens_lost) in "
                                   "((1, 3, 10), (2, 1, 20), (33, 1, 30))"),
                     600);
    assert_int_equal(pg_number(db, "select count(*) from mserve.attempts"), 3);
    assert_int_equal(ledger("lost_ns"), 600);
    proof_assert(db);
    queue_worker_close(&worker);
}

/* A batch with a checkpoint in a lost partition leaves nothing, and that partition's checkpoints
 * are there for its next holder. */
static void test_a_fenced_partition_keeps_its_checkpoints(void **state)
{
    struct job job = queue_job(db, "fence", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4),
                        heir = queue_worker("h", LEASE_LONG_MS, 0);
    struct queue_batch *b;
    int32_t part = worker.partitions[1].part;
    struct commit_result result;
    uint32_t line = 0;

    (void)state;
    while ((job.partition_first + line / QUEUE_CHUNK_LINES) % QUEUE_PARTITIONS != (uint32_t)part)
        line += QUEUE_CHUNK_LINES;
    save(&worker, &job, line, 1, 10, 100);
    b = nothing(&worker, &job);
    queue_save(&worker, b, &job, line, 1, 20, 70);
    queue_save(&worker, b, &job, (line + QUEUE_CHUNK_LINES) % 64, 1, 5, 30);
    assert_int_equal(lease_release(worker.db, &worker.lease, "t", &part, 1), ERR_OK);
    queue_worker_claim(&heir, 1);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_AGAIN);
    assert_int_equal(result.fenced_count, 1);
    assert_int_equal(saved_count(), 1);
    assert_saved(&job, line, 1, 10, 100);
    save(&heir, &job, line, 2, 25, 40);
    assert_saved(&job, line, 2, 25, 140);
    bury("w"); /* what another goes on with is no attempt that it kept */
    assert_int_equal(pg_number(db, "select count(*) from mserve.attempts"), 0);
    bury("h");
    assert_int_equal(pg_number(db, "select kept_ns from mserve.attempts where attempt = 2 and "
                                   "tokens_kept = 15 and why = 'vanished'"),
                     40);
    proof_assert(db);
    queue_worker_close(&worker);
    queue_worker_close(&heir);
    free(b);
}

/* A chunk that is not where the batch says cannot be written to, also not by checkpoints alone. */
static void test_a_checkpoint_outside_the_fence_is_a_mistake(void **state)
{
    struct job job = queue_job(db, "outside", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b = nothing(&worker, &job);
    struct commit_result result;

    (void)state;
    queue_save(&worker, b, &job, 5, 1, 10, 100);
    b->chunks[0].partition = (b->chunks[0].partition + 1) % QUEUE_PARTITIONS;
    assert_int_equal(queue_commit(&worker, b, &result), ERR_INTERNAL);
    assert_int_equal(saved_count(), 0);
    queue_worker_close(&worker);
    free(b);
}

/* What it had under way is lost, by job; what its checkpoints hold is not, and both stand there. */
static void test_a_burial_says_what_was_kept(void **state)
{
    struct job job = queue_job(db, "burial", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct commit_job of_job = {.job = job.job, .wip_ns = 55};
    struct queue_batch *b = nothing(&worker, &job);

    (void)state;
    queue_save(&worker, b, &job, 5, 1, 10, 100);
    queue_save(&worker, b, &job, 40, 2, 30, 600);
    b->batch.jobs = &of_job;
    b->batch.jobs_count = 1;
    b->batch.books.wip_ns = 55;
    b->batch.books.held_ns += 55;
    commit(&worker, b);
    assert_int_equal(lease_renew(worker.db, &worker.lease, worker.seq, 755 + 20), ERR_OK);
    bury("w");
    assert_int_equal(saved_count(), 2);
    assert_int_equal(pg_number(db, "select count(*) from mserve.attempts where why = 'vanished' "
                                   "and estimated and gpu_ns = 0 and tokens_lost is null and "
                                   "(line, attempt, tokens_kept, kept_ns) in ((5, 1, 10, 100), "
                                   "(40, 2, 30, 600))"),
                     2);
    assert_int_equal(pg_number(db, "select gpu_ns from mserve.attempts where line is null and why "
                                   "= 'vanished' and estimated"),
                     55);
    assert_int_equal(ledger("lost_ns"), 55 + 20);
    proof_assert(db);
    queue_worker_close(&worker);
}

/* A worker that was asked to go and saved everything has lost nothing, and it is exact. */
static void test_a_drained_worker_kept_everything(void **state)
{
    struct job job = queue_job(db, "drain", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);

    (void)state;
    save(&worker, &job, 5, 1, 10, 100);
    assert_int_equal(lease_leave(worker.db, &worker.lease, 100, "drained"), ERR_OK);
    assert_int_equal(pg_number(db, "select kept_ns from mserve.attempts where why = 'preempted' "
                                   "and not estimated and tokens_lost = 0 and tokens_kept = 10"),
                     100);
    assert_int_equal(pg_number(db, "select count(*) from mserve.attempts"), 1);
    assert_int_equal(ledger("lost_ns"), 0);
    proof_assert(db);
    queue_worker_close(&worker);
}

/* It had told of one attempt itself, with what it had lost: the burial tells of the others. */
static void test_an_attempt_is_told_of_once(void **state)
{
    struct job job = queue_job(db, "once", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct commit_attempt attempt = {.job = job.job,
                                     .line = 5,
                                     .gpu_ns = 7,
                                     .why = ATTEMPT_PREEMPTED,
                                     .attempt = 1,
                                     .tokens_kept = 10,
                                     .tokens_lost = 1,
                                     .kept_ns = 100};
    struct queue_batch *b = nothing(&worker, &job);

    (void)state;
    queue_save(&worker, b, &job, 5, 1, 10, 100);
    queue_save(&worker, b, &job, 6, 1, 3, 40);
    b->batch.attempts = &attempt;
    b->batch.attempts_count = 1;
    b->batch.books.held_ns += 7;
    commit(&worker, b);
    assert_int_equal(lease_leave(worker.db, &worker.lease, 147, "drained"), ERR_OK);
    assert_int_equal(pg_number(db, "select count(*) from mserve.attempts where why = 'preempted'"),
                     2);
    assert_int_equal(pg_number(db, "select sum(kept_ns) from mserve.attempts"), 140);
    proof_assert(db);
    queue_worker_close(&worker);
}

/* The database forgets a commit with a checkpoint: the heir goes on from the one before, and what
 * the forgotten one had cost is lost. */
static void test_a_checkpoint_that_was_lost_in_a_failover(void **state)
{
    struct job job = queue_job(db, "failover", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4), heir;
    struct queue_batch *b;
    struct commit_result result;

    (void)state;
    save(&worker, &job, 5, 1, 10, 100);
    history_mark(db);
    save(&worker, &job, 5, 1, 30, 400);
    b = nothing(&worker, &job);
    queue_save(&worker, b, &job, 5, 1, 40, 50);
    history_go_back(db);
    history_reconnect(&worker);
    assert_int_equal(queue_commit(&worker, b, &result), ERR_LOST);
    assert_int_equal(lease_leave(worker.db, &worker.lease, 550, "history"), ERR_OK);
    assert_saved(&job, 5, 1, 10, 100);
    heir = queue_worker("heir", LEASE_LONG_MS, 4);
    commit(&heir, queue_batch(&heir, &job, 5, 1, ROW_COMPLETED));
    assert_int_equal(pg_number(db, "select gpu_ns from mserve.results"), 100 + 1005);
    assert_int_equal(ledger("lost_ns"), 450);
    assert_int_equal(ledger("held_ns"), 550 + 1005);
    proof_assert(db);
    queue_worker_close(&worker);
    queue_worker_close(&heir);
    free(b);
}

/* A row that cannot be stored is found by halving; the checkpoints of the batch are saved with it. */
static void test_checkpoints_beside_a_row_that_cannot_be_stored(void **state)
{
    struct job job = queue_job(db, "halves", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b;
    struct commit_result result;

    (void)state;
    save(&worker, &job, 9, 1, 4, 300);
    b = queue_batch(&worker, &job, 0, 16, ROW_COMPLETED);
    b->rows[9].response = SLICE("{\"torn\": ");
    queue_save(&worker, b, &job, 30, 1, 5, 60);
    result = commit(&worker, b);
    assert_int_equal(result.rows_unstorable, 1);
    assert_int_equal(pg_number(db, "select gpu_ns from mserve.results where status = 'failed'"),
                     300 + 1009);
    assert_saved(&job, 30, 1, 5, 60);
    assert_int_equal(saved_count(), 1);
    proof_assert(db);
    queue_worker_close(&worker);
}

/* Any bytes, none and many, come back as they were; only the lines that were asked for. */
static void test_states_come_back_as_they_were(void **state)
{
    enum { BYTES = 70000 };
    struct job job = queue_job(db, "bytes", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b = nothing(&worker, &job);
    char *bytes = malloc(BYTES);
    struct arena arena = {0};
    struct checkpoint_row *rows;
    uint32_t count;

    (void)state;
    for (int i = 0; i < BYTES; i++)
        bytes[i] = (char)(i * 7 + i / 251);
    queue_save(&worker, b, &job, 15, 1, 1, 1);
    queue_save(&worker, b, &job, 16, 1, 1, 2);
    queue_save(&worker, b, &job, 31, 7, 2, 3);
    queue_save(&worker, b, &job, 32, 1, 1, 4);
    b->saves[1].state = (struct slice){NULL, 0};
    b->saves[2].state = (struct slice){bytes, BYTES};
    commit(&worker, b);
    assert_int_equal(checkpoints_load(db, &job.job, 16, 16, &arena, &rows, &count), ERR_OK);
    assert_int_equal(count, 2);
    assert_int_equal(rows[0].line, 16);
    assert_int_equal(rows[0].state.len, 0);
    assert_int_equal(rows[1].line, 31);
    assert_int_equal(rows[1].attempt, 7);
    assert_true(uuid_equal(rows[1].worker, worker.lease.worker));
    assert_int_equal(rows[1].state.len, BYTES);
    assert_memory_equal(rows[1].state.data, bytes, BYTES);
    arena_release(&arena);
    queue_worker_close(&worker);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_checkpoint_grows, set_up),
        cmocka_unit_test_setup(test_a_row_takes_its_checkpoint_over, set_up),
        cmocka_unit_test_setup(test_what_is_passed_over_is_lost, set_up),
        cmocka_unit_test_setup(test_the_sweep_passes_over_checkpoints, set_up),
        cmocka_unit_test_setup(test_a_checkpoint_of_a_line_with_a_row_is_late, set_up),
        cmocka_unit_test_setup(test_a_checkpoint_that_cannot_be_used, set_up),
        cmocka_unit_test_setup(test_a_fenced_partition_keeps_its_checkpoints, set_up),
        cmocka_unit_test_setup(test_a_checkpoint_outside_the_fence_is_a_mistake, set_up),
        cmocka_unit_test_setup(test_a_burial_says_what_was_kept, set_up),
        cmocka_unit_test_setup(test_a_drained_worker_kept_everything, set_up),
        cmocka_unit_test_setup(test_an_attempt_is_told_of_once, set_up),
        cmocka_unit_test_setup(test_a_checkpoint_that_was_lost_in_a_failover, set_up),
        cmocka_unit_test_setup(test_checkpoints_beside_a_row_that_cannot_be_stored, set_up),
        cmocka_unit_test_setup(test_states_come_back_as_they_were, set_up),
    };
    int failed;

    db = scene_open("protocol_checkpoint");
    failed = cmocka_run_group_tests_name("protocol_checkpoint", tests, NULL, NULL);
    scene_close(db);
    return failed;
}
