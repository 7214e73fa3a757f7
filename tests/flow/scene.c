/* scene.c: what the tests of the protocols have in common. */
#include "tests/flow/scene.h"

#include "tests/flow/pg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct db *scene_open(const char *name)
{
    struct db *db;

    pg_create(name);
    db = pg_connect();
    pg_do(db, "do $$ begin execute format('alter database %I set synchronous_commit = off', "
              "current_database()); end $$");
    assert_int_equal(db_reopen(db), ERR_OK);
    queue_set_up(db);
    return db;
}

void scene_close(struct db *db)
{
    db_close(db);
    pg_drop();
}

void scene_clear(struct db *db)
{
    pg_do(db, "delete from mserve.results; delete from mserve.checkpoints; "
              "delete from mserve.attempts; "
              "delete from mserve.worker_ledger; delete from mserve.job_deltas; "
              "delete from mserve.jobs; update mserve.partitions set owner = null; "
              "delete from mserve.workers");
}

int64_t scene_rows(struct db *db)
{
    return pg_number(db, "select count(*) from mserve.results");
}

int64_t scene_rows_of(struct db *db, const struct lease *lease)
{
    struct db_result result = {0};
    int64_t rows;

    assert_int_equal(db_exec(db, "select count(*) from mserve.results where worker = $1",
                             DB_PARAMS(db_uuid(&lease->worker)), &result),
                     ERR_OK);
    rows = db_get_i64(&result, 0, 0);
    db_result_release(&result);
    return rows;
}

void scene_expire(struct db *db, const char *worker_name)
{
    assert_int_equal(db_exec(db,
                             "update mserve.workers set lease_until = clock_timestamp() - "
                             "interval '1 s', lease_ms = 1 where name = $1 and closed_at is null",
                             DB_PARAMS(db_text(worker_name)), NULL),
                     ERR_OK);
}

struct queue_worker scene_worker(const char *name, uint64_t lease_ms,
                                 const struct db_options *options)
{
    struct queue_worker worker = queue_worker(name, lease_ms, 0);

    commit_close(worker.commit);
    assert_int_equal(commit_open(options, &worker.commit), ERR_OK);
    return worker;
}

static void *run_commit(void *arg)
{
    struct scene_commit *commit = arg;

    commit->rc = queue_commit(commit->worker, commit->batch, &commit->result);
    return NULL;
}

void scene_commit_start(struct scene_commit *commit, struct queue_worker *worker,
                        struct queue_batch *batch)
{
    *commit = (struct scene_commit){.worker = worker, .batch = batch};
    assert_int_equal(pthread_create(&commit->thread, NULL, run_commit, commit), 0);
}

enum err scene_commit_end(struct scene_commit *commit)
{
    assert_int_equal(pthread_join(commit->thread, NULL), 0);
    return commit->rc;
}

void scene_await_blocked(struct db *db, int count)
{
    int64_t blocked = 0;

    for (int i = 0; i < 6000 && blocked != count; i++) {
        usleep(i ? 10000 : 0);
        blocked = pg_number(db, "select count(*) from pg_stat_activity where "
                                "datname = current_database() and wait_event_type = 'Lock'");
    }
    assert_int_equal(blocked, count);
}

static void commit_until_lost(const char *name, uint64_t lease_ms, const struct db_options *options,
                              const struct job *job)
{
    struct queue_worker worker = scene_worker(name, lease_ms, options);
    struct commit_result result;
    enum err rc = ERR_OK;

    queue_worker_claim(&worker, QUEUE_PARTITIONS);
    for (uint32_t line = 0; rc != ERR_LOST;
         line = (line + QUEUE_CHUNK_LINES) % (uint32_t)job->lines) {
        struct queue_batch *b = queue_batch(&worker, job, line, QUEUE_CHUNK_LINES, ROW_COMPLETED);

        for (uint32_t i = 8; i < 24; i++) /* some of them late */
            queue_save(&worker, b, job, (line + i) % (uint32_t)job->lines, 1, i, 100);
        do
            rc = queue_commit(&worker, b, &result);
        while (rc == ERR_AGAIN || rc == ERR_DATABASE);
        free(b);
        if (rc && rc != ERR_LOST)
            _exit(1);
    }
    _exit(0);
}

pid_t scene_fork(const char *name, uint64_t lease_ms, const struct db_options *options,
                 const struct job *job)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        setenv("CMOCKA_TEST_ABORT", "1",
               1); /* an assertion must not go on with the parent's tests */
        commit_until_lost(name, lease_ms, options, job);
    }
    return pid;
}
