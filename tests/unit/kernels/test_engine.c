/* test_engine.c: the life of requests in an engine on the simulated device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine_rig.h"
#include "heard.h"
#include "kernels/core/core.h"
#include "kernels/text/tokenizer.h"

static struct outcomes outcomes;

static int clear(void **state)
{
    (void)state;
    memset(&outcomes, 0, sizeof(outcomes));
    return 0;
}

/* rig_options() without end tokens. */
static struct engine_options endless(void)
{
    struct engine_options options = rig_options();

    options.sim.eos_per_million = 0;
    return options;
}

/* A plain request: 50 ids, 32 tokens. */
static struct engine_request plain(uint64_t tag)
{
    static uint32_t prompt[50];

    for (uint32_t i = 0; i < 50; i++)
        prompt[i] = i * 5;
    return (struct engine_request){
        .tag = tag,
        .prompt = prompt,
        .prompt_len = 50,
        .tokens_max = 32,
        .sampling = {.temperature = 1, .top_p = 1, .seed = 3},
    };
}

/* Runs one request in an engine of its own. */
static const struct outcome *run_one(const struct engine_request *request)
{
    const struct engine_options options = endless();
    struct engine *engine = rig_open(&options);

    clear(NULL);
    assert_int_equal(engine_submit(engine, request), ERR_OK);
    rig_run(engine, &outcomes);
    engine_close(engine);
    assert_true(outcomes.len == 1 && outcomes.of[request->tag].seen);
    return &outcomes.of[request->tag];
}

/* One request, from tokens in to tokens, text and cost out. */
static void test_a_request_gives_its_tokens_and_their_text(void **state)
{
    const struct engine_request request = plain(7);
    const struct outcome *outcome = run_one(&request);

    (void)state;
    assert_int_equal(outcome->finish, ENGINE_LENGTH);
    assert_int_equal(outcome->tokens_len, 32);
    assert_int_equal(outcome->cost.output_tokens, 32);
    assert_int_equal(outcome->cost.prompt_tokens, 50);
    assert_int_equal(outcome->cost.cached_tokens, 0);
    assert_int_equal(outcome->text_len, 32);
    for (size_t i = 0; i < outcome->text_len; i++)
        assert_int_equal((uint8_t)outcome->text[i], outcome->tokens[i]);
    assert_true(outcome->cost.ns > 0 && outcome->cost.recompute_ns == 0);
    assert_false(outcome->embedded);
}

static void test_an_embedding_comes_without_tokens(void **state)
{
    struct engine_request request = plain(7);
    const struct outcome *outcome;

    (void)state;
    request.kind = ENGINE_EMBED;
    request.tokens_max = 0;
    outcome = run_one(&request);
    assert_int_equal(outcome->finish, ENGINE_STOP);
    assert_int_equal(outcome->tokens_len + outcome->text_len, 0);
    assert_true(outcome->embedded);
    assert_true(outcome->cost.ns > 0);
}

/* The end token was generated, so it is there and counted, but not as text; with ignore_eos it is one
 * like any other. */
static void test_an_end_token_ends_unless_ignored(void **state)
{
    struct engine_options options = rig_options();
    struct engine_request request = plain(1);
    struct engine *engine;

    (void)state;
    options.sim.eos_per_million = 1000000;
    for (int ignore = 0; ignore < 2; ignore++) {
        clear(NULL);
        request.ignore_eos = ignore == 1;
        engine = rig_open(&options);
        assert_int_equal(engine_submit(engine, &request), ERR_OK);
        rig_run(engine, &outcomes);
        assert_int_equal(outcomes.of[1].finish, ignore ? ENGINE_LENGTH : ENGINE_STOP);
        assert_int_equal(outcomes.of[1].tokens_len, ignore ? 32 : 1);
        assert_int_equal(outcomes.of[1].tokens[0], 257);
        assert_int_equal(outcomes.of[1].cost.output_tokens, ignore ? 32 : 1);
        assert_int_equal(outcomes.of[1].text_len, 0); /* an end token has no bytes */
        engine_close(engine);
    }
}

/* A stop string of three bytes, taken from what comes anyway: the text ends before it, or after. */
static void test_a_stop_string_cuts_the_text(void **state)
{
    struct engine_request request = plain(1);
    const struct outcome whole = *run_one(&request);
    const struct slice stop = {whole.text + 10, 3};
    const char *first = memmem(whole.text, whole.text_len, stop.data, 3);
    const struct outcome *outcome;

    (void)state;
    request.stop = &stop;
    request.stop_len = 1;
    outcome = run_one(&request);
    assert_int_equal(outcome->finish, ENGINE_STOP);
    assert_int_equal(outcome->text_len, first - whole.text);
    assert_memory_equal(outcome->text, whole.text, outcome->text_len);
    assert_int_equal(outcome->tokens_len, outcome->text_len + 3); /* generated, so paid for */
    request.include_stop = true;
    outcome = run_one(&request);
    assert_int_equal(outcome->text_len, first - whole.text + 3);
}

/* Prompt and answer may fill the context to its last position, and no further. */
static void test_the_context_can_be_filled(void **state)
{
    const struct engine_options options = rig_options();
    struct engine_request request = plain(1);
    static uint32_t prompt[512];

    (void)state;
    request.prompt = prompt;
    request.prompt_len = options.context_max - 5;
    request.tokens_max = 5;
    assert_int_equal(run_one(&request)->tokens_len, 5);
    request.prompt_len = options.context_max - 1;
    request.tokens_max = 1;
    assert_int_equal(run_one(&request)->tokens_len, 1);
    request.kind = ENGINE_EMBED;
    request.prompt_len = options.context_max;
    assert_true(run_one(&request)->embedded);
}

static void refuse(struct engine *engine, const struct engine_request *request)
{
    assert_int_equal(engine_submit(engine, request), ERR_LIMIT);
    rig_check_empty(engine);
}

/* What can never run is refused in so many words, and leaves nothing behind. */
static void test_requests_that_cannot_run_are_refused(void **state)
{
    const struct engine_options options = rig_options();
    struct engine *engine = rig_open(&options);
    const struct engine_request good = plain(1);
    struct slice stop[17];
    uint32_t ids[600] = {0};
    struct engine_request bad;

    (void)state;
    for (int i = 0; i < 17; i++)
        stop[i] = SLICE("x");
    bad = good, bad.prompt_len = 0;
    refuse(engine, &bad);
    bad = good, bad.tokens_max = 0;
    refuse(engine, &bad);
    bad = good, bad.tokens_max = UINT32_MAX;
    refuse(engine, &bad);
    bad = good, bad.tokens_max = options.context_max - 49;
    refuse(engine, &bad);
    bad = good, bad.prompt = ids, bad.prompt_len = 600;
    refuse(engine, &bad);
    bad.kind = ENGINE_EMBED;
    refuse(engine, &bad);
    bad = good, bad.resumed = ids, bad.resumed_len = 1, bad.logprobs = true;
    refuse(engine, &bad); /* their log-probabilities are missing */
    bad = good, bad.resumed = ids, bad.resumed_len = 33;
    refuse(engine, &bad);
    bad = good, bad.stop = stop, bad.stop_len = 17;
    refuse(engine, &bad);
    bad = good, bad.stop = stop, bad.stop_len = 2, stop[1].len = 0;
    refuse(engine, &bad);
    stop[1].len = 257;
    refuse(engine, &bad);
    ids[3] = 258;
    bad = good, bad.prompt = ids;
    refuse(engine, &bad);
    bad = good, bad.resumed = ids, bad.resumed_len = 4;
    refuse(engine, &bad);
    assert_int_equal(engine_submit(engine, &good), ERR_OK);
    engine_close(engine);
}

/* A full engine says "not now", and takes more when steps have made room. */
static void test_a_full_engine_says_not_now(void **state)
{
    struct engine_options options = endless();
    struct engine *engine;
    uint32_t taken = 0;

    (void)state;
    options.waiting_max = 3;
    options.sequences_max = 2;
    engine = rig_open(&options);
    for (uint32_t number = 0; number < 40;) {
        struct engine_request request = plain(number);
        const enum err rc = engine_submit(engine, &request);

        if (rc == ERR_OK) {
            number++;
            continue;
        }
        assert_int_equal(rc, ERR_AGAIN);
        taken = number > taken ? number : taken;
        rig_turn(engine, &outcomes);
    }
    rig_run(engine, &outcomes);
    assert_int_equal(outcomes.len, 40);
    engine_close(engine);
}

/* What a poll gave lasts until the next step, however many are polled, submitted, cancelled. */
static void test_an_event_lasts_until_the_next_step(void **state)
{
    const struct engine_options options = rig_options();
    struct engine *engine = rig_open(&options);
    const struct outcome alone =
        *(rig_submit(engine, 1), rig_run(engine, &outcomes), &outcomes.of[1]);
    struct engine_event first, event;
    struct engine_step_info info;

    (void)state;
    clear(NULL);
    for (uint32_t number = 1; number < 9; number++)
        rig_submit(engine, number);
    do
        assert_int_equal(engine_step(engine, &info), ERR_OK);
    while (!info.idle);
    while (engine_poll(engine, &event))
        if (event.tag == 1)
            first = event;
    for (uint32_t number = 10; number < 30; number++) {
        rig_submit(engine, number);
        engine_cancel(engine, number);
    }
    assert_int_equal(first.tokens_len, alone.tokens_len);
    assert_memory_equal(first.tokens, alone.tokens, alone.tokens_len * sizeof(uint32_t));
    assert_memory_equal(first.text.data, alone.text, alone.text_len);
    rig_run(engine, &outcomes);
    engine_close(engine);
}

/* Cancelled while waiting, running and in flight: one event each, and what they had is kept. */
static void test_a_cancelled_request_ends_with_what_it_has(void **state)
{
    struct engine_options options = endless();
    struct engine_request request;
    struct engine *engine;

    (void)state;
    options.sequences_max = 2;
    engine = rig_open(&options);
    for (uint32_t tag = 1; tag <= 4; tag++) {
        request = plain(tag);
        assert_int_equal(engine_submit(engine, &request), ERR_OK);
    }
    for (int i = 0; i < 10; i++)
        rig_turn(engine, &outcomes);
    assert_int_equal(outcomes.len, 0);
    engine_cancel(engine, 4); /* waits */
    engine_cancel(engine, 1); /* in flight */
    engine_cancel(engine, 1); /* twice is once */
    engine_cancel(engine, 99);
    rig_check(engine);
    assert_int_equal(engine_flush(engine), ERR_OK);
    engine_cancel(engine, 2); /* runs, nothing in flight */
    rig_poll(engine, &outcomes);
    assert_int_equal(outcomes.len, 3);
    assert_int_equal(outcomes.of[1].finish, ENGINE_CANCELLED);
    assert_true(outcomes.of[1].tokens_len > 2 && outcomes.of[1].tokens_len < 32);
    assert_int_equal(outcomes.of[2].finish, ENGINE_CANCELLED);
    assert_true(outcomes.of[2].tokens_len > 2 && outcomes.of[2].tokens_len < 32);
    assert_int_equal(outcomes.of[1].text_len, outcomes.of[1].tokens_len);
    assert_int_equal(outcomes.of[4].cost.ns + outcomes.of[4].tokens_len, 0);
    rig_run(engine, &outcomes);
    assert_int_equal(outcomes.of[3].finish, ENGINE_LENGTH);
    assert_memory_equal(outcomes.of[3].tokens, outcomes.of[1].tokens,
                        outcomes.of[1].tokens_len * sizeof(uint32_t));
    engine_close(engine);
}

/* The walk names every live request once, and says which have moved since the walk before. */
static void test_a_checkpoint_walk_says_what_moved(void **state)
{
    struct engine_options options = endless();
    struct engine_checkpoint checkpoint;
    struct engine *engine;
    uint32_t cursor = 0, seen = 0;

    (void)state;
    options.sequences_max = 2;
    engine = rig_open(&options);
    for (uint32_t tag = 1; tag <= 3; tag++) {
        struct engine_request request = plain(tag);

        assert_int_equal(engine_submit(engine, &request), ERR_OK);
    }
    for (int i = 0; i < 10; i++)
        rig_turn(engine, &outcomes);
    assert_int_equal(engine_flush(engine), ERR_OK);
    for (; engine_checkpoint(engine, &cursor, &checkpoint); seen++) {
        assert_int_equal(checkpoint.moved, checkpoint.tag < 3);
        assert_int_equal(checkpoint.cost_ns > 0, checkpoint.tag < 3);
        assert_int_equal(checkpoint.tokens_len > 0, checkpoint.tag < 3);
    }
    assert_int_equal(seen, 3);
    cursor = 0;
    while (engine_checkpoint(engine, &cursor, &checkpoint))
        assert_false(checkpoint.moved);
    rig_run(engine, &outcomes);
    cursor = 0;
    assert_false(engine_checkpoint(engine, &cursor, &checkpoint));
    engine_close(engine);
}

/* A checkpoint that already holds the whole answer ends without a step and costs nothing. */
static void test_a_resumed_request_that_was_done_is_done(void **state)
{
    struct engine_request request = plain(1);
    const struct outcome whole = *run_one(&request);
    const struct outcome *outcome;

    (void)state;
    request.resumed = whole.tokens;
    request.resumed_len = whole.tokens_len;
    request.resumed_logprobs = whole.logprobs;
    outcome = run_one(&request);
    rig_check_same(outcome, &whole);
    assert_int_equal(outcome->cost.ns + outcome->cost.recompute_ns, 0);
}

/* The same prompt in one batch: seeds and choices tell answers apart, unless they are greedy. */
static void test_seeds_and_choices_give_their_own_answers(void **state)
{
    const struct engine_options options = endless();
    struct engine *engine = rig_open(&options);

    (void)state;
    for (uint32_t tag = 0; tag < 8; tag++) {
        struct engine_request request = plain(tag);

        request.sampling.temperature = tag < 4 ? 1 : 0;
        request.sampling.seed = tag / 2 % 2;
        request.sampling.choice = tag % 2;
        assert_int_equal(engine_submit(engine, &request), ERR_OK);
    }
    rig_run(engine, &outcomes);
    for (uint32_t a = 0; a < 8; a++)
        for (uint32_t b = a + 1; b < 8; b++) {
            const bool same = memcmp(outcomes.of[a].tokens, outcomes.of[b].tokens,
                                     sizeof(outcomes.of[a].tokens)) == 0;

            assert_int_equal(same, a >= 4);
        }
    engine_close(engine);
}

/* An engine that has seen a thousand requests is as large as one that has seen ten. */
static void test_memory_is_used_again(void **state)
{
    const struct engine_options options = endless();
    struct engine *engine = rig_open(&options);

    (void)state;
    for (uint32_t i = 0; i < 1000; i++) {
        const struct engine_request request = plain(i % RIG_TAGS_MAX);

        outcomes.of[request.tag].seen = false;
        assert_int_equal(engine_submit(engine, &request), ERR_OK);
        while (!outcomes.of[request.tag].seen)
            rig_turn(engine, &outcomes);
    }
    assert_true(engine->pool.len <= 64);
    engine_close(engine);
}

/* What an engine says of itself: same options, same ids; another end rate is another model. */
static void test_the_numerics_id_names_what_decides_tokens(void **state)
{
    struct engine_options options = rig_options();
    struct engine *a = rig_open(&options), *b, *c;

    (void)state;
    options.sim.pace = 0.001;
    options.sim.row_ns = 1;
    options.sequences_max = 3;
    b = rig_open(&options);
    options.sim.eos_per_million++;
    c = rig_open(&options);
    assert_memory_equal(engine_model(a)->numerics, engine_model(b)->numerics, 32);
    assert_memory_equal(engine_model(a)->digest, engine_model(b)->digest, 32);
    assert_memory_not_equal(engine_model(a)->numerics, engine_model(c)->numerics, 32);
    assert_memory_not_equal(engine_model(a)->digest, engine_model(c)->digest, 32);
    assert_string_equal(engine_model(a)->numerics_text, "sim/hash/1");
    assert_int_equal(engine_model(a)->vocab, tokenizer_vocab(engine_tokenizer(a)));
    assert_int_equal(engine_model(a)->context_max, 512);
    engine_close(a);
    engine_close(b);
    engine_close(c);
}

/* Opens with one thing changed, and returns what was said. */
static const char *refused(struct engine_options options)
{
    struct engine *engine = NULL;
    struct engine_plan plan;
    const char *said;

    heard_start();
    assert_int_equal(engine_open(&options, &engine), ERR_SETTINGS);
    assert_null(engine);
    assert_int_equal(engine_plan(&options, &plan), ERR_SETTINGS);
    said = heard();
    heard_stop();
    return said;
}

static void test_options_out_of_range_are_refused_with_a_sentence(void **state)
{
    const struct engine_options good = rig_options();
    struct engine_options bad;

    (void)state;
    bad = good, bad.backend = "gpu";
    assert_non_null(strstr(refused(bad), "no backend"));
    bad = good, bad.backend = NULL;
    assert_non_null(strstr(refused(bad), "sim"));
    bad = good, bad.sequences_max = 0;
    assert_non_null(strstr(refused(bad), "sequences_max is 0"));
    bad = good, bad.sequences_max = 4097, bad.rows_max = 5000;
    assert_non_null(strstr(refused(bad), "sequences_max is 4097"));
    bad = good, bad.rows_max = 7;
    assert_non_null(strstr(refused(bad), "rows_max is 7"));
    bad = good, bad.rows_max = 65537;
    assert_non_null(strstr(refused(bad), "rows_max"));
    bad = good, bad.waiting_max = 0;
    assert_non_null(strstr(refused(bad), "waiting_max"));
    bad = good, bad.context_max = UINT32_MAX;
    assert_non_null(strstr(refused(bad), "context_max"));
    bad = good, bad.kv_tokens = 511;
    assert_non_null(strstr(refused(bad), "raise kv_tokens"));
    bad = good, bad.kv_tokens = UINT64_MAX;
    assert_non_null(strstr(refused(bad), "kv_tokens"));
}

/* The plan is what opening takes: the pool as asked, or enough for all. */
static void test_a_plan_says_what_opening_takes(void **state)
{
    struct engine_options options = rig_options();
    struct engine_plan plan;

    (void)state;
    assert_int_equal(engine_plan(&options, &plan), ERR_OK);
    assert_int_equal(plan.context_max, 512);
    assert_int_equal(plan.kv_tokens, 8 * 512);
    assert_int_equal(plan.kv_bytes, 8 * 512 * sizeof(uint64_t));
    assert_int_equal(plan.weight_bytes, 0);
    assert_true(plan.activation_bytes > 0);
    options.kv_tokens = 1000;
    assert_int_equal(engine_plan(&options, &plan), ERR_OK);
    assert_int_equal(plan.kv_tokens, 992);
    options.kv_tokens = 1000;
    options.context_max = 0; /* the model's own, as far as the pool holds it */
    assert_int_equal(engine_plan(&options, &plan), ERR_OK);
    assert_int_equal(plan.context_max, 992);
}

/* A step's time is told with what it went into, so that a benchmark needs no clock of its own. */
static void test_a_step_says_what_its_time_went_into(void **state)
{
    struct engine_options options = rig_options();
    const struct sim_options *sim = &options.sim;
    struct engine *engine = rig_open(&options);
    const uint32_t prompt[] = {1, 2, 3};
    const struct engine_request request = {
        .prompt = prompt, .prompt_len = 3, .tokens_max = 1, .sampling = {.top_p = 1}};
    struct engine_step_info info;

    (void)state;
    assert_int_equal(engine_submit(engine, &request), ERR_OK);
    do {
        assert_int_equal(engine_step(engine, &info), ERR_OK);
    } while (info.rows == 0);
    assert_int_equal(info.rows, 3);
    assert_int_equal(info.sequences, 1);
    assert_int_equal(info.wanted, 1);
    assert_int_equal(info.kv, 1 + 2 + 3);
    assert_int_equal(info.fixed_ns, sim->fixed_ns);
    assert_int_equal(info.linear_ns, 3 * sim->row_ns);
    assert_int_equal(info.attention_ns, (1 + 2 + 3) * sim->kv_ns / 1024);
    assert_int_equal(info.head_ns, sim->head_ns);
    assert_int_equal(info.end_ns - info.begin_ns,
                     info.fixed_ns + info.linear_ns + info.attention_ns + info.head_ns);
    assert_int_equal(info.end_ns, engine_clock_ns(engine));
    assert_int_equal(engine_step(engine, &info), ERR_OK);
    assert_true(info.idle);
    assert_int_equal(info.end_ns, 0);
    engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_request_gives_its_tokens_and_their_text, clear),
        cmocka_unit_test_setup(test_an_embedding_comes_without_tokens, clear),
        cmocka_unit_test_setup(test_an_end_token_ends_unless_ignored, clear),
        cmocka_unit_test_setup(test_a_stop_string_cuts_the_text, clear),
        cmocka_unit_test_setup(test_the_context_can_be_filled, clear),
        cmocka_unit_test_setup(test_requests_that_cannot_run_are_refused, clear),
        cmocka_unit_test_setup(test_a_full_engine_says_not_now, clear),
        cmocka_unit_test_setup(test_an_event_lasts_until_the_next_step, clear),
        cmocka_unit_test_setup(test_a_cancelled_request_ends_with_what_it_has, clear),
        cmocka_unit_test_setup(test_a_checkpoint_walk_says_what_moved, clear),
        cmocka_unit_test_setup(test_a_resumed_request_that_was_done_is_done, clear),
        cmocka_unit_test_setup(test_seeds_and_choices_give_their_own_answers, clear),
        cmocka_unit_test_setup(test_memory_is_used_again, clear),
        cmocka_unit_test_setup(test_the_numerics_id_names_what_decides_tokens, clear),
        cmocka_unit_test_setup(test_options_out_of_range_are_refused_with_a_sentence, clear),
        cmocka_unit_test_setup(test_a_plan_says_what_opening_takes, clear),
        cmocka_unit_test_setup(test_a_step_says_what_its_time_went_into, clear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
