/*
 * bench_commit.c: rows/s of the fenced commit over rows/s of a plain COPY to a temporary table and
 * INSERT of the same rows, on the same server, turn by turn in one run.
 *
 *     MSERVE_POSTGRES_DSN=… bench_commit [rows per run] [rounds] [worker]
 *
 * With `worker` the commits are those of a role of that kind, whom row-level security lets pass; without,
 * those of the owner, whom it does not hold.
 *
 * Responses of about 500 bytes; chunks of 1,024 lines over 8 partitions, 16 chunks under way at once.
 */
#include "config/clock.h"
#include "sql/commit_internal.h"
#include "sql/job.h"
#include "sql/lease.h"
#include "tests/flow/pg.h"
#include "tests/flow/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { CHUNK = 1024, AT_ONCE = 16, PARTITIONS = 8, RESPONSE = 500, BATCH_MAX = 2048 };

static struct db *db;
static struct commit *commit;
static struct commit_partition partitions[PARTITIONS];
static struct lease lease;
static int64_t seq;
static char response[RESPONSE + 1];

/* One batch's arrays, used again and again. */
static struct commit_chunk chunks[2 * AT_ONCE];
static struct commit_row rows[BATCH_MAX];
static char custom_ids[BATCH_MAX][32];

/* A sealed job of `lines` lines in chunks of 1,024. */
static struct job make_job(uint32_t lines)
{
    static int number;
    char key[32];
    struct job_spec spec = {.idempotency_key = key,
                            .input_name = "bench",
                            .endpoint = "/v1/completions",
                            .tier = "bench",
                            .topic = "bench",
                            .partitions = PARTITIONS,
                            .chunk_lines_max = CHUNK,
                            .chunk_bytes_max = 1 << 22,
                            .completion_window = "24h",
                            .window_ms = 86400000};
    struct arena arena = {0};
    struct job job;

    snprintf(key, sizeof(key), "bench-%d", number++);
    assert_int_equal(job_open(db, &spec, &arena, &job), ERR_OK);
    for (uint32_t first = 0; first < lines; first += CHUNK) {
        int32_t chunk = (int32_t)(first / CHUNK);
        struct job_chunk row = {
            .chunk = chunk,
            .lines = CHUNK,
            .first_line = first,
            .part = (int32_t)((job.partition_first + (uint32_t)chunk) % PARTITIONS),
            .last_offset = CHUNK - 1,
            .custom_ids = SLICE("none"),
            .work = 1,
        };

        assert_int_equal(job_add_chunks(db, &job.job, &row, 1), ERR_OK);
    }
    assert_int_equal(job_seal(db, &job.job, lines / CHUNK, lines, 0), ERR_OK);
    arena_release(&arena);
    return job;
}

/* The line that finishes as the n-th: sixteen chunks move along side by side. */
static uint32_t line_of(uint32_t n)
{
    uint32_t group = n / (CHUNK * AT_ONCE), inside = n % (CHUNK * AT_ONCE);

    return group * CHUNK * AT_ONCE + (inside % AT_ONCE) * CHUNK + inside / AT_ONCE;
}

/* The rows first .. first + count - 1 in order of finishing, as a batch. */
static void fill(struct commit_batch *batch, const struct job *job, uint32_t first, uint32_t count)
{
    uint32_t base = first / (CHUNK * AT_ONCE) * AT_ONCE;

    for (uint32_t i = 0; i < 2 * AT_ONCE; i++)
        chunks[i] = (struct commit_chunk){
            .job = job->job,
            .chunk = (int32_t)(base + i),
            .partition = 0,
            .first_line = (int64_t)(base + i) * CHUNK,
            .lines = CHUNK,
        };
    for (uint32_t i = 0; i < 2 * AT_ONCE; i++)
        while (partitions[chunks[i].partition].part !=
               (int32_t)((job->partition_first + base + i) % PARTITIONS))
            chunks[i].partition++;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t line = line_of(first + i);

        snprintf(custom_ids[i], sizeof(custom_ids[i]), "request-%u", line);
        rows[i] = (struct commit_row){
            .chunk = line / CHUNK - base,
            .line = line,
            .custom_id = {custom_ids[i], strlen(custom_ids[i])},
            .status = ROW_COMPLETED,
            .status_code = 200,
            .response = {response, RESPONSE},
            .input_tokens = 100,
            .output_tokens = 100,
            .gpu_ns = 1000000,
            .attempt = 1,
        };
    }
    *batch = (struct commit_batch){.worker = lease.worker,
                                   .token = lease.token,
                                   .seq = seq + 1,
                                   .lease_ms = 3600000,
                                   .partitions = partitions,
                                   .partitions_count = PARTITIONS,
                                   .chunks = chunks,
                                   .chunks_count = 2 * AT_ONCE,
                                   .rows = rows,
                                   .rows_count = count,
                                   .books = {.held_ns = count * UINT64_C(1000000)}};
}

static void send_fenced(const struct commit_batch *batch)
{
    struct commit_result result;

    assert_int_equal(commit_run(commit, batch, &result), ERR_OK);
    assert_int_equal(result.rows_inserted, batch->rows_count);
    seq++;
}

/* No gate, no fence, no bitmaps, no books. */
static void send_plain(const struct commit_batch *batch)
{
    static struct buffer copy;
    static struct arena arena;
    struct db_result result = {0};

    arena_clear(&arena);
    commit_encode_rows(batch, commit_order(batch, &arena), 0, batch->rows_count, NULL, 0, &copy);
    assert_int_equal(
        db_script(
            commit_db(commit),
            "begin; copy pg_temp.staging from stdin (format binary); "
            "insert into mserve.results (job, line, custom_id, status, status_code, response, "
            "error, input_tokens, cached_tokens, output_tokens, gpu_ns, attempt) "
            "select job, line, custom_id, status, status_code, response, error, "
            "input_tokens, cached_tokens, output_tokens, gpu_ns, attempt "
            "from pg_temp.staging on conflict do nothing; commit",
            buffer_slice(&copy), &result),
        ERR_OK);
    db_result_release(&result);
}

/* Processor time of the server process behind the connection; 0 when it runs elsewhere. */
static uint64_t backend_cpu_ns(void)
{
    char path[64];
    unsigned long long ns = 0;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/schedstat",
             (int)pg_number(commit_db(commit), "select pg_backend_pid()"));
    file = fopen(path, "r");
    if (!file)
        return 0;
    if (fscanf(file, "%llu", &ns) != 1)
        ns = 0;
    fclose(file);
    return ns;
}

struct speed {
    double rows_per_s;
    double cpu_us_per_row; /* of the server */
};

static struct speed run(void (*send)(const struct commit_batch *), uint32_t count,
                        uint32_t batch_rows)
{
    struct job job = make_job(count);
    uint64_t cpu = backend_cpu_ns(), start = clock_mono_ns();

    for (uint32_t first = 0; first < count; first += batch_rows) {
        struct commit_batch batch;

        fill(&batch, &job, first, batch_rows);
        send(&batch);
    }
    return (struct speed){count / ((double)(clock_mono_ns() - start) / 1e9),
                          (double)(backend_cpu_ns() - cpu) / 1e3 / count};
}

static void claim_all(void)
{
    static const struct slice topic = {"bench", 5};
    struct lease_spec spec = {.name = "bench",
                              .host = "bench",
                              .pid = 1,
                              .topics = &topic,
                              .topics_count = 1,
                              .device = "cpu",
                              .currency = "EUR",
                              .lease_ms = 3600000};
    struct lease_partition claimed[PARTITIONS];
    uint32_t count;

    assert_int_equal(tier_register(db, "bench", "bench", PARTITIONS, NULL, 0, &count), ERR_OK);
    assert_int_equal(lease_register(db, &spec, &lease), ERR_OK);
    assert_int_equal(lease_claim(db, &lease, "bench", PARTITIONS, claimed, &count), ERR_OK);
    assert_int_equal(count, PARTITIONS);
    for (uint32_t i = 0; i < count; i++)
        partitions[i] =
            (struct commit_partition){"bench", claimed[i].part, claimed[i].epoch, claimed[i].token};
}

static void keep_best(struct speed *best, struct speed now)
{
    if (best->rows_per_s < now.rows_per_s)
        best->rows_per_s = now.rows_per_s;
    if (best->cpu_us_per_row == 0 || best->cpu_us_per_row > now.cpu_us_per_row)
        best->cpu_us_per_row = now.cpu_us_per_row;
}

/* The best of each: on a shared machine everything else is what the neighbours did. */
static void compare(uint32_t count, uint32_t batch, int rounds)
{
    struct speed fenced = {0}, plain = {0};

    for (int round = 0; round < rounds; round++) {
        keep_best(&fenced, run(send_fenced, count, batch));
        keep_best(&plain, run(send_plain, count, batch));
    }
    printf("%4u rows a commit, best of %d: rows/s fenced %.0f, plain %.0f, ratio %.2f; "
           "server us/row fenced %.2f, plain %.2f, ratio %.2f\n",
           batch, rounds, fenced.rows_per_s, plain.rows_per_s, fenced.rows_per_s / plain.rows_per_s,
           fenced.cpu_us_per_row, plain.cpu_us_per_row,
           plain.cpu_us_per_row / fenced.cpu_us_per_row);
}

/* The database under a role that is a worker and nothing else. */
static const char *become_worker(void)
{
    static char dsn[2200];
    char text[256], role[64];

    snprintf(role, sizeof(role), "mserve_bench_%d", (int)getpid());
    snprintf(text, sizeof(text),
             "create role %s login password 'x'; select mserve.grant_service('%s', 'worker')", role,
             role);
    pg_do(db, text);
    snprintf(dsn, sizeof(dsn), "%s user=%s password=x", pg_options().dsn, role);
    return dsn;
}

static void drop_worker(void)
{
    char text[160];

    snprintf(text, sizeof(text),
             "select mserve.revoke_role('mserve_bench_%d'); drop role mserve_bench_%d",
             (int)getpid(), (int)getpid());
    pg_do(db, text);
}

int main(int argc, char **argv)
{
    uint32_t count = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 131072;
    int rounds = argc > 2 ? atoi(argv[2]) : 3;
    bool as_worker = argc > 3 && strcmp(argv[3], "worker") == 0;
    struct db_options options;

    pg_create("bench_commit");
    db = pg_connect();
    queue_set_up(db);
    options = pg_options();
    memset(response, 'x', RESPONSE);
    memcpy(response, "{\"text\": \"", 10);
    memcpy(response + RESPONSE - 2, "\"}", 2);
    claim_all();
    if (as_worker)
        options.dsn = become_worker();
    assert_int_equal(commit_open(&options, &commit), ERR_OK);
    run(send_fenced, CHUNK * AT_ONCE, 512);
    for (uint32_t batch = 512; batch <= BATCH_MAX; batch *= 2)
        compare(count, batch, rounds);
    commit_close(commit);
    if (as_worker)
        drop_worker();
    db_close(db);
    pg_drop();
    return 0;
}
