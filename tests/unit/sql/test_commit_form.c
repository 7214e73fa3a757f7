/* test_commit_form.c: a batch in the two forms in which the server gets it: COPY bytes and a script. */
#include "sql/commit_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct commit_partition partitions[] = {{"a'b\"c\\d", 3, 7, -1}, {"t", 4, 8, 9}};
static const struct commit_chunk chunks[] = {
    {.job = {{2}}, .chunk = 5, .partition = 1, .first_line = 10, .lines = 4},
    {.job = {{1}}, .chunk = 6, .partition = 0, .first_line = 0, .lines = 3},
    {.job = {{3}}, .chunk = 7, .partition = 0, .first_line = 0, .lines = 8}, /* without a row */
};
static const struct commit_row rows[] = {
    {.chunk = 0, .line = 13, .custom_id = {"x", 1}, .status = ROW_EXPIRED, .attempt = 1},
    {.chunk = 0, .line = 10, .custom_id = {"y", 1}, .status = ROW_FAILED, .status_code = 400},
    {.chunk = 1,
     .line = 2,
     .custom_id = {"zz", 2},
     .status = ROW_COMPLETED,
     .status_code = 200,
     .response = {"{}", 2},
     .input_tokens = 258,
     .gpu_ns = 772,
     .attempt = 2,
     .resumed_tokens = 4,
     .recompute_ns = 9,
     .numerics_changed = true},
};
static const struct commit_batch batch = {
    .worker = {{9}},
    .token = -5,
    .seq = 12,
    .lease_ms = 30000,
    .partitions = partitions,
    .partitions_count = 2,
    .chunks = chunks,
    .chunks_count = 3,
    .rows = rows,
    .rows_count = 3,
    .books = {100, 70, 5, 6, 4, 8, 7},
    .sampled = 21,
};

/* Rows are locked in the order of their key, so that two commits never wait for each other. */
static void test_rows_are_sent_by_job_and_line(void **state)
{
    struct arena arena = {0};
    const uint32_t *order = commit_order(&batch, &arena);

    (void)state;
    assert_int_equal(order[0], 2);
    assert_int_equal(order[1], 1);
    assert_int_equal(order[2], 0);
    arena_release(&arena);
}

static void test_a_row_in_copy_form(void **state)
{
    static const char expected[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0"
                                   "\0\x11"
                                   "\0\0\0\x10\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                   "\0\0\0\x8\0\0\0\0\0\0\0\2"
                                   "\0\0\0\2zz"
                                   "\0\0\0\x9"
                                   "completed"
                                   "\0\0\0\2\0\xc8"
                                   "\0\0\0\2{}"
                                   "\xff\xff\xff\xff"
                                   "\0\0\0\4\0\0\1\2"
                                   "\0\0\0\4\0\0\0\0"
                                   "\0\0\0\4\0\0\0\0"
                                   "\0\0\0\x8\0\0\0\0\0\0\3\4"
                                   "\0\0\0\4\0\0\0\2"
                                   "\0\0\0\x8\0\0\0\0\0\0\0\x9"
                                   "\0\0\0\4\0\0\0\4"
                                   "\0\0\0\1\1"
                                   "\xff\xff\xff\xff"
                                   "\xff\xff\xff\xff"
                                   "\xff\xff";
    static const uint32_t order[] = {2};
    struct buffer out = {0};

    (void)state;
    commit_encode_rows(&batch, order, 0, 1, NULL, 0, &out);
    assert_int_equal(out.len, sizeof(expected) - 1);
    assert_memory_equal(out.data, expected, sizeof(expected) - 1);
    buffer_release(&out);
}

/* A row that could not be stored keeps its cost and its name, and loses what was wrong with it. */
static void test_a_replaced_row_is_failed_without_response(void **state)
{
    static const struct commit_replacement replaced[] = {{0, "{\"a\":1}"}, {2, "{\"b\":2}"}};
    static const uint32_t order[] = {2, 1};
    struct buffer out = {0};

    (void)state;
    commit_encode_rows(&batch, order, 0, 2, replaced, 2, &out);
    assert_non_null(memmem(out.data, out.len, "{\"b\":2}", 7));
    assert_null(memmem(out.data, out.len, "{\"a\":1}", 7));
    assert_null(memmem(out.data, out.len, "completed", 9));
    assert_non_null(memmem(out.data, out.len, "\0\0\3\4", 4));
    buffer_release(&out);
}

/* Everything a user could have a hand in is quoted; chunks without a row are not touched. */
static void test_the_script_of_a_batch(void **state)
{
    static const char expected[] =
        "begin isolation level read committed; copy pg_temp.staging from stdin (format binary); "
        "select mserve.check_accepted("
        "'{02000000-0000-0000-0000-000000000000,"
        "01000000-0000-0000-0000-000000000000,"
        "03000000-0000-0000-0000-000000000000}'); "
        "select inserted, duplicates, late from mserve.commit_batch("
        "'09000000-0000-0000-0000-000000000000', -5, 12, 30000, 3, 0, "
        "'{\"a''b\\\"c\\\\d\",\"t\"}', '{3,4}', '{7,8}', '{-1,9}', "
        "'{02000000-0000-0000-0000-000000000000,01000000-0000-0000-0000-000000000000}', "
        "'{5,6}', '{2,1}', '{1001,001}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', "
        "'{}', "
        "'{}', '{}', '{}', '{}', 100, 70, null, 5, 6, 4, 8, 7, 21); commit";
    struct commit_touched touched;
    struct arena arena = {0};
    struct buffer out = {0};

    (void)state;
    commit_find_touched(&batch, &arena, &touched);
    commit_write_script(&batch, &touched, &out);
    assert_string_equal(out.data, expected);
    buffer_release(&out);
    arena_release(&arena);
}

static void test_attempts_and_jobs_in_the_script(void **state)
{
    static const struct commit_attempt attempts[] = {
        {.job = {{1}}, .line = 5, .gpu_ns = 50, .why = ATTEMPT_FENCED, .tokens_lost = -1},
        {{{1}}, 6, 60, ATTEMPT_OUT_OF_MEMORY, 3, 9, 2, 70, 8}};
    static const struct commit_job jobs[] = {{{{1}}, 70, 5, 6}, {{{2}}, 0, 1, 0}};
    struct commit_batch books = batch;
    struct commit_touched touched;
    struct arena arena = {0};
    struct buffer out = {0};

    (void)state;
    books.rows_count = 0;
    books.attempts = attempts;
    books.attempts_count = 2;
    books.jobs = jobs;
    books.jobs_count = 2;
    commit_find_touched(&books, &arena, &touched);
    commit_write_script(&books, &touched, &out);
    assert_non_null(strstr(out.data,
                           "'{5,6}', '{50,60}', '{\"fenced\",\"out_of_memory\"}', '{1,3}', "
                           "'{0,9}', '{null,2}', '{0,70}', '{0,8}'"));
    assert_non_null(strstr(out.data, "'{5,1}', '{6,0}', 100, 70, "
                                     "'{\"01000000-0000-0000-0000-000000000000\":70}', 5,"));
    buffer_release(&out);
    arena_release(&arena);
}

/* A checkpoint stands behind the rows, and names its chunk by its place in the script. */
static void test_a_checkpoint_in_both_forms(void **state)
{
    static const char expected[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0"
                                   "\0\x11"
                                   "\0\0\0\x10\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                   "\0\0\0\x8\0\0\0\0\0\0\0\6"
                                   "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
                                   "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
                                   "\0\0\0\4\0\0\0\x15"
                                   "\0\0\0\x8\0\0\0\0\0\0\1\0"
                                   "\0\0\0\4\0\0\0\3"
                                   "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
                                   "\0\0\0\4\0\0\0\2"
                                   "\0\0\0\3\1\0\2"
                                   "\xff\xff";
    static const struct commit_checkpoint saved[] = {
        {.chunk = 2, .line = 6, .attempt = 3, .tokens = 21, .gpu_ns = 256, .state = {"\1\0\2", 3}}};
    static const struct commit_discard discards[] = {{1, 2}};
    struct commit_batch going = batch;
    struct commit_touched touched;
    struct arena arena = {0};
    struct buffer out = {0};

    (void)state;
    going.rows_count = 0;
    going.checkpoints = saved;
    going.checkpoints_count = 1;
    going.discards = discards;
    going.discards_count = 1;
    commit_find_touched(&going, &arena, &touched);
    touched.places[2] = 1;
    commit_encode_all(&going, &touched, NULL, NULL, 0, &out);
    assert_int_equal(out.len, sizeof(expected) - 1);
    assert_memory_equal(out.data, expected, sizeof(expected) - 1);
    commit_find_touched(&going, &arena, &touched);
    commit_write_script(&going, &touched, &out);
    assert_non_null(strstr(out.data, "', -5, 12, 30000, 0, 1, "));
    assert_non_null(strstr(out.data, "'{7,6}', '{1,1}', '{0,0}', "
                                     "'{01000000-0000-0000-0000-000000000000}', '{2}', "));
    buffer_release(&out);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_sent_by_job_and_line),
        cmocka_unit_test(test_a_row_in_copy_form),
        cmocka_unit_test(test_a_replaced_row_is_failed_without_response),
        cmocka_unit_test(test_the_script_of_a_batch),
        cmocka_unit_test(test_attempts_and_jobs_in_the_script),
        cmocka_unit_test(test_a_checkpoint_in_both_forms),
    };

    return cmocka_run_group_tests_name("commit_form", tests, NULL, NULL);
}
