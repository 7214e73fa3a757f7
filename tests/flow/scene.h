/*
 * scene.h: what the tests of the protocols have in common: a database of their own, commits that run
 * beside the test, and processes that commit until they hear that they are buried.
 */
#ifndef MSERVE_TESTS_FLOW_SCENE_H
#define MSERVE_TESTS_FLOW_SCENE_H

#include "tests/flow/queue.h"

#include <pthread.h>
#include <sys/types.h>

/*
 * A migrated database with the tier of queue.h. It does not wait for the disk: nothing here tears
 * the power out, and a test that commits a thousand times should take a second.
 */
struct db *scene_open(const char *name);
void scene_close(struct db *db);

/* No jobs, no workers, no rows; the partitions are free. */
void scene_clear(struct db *db);

int64_t scene_rows(struct db *db);
int64_t scene_rows_of(struct db *db, const struct lease *lease);

/*
 * The leases of these workers ran out a second ago: what waiting would do, without the wait. They are
 * short ones, so that a server that has just started makes no difference.
 */
void scene_expire(struct db *db, const char *worker_name);

/* A worker without partitions whose commits go where `options` says. */
struct queue_worker scene_worker(const char *name, uint64_t lease_ms,
                                 const struct db_options *options);

/* A commit in a thread of its own. */
struct scene_commit {
    pthread_t thread;
    struct queue_worker *worker;
    struct queue_batch *batch;
    struct commit_result result;
    enum err rc;
};

void scene_commit_start(struct scene_commit *commit, struct queue_worker *worker,
                        struct queue_batch *batch);
enum err scene_commit_end(struct scene_commit *commit);

/* Waits until so many sessions of this database wait for locks. Asserts that it comes to that. */
void scene_await_blocked(struct db *db, int count);

/*
 * A process that registers under `name`, claims all partitions and commits the job's lines, one
 * chunk after the other and then from the start, and checkpoints of the lines behind them, until it
 * gets ERR_LOST: status 0.
 */
pid_t scene_fork(const char *name, uint64_t lease_ms, const struct db_options *options,
                 const struct job *job);

#endif
