/*
 * test_delivery.c: the decisions of delivery.h: tables of what a receiver may say, and properties that
 * hold whatever it says.
 */
#include "scheduler/policy/delivery.h"

#include "tests/unit/heard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROUNDS = 20000 };
static const uint64_t s = 1000, m = 60000, h = 3600000, d = 86400000;

static struct delivery_schedule schedule_of_settings(void)
{
    static const char *const text[] = {"0s", "5s",  "5m",  "30m", "2h",
                                       "5h", "10h", "14h", "20h", "24h"};
    struct delivery_schedule schedule;

    assert_int_equal(delivery_schedule_parse(text, 10, &schedule), ERR_OK);
    return schedule;
}

static struct delivery_decision decide(struct delivery_attempt attempt)
{
    struct delivery_schedule schedule = schedule_of_settings();

    return delivery_decide(&schedule, 5 * d, &attempt);
}

/* ------------------------------------------------------------------------------ the schedule ---- */

static void test_the_schedule_is_read(void **state)
{
    struct delivery_schedule schedule = schedule_of_settings();

    (void)state;
    assert_int_equal(schedule.count, 10);
    assert_int_equal(schedule.pause_ms[0], 0);
    assert_int_equal(schedule.pause_ms[1], 5 * s);
    assert_int_equal(schedule.pause_ms[9], 24 * h);
}

/* Each is named with what stands there. */
static void test_a_wrong_schedule_is_refused(void **state)
{
    static const struct {
        const char *text[3];
        uint32_t count;
        const char *says;
    } rows[] = {
        {{"0s", "soon"}, 2, "soon\\\" is no time"},
        {{"5s", "5s"}, 2, "begins with 5s"},
        {{"0s", "-1s"}, 2, "-1s\\\" is no time"},
        {{NULL}, 0, "has 0 times"},
        {{NULL}, 65, "has 65 times"},
    };
    struct delivery_schedule schedule;

    (void)state;
    heard_start();
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum err rc = delivery_schedule_parse(rows[i].text, rows[i].count, &schedule);
        bool said = strstr(heard(), rows[i].says) != NULL;

        if (rc != ERR_SETTINGS || !said) {
            heard_stop();
            fail_msg("row %zu", i);
        }
    }
    heard_stop();
}

/* ------------------------------------------------------------------------------- Retry-After ---- */

static void test_retry_after_is_seconds_or_a_date(void **state)
{
    static const struct {
        const char *value;
        int64_t now;
        int64_t ms; /* -1: refused */
    } rows[] = {
        {"0", 0, 0},
        {"7", 0, 7000},
        {"86400", 0, 86400000},
        {"86401", 0, 86400000},
        {"99999999999999999999999999999", 0, 86400000},
        {"", 0, -1},
        {"-1", 0, -1},
        {"1.5", 0, -1},
        {"7 ", 0, -1},
        {"soon", 0, -1},
        {"Sun, 06 Nov 1994 08:49:37 GMT", 784111770, 7000},
        {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777, 0},
        {"Sun, 06 Nov 1994 08:49:37 GMT", 1784111777, 0},
        {"Sun, 06 Nov 1994 08:49:37 GMT", 0, 86400000},
        {"Thu, 29 Feb 2024 00:00:01 GMT", 1709164800, 1000},
        {"Fri, 01 Mar 2024 00:00:00 GMT", 1709251199, 1000},
        {"Thu, 31 Dec 2026 23:59:60 GMT", 1798761600, 0},
        {"Sun, 06 Nov 1994 08:49:37 CET", 784111770, -1},
        {"Sun, 06 Nov 1994 08:49:37 GMT!", 784111770, -1},
        {"Sun, 06 ovD 1994 08:49:37 GMT", 784111770, -1},
        {"Sun, 06 No 1994 08:49:37 GMT", 784111770, -1},
        {"Sun, 32 Nov 1994 08:49:37 GMT", 784111770, -1},
        {"Sun, 06 Nov 1994 24:49:37 GMT", 784111770, -1},
        {"Sunday, 06-Nov-94 08:49:37 GMT", 784111770, -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t ms = 0;
        struct slice value = {rows[i].value, strlen(rows[i].value)};
        int64_t got = delivery_retry_after(value, rows[i].now, &ms) ? (int64_t)ms : -1;

        if (got != rows[i].ms)
            fail_msg("%s: %ld ms, not %ld", rows[i].value, (long)got, (long)rows[i].ms);
    }
}

/* ------------------------------------------------------------------------------ the decision ---- */

static void test_2xx_only_is_a_success(void **state)
{
    (void)state;
    for (uint32_t status = 0; status < 1000; status++) {
        struct delivery_attempt attempt = {.attempts = 1, .status = status};
        enum delivery_result result = decide(attempt).result;

        assert_int_equal(result, status >= 200 && status < 300 ? DELIVERY_DELIVERED
                                 : status == 410               ? DELIVERY_DISABLED
                                                               : DELIVERY_RETRIED);
    }
}

static void test_what_receivers_say(void **state)
{
    const struct {
        struct delivery_attempt attempt;
        enum delivery_result result;
        uint64_t retry_ms, rest_ms; /* within a fifth */
        const char *why;
    } rows[] = {
        /* the schedule, to its end */
        {{.attempts = 1}, DELIVERY_RETRIED, 5 * s, 0, NULL},
        {{.attempts = 2, .status = 500}, DELIVERY_RETRIED, 5 * m, 0, NULL},
        {{.attempts = 9, .status = 302}, DELIVERY_RETRIED, 24 * h, 0, NULL},
        {{.attempts = 10, .status = 500}, DELIVERY_FAILED, 0, 0, NULL},
        {{.attempts = 11, .status = 500}, DELIVERY_FAILED, 0, 0, NULL},
        {{.attempts = 10, .status = 204}, DELIVERY_DELIVERED, 0, 0, NULL},
        /* asked for less */
        {{.attempts = 1, .status = 429}, DELIVERY_RETRIED, 5 * s, 5 * s, NULL},
        {{.attempts = 1, .status = 502, .failures = 2}, DELIVERY_RETRIED, 5 * s, 20 * s, NULL},
        {{.attempts = 1, .status = 504, .failures = 8}, DELIVERY_RETRIED, 5 * s, 5 * m, NULL},
        {{.attempts = 1, .status = 503, .failures = 8}, DELIVERY_RETRIED, 5 * s, 0, NULL},
        {{.attempts = 1, .status = 429, .retry_after_ms = h}, DELIVERY_RETRIED, h, h, NULL},
        {{.attempts = 1, .status = 503, .retry_after_ms = h}, DELIVERY_RETRIED, h, h, NULL},
        {{.attempts = 4, .status = 503, .retry_after_ms = s}, DELIVERY_RETRIED, 2 * h, s, NULL},
        /* the breaker */
        {{.attempts = 1, .failures = 8}, DELIVERY_RETRIED, 5 * s, 0, NULL},
        {{.attempts = 1, .failures = 9}, DELIVERY_RETRIED, 5 * s, 30 * s, NULL},
        {{.attempts = 1, .failures = 11}, DELIVERY_RETRIED, 5 * s, 2 * m, NULL},
        {{.attempts = 1, .failures = 100}, DELIVERY_RETRIED, 5 * s, h, NULL},
        {{.attempts = 1, .failures = UINT32_MAX}, DELIVERY_RETRIED, 5 * s, h, NULL},
        /* the end of an endpoint */
        {{.attempts = 1, .status = 410}, DELIVERY_DISABLED, 0, 0, "gone"},
        {{.attempts = 10, .status = 410}, DELIVERY_DISABLED, 0, 0, "gone"},
        {{.attempts = 1, .failures = 1, .failing_ms = 5 * d}, DELIVERY_DISABLED, 0, 0, "failing"},
        {{.attempts = 1, .failures = 1, .failing_ms = 5 * d - 1}, DELIVERY_RETRIED, 5 * s, 0, NULL},
        {{.attempts = 1, .status = 200, .failures = 1, .failing_ms = 9 * d},
         DELIVERY_DELIVERED,
         0,
         0,
         NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct delivery_decision is = decide(rows[i].attempt);
        uint64_t retry = rows[i].retry_ms, rest = rows[i].rest_ms;

        if (is.result != rows[i].result || is.retry_ms < retry - retry / 5 ||
            is.retry_ms > retry + retry / 5 || is.rest_ms < rest - rest / 5 ||
            is.rest_ms > rest + rest / 5 || !is.disabled_why != !rows[i].why ||
            (is.disabled_why && strcmp(is.disabled_why, rows[i].why) != 0))
            fail_msg("row %zu: %s, again in %lu ms, rest %lu ms", i,
                     delivery_result_name(is.result), (unsigned long)is.retry_ms,
                     (unsigned long)is.rest_ms);
    }
}

/* Both ends are reached, and the middle is the schedule's. */
static void test_jitter_is_a_fifth_either_way(void **state)
{
    uint64_t least = UINT64_MAX, most = 0, sum = 0;

    (void)state;
    srandom(7);
    for (int i = 0; i < ROUNDS; i++) {
        struct delivery_attempt attempt = {.attempts = 2, .random = (uint64_t)random()};
        uint64_t ms = decide(attempt).retry_ms;

        least = ms < least ? ms : least;
        most = ms > most ? ms : most;
        sum += ms;
    }
    assert_in_range(least, 4 * m, 4 * m + 5 * s);
    assert_in_range(most, 6 * m - 5 * s, 6 * m);
    assert_in_range(sum / ROUNDS, 5 * m - 5 * s, 5 * m + 5 * s);
}

/* Whatever happened: an end is an end, a wait is what was asked for at least, and nothing overflows. */
static void test_properties_of_any_attempt(void **state)
{
    struct delivery_schedule schedule = schedule_of_settings();

    (void)state;
    srandom(11);
    for (int i = 0; i < ROUNDS; i++) {
        struct delivery_attempt attempt = {
            .attempts = 1 + (uint32_t)random() % 12,
            .status = (uint32_t)random() % 600,
            .retry_after_ms =
                random() % 2 ? (uint64_t)random() % (DELIVERY_RETRY_AFTER_MS_MAX + 1) : 0,
            .failures = (uint32_t)random() % 50,
            .failing_ms = (uint64_t)random() % (6 * 86400000ul),
            .random = ((uint64_t)random() << 33) ^ (uint64_t)random(),
        };
        struct delivery_decision is = delivery_decide(&schedule, 5 * d, &attempt);
        bool good = attempt.status >= 200 && attempt.status <= 299;

        assert_int_equal(is.result == DELIVERY_DELIVERED, good);
        assert_int_equal(is.result == DELIVERY_DISABLED, is.disabled_why != NULL);
        assert_true(is.rest_ms <= DELIVERY_RETRY_AFTER_MS_MAX);
        assert_true(is.retry_ms <= 24 * h + 24 * h / 5);
        if (is.result == DELIVERY_RETRIED || is.result == DELIVERY_FAILED) {
            assert_true(is.rest_ms >= attempt.retry_after_ms);
            assert_true(attempt.failures + 1 < DELIVERY_BREAK_AFTER ||
                        is.rest_ms >= DELIVERY_REST_MS_MIN - DELIVERY_REST_MS_MIN / 5);
        }
        if (is.result == DELIVERY_RETRIED) {
            assert_true(is.retry_ms >= attempt.retry_after_ms);
            assert_true(attempt.attempts < schedule.count);
        } else {
            assert_int_equal(is.retry_ms, 0);
        }
    }
}

/* An endpoint that is dead all along: ten attempts over about 75 hours, as the standard proposes. */
static void test_all_attempts_take_about_75_hours(void **state)
{
    struct delivery_schedule schedule = schedule_of_settings();
    struct delivery_attempt attempt = {.random = 12345};
    uint64_t total_ms = 0;

    (void)state;
    for (;;) {
        struct delivery_decision is;

        attempt.attempts++;
        is = delivery_decide(&schedule, 5 * d, &attempt);
        if (is.result != DELIVERY_RETRIED)
            break;
        total_ms += is.retry_ms;
        attempt.random = attempt.random * 6364136223846793005u + 1442695040888963407u;
    }
    assert_int_equal(attempt.attempts, 10);
    assert_in_range(total_ms, 60 * h, 91 * h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_schedule_is_read),
        cmocka_unit_test(test_a_wrong_schedule_is_refused),
        cmocka_unit_test(test_retry_after_is_seconds_or_a_date),
        cmocka_unit_test(test_2xx_only_is_a_success),
        cmocka_unit_test(test_what_receivers_say),
        cmocka_unit_test(test_jitter_is_a_fifth_either_way),
        cmocka_unit_test(test_properties_of_any_attempt),
        cmocka_unit_test(test_all_attempts_take_about_75_hours),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
