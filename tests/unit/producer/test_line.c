/* test_line.c: lines as people write them, and as nobody should. */
#include "producer/line.h"

#include "config/utf8.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/shared.h"

#define SUITE "adversarial/JSONTestSuite-test_parsing"

static const struct slice names[] = {{"m", 1}, {"m-large", 7}};
static const struct line_models models = {names, 2, "small"};
static const struct line_rules rules = {true, ENDPOINT_COMPLETIONS, &models};
static struct arena arena;

static enum err read(struct slice text, struct line *line, struct request_error *error)
{
    arena_clear(&arena);
    memset(error, 0, sizeof(*error));
    return line_read(&arena, &rules, text, line, error);
}

static int release(void **state)
{
    (void)state;
    arena_release(&arena);
    return 0;
}

/* Members in any order and with any blanks; the body goes on byte for byte. */
static void test_a_good_line_is_taken_apart(void **state)
{
    struct slice text = SLICE(" {\"body\" : { \"prompt\":\"x\\u00e9\",\"model\":\"m\"} ,"
                              "\"url\":\"/v1/completions\",\"method\":\"POST\","
                              "\"custom_id\":\"a\\u0062c\"}\r");
    struct request_error error;
    struct line line;

    (void)state;
    assert_int_equal(read(text, &line, &error), ERR_OK);
    assert_int_equal(line.custom_id.len, 3);
    assert_memory_equal(line.custom_id.data, "abc", 3);
    assert_int_equal(line.custom_id_raw.len, 8);
    assert_memory_equal(line.custom_id_raw.data, "a\\u0062c", 8);
    assert_int_equal(line.body.len, strlen("{ \"prompt\":\"x\\u00e9\",\"model\":\"m\"}"));
    assert_memory_equal(line.body.data, "{ \"prompt\"", 10);
    assert_int_equal(line.work, 3 / 4 + 16);
    assert_true(line.has_endpoint);
}

#define BODY "\"body\":{\"model\":\"m\",\"prompt\":\"x\"}"
#define REST "\"method\":\"POST\",\"url\":\"/v1/completions\"," BODY

static void test_each_fault_has_its_code_and_its_field(void **state)
{
    static const struct {
        const char *line, *code, *param;
    } cases[] = {
        {"", "invalid_json_line", ""},
        {"{", "invalid_json_line", ""},
        {"{\"custom_id\":\"a\"} {}", "invalid_json_line", ""},
        {"[1]", "invalid_json_line", ""},
        {"\"custom_id\"", "invalid_json_line", ""},
        {"{\"custom_id\":\"a\",\"custom_id\":\"b\"," REST "}", "invalid_json_line", ""},
        {"{\"custom_id\":\"\xff\"," REST "}", "invalid_utf8", ""},
        {"{\"custom_id\":\"\\ud800\"," REST "}", "invalid_utf8", ""},
        {"{" REST "}", "missing_required_parameter", "custom_id"},
        {"{\"custom_id\":null," REST "}", "missing_required_parameter", "custom_id"},
        {"{\"custom_id\":7," REST "}", "invalid_type", "custom_id"},
        {"{\"custom_id\":\"\"," REST "}", "invalid_value", "custom_id"},
        {"{\"custom_id\":\"a\\u0000b\"," REST "}", "invalid_value", "custom_id"},
        {"{\"custom_id\":\"a\",\"params\":{}," REST "}", "unsupported_parameter", "params"},
        {"{\"custom_id\":\"a\",\"url\":\"/v1/completions\"," BODY "}", "missing_required_parameter",
         "method"},
        {"{\"custom_id\":\"a\",\"method\":\"GET\",\"url\":\"/v1/completions\"," BODY "}",
         "invalid_method", "method"},
        {"{\"custom_id\":\"a\",\"method\":\"POST\"," BODY "}", "missing_required_parameter", "url"},
        {"{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/images\"," BODY "}", "invalid_url",
         "url"},
        {"{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/embeddings\"," BODY "}",
         "mismatched_endpoint", "url"},
        {"{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/completions\"}",
         "missing_required_parameter", "body"},
        {"{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":[]}",
         "invalid_type", "body"},
        {"{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/completions\","
         "\"body\":{\"prompt\":\"x\"}}",
         "missing_required_parameter", "model"},
        {"{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/completions\","
         "\"body\":{\"model\":\"gpt\",\"prompt\":\"x\"}}",
         "model_not_found", "model"},
        {"{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/completions\","
         "\"body\":{\"model\":\"m\",\"prompt\":\"x\",\"stream\":true}}",
         "unsupported_parameter", "stream"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct slice text = {cases[i].line, strlen(cases[i].line)};
        struct request_error error;
        struct line line;

        if (read(text, &line, &error) != ERR_INPUT)
            fail_msg("accepted: %s", cases[i].line);
        if (strcmp(error.code, cases[i].code) != 0 || strcmp(error.param, cases[i].param) != 0)
            fail_msg("%s: %s %s: %s", cases[i].line, error.code, error.param, error.message);
        assert_true(strlen(error.message) > 10);
    }
}

/* A failed row bears the id of its line wherever the fault stands behind it. */
static void test_the_custom_id_of_a_bad_line_is_known(void **state)
{
    struct request_error error;
    struct line line;

    (void)state;
    assert_int_equal(read(SLICE("{\"custom_id\":\"a\",\"method\":\"GET\"}"), &line, &error),
                     ERR_INPUT);
    assert_int_equal(line.custom_id.len, 1);
    assert_int_equal(read(SLICE("{\"custom_id\":\"a\",\"custom_id\":\"a\"}"), &line, &error),
                     ERR_INPUT);
    assert_int_equal(line.custom_id.len, 0);
}

static void test_a_custom_id_may_have_512_bytes(void **state)
{
    struct buffer text = {0};
    struct request_error error;
    struct line line;

    (void)state;
    for (size_t len = 512; len <= 513; len++) {
        buffer_clear(&text);
        buffer_add_text(&text, "{\"custom_id\":\"");
        for (size_t i = 0; i < len; i++)
            buffer_add_text(&text, "\\u0041");
        buffer_add_text(&text, "\"," REST "}");
        assert_int_equal(read(buffer_slice(&text), &line, &error), len == 512 ? ERR_OK : ERR_INPUT);
    }
    assert_string_equal(error.param, "custom_id");
    buffer_release(&text);
}

static void test_blank_lines_are_blank(void **state)
{
    (void)state;
    assert_true(line_is_blank((struct slice){"", 0}));
    assert_true(line_is_blank(SLICE(" \t\r")));
    assert_false(line_is_blank(SLICE(" x")));
    assert_false(line_is_blank((struct slice){"\0", 1}));
}

/* The text where JSON of any kind may stand: in a field that does not touch the output. */
static void wrap(struct buffer *line, struct slice json)
{
    buffer_clear(line);
    buffer_add_text(line, "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/completions\","
                          "\"body\":{\"model\":\"m\",\"prompt\":\"x\",\"metadata\":");
    buffer_add(line, json.data, json.len);
    buffer_add_text(line, "}}");
}

/* One file of the suite: alone it is no line, and inside a line it is what its name says. */
static void check_suite_file(const char *name, struct slice json, struct buffer *text)
{
    struct request_error error;
    struct line line;
    enum err rc = read(json, &line, &error);

    assert_int_equal(rc, ERR_INPUT);
    wrap(text, json);
    rc = read(buffer_slice(text), &line, &error);
    if (name[0] == 'y' && strncmp(name, "y_object_duplicated_key", 23) != 0 && rc != ERR_OK)
        fail_msg("%s: %s", name, error.message);
    if (name[0] == 'n' && rc != ERR_INPUT)
        fail_msg("%s: accepted", name);
    if (rc != ERR_OK && strcmp(error.code, "invalid_json_line") != 0 &&
        strcmp(error.code, "invalid_utf8") != 0)
        fail_msg("%s: %s", name, error.code);
}

static void test_the_json_test_suite_inside_a_line(void **state)
{
    struct buffer text = {0}, line = {0};
    const char *folder = shared_path(SUITE);
    DIR *dir = folder != NULL ? opendir(folder) : NULL;
    struct dirent *entry;
    unsigned files = 0;
    char path[512];

    (void)state;
    if (dir == NULL)
        skip();
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), SUITE "/%s", entry->d_name);
        assert_true(shared_read(shared_path(path), &text));
        check_suite_file(entry->d_name, buffer_slice(&text), &line);
        files++;
    }
    closedir(dir);
    assert_true(files >= 318);
    buffer_release(&text);
    buffer_release(&line);
}

/* Each string as custom_id and as prompt: all of them are text, so all are fine but an empty id. */
static void test_naughty_strings_are_only_strings(void **state)
{
    struct buffer text = {0}, built = {0};
    struct arena list_arena = {0};
    struct json *list, *item;
    unsigned count = 0;

    (void)state;
    if (!shared_read(shared_path("adversarial/blns.json"), &text))
        skip();
    assert_int_equal(json_parse(&list_arena, buffer_slice(&text), NULL, &list, NULL), ERR_OK);
    json_each(item, list)
    {
        struct request_error error;
        struct line line;
        enum err rc;

        buffer_clear(&built);
        buffer_printf(&built, "{\"custom_id\":");
        buffer_add(&built, item->raw.data, item->raw.len);
        buffer_add_text(&built, ",\"method\":\"POST\",\"url\":\"/v1/completions\","
                                "\"body\":{\"model\":\"m\",\"prompt\":");
        buffer_add(&built, item->raw.data, item->raw.len);
        buffer_add_text(&built, "}}");
        rc = read(buffer_slice(&built), &line, &error);
        if (item->text.len == 0 || item->text.len > 512)
            assert_int_equal(rc, ERR_INPUT);
        else if (rc != ERR_OK)
            fail_msg("%.*s: %s", (int)item->raw.len, item->raw.data, error.message);
        else
            assert_memory_equal(line.custom_id.data, item->text.data, item->text.len);
        count++;
    }
    assert_true(count > 400);
    arena_release(&list_arena);
    buffer_release(&text);
    buffer_release(&built);
}

/* Every line of the UTF-8 test file inside a prompt: accepted exactly when it is UTF-8. */
static void test_bytes_that_are_not_utf8_are_refused(void **state)
{
    struct buffer text = {0}, built = {0};
    unsigned refused = 0, accepted = 0;

    (void)state;
    if (!shared_read(shared_path("adversarial/utf8tests.bin"), &text))
        skip();
    for (const char *at = text.data, *end = at + text.len; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        struct slice row = {at, (size_t)((newline != NULL ? newline : end) - at)};
        struct request_error error;
        struct line line;
        enum err rc;

        at += row.len + 1;
        if (memchr(row.data, '"', row.len) || memchr(row.data, '\\', row.len) ||
            memchr(row.data, '\0', row.len) || memchr(row.data, '\r', row.len))
            continue;
        buffer_clear(&built);
        buffer_add_text(&built,
                        "{\"custom_id\":\"a\",\"method\":\"POST\","
                        "\"url\":\"/v1/completions\",\"body\":{\"model\":\"m\",\"prompt\":\"");
        buffer_add(&built, row.data, row.len);
        buffer_add_text(&built, "\"}}");
        rc = read(buffer_slice(&built), &line, &error);
        if (utf8_valid(row)) {
            accepted++;
            assert_true(rc == ERR_OK || strcmp(error.code, "invalid_json_line") == 0);
        } else {
            refused++;
            assert_int_equal(rc, ERR_INPUT);
            assert_string_equal(error.code, "invalid_utf8");
        }
    }
    assert_true(accepted > 20 && refused > 50);
    buffer_release(&text);
    buffer_release(&built);
}

/* A pit of brackets ends at a limit, not at the end of the stack. */
static void test_depth_and_size_have_limits(void **state)
{
    struct buffer built = {0};
    struct request_error error;
    struct line line;

    (void)state;
    for (int i = 0; i < 100000; i++)
        buffer_add_byte(&built, '[');
    assert_int_equal(read(buffer_slice(&built), &line, &error), ERR_INPUT);
    assert_string_equal(error.code, "invalid_json_line");
    buffer_clear(&built);
    buffer_add_text(&built, "{\"custom_id\":\"a\",\"x\":[0");
    for (int i = 0; i < REQUEST_NODES_MAX; i++)
        buffer_add_text(&built, ",0");
    buffer_add_text(&built, "]}");
    assert_int_equal(read(buffer_slice(&built), &line, &error), ERR_INPUT);
    assert_string_equal(error.code, "invalid_json_line");
    buffer_release(&built);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_line_is_taken_apart),
        cmocka_unit_test(test_each_fault_has_its_code_and_its_field),
        cmocka_unit_test(test_the_custom_id_of_a_bad_line_is_known),
        cmocka_unit_test(test_a_custom_id_may_have_512_bytes),
        cmocka_unit_test(test_blank_lines_are_blank),
        cmocka_unit_test(test_the_json_test_suite_inside_a_line),
        cmocka_unit_test(test_naughty_strings_are_only_strings),
        cmocka_unit_test(test_bytes_that_are_not_utf8_are_refused),
        cmocka_unit_test(test_depth_and_size_have_limits),
    };

    return cmocka_run_group_tests(tests, NULL, release);
}
