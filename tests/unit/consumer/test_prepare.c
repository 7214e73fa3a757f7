/* test_prepare.c: bodies become tasks, or tasks that have failed with the error OpenAI would give. */
#include "consumer/prepare.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/text/chat.h"
#include "tests/unit/consumer/made.h"

enum { CONTEXT = 64 };

struct bench {
    struct made made;
    struct tokenizer *tokenizer; /* bytes */
    struct prepare prepare;
};

static void bench_open(struct bench *bench, enum endpoint endpoint)
{
    struct prepare_options options = {.context_max = CONTEXT, .max_tokens_default = 16};

    made_open(&bench->made, 1, endpoint, 8);
    bench->tokenizer = tokenizer_new_bytes();
    options.tokenizer = bench->tokenizer;
    prepare_init(&bench->prepare, &options);
}

static void bench_close(struct bench *bench)
{
    prepare_release(&bench->prepare);
    tokenizer_free(bench->tokenizer);
    made_close(&bench->made);
}

static struct task *prepared(struct bench *bench, uint32_t index, const char *body)
{
    return prepare_task(&bench->prepare, bench->made.chunk, index, TEXT("id"), TEXT(body));
}

static void assert_refused(struct bench *bench, const char *body, const char *code,
                           const char *param)
{
    struct task *task = prepared(bench, 0, body);

    assert_int_equal(task->state, TASK_ENDED);
    assert_int_equal(task->status, TASK_FAILED);
    assert_int_equal(task->error.status_code, 400);
    assert_string_equal(task->error.code, code);
    assert_string_equal(task->error.param ? task->error.param : "", param);
    task_free(task);
}

static void test_a_completion_is_ready_to_run(void **state)
{
    struct bench bench;
    struct task *task;

    (void)state;
    bench_open(&bench, ENDPOINT_COMPLETIONS);
    task = prepared(&bench, 3,
                    "{\"model\":\"m\",\"prompt\":\"abc\",\"max_tokens\":9,\"seed\":7,"
                    "\"stop\":[\"x\",\"yz\"],\"temperature\":0.5}");
    assert_int_equal(task->state, TASK_READY);
    assert_int_equal(task->index, 3);
    assert_int_equal(task->prompt[task->prompt_len - 1], 'c');
    assert_int_equal(task->tokens_max, 9);
    assert_int_equal(task->sampling.seed, 7);
    assert_int_equal(task->stop_len, 2);
    assert_int_equal(task->stop[1].len, 2);
    assert_memory_equal(task->model.data, "m", 2);
    task_free(task);
    bench_close(&bench);
}

/* The engine takes top_p 0 as off: what asks for the fewest tokens must not get all of them. */
static void test_a_tiny_top_p_stays_above_0(void **state)
{
    struct bench bench;
    struct task *task;

    (void)state;
    bench_open(&bench, ENDPOINT_COMPLETIONS);
    task = prepared(&bench, 0, "{\"model\":\"m\",\"prompt\":\"abc\",\"top_p\":1e-300}");
    assert_int_equal(task->state, TASK_READY);
    assert_true(task->sampling.top_p > 0 && task->sampling.top_p < 1e-30f);
    task_free(task);
    assert_refused(&bench, "{\"model\":\"m\",\"prompt\":\"abc\",\"top_p\":0}", "invalid_value",
                   "top_p");
    bench_close(&bench);
}

/* Without a seed of its own a request has one from its job and line: the same in every attempt. */
static void test_a_seed_comes_from_job_and_line(void **state)
{
    static const char body[] = "{\"model\":\"m\",\"prompt\":\"abc\"}";
    struct bench bench;
    struct task *one, *again, *other;

    (void)state;
    bench_open(&bench, ENDPOINT_COMPLETIONS);
    one = prepared(&bench, 0, body);
    again = prepared(&bench, 0, body);
    other = prepared(&bench, 1, body);
    assert_true(one->sampling.seed == again->sampling.seed);
    assert_true(one->sampling.seed != other->sampling.seed);
    assert_true(prepare_seed(made_uuid(1), 0) != prepare_seed(made_uuid(2), 0));
    task_free(one);
    task_free(again);
    task_free(other);
    bench_close(&bench);
}

static void test_what_does_not_fit_the_context_fails(void **state)
{
    struct bench bench;

    (void)state;
    bench_open(&bench, ENDPOINT_COMPLETIONS);
    assert_refused(&bench, "{\"model\":\"m\",\"prompt\":\"abc\",\"max_tokens\":64}",
                   "context_length_exceeded", "prompt");
    assert_refused(&bench,
                   "{\"model\":\"m\",\"prompt\":\"0123456789012345678901234567890123456789"
                   "0123456789012345678901234567890123456789\"}",
                   "context_length_exceeded", "prompt");
    bench_close(&bench);
}

/* k keeps k tokens, the begin token and the last ones, -1 as many as leave room for the answer. */
static void test_truncation_keeps_the_end(void **state)
{
    struct bench bench;
    struct task *task;

    (void)state;
    bench_open(&bench, ENDPOINT_COMPLETIONS);
    task = prepared(&bench, 0,
                    "{\"model\":\"m\",\"prompt\":\"abcdefgh\",\"truncate_prompt_tokens\":3}");
    assert_int_equal(task->prompt_len, 3);
    assert_int_equal(task->prompt[0], tokenizer_bos(bench.tokenizer));
    assert_int_equal(task->prompt[1], 'g');
    assert_int_equal(task->prompt[2], 'h');
    task_free(task);
    task = prepared(&bench, 0, "{\"model\":\"m\",\"prompt\":\"abc\",\"truncate_prompt_tokens\":4}");
    assert_int_equal(task->prompt_len, 4); /* nothing to cut */
    assert_int_equal(task->prompt[1], 'a');
    task_free(task);
    task =
        prepared(&bench, 0, "{\"model\":\"m\",\"prompt\":[97,98,99],\"truncate_prompt_tokens\":2}");
    assert_int_equal(task->prompt_len, 2); /* ids are the caller's own */
    assert_int_equal(task->prompt[0], 'b');
    task_free(task);
    task = prepared(&bench, 0,
                    "{\"model\":\"m\",\"max_tokens\":60,\"prompt\":\"abcdefgh\","
                    "\"truncate_prompt_tokens\":-1}");
    assert_int_equal(task->state, TASK_READY);
    assert_int_equal(task->prompt_len, CONTEXT - 60);
    assert_int_equal(task->prompt[0], tokenizer_bos(bench.tokenizer));
    assert_int_equal(task->prompt[1], 'f');
    task_free(task);
    bench_close(&bench);
}

/* Tokens of a chat of 100 bytes that is truncated to what fits, where the tier's default is `usual`. */
static void expect_chat(uint32_t usual, uint32_t want_prompt, uint32_t want_answer)
{
    struct bench bench;
    struct task *task;
    char body[256];

    bench_open(&bench, ENDPOINT_CHAT);
    bench.prepare.options.max_tokens_default = usual;
    bench.prepare.options.chat = chat_format_find(TEXT("plain"));
    snprintf(body, sizeof(body),
             "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"%0100d\"}],"
             "\"truncate_prompt_tokens\":-1}",
             7);
    task = prepared(&bench, 0, body);
    assert_int_equal(task->state, TASK_READY);
    assert_int_equal(task->prompt_len, want_prompt);
    assert_int_equal(task->tokens_max, want_answer);
    assert_int_equal(task->prompt[0], tokenizer_bos(bench.tokenizer));
    assert_int_equal(task->prompt[want_prompt - 1], ':');
    task_free(task);
    bench_close(&bench);
}

/* A default as large as the context, which only means "no limit", leaves half of it to the prompt. */
static void test_a_truncated_chat_keeps_half_of_the_context(void **state)
{
    (void)state;
    expect_chat(16, CONTEXT - 16, 16);
    expect_chat(CONTEXT / 2, CONTEXT / 2, CONTEXT / 2);
    expect_chat(CONTEXT - 1, CONTEXT / 2, CONTEXT / 2);
    expect_chat(CONTEXT, CONTEXT / 2, CONTEXT / 2);
    expect_chat(1000000, CONTEXT / 2, CONTEXT / 2);
    expect_chat(0, CONTEXT / 2, CONTEXT / 2);
}

static void test_what_cannot_run_says_why(void **state)
{
    struct bench bench;
    struct task *task;

    (void)state;
    bench_open(&bench, ENDPOINT_COMPLETIONS);
    assert_refused(&bench, "{\"model\":\"m\",\"prompt\":[70000]}", "invalid_value", "prompt");
    assert_refused(&bench, "{\"model\":\"m\",", "invalid_json", "");
    task = prepare_invalid(&bench.prepare, bench.made.chunk, 0, TEXT(""),
                           TEXT("{\"code\":\"invalid_url\",\"message\":\"No.\",\"param\":\"url\","
                                "\"line\":7}"));
    assert_string_equal(task->error.code, "invalid_url");
    assert_string_equal(task->error.message, "No.");
    assert_string_equal(task->error.param, "url");
    task_free(task);
    bench_close(&bench);

    bench_open(&bench, ENDPOINT_CHAT);
    assert_refused(&bench, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}",
                   "unsupported_endpoint", "");
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_completion_is_ready_to_run),
        cmocka_unit_test(test_a_tiny_top_p_stays_above_0),
        cmocka_unit_test(test_a_seed_comes_from_job_and_line),
        cmocka_unit_test(test_what_does_not_fit_the_context_fails),
        cmocka_unit_test(test_truncation_keeps_the_end),
        cmocka_unit_test(test_a_truncated_chat_keeps_half_of_the_context),
        cmocka_unit_test(test_what_cannot_run_says_why),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
