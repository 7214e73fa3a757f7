/*
 * queue.h: jobs, workers and batches for tests of the protocols, made by the same calls that the
 * programs use. Tier "t" on topic "t" with 4 partitions; chunks of 16 lines; a result of line n costs
 * 1,000 + n nanoseconds.
 */
#ifndef MSERVE_TESTS_FLOW_QUEUE_H
#define MSERVE_TESTS_FLOW_QUEUE_H

#include "sql/commit.h"
#include "sql/job.h"
#include "sql/lease.h"
#include "sql/work.h"

enum {
    QUEUE_PARTITIONS = 4,
    QUEUE_CHUNK_LINES = 16,
    QUEUE_LINES_MAX = 4096,
    QUEUE_SAVES_MAX = 64,
    LEASE_LONG_MS = 600000, /* does not run out while a test lasts, on the slowest machine */
};

/* Migrates the fresh database and registers the tier. */
void queue_set_up(struct db *db);

/* No jobs, no workers, no rows; the partitions are free. */
void queue_clear(struct db *db);

/* A job with that many lines: uploaded, and sealed unless it is to be left open. */
struct job queue_job(struct db *db, const char *key, uint32_t lines, bool sealed);

/* A worker with connections of its own, which has claimed up to `wanted` partitions. */
struct queue_worker {
    struct lease lease;
    struct db *db;
    struct commit *commit;
    struct commit_partition partitions[QUEUE_PARTITIONS];
    uint32_t partitions_count;
    int64_t seq; /* of its last commit that landed */
};

/* What a worker of the topic "t" says of itself; `name` is borrowed. */
struct lease_spec queue_spec(const char *name, uint64_t lease_ms);

struct queue_worker queue_worker(const char *name, uint64_t lease_ms, uint32_t wanted);
void queue_worker_claim(struct queue_worker *worker, uint32_t wanted);
bool queue_worker_holds(const struct queue_worker *worker, const struct job *job, uint32_t line);
void queue_worker_close(struct queue_worker *worker); /* the connections; it is not buried */

/* A batch that owns its arrays. Its books balance: what is held is what its rows cost. */
struct queue_batch {
    struct commit_batch batch;
    struct commit_chunk chunks[QUEUE_LINES_MAX / QUEUE_CHUNK_LINES];
    struct commit_row rows[QUEUE_LINES_MAX];
    struct commit_checkpoint saves[QUEUE_SAVES_MAX];
    struct commit_discard discards[QUEUE_SAVES_MAX];
    char custom_ids[QUEUE_LINES_MAX][16];
    char states[QUEUE_SAVES_MAX][24];
};

/*
 * The lines first .. first + count - 1 of the job that lie in partitions of the worker, as its next
 * commit, with `status`. The caller frees it.
 */
struct queue_batch *queue_batch(const struct queue_worker *worker, const struct job *job,
                                uint32_t first, uint32_t count, enum row_status status);

/*
 * Adds a checkpoint of a line in a partition of the worker: so many tokens in all, and `gpu_ns` more
 * than the one before, which were held, too. Its state is "<line>:<tokens>".
 */
void queue_save(const struct queue_worker *worker, struct queue_batch *batch, const struct job *job,
                uint32_t line, uint32_t attempt, uint32_t tokens, uint64_t gpu_ns);

/* Adds that the line's checkpoint cannot be used. */
void queue_discard(const struct queue_worker *worker, struct queue_batch *batch,
                   const struct job *job, uint32_t line);

/* Runs it; on ERR_OK the worker's seq moves on. */
enum err queue_commit(struct queue_worker *worker, struct queue_batch *batch,
                      struct commit_result *ret);

#endif
