/* test_backoff.c: pauses grow, stay in their bounds, and differ. */
#include "config/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Each pause lies in the upper half of its step; steps double up to the longest, and stay there. */
static void test_pauses_double_up_to_the_longest(void **state)
{
    static const uint32_t step[] = {50, 100, 200, 400, 700, 700, 700};
    struct backoff backoff = {.min_ms = 50, .max_ms = 700};

    (void)state;
    for (size_t i = 0; i < sizeof step / sizeof step[0]; i++) {
        uint32_t pause = backoff_next(&backoff);

        assert_in_range(pause, step[i] / 2, step[i]);
    }
    backoff_reset(&backoff);
    assert_in_range(backoff_next(&backoff), 25, 50);
}

/* A fleet that lost one server at one moment does not come back to it at one moment. */
static void test_two_hundred_clients_do_not_come_back_at_once(void **state)
{
    bool seen[501] = {false};
    unsigned different = 0;

    (void)state;
    for (int i = 0; i < 200; i++) {
        uint32_t pause = backoff_jitter(1000);

        assert_in_range(pause, 500, 1000);
        different += !seen[pause - 500];
        seen[pause - 500] = true;
    }
    assert_in_range(different, 100, 200); /* 165 of 501 are expected; 100 is 15 deviations off */
}

/* The smallest steps and the largest: no division by zero, no overflow. */
static void test_the_ends_of_the_range(void **state)
{
    struct backoff large = {.min_ms = UINT32_MAX / 2 + 2, .max_ms = UINT32_MAX};
    struct backoff small = {.min_ms = 1, .max_ms = 1};

    (void)state;
    assert_int_equal(backoff_jitter(0), 0);
    assert_int_equal(backoff_next(&small), 1);
    assert_in_range(backoff_next(&large), UINT32_MAX / 4, UINT32_MAX / 2 + 2);
    assert_in_range(backoff_next(&large), UINT32_MAX / 2, UINT32_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pauses_double_up_to_the_longest),
        cmocka_unit_test(test_two_hundred_clients_do_not_come_back_at_once),
        cmocka_unit_test(test_the_ends_of_the_range),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
