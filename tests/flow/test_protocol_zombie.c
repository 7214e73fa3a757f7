/*
 * test_protocol_zombie.c: workers that stop at any point, lose their lease while they sleep, and
 * wake up; what is taken from them is taken whole, and nothing follows.
 */
#include "sql/checkpoint.h"
#include "tests/flow/pg.h"
#include "tests/flow/proof.h"
#include "tests/flow/scene.h"
#include "tests/flow/wire.h"

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

enum { LEASE_MS = 250, LINES = 4096 };

static struct db *db;
static struct wire *wire;

static int set_up(void **state)
{
    (void)state;
    wire_disarm(wire);
    scene_clear(db);
    return 0;
}

static void await_rows(void)
{
    for (int i = 0; i < 6000 && scene_rows(db) == 0; i++)
        usleep(10000);
    assert_true(scene_rows(db) > 0);
}

/*
 * Buries and claims until it has everything; how often it had to after the lease ran out, and after it
 * had itself been connected for so long. Each time takes a lock time-out at most.
 */
static unsigned take_all(struct queue_worker *heir)
{
    unsigned late = 0;

    while (heir->partitions_count < QUEUE_PARTITIONS) {
        late += pg_number(heir->db,
                          "select count(*) from mserve.workers where name = 'zombie' and "
                          "closed_at is null and lease_until < clock_timestamp() and "
                          "(select backend_start from pg_stat_activity where pid = "
                          "pg_backend_pid()) < clock_timestamp() - lease_ms * interval '1 ms'") > 0;
        assert_int_equal(lease_bury_expired(heir->db, NULL), ERR_OK);
        queue_worker_claim(heir, QUEUE_PARTITIONS - heir->partitions_count);
        usleep(5000);
    }
    return late;
}

static void commit_all(struct queue_worker *worker, const struct job *job)
{
    struct queue_batch *b = queue_batch(worker, job, 0, 64, ROW_FAILED);
    struct commit_result result;

    assert_int_equal(queue_commit(worker, b, &result), ERR_OK);
    free(b);
}

/*
 * The process has been stopped. All it held changes hands within its lease and a lock time-out; when
 * it wakes it writes nothing, and hears that it is lost.
 */
static void assert_succeeded_and_fenced(pid_t pid, const struct job *job)
{
    struct queue_worker heir = queue_worker("heir", LEASE_LONG_MS, 0);
    unsigned late = take_all(&heir);
    int64_t before;
    int status;

    if (late > 2) /* what landed while it was waited for has renewed the lease, once */
        fail_msg("after the lease had run out it took %u burials", late);
    commit_all(&heir, job);
    before = scene_rows(db);
    wire_go(wire);
    assert_int_equal(kill(pid, SIGCONT), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(scene_rows(db), before);
    assert_int_equal(pg_number(db, "select count(*) from mserve.workers where name = 'zombie' and "
                                   "closed_why = 'lease_ran_out'"),
                     1);
    assert_int_equal(pg_number(db, "select count(*) from mserve.partitions p join mserve.workers w "
                                   "on w.worker = p.owner where name = 'heir'"),
                     QUEUE_PARTITIONS);
    proof_assert(db);
    queue_worker_close(&heir);
}

static void test_a_worker_stopped_at_any_moment(void **state)
{
    struct db_options options = pg_options();

    (void)state;
    srand(11);
    for (int i = 0; i < 6; i++) {
        struct job job;
        pid_t pid;

        scene_clear(db);
        job = queue_job(db, "stop", LINES, true);
        pid = scene_fork("zombie", LEASE_MS, &options, &job);
        await_rows();
        usleep((useconds_t)(rand() % 40000));
        assert_int_equal(kill(pid, SIGSTOP), 0);
        assert_succeeded_and_fenced(pid, &job);
    }
}

/* Before the batch, in the middle of its rows, before their end, and before it hears the reply. */
static void test_a_worker_stopped_at_each_point_of_a_commit(void **state)
{
    static const struct {
        enum wire_side side;
        char type;
        const char *begins;
        enum wire_action action;
    } points[] = {
        {WIRE_CLIENT, 'Q', "begin", WIRE_HOLD}, {WIRE_CLIENT, 'Q', "begin", WIRE_HOLD_HALF},
        {WIRE_SERVER, 'G', "", WIRE_HOLD}, /* the server is ready for the rows */
        {WIRE_CLIENT, 'd', "", WIRE_HOLD_HALF}, {WIRE_CLIENT, 'c', "", WIRE_HOLD},
        {WIRE_SERVER, 'C', "COPY", WIRE_HOLD},  {WIRE_SERVER, 'C', "COMMIT", WIRE_HOLD},
    };
    struct db_options options = wire_options(wire);

    (void)state;
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        struct job job;
        pid_t pid;

        scene_clear(db);
        job = queue_job(db, "points", LINES, true);
        pid = scene_fork("zombie", LEASE_MS, &options, &job);
        await_rows();
        wire_when(wire, points[i].side, points[i].type, points[i].begins, points[i].action);
        wire_wait(wire);
        assert_int_equal(kill(pid, SIGSTOP), 0);
        assert_succeeded_and_fenced(pid, &job);
    }
}

struct claimant {
    pthread_t thread;
    struct queue_worker worker;
    uint32_t buried;
};

static void *bury_and_claim(void *arg)
{
    struct claimant *claimant = arg;

    if (lease_bury_expired(claimant->worker.db, &claimant->buried) == ERR_OK)
        queue_worker_claim(&claimant->worker, 1);
    return NULL;
}

/* A worker with two partitions dies, and two find it at once: one burial, one tail, a half each. */
static void test_two_that_find_a_dead_worker_bury_it_once(void **state)
{
    struct job job = queue_job(db, "tail", 64, true);
    struct queue_worker dead = queue_worker("dead", LEASE_LONG_MS, 2);
    struct claimant claimants[] = {{.worker = queue_worker("a", LEASE_LONG_MS, 0)},
                                   {.worker = queue_worker("b", LEASE_LONG_MS, 0)}};
    struct queue_batch *b = queue_batch(&dead, &job, 0, 64, ROW_COMPLETED);
    struct commit_job of_job = {.job = job.job, .wip_ns = 500};
    struct db *blocker = pg_connect();
    struct commit_result result;

    (void)state;
    b->batch.books.wip_ns = 500;
    b->batch.books.held_ns += 500;
    b->batch.jobs = &of_job;
    b->batch.jobs_count = 1;
    assert_int_equal(queue_commit(&dead, b, &result), ERR_OK);
    assert_int_equal(lease_renew(dead.db, &dead.lease, dead.seq, b->batch.books.held_ns + 70),
                     ERR_OK);
    pg_do(db, "update mserve.partitions set owner = (select worker from mserve.workers "
              "where name = 'a') where owner is null"); /* only the dead one's come free */
    scene_expire(db, "dead");
    assert_int_equal(db_begin(blocker), ERR_OK);
    pg_do(blocker, "select from mserve.workers where name = 'dead' for update");
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&claimants[i].thread, NULL, bury_and_claim, &claimants[i]),
                         0);
    scene_await_blocked(db, 2);
    assert_int_equal(db_commit(blocker), ERR_OK);
    for (int i = 0; i < 2; i++)
        pthread_join(claimants[i].thread, NULL);

    assert_int_equal(claimants[0].buried + claimants[1].buried, 1);
    assert_int_equal(pg_number(db, "select count(*) from mserve.worker_ledger where estimated"), 1);
    assert_int_equal(pg_number(db, "select lost_ns from mserve.worker_ledger where estimated"),
                     570);
    assert_int_equal(pg_number(db, "select sum(lost_ns) from mserve.job_deltas"), 500);
    assert_int_equal(pg_number(db, "select count(*) from mserve.partitions where owner is null") +
                         claimants[0].worker.partitions_count +
                         claimants[1].worker.partitions_count,
                     2);
    proof_assert(db);
    for (int i = 0; i < 2; i++)
        queue_worker_close(&claimants[i].worker);
    queue_worker_close(&dead);
    db_close(blocker);
    free(b);
}

/* Locks a chunk of the job, so that a commit stops inside, holding its worker and partitions. */
static struct db *block_chunk(int32_t chunk)
{
    struct db *blocker = pg_connect();
    char statement[96];

    assert_int_equal(db_begin(blocker), ERR_OK);
    snprintf(statement, sizeof(statement), "select from mserve.chunks where chunk = %d for update",
             chunk);
    pg_do(blocker, statement);
    return blocker;
}

static void *leave(void *arg)
{
    struct queue_worker *worker = arg;

    assert_int_equal(lease_leave(worker->db, &worker->lease, 0, "error"), ERR_OK);
    return NULL;
}

/* Lines without a row, as the worker reads them after a claim. */
static uint32_t open_lines(const struct queue_worker *worker)
{
    static const int32_t parts[] = {0, 1, 2, 3};
    struct work_query query = {.topic = "t", .parts = parts, .parts_count = 4};
    struct arena arena = {0};
    struct work_chunk *work;
    uint32_t lines = 0;
    size_t count;

    assert_int_equal(work_open(worker->db, &query, &arena, &work, &count), ERR_OK);
    for (size_t i = 0; i < count; i++)
        lines += work[i].lines - work[i].done_count;
    arena_release(&arena);
    return lines;
}

/*
 * A burial waits for the commit that is in flight, and so does the claim behind it; what the
 * claimer reads after its claim has that commit's rows in it.
 */
static void test_a_claim_behind_a_commit_sees_what_it_wrote(void **state)
{
    struct job job = queue_job(db, "behind", 64, true);
    struct queue_worker zombie = queue_worker("zombie", LEASE_LONG_MS, 4);
    struct queue_worker heir = queue_worker("heir", LEASE_LONG_MS, 0);
    struct queue_batch *b = queue_batch(&zombie, &job, 0, 40, ROW_COMPLETED);
    struct db *blocker = block_chunk(2);
    struct scene_commit commit;
    struct arena arena = {0};
    struct checkpoint_row *rows;
    uint32_t count;
    pthread_t parent;

    (void)state;
    queue_save(&zombie, b, &job, 50, 1, 17, 250);
    scene_commit_start(&commit, &zombie, b);
    scene_await_blocked(db, 1);
    assert_int_equal(pthread_create(&parent, NULL, leave, &zombie), 0);
    scene_await_blocked(db, 2);
    queue_worker_claim(&heir, QUEUE_PARTITIONS);
    assert_int_equal(heir.partitions_count, 0);
    assert_int_equal(db_commit(blocker), ERR_OK);
    assert_int_equal(scene_commit_end(&commit), ERR_OK);
    pthread_join(parent, NULL);

    queue_worker_claim(&heir, QUEUE_PARTITIONS);
    assert_int_equal(heir.partitions_count, QUEUE_PARTITIONS);
    assert_int_equal(open_lines(&heir), 24);
    assert_int_equal(checkpoints_load(heir.db, &job.job, 48, 16, &arena, &rows, &count), ERR_OK);
    assert_int_equal(count, 1);
    assert_int_equal(rows[0].tokens, 17);
    assert_int_equal(rows[0].gpu_ns, 250);
    arena_release(&arena);
    proof_assert(db);
    db_close(blocker);
    queue_worker_close(&zombie);
    queue_worker_close(&heir);
    free(b);
}

/* Its lease ran out while its commit was in flight, and the commit landed: it has renewed. */
static void test_a_commit_that_lands_renews_the_lease(void **state)
{
    struct job job = queue_job(db, "renew", 64, true);
    struct db_options patient = pg_options();
    struct db_options impatient = pg_options();
    struct queue_worker worker;
    struct queue_batch *b;
    struct db *blocker = block_chunk(2);
    struct scene_commit commit;
    struct db *hasty;
    uint32_t buried = 9;

    (void)state;
    impatient.lock_timeout_ms = 200;
    assert_int_equal(db_open(&impatient, &hasty), ERR_OK);
    worker = scene_worker("slow", LEASE_LONG_MS, &patient);
    queue_worker_claim(&worker, QUEUE_PARTITIONS);
    b = queue_batch(&worker, &job, 0, 40, ROW_COMPLETED);
    scene_expire(db, "slow");
    scene_commit_start(&commit, &worker, b);
    scene_await_blocked(db, 1);
    assert_int_equal(lease_bury_expired(hasty, &buried), ERR_OK); /* it waits, and gives up */
    assert_int_equal(buried, 0);
    assert_int_equal(db_commit(blocker), ERR_OK);
    assert_int_equal(scene_commit_end(&commit), ERR_OK);
    assert_int_equal(lease_bury_expired(db, &buried), ERR_OK);
    assert_int_equal(buried, 0);
    assert_int_equal(scene_rows(db), 40);
    proof_assert(db);
    db_close(hasty);
    db_close(blocker);
    queue_worker_close(&worker);
    free(b);
}

/* Each call of a worker that was buried says so, and none changes anything. */
static void test_nothing_that_a_buried_worker_says_is_heard(void **state)
{
    struct job job = queue_job(db, "deaf", 64, true);
    struct queue_worker zombie = queue_worker("zombie", LEASE_LONG_MS, 2);
    struct queue_worker heir = queue_worker("heir", LEASE_LONG_MS, 0);
    struct queue_batch *b = queue_batch(&zombie, &job, 0, 64, ROW_COMPLETED);
    int32_t part = zombie.partitions[0].part;
    struct lease_partition claimed[4];
    struct commit_result result;
    uint32_t count;

    (void)state;
    scene_expire(db, "zombie");
    assert_int_equal(lease_bury_expired(db, &count), ERR_OK);
    assert_int_equal(count, 1);
    queue_worker_claim(&heir, 2);
    assert_int_equal(queue_commit(&zombie, b, &result), ERR_LOST);
    assert_int_equal(lease_renew(zombie.db, &zombie.lease, 0, 1000), ERR_LOST);
    assert_int_equal(lease_drain(zombie.db, &zombie.lease, 15000, "signal"), ERR_LOST);
    assert_int_equal(lease_release(zombie.db, &zombie.lease, "t", &part, 1), ERR_LOST);
    assert_int_equal(lease_claim(zombie.db, &zombie.lease, "t", 4, claimed, &count), ERR_LOST);
    assert_int_equal(lease_claim_one(zombie.db, &zombie.lease, "t", 3, claimed), ERR_LOST);
    assert_int_equal(lease_leave(zombie.db, &zombie.lease, 1000, "drained"), ERR_OK);
    assert_int_equal(pg_number(db, "select count(*) from mserve.partitions where owner is null"),
                     2);
    assert_int_equal(pg_number(db, "select count(*) from mserve.worker_ledger"), 0);
    assert_int_equal(pg_number(db, "select count(*) from mserve.workers where reported_ns > 0"), 0);
    assert_int_equal(scene_rows(db), 0);
    queue_worker_close(&zombie);
    queue_worker_close(&heir);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_worker_stopped_at_any_moment, set_up),
        cmocka_unit_test_setup(test_a_worker_stopped_at_each_point_of_a_commit, set_up),
        cmocka_unit_test_setup(test_two_that_find_a_dead_worker_bury_it_once, set_up),
        cmocka_unit_test_setup(test_a_claim_behind_a_commit_sees_what_it_wrote, set_up),
        cmocka_unit_test_setup(test_a_commit_that_lands_renews_the_lease, set_up),
        cmocka_unit_test_setup(test_nothing_that_a_buried_worker_says_is_heard, set_up),
    };
    int failed;

    db = scene_open("protocol_zombie");
    wire = wire_open();
    failed = cmocka_run_group_tests_name("protocol_zombie", tests, NULL, NULL);
    wire_close(wire);
    scene_close(db);
    return failed;
}
