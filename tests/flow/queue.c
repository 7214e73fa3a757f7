/* queue.c: jobs, workers and batches for tests of the protocols. */
#include "tests/flow/queue.h"

#include "sql/migrate.h"
#include "tests/flow/pg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include <cmocka.h>

void queue_set_up(struct db *db)
{
    static const struct slice name = {"m", 1};
    uint32_t partitions;
    FILE *out = fopen("/dev/null", "w");

    assert_int_equal(migrate_run(db, out), ERR_OK);
    fclose(out);
    assert_int_equal(tier_register(db, "t", "t", QUEUE_PARTITIONS, &name, 1, &partitions), ERR_OK);
}

/* Autovacuum gives way to a TRUNCATE, but only after a second of waiting. */
void queue_clear(struct db *db)
{
    pg_do(db, "begin; set local lock_timeout = 10000; "
              "truncate mserve.results, mserve.checkpoints, mserve.attempts, mserve.worker_ledger, "
              "mserve.job_deltas, mserve.jobs cascade; update mserve.partitions set owner = null; "
              "delete from mserve.workers; commit");
}

/* "r<line>" of each line, ended by a zero byte, compressed; the caller frees it. */
static struct slice custom_ids(uint32_t first, uint32_t count)
{
    struct buffer plain = {0};
    size_t bound;
    char *packed;

    for (uint32_t line = first; line < first + count; line++) {
        buffer_printf(&plain, "r%u", line);
        buffer_add_byte(&plain, '\0');
    }
    bound = ZSTD_compressBound(plain.len);
    packed = malloc(bound);
    bound = ZSTD_compress(packed, bound, plain.data, plain.len, 1);
    assert_false(ZSTD_isError(bound));
    buffer_release(&plain);
    return (struct slice){packed, bound};
}

static void add_chunks(struct db *db, const struct job *job, uint32_t lines)
{
    uint32_t count = (lines + QUEUE_CHUNK_LINES - 1) / QUEUE_CHUNK_LINES;
    struct job_chunk *chunks = calloc(count + 1, sizeof(*chunks));

    for (uint32_t i = 0; i < count; i++) {
        uint32_t first = i * QUEUE_CHUNK_LINES;
        uint32_t n = lines - first < QUEUE_CHUNK_LINES ? lines - first : QUEUE_CHUNK_LINES;

        chunks[i] = (struct job_chunk){
            .chunk = (int32_t)i,
            .lines = n,
            .first_line = first,
            .part = (int32_t)((job->partition_first + i) % job->partitions),
            .first_offset = first,
            .last_offset = first + n - 1,
            .bytes = n * 100,
            .custom_ids = custom_ids(first, n),
            .work = n * 10,
        };
    }
    assert_int_equal(job_add_chunks(db, &job->job, chunks, count), ERR_OK);
    for (uint32_t i = 0; i < count; i++)
        free((char *)chunks[i].custom_ids.data);
    free(chunks);
}

/*
 * The server draws a job's first partition from its id. Here it follows from the key, so that what a
 * test meets does not change from run to run.
 */
static void settle_partition(struct db *db, const char *key, struct job *job)
{
    char statement[128];

    job->partition_first = (uint32_t)key[strlen(key) - 1] % QUEUE_PARTITIONS;
    snprintf(statement, sizeof(statement),
             "update mserve.jobs set partition_first = %u where idempotency_key = '%s'",
             job->partition_first, key);
    pg_do(db, statement);
}

struct job queue_job(struct db *db, const char *key, uint32_t lines, bool sealed)
{
    struct job_spec spec = {.idempotency_key = key,
                            .input_name = "test",
                            .endpoint = "/v1/completions",
                            .tier = "t",
                            .topic = "t",
                            .partitions = QUEUE_PARTITIONS,
                            .chunk_lines_max = QUEUE_CHUNK_LINES,
                            .chunk_bytes_max = 1 << 20,
                            .completion_window = "24h",
                            .window_ms = 86400000};
    struct arena arena = {0};
    struct job job;

    assert_int_equal(job_open(db, &spec, &arena, &job), ERR_OK);
    settle_partition(db, key, &job);
    add_chunks(db, &job, lines);
    if (sealed)
        assert_int_equal(
            job_seal(db, &job.job, (lines + QUEUE_CHUNK_LINES - 1) / QUEUE_CHUNK_LINES, lines, 0),
            ERR_OK);
    arena_release(&arena);
    job.tenant = "default";
    job.topic = "t";
    job.lines = lines;
    return job;
}

struct lease_spec queue_spec(const char *name, uint64_t lease_ms)
{
    static const struct slice topic = {"t", 1};

    return (struct lease_spec){.name = name,
                               .host = "test",
                               .pid = getpid(),
                               .topics = &topic,
                               .topics_count = 1,
                               .device = "cpu",
                               .price_per_hour = 3.6,
                               .currency = "EUR",
                               .lease_ms = lease_ms};
}

struct queue_worker queue_worker(const char *name, uint64_t lease_ms, uint32_t wanted)
{
    struct lease_spec spec = queue_spec(name, lease_ms);
    struct db_options options = pg_options();
    struct queue_worker worker = {.db = pg_connect()};

    assert_int_equal(lease_register(worker.db, &spec, &worker.lease), ERR_OK);
    assert_int_equal(commit_open(&options, &worker.commit), ERR_OK);
    queue_worker_claim(&worker, wanted);
    return worker;
}

void queue_worker_claim(struct queue_worker *worker, uint32_t wanted)
{
    struct lease_partition claimed[QUEUE_PARTITIONS];
    uint32_t count;

    assert_true(worker->partitions_count + wanted <= QUEUE_PARTITIONS);
    assert_int_equal(lease_claim(worker->db, &worker->lease, "t", wanted, claimed, &count), ERR_OK);
    for (uint32_t i = 0; i < count; i++)
        worker->partitions[worker->partitions_count++] =
            (struct commit_partition){"t", claimed[i].part, claimed[i].epoch, claimed[i].token};
}

/* Its place among the worker's partitions, or -1. */
static int place_of(const struct queue_worker *worker, const struct job *job, uint32_t line)
{
    int32_t part = (int32_t)((job->partition_first + line / QUEUE_CHUNK_LINES) % QUEUE_PARTITIONS);

    for (uint32_t i = 0; i < worker->partitions_count; i++)
        if (worker->partitions[i].part == part)
            return (int)i;
    return -1;
}

bool queue_worker_holds(const struct queue_worker *worker, const struct job *job, uint32_t line)
{
    return place_of(worker, job, line) >= 0;
}

void queue_worker_close(struct queue_worker *worker)
{
    db_close(worker->db);
    commit_close(worker->commit);
    worker->db = NULL;
    worker->commit = NULL;
}

/* The chunk of a line, the newest one of the batch or another; added where it is missing. */
static uint32_t chunk_of(struct queue_batch *b, const struct job *job, uint32_t line, int place)
{
    struct commit_batch *batch = &b->batch;
    struct commit_chunk chunk = {.job = job->job,
                                 .chunk = (int32_t)(line / QUEUE_CHUNK_LINES),
                                 .partition = (uint32_t)place,
                                 .first_line = line - line % QUEUE_CHUNK_LINES,
                                 .lines = QUEUE_CHUNK_LINES};

    if (job->lines - chunk.first_line < QUEUE_CHUNK_LINES)
        chunk.lines = (uint32_t)(job->lines - chunk.first_line);
    for (uint32_t i = batch->chunks_count; i-- > 0;)
        if (b->chunks[i].chunk == chunk.chunk && uuid_equal(b->chunks[i].job, chunk.job))
            return i;
    b->chunks[batch->chunks_count] = chunk;
    return batch->chunks_count++;
}

static void add_row(struct queue_batch *b, const struct job *job, uint32_t line, int place,
                    enum row_status status)
{
    struct commit_batch *batch = &b->batch;
    uint32_t chunk = chunk_of(b, job, line, place);
    char *custom_id;

    custom_id = b->custom_ids[batch->rows_count];
    snprintf(custom_id, sizeof(b->custom_ids[0]), "r%u", line);
    b->rows[batch->rows_count++] = (struct commit_row){
        .chunk = chunk,
        .line = line,
        .custom_id = {custom_id, strlen(custom_id)},
        .status = status,
        .status_code = status == ROW_COMPLETED ? 200 : 0,
        .response = status == ROW_COMPLETED ? SLICE("{\"ok\": true}") : (struct slice){NULL, 0},
        .error = status == ROW_COMPLETED ? (struct slice){NULL, 0} : SLICE("{\"code\": \"x\"}"),
        .input_tokens = 3,
        .output_tokens = 5,
        .gpu_ns = status == ROW_COMPLETED || status == ROW_FAILED ? 1000 + line : 0,
        .attempt = 1,
    };
    batch->books.held_ns += b->rows[batch->rows_count - 1].gpu_ns;
}

struct queue_batch *queue_batch(const struct queue_worker *worker, const struct job *job,
                                uint32_t first, uint32_t count, enum row_status status)
{
    struct queue_batch *b = calloc(1, sizeof(*b));

    b->batch = (struct commit_batch){.worker = worker->lease.worker,
                                     .token = worker->lease.token,
                                     .seq = worker->seq + 1,
                                     .lease_ms = worker->lease.lease_ms,
                                     .partitions = worker->partitions,
                                     .partitions_count = worker->partitions_count,
                                     .chunks = b->chunks,
                                     .rows = b->rows,
                                     .checkpoints = b->saves,
                                     .discards = b->discards};
    for (uint32_t line = first; line < first + count; line++)
        if (place_of(worker, job, line) >= 0)
            add_row(b, job, line, place_of(worker, job, line), status);
    return b;
}

void queue_save(const struct queue_worker *worker, struct queue_batch *b, const struct job *job,
                uint32_t line, uint32_t attempt, uint32_t tokens, uint64_t gpu_ns)
{
    uint32_t at = b->batch.checkpoints_count++;
    char *state = b->states[at];

    assert_true(at < QUEUE_SAVES_MAX && place_of(worker, job, line) >= 0);
    snprintf(state, sizeof(b->states[0]), "%u:%u", line, tokens);
    b->saves[at] =
        (struct commit_checkpoint){.chunk = chunk_of(b, job, line, place_of(worker, job, line)),
                                   .line = line,
                                   .attempt = attempt,
                                   .tokens = tokens,
                                   .gpu_ns = gpu_ns,
                                   .state = {state, strlen(state)}};
    b->batch.books.held_ns += gpu_ns;
}

void queue_discard(const struct queue_worker *worker, struct queue_batch *b, const struct job *job,
                   uint32_t line)
{
    uint32_t at = b->batch.discards_count++;

    assert_true(at < QUEUE_SAVES_MAX && place_of(worker, job, line) >= 0);
    b->discards[at] =
        (struct commit_discard){chunk_of(b, job, line, place_of(worker, job, line)), line};
}

enum err queue_commit(struct queue_worker *worker, struct queue_batch *batch,
                      struct commit_result *ret)
{
    enum err rc = commit_run(worker->commit, &batch->batch, ret);

    if (!rc)
        worker->seq = batch->batch.seq;
    return rc;
}
