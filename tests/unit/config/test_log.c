/* test_log.c: a line of the log is one line, is JSON where that is asked for, and commands no terminal. */
#include "config/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/json.h"
#include "tests/unit/heard.h"

/* A name of somebody else's making: an escape of each kind, a line break, and what is no UTF-8. */
static const char hostile[] = "\x1b[2J\xc2\x9b"
                              "31m\nts=0\xe2\x80\xae\xff\x7f\"\\ été";

static const char *say(enum log_format format)
{
    char quoted[256];
    const char *text;

    log_init("test", LOG_INFO, format, false);
    heard_start();
    log_info("said", "name=%s", log_quote(quoted, sizeof quoted, hostile));
    text = heard();
    heard_stop();
    log_init("test", LOG_INFO, LOG_LOGFMT, false);
    return text;
}

static void assert_tame(const char *text)
{
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    assert_null(strchr(text, '\x1b'));
    assert_null(strchr(text, '\x7f'));
    assert_null(strchr(text, '\xff'));
    assert_null(strstr(text, "\xc2\x9b"));
    assert_null(strstr(text, "\xe2\x80\xae"));
    assert_non_null(strstr(text, "été"));
}

static void test_a_name_commands_no_terminal(void **state)
{
    const char *text = say(LOG_LOGFMT);

    (void)state;
    assert_tame(text);
    assert_non_null(
        strstr(text, "name=\"\\u001b[2J\\u009b31m\\nts=0\\u202e\\ufffd\\u007f\\\"\\\\ été\"\n"));
}

static void test_a_line_is_json(void **state)
{
    static const char shown[] = "\x1b[2J\xc2\x9b"
                                "31m\nts=0\xe2\x80\xae\xef\xbf\xbd\x7f\"\\ été";
    const char *text = say(LOG_JSON);
    struct json_limits limits = {.nodes_max = 100};
    struct arena arena = {0};
    struct json *line;

    (void)state;
    assert_tame(text);
    assert_int_equal(
        json_parse(&arena, (struct slice){text, strlen(text) - 1}, &limits, &line, NULL), ERR_OK);
    assert_true(json_equals(json_get(line, "name"), shown));
    arena_release(&arena);
}

/* What was not quoted by its caller breaks neither. */
static void test_a_value_without_quotes_is_escaped_too(void **state)
{
    struct json_limits limits = {.nodes_max = 100};
    struct arena arena = {0};
    struct json *line;
    const char *text;

    (void)state;
    log_init("test", LOG_INFO, LOG_JSON, false);
    heard_start();
    log_info("said", "bare=%s last=1", "a\x01\"b\xff");
    text = heard();
    heard_stop();
    log_init("test", LOG_INFO, LOG_LOGFMT, false);
    assert_int_equal(
        json_parse(&arena, (struct slice){text, strlen(text) - 1}, &limits, &line, NULL), ERR_OK);
    assert_true(json_equals(json_get(line, "bare"), "a\x01\"b\xef\xbf\xbd"));
    assert_true(json_equals(json_get(line, "last"), "1"));
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_name_commands_no_terminal),
        cmocka_unit_test(test_a_line_is_json),
        cmocka_unit_test(test_a_value_without_quotes_is_escaped_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
