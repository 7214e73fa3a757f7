/* test_stops.c: a stop string is found where it first ends, however the text was cut into tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/core/stops.h"

/* Feeds `text` in pieces of `size`; true and the bounds of the first stop that is found. */
static bool feed(const struct stops *stops, const char *text, size_t size, size_t *ret_begin,
                 size_t *ret_end)
{
    const size_t len = strlen(text);

    for (size_t seen = 0; seen < len; seen += size) {
        const size_t now = seen + size < len ? seen + size : len;

        if (stops_find(stops, (struct slice){text, now}, seen, ret_begin, ret_end))
            return true;
    }
    return false;
}

static void test_a_stop_is_found_across_any_cut(void **state)
{
    const struct slice stop[] = {SLICE("END"), SLICE("\n\n")};
    struct stops *stops = stops_new(stop, 2);
    size_t begin, end;

    (void)state;
    for (size_t size = 1; size < 20; size++) {
        assert_true(feed(stops, "one ENEND two", size, &begin, &end));
        assert_int_equal(begin, 6);
        assert_int_equal(end, 9);
        assert_false(feed(stops, "one EN D\n two\n", size, &begin, &end));
    }
    stops_free(stops);
}

/* "bc" ends before "abcd" does; of "c" and "bc", which end together, the longer counts. */
static void test_the_first_to_end_counts_and_then_the_longer(void **state)
{
    const struct slice stop[] = {SLICE("abcd"), SLICE("c"), SLICE("bc")};
    struct stops *stops = stops_new(stop, 3);
    size_t begin, end;

    (void)state;
    for (size_t size = 1; size < 8; size++) {
        assert_true(feed(stops, "xabcdc", size, &begin, &end));
        assert_int_equal(begin, 2);
        assert_int_equal(end, 4);
    }
    stops_free(stops);
}

/* Bytes are bytes: NUL, and half of a character. */
static void test_stops_are_bytes(void **state)
{
    const struct slice stop[] = {{"\0\xc3", 2}};
    struct stops *stops = stops_new(stop, 1);
    size_t begin, end;

    (void)state;
    assert_true(stops_find(stops, (struct slice){"a\0\xc3\xa4", 4}, 3, &begin, &end) == false);
    assert_true(stops_find(stops, (struct slice){"a\0\xc3\xa4", 4}, 2, &begin, &end));
    assert_int_equal(begin, 1);
    assert_int_equal(end, 3);
    stops_free(stops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stop_is_found_across_any_cut),
        cmocka_unit_test(test_the_first_to_end_counts_and_then_the_longer),
        cmocka_unit_test(test_stops_are_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
