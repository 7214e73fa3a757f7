/* test_pace.c: what will be done by a time, told from the steps so far. */
#include "consumer/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "consumer/running.h"
#include "tests/unit/consumer/made.h"

#define MS ((uint64_t)1000000)

/* Steps of 20 ms, then of 40 ms: what is told moves from the one to the other. */
static void test_the_latest_steps_count_most(void **state)
{
    struct pace pace = {0};
    uint64_t now_ns = 7 * MS, steps = 3;

    (void)state;
    pace_note(&pace, steps, false, now_ns);
    assert_int_equal(pace_takes_ns(&pace, 1000), 0); /* nothing is known yet */
    pace_note(&pace, ++steps, false, now_ns += 20 * MS);
    assert_int_equal(pace_takes_ns(&pace, 10), 200 * MS);
    for (int i = 0; i < 60; i++)
        pace_note(&pace, ++steps, false, now_ns += 40 * MS);
    assert_in_range(pace_takes_ns(&pace, 10), 395 * MS, 400 * MS);
}

/* While there was nothing to do no step was slow. */
static void test_time_without_work_is_no_step(void **state)
{
    struct pace pace = {0};

    (void)state;
    pace_note(&pace, 1, false, 10 * MS);
    pace_note(&pace, 2, true, 20 * MS);
    pace_note(&pace, 3, false, 9000 * MS);
    pace_note(&pace, 4, false, 9010 * MS);
    assert_int_equal(pace_takes_ns(&pace, 1), 10 * MS);
    pace_note(&pace, 4, false, 9500 * MS); /* a turn without a step */
    assert_int_equal(pace_takes_ns(&pace, 1), 10 * MS);
}

static void test_what_takes_longer_than_there_is_time_does_not_overflow(void **state)
{
    struct pace pace = {.step_ns = UINT64_MAX / 2, .steps = 1};

    (void)state;
    assert_int_equal(pace_takes_ns(&pace, 3), UINT64_MAX);
}

/* 100 tokens wanted, 40 seen when the engine had made 1,000 steps, 1,010 by now: 50 are left. */
static void test_a_request_fits_by_the_tokens_it_still_wants(void **state)
{
    struct pace pace = {.step_ns = 10 * MS, .steps = 1010};
    struct running running = {0};
    struct made made;
    struct task *task;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 2);
    task = made_task(&made, 0, 4, 100);
    running.newest = task;
    task->generated = 40;
    task->generated_at = 1000;
    assert_true(running_any_fits(&running, &pace, 500 * MS));
    assert_false(running_any_fits(&running, &pace, 499 * MS));
    task->stop_why = TASK_WITHDRAWN; /* it ends anyway */
    assert_false(running_any_fits(&running, &pace, 500 * MS));
    task->stop_why = TASK_GOES_ON;
    pace.steps = 5000; /* more than it may have: its end is about to be told */
    assert_true(running_any_fits(&running, &pace, 10 * MS));
    task_free(task);
    made_close(&made);
}

/* One of two is enough to go on for. */
static void test_one_that_fits_is_enough(void **state)
{
    struct pace pace = {.step_ns = 10 * MS, .steps = 10};
    struct running running = {0};
    struct made made;
    struct task *large, *small;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 2);
    large = made_task(&made, 0, 4, 900);
    small = made_task(&made, 1, 4, 20);
    running.newest = large;
    large->later = small;
    large->generated_at = small->generated_at = 10;
    assert_true(running_any_fits(&running, &pace, 200 * MS));
    assert_false(running_any_fits(&running, &pace, 100 * MS));
    running.newest = NULL;
    assert_false(running_any_fits(&running, &pace, 200 * MS));
    task_free(large);
    task_free(small);
    made_close(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_latest_steps_count_most),
        cmocka_unit_test(test_time_without_work_is_no_step),
        cmocka_unit_test(test_what_takes_longer_than_there_is_time_does_not_overflow),
        cmocka_unit_test(test_a_request_fits_by_the_tokens_it_still_wants),
        cmocka_unit_test(test_one_that_fits_is_enough),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
