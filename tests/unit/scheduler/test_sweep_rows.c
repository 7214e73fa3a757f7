/* test_sweep_rows.c: from the index alone each line without a row gets one, with its name. */
#include "scheduler/sweep.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <zstd.h>

#include <cmocka.h>

static struct slice pack(struct arena *arena, const char *plain, size_t len)
{
    char *packed = arena_alloc(arena, 1000);
    size_t size = ZSTD_compress(packed, 1000, plain, len, 1);

    assert_false(ZSTD_isError(size));
    return (struct slice){packed, size};
}

/* Four lines from 20 on, "a" to "d"; the second and the last are done. */
static struct work_chunk chunk_of(struct arena *arena, enum work_wish wish)
{
    return (struct work_chunk){.job = {{7}},
                               .chunk = 2,
                               .first_line = 20,
                               .lines = 4,
                               .done_count = 2,
                               .done_map = {0x50},
                               .wish = wish,
                               .custom_ids = pack(arena, "a\0b\0c\0d", 8)};
}

static void test_lines_without_a_row_get_one(void **state)
{
    struct arena arena = {0};
    struct work_chunk chunk = chunk_of(&arena, WORK_EXPIRE);
    struct sweep_rows rows;

    (void)state;
    sweep_build(&chunk, 1, 100, &arena, &rows);
    assert_int_equal(rows.chunks_count, 1);
    assert_int_equal(rows.rows_count, 2);
    assert_int_equal(rows.rows[0].line, 20);
    assert_int_equal(rows.rows[1].line, 22);
    assert_int_equal(rows.rows[1].custom_id.len, 1);
    assert_memory_equal(rows.rows[1].custom_id.data, "c", 1);
    assert_int_equal(rows.rows[0].status, ROW_EXPIRED);
    assert_string_equal(
        rows.rows[0].error.data,
        "{\"code\":\"batch_expired\",\"message\":\"This request could not be executed "
        "before the completion window expired.\"}");
    assert_int_equal(rows.rows[0].status_code, 0);
    arena_release(&arena);
}

static void test_chunks_without_a_wish_are_left_alone(void **state)
{
    struct arena arena = {0};
    struct work_chunk two[2] = {chunk_of(&arena, WORK_RUN), chunk_of(&arena, WORK_CANCEL)};
    struct sweep_rows rows;

    (void)state;
    two[1].chunk = 3;
    sweep_build(two, 2, 100, &arena, &rows);
    assert_int_equal(rows.chunks_count, 1);
    assert_int_equal(rows.chunks[0].chunk, 3);
    assert_int_equal(rows.rows[0].status, ROW_CANCELLED);
    arena_release(&arena);
}

/* A commit has a size; one chunk goes in any case, or nothing would ever go. */
static void test_the_rest_comes_the_next_time(void **state)
{
    struct arena arena = {0};
    struct work_chunk three[3];
    struct sweep_rows rows;

    (void)state;
    for (int i = 0; i < 3; i++)
        three[i] = chunk_of(&arena, WORK_CANCEL);
    sweep_build(three, 3, 5, &arena, &rows);
    assert_int_equal(rows.rows_count, 4);
    sweep_build(three, 3, 1, &arena, &rows);
    assert_int_equal(rows.rows_count, 2);
    arena_release(&arena);
}

/* Damaged or short names cost a request its name in the output, never its row. */
static void test_damaged_names_do_not_cost_a_row(void **state)
{
    struct arena arena = {0};
    struct work_chunk chunk = chunk_of(&arena, WORK_CANCEL);
    struct sweep_rows rows;

    (void)state;
    chunk.custom_ids = SLICE("not zstd");
    sweep_build(&chunk, 1, 100, &arena, &rows);
    assert_int_equal(rows.rows_count, 2);
    assert_int_equal(rows.rows[0].custom_id.len, 0);
    assert_non_null(rows.rows[0].custom_id.data);
    chunk.custom_ids = pack(&arena, "a\0b", 4);
    sweep_build(&chunk, 1, 100, &arena, &rows);
    assert_int_equal(rows.rows_count, 2);
    assert_int_equal(rows.rows[0].custom_id.len, 1);
    assert_int_equal(rows.rows[1].custom_id.len, 0);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_without_a_row_get_one),
        cmocka_unit_test(test_chunks_without_a_wish_are_left_alone),
        cmocka_unit_test(test_the_rest_comes_the_next_time),
        cmocka_unit_test(test_damaged_names_do_not_cost_a_row),
    };

    return cmocka_run_group_tests_name("sweep_rows", tests, NULL, NULL);
}
