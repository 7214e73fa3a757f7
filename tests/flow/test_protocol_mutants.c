/*
 * test_protocol_mutants.c: each check of the protocols is taken out of its function on the server, and
 * the story that needs it must then go wrong. With the functions as they are it goes right.
 */
#include "sql/commit_internal.h"
#include "tests/flow/pg.h"
#include "tests/flow/proof.h"
#include "tests/flow/scene.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct db *db;
static const struct slice no_copy = {NULL, 0};

/* A buried worker sends books alone, which no partition fences; its number is still free. */
static bool gate_story(void)
{
    struct queue_worker worker = queue_worker("w", 30000, 0);
    struct job job = queue_job(db, "gate", 16, true);
    struct queue_batch *batch = queue_batch(&worker, &job, 0, 0, ROW_COMPLETED);
    struct commit_result result;
    enum err rc;

    batch->batch.books.held_ns = batch->batch.books.idle_ns = 100;
    assert_int_equal(lease_leave(db, &worker.lease, 0, "error"), ERR_OK);
    rc = queue_commit(&worker, batch, &result);
    free(batch);
    queue_worker_close(&worker);
    return rc == ERR_LOST && pg_number(db, "select count(*) from mserve.worker_ledger") == 0;
}

/* Commits lines of partitions that `before` took from the worker; true when all are refused. */
static bool is_fenced_after(const char *before)
{
    struct job job = queue_job(db, "fence", 64, true);
    struct queue_worker worker = queue_worker("w", 30000, QUEUE_PARTITIONS), other;
    struct queue_batch *batch = queue_batch(&worker, &job, 0, 64, ROW_COMPLETED);
    struct commit_result result;
    enum err rc;

    pg_do(db, before);
    other = queue_worker("other", 30000, QUEUE_PARTITIONS);
    assert_int_equal(other.partitions_count, QUEUE_PARTITIONS);
    rc = queue_commit(&worker, batch, &result);
    free(batch);
    queue_worker_close(&worker);
    queue_worker_close(&other);
    return rc == ERR_AGAIN && result.fenced_count == QUEUE_PARTITIONS && scene_rows(db) == 0;
}

static bool fence_story(void)
{
    return is_fenced_after("update mserve.partitions set owner = null");
}

/* The claim was lost by a failover: the next one has its epoch again, but not its token. */
static bool epoch_story(void)
{
    return is_fenced_after("update mserve.partitions set owner = null, epoch = epoch - 1");
}

/* The batch up to, but without, its COMMIT: it holds its locks. */
static void send_without_commit(struct db *zombie, const struct commit_batch *batch)
{
    static const char end[] = "; commit";
    struct arena arena = {0};
    struct buffer copy = {0}, script = {0};

    pg_do(zombie, "create temporary table staging (job uuid, line bigint, custom_id text, "
                  "status text, status_code smallint, response json, error json, "
                  "input_tokens integer, cached_tokens integer, output_tokens integer, "
                  "gpu_ns bigint, attempt integer) on commit delete rows");
    commit_encode_rows(batch, commit_order(batch, &arena), 0, batch->rows_count, NULL, 0, &copy);
    commit_write_script(batch, &arena, &script);
    assert_string_equal(script.data + script.len - strlen(end), end);
    script.data[script.len - strlen(end)] = '\0';
    assert_int_equal(db_script(zombie, script.data, buffer_slice(&copy), NULL), ERR_OK);
    arena_release(&arena);
    buffer_release(&copy);
    buffer_release(&script);
}

static void *commit_later(void *zombie)
{
    usleep(200000);
    (void)db_commit(zombie);
    return NULL;
}

/* A burial meets a commit in flight that brings work in progress: it must book what that brought. */
static bool burial_story(void)
{
    struct job job = queue_job(db, "burial", 16, true);
    struct queue_worker worker = queue_worker("w", 30000, 0);
    struct queue_batch *batch = queue_batch(&worker, &job, 0, 0, ROW_COMPLETED);
    struct commit_job of_job = {job.job, 50, 0, 0, 0};
    struct db *zombie = pg_connect();
    pthread_t thread;
    enum err rc;

    batch->batch.books = (struct commit_books){.held_ns = 150, .wip_ns = 50, .idle_ns = 100};
    batch->batch.jobs = &of_job;
    batch->batch.jobs_count = 1;
    batch->batch.lease_ms = 0;
    scene_expire(db, "w");
    send_without_commit(zombie, &batch->batch);
    assert_int_equal(pthread_create(&thread, NULL, commit_later, zombie), 0);
    rc = lease_bury_expired(db, NULL);
    pthread_join(thread, NULL);
    free(batch);
    db_close(zombie);
    queue_worker_close(&worker);
    return rc == ERR_OK && strcmp(proof_faults(db), "") == 0 &&
           pg_number(db, "select sum(lost_ns) from mserve.worker_ledger") == 50;
}

/* The row of a confirmed chunk is gone: the job must not be accepted. */
static bool seal_story(void)
{
    struct job job = queue_job(db, "seal", 64, false);
    enum err rc;

    pg_do(db, "delete from mserve.chunks where chunk = 2");
    rc = job_seal(db, &job.job, 4, 64, 0);
    return rc == ERR_AGAIN && strcmp(proof_faults(db), "") == 0;
}

static const struct mutant {
    const char *name;
    const char *function;
    const char *from; /* stands in it once */
    const char *to;
    bool (*story)(void); /* true when all went as it must */
} mutants[] = {
    {"no gate", "commit_batch", "and w.ledger_seq = p_seq - 1\n      and w.closed_at is null\n",
     "\n", gate_story},
    {"no fence", "commit_batch", "if v_text is not null then", "if false then", fence_story},
    {"an epoch-only fence", "commit_batch",
     "(p.epoch = u.epoch and p.token = u.token and p.owner = p_worker)", "(p.epoch = u.epoch)",
     epoch_story},
    {"burial without its lock", "bury_worker", "lease_until < clock_timestamp()))\n    for update",
     "lease_until < clock_timestamp()))", burial_story},
    {"a seal without counting", "job_seal", "if not v_whole then", "if false then", seal_story},
};

/* The function's definition, with `from` replaced where it is given; the caller frees it. */
static char *definition(const struct mutant *mutant, bool replaced)
{
    char query[128];
    struct db_result result = {0};
    struct buffer text = {0};
    const char *all, *at;

    snprintf(query, sizeof(query), "select pg_get_functiondef('mserve.%s'::regproc)",
             mutant->function);
    assert_int_equal(db_script(db, query, no_copy, &result), ERR_OK);
    all = db_get_slice(&result, 0, 0).data;
    at = strstr(all, mutant->from);
    assert_non_null(at);
    assert_null(strstr(at + 1, mutant->from));
    if (replaced) {
        buffer_add(&text, all, (size_t)(at - all));
        buffer_add_text(&text, mutant->to);
        buffer_add_text(&text, at + strlen(mutant->from));
    } else {
        buffer_add_text(&text, all);
    }
    db_result_release(&result);
    return buffer_detach(&text);
}

static void test_each_check_is_needed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(mutants) / sizeof(mutants[0]); i++) {
        char *right = definition(&mutants[i], false), *wrong = definition(&mutants[i], true);
        bool seen;

        scene_clear(db);
        if (!mutants[i].story())
            fail_msg("%s: the story goes wrong with the functions as they are", mutants[i].name);
        scene_clear(db);
        pg_do(db, wrong);
        seen = !mutants[i].story();
        pg_do(db, right);
        if (!seen)
            fail_msg("%s: nobody noticed", mutants[i].name);
        free(right);
        free(wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_check_is_needed)};
    int failed;

    db = scene_open("mutants");
    failed = cmocka_run_group_tests_name("protocol_mutants", tests, NULL, NULL);
    scene_close(db);
    return failed;
}
