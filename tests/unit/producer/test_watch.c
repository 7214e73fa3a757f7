/* test_watch.c: what a person is told of a job, from what was seen of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "producer/watch.h"

#define SECOND 1000000000ULL

static struct job_progress progress_of(int64_t completed, int64_t tokens, int64_t device_ns)
{
    return (struct job_progress){
        .state = JOB_IN_PROGRESS,
        .lines = 5000,
        .completed = completed,
        .done = completed,
        .output_tokens = tokens,
        .device_ns = device_ns,
        .devices = 2,
    };
}

/* A rate of one sight would be a guess, so none is told. */
static void test_the_first_sight_has_counts_and_no_rates(void **state)
{
    struct watch watch = {0};
    struct job_progress progress = progress_of(1234, 100, 0);
    char line[WATCH_LINE_SIZE];

    (void)state;
    assert_true(watch_see(&watch, &progress, SECOND));
    assert_string_equal(watch_line(&watch, line), "1,234 of 5,000 requests");
    assert_true(watch_tokens_per_s(&watch) < 0);
    assert_true(watch_share(&watch) < 0);
}

/* 10 s later: 8,120 tokens more, and 12.6 s of the 20 s that two devices had. */
static void test_rates_are_of_what_came_between_sights(void **state)
{
    struct watch watch = {0};
    struct job_progress progress = progress_of(10, 100, 1000);
    char line[WATCH_LINE_SIZE];

    (void)state;
    watch_see(&watch, &progress, SECOND);
    progress = progress_of(1200, 8220, (int64_t)(12.6 * 1e9) + 1000);
    progress.failed = 30;
    progress.expired = 4;
    progress.done += 34;
    strcpy(progress.charged, "0.0123 USD");
    watch_see(&watch, &progress, 11 * SECOND);
    assert_string_equal(watch_line(&watch, line),
                        "1,234 of 5,000 requests (30 failed, 4 expired), 812 tokens/s, "
                        "63% of 2 devices, 0.0123 USD");
}

/* Two devices for 10 s, then one for 10 s: what one of them was busy with is a third of the 30 s. */
static void test_the_share_is_of_the_devices_that_were_there(void **state)
{
    struct watch watch = {0};
    struct job_progress progress = progress_of(10, 0, 0);

    (void)state;
    watch_see(&watch, &progress, SECOND);
    progress.devices = 1;
    watch_see(&watch, &progress, 11 * SECOND);
    progress.device_ns = 10 * SECOND;
    watch_see(&watch, &progress, 21 * SECOND);
    assert_in_range((uint64_t)(1000 * watch_share(&watch)), 333, 334);
}

/* A job that stands still for a quarter of a minute has a rate of nothing, however fast it was. */
static void test_what_is_older_than_the_window_is_forgotten(void **state)
{
    struct watch watch = {0};

    (void)state;
    for (uint64_t ms = 0; ms < 120000; ms += 500) {
        struct job_progress progress =
            progress_of(10, ms < 60000 ? (int64_t)ms : 60000, ms < 60000 ? (int64_t)ms : 60000);

        assert_true(watch_see(&watch, &progress, SECOND + ms * 1000000));
        if (ms == 59500)
            assert_in_range((uint64_t)watch_tokens_per_s(&watch), 990, 1010);
    }
    assert_true(watch_tokens_per_s(&watch) == 0);
    assert_true(watch_share(&watch) == 0);
}

/* Sights that come fast push out the oldest: memory is bounded, the window shorter. */
static void test_many_sights_shorten_the_window(void **state)
{
    struct watch watch = {0};

    (void)state;
    for (uint64_t ms = 0; ms < 20000; ms += 20) {
        struct job_progress progress = progress_of(10, (int64_t)ms, 0);

        watch_see(&watch, &progress, SECOND + ms * 1000000);
    }
    assert_in_range(watch.count, 2, WATCH_SIGHTS);
    assert_in_range((uint64_t)watch_tokens_per_s(&watch), 990, 1010);
}

/* A number that shrinks is a database that went back: it is said once, and rates begin anew. */
static void test_a_database_that_went_back_is_noticed(void **state)
{
    struct watch watch = {0};
    struct job_progress progress = progress_of(100, 1000, 1000);

    (void)state;
    assert_true(watch_see(&watch, &progress, SECOND));
    progress = progress_of(101, 900, 1000);
    assert_false(watch_see(&watch, &progress, 5 * SECOND));
    assert_true(watch_tokens_per_s(&watch) < 0);
    assert_true(watch_see(&watch, &progress, 6 * SECOND));
}

/* A job that nobody can run says so. */
static void test_no_worker_is_said(void **state)
{
    struct watch watch = {0};
    struct job_progress progress = progress_of(0, 0, 0);
    char line[WATCH_LINE_SIZE];

    (void)state;
    progress.devices = 0;
    watch_see(&watch, &progress, SECOND);
    assert_string_equal(watch_line(&watch, line), "0 of 5,000 requests, no worker");
}

/* Whatever the numbers are, the line ends where its room does. */
static void test_the_longest_line_fits(void **state)
{
    struct watch watch = {0};
    struct job_progress progress = {.lines = INT64_MAX, .done = INT64_MAX, .completed = 1};
    char line[WATCH_LINE_SIZE];

    (void)state;
    progress.failed = progress.cancelled = progress.expired = INT64_MAX - 1;
    progress.devices = 1000000000;
    memset(progress.charged, '9', sizeof(progress.charged) - 1);
    watch_see(&watch, &progress, SECOND);
    progress.input_tokens = INT64_MAX / 2;
    watch_see(&watch, &progress, 3 * SECOND);
    assert_true(strlen(watch_line(&watch, line)) < WATCH_LINE_SIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_sight_has_counts_and_no_rates),
        cmocka_unit_test(test_rates_are_of_what_came_between_sights),
        cmocka_unit_test(test_the_share_is_of_the_devices_that_were_there),
        cmocka_unit_test(test_what_is_older_than_the_window_is_forgotten),
        cmocka_unit_test(test_many_sights_shorten_the_window),
        cmocka_unit_test(test_a_database_that_went_back_is_noticed),
        cmocka_unit_test(test_no_worker_is_said),
        cmocka_unit_test(test_the_longest_line_fits),
    };

    return cmocka_run_group_tests_name("watch", tests, NULL, NULL);
}
