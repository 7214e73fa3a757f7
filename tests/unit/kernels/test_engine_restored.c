/*
 * test_engine_restored.c: on real arithmetic, on every backend that computes: requests that lose
 * their place for want of memory, and engines that are stopped at any step and gone on with
 * elsewhere, give the same to the last bit, and no nanosecond gets lost on the way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mix.h"

enum { REQUESTS = MIX_REQUESTS, FEW = 16 };

static const struct mix_kind growing = {.seed = 78, .tokens_max = 48, .growing = true};
static const struct mix_kind lasting = {.seed = 79, .tokens_max = 120};

static struct mix mix;
static struct outcome alone[REQUESTS];

/* A pool of a few contexts, given to whoever can begin: one in five and more reads its ids again. */
static void check_evictions(const char *backend)
{
    const struct engine_options roomy = mix_options(backend);
    const struct mix_way ways[] = {{.shuffle = 5, .no_forecasts = true},
                                   {.no_forecasts = true, .apart = true}};

    mix_run_alone(&mix, &roomy, alone);
    for (int i = 0; i < 2; i++) {
        struct engine_options options = mix_options(backend);
        uint32_t evicted = 0;

        options.sequences_max = 24;
        options.rows_max = 128;
        options.kv_tokens = 2 * MIX_CONTEXT;
        engine_close(mix_run(&mix, &options, &ways[i]));
        mix_check_same(&mix, alone);
        for (uint32_t request = 0; request < REQUESTS; request++)
            evicted += mix.outcome[request].cost.recompute_ns > 0;
        assert_true(evicted * 5 >= REQUESTS);
    }
}

static void test_evicted_or_not_is_the_same(void **state)
{
    (void)state;
    mix_init(&mix, &growing, REQUESTS);
    mix_for_backends(check_evictions);
    mix_release(&mix);
}

/* The few that are stopped: the state that a checkpoint on disk would hold. */
struct saved {
    uint32_t tokens[RIG_TOKENS_MAX];
    float logprobs[RIG_TOKENS_MAX];
    uint32_t tokens_len;
    uint64_t cost_ns;
};

static struct saved saved[FEW];

static void submit_few(struct engine *engine, struct mix *few)
{
    for (uint32_t i = 0; i < FEW; i++) {
        struct engine_request request = few->request[i];

        if (few->outcome[i].seen)
            continue;
        request.resumed = saved[i].tokens;
        request.resumed_len = saved[i].tokens_len;
        request.resumed_logprobs = saved[i].logprobs;
        assert_int_equal(engine_submit(engine, &request), ERR_OK);
    }
}

/*
 * Flushes, walks, closes: what an engine leaves behind. Every nanosecond that it held is in an event,
 * in a row of the walk or in another account. Returns how many are not at their end.
 */
static uint32_t stop(struct engine *engine, struct mix *few)
{
    uint64_t live_ns = 0;
    struct engine_checkpoint live;
    struct engine_books books;
    uint32_t cursor = 0, len = 0;

    assert_int_equal(engine_flush(engine), ERR_OK);
    rig_check(engine);
    mix_poll(few, engine);
    for (; engine_checkpoint(engine, &cursor, &live); len++) {
        struct saved *to = &saved[live.tag];

        assert_false(few->outcome[live.tag].seen);
        assert_true(live.tokens_len >= to->tokens_len && live.tokens_len <= RIG_TOKENS_MAX);
        assert_int_equal(live.moved, live.tokens_len > to->tokens_len);
        to->tokens_len = live.tokens_len;
        memcpy(to->tokens, live.tokens, live.tokens_len * sizeof(uint32_t));
        if (live.logprobs != NULL)
            memcpy(to->logprobs, live.logprobs, live.tokens_len * sizeof(float));
        live_ns += live.cost_ns;
    }
    engine_books(engine, &books);
    assert_int_equal(books.live_ns, live_ns);
    assert_int_equal(books.held_ns, books.delivered_ns + live_ns + books.shared_ns +
                                        books.recompute_ns + books.overhead_ns + books.idle_ns);
    engine_close(engine);
    return len;
}

static void forget(struct mix *few)
{
    memset(few->outcome, 0, FEW * sizeof(*few->outcome));
    memset(saved, 0, sizeof(saved));
    few->seen = 0;
}

/* `steps` steps, or until nothing is left. */
static void turn_few(struct engine *engine, struct mix *few, uint32_t steps)
{
    struct engine_step_info info = {0};

    for (uint32_t i = 0; i < steps && !info.idle; i++) {
        assert_int_equal(engine_step(engine, &info), ERR_OK);
        mix_poll(few, engine);
    }
}

/* Stopped after k steps and gone on with in another engine, of another shape: for every k. */
static void stop_at_every_step(const struct engine_options *options, struct mix *few,
                               const struct outcome *expected)
{
    struct engine_options other = *options;
    uint32_t left = FEW;

    other.sequences_max = 5;
    other.rows_max = 40;
    for (uint32_t k = 0; left > 0; k += MIX_STEPS) {
        struct engine *engine;

        forget(few);
        engine = rig_open(options);
        submit_few(engine, few);
        turn_few(engine, few, k);
        left = stop(engine, few);
        engine = rig_open(&other);
        submit_few(engine, few);
        turn_few(engine, few, UINT32_MAX);
        assert_int_equal(stop(engine, few), 0);
        assert_int_equal(few->seen, FEW);
        mix_check_same(few, expected);
    }
}

/* Stopped every few steps, again and again: no engine sees anything to its end but the last bits. */
static void stop_all_the_time(const struct engine_options *options, struct mix *few,
                              const struct outcome *expected, uint32_t steps)
{
    uint32_t engines = 0, left = FEW;

    forget(few);
    for (; left > 0; engines++) {
        struct engine *engine = rig_open(options);

        assert_true(engines < 1000);
        submit_few(engine, few);
        turn_few(engine, few, steps);
        left = stop(engine, few);
    }
    assert_true(engines > 10);
    mix_check_same(few, expected);
}

static void check_restored(const char *backend)
{
    struct engine_options options = mix_options(backend);
    struct mix few;

    options.kv_tokens = MIX_CONTEXT * 2; /* some are evicted before they are stopped */
    mix_init(&few, &lasting, FEW);
    mix_run_alone(&few, &options, alone);
    stop_at_every_step(&options, &few, alone);
    stop_all_the_time(&options, &few, alone, 7);
    mix_release(&few);
}

static void test_stopped_and_restored_at_every_step_is_the_same(void **state)
{
    (void)state;
    mix_for_backends(check_restored);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_evicted_or_not_is_the_same),
        cmocka_unit_test(test_stopped_and_restored_at_every_step_is_the_same),
    };

    return cmocka_run_group_tests(tests, mix_make_model, mix_remove_model);
}
