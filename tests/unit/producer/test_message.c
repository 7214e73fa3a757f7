/* test_message.c: a message reads back as it was written, and what is none of ours is refused. */
#include "producer/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct message example(void)
{
    struct message message = {
        .line = 20000000,
        .chunk = 19531,
        .custom_id = SLICE("request-1 é"),
        .tenant = SLICE("default"),
        .body = SLICE("{\"model\":\"m\",\"prompt\":\"x\"}"),
    };

    memcpy(message.job,
           "\x01\x9a\0\xff"
           "0123456789ab",
           sizeof(message.job));
    return message;
}

static void assert_slice_equal(struct slice a, struct slice b)
{
    assert_int_equal(a.len, b.len);
    if (a.len > 0)
        assert_memory_equal(a.data, b.data, a.len);
}

static void assert_round_trip(const struct message *message)
{
    rd_kafka_headers_t *headers;
    struct message back;
    const char *why = "";

    message_encode(message, &headers);
    if (message_decode_parts(headers, message->body, &back, &why) != ERR_OK)
        fail_msg("%s", why);
    assert_memory_equal(back.job, message->job, sizeof(back.job));
    assert_int_equal(back.line, message->line);
    assert_int_equal(back.chunk, message->chunk);
    assert_slice_equal(back.custom_id, message->custom_id);
    assert_slice_equal(back.tenant, message->tenant);
    assert_slice_equal(back.traceparent, message->traceparent);
    assert_slice_equal(back.error, message->error);
    assert_slice_equal(back.body, message->body);
    assert_int_equal(back.has_blob, message->has_blob);
    assert_memory_equal(back.blob, message->blob, sizeof(back.blob));
    rd_kafka_headers_destroy(headers);
}

/* Each kind of message: a plain one, a traced one, one whose body lies aside, a passed-over line. */
static void test_a_message_reads_back_as_written(void **state)
{
    struct message message = example();

    (void)state;
    assert_round_trip(&message);
    message.traceparent = SLICE("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_round_trip(&message);
    message.line = INT64_MAX;
    message.chunk = INT32_MAX;
    assert_round_trip(&message);
    message.line = message.chunk = 0;
    message.body = (struct slice){0};
    message.has_blob = true;
    memset(message.blob, 0xa5, sizeof(message.blob));
    assert_round_trip(&message);
    message = example();
    message.body = message.custom_id = (struct slice){0};
    message.error = SLICE("{\"code\":\"invalid_json_line\"}");
    assert_round_trip(&message);
}

static const char *refusal(rd_kafka_headers_t *headers, struct slice body)
{
    struct message back;
    const char *why = NULL;

    assert_int_equal(message_decode_parts(headers, body, &back, &why), ERR_INPUT);
    rd_kafka_headers_destroy(headers);
    return why;
}

/* The example's headers with one replaced, or removed where `value` is NULL. */
static rd_kafka_headers_t *spoiled(const char *name, const char *value, ssize_t len)
{
    struct message message = example();
    rd_kafka_headers_t *headers;

    message_encode(&message, &headers);
    rd_kafka_header_remove(headers, name);
    if (value != NULL)
        rd_kafka_header_add(headers, name, -1, value, len);
    return headers;
}

/* Other programs may write to the topic: nothing they write is taken for a request. */
static void test_what_is_not_ours_is_refused(void **state)
{
    static const struct {
        const char *name, *value;
        ssize_t len;
    } cases[] = {
        {"v", NULL, 0},
        {"v", "2", 1},
        {"job", NULL, 0},
        {"job", "short", 5},
        {"line", NULL, 0},
        {"line", "", 0},
        {"line", "01", 2},
        {"line", "-1", 2},
        {"line", "9223372036854775808", 19},
        {"line", "99999999999999999999", 20},
        {"line", "1x", 2},
        {"chunk", NULL, 0},
        {"chunk", "2147483648", 10},
        {"custom_id", NULL, 0},
        {"custom_id", "", 0},
        {"custom_id", "a\0b", 3},
        {"custom_id", "\xff", 1},
        {"tenant", NULL, 0},
        {"tenant", "", 0},
        {"traceparent", "00-", 3},
        {"blob", "short", 5},
        {"error", "", 0},
    };
    char long_id[MESSAGE_CUSTOM_ID_BYTES_MAX + 1];
    struct message message = example();
    rd_kafka_headers_t *headers;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_non_null(
            refusal(spoiled(cases[i].name, cases[i].value, cases[i].len), message.body));
    memset(long_id, 'x', sizeof(long_id));
    assert_non_null(refusal(spoiled("custom_id", long_id, sizeof(long_id)), message.body));
    headers = spoiled("v", "1", 1);
    rd_kafka_header_add(headers, "line", -1, "7", 1);
    assert_string_equal(refusal(headers, message.body),
                        "the header line is missing or not a number");
}

/* A body beside a claim check, or neither, is not a request but a mistake. */
static void test_there_is_one_body_or_one_substitute(void **state)
{
    struct message message = example();
    char digest[MESSAGE_BLOB_BYTES] = {0};

    (void)state;
    assert_non_null(refusal(spoiled("v", "1", 1), (struct slice){0}));
    assert_non_null(refusal(spoiled("blob", digest, sizeof(digest)), message.body));
    assert_non_null(refusal(spoiled("error", "{}", 2), message.body));
}

/* Tools between the two ends may add headers of their own. */
static void test_unknown_headers_are_passed_over(void **state)
{
    struct message message = example(), back;
    rd_kafka_headers_t *headers = spoiled("tracestate", "vendor=1", 8);

    (void)state;
    assert_int_equal(message_decode_parts(headers, message.body, &back, NULL), ERR_OK);
    assert_int_equal(back.line, message.line);
    rd_kafka_headers_destroy(headers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_message_reads_back_as_written),
        cmocka_unit_test(test_what_is_not_ours_is_refused),
        cmocka_unit_test(test_there_is_one_body_or_one_substitute),
        cmocka_unit_test(test_unknown_headers_are_passed_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
