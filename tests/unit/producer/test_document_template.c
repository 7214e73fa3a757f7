/* test_document_template.c: what a template may say, and what a document becomes. */
#include "producer/documents/document_template.h"

#include "config/log.h"
#include "producer/line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/mserve-template-XXXXXX";
static char said[1024];

static int make_file(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static enum err load(const char *text, const enum endpoint *endpoint,
                     struct document_template **ret)
{
    FILE *file = fopen(path, "w");
    enum err rc;

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    said[0] = '\0';
    log_catch(said, sizeof(said));
    rc = document_template_load(path, endpoint, ret);
    log_catch(NULL, 0);
    return rc;
}

/* The line of one part, and that mserve-submit would take it. */
static char *line_of(const char *text, struct document_part part)
{
    const struct line_rules rules = {.has_endpoint = false};
    struct document_template *template;
    struct request_error error = {0};
    struct arena arena = {0};
    struct buffer line = {0};
    struct line read;

    assert_int_equal(load(text, NULL, &template), ERR_OK);
    document_template_line(template, &part, &line);
    assert_true(line.len > 0 && memchr(line.data, '\n', line.len) == line.data + line.len - 1);
    line.data[--line.len] = '\0';
    assert_int_equal(line_read(&arena, &rules, buffer_slice(&line), &read, &error), ERR_OK);
    assert_int_equal(read.endpoint, document_template_endpoint(template));
    assert_int_equal(read.model.len, document_template_model(template).len);
    arena_release(&arena);
    document_template_free(template);
    return buffer_detach(&line);
}

static void test_a_document_becomes_a_line(void **state)
{
    char *line = line_of(
        "{\n  \"model\": \"m\",\n  \"max_tokens\": 12,\n  \"messages\": [\n"
        "    {\"role\": \"user\", \"content\": \"{{path}} ({{ part }}):\\n{{document}}\"}\n"
        "  ]\n}\n",
        (struct document_part){"notes/a \"b\".txt", SLICE("one\ntwo \"\\ \x01 \xc3\xa9"), 1, 1});

    (void)state;
    assert_string_equal(
        line,
        "{\"custom_id\":\"notes/a "
        "\\\"b\\\".txt\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\","
        "\"body\":{\"model\":\"m\",\"max_tokens\":12,\"messages\":[{\"role\":\"user\",\"content\":"
        "\"notes/a \\\"b\\\".txt (1/1):\\none\\ntwo \\\"\\\\ \\u0001 \xc3\xa9\"}]}}");
    free(line);
}

/* The id of a part says which; what a document says about holes is text. */
static void test_parts_are_numbered_and_documents_have_no_holes(void **state)
{
    char *line = line_of("{\"prompt\":\"{{part}}{{document}}{{document}}\",\"model\":\"m\"}",
                         (struct document_part){"a", SLICE("{{path}}"), 2, 17});

    (void)state;
    assert_string_equal(line,
                        "{\"custom_id\":\"a#2/17\",\"method\":\"POST\",\"url\":\"/v1/completions\","
                        "\"body\":{\"prompt\":\"2/17{{path}}{{path}}\",\"model\":\"m\"}}");
    free(line);
    line = line_of("\xef\xbb\xbf{\"input\":\"{{document}}\",\"model\":\"m\"}",
                   (struct document_part){"a", SLICE("x"), 1, 1});
    assert_non_null(strstr(line, "/v1/embeddings"));
    free(line);
}

/* Numbers and escapes stay what they are, only blanks go. */
static void test_what_is_no_hole_stays(void **state)
{
    char *line = line_of(
        "{ \"model\" : \"m\\u00e9\", \"temperature\": 1.50, \"stop\": [ \"}}\", \"\\n\" ],\r\n"
        " \"user\" : null, \"prompt\":\"{ \\\"{{document}}\" }",
        (struct document_part){"a", SLICE("x"), 1, 1});

    (void)state;
    assert_non_null(
        strstr(line, "{\"model\":\"m\xc3\xa9\",\"temperature\":1.50,\"stop\":[\"}}\",\"\\n\"],"
                     "\"user\":null,\"prompt\":\"{ \\\"x\"}"));
    free(line);
}

static void test_a_mistake_is_told_with_its_line(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", " line 1: "},
        {"{\n\"model\": \"m\",\n}", " line 3: "},
        {"\n[]", " line 2: a template is the JSON object of a body, not an array"},
        {"{\"model\":\"m\",\n\"prompt\":\"{{docment}}\"}",
         " line 2: \"{{docment}}\" is none of {{document}}, {{path}} and {{part}}"},
        {"{\"model\":\"m\",\n\"prompt\":\"{{document}} {{\"}", " line 2: \"{{\" is none of"},
        {"{\"model\":\"m\",\"prompt\":\"{{path}}\"}",
         "{{document}} stands nowhere in the template"},
        {"{\"model\":\"m\",\"text\":\"{{document}}\"}",
         "has none of `messages`, `prompt` and `input`"},
        {"{\"model\":\"m\",\"prompt\":\"{{document}}\",\n\"n\":2}", " line 2: "},
        {"{\"model\":\"m\",\"prompt\":\"{{document}}\",\n\n\"max_tokens\":\"x\"}",
         " line 3: invalid_type"},
        {"{\"prompt\":\"{{document}}\"}", "the body has no `model`"},
        {"{\"model\":\"m{{part}}\",\"prompt\":\"{{document}}\"}",
         "`model` is the same for all documents"},
        {"{\"model\":\"m\",\"prompt\":\"{{document}}\",\n\"{{path}}\":1}",
         " line 2: {{...}} may stand in strings, not in names"},
        {"{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{}}",
         "a template is what stands in `body`"},
        {"{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"x\"},\n"
         "{\"role\":\"nobody\",\"content\":\"{{document}}\"}]}",
         " line 2: invalid_value"},
        {"{\"model\":\"m\",\"prompt\":\"{{document}}\xff\"}", " line 1: "},
    };
    struct document_template *template;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(load(cases[i].text, NULL, &template), ERR_INPUT);
        if (strstr(said, cases[i].want) == NULL || strncmp(said, path, strlen(path)) != 0)
            fail_msg("\"%s\" has no \"%s\"", said, cases[i].want);
    }
}

/* --endpoint decides, and what it does not take is refused. */
static void test_the_endpoint_that_was_given_judges(void **state)
{
    const enum endpoint endpoint = ENDPOINT_CHAT;
    struct document_template *template;

    (void)state;
    assert_int_equal(load("{\"model\":\"m\",\"prompt\":\"{{document}}\"}", &endpoint, &template),
                     ERR_INPUT);
    assert_non_null(strstr(said, "`prompt` is not supported by /v1/chat/completions"));
    log_catch(said, sizeof(said));
    assert_int_equal(document_template_load("/nowhere/x.json", NULL, &template), ERR_NOT_FOUND);
    log_catch(NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_document_becomes_a_line),
        cmocka_unit_test(test_parts_are_numbered_and_documents_have_no_holes),
        cmocka_unit_test(test_what_is_no_hole_stays),
        cmocka_unit_test(test_a_mistake_is_told_with_its_line),
        cmocka_unit_test(test_the_endpoint_that_was_given_judges),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
