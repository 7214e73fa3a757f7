/*
 * test_notice_parse.c: what the clouds say, as they say it, as nobody would say it, and cut off in the
 * middle.
 */
#include "consumer/notice_parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(text) ((struct slice){(text), strlen(text)})

/* 2027-01-31T08:22:00Z */
#define AT_MS 1801383720000u

static void test_times_are_read_in_both_forms(void **state)
{
    static const char *const same[] = {
        "2027-01-31T08:22:00Z",        "2027-01-31T08:22:00.999999Z",   "2027-01-31T09:22:00+01:00",
        "2027-01-31T02:52:00.5-05:30", "Sun, 31 Jan 2027 08:22:00 GMT",
    };
    uint64_t at_ms = 0;

    (void)state;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        assert_true(notice_time(TEXT(same[i]), &at_ms));
        assert_int_equal(at_ms, AT_MS);
    }
    assert_true(notice_time(TEXT("2028-02-29T23:59:60Z"), &at_ms));
    assert_int_equal(at_ms, 1835481599000u);
}

static void test_what_is_no_time_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "2027",
        "2027-02-30T08:22:00Z",
        "2027-13-01T08:22:00Z",
        "2027-01-31T24:00:00Z",
        "2027-01-31T08:60:00Z",
        "2027-01-31T08:22:61Z",
        "2027-01-31T08:22:00",
        "2027-01-31 08:22:00Z",
        "2027-01-31T08:22:00Zx",
        "2027-01-31T08:22:00+1",
        "2027-01-31T08:22:00+24:00",
        "1960-01-31T08:22:00Z",
        "-027-01-31T08:22:00Z",
        "Sun, 31 Foo 2027 08:22:00 GMT",
        "Sun, 31 Jan 2027 08:22:00 CET",
        "Sun, 31 Jan 2027 08:22:00",
        "Sun",
        "31 Jan 2027 08:22:00 GMT",
    };
    uint64_t at_ms = 7;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (notice_time(TEXT(bad[i]), &at_ms))
            fail_msg("\"%s\" was read", bad[i]);
    }
    assert_int_equal(at_ms, 7);
}

static void test_aws_says_what_will_be_done_and_when(void **state)
{
    struct notice notice = {0};

    (void)state;
    assert_int_equal(
        notice_parse_aws(TEXT("{\"action\":\"terminate\",\"time\":\"2027-01-31T08:22:00Z\"}"),
                         &notice),
        NOTICE_GIVEN);
    assert_string_equal(notice.what, "terminate");
    assert_true(notice.timed);
    assert_int_equal(notice.at_ms, AT_MS);
    assert_int_equal(notice_left_ms(&notice, AT_MS - 120000, 15000), 120000);
    assert_int_equal(notice_left_ms(&notice, AT_MS + 1, 15000), 0);
    assert_int_equal(notice_left_ms(&notice, 0, 15000), 24 * 3600 * 1000);
    assert_int_equal(
        notice_parse_aws(TEXT("{\"action\":\"vaporize\",\"time\":\"2027-01-31T08:22:00Z\"}"),
                         &notice),
        NOTICE_GIVEN);
    assert_string_equal(notice.what, "action");
}

static void test_what_aws_would_not_say_is_no_notice(void **state)
{
    static const char *const bad[] = {
        "",
        "null",
        "[]",
        "{}",
        "<html>404</html>",
        "{\"action\":\"stop\"}",
        "{\"action\":\"stop\",\"time\":\"soon\"}",
        "{\"action\":\"stop\",\"time\":\"\"}",
        "{\"action\":3,\"time\":\"2027-01-31T08:22:00Z\"}",
        "{\"time\":\"2027-01-31T08:22:00Z\"}",
    };
    struct notice notice = {.what = "untouched"};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(notice_parse_aws(TEXT(bad[i]), &notice), NOTICE_UNREAD);
    assert_string_equal(notice.what, "untouched");
}

/* Its time is when the recommendation was made: nothing ends then. */
static void test_a_rebalance_recommendation_names_no_end(void **state)
{
    struct notice notice = {0};

    (void)state;
    assert_int_equal(
        notice_parse_aws_rebalance(TEXT("{\"noticeTime\":\"2027-01-31T08:22:00Z\"}"), &notice),
        NOTICE_GIVEN);
    assert_false(notice.timed);
    assert_int_equal(notice_left_ms(&notice, AT_MS, 15000), 15000);
    assert_int_equal(notice_parse_aws_rebalance(TEXT("{\"noticeTime\":1}"), &notice),
                     NOTICE_UNREAD);
    assert_int_equal(notice_parse_aws_rebalance(TEXT("{"), &notice), NOTICE_UNREAD);
}

static void test_gcp_says_true_or_false(void **state)
{
    struct notice notice = {0};

    (void)state;
    assert_int_equal(notice_parse_gcp_preempted(TEXT("FALSE"), &notice), NOTICE_NONE);
    assert_int_equal(notice_parse_gcp_preempted(TEXT("TRUE\n"), &notice), NOTICE_GIVEN);
    assert_false(notice.timed);
    assert_int_equal(notice_parse_gcp_preempted(TEXT("true"), &notice), NOTICE_UNREAD);
    assert_int_equal(notice_parse_gcp_preempted(TEXT(""), &notice), NOTICE_UNREAD);
    assert_int_equal(notice_parse_gcp_preempted((struct slice){"TRUE\0", 5}, &notice),
                     NOTICE_UNREAD);
}

/* Live migration does not end the machine. */
static void test_gcp_maintenance_counts_when_it_terminates(void **state)
{
    struct notice notice = {0};

    (void)state;
    assert_int_equal(notice_parse_gcp_maintenance(TEXT("NONE"), &notice), NOTICE_NONE);
    assert_int_equal(notice_parse_gcp_maintenance(TEXT("MIGRATE_ON_HOST_MAINTENANCE"), &notice),
                     NOTICE_NONE);
    assert_int_equal(notice_parse_gcp_maintenance(TEXT("TERMINATE_ON_HOST_MAINTENANCE"), &notice),
                     NOTICE_GIVEN);
    assert_string_equal(notice.what, "maintenance");
    assert_int_equal(notice_parse_gcp_maintenance(TEXT("SOMETHING"), &notice), NOTICE_UNREAD);
}

#define EVENT(id, type, resources, status, before)                                                 \
    "{\"EventId\":\"" id "\",\"EventType\":\"" type "\",\"ResourceType\":\"VirtualMachine\","      \
    "\"Resources\":[" resources "],\"EventStatus\":\"" status "\",\"NotBefore\":\"" before "\"}"
#define EVENTS(list) "{\"DocumentIncarnation\":7,\"Events\":[" list "]}"
#define BEFORE       "Sun, 31 Jan 2027 08:22:00 GMT"

static void test_azure_events_count_when_they_name_this_machine(void **state)
{
    struct notice notice = {0};

    (void)state;
    assert_int_equal(notice_parse_azure(TEXT(EVENTS("")), "vm1", &notice), NOTICE_NONE);
    assert_int_equal(notice_parse_azure(TEXT(EVENTS(EVENT("a", "Preempt", "\"vm2\",\"vm11\"",
                                                          "Scheduled", BEFORE))),
                                        "vm1", &notice),
                     NOTICE_NONE);
    assert_int_equal(notice_parse_azure(TEXT(EVENTS(EVENT("602d9444-d2cd", "Preempt",
                                                          "\"vm2\",\"vm1\"", "Scheduled", BEFORE))),
                                        "vm1", &notice),
                     NOTICE_GIVEN);
    assert_string_equal(notice.what, "preempt");
    assert_string_equal(notice.event, "602d9444-d2cd");
    assert_true(notice.timed);
    assert_int_equal(notice.at_ms, AT_MS);
}

static void test_of_azure_events_the_first_to_come_counts(void **state)
{
    struct notice notice = {0};

    (void)state;
    assert_int_equal(
        notice_parse_azure(
            TEXT(EVENTS(EVENT(
                "late", "Reboot", "\"vm\"", "Scheduled",
                "Sun, 31 Jan 2027 08:32:00 GMT") "," EVENT("pause", "Freeze", "\"vm\"", "Scheduled",
                                                           "Sun, 31 Jan 2027 08:02:00 "
                                                           "GMT") "," EVENT("early", "Redeploy",
                                                                            "\"vm\"", "Scheduled",
                                                                            BEFORE))),
            "vm", &notice),
        NOTICE_GIVEN);
    assert_string_equal(notice.event, "early");
    assert_int_equal(notice.at_ms, AT_MS);
}

/* An event that has begun leaves no time; one whose time cannot be read is one all the same. */
static void test_an_azure_event_without_a_time_is_a_notice(void **state)
{
    struct notice notice = {0};

    (void)state;
    assert_int_equal(
        notice_parse_azure(TEXT(EVENTS(EVENT("a", "Preempt", "\"vm\"", "Started", ""))), "vm",
                           &notice),
        NOTICE_GIVEN);
    assert_int_equal(notice_left_ms(&notice, AT_MS, 15000), 0);
    assert_int_equal(
        notice_parse_azure(TEXT(EVENTS(EVENT("a", "Preempt", "\"vm\"", "Scheduled", "some day"))),
                           "vm", &notice),
        NOTICE_GIVEN);
    assert_int_equal(notice_left_ms(&notice, AT_MS, 15000), 15000);
}

/* What goes into the acknowledgement is a plain word or nothing. */
static void test_an_azure_event_id_cannot_break_out(void **state)
{
    struct notice notice = {.event = "left over"};

    (void)state;
    assert_int_equal(notice_parse_azure(
                         TEXT(EVENTS(EVENT("a\\\"}]}", "Preempt", "\"vm\"", "Scheduled", BEFORE))),
                         "vm", &notice),
                     NOTICE_GIVEN);
    assert_string_equal(notice.event, "");
}

static void test_what_azure_would_not_say_is_no_notice(void **state)
{
    static const char *const bad[] = {"",    "[]", "{}", "{\"Events\":{}}", "{\"Events\":null}",
                                      "\xff"};
    static const char *const harmless[] = {
        "{\"Events\":[1,null,[],{}]}",
        "{\"Events\":[{\"EventType\":\"Preempt\"}]}",
        "{\"Events\":[{\"EventType\":\"Preempt\",\"Resources\":\"vm\"}]}",
        "{\"Events\":[{\"EventType\":\"Preempt\",\"Resources\":[[\"vm\"],7]}]}",
    };
    struct notice notice = {0};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(notice_parse_azure(TEXT(bad[i]), "vm", &notice), NOTICE_UNREAD);
    for (size_t i = 0; i < sizeof harmless / sizeof harmless[0]; i++)
        assert_int_equal(notice_parse_azure(TEXT(harmless[i]), "vm", &notice), NOTICE_NONE);
}

/* However short an answer is cut, it is no notice, and nothing beyond it is read. */
static void test_answers_that_are_cut_off_are_no_notice(void **state)
{
    static const char aws[] = "{\"action\":\"terminate\",\"time\":\"2027-01-31T08:22:00Z\"}";
    static const char azure[] = EVENTS(EVENT("a", "Preempt", "\"vm\"", "Scheduled", BEFORE));
    struct notice notice = {0};

    (void)state;
    for (size_t len = 0; len < sizeof aws - 1; len++)
        assert_int_equal(notice_parse_aws((struct slice){aws, len}, &notice), NOTICE_UNREAD);
    for (size_t len = 0; len < sizeof azure - 1; len++)
        assert_int_equal(notice_parse_azure((struct slice){azure, len}, "vm", &notice),
                         NOTICE_UNREAD);
    assert_null(notice.what);
}

/* A file that is there says that the machine goes; what stands in it can only say when. */
static void test_a_file_may_hold_a_time(void **state)
{
    struct notice notice;

    (void)state;
    notice_parse_file(TEXT(""), AT_MS, &notice);
    assert_false(notice.timed);
    notice_parse_file(TEXT("2027-01-31T08:22:00Z\n"), AT_MS - 7000, &notice);
    assert_int_equal(notice_left_ms(&notice, AT_MS - 7000, 15000), 7000);
    notice_parse_file(TEXT(" 1m30s\n"), AT_MS, &notice);
    assert_int_equal(notice_left_ms(&notice, AT_MS, 15000), 90000);
    notice_parse_file(TEXT("0s"), AT_MS, &notice);
    assert_int_equal(notice_left_ms(&notice, AT_MS, 15000), 0);
    notice_parse_file(TEXT("18446744073709551615ms"), AT_MS, &notice);
    assert_int_equal(notice_left_ms(&notice, AT_MS, 15000), 24 * 3600 * 1000);
    notice_parse_file(TEXT("any time now"), AT_MS, &notice);
    assert_false(notice.timed);
    assert_string_equal(notice.what, "file");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times_are_read_in_both_forms),
        cmocka_unit_test(test_what_is_no_time_is_refused),
        cmocka_unit_test(test_aws_says_what_will_be_done_and_when),
        cmocka_unit_test(test_what_aws_would_not_say_is_no_notice),
        cmocka_unit_test(test_a_rebalance_recommendation_names_no_end),
        cmocka_unit_test(test_gcp_says_true_or_false),
        cmocka_unit_test(test_gcp_maintenance_counts_when_it_terminates),
        cmocka_unit_test(test_azure_events_count_when_they_name_this_machine),
        cmocka_unit_test(test_of_azure_events_the_first_to_come_counts),
        cmocka_unit_test(test_an_azure_event_without_a_time_is_a_notice),
        cmocka_unit_test(test_an_azure_event_id_cannot_break_out),
        cmocka_unit_test(test_what_azure_would_not_say_is_no_notice),
        cmocka_unit_test(test_answers_that_are_cut_off_are_no_notice),
        cmocka_unit_test(test_a_file_may_hold_a_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
