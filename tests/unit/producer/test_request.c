/* test_request.c: which bodies are read, as what, and which are refused with which words. */
#include "producer/request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct arena arena;

static struct request *parse(enum endpoint endpoint, const char *body)
{
    struct request *request = NULL;
    struct request_error error = {0};

    if (request_parse(&arena, (struct slice){body, strlen(body)}, endpoint, &request, &error) !=
        ERR_OK)
        fail_msg("%s: %s %s", body, error.code, error.message);
    return request;
}

static struct request_error refused(enum endpoint endpoint, const char *body)
{
    struct request *request = NULL;
    struct request_error error = {0};

    if (request_parse(&arena, (struct slice){body, strlen(body)}, endpoint, &request, &error) !=
        ERR_INPUT)
        fail_msg("accepted: %s", body);
    assert_null(request);
    assert_true(strlen(error.message) > 0);
    return error;
}

static void assert_text(struct slice slice, const char *want)
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

/* What a body does not say is OpenAI's default. */
static void test_defaults_are_those_of_openai(void **state)
{
    struct request *request = parse(ENDPOINT_COMPLETIONS, "{\"model\":\"m\",\"prompt\":\"Hi\"}");

    (void)state;
    assert_text(request->model, "m");
    assert_text(request->prompt, "Hi");
    assert_int_equal(request->max_tokens, REQUEST_COMPLETION_TOKENS);
    assert_true(request->temperature == 1 && request->top_p == 1 && request->min_p == 0);
    assert_int_equal(request->top_k, 0);
    assert_false(request->has_seed || request->ignore_eos || request->return_token_ids);
    request = parse(ENDPOINT_CHAT,
                    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}");
    assert_int_equal(request->max_tokens, 0);
    assert_int_equal(request_work(request), 256);
}

static void test_every_field_arrives_where_it_belongs(void **state)
{
    struct request *request = parse(
        ENDPOINT_COMPLETIONS,
        "{\"model\":\"m\",\"prompt\":\"x\",\"max_tokens\":7,\"temperature\":0.5,\"top_p\":0.25,"
        "\"min_p\":0.125,\"top_k\":40,\"seed\":-1,\"stop\":[\"a\",\"b\"],\"ignore_eos\":true,"
        "\"include_stop_str_in_output\":true,\"return_token_ids\":true,"
        "\"truncate_prompt_tokens\":100,\"user\":\"u\",\"metadata\":{\"a\":1},\"n\":1.0}");

    (void)state;
    assert_int_equal(request->max_tokens, 7);
    assert_true(request->temperature == 0.5 && request->top_p == 0.25 && request->min_p == 0.125);
    assert_int_equal(request->top_k, 40);
    assert_true(request->has_seed);
    assert_true(request->seed == UINT64_MAX);
    assert_int_equal(request->stop_len, 2);
    assert_text(request->stop[1], "b");
    assert_true(request->ignore_eos && request->include_stop && request->return_token_ids);
    assert_int_equal(request->truncate_prompt, 100);
    request = parse(ENDPOINT_EMBEDDINGS, "{\"model\":\"m\",\"input\":[\"x\"],"
                                         "\"encoding_format\":\"base64\","
                                         "\"truncate_prompt_tokens\":-1}");
    assert_text(request->prompt, "x");
    assert_true(request->embedding_base64);
    assert_int_equal(request->truncate_prompt, -1);
    assert_int_equal(request_work(request), 1);
}

static void test_a_prompt_may_be_text_or_token_ids(void **state)
{
    struct request *request =
        parse(ENDPOINT_COMPLETIONS, "{\"model\":\"m\",\"prompt\":[1,2,500],\"max_tokens\":4}");

    (void)state;
    assert_int_equal(request->prompt_ids_len, 3);
    assert_int_equal(request->prompt_ids[2], 500);
    assert_int_equal(request_work(request), 3 + 4);
    request = parse(ENDPOINT_COMPLETIONS, "{\"model\":\"m\",\"prompt\":[[7]]}");
    assert_int_equal(request->prompt_ids_len, 1);
    request = parse(ENDPOINT_COMPLETIONS, "{\"model\":\"m\",\"prompt\":[\"one\"]}");
    assert_text(request->prompt, "one");
    request = parse(ENDPOINT_COMPLETIONS, "{\"model\":\"m\",\"prompt\":\"\"}");
    assert_non_null(request->prompt.data);
}

/* Parts of text are one text, as vLLM reads them; developer is OpenAI's newer word for system. */
static void test_messages_are_read_in_order(void **state)
{
    struct request *request =
        parse(ENDPOINT_CHAT,
              "{\"model\":\"m\",\"max_tokens\":9,\"max_completion_tokens\":5,\"messages\":["
              "{\"role\":\"developer\",\"content\":\"be brief\"},"
              "{\"role\":\"user\",\"name\":\"ann\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
              "{\"type\":\"text\",\"text\":\"b\"}]},"
              "{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}]}");

    (void)state;
    assert_int_equal(request->messages_len, 3);
    assert_int_equal(request->messages[0].role, ROLE_SYSTEM);
    assert_text(request->messages[1].content, "a\nb");
    assert_text(request->messages[1].name, "ann");
    assert_int_equal(request->messages[2].role, ROLE_ASSISTANT);
    assert_int_equal(request->messages[2].content.len, 0);
    assert_int_equal(request->max_tokens, 5);
    assert_int_equal(request_work(request), (8 + 3) / 4 + 5);
}

/* null is how many clients write "not set". */
static void test_null_is_as_good_as_absent(void **state)
{
    struct request *request = parse(
        ENDPOINT_COMPLETIONS, "{\"model\":\"m\",\"prompt\":\"x\",\"max_tokens\":null,\"stop\":null,"
                              "\"logprobs\":null,\"whatever\":null,\"stream\":null}");

    (void)state;
    assert_int_equal(request->max_tokens, REQUEST_COMPLETION_TOKENS);
    assert_string_equal(refused(ENDPOINT_COMPLETIONS, "{\"model\":null,\"prompt\":\"x\"}").code,
                        "missing_required_parameter");
}

static void test_what_is_not_implemented_is_refused_not_ignored(void **state)
{
    static const char *const cases[][2] = {
        {"stream", "true"},
        {"n", "2"},
        {"logprobs", "true"},
        {"logit_bias", "{\"50256\":-100}"},
        {"tools", "[{}]"},
        {"response_format", "{\"type\":\"json_object\"}"},
        {"frequency_penalty", "0.1"},
        {"repetition_penalty", "1.1"},
        {"min_tokens", "3"},
        {"skip_special_tokens", "false"},
        {"guided_json", "{}"},
        {"some_new_field", "1"},
        {"prompt", "\"x\""},
        {"stream_options", "{}"},
    };
    char body[256];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct request_error error;

        snprintf(body, sizeof(body),
                 "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"%s\":%s}",
                 cases[i][0], cases[i][1]);
        error = refused(ENDPOINT_CHAT, body);
        assert_string_equal(error.code, "unsupported_parameter");
        assert_string_equal(error.param, cases[i][0]);
    }
    parse(ENDPOINT_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],"
                         "\"stream\":false,\"n\":1,\"logprobs\":false,\"logit_bias\":{},"
                         "\"tools\":[],\"response_format\":{\"type\":\"text\"},"
                         "\"frequency_penalty\":0.0,\"repetition_penalty\":1.0,\"min_tokens\":0,"
                         "\"skip_special_tokens\":true,\"tool_choice\":\"none\"}");
}

static void test_wrong_values_are_told_by_field(void **state)
{
    static const struct {
        const char *field, *value, *code;
    } cases[] = {
        {"max_tokens", "0", "invalid_value"},
        {"max_tokens", "1.5", "invalid_value"},
        {"max_tokens", "\"9\"", "invalid_type"},
        {"max_tokens", "1e30", "invalid_value"},
        {"temperature", "2.01", "invalid_value"},
        {"temperature", "-0.1", "invalid_value"},
        {"temperature", "true", "invalid_type"},
        {"temperature", "1e999", "invalid_value"},
        {"top_p", "1.1", "invalid_value"},
        {"top_p", "0", "invalid_value"},
        {"top_p", "-0.0", "invalid_value"},
        {"top_p", "1e-400", "invalid_value"},
        {"top_p", "\"1\"", "invalid_type"},
        {"top_k", "-2", "invalid_value"},
        {"seed", "18446744073709551615", "invalid_value"},
        {"seed", "\"1\"", "invalid_type"},
        {"stop", "\"\"", "invalid_value"},
        {"stop", "[1]", "invalid_type"},
        {"stop", "{}", "invalid_type"},
        {"ignore_eos", "1", "invalid_type"},
        {"truncate_prompt_tokens", "0", "invalid_value"},
        {"truncate_prompt_tokens", "-2", "invalid_value"},
    };
    char body[256];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct request_error error;

        snprintf(body, sizeof(body), "{\"model\":\"m\",\"prompt\":\"x\",\"%s\":%s}", cases[i].field,
                 cases[i].value);
        error = refused(ENDPOINT_COMPLETIONS, body);
        assert_string_equal(error.code, cases[i].code);
        assert_string_equal(error.param, cases[i].field);
        assert_non_null(strstr(error.message, cases[i].field));
    }
}

static void test_wrong_prompts_and_messages_are_refused(void **state)
{
    static const struct {
        enum endpoint endpoint;
        const char *body, *param;
    } cases[] = {
        {ENDPOINT_COMPLETIONS, "{\"model\":\"m\"}", "prompt"},
        {ENDPOINT_COMPLETIONS, "{\"prompt\":\"x\"}", "model"},
        {ENDPOINT_COMPLETIONS, "{\"model\":\"\",\"prompt\":\"x\"}", "model"},
        {ENDPOINT_COMPLETIONS, "{\"model\":\"m\",\"prompt\":[]}", "prompt"},
        {ENDPOINT_COMPLETIONS, "{\"model\":\"m\",\"prompt\":[[]]}", "prompt"},
        {ENDPOINT_COMPLETIONS, "{\"model\":\"m\",\"prompt\":[\"a\",\"b\"]}", "prompt"},
        {ENDPOINT_COMPLETIONS, "{\"model\":\"m\",\"prompt\":[1,-2]}", "prompt"},
        {ENDPOINT_COMPLETIONS, "{\"model\":\"m\",\"prompt\":[1,\"a\"]}", "prompt"},
        {ENDPOINT_COMPLETIONS, "{\"model\":\"m\",\"prompt\":{}}", "prompt"},
        {ENDPOINT_EMBEDDINGS, "{\"model\":\"m\",\"input\":\"\"}", "input"},
        {ENDPOINT_EMBEDDINGS, "{\"model\":\"m\",\"input\":\"x\",\"dimensions\":8}", "dimensions"},
        {ENDPOINT_EMBEDDINGS, "{\"model\":\"m\",\"input\":\"x\",\"encoding_format\":\"f16\"}",
         "encoding_format"},
        {ENDPOINT_CHAT, "{\"model\":\"m\"}", "messages"},
        {ENDPOINT_CHAT, "{\"model\":\"m\",\"messages\":[]}", "messages"},
        {ENDPOINT_CHAT, "{\"model\":\"m\",\"messages\":[1]}", "messages[0]"},
        {ENDPOINT_CHAT, "{\"model\":\"m\",\"messages\":[{\"content\":\"x\"}]}", "messages[0].role"},
        {ENDPOINT_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\"}]}",
         "messages[0].content"},
        {ENDPOINT_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}",
         "messages[0].role"},
        {ENDPOINT_CHAT,
         "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\","
         "\"image_url\":{\"url\":\"http://x\"}}]}]}",
         "messages[0].content[0]"},
        {ENDPOINT_CHAT,
         "{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"content\":\"x\","
         "\"tool_calls\":[]}]}",
         "messages[0]"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(refused(cases[i].endpoint, cases[i].body).param, cases[i].param);
    assert_string_equal(refused(ENDPOINT_CHAT, "{").code, "invalid_json");
    assert_string_equal(refused(ENDPOINT_CHAT, "[]").code, "invalid_type");
}

/* A hostile name must not break the line of text or JSON that shows it. */
static void test_a_strange_field_name_is_shown_short_and_clean(void **state)
{
    char body[600] = "{\"\\u0000\\n";
    struct request_error error;

    (void)state;
    for (int i = 0; i < 100; i++)
        strcat(body, "\xc3\xa9");
    strcat(body, "\":1}");
    error = refused(ENDPOINT_CHAT, body);
    assert_true(strlen(error.param) <= 60);
    assert_true(error.param[0] == '?' && error.param[1] == '?');
}

static void test_urls_name_endpoints(void **state)
{
    enum endpoint endpoint;

    (void)state;
    for (int i = 0; i < ENDPOINT_COUNT; i++) {
        const char *url = endpoint_url((enum endpoint)i);

        assert_true(endpoint_find((struct slice){url, strlen(url)}, &endpoint));
        assert_int_equal(endpoint, i);
    }
    assert_false(endpoint_find(SLICE("/v1/chat"), &endpoint));
    assert_false(endpoint_find((struct slice){0}, &endpoint));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_those_of_openai),
        cmocka_unit_test(test_every_field_arrives_where_it_belongs),
        cmocka_unit_test(test_a_prompt_may_be_text_or_token_ids),
        cmocka_unit_test(test_messages_are_read_in_order),
        cmocka_unit_test(test_null_is_as_good_as_absent),
        cmocka_unit_test(test_what_is_not_implemented_is_refused_not_ignored),
        cmocka_unit_test(test_wrong_values_are_told_by_field),
        cmocka_unit_test(test_wrong_prompts_and_messages_are_refused),
        cmocka_unit_test(test_a_strange_field_name_is_shown_short_and_clean),
        cmocka_unit_test(test_urls_name_endpoints),
    };

    return cmocka_run_group_tests(tests, NULL, release);
}
