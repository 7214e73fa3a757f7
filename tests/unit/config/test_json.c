/* test_json.c: what is read, what is refused and where, and that what is written reads back. */
#include "config/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct arena arena;

static struct json *parse(const char *text)
{
    struct json *value = NULL;
    struct json_error error = {0};
    enum err err = json_parse(&arena, (struct slice){text, strlen(text)}, NULL, &value, &error);

    if (err != ERR_OK)
        fail_msg("%s: %s", text, error.message);
    return value;
}

static struct json_error refused(struct slice text, const struct json_limits *limits)
{
    struct json *value = NULL;
    struct json_error error = {0};

    assert_int_equal(json_parse(&arena, text, limits, &value, &error), ERR_INPUT);
    assert_null(value);
    assert_true(strlen(error.message) > 0);
    return error;
}

static void assert_slice(struct slice slice, const char *want)
{
    assert_int_equal(slice.len, strlen(want));
    assert_memory_equal(slice.data, want, slice.len);
}

static int release(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
}

/* The body of a request goes on to Kafka as it came: blanks, order and escapes untouched. */
static void test_raw_bytes_are_those_of_the_text(void **state)
{
    struct json *line = parse(" {\"custom_id\" : \"a\\u0062\", \"body\":{ \"x\" :[1 , -2.50e3 ] ,"
                              "\"y\":\"\\/\"} , \"n\" : null,\"t\":true } ");

    (void)state;
    assert_int_equal(line->count, 4);
    assert_slice(json_get(line, "body")->raw, "{ \"x\" :[1 , -2.50e3 ] ,\"y\":\"\\/\"}");
    assert_slice(json_get(json_get(line, "body"), "x")->raw, "[1 , -2.50e3 ]");
    assert_slice(json_get(json_get(line, "body"), "x")->first->next->raw, "-2.50e3");
    assert_slice(json_get(line, "custom_id")->raw, "\"a\\u0062\"");
    assert_slice(json_get(line, "custom_id")->text, "ab");
    assert_slice(json_get(line, "n")->raw, "null");
    assert_slice(json_get(line, "t")->raw, "true");
    assert_true(json_get(line, "t")->boolean);
    assert_null(json_get(line, "absent"));
    assert_null(json_get(NULL, "absent"));
}

static void test_a_value_alone_is_a_text(void **state)
{
    (void)state;
    assert_slice(parse("  42  ")->raw, "42");
    assert_slice(parse("42")->raw, "42");
    assert_slice(parse(" \"x\"\n")->raw, "\"x\"");
    assert_true(json_is_null(parse("null")));
    assert_int_equal(parse("[ ]")->count, 0);
}

static void test_escapes_are_decoded_and_nul_is_a_byte(void **state)
{
    struct json *value =
        parse("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\u00e9\\u20ac\\ud83d\\uDE00.\"");
    const char want[] = "\"\\/\b\f\n\r\t\0\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80.";

    (void)state;
    assert_int_equal(value->text.len, sizeof(want) - 1);
    assert_memory_equal(value->text.data, want, sizeof(want) - 1);
}

/* Each bad text is refused for its own reason, and the offset points at it. */
static void test_bad_texts_are_refused_where_they_are_bad(void **state)
{
    static const struct {
        const char *text;
        enum json_fault fault;
        size_t offset;
    } cases[] = {
        {"", JSON_SYNTAX, 0},
        {" ", JSON_SYNTAX, 1},
        {"{\"a\":1", JSON_SYNTAX, 6},
        {"[1,]", JSON_SYNTAX, 3},
        {"{} {}", JSON_SYNTAX, 3},
        {"\xef\xbb\xbf{}", JSON_SYNTAX, 0},
        {"\"\xc3\"", JSON_UTF8, 1},
        {"\"\xed\xa0\x80\"", JSON_UTF8, 1},
        {"\"a\\ud800\"", JSON_SURROGATE, 2},
        {"\"\\udc00\"", JSON_SURROGATE, 1},
        {"\"\\ud800\\ud800\"", JSON_SURROGATE, 1},
        {"{\"\\ud800\":1}", JSON_SURROGATE, 2},
        {"{\"a\":1,\"\\u0061\":2}", JSON_DUPLICATE_KEY, 16},
        {"/* c */ 1", JSON_SYNTAX, 0},
        {"{1:2}", JSON_SYNTAX, 1},
        {"{\"a\" 2}", JSON_SYNTAX, 5},
        {"{\"a\":2 3}", JSON_SYNTAX, 7},
        {"[1 2]", JSON_SYNTAX, 3},
        {"\"a\nb\"", JSON_SYNTAX, 2},
        {"\"a\\x\"", JSON_SYNTAX, 2},
        {"01", JSON_SYNTAX, 1},
        {"1.", JSON_SYNTAX, 2},
        {"-", JSON_SYNTAX, 1},
        {"[\f]", JSON_SYNTAX, 1},
        {"[1\v,2]", JSON_SYNTAX, 2},
        {"1\f", JSON_SYNTAX, 1},
        {"{} \v", JSON_SYNTAX, 3},
        {"{\"a\"\f:1}", JSON_SYNTAX, 4},
        {"{\f\"a\":1}", JSON_SYNTAX, 1},
        {"{\"a\":1\f}", JSON_SYNTAX, 6},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct json_error error =
            refused((struct slice){cases[i].text, strlen(cases[i].text)}, NULL);

        assert_int_equal(error.fault, cases[i].fault);
        assert_int_equal(error.offset, cases[i].offset);
    }
    refused((struct slice){"1\0", 2}, NULL);
}

static void test_depth_and_values_are_limited(void **state)
{
    struct json_limits limits = {.depth_max = 3, .nodes_max = 4};

    (void)state;
    assert_int_equal(refused(SLICE("[[[[]]]]"), &limits).fault, JSON_DEPTH);
    assert_int_equal(refused(SLICE("[1,2,3,4]"), &limits).fault, JSON_NODES);
    assert_int_equal(json_parse(&arena, SLICE("[[[1]]]"), &limits, &(struct json *){NULL}, NULL),
                     ERR_OK);
    assert_int_equal(
        refused(SLICE("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["), NULL)
            .fault,
        JSON_DEPTH);
}

/* 100,000 names in one object: neither slow nor blind, whichever two are the same. */
static void test_duplicates_are_found_among_many_keys(void **state)
{
    enum { KEYS = 100000 };
    struct buffer text = {0};
    struct json *value;

    (void)state;
    buffer_add_byte(&text, '{');
    for (int i = 0; i < KEYS; i++)
        buffer_printf(&text, "\"key%d\":%d,", (i * 7919) % KEYS, i);
    buffer_add_text(&text, "\"last\":0}");
    assert_int_equal(json_parse(&arena, buffer_slice(&text), NULL, &value, NULL), ERR_OK);
    assert_int_equal(value->count, KEYS + 1);
    text.len -= strlen("\"last\":0}");
    buffer_add_text(&text, "\"key4\\u0032\":0}");
    assert_int_equal(refused(buffer_slice(&text), NULL).fault, JSON_DUPLICATE_KEY);
    buffer_release(&text);
}

static void test_whole_numbers_are_exact_or_refused(void **state)
{
    static const struct {
        const char *text;
        bool is_u64;
        uint64_t u64;
        bool is_i64;
        int64_t i64;
    } cases[] = {
        {"0", true, 0, true, 0},
        {"-0", true, 0, true, 0},
        {"-0.0e9", true, 0, true, 0},
        {"1.0", true, 1, true, 1},
        {"1e2", true, 100, true, 100},
        {"1.25E+2", true, 125, true, 125},
        {"12500e-2", true, 125, true, 125},
        {"0e999999999999", true, 0, true, 0},
        {"1.5", false, 0, false, 0},
        {"1e-1", false, 0, false, 0},
        {"1e19", true, 10000000000000000000u, false, 0},
        {"1e20", false, 0, false, 0},
        {"1e99999999999999999999", false, 0, false, 0},
        {"18446744073709551615", true, UINT64_MAX, false, 0},
        {"18446744073709551616", false, 0, false, 0},
        {"1844674407370955161500e-2", true, UINT64_MAX, false, 0},
        {"9223372036854775807", true, INT64_MAX, true, INT64_MAX},
        {"9223372036854775808", true, 9223372036854775808u, false, 0},
        {"-9223372036854775808", false, 0, true, INT64_MIN},
        {"-9223372036854775809", false, 0, false, 0},
        {"100000000000000000000", false, 0, false, 0},
        {"1000000000000000000000.5", false, 0, false, 0},
        {"\"1\"", false, 0, false, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t u64 = 77;
        int64_t i64 = 77;

        assert_int_equal(json_u64(parse(cases[i].text), &u64), cases[i].is_u64);
        assert_int_equal(json_i64(parse(cases[i].text), &i64), cases[i].is_i64);
        assert_true(u64 == (cases[i].is_u64 ? cases[i].u64 : 77));
        assert_true(i64 == (cases[i].is_i64 ? cases[i].i64 : 77));
    }
}

static void test_doubles_are_nearest_and_finite(void **state)
{
    double number = 0;

    (void)state;
    assert_true(json_f64(parse("-1.5e3"), &number) && number == -1500);
    assert_true(json_f64(parse("0.1"), &number) && number == 0.1);
    assert_true(json_f64(parse("0.1000000000000000055511151231257827021181583404541015625000000000"
                               "00000000000000000000000000000000000000"),
                         &number));
    assert_true(number == 0.1);
    assert_false(json_f64(parse("1e400"), &number));
    assert_false(json_f64(parse("[]"), &number));
    assert_false(json_f64(NULL, &number));
}

/* Any bytes written as a string read back as the same bytes. */
static void test_strings_survive_the_round_trip(void **state)
{
    char bytes[300];
    struct buffer text = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)(i * 37 % 128);
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        struct json *value;

        buffer_clear(&text);
        json_write_string(&text, (struct slice){bytes + sizeof(bytes) - len, len});
        assert_int_equal(json_parse(&arena, buffer_slice(&text), NULL, &value, NULL), ERR_OK);
        assert_int_equal(value->text.len, len);
        assert_memory_equal(value->text.data, bytes + sizeof(bytes) - len, len);
    }
    buffer_clear(&text);
    json_write_string_clean(&text, SLICE("a\xff\"\xe2\x82z"));
    assert_string_equal(text.data, "\"a\xef\xbf\xbd\\\"\xef\xbf\xbdz\"");
    buffer_release(&text);
}

static void test_objects_are_written_with_their_commas(void **state)
{
    struct buffer text = {0};

    (void)state;
    json_write_open(&text, '{');
    json_write_key(&text, "a");
    json_write_open(&text, '[');
    for (int i = -1; i < 2; i++) {
        json_write_next(&text);
        json_write_i64(&text, i);
    }
    json_write_close(&text, ']');
    json_write_key(&text, "b\n");
    json_write_text(&text, NULL);
    json_write_key(&text, "c");
    json_write_bool(&text, true);
    json_write_key(&text, "d");
    json_write_raw(&text, SLICE("{ }"));
    json_write_close(&text, '}');
    assert_string_equal(text.data, "{\"a\":[-1,0,1],\"b\\n\":null,\"c\":true,\"d\":{ }}");
    buffer_release(&text);
}

static void test_floats_are_written_short_and_exact(void **state)
{
    struct buffer text = {0};

    (void)state;
    json_write_f64(&text, 0.1);
    json_write_next(&text);
    json_write_f64(&text, 1.0 / 3);
    json_write_next(&text);
    json_write_f32(&text, 0.1f);
    json_write_next(&text);
    json_write_f32(&text, -1.0f / 3);
    json_write_next(&text);
    json_write_f64(&text, NAN);
    json_write_next(&text);
    json_write_f32(&text, INFINITY);
    assert_string_equal(text.data, "0.1,0.3333333333333333,0.1,-0.33333334,null,null");
    buffer_release(&text);
}

/* Strings are read eight bytes at a time: what is not plain is seen at every place of the eight. */
static void test_what_is_not_plain_is_seen_at_every_place(void **state)
{
    static const char others[] = {'a', ' ', '!', '#', '[', ']', '\x7f'};

    (void)state;
    for (size_t len = 0; len <= 40; len++) {
        for (size_t at = 0; at <= len; at++) {
            char text[64], want[64];
            struct json *value;

            memset(text, others[(len + at) % sizeof(others)], sizeof(text));
            text[0] = '"';
            memcpy(want, text + 1, len);
            memcpy(text + 1 + at, "\\n", 2);
            want[at] = '\n';
            text[3 + len] = '"';
            assert_int_equal(json_parse(&arena, (struct slice){text, len + 4}, NULL, &value, NULL),
                             ERR_OK);
            assert_int_equal(value->text.len, len + 1);
            assert_memory_equal(value->text.data, want, at + 1);
            text[1 + at] = '\x1f';
            assert_int_equal(refused((struct slice){text, len + 4}, NULL).offset, 1 + at);
            text[1 + at] = '"';
            assert_int_equal(refused((struct slice){text, len + 4}, NULL).offset, 2 + at);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_raw_bytes_are_those_of_the_text, release),
        cmocka_unit_test_teardown(test_a_value_alone_is_a_text, release),
        cmocka_unit_test_teardown(test_escapes_are_decoded_and_nul_is_a_byte, release),
        cmocka_unit_test_teardown(test_bad_texts_are_refused_where_they_are_bad, release),
        cmocka_unit_test_teardown(test_what_is_not_plain_is_seen_at_every_place, release),
        cmocka_unit_test_teardown(test_depth_and_values_are_limited, release),
        cmocka_unit_test_teardown(test_duplicates_are_found_among_many_keys, release),
        cmocka_unit_test_teardown(test_whole_numbers_are_exact_or_refused, release),
        cmocka_unit_test_teardown(test_doubles_are_nearest_and_finite, release),
        cmocka_unit_test_teardown(test_strings_survive_the_round_trip, release),
        cmocka_unit_test_teardown(test_objects_are_written_with_their_commas, release),
        cmocka_unit_test_teardown(test_floats_are_written_short_and_exact, release),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
