/*
 * test_cuda_mix.c: the whole engine on an emulated GPU: requests of all kinds whose outputs are to
 * the last bit those of the request alone, in any company, in pieces, evicted, stopped at any step
 * and gone on with elsewhere, with graphs and without. Few of them: a GPU is slow on a processor.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../mix.h"

#ifdef MIX_IS_SANITIZED
enum { REQUESTS = 8 };
#else
enum { REQUESTS = 16 };
#endif

static const struct mix_kind few = {.seed = 77, .tokens_max = 16};

static struct mix mix;
static struct outcome alone[REQUESTS];

static struct engine_options small_options(void)
{
    struct engine_options options = mix_options("cuda-emu");

    options.kv_tokens = 16 * MIX_CONTEXT;
    return options;
}

static void run_and_compare(const struct engine_options *options, const struct mix_way *way)
{
    struct engine *engine = mix_run(&mix, options, way);

    mix_check_same(&mix, alone);
    engine_close(engine);
}

static void test_each_output_is_that_of_the_request_alone(void **state)
{
    const struct mix_way in_order = {0}, shuffled = {.shuffle = 3, .apart = true};
    struct engine_options options = small_options();

    (void)state;
    mix_run_alone(&mix, &options, alone);
    for (uint32_t i = 0; i < REQUESTS; i++)
        assert_true(alone[i].finish == ENGINE_STOP || alone[i].finish == ENGINE_LENGTH);
    run_and_compare(&options, &in_order);
    options.sequences_max = 3;
    options.rows_max = 17;
    run_and_compare(&options, &shuffled);
}

/* A pool for a few contexts only. */
static void test_evicted_or_not_is_the_same(void **state)
{
    const struct mix_way greedy = {.shuffle = 5, .no_forecasts = true};
    struct engine_options options = small_options();

    (void)state;
    options.sequences_max = 12;
    options.kv_tokens = MIX_CONTEXT;
    run_and_compare(&options, &greedy);
}

/* Another schedule of the card's threads, copies that land at once: the same. */
static void test_the_order_of_threads_changes_nothing(void **state)
{
    const struct mix_way in_order = {0};
    const struct engine_options options = small_options();

    (void)state;
    setenv("MSERVE_EMU", "seed=5,order=unfair,copies=early", 1);
    run_and_compare(&options, &in_order);
    unsetenv("MSERVE_EMU");
}

/* Stopped after `steps` steps; what was taken in by then begins the request in another engine. */
static void go_on_elsewhere(uint32_t steps)
{
    static struct {
        uint32_t tokens[RIG_TOKENS_MAX];
        float logprobs[RIG_TOKENS_MAX];
        uint32_t len;
    } saved[REQUESTS];
    const struct engine_options options = small_options();
    struct engine *engine = rig_open(&options);
    struct engine_step_info info;
    struct engine_checkpoint live;
    uint32_t cursor = 0;

    memset(saved, 0, sizeof(saved));
    for (uint32_t i = 0; i < mix.len; i++) {
        mix.outcome[i].seen = false;
        assert_int_equal(engine_submit(engine, &mix.request[i]), ERR_OK);
    }
    mix.seen = 0;
    for (uint32_t i = 0; i < steps; i++)
        assert_int_equal(engine_step(engine, &info), ERR_OK);
    assert_int_equal(engine_flush(engine), ERR_OK);
    mix_poll(&mix, engine);
    for (; engine_checkpoint(engine, &cursor, &live);) {
        saved[live.tag].len = live.tokens_len;
        memcpy(saved[live.tag].tokens, live.tokens, live.tokens_len * sizeof(uint32_t));
        if (live.logprobs != NULL)
            memcpy(saved[live.tag].logprobs, live.logprobs, live.tokens_len * sizeof(float));
    }
    engine_close(engine);
    engine = rig_open(&options);
    for (uint32_t i = 0; i < mix.len; i++) {
        struct engine_request request = mix.request[i];

        if (mix.outcome[i].seen)
            continue;
        if (saved[i].len > request.resumed_len) {
            request.resumed = saved[i].tokens;
            request.resumed_len = saved[i].len;
            request.resumed_logprobs = saved[i].logprobs;
        }
        assert_int_equal(engine_submit(engine, &request), ERR_OK);
    }
    do {
        assert_int_equal(engine_step(engine, &info), ERR_OK);
        mix_poll(&mix, engine);
    } while (!info.idle);
    assert_int_equal(mix.seen, mix.len);
    mix_check_same(&mix, alone);
    engine_close(engine);
}

static void test_stopped_and_gone_on_with_is_the_same(void **state)
{
    (void)state;
    go_on_elsewhere(3);
    go_on_elsewhere(11);
}

static int begin(void **state)
{
    mix_init(&mix, &few, REQUESTS);
    return mix_make_model(state);
}

static int finish(void **state)
{
    mix_release(&mix);
    return mix_remove_model(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_output_is_that_of_the_request_alone),
        cmocka_unit_test(test_evicted_or_not_is_the_same),
        cmocka_unit_test(test_the_order_of_threads_changes_nothing),
        cmocka_unit_test(test_stopped_and_gone_on_with_is_the_same),
    };

    return cmocka_run_group_tests(tests, begin, finish);
}
