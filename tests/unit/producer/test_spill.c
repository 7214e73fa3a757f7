/* test_spill.c: bytes come back from memory, from the file, and from across the two. */
#include "producer/spill.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MEMORY = 64 * 1024, TOTAL = 5 * MEMORY };

static char byte_at(size_t at)
{
    return (char)(at * 31 + at / 251);
}

/* Odd sizes, so that the border between file and memory falls everywhere. */
static void test_what_was_appended_is_read_back(void **state)
{
    struct spill *spill = spill_new("/tmp", "a test", MEMORY);
    char *bytes = malloc(TOTAL), *back = malloc(TOTAL);
    size_t at = 0;

    (void)state;
    for (size_t i = 0; i < TOTAL; i++)
        bytes[i] = byte_at(i);
    for (size_t len = 1; at < TOTAL; len = len * 7 % 30011 + 1) {
        if (len > TOTAL - at)
            len = TOTAL - at;
        assert_int_equal(spill_append(spill, bytes + at, len), 0);
        at += len;
        assert_int_equal(spill_size(spill), at);
    }
    assert_int_equal(spill_read(spill, 0, back, TOTAL), 0);
    assert_memory_equal(back, bytes, TOTAL);
    for (size_t from = 0; from + 5000 < TOTAL; from += 4999) {
        assert_int_equal(spill_read(spill, from, back, 5000), 0);
        assert_memory_equal(back, bytes + from, 5000);
    }
    assert_int_equal(spill_append(spill, bytes, MEMORY + 1), 0);
    assert_int_equal(spill_read(spill, TOTAL, back, MEMORY + 1), 0);
    assert_memory_equal(back, bytes, MEMORY + 1);
    spill_free(spill);
    free(bytes);
    free(back);
}

/* Duplicates are marked afterwards, wherever their entry has gone. */
static void test_bytes_can_be_changed_in_place(void **state)
{
    struct spill *spill = spill_new("/tmp", "a test", MEMORY);
    char *zeros = calloc(1, TOTAL), *back = malloc(TOTAL);

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_int_equal(spill_append(spill, zeros, TOTAL / 10), 0);
    for (size_t at = 0; at + 8 <= TOTAL; at += TOTAL / 16)
        assert_int_equal(spill_write(spill, at, "changed!", 8), 0);
    assert_int_equal(spill_read(spill, 0, back, TOTAL), 0);
    for (size_t at = 0; at + 8 <= TOTAL; at += TOTAL / 16) {
        assert_memory_equal(back + at, "changed!", 8);
        memset(back + at, 0, 8);
    }
    assert_memory_equal(back, zeros, TOTAL);
    spill_free(spill);
    free(zeros);
    free(back);
}

/* A folder that is not there is one sentence, and only for those who need it. */
static void test_a_small_spill_needs_no_folder(void **state)
{
    struct spill *spill = spill_new("/nonexistent/folder", "a test", MEMORY);
    char *zeros = calloc(1, MEMORY);

    (void)state;
    assert_int_equal(spill_append(spill, zeros, MEMORY), ERR_OK);
    assert_int_equal(spill_append(spill, zeros, 1), ERR_IO);
    spill_free(spill);
    spill_free(NULL);
    free(zeros);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_appended_is_read_back),
        cmocka_unit_test(test_bytes_can_be_changed_in_place),
        cmocka_unit_test(test_a_small_spill_needs_no_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
