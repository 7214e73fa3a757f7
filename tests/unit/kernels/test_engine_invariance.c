/*
 * test_engine_invariance.c: a request's answer depends on itself alone: not on the company, the
 * chunking, the order of submission, evictions, or being stopped at any step and resumed elsewhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine_rig.h"
#include "kernels/core/core.h"

enum { REQUESTS = 40 };

static struct outcome alone[REQUESTS];
static struct outcomes outcomes;

static int run_alone(void **state)
{
    const struct engine_options options = rig_options();

    (void)state;
    for (uint32_t number = 0; number < REQUESTS; number++)
        rig_alone(&options, number, &alone[number]);
    return 0;
}

static void compare(void)
{
    for (uint32_t number = 0; number < REQUESTS; number++)
        rig_check_same(&outcomes.of[number], &alone[number]);
}

/* All requests in an order that `stride`, prime to their number, gives. */
static void run_crowd(const struct engine_options *options, uint32_t stride)
{
    struct engine *engine = rig_open(options);

    memset(&outcomes, 0, sizeof(outcomes));
    for (uint32_t i = 0; i < REQUESTS; i++)
        rig_submit(engine, i * stride % REQUESTS);
    rig_run(engine, &outcomes);
    compare();
    engine_close(engine);
}

/* The requests are of all kinds, or the tests here say little. */
static void test_the_requests_are_of_all_kinds(void **state)
{
    uint32_t ends[4] = {0}, embedded = 0;

    (void)state;
    for (uint32_t number = 0; number < REQUESTS; number++) {
        ends[alone[number].finish]++;
        embedded += alone[number].embedded;
    }
    assert_true(ends[ENGINE_STOP] > 8 && ends[ENGINE_LENGTH] > 8 && embedded > 3);
}

static void test_company_and_chunking_do_not_matter(void **state)
{
    static const uint32_t sequences[] = {1, 2, 5, 8, 40}, rows[] = {0, 1, 3, 17, 64, 1000};

    (void)state;
    for (size_t i = 0; i < sizeof(sequences) / sizeof(sequences[0]); i++)
        for (size_t j = 0; j < sizeof(rows) / sizeof(rows[0]); j++) {
            struct engine_options options = rig_options();

            options.sequences_max = sequences[i];
            options.rows_max = sequences[i] + rows[j];
            run_crowd(&options, 1);
        }
}

static void test_the_order_of_submission_does_not_matter(void **state)
{
    const struct engine_options options = rig_options();

    (void)state;
    for (uint32_t stride = 1; stride < REQUESTS; stride += 2)
        if (stride % 5 != 0)
            run_crowd(&options, stride);
}

/* Pools from one context up: the smaller ones evict, and none gets stuck. */
static void test_evictions_do_not_matter(void **state)
{
    struct engine_books books;
    uint32_t evicting = 0;

    (void)state;
    for (uint64_t kv_tokens = 256; kv_tokens <= 1024; kv_tokens += 32) {
        struct engine_options options = rig_options();
        struct engine *engine;

        options.context_max = 256;
        options.kv_tokens = kv_tokens;
        engine = rig_open(&options);
        engine->forecasts = kv_tokens / 32 % 2 == 1;
        memset(&outcomes, 0, sizeof(outcomes));
        for (uint32_t number = 0; number < REQUESTS; number++)
            rig_submit(engine, number);
        rig_run(engine, &outcomes);
        compare();
        engine_books(engine, &books);
        evicting += books.recompute_ns > 0;
        engine_close(engine);
    }
    assert_true(evicting > 5);
}

/* Goes on with what `outcomes` has of each request, in an engine of another shape. */
static void resume(const struct outcomes *before)
{
    struct engine_options options = rig_options();
    struct engine *engine;
    uint32_t prompt[RIG_PROMPT_MAX];

    options.sequences_max = 5;
    options.rows_max = 11;
    engine = rig_open(&options);
    memset(&outcomes, 0, sizeof(outcomes));
    for (uint32_t number = 0; number < REQUESTS; number++) {
        struct engine_request request = rig_request(number, prompt);

        request.resumed = before->of[number].tokens;
        request.resumed_len = before->of[number].tokens_len;
        request.resumed_logprobs = before->of[number].logprobs;
        assert_int_equal(engine_submit(engine, &request), ERR_OK);
    }
    rig_run(engine, &outcomes);
    engine_close(engine);
}

/* Cancelled after k steps, for every k, and resumed with the tokens of the event. */
static void test_cancelled_at_any_step_and_resumed_is_the_same(void **state)
{
    static struct outcomes before;
    bool ran_dry = false;

    (void)state;
    for (uint32_t steps = 0; !ran_dry; steps += steps < 40 ? 1 : 9) {
        const struct engine_options options = rig_options();
        struct engine *engine = rig_open(&options);

        memset(&before, 0, sizeof(before));
        for (uint32_t number = 0; number < REQUESTS; number++)
            rig_submit(engine, number);
        for (uint32_t i = 0; i < steps && !ran_dry; i++)
            ran_dry = !rig_turn(engine, &before);
        for (uint32_t number = 0; number < REQUESTS; number++)
            engine_cancel(engine, number);
        rig_run(engine, &before);
        assert_int_equal(before.len, REQUESTS);
        engine_close(engine);
        for (uint32_t number = 0; number < REQUESTS; number++)
            if (before.of[number].finish != ENGINE_CANCELLED)
                rig_check_same(&before.of[number], &alone[number]);
            else
                assert_memory_equal(before.of[number].tokens, alone[number].tokens,
                                    before.of[number].tokens_len * sizeof(uint32_t));
        for (uint32_t number = 0; number < REQUESTS; number++)
            if (before.of[number].finish != ENGINE_CANCELLED)
                before.of[number].tokens_len = 0; /* from the start, to be compared as well */
        resume(&before);
        compare();
    }
}

/* Flushed, checkpointed and left behind after k steps; another engine goes on from the walk. */
static void test_resumed_from_any_checkpoint_is_the_same(void **state)
{
    static struct outcomes before;

    (void)state;
    for (uint32_t steps = 0; steps < 120; steps += 7) {
        const struct engine_options options = rig_options();
        struct engine *engine = rig_open(&options);
        struct engine_checkpoint checkpoint;
        uint32_t cursor = 0;

        memset(&before, 0, sizeof(before));
        for (uint32_t number = 0; number < REQUESTS; number++)
            rig_submit(engine, number);
        for (uint32_t i = 0; i < steps; i++)
            rig_turn(engine, &before);
        assert_int_equal(engine_flush(engine), ERR_OK);
        rig_poll(engine, &before);
        for (uint32_t number = 0; number < REQUESTS; number++)
            before.of[number].tokens_len = 0;
        while (engine_checkpoint(engine, &cursor, &checkpoint)) {
            struct outcome *outcome = &before.of[checkpoint.tag];

            assert_false(outcome->seen);
            outcome->tokens_len = checkpoint.tokens_len;
            memcpy(outcome->tokens, checkpoint.tokens, checkpoint.tokens_len * sizeof(uint32_t));
            if (checkpoint.logprobs != NULL)
                memcpy(outcome->logprobs, checkpoint.logprobs,
                       checkpoint.tokens_len * sizeof(float));
        }
        engine_close(engine);
        resume(&before);
        compare();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_requests_are_of_all_kinds),
        cmocka_unit_test(test_company_and_chunking_do_not_matter),
        cmocka_unit_test(test_the_order_of_submission_does_not_matter),
        cmocka_unit_test(test_evictions_do_not_matter),
        cmocka_unit_test(test_cancelled_at_any_step_and_resumed_is_the_same),
        cmocka_unit_test(test_resumed_from_any_checkpoint_is_the_same),
    };

    return cmocka_run_group_tests(tests, run_alone, NULL);
}
