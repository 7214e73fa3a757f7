/*
 * test_engine_tiny.c: the engine on the reference backend and a small random model: each request
 * has the same answer whatever happens around it, and the wall time that passes is all booked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine_rig.h"
#include "heard.h"
#include "kernels/core/core.h"
#include "tiny_gguf.h"

enum { REQUESTS = 14 };

static char path[128];
static struct outcome alone[REQUESTS];
static struct outcomes outcomes;

static struct engine_options ref_options(void)
{
    struct engine_options options = rig_options();

    options.backend = "ref";
    options.model_path = path;
    options.context_max = 256;
    options.threads = 1;
    return options;
}

static int make_model(void **state)
{
    const struct tiny_options tiny = {.seed = 11, .layers = 1, .embed = 16, .heads = 2, .ff = 24};
    const struct engine_options options = ref_options();
    struct buffer file = tiny_llama(&tiny);

    (void)state;
    tiny_save(&file, path, sizeof(path));
    buffer_release(&file);
    for (uint32_t number = 0; number < REQUESTS; number++)
        rig_alone(&options, number, &alone[number]);
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    return unlink(path);
}

/* Without forecasts evictions happen. */
static void run_crowd(const struct engine_options *options, uint32_t stride, bool forecasts)
{
    struct engine *engine = rig_open(options);
    struct engine_books books;

    engine->forecasts = forecasts;
    memset(&outcomes, 0, sizeof(outcomes));
    for (uint32_t i = 0; i < REQUESTS; i++)
        rig_submit(engine, i * stride % REQUESTS);
    rig_run(engine, &outcomes);
    for (uint32_t number = 0; number < REQUESTS; number++)
        rig_check_same(&outcomes.of[number], &alone[number]);
    engine_books(engine, &books);
    assert_int_equal(books.recompute_ns > 0, !forecasts);
    engine_close(engine);
}

static void test_answers_do_not_depend_on_the_batch(void **state)
{
    struct engine_options options = ref_options();

    (void)state;
    run_crowd(&options, 1, true);
    options.threads = 2;
    options.rows_max = 8;
    run_crowd(&options, 3, true);
    options.sequences_max = 3;
    options.rows_max = 200;
    options.kv_tokens = 256; /* evicts */
    run_crowd(&options, 5, false);
}

/* Cancelled after some steps, and resumed elsewhere with the tokens it had. */
static void test_resumed_is_the_same(void **state)
{
    static struct outcomes before;
    struct engine_options options = ref_options();
    uint32_t prompt[RIG_PROMPT_MAX];

    (void)state;
    for (uint32_t steps = 1; steps < 90; steps += 6) {
        struct engine *engine = rig_open(&options);

        memset(&before, 0, sizeof(before));
        memset(&outcomes, 0, sizeof(outcomes));
        for (uint32_t number = 0; number < REQUESTS; number++)
            rig_submit(engine, number);
        for (uint32_t i = 0; i < steps; i++)
            rig_turn(engine, &before);
        for (uint32_t number = 0; number < REQUESTS; number++)
            engine_cancel(engine, number);
        rig_run(engine, &before);
        for (uint32_t number = 0; number < REQUESTS; number++) {
            struct engine_request request = rig_request(number, prompt);

            if (before.of[number].finish != ENGINE_CANCELLED)
                continue;
            request.resumed = before.of[number].tokens;
            request.resumed_len = before.of[number].tokens_len;
            request.resumed_logprobs = before.of[number].logprobs;
            assert_int_equal(engine_submit(engine, &request), ERR_OK);
        }
        rig_run(engine, &outcomes);
        for (uint32_t number = 0; number < REQUESTS; number++)
            rig_check_same(before.of[number].finish != ENGINE_CANCELLED ? &before.of[number]
                                                                        : &outcomes.of[number],
                           &alone[number]);
        engine_close(engine);
    }
}

/* Costs are wall time here: all of it is in some account, to the nanosecond. */
static void test_wall_time_is_all_booked(void **state)
{
    const struct engine_options options = ref_options();
    struct engine *engine = rig_open(&options);
    struct engine_books books;

    (void)state;
    memset(&outcomes, 0, sizeof(outcomes));
    engine_books(engine, &books);
    assert_true(books.overhead_ns > 0 && books.overhead_ns == books.held_ns); /* loading */
    rig_submit(engine, 1);
    rig_run(engine, &outcomes);
    usleep(2000);
    engine_idle(engine);
    rig_check(engine);
    engine_books(engine, &books);
    assert_true(books.idle_ns >= 2000000);
    assert_true(books.delivered_ns > 0 && books.delivered_ns == outcomes.of[1].cost.ns);
    engine_close(engine);
}

/* An engine on the same model, but that its end token is `eos`. */
static struct engine *open_with_end(uint32_t eos)
{
    static const char key[] = "tokenizer.ggml.eos_token_id";
    const struct tiny_options tiny = {.seed = 11, .layers = 1, .embed = 16, .heads = 2, .ff = 24};
    struct buffer file = tiny_llama(&tiny);
    char *at = memmem(file.data, file.len, key, sizeof(key) - 1);
    struct engine_options options = ref_options();
    struct engine *engine;
    char other[128];

    assert_non_null(at);
    memcpy(at + sizeof(key) - 1 + 4, &eos, sizeof(eos));
    tiny_save(&file, other, sizeof(other));
    options.model_path = other;
    engine = rig_open(&options);
    assert_int_equal(unlink(other), 0);
    buffer_release(&file);
    return engine;
}

/* A word, neither control token nor byte, that a request without stop strings answers with. */
static uint32_t find_word(uint32_t *ret_number)
{
    uint32_t prompt[RIG_PROMPT_MAX];

    for (*ret_number = 0; *ret_number < REQUESTS; ++*ret_number) {
        const struct outcome *outcome = &alone[*ret_number];
        const struct engine_request request = rig_request(*ret_number, prompt);

        for (uint32_t i = 2; i < outcome->tokens_len && request.stop_len == 0; i++)
            if (outcome->tokens[i] >= 259 && !request.ignore_eos)
                return outcome->tokens[i];
    }
    fail_msg("%s", "no request answers with a word");
    return 0;
}

/* The bytes that an end token has, if it has any, are no text; with a stop string in sight or not. */
static void test_an_end_token_with_bytes_is_not_text(void **state)
{
    const struct slice never = SLICE("never comes");
    uint32_t number, prompt[RIG_PROMPT_MAX];
    const uint32_t word = find_word(&number);

    (void)state;
    for (uint32_t stops = 0; stops < 2; stops++) {
        struct engine_request request = rig_request(number, prompt);
        struct engine *engine = open_with_end(word);
        const struct outcome *outcome = &outcomes.of[number];
        size_t bytes = 0;

        memset(&outcomes, 0, sizeof(outcomes));
        request.stop = &never;
        request.stop_len = stops;
        assert_int_equal(engine_submit(engine, &request), ERR_OK);
        rig_run(engine, &outcomes);
        assert_int_equal(outcome->finish, ENGINE_STOP);
        assert_int_equal(outcome->cost.output_tokens, outcome->tokens_len);
        assert_int_equal(outcome->tokens[outcome->tokens_len - 1], word);
        assert_true(tokenizer_piece(engine_tokenizer(engine), word).len > 0);
        for (uint32_t i = 0; i + 1 < outcome->tokens_len; i++)
            bytes += tokenizer_piece(engine_tokenizer(engine), outcome->tokens[i]).len;
        assert_int_equal(outcome->text_len, bytes);
        engine_close(engine);
    }
}

/* What a model is, from its file; a file that is another than was asked for is refused. */
static void test_a_model_file_is_named_and_checked(void **state)
{
    struct engine_options options = ref_options();
    struct engine *engine = rig_open(&options);
    struct engine_plan plan;
    char hex[65];

    (void)state;
    assert_int_equal(engine_model(engine)->vocab, 320);
    assert_int_equal(engine_model(engine)->embedding_len, 16);
    assert_int_equal(engine_model(engine)->context_max, 256);
    for (int i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", engine_model(engine)->digest[i]);
    engine_close(engine);

    options.model_sha256 = hex;
    engine_close(rig_open(&options));
    assert_int_equal(engine_plan(&options, &plan), ERR_OK);
    assert_true(plan.weight_bytes > 0 && plan.kv_bytes > 0);
    assert_int_equal(plan.kv_tokens, 8 * 256);

    heard_start();
    engine = NULL;
    hex[0] = hex[0] == '0' ? '1' : '0';
    assert_int_equal(engine_open(&options, &engine), ERR_MODEL);
    options.model_sha256 = NULL;
    options.model_path = NULL;
    assert_int_equal(engine_open(&options, &engine), ERR_SETTINGS);
    options.model_path = "/nowhere";
    assert_int_equal(engine_open(&options, &engine), ERR_MODEL);
    assert_null(engine);
    heard_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_do_not_depend_on_the_batch),
        cmocka_unit_test(test_resumed_is_the_same),
        cmocka_unit_test(test_wall_time_is_all_booked),
        cmocka_unit_test(test_an_end_token_with_bytes_is_not_text),
        cmocka_unit_test(test_a_model_file_is_named_and_checked),
    };

    return cmocka_run_group_tests(tests, make_model, remove_model);
}
