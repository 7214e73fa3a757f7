/* test_buffer.c: buffers grow and stay terminated; arenas give aligned, separate memory. */
#include "config/buffer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Whatever is added in whatever pieces, the bytes are those, and a NUL follows them. */
static void test_pieces_add_up_and_end_in_nul(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    for (int i = 0; i < 1000; i++) {
        buffer_add_text(&buffer, "ab");
        buffer_add_byte(&buffer, 'c');
        assert_int_equal(buffer.data[buffer.len], 0);
    }
    assert_int_equal(buffer.len, 3000);
    assert_memory_equal(buffer.data + 2997, "abc", 4);
    buffer_release(&buffer);
}

static void test_numbers_are_decimal_at_both_ends(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    buffer_add_u64(&buffer, UINT64_MAX);
    buffer_add_byte(&buffer, ' ');
    buffer_add_i64(&buffer, INT64_MIN);
    buffer_printf(&buffer, " %d", 0);
    assert_string_equal(buffer.data, "18446744073709551615 -9223372036854775808 0");
    buffer_release(&buffer);
}

/* A cleared arena is used again: the memory handed out before may come back, aligned. */
static void test_an_arena_is_aligned_and_reusable(void **state)
{
    struct arena arena = {0};

    (void)state;
    for (int round = 0; round < 3; round++) {
        char *last = NULL;

        for (size_t size = 1; size < 40000; size = size * 3 + 1) {
            char *memory = arena_alloc(&arena, size);

            assert_int_equal((uintptr_t)memory % 16, 0);
            memset(memory, round, size);
            assert_ptr_not_equal(memory, last);
            last = memory;
        }
        arena_clear(&arena);
    }
    assert_string_equal(arena_copy(&arena, "text", 2), "te");
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_add_up_and_end_in_nul),
        cmocka_unit_test(test_numbers_are_decimal_at_both_ends),
        cmocka_unit_test(test_an_arena_is_aligned_and_reusable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
