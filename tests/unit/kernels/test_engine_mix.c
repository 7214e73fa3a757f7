/*
 * test_engine_mix.c: hundreds of requests of all kinds on real arithmetic and a small random model,
 * on every backend of this build that computes. Whoever shares the step, however prompts are cut,
 * with beginnings found or computed, in any order, with any number of threads: each output is to the
 * last bit that of the request alone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mix.h"

enum { REQUESTS = MIX_REQUESTS };

static const struct mix_way in_order = {0};
static const struct mix_kind all_kinds = {.seed = 77, .tokens_max = 40};

static struct mix mix;
static struct outcome alone[REQUESTS];

/* The requests are of all kinds, or the tests here say little. */
static void check_kinds(void)
{
    uint32_t ends[4] = {0}, embedded = 0, scored = 0, tokens = 0, same = 0;

    for (uint32_t i = 0; i < REQUESTS; i++) {
        ends[alone[i].finish]++;
        embedded += alone[i].embedded;
        scored += alone[i].scored && alone[i].tokens_len > 0;
        tokens += alone[i].tokens_len;
        same += i > 0 && alone[i].tokens_len > 4 && alone[i - 1].tokens_len > 4 &&
                memcmp(alone[i].tokens, alone[i - 1].tokens, 4 * sizeof(uint32_t)) == 0;
    }
    assert_true(ends[ENGINE_STOP] > REQUESTS / 10 && ends[ENGINE_LENGTH] > REQUESTS / 10 &&
                embedded > REQUESTS / 15);
    assert_true(scored > REQUESTS / 5 && tokens > 5 * REQUESTS && same < REQUESTS / 10);
    assert_int_equal(ends[ENGINE_NUMERIC], 0);
}

/* Runs all of them; returns what was in `shared`. */
static uint64_t run_and_compare(const struct engine_options *options, const struct mix_way *way)
{
    struct engine *engine = mix_run(&mix, options, way);
    struct engine_books books;

    mix_check_same(&mix, alone);
    engine_books(engine, &books);
    engine_close(engine);
    return books.shared_ns;
}

static void check_company(const char *backend)
{
    struct engine_options options = mix_options(backend);
    const struct mix_way apart = {.shuffle = 3, .apart = true};
    uint64_t cached = 0;

    assert_true(run_and_compare(&options, &in_order) > 0);
    for (uint32_t i = 0; i < REQUESTS; i++)
        cached += mix.outcome[i].cost.cached_tokens;
    assert_true(cached > 5 * REQUESTS); /* beginnings were found */
    assert_int_equal(run_and_compare(&options, &apart), 0);
}

/* Another order, other chunks, other numbers of threads. */
static void check_shapes(const char *backend)
{
    static const struct {
        uint32_t sequences, rows, threads;
    } shapes[] = {{3, 5, 2}, {30, 200, 3}, {64, 512, 1}};

    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        const struct mix_way way = {.shuffle = 10 + i};
        struct engine_options options = mix_options(backend);

        options.sequences_max = shapes[i].sequences;
        options.rows_max = shapes[i].rows;
        options.threads = shapes[i].threads;
        run_and_compare(&options, &way);
    }
}

static void check_mix(const char *backend)
{
    const struct engine_options options = mix_options(backend);

    mix_run_alone(&mix, &options, alone);
    check_kinds();
    check_company(backend);
    check_shapes(backend);
}

static void test_each_output_is_that_of_the_request_alone(void **state)
{
    (void)state;
    mix_init(&mix, &all_kinds, REQUESTS);
    mix_for_backends(check_mix);
    mix_release(&mix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_output_is_that_of_the_request_alone),
    };

    return cmocka_run_group_tests(tests, mix_make_model, mix_remove_model);
}
