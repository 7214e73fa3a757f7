/* test_job.c: a job from INSERT to seal, cancel and end, against a real PostgreSQL. */
#include "sql/job.h"
#include "sql/migrate.h"
#include "tests/flow/pg.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct db *db;
static struct arena arena;

static struct job_spec spec_of(const char *key)
{
    return (struct job_spec){.idempotency_key = key,
                             .content_sha256 = {1},
                             .input_name = "in.jsonl",
                             .endpoint = "/v1/completions",
                             .tier = "small",
                             .topic = "mserve.requests.small",
                             .partitions = 4,
                             .chunk_lines_max = 16,
                             .chunk_bytes_max = 1 << 20,
                             .completion_window = "24h",
                             .window_ms = 86400000};
}

static struct job_chunk chunk_of(const struct job *job, int32_t chunk, uint32_t lines)
{
    return (struct job_chunk){
        .chunk = chunk,
        .lines = lines,
        .first_line = chunk * 10,
        .part = (int32_t)((job->partition_first + (uint32_t)chunk) % job->partitions),
        .first_offset = 100,
        .last_offset = 100 + lines - 1,
        .bytes = 1000,
        .custom_ids = SLICE("zstd"),
        .work = 50};
}

static struct job open_job(const char *key)
{
    struct job_spec spec = spec_of(key);
    struct job job;

    assert_int_equal(job_open(db, &spec, &arena, &job), ERR_OK);
    return job;
}

static enum job_state state_now(const struct job *job)
{
    struct job now;

    assert_int_equal(job_get(db, &job->job, &arena, &now), ERR_OK);
    return now.state;
}

/* The same command again finds the same job; other content under the key is refused. */
static void test_a_key_names_one_job(void **state)
{
    struct job_spec spec = spec_of("one");
    struct job first = open_job("one"), again = open_job("one"), other;

    (void)state;
    assert_true(first.made);
    assert_false(again.made);
    assert_true(uuid_equal(first.job, again.job));
    assert_int_equal(first.state, JOB_VALIDATING);
    assert_string_equal(first.tenant, "default");
    assert_true(first.partition_first < 4);
    assert_true(first.expires_us - first.created_us == INT64_C(86400000000));
    spec.content_sha256[0] = 2;
    assert_int_equal(job_open(db, &spec, &arena, &other), ERR_CONFLICT);
}

/* A resumed upload sends the chunks that have no row; the seal counts them, in SQL. */
static void test_a_seal_counts_the_chunks(void **state)
{
    struct job job = open_job("seal");
    struct job_chunk chunks[] = {chunk_of(&job, 0, 10), chunk_of(&job, 1, 10),
                                 chunk_of(&job, 2, 3)};
    struct job_chunk_map map;

    (void)state;
    assert_int_equal(job_add_chunks(db, &job.job, chunks, 1), ERR_OK);
    assert_int_equal(job_add_chunks(db, &job.job, chunks + 2, 1), ERR_OK);
    assert_int_equal(job_seal(db, &job.job, 3, 23, 0), ERR_AGAIN);
    assert_int_equal(job_seal(db, &job.job, 2, 13, 0), ERR_AGAIN); /* a hole is no job */
    assert_int_equal(job_chunks_there(db, &job.job, &arena, &map), ERR_OK);
    assert_int_equal(map.bits, 3);
    assert_int_equal(map.map[0], 5);
    assert_int_equal(job_add_chunks(db, &job.job, chunks, 3), ERR_OK);
    assert_int_equal(job_seal(db, &job.job, 3, 22, 0), ERR_AGAIN);
    assert_int_equal(state_now(&job), JOB_VALIDATING);
    assert_int_equal(job_seal(db, &job.job, 3, 23, 1), ERR_OK);
    assert_int_equal(job_seal(db, &job.job, 3, 23, 1), ERR_OK);
    assert_int_equal(job_seal(db, &job.job, 3, 24, 1), ERR_LOST);
    assert_int_equal(state_now(&job), JOB_IN_PROGRESS);
    assert_int_equal(job_add_chunks(db, &job.job, chunks, 1), ERR_LOST);
}

static void test_a_chunk_in_a_foreign_partition_is_refused(void **state)
{
    struct job job = open_job("foreign");
    struct job_chunk chunk = chunk_of(&job, 0, 10);

    (void)state;
    chunk.part = (chunk.part + 1) % 4;
    assert_int_equal(job_add_chunks(db, &job.job, &chunk, 1), ERR_INTERNAL);
}

/* Messages that were found missing are sent again, also after the seal; only their row changes. */
static void test_a_missing_chunk_is_replaced(void **state)
{
    struct job job = open_job("missing");
    struct job_chunk chunk = chunk_of(&job, 0, 10);
    struct job_chunk_map map;

    (void)state;
    assert_int_equal(job_add_chunks(db, &job.job, &chunk, 1), ERR_OK);
    assert_int_equal(job_seal(db, &job.job, 1, 10, 0), ERR_OK);
    pg_do(db, "update mserve.chunks set missing = true where first_offset = 100 and lines = 10 and "
              "job = (select job from mserve.jobs where idempotency_key = 'missing')");
    assert_int_equal(job_chunks_there(db, &job.job, &arena, &map), ERR_OK);
    assert_int_equal(map.count, 0);
    chunk.first_offset = 500;
    chunk.last_offset = 509;
    assert_int_equal(job_add_chunks(db, &job.job, &chunk, 1), ERR_LOST);
    assert_int_equal(job_chunks_there(db, &job.job, &arena, &map), ERR_OK);
    assert_int_equal(map.count, 1);
    assert_int_equal(pg_number(db, "select count(*) from mserve.chunks where first_offset = 500"),
                     1);
}

/* Before the seal a job ends at once and leaves nothing; after it, cancelling is a wish. */
static void test_cancel_before_and_after_the_seal(void **state)
{
    struct job job = open_job("cancel-1");
    struct job_chunk chunk = chunk_of(&job, 0, 10);
    struct uuid nobody = {{9}};
    enum job_state now;

    (void)state;
    assert_int_equal(job_add_chunks(db, &job.job, &chunk, 1), ERR_OK);
    assert_int_equal(job_cancel(db, &job.job, &now), ERR_OK);
    assert_int_equal(now, JOB_CANCELLED);
    assert_int_equal(job_add_chunks(db, &job.job, &chunk, 1), ERR_LOST);
    assert_int_equal(job_seal(db, &job.job, 1, 10, 0), ERR_LOST);
    assert_int_equal(pg_number(db, "select count(*) from mserve.chunks c join mserve.jobs j "
                                   "using (job) where j.idempotency_key = 'cancel-1'"),
                     0);

    job = open_job("cancel-2");
    chunk = chunk_of(&job, 0, 10);
    assert_int_equal(job_add_chunks(db, &job.job, &chunk, 1), ERR_OK);
    assert_int_equal(job_seal(db, &job.job, 1, 10, 0), ERR_OK);
    assert_int_equal(job_cancel(db, &job.job, &now), ERR_OK);
    assert_int_equal(now, JOB_CANCELLING);
    assert_int_equal(job_cancel(db, &job.job, &now), ERR_OK);
    assert_int_equal(now, JOB_CANCELLING);
    assert_int_equal(pg_number(db, "select count(*) from mserve.job_deltas d join mserve.jobs j "
                                   "using (job) where j.idempotency_key = 'cancel-2'"),
                     1);
    assert_int_equal(job_cancel(db, &nobody, &now), ERR_NOT_FOUND);
}

/* Under the digest and the tenant: who submits the same bytes, or only knows their digest, has no part in
 * it. */
static void test_a_large_body_is_stored_once_for_its_tenant(void **state)
{
    static const uint8_t sha256[32] = {7}, other[32] = {8};
    struct job mine = open_job("blob-1"), theirs = open_job("blob-2");
    struct slice body;

    (void)state;
    pg_do(db, "insert into mserve.tenants (tenant) values ('red');"
              "update mserve.jobs set tenant = 'red' where idempotency_key = 'blob-2'");
    assert_int_equal(blob_put(db, sha256, SLICE("a\0b")), ERR_OK);
    assert_int_equal(blob_put(db, sha256, SLICE("a\0b")), ERR_OK);
    assert_int_equal(blob_get(db, &mine.job, sha256, &arena, &body), ERR_OK);
    assert_int_equal(body.len, 3);
    assert_memory_equal(body.data, "a\0b", 3);
    assert_int_equal(blob_get(db, &mine.job, other, &arena, &body), ERR_NOT_FOUND);
    assert_int_equal(blob_get(db, &theirs.job, sha256, &arena, &body), ERR_NOT_FOUND);
}

static void test_a_tier_grows_and_does_not_shrink(void **state)
{
    static const struct slice names[] = {{"llama", 5}, {"tiny", 4}};
    uint32_t partitions;

    (void)state;
    assert_int_equal(tier_register(db, "small", "t", 8, names, 2, &partitions), ERR_OK);
    assert_int_equal(partitions, 8);
    assert_int_equal(tier_register(db, "small", "t", 12, names, 1, &partitions), ERR_OK);
    assert_int_equal(partitions, 12);
    assert_int_equal(tier_register(db, "small", "t", 4, names, 1, &partitions), ERR_OK);
    assert_int_equal(partitions, 12);
    assert_int_equal(pg_number(db, "select count(*) from mserve.models where tier = 'small'"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_key_names_one_job),
        cmocka_unit_test(test_a_seal_counts_the_chunks),
        cmocka_unit_test(test_a_chunk_in_a_foreign_partition_is_refused),
        cmocka_unit_test(test_a_missing_chunk_is_replaced),
        cmocka_unit_test(test_cancel_before_and_after_the_seal),
        cmocka_unit_test(test_a_large_body_is_stored_once_for_its_tenant),
        cmocka_unit_test(test_a_tier_grows_and_does_not_shrink),
    };
    int failed;

    pg_create("job");
    db = pg_connect();
    assert_int_equal(migrate_run(db, stdout), ERR_OK);
    failed = cmocka_run_group_tests_name("job", tests, NULL, NULL);
    db_close(db);
    arena_release(&arena);
    pg_drop();
    return failed;
}
