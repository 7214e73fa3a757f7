/* test_lease.c: leases, claims, shares, burials, and what work a holder sees. */
#include "tests/flow/pg.h"
#include "tests/flow/queue.h"

#include <setjmp.h>
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

static int set_up(void **state)
{
    (void)state;
    queue_clear(db);
    return 0;
}

static uint32_t share(struct queue_worker *worker)
{
    uint32_t mine, all;

    assert_int_equal(lease_share(worker->db, &worker->lease, "t", &mine, &all), ERR_OK);
    assert_int_equal(all, QUEUE_PARTITIONS);
    return mine;
}

/* Four partitions: four for one, two each for two, 2 + 1 + 1 for three; who drains has none. */
static void test_live_workers_share_to_the_last_partition(void **state)
{
    struct queue_worker a = queue_worker("a", LEASE_LONG_MS, 0), b, c;

    (void)state;
    assert_int_equal(share(&a), 4);
    b = queue_worker("b", LEASE_LONG_MS, 0);
    assert_int_equal(share(&a) + share(&b), 4);
    assert_int_equal(share(&a), 2);
    c = queue_worker("c", LEASE_LONG_MS, 0);
    assert_int_equal(share(&a) + share(&b) + share(&c), 4);
    assert_in_range(share(&c), 1, 2);
    assert_int_equal(lease_drain(b.db, &b.lease, 15000, "signal"), ERR_OK);
    assert_int_equal(share(&b), 0);
    assert_int_equal(share(&a), 2);
    pg_do(db, "update mserve.workers set lease_until = '-infinity' where name = 'c'");
    assert_int_equal(share(&a), 4);
    queue_worker_close(&a);
    queue_worker_close(&b);
    queue_worker_close(&c);
}

/* How the host was bought, and what it would cost on demand, where the settings say so. */
static void test_a_registration_says_how_the_host_was_bought(void **state)
{
    static const struct slice topic = {"t", 1};
    struct lease_spec spec = {.name = "said",
                              .host = "test",
                              .pid = 1,
                              .topics = &topic,
                              .topics_count = 1,
                              .device = "cpu",
                              .price_per_hour = 1.1,
                              .price_on_demand_per_hour = 3.3,
                              .currency = "EUR",
                              .capacity = "spot",
                              .lease_ms = LEASE_LONG_MS};
    struct lease lease;

    (void)state;
    assert_int_equal(lease_register(db, &spec, &lease), ERR_OK);
    spec.name = "unsaid";
    spec.price_on_demand_per_hour = 0;
    spec.capacity = "";
    assert_int_equal(lease_register(db, &spec, &lease), ERR_OK);
    assert_int_equal(pg_number(db, "select count(*) from mserve.workers where name = 'said' and "
                                   "capacity = 'spot' and price_on_demand_per_hour = 3.3"),
                     1);
    assert_int_equal(pg_number(db, "select count(*) from mserve.workers where name = 'unsaid' and "
                                   "capacity is null and price_on_demand_per_hour is null"),
                     1);
}

/* Each partition has one owner; each claim raises its epoch and draws a new token. */
static void test_a_partition_is_claimed_only_when_free(void **state)
{
    struct queue_worker a = queue_worker("a", LEASE_LONG_MS, 3),
                        b = queue_worker("b", LEASE_LONG_MS, 4);
    struct lease_partition again;
    struct commit_partition before = a.partitions[0];
    int32_t part = before.part;

    (void)state;
    assert_int_equal(a.partitions_count, 3);
    assert_int_equal(b.partitions_count, 1);
    assert_int_equal(lease_claim_one(b.db, &b.lease, "t", part, &again), ERR_AGAIN);
    assert_int_equal(lease_release(b.db, &b.lease, "t", &part, 1), ERR_OK); /* not its own */
    assert_int_equal(lease_claim_one(b.db, &b.lease, "t", part, &again), ERR_AGAIN);
    assert_int_equal(lease_release(a.db, &a.lease, "t", &part, 1), ERR_OK);
    assert_int_equal(lease_claim_one(b.db, &b.lease, "t", part, &again), ERR_OK);
    assert_true(again.epoch == before.epoch + 1);
    assert_true(again.token != before.token);
    queue_worker_close(&a);
    queue_worker_close(&b);
}

/* Many claim at once: every partition ends with one owner, and nobody waits for anybody. */
static void test_claimers_do_not_get_the_same_partition(void **state)
{
    int status, total = 0;

    (void)state;
    for (int i = 0; i < 6; i++) {
        pid_t pid = fork();

        if (pid == 0)
            _exit((int)queue_worker("w", LEASE_LONG_MS, 4).partitions_count);
    }
    for (int i = 0; i < 6; i++) {
        assert_true(wait(&status) > 0);
        assert_true(WIFEXITED(status));
        total += WEXITSTATUS(status);
    }
    assert_int_equal(total, 4);
    assert_int_equal(
        pg_number(db, "select count(*) from mserve.partitions where owner is not null"), 4);
}

/* Short ones, so that a server that has just started makes no difference. */
static const char run_out[] =
    "update mserve.workers set lease_until = clock_timestamp() - interval '1 s', lease_ms = 1";

static void test_only_a_lease_that_ran_out_is_buried(void **state)
{
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 2);
    uint32_t count;

    (void)state;
    assert_int_equal(lease_bury_expired(db, &count), ERR_OK);
    assert_int_equal(count, 0);
    pg_do(db, run_out);
    assert_int_equal(lease_renew(worker.db, &worker.lease, 0, 0),
                     ERR_OK); /* it was late, and lives */
    assert_int_equal(lease_bury_expired(db, &count), ERR_OK);
    assert_int_equal(count, 0);
    pg_do(db, run_out);
    assert_int_equal(lease_bury_expired(db, &count), ERR_OK);
    assert_int_equal(count, 1);
    assert_int_equal(lease_renew(worker.db, &worker.lease, 0, 0), ERR_LOST);
    assert_int_equal(lease_bury_expired(db, &count), ERR_OK);
    assert_int_equal(count, 0);
    queue_worker_close(&worker);
}

/* Who has just connected cannot know whether the others were able to: it buries nobody before they had
 * a lease's time, however long the server has been up. */
static void test_a_new_connection_buries_nobody_at_once(void **state)
{
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 0);
    struct db *fresh;
    uint32_t count;

    (void)state;
    pg_do(db, "update mserve.workers set lease_until = clock_timestamp() - interval '1 s', "
              "lease_ms = 1000");
    while (pg_number(db, "select (pg_postmaster_start_time() < clock_timestamp() - interval '2 s')"
                         "::int::bigint") == 0)
        usleep(50000);
    fresh = pg_connect();
    assert_int_equal(lease_bury_expired(fresh, &count), ERR_OK);
    assert_int_equal(count, 0);
    for (int i = 0; i < 600 && count == 0; i++) {
        usleep(50000);
        assert_int_equal(lease_bury_expired(fresh, &count), ERR_OK);
    }
    assert_int_equal(count, 1);
    db_close(fresh);
    queue_worker_close(&worker);
}

/* A worker with all partitions and work in progress dies, two others bury it: one tail, one death. */
static void test_one_death_has_one_tail(void **state)
{
    struct job job = queue_job(db, "tail", 64, true);
    struct queue_worker dead = queue_worker("dead", LEASE_LONG_MS, 4), a, b;
    struct queue_batch *batch = queue_batch(&dead, &job, 0, 10, ROW_COMPLETED);
    struct commit_job of_job = {job.job, 500, 0, 0};
    struct commit_result result;
    uint32_t count[2];

    (void)state;
    batch->batch.books.held_ns += 500;
    batch->batch.books.wip_ns = 500;
    batch->batch.jobs = &of_job;
    batch->batch.jobs_count = 1;
    assert_int_equal(queue_commit(&dead, batch, &result), ERR_OK);
    assert_int_equal(lease_renew(dead.db, &dead.lease, 1, batch->batch.books.held_ns + 40), ERR_OK);
    pg_do(db, run_out);
    a = queue_worker("a", LEASE_LONG_MS, 0);
    b = queue_worker("b", LEASE_LONG_MS, 0);
    assert_int_equal(lease_bury_expired(a.db, &count[0]), ERR_OK);
    assert_int_equal(lease_bury_expired(b.db, &count[1]), ERR_OK);
    queue_worker_claim(&a, 2);
    queue_worker_claim(&b, 2);
    assert_int_equal(count[0] + count[1], 1);
    assert_int_equal(a.partitions_count + b.partitions_count, 4);
    assert_int_equal(pg_number(db, "select sum(lost_ns) from mserve.worker_ledger"), 540);
    assert_int_equal(pg_number(db, "select count(*) from mserve.worker_ledger where estimated"), 1);
    assert_int_equal(pg_number(db, "select sum(lost_ns) from mserve.job_deltas"), 500);
    assert_int_equal(pg_number(db, "select unexplained_ns + jobs_differ + workers_differ from "
                                   "mserve.ledger_check"),
                     0);
    free(batch);
    queue_worker_close(&dead);
    queue_worker_close(&a);
    queue_worker_close(&b);
}

/* The chunks that a holder of these partitions sees. */
static size_t see(struct arena *arena, const struct work_query *query, struct work_chunk **ret)
{
    size_t count;

    assert_int_equal(work_open(db, query, arena, ret, &count), ERR_OK);
    return count;
}

static bool sees_job(const struct work_chunk *chunks, size_t count, const struct job *job)
{
    for (size_t i = 0; i < count; i++)
        if (uuid_equal(chunks[i].job, job->job))
            return true;
    return false;
}

/* A job of a hundred chunks does not hide the one of two that came after it. */
static void test_a_small_job_is_seen_behind_a_long_one(void **state)
{
    static const int32_t all[] = {0, 1, 2, 3};
    struct job big = queue_job(db, "big", 1600, true), small = queue_job(db, "small", 20, true);
    struct job open = queue_job(db, "open", 32, false);
    struct work_query query = {.topic = "t", .parts = all, .parts_count = 4, .chunks_per_job = 2};
    struct arena arena = {0};
    struct work_chunk *chunks;
    size_t count = see(&arena, &query, &chunks);

    (void)state;
    assert_int_equal(count, 4 * 2 + 2);
    assert_true(sees_job(chunks, count, &big));
    assert_true(sees_job(chunks, count, &small));
    assert_false(sees_job(chunks, count, &open)); /* not sealed: not accepted */
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(chunks[i].tenant, "default");
        assert_string_equal(chunks[i].endpoint, "/v1/completions");
        assert_int_equal(chunks[i].wish, WORK_RUN);
        assert_null(chunks[i].custom_ids.data);
        assert_int_equal(chunks[i].first_line, chunks[i].chunk * 16);
    }
    query.parts_count = 1;
    count = see(&arena, &query, &chunks);
    assert_in_range(count, 2, 3);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(chunks[i].part, 0);
    arena_release(&arena);
}

/* Of many jobs the oldest and the newest are seen: neither kind hides the other. */
static void test_many_jobs_hide_neither_the_first_nor_the_last(void **state)
{
    static const int32_t all[] = {0, 1, 2, 3};
    struct work_query query = {.topic = "t", .parts = all, .parts_count = 4, .jobs_per_tenant = 4};
    struct job jobs[12];
    struct arena arena = {0};
    struct work_chunk *chunks;
    size_t count;

    (void)state;
    for (int i = 0; i < 12; i++) {
        char key[16];

        snprintf(key, sizeof(key), "many-%d", i);
        jobs[i] = queue_job(db, key, 16, true);
        usleep(2000); /* ids made in one millisecond have no order */
    }
    count = see(&arena, &query, &chunks);
    assert_int_equal(count, 4);
    for (int i = 0; i < 12; i++)
        assert_int_equal(sees_job(chunks, count, &jobs[i]), i < 2 || i >= 10);
    arena_release(&arena);
}

/* What is in hand or done is not seen; the bits of the rest say which lines are open. */
static void test_chunks_in_hand_and_lines_done_are_known(void **state)
{
    static const int32_t all[] = {0, 1, 2, 3};
    struct job job = queue_job(db, "hand", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *batch = queue_batch(&worker, &job, 14, 20, ROW_COMPLETED);
    struct work_in_hand in_hand = {job.job, 3};
    struct work_query query = {
        .topic = "t", .parts = all, .parts_count = 4, .in_hand = &in_hand, .in_hand_count = 1};
    struct commit_result result;
    struct arena arena = {0};
    struct work_chunk *chunks;

    (void)state;
    assert_int_equal(queue_commit(&worker, batch, &result), ERR_OK); /* lines 14 .. 33 */
    assert_int_equal(see(&arena, &query, &chunks), 2);
    assert_int_equal(chunks[0].chunk, 0);
    assert_int_equal(chunks[0].done_count, 2);
    assert_int_equal(chunks[0].done_map[0], 0);
    assert_int_equal(chunks[0].done_map[1], 0x03);
    assert_int_equal(chunks[1].chunk, 2);
    assert_int_equal(chunks[1].done_map[0], 0xc0);
    arena_release(&arena);
    free(batch);
    queue_worker_close(&worker);
}

/* A wish is seen with the names of the lines, for missing chunks too, which else are passed over. */
static void test_wishes_and_missing_chunks(void **state)
{
    static const int32_t all[] = {0, 1, 2, 3};
    struct job a = queue_job(db, "a", 32, true), b = queue_job(db, "b", 16, true);
    struct work_query query = {.topic = "t", .parts = all, .parts_count = 4};
    struct uuid jobs[] = {a.job, b.job, {{1}}};
    enum work_wish wishes[3];
    struct arena arena = {0};
    struct work_chunk *chunks;
    enum job_state now;

    (void)state;
    pg_do(db, "update mserve.chunks set missing = true where chunk = 1");
    assert_int_equal(see(&arena, &query, &chunks), 2);
    assert_int_equal(job_cancel(db, &a.job, &now), ERR_OK);
    assert_int_equal(see(&arena, &query, &chunks), 3);
    query.wished_only = true;
    assert_int_equal(see(&arena, &query, &chunks), 2);
    assert_int_equal(chunks[0].wish, WORK_CANCEL);
    assert_non_null(chunks[0].custom_ids.data);
    assert_int_equal(work_wishes(db, jobs, 3, wishes), ERR_OK);
    assert_int_equal(wishes[0], WORK_CANCEL);
    assert_int_equal(wishes[1], WORK_RUN);
    assert_int_equal(wishes[2], WORK_CANCEL); /* there is no such job */
    arena_release(&arena);
}

/* The plan reads the index by job: as many entries as chunks are wanted, however long the job. */
static void test_open_chunks_are_found_without_scanning(void **state)
{
    static const int32_t part[] = {1};
    struct job job = queue_job(db, "long", 16 * 4000, true);
    struct work_query query = {.topic = "t", .parts = part, .parts_count = 1};
    struct arena arena = {0};
    struct work_chunk *chunks;
    int64_t before, after;

    (void)state;
    (void)job;
    pg_do(db, "analyze mserve.chunks; analyze mserve.jobs");
    see(&arena, &query, &chunks); /* visibility is settled, hints are set */
    pg_do(db, "select pg_stat_force_next_flush()");
    before = pg_number(db, "select idx_tup_read + (select seq_tup_read from pg_stat_user_tables "
                           "where relname = 'chunks') from pg_stat_user_indexes "
                           "where indexrelname = 'chunks_open'");
    assert_int_equal(see(&arena, &query, &chunks), 4);
    pg_do(db, "select pg_stat_force_next_flush()");
    after = pg_number(db, "select idx_tup_read + (select seq_tup_read from pg_stat_user_tables "
                          "where relname = 'chunks') from pg_stat_user_indexes "
                          "where indexrelname = 'chunks_open'");
    assert_in_range(after - before, 4, 20);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_live_workers_share_to_the_last_partition, set_up),
        cmocka_unit_test_setup(test_a_registration_says_how_the_host_was_bought, set_up),
        cmocka_unit_test_setup(test_a_partition_is_claimed_only_when_free, set_up),
        cmocka_unit_test_setup(test_claimers_do_not_get_the_same_partition, set_up),
        cmocka_unit_test_setup(test_only_a_lease_that_ran_out_is_buried, set_up),
        cmocka_unit_test_setup(test_a_new_connection_buries_nobody_at_once, set_up),
        cmocka_unit_test_setup(test_one_death_has_one_tail, set_up),
        cmocka_unit_test_setup(test_a_small_job_is_seen_behind_a_long_one, set_up),
        cmocka_unit_test_setup(test_many_jobs_hide_neither_the_first_nor_the_last, set_up),
        cmocka_unit_test_setup(test_chunks_in_hand_and_lines_done_are_known, set_up),
        cmocka_unit_test_setup(test_wishes_and_missing_chunks, set_up),
        cmocka_unit_test_setup(test_open_chunks_are_found_without_scanning, set_up),
    };
    int failed;

    pg_create("lease");
    db = pg_connect();
    queue_set_up(db);
    failed = cmocka_run_group_tests_name("lease", tests, NULL, NULL);
    db_close(db);
    pg_drop();
    return failed;
}
