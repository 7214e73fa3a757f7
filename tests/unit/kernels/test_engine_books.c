/*
 * test_engine_books.c: every account of the books, predicted to the nanosecond by a calculator that
 * knows sim's clock (cost_oracle.h) or by hand, and what costs are for: who works more pays more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cost_oracle.h"
#include "engine_rig.h"

enum { REQUESTS = 24, RANDOM_SCENARIOS = 150 };

static struct outcomes outcomes;

/* A scenario: requests 0 .. len - 1 of the rig without stop strings, changed by a function. */
struct scenario {
    uint32_t sequences_max;
    uint32_t len;
    uint32_t resumed_percent; /* of what a request answers */
    uint32_t cancel_every;    /* every so many is cancelled */
    uint32_t eos_per_million;
    uint32_t chunk_kv; /* times as dear as for decodes is a KV token for chunks; 0: as dear */
};

static struct engine_options options_of(const struct scenario *scenario)
{
    struct engine_options options = rig_options();

    options.sequences_max = scenario->sequences_max;
    options.rows_max = 4096;
    options.sim.eos_per_million = scenario->eos_per_million;
    options.sim.chunk_kv_ns = scenario->chunk_kv * options.sim.kv_ns;
    return options;
}

/* Runs the scenario, or one request of it alone (`only`), whole and undisturbed. */
static struct engine *run(const struct scenario *scenario, const struct outcome *answers,
                          const uint32_t *resumed_len)
{
    const struct engine_options options = options_of(scenario);
    struct engine *engine = rig_open(&options);
    uint32_t prompt[RIG_PROMPT_MAX];
    uint32_t call = 0;

    memset(&outcomes, 0, sizeof(outcomes));
    for (uint32_t number = 0; number < scenario->len; number++) {
        struct engine_request request = rig_request(number, prompt);

        request.stop_len = 0;
        if (answers != NULL) {
            request.resumed = answers[number].tokens;
            request.resumed_len = resumed_len[number];
            request.resumed_logprobs = answers[number].logprobs;
        }
        assert_int_equal(engine_submit(engine, &request), ERR_OK);
    }
    while (rig_turn(engine, &outcomes)) {
        call++;
        for (uint32_t number = 0; number < scenario->len && answers != NULL; number++)
            if (scenario->cancel_every > 0 && number % scenario->cancel_every == 1 &&
                call == number + 1)
                engine_cancel(engine, number);
        rig_poll(engine, &outcomes);
    }
    rig_check_empty(engine);
    return engine;
}

static void ask_oracle(const struct scenario *scenario, const struct outcome *answers,
                       const uint32_t *resumed_len, struct oracle *oracle)
{
    const struct engine_options options = options_of(scenario);
    uint32_t prompt[RIG_PROMPT_MAX];

    *oracle = (struct oracle){.load_ns = options.sim.load_ns,
                              .fixed_ns = options.sim.fixed_ns,
                              .row_ns = options.sim.row_ns,
                              .head_ns = options.sim.head_ns,
                              .chunk_kv = scenario->chunk_kv > 0 ? scenario->chunk_kv : 1,
                              .places = scenario->sequences_max,
                              .patience = 4 * scenario->sequences_max,
                              .len = scenario->len};
    for (uint32_t number = 0; number < scenario->len; number++) {
        const struct engine_request request = rig_request(number, prompt);
        const bool embed = request.kind == ENGINE_EMBED;
        struct oracle_request *it = &oracle->request[number];

        it->embeds = embed;
        it->group = embed ? 0 : (uint32_t)request.group;
        it->common = rig_common((uint32_t)request.group);
        it->prompt = request.prompt_len;
        it->rows = embed ? request.prompt_len : request.prompt_len + request.tokens_max - 1;
        it->resumed = resumed_len[number];
        it->samples = answers[number].tokens_len - resumed_len[number] + embed;
        if (scenario->cancel_every > 0 && number % scenario->cancel_every == 1)
            it->cancel_call = number + 1;
    }
    oracle_run(oracle);
}

static void compare(struct engine *engine, const struct oracle *oracle)
{
    uint64_t group_ns[ORACLE_GROUPS] = {0}, again_ns[ORACLE_GROUPS] = {0};
    struct engine_group_books told;
    struct engine_books books;

    engine_books(engine, &books);
    while (engine_group_books(engine, &told)) {
        assert_true(told.group > 0 && told.group < ORACLE_GROUPS);
        assert_int_equal(group_ns[told.group] + again_ns[told.group], 0); /* told once */
        group_ns[told.group] = told.shared_ns;
        again_ns[told.group] = told.recompute_ns;
    }
    assert_memory_equal(group_ns, oracle->group_ns, sizeof(group_ns));
    for (uint32_t number = 0; number < oracle->len; number++)
        again_ns[number % ORACLE_GROUPS] -= number % ORACLE_GROUPS == 0 /* no group */
                                                ? 0
                                                : oracle->request[number].recompute_ns;
    for (uint32_t group = 0; group < ORACLE_GROUPS; group++)
        assert_int_equal(again_ns[group], 0);
    assert_int_equal(books.shared_ns, oracle->shared_ns);
    assert_int_equal(books.held_ns, oracle->held_ns);
    assert_int_equal(books.delivered_ns, oracle->delivered_ns);
    assert_int_equal(books.recompute_ns, oracle->recompute_ns);
    assert_int_equal(books.overhead_ns, oracle->overhead_ns);
    assert_int_equal(books.live_ns + books.idle_ns, 0);
    for (uint32_t number = 0; number < oracle->len; number++) {
        assert_int_equal(outcomes.of[number].cost.ns, oracle->request[number].ns);
        assert_int_equal(outcomes.of[number].cost.cached_tokens, oracle->request[number].cached);
        assert_int_equal(outcomes.of[number].cost.recompute_ns,
                         oracle->request[number].recompute_ns);
    }
}

/* What the scenarios have been about, so far. */
struct coverage {
    uint32_t dropped, recomputed, cancelled, shared, cached;
};

static void predict(const struct scenario *scenario, struct coverage *coverage)
{
    static struct outcome answers[REQUESTS];
    static struct oracle oracle;
    uint32_t resumed_len[REQUESTS];
    struct engine *engine;

    engine_close(run(scenario, NULL, NULL));
    memcpy(answers, outcomes.of, sizeof(answers));
    for (uint32_t number = 0; number < REQUESTS; number++)
        resumed_len[number] =
            number % 2 == 0 && answers[number].tokens_len > 1
                ? (answers[number].tokens_len - 1) * scenario->resumed_percent / 100
                : 0;
    ask_oracle(scenario, answers, resumed_len, &oracle);
    engine = run(scenario, answers, resumed_len);
    compare(engine, &oracle);
    engine_close(engine);
    coverage->dropped += oracle.overhead_ns > oracle.load_ns;
    coverage->recomputed += oracle.recompute_ns > 0;
    coverage->shared += oracle.shared_ns > 0;
    for (uint32_t number = 0; number < scenario->len; number++) {
        coverage->cancelled += outcomes.of[number].finish == ENGINE_CANCELLED;
        coverage->cached += oracle.request[number].cached;
    }
}

/* Plain runs, end tokens with rows too many, queues for slots, resumes, cancels, all together; and in
 * all of them groups with common beginnings. First some that were chosen, then any. */
static void test_the_calculator_predicts_every_account(void **state)
{
    static const struct scenario scenarios[] = {
        {1, 1, 0, 0, 0, 0},        {8, 8, 0, 0, 0, 0},       {8, 8, 0, 0, 30000, 0},
        {3, 24, 0, 0, 30000, 0},   {8, 24, 0, 0, 30000, 0},  {8, 24, 50, 0, 30000, 0},
        {5, 24, 0, 4, 30000, 0},   {8, 24, 30, 3, 30000, 0}, {7, 24, 80, 2, 0, 0},
        {1, 24, 20, 5, 100000, 0}, {8, 24, 50, 0, 30000, 7}};
    struct coverage coverage = {0};
    uint64_t random = 9;

    (void)state;
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++)
        predict(&scenarios[i], &coverage);
    for (uint32_t i = 0; i < RANDOM_SCENARIOS; i++) {
        const struct scenario scenario = {
            .sequences_max = 1 + rig_below(&random, 8),
            .len = 1 + rig_below(&random, REQUESTS),
            .resumed_percent = rig_below(&random, 2) * rig_below(&random, 100),
            .cancel_every = rig_below(&random, 2) * (2 + rig_below(&random, 5)),
            .eos_per_million = rig_below(&random, 100000),
            .chunk_kv = rig_below(&random, 4),
        };

        predict(&scenario, &coverage);
    }
    assert_true(coverage.dropped > RANDOM_SCENARIOS / 2); /* or it was asked too little */
    assert_true(coverage.recomputed > RANDOM_SCENARIOS / 4);
    assert_true(coverage.cancelled > RANDOM_SCENARIOS);
    assert_true(coverage.shared > RANDOM_SCENARIOS / 4);
    assert_true(coverage.cached > 20 * RANDOM_SCENARIOS);
}

/*
 * Two requests of 20 ids and 40 tokens and three blocks: at position 32 the older takes the third,
 * the younger is evicted, waits for the older's end, and reads its 32 rows again. By hand.
 */
static void test_an_eviction_costs_what_it_reads_again(void **state)
{
    struct engine_options options = rig_options();
    const uint64_t fixed = options.sim.fixed_ns, row = options.sim.row_ns;
    const uint64_t head = options.sim.head_ns;
    uint64_t first = 0, second = 0;
    struct engine_books books;
    struct engine *engine;
    uint32_t prompt[20] = {0};

    (void)state;
    options.sim.eos_per_million = 0;
    options.rows_max = 64;
    options.context_max = 64;
    options.kv_tokens = 96;
    engine = rig_open(&options);
    memset(&outcomes, 0, sizeof(outcomes));
    for (uint32_t tag = 0; tag < 2; tag++) {
        const struct engine_request request = {
            .tag = tag, .prompt = prompt, .prompt_len = 20, .tokens_max = 40};

        assert_int_equal(engine_submit(engine, &request), ERR_OK);
    }
    rig_run(engine, &outcomes);

    first = second = fixed / 2 + 20 * row + 210 + head; /* both read */
    for (uint64_t ctx = 20; ctx < 32; ctx++) {          /* both decode to the block's end */
        first += fixed / 2 + row + ctx + 1 + head;
        second += fixed / 2 + row + ctx + 1 + head;
    }
    for (uint64_t ctx = 32; ctx < 59; ctx++) { /* each alone */
        first += fixed + row + ctx + 1 + head;
        second += fixed + row + ctx + 1 + head;
    }
    engine_books(engine, &books);
    assert_int_equal(outcomes.of[0].cost.ns, first);
    assert_int_equal(outcomes.of[0].cost.recompute_ns, 0);
    assert_int_equal(outcomes.of[1].cost.ns, second);
    assert_int_equal(outcomes.of[1].cost.recompute_ns, fixed + 32 * row + 32 * 33 / 2);
    assert_int_equal(books.recompute_ns, outcomes.of[1].cost.recompute_ns);
    assert_int_equal(books.delivered_ns, first + second);
    assert_int_equal(books.overhead_ns, options.sim.load_ns);
    engine_close(engine);
}

/* 2 x 8 requests on figures of an 8B model on a large GPU: ten times the tokens, how much more? */
static void compare_sizes(uint32_t prompt_len, uint32_t tokens_max)
{
    static uint32_t prompt[1000];
    struct engine_options options = rig_options();
    struct engine *engine;
    uint64_t small = 0, large = 0;

    options.sequences_max = 16;
    options.rows_max = 8192;
    options.context_max = 2048;
    options.sim =
        (struct sim_options){.fixed_ns = 400000, .row_ns = 18000, .kv_ns = 31200, .head_ns = 3000};
    engine = rig_open(&options);
    for (uint32_t tag = 0; tag < 16; tag++) {
        const uint32_t times = tag % 2 == 0 ? 1 : 10;
        const struct engine_request request = {
            .tag = tag,
            .kind = tokens_max == 0 ? ENGINE_EMBED : ENGINE_GENERATE,
            .prompt = prompt,
            .prompt_len = prompt_len * times,
            .tokens_max = tokens_max * times,
        };

        assert_int_equal(engine_submit(engine, &request), ERR_OK);
    }
    for (struct engine_step_info info = {0}; !info.idle;) {
        struct engine_event event;

        assert_int_equal(engine_step(engine, &info), ERR_OK);
        while (engine_poll(engine, &event))
            *(event.tag % 2 == 0 ? &small : &large) += event.cost.ns;
    }
    assert_true(large >= 5 * small);
    engine_close(engine);
}

static void test_ten_times_the_tokens_cost_at_least_five_times(void **state)
{
    (void)state;
    compare_sizes(30, 50);
    compare_sizes(100, 1);
    compare_sizes(1, 100);
    compare_sizes(100, 0);
    compare_sizes(20, 0);
}

/* A nanosecond that is booked stays booked: no account ever runs backwards but the live one. */
static void test_accounts_only_grow(void **state)
{
    const struct engine_options options = rig_options();
    struct engine *engine = rig_open(&options);
    struct engine_books before, after;
    bool busy = true;

    (void)state;
    memset(&outcomes, 0, sizeof(outcomes));
    for (uint32_t number = 0; number < 30; number++)
        rig_submit(engine, number);
    engine_books(engine, &before);
    assert_int_equal(before.held_ns, options.sim.load_ns);
    assert_int_equal(before.overhead_ns, options.sim.load_ns);
    while (busy) {
        busy = rig_turn(engine, &outcomes);
        engine_books(engine, &after);
        assert_true(after.held_ns >= before.held_ns);
        assert_true(after.delivered_ns >= before.delivered_ns);
        assert_true(after.recompute_ns >= before.recompute_ns);
        assert_true(after.overhead_ns >= before.overhead_ns);
        before = after;
    }
    engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_calculator_predicts_every_account),
        cmocka_unit_test(test_an_eviction_costs_what_it_reads_again),
        cmocka_unit_test(test_ten_times_the_tokens_cost_at_least_five_times),
        cmocka_unit_test(test_accounts_only_grow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
