/*
 * test_growth.c: under steady load `checkpoints` and `job_deltas` stop growing.
 *
 *     MSERVE_GROWTH_ROUNDS=1800 MSERVE_GROWTH_LIVE=256 flow_growth    an hour of load
 *
 * One worker with so many requests under way, each of which lives for 60 rounds of two seconds and
 * grows by MSERVE_GROWTH_STEP (20) bytes in each; a commit a round writes their checkpoints and the rows of those that are
 * done. A hundred others add their deltas, and the fold follows. Time is compressed: autovacuum would come once in 30 rounds (a minute),
 * so a VACUUM comes then. The sizes of all files are printed, and the end is compared with the middle.
 */
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

enum {
    LIFE_ROUNDS = 60,
    VACUUM_ROUNDS = 30,
    STATE_FIRST_BYTES = 80,
    STATE_STEP_MAX = 1000,
    LIVE_MAX = 4096,
    LINES_MAX = 1 << 18,
    STATE_MAX = STATE_FIRST_BYTES + LIFE_ROUNDS * STATE_STEP_MAX
};

/* A place of the running batch: the line in it and how many rounds it has been there. */
struct place {
    uint32_t line, age;
};

static struct db *db;
static struct place places[LIVE_MAX];
static struct commit_chunk chunks[LIVE_MAX * 2];
static struct commit_row rows[LIVE_MAX];
static struct commit_checkpoint saves[LIVE_MAX];
static uint32_t chunk_places[LINES_MAX / QUEUE_CHUNK_LINES]; /* of the batch, from 1 */
static char state_bytes[STATE_MAX];
static uint32_t step_bytes;

static uint32_t from_environment(const char *name, uint32_t otherwise)
{
    const char *text = getenv(name);

    return text && *text ? (uint32_t)strtoul(text, NULL, 0) : otherwise;
}

/* The claim took all four partitions in order, so a partition's number is its place. */
static uint32_t chunk_of(struct commit_batch *batch, const struct job *job, uint32_t line)
{
    uint32_t chunk = line / QUEUE_CHUNK_LINES;

    if (chunk_places[chunk] == 0) {
        chunks[batch->chunks_count] = (struct commit_chunk){
            .job = job->job,
            .chunk = (int32_t)chunk,
            .partition = (job->partition_first + chunk) % QUEUE_PARTITIONS,
            .first_line = (int64_t)chunk * QUEUE_CHUNK_LINES,
            .lines = QUEUE_CHUNK_LINES,
        };
        chunk_places[chunk] = ++batch->chunks_count;
    }
    return chunk_places[chunk] - 1;
}

static void add_row(struct commit_batch *batch, const struct job *job, uint32_t line)
{
    rows[batch->rows_count++] = (struct commit_row){
        .chunk = chunk_of(batch, job, line),
        .line = line,
        .custom_id = SLICE("x"),
        .status = ROW_COMPLETED,
        .status_code = 200,
        .response = SLICE("{}"),
        .gpu_ns = 1000,
        .attempt = 1,
    };
}

static void add_save(struct commit_batch *batch, const struct job *job, const struct place *place)
{
    saves[batch->checkpoints_count++] = (struct commit_checkpoint){
        .chunk = chunk_of(batch, job, place->line),
        .line = place->line,
        .attempt = 1,
        .tokens = place->age,
        .gpu_ns = 1000,
        .state = {state_bytes, STATE_FIRST_BYTES + place->age * step_bytes},
    };
}

/* Those that are done make room for the next lines. */
static void play_round(struct queue_worker *worker, const struct job *job, uint32_t live,
                       uint32_t *next_line)
{
    struct commit_batch batch = {.worker = worker->lease.worker,
                                 .token = worker->lease.token,
                                 .seq = ++worker->seq,
                                 .lease_ms = LEASE_LONG_MS,
                                 .partitions = worker->partitions,
                                 .partitions_count = worker->partitions_count,
                                 .chunks = chunks,
                                 .rows = rows,
                                 .checkpoints = saves};
    struct commit_result result;

    memset(chunk_places, 0, sizeof(chunk_places));
    for (uint32_t i = 0; i < live; i++) {
        if (++places[i].age < LIFE_ROUNDS) {
            add_save(&batch, job, &places[i]);
        } else {
            add_row(&batch, job, places[i].line);
            places[i] = (struct place){(*next_line)++, 0};
        }
    }
    batch.books.held_ns = (uint64_t)live * 1000;
    assert_int_equal(commit_run(worker->commit, &batch, &result), ERR_OK);
    assert_int_equal(result.checkpoints_late, 0);
    pg_do(db, "insert into mserve.job_deltas (job) select job from mserve.jobs, "
              "generate_series(1, 200)");
    pg_do(db, "select * from mserve.tick(3600000)");
}

/* Of all files: table, TOAST and indexes. */
static int64_t size_of(const char *table)
{
    char query[96];

    snprintf(query, sizeof(query), "select pg_total_relation_size('mserve.%s')", table);
    return pg_number(db, query);
}

static void print_updates(struct queue_worker *worker)
{
    pg_do(commit_db(worker->commit), "select pg_stat_force_next_flush()");
    print_message("# of 1,000 updates of checkpoints %d were HOT\n",
                  (int)pg_number(db, "select 1000 * n_tup_hot_upd / greatest(n_tup_upd, 1) from "
                                     "pg_stat_user_tables where relname = 'checkpoints'"));
}

/*
 * The smallest that the two tables were in each third of the time. Now and then they grow by what is written
 * while a process of the server that looks at this database, and that a busy machine leaves waiting, keeps all
 * deleted rows from being used again.
 */
struct sizes {
    int64_t saved[3], deltas[3];
};

static void keep_smallest(int64_t *smallest, int64_t size)
{
    if (*smallest == 0 || size < *smallest)
        *smallest = size;
}

static void measure(struct sizes *sizes, uint32_t third, uint32_t round)
{
    int64_t saved = size_of("checkpoints"), deltas = size_of("job_deltas");

    keep_smallest(&sizes->saved[third], saved);
    keep_smallest(&sizes->deltas[third], deltas);
    print_message("# round %u: checkpoints %d KiB, job_deltas %d KiB\n", round, (int)(saved / 1024),
                  (int)(deltas / 1024));
}

/* Nothing used again would be four times the mebibyte between two thirds of the short form. */
static void assert_stopped(const char *table, const int64_t smallest[3])
{
    if (smallest[2] > smallest[1] + smallest[1] / 5 + (1 << 20))
        fail_msg("%s still grows: %d, then %d KiB", table, (int)(smallest[1] / 1024),
                 (int)(smallest[2] / 1024));
}

/*
 * Our VACUUM stands for it. While the server's own looks at a table, on a slow machine for many rounds, nothing that was
 * deleted since can be used again.
 */
static void stop_autovacuum(void)
{
    pg_do(db, "do $$ declare t regclass; begin "
              "for t in select oid from pg_class where relnamespace = 'mserve'::regnamespace and "
              "relkind = 'r' loop "
              "execute format('alter table %s set (autovacuum_enabled = off, "
              "toast.autovacuum_enabled = off)', t); end loop; end $$");
}

static void test_under_steady_load_the_tables_stop_growing(void **state)
{
    uint32_t rounds = from_environment("MSERVE_GROWTH_ROUNDS", 270);
    uint32_t live = from_environment("MSERVE_GROWTH_LIVE", 64);
    uint32_t lines = (live * (rounds / LIFE_ROUNDS + 2) + live) / 16 * 16 + 16, next_line = live;
    struct queue_worker worker = queue_worker("w", LEASE_LONG_MS, QUEUE_PARTITIONS);
    struct sizes sizes = {{0}, {0}};
    struct job job;

    (void)state;
    step_bytes = from_environment("MSERVE_GROWTH_STEP", 20);
    assert_true(step_bytes <= STATE_STEP_MAX && live <= LIVE_MAX && lines <= LINES_MAX &&
                rounds >= 3 * VACUUM_ROUNDS);
    stop_autovacuum();
    job = queue_job(db, "growth", lines, true);
    for (uint32_t i = 0; i < live; i++)
        places[i] = (struct place){i, i % LIFE_ROUNDS};
    for (uint32_t round = 1; round <= rounds; round++) {
        play_round(&worker, &job, live, &next_line);
        if (round % VACUUM_ROUNDS)
            continue;
        measure(&sizes, (round - 1) * 3 / rounds, round);
        pg_do(db, "vacuum mserve.checkpoints");
        pg_do(db, "vacuum mserve.job_deltas");
    }
    print_updates(&worker);
    proof_assert(db);
    assert_stopped("checkpoints", sizes.saved);
    assert_stopped("job_deltas", sizes.deltas);
    queue_worker_close(&worker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_under_steady_load_the_tables_stop_growing),
    };
    int failed;

    db = scene_open("growth");
    failed = cmocka_run_group_tests_name("growth", tests, NULL, NULL);
    scene_close(db);
    return failed;
}
