/* test_response.c: the bodies that OpenAI's endpoints give, byte for byte. */
#include "consumer/response.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/json.h"
#include "tests/unit/consumer/made.h"

static const struct response_frame frame = {.created_s = 1700000000, .fingerprint = "fp_0123"};

static void end(struct task *task, const char *text, enum engine_finish finish)
{
    static const uint32_t tokens[] = {72, 105};
    struct engine_event event = {
        .finish = finish,
        .tokens = tokens,
        .tokens_len = 2,
        .text = TEXT(text),
        .cost = {.ns = 5, .prompt_tokens = 3, .cached_tokens = 1, .output_tokens = 2},
    };

    task_finish(task, &event, 0);
}

static void assert_written(const struct task *task, const char *expected)
{
    struct buffer out = {0};
    struct arena arena = {0};
    struct json *tree;

    response_write(&out, task, &frame);
    assert_string_equal(out.data, expected);
    assert_int_equal(json_parse(&arena, buffer_slice(&out), NULL, &tree, NULL), ERR_OK);
    arena_release(&arena);
    buffer_release(&out);
}

static void test_a_completion(void **state)
{
    struct made made;
    struct task *task;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 8);
    made.chunk->first_line = 40;
    task = made_task(&made, 2, 3, 2);
    end(task, "say \"hi\"\n", ENGINE_STOP);
    assert_written(task,
                   "{\"id\":\"cmpl-019a02030405700780090000000000"
                   "01-42\",\"object\":\"text_completion\",\"created\":1700000000,\"model\":\"m\","
                   "\"choices\":[{\"index\":0,\"text\":\"say \\\"hi\\\"\\n\",\"logprobs\":null,"
                   "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,"
                   "\"completion_tokens\":2,\"total_tokens\":5,\"prompt_tokens_details\":"
                   "{\"cached_tokens\":1}},\"system_fingerprint\":\"fp_0123\"}");
    task_free(task);
    made_close(&made);
}

/* As vLLM has it: a completion's prompt ids stand in its choice. */
static void test_a_completion_shows_its_tokens_when_asked(void **state)
{
    struct made made;
    struct task *task;
    struct buffer out = {0};

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 8);
    task = made_task(&made, 2, 3, 2);
    task->return_token_ids = true;
    end(task, "Hi", ENGINE_LENGTH);
    response_write(&out, task, &frame);
    assert_non_null(strstr(out.data, "\"finish_reason\":\"length\",\"token_ids\":[72,105],"
                                     "\"prompt_token_ids\":[97,98,99]}],\"usage\""));
    buffer_release(&out);
    task_free(task);
    made_close(&made);
}

/* And a chat's prompt ids beside its choices. */
static void test_a_chat_completion(void **state)
{
    struct made made;
    struct task *task;

    (void)state;
    made_open(&made, 1, ENDPOINT_CHAT, 8);
    task = made_task(&made, 0, 3, 2);
    task->return_token_ids = true;
    end(task, "Hi", ENGINE_LENGTH);
    assert_written(task,
                   "{\"id\":\"chatcmpl-019a02030405700780090000000000"
                   "01-0\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"m\","
                   "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
                   "\"Hi\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"length\","
                   "\"token_ids\":[72,105]}],\"prompt_token_ids\":[97,98,99],\"usage\":"
                   "{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5,"
                   "\"prompt_tokens_details\":{\"cached_tokens\":1}},"
                   "\"system_fingerprint\":\"fp_0123\"}");
    task_free(task);
    made_close(&made);
}

static struct task *embedded(struct made *made, const float *vector, uint32_t len, bool base64)
{
    struct task *task = made_task(made, 0, 3, 0);
    struct engine_event event = {.finish = ENGINE_STOP, .embedding = vector};

    task->embedding_base64 = base64;
    event.cost.prompt_tokens = 3;
    task_finish(task, &event, len);
    return task;
}

/* Numbers read back as the same floats; base64 holds their bytes. */
static void test_an_embedding_reads_back_exactly(void **state)
{
    static const float vector[] = {-0.0164231f, 0.1f, 1.0f / 3, 1e-20f};
    struct made made;
    struct task *task;
    struct buffer out = {0};
    char *at;

    (void)state;
    made_open(&made, 1, ENDPOINT_EMBEDDINGS, 8);
    task = embedded(&made, vector, 4, false);
    response_write(&out, task, &frame);
    at = strstr(out.data, "\"embedding\":[");
    assert_non_null(at);
    at += strlen("\"embedding\":[");
    for (int i = 0; i < 4; i++) {
        assert_true(strtof(at, &at) == vector[i]);
        at++;
    }
    assert_non_null(strstr(out.data, "\"usage\":{\"prompt_tokens\":3,\"total_tokens\":3}}"));
    task_free(task);

    task = embedded(&made, vector + 1, 1, true);
    assert_written(task, "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,"
                         "\"embedding\":\"zczMPQ==\"}],\"model\":\"m\",\"usage\":"
                         "{\"prompt_tokens\":3,\"total_tokens\":3}}");
    task_free(task);
    buffer_release(&out);
    made_close(&made);
}

static void test_bytes_that_are_not_utf8_are_replaced(void **state)
{
    struct made made;
    struct task *task;
    struct buffer out = {0};

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 8);
    task = made_task(&made, 0, 3, 2);
    end(task,
        "a\xff"
        "b\xe2\x82",
        ENGINE_STOP);
    response_write(&out, task, &frame);
    assert_non_null(strstr(out.data, "\"text\":\"a\xef\xbf\xbd"
                                     "b\xef\xbf\xbd\""));
    buffer_release(&out);
    task_free(task);
    made_close(&made);
}

static void expect_text(const char *text, enum engine_finish finish, const char *expected)
{
    struct buffer out = {0};
    struct task *task;
    struct made made;

    made_open(&made, 1, ENDPOINT_CHAT, 8);
    task = made_task(&made, 0, 3, 2);
    end(task, text, finish);
    response_write(&out, task, &frame);
    if (strstr(out.data, expected) == NULL)
        fail_msg("%s instead of %s", out.data, expected);
    buffer_release(&out);
    task_free(task);
    made_close(&made);
}

/* A character of two to four tokens that max_tokens cut is not said in part; one that is whole, or
 * never could be one, is told as it is. */
static void test_a_character_that_the_limit_cut_is_left_out(void **state)
{
    (void)state;
    expect_text("b\xe2\x82", ENGINE_LENGTH, "\"content\":\"b\"");
    expect_text("b\xe2", ENGINE_LENGTH, "\"content\":\"b\"");
    expect_text("b\xf0\x9f\x98", ENGINE_LENGTH, "\"content\":\"b\"");
    expect_text("\xc3", ENGINE_LENGTH, "\"content\":\"\"");
    expect_text("\xf0\x9f\x98\x80", ENGINE_LENGTH, "\"content\":\"\xf0\x9f\x98\x80\"");
    expect_text("b\xe2\x82\xac", ENGINE_LENGTH, "\"content\":\"b\xe2\x82\xac\"");
    expect_text("\xc3\xa9", ENGINE_LENGTH, "\"content\":\"\xc3\xa9\"");
    expect_text("b\xff", ENGINE_LENGTH, "\"content\":\"b\xef\xbf\xbd\"");
    expect_text("b\x82", ENGINE_LENGTH, "\"content\":\"b\xef\xbf\xbd\"");
    expect_text("", ENGINE_LENGTH, "\"content\":\"\"");
    expect_text("b\xe2\x82", ENGINE_STOP, "\"content\":\"b\xef\xbf\xbd\"");
}

static void assert_error(struct task *task, bool http, const char *expected)
{
    struct buffer out = {0};

    assert_int_equal(response_write_error(&out, task), http);
    assert_string_equal(out.data, expected);
    buffer_release(&out);
    task_free(task);
}

static void test_errors_have_openais_form(void **state)
{
    struct made made;
    struct task *task;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 8);
    task = made_task(&made, 0, 3, 2);
    task_fail(task, 400, "invalid_request_error", "invalid_value", "No \"x\".", "prompt");
    assert_error(task, true,
                 "{\"error\":{\"message\":\"No \\\"x\\\".\",\"type\":\"invalid_request_error\","
                 "\"param\":\"prompt\",\"code\":\"invalid_value\"}}");
    task = made_task(&made, 0, 3, 2);
    task_fail(task, 0, NULL, "request_timeout", "Too long.", NULL);
    assert_error(task, false, "{\"code\":\"request_timeout\",\"message\":\"Too long.\"}");
    task = made_task(&made, 0, 3, 2);
    task_withdraw(task, TASK_CANCELLED);
    assert_error(task, false,
                 "{\"code\":\"batch_cancelled\",\"message\":\"This request was cancelled before "
                 "it was done.\"}");
    made_close(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_completion),
        cmocka_unit_test(test_a_completion_shows_its_tokens_when_asked),
        cmocka_unit_test(test_a_chat_completion),
        cmocka_unit_test(test_an_embedding_reads_back_exactly),
        cmocka_unit_test(test_bytes_that_are_not_utf8_are_replaced),
        cmocka_unit_test(test_a_character_that_the_limit_cut_is_left_out),
        cmocka_unit_test(test_errors_have_openais_form),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
