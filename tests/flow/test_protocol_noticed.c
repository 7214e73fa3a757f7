/*
 * test_protocol_noticed.c: would the random walk notice? Each safeguard of the protocols is taken out of
 * the functions on the server, one at a time, and the random walk or a scene in which it matters has
 * to go wrong; with the safeguard in place it has to go well.
 */
#include "tests/flow/pg.h"
#include "tests/flow/proof.h"
#include "tests/flow/scene.h"
#include "tests/flow/walk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { STEPS = 250 };

static struct db *db;

/* What is taken out of a function: the first place where it says `from` says `to`. */
struct mutant {
    const char *name, *function, *from, *to;
};

/* How the fold takes its deltas from the queue. */
static const char fold_take[] = "delete from mserve.job_deltas\n"
                                "        where id <= (select max(id) from\n"
                                "          (select id from mserve.job_deltas order by id limit "
                                "p_deltas_max) first_ones)\n"
                                "        returning *";

/* ---------------------------------------------------------------- mutants that the walk meets */

static const struct mutant of_walk[] = {
    {"no gate", "commit_batch", "and w.ledger_seq = p_seq - 1\n      and w.closed_at is null", ""},
    {"a gate without its number", "commit_batch", "and w.ledger_seq = p_seq - 1", ""},
    {"a gate open to the dead", "commit_batch", "and w.closed_at is null", ""},
    {"no fence", "commit_batch",
     "where (p.epoch = u.epoch and p.token = u.token and p.owner = p_worker) is not true",
     "where false"},
    {"cost from memory", "commit_batch", "coalesce(sum(rows_ns), 0) into inserted, v_rows_ns",
     "(select coalesce(sum(gpu_ns), 0) from pg_temp.staging) into inserted, v_rows_ns"},
    {"duplicates that cost nothing", "commit_batch",
     "coalesce(sum(gpu_ns), 0) into v_again, v_lost", "0 into v_again, v_lost"},
    {"the last writer wins", "commit_batch", "on conflict (job, line) do nothing",
     "on conflict (job, line) do update set status = excluded.status, gpu_ns = excluded.gpu_ns"},
    {"bits of this commit only", "commit_batch", "set done_map = c.done_map | u.map",
     "set done_map = u.map"},
    {"work in progress from nothing", "commit_batch", "p_wip - v_wip", "p_wip"},
    {"attempts that no job pays", "commit_batch",
     "from unnest(p_attempt_jobs, p_attempt_ns) u (job, lost_ns)",
     "from unnest(p_attempt_jobs, p_attempt_ns) u (job, lost_ns) where false"},
    {"a checkpoint kept on passing over", "commit_batch", "and s.chunk is null\n        returning",
     "and s.chunk is null and s.status in ('completed', 'failed')\n        returning"},
    {"a checkpoint passed over that cost nothing", "commit_batch",
     "where s.status in ('cancelled', 'expired') and", "where false and"},
    {"a row that forgets its checkpoint", "commit_batch", "then s.gpu_ns + coalesce(o.gpu_ns, 0)",
     "then s.gpu_ns"},
    {"a checkpoint that forgets the one before", "commit_batch",
     "gpu_ns = c.gpu_ns + excluded.gpu_ns", "gpu_ns = excluded.gpu_ns"},
    {"a checkpoint beside a row", "commit_batch",
     "and get_bit(h.done_map, (s.line - h.first_line)::integer) = 0", ""},
    {"a checkpoint that cannot be used and stays", "commit_batch",
     "using unnest(p_discard_jobs, p_discard_lines) u (job, line)\n        where",
     "using unnest(p_discard_jobs, p_discard_lines) u (job, line)\n        where false and"},
    {"an attempt with the work of those before", "commit_batch",
     "then c.before_ns else c.gpu_ns end", "then c.before_ns else c.before_ns end"},
    {"a burial that keeps what others go on with", "bury_worker",
     "where c.worker = p_worker and p.owner = p_worker", "where c.worker = p_worker"},
    {"a burial that tells of an attempt again", "bury_worker", "and a.worker = p_worker and",
     "and false and"},
    {"a burial that forgets work in progress", "bury_worker",
     "v_held - v_worker.booked_ns + v_worker.wip_ns", "v_held - v_worker.booked_ns"},
    {"a burial that keeps the partitions", "bury_worker",
     "update mserve.partitions p set owner = null where p.owner = p_worker;", ""},
    {"a claim of what is owned", "claim_partitions", "and p.owner is null", ""},
    {"a claim by the dead", "claim_partitions", "and w.closed_at is null", ""},
    {"a fold that counts twice", "fold", fold_take, "select * from mserve.job_deltas"},
};

/* ---------------------------------------------------------------- mutants that need a scene */

/*
 * A failover lost a claim; another worker claims, and gets the same epochs. Returns "" when the
 * first, which is still open, writes nothing any more.
 */
static const char *play_lost_claim(void)
{
    struct job job = queue_job(db, "epoch", 64, true);
    struct queue_worker early = queue_worker("early", LEASE_LONG_MS, 4), late;
    struct queue_batch *b = queue_batch(&early, &job, 0, 64, ROW_COMPLETED);
    struct commit_result result;
    bool landed;

    pg_do(db, "update mserve.partitions set epoch = epoch - 1, owner = null");
    late = queue_worker("late", LEASE_LONG_MS, 4);
    landed = queue_commit(&early, b, &result) != ERR_AGAIN || scene_rows(db) > 0;
    queue_worker_close(&early);
    queue_worker_close(&late);
    free(b);
    return landed ? "a partition has two writers" : "";
}

static void *leave(void *arg)
{
    struct queue_worker *worker = arg;

    (void)lease_leave(worker->db, &worker->lease, 0, "error");
    return NULL;
}

/* A worker is buried while its commit is in flight, past its gate. */
static const char *play_burial_in_flight(void)
{
    struct job job = queue_job(db, "flight", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b = queue_batch(&worker, &job, 0, 64, ROW_COMPLETED);
    struct commit_job of_job = {.job = job.job, .wip_ns = 500};
    struct db *blocker = pg_connect();
    struct scene_commit commit;
    pthread_t burial;

    b->batch.books.wip_ns = 500;
    b->batch.books.held_ns += 500;
    b->batch.jobs = &of_job;
    b->batch.jobs_count = 1;
    assert_int_equal(db_begin(blocker), ERR_OK);
    pg_do(blocker, "select from mserve.chunks where chunk = 2 for update");
    scene_commit_start(&commit, &worker, b);
    scene_await_blocked(db, 1);
    assert_int_equal(pthread_create(&burial, NULL, leave, &worker), 0);
    scene_await_blocked(db, 2);
    assert_int_equal(db_commit(blocker), ERR_OK);
    assert_int_equal(scene_commit_end(&commit), ERR_OK);
    pthread_join(burial, NULL);
    db_close(blocker);
    queue_worker_close(&worker);
    free(b);
    return proof_faults(db);
}

/* A failover lost the row of a chunk between its upload and the seal. */
static const char *play_vanished_chunk(void)
{
    struct job job = queue_job(db, "vanished", 64, false);

    pg_do(db, "delete from mserve.chunks where chunk = 1");
    (void)job_seal(db, &job.job, 4, 64, 0);
    return proof_faults(db);
}

/* A second submitter that knows nothing of the seal adds one more chunk. */
static const char *play_late_chunk(void)
{
    struct job job = queue_job(db, "late", 64, true);
    struct job_chunk chunk = {.chunk = 4,
                              .lines = 16,
                              .first_line = 64,
                              .part = (int32_t)((job.partition_first + 4) % job.partitions),
                              .last_offset = 15,
                              .custom_ids = SLICE("x")};

    (void)job_add_chunks(db, &job.job, &chunk, 1);
    return proof_faults(db);
}

/* A failover lost the seal of a job that a worker has read. */
static const char *play_lost_seal(void)
{
    struct job job = queue_job(db, "seal", 64, false);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b = queue_batch(&worker, &job, 0, 64, ROW_COMPLETED);
    struct commit_result result;

    (void)queue_commit(&worker, b, &result);
    queue_worker_close(&worker);
    free(b);
    return proof_faults(db);
}

/* The delta with the lower id becomes visible after the higher one was folded. */
static const char *play_late_delta(void)
{
    struct job job = queue_job(db, "delta", 64, true);
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    struct queue_batch *b = queue_batch(&worker, &job, 0, 64, ROW_COMPLETED);
    struct db *other = pg_connect();
    struct commit_result result;

    assert_int_equal(db_begin(other), ERR_OK);
    pg_do(other, "insert into mserve.job_deltas (job) select job from mserve.jobs");
    assert_int_equal(queue_commit(&worker, b, &result), ERR_OK);
    pg_do(db, "select * from mserve.tick(3600000)");
    assert_int_equal(db_commit(other), ERR_OK);
    pg_do(db, "select * from mserve.tick(3600000)");
    db_close(other);
    queue_worker_close(&worker);
    free(b);
    return pg_number(db, "select count(*) from mserve.job_deltas") ? "a delta is never folded" : "";
}

/* Somebody thinks that a lease ran out, and it was renewed in the meantime. */
static const char *play_early_burial(void)
{
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, 4);
    int64_t buried;

    buried = pg_number(db, "select mserve.bury_worker(worker, null, 0, 'lease_ran_out')::integer "
                           "from mserve.workers");
    queue_worker_close(&worker);
    return buried ? "a worker was buried alive" : "";
}

static const struct {
    const char *(*play)(void);
    struct mutant mutant;
} of_scenes[] = {
    {play_lost_claim,
     {"a fence of epochs only", "commit_batch",
      "where (p.epoch = u.epoch and p.token = u.token and p.owner = p_worker) is not true",
      "where (p.epoch = u.epoch and p.owner is not null) is not true"}},
    {play_burial_in_flight,
     {"a burial without its lock", "bury_worker",
      "w.lease_until < clock_timestamp()))\n    for update;",
      "w.lease_until < clock_timestamp()));"}},
    {play_early_burial,
     {"a burial of the living", "bury_worker", "and w.lease_until < clock_timestamp()", ""}},
    {play_vanished_chunk, {"a seal without counting", "job_seal", "if not v_whole", "if false"}},
    {play_late_chunk,
     {"chunks after the seal", "job_add_chunks", "if v_job.state <> 'validating'", "if false"}},
    {play_lost_seal,
     {"rows of a job that is not accepted", "check_accepted", "where j.lines is null",
      "where false"}},
    {play_late_delta,
     {"a fold with a watermark", "fold", fold_take,
      "delete from mserve.job_deltas d where d.id > (select m.id from proof.mark m) "
      "returning *), moved as (update proof.mark m set id = (select max(g.id) from gone g) "
      "where exists (select from gone)"}},
};

/* ---------------------------------------------------------------- the tests */

/* The function's text, as the server keeps it; the caller frees it. */
static char *source_of(const char *function)
{
    struct db_result result = {0};
    char *text;

    assert_int_equal(db_exec(db,
                             "select pg_get_functiondef(oid) from pg_proc where proname = $1 and "
                             "pronamespace = 'mserve'::regnamespace",
                             DB_PARAMS(db_text(function)), &result),
                     ERR_OK);
    assert_int_equal(result.rows, 1);
    text = xstrdup(db_get_slice(&result, 0, 0).data);
    db_result_release(&result);
    return text;
}

/* Returns what pg_do() and free() undo it with. */
static char *mutate(const struct mutant *mutant)
{
    char *source = source_of(mutant->function);
    const char *at = strstr(source, mutant->from);
    struct buffer text = {0};

    if (!at)
        fail_msg("%s: \"%s\" is not in %s()", mutant->name, mutant->from, mutant->function);
    buffer_add(&text, source, (size_t)(at - source));
    buffer_add_text(&text, mutant->to);
    buffer_add_text(&text, at + strlen(mutant->from));
    pg_do(db, text.data);
    buffer_release(&text);
    return source;
}

static void undo(char *source)
{
    pg_do(db, source);
    free(source);
}

static void say(const struct mutant *mutant, const char *what)
{
    printf("# %s: %s\n", mutant->name, what);
    if (!what[0])
        fail_msg("nobody noticed %s", mutant->name);
}

/* test_protocol_books.c shows that the walk finds nothing where nothing was taken out. */
static void test_the_walk_notices_each_mutant(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(of_walk) / sizeof(of_walk[0]); i++) {
        struct walk_options options = {.seed = 1, .steps = STEPS};
        char *source = mutate(&of_walk[i]);
        struct walk_seen seen;
        const char *what = walk_run(db, &options, &seen);

        undo(source);
        say(&of_walk[i], what);
    }
}

static void test_each_scene_notices_its_mutant(void **state)
{
    (void)state;
    pg_do(db,
          "create schema if not exists proof; create table proof.mark as select 0::bigint as id");
    for (size_t i = 0; i < sizeof(of_scenes) / sizeof(of_scenes[0]); i++) {
        const char *what;
        char *source;

        scene_clear(db);
        assert_string_equal(of_scenes[i].play(), "");
        source = mutate(&of_scenes[i].mutant);
        scene_clear(db);
        what = of_scenes[i].play();
        undo(source);
        say(&of_scenes[i].mutant, what);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_walk_notices_each_mutant),
        cmocka_unit_test(test_each_scene_notices_its_mutant),
    };
    int failed;

    db = scene_open("protocol_noticed");
    failed = cmocka_run_group_tests_name("protocol_noticed", tests, NULL, NULL);
    scene_close(db);
    return failed;
}
