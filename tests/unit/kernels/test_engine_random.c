/*
 * test_engine_random.c: thousands of random schedules. Submit, resume, cancel, step, flush, walk
 * and poll in any order on engines of any shape; between any two calls the books add up and nothing
 * is lost, and each answer is the one that the request gives alone, or the beginning of it.
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

enum { KINDS = 40, TAGS = 4000 };

/* In this schedule one is evicted with rows in two steps, while there is room for a younger one. */
enum { RARE = 14289 };

static struct outcome alone[KINDS];

/* One schedule. */
struct schedule {
    struct engine *engine;
    uint64_t random;
    uint32_t submitted; /* tags 0 .. submitted - 1 */
    uint32_t ended;
    uint32_t kind[TAGS];
    bool done[TAGS];
    uint64_t sum_ns; /* of delivered costs */
    uint64_t sum_recompute_ns;
};

static int run_alone(void **state)
{
    const struct engine_options options = rig_options();

    (void)state;
    for (uint32_t number = 0; number < KINDS; number++)
        rig_alone(&options, number, &alone[number]);
    return 0;
}

/* A request, one in three with the beginning of its answer; one in nine of those with all of it. */
static void submit(struct schedule *schedule)
{
    uint32_t prompt[RIG_PROMPT_MAX];
    const uint32_t kind = rig_below(&schedule->random, KINDS);
    struct engine_request request = rig_request(kind, prompt);
    enum err rc;

    if (schedule->submitted == TAGS)
        return;
    request.tag = schedule->submitted;
    if (rig_below(&schedule->random, 3) == 0) {
        request.resumed = alone[kind].tokens;
        request.resumed_logprobs = alone[kind].logprobs;
        request.resumed_len = rig_below(&schedule->random, 9) == 0
                                  ? alone[kind].tokens_len
                                  : rig_below(&schedule->random, alone[kind].tokens_len + 1);
    }
    rc = engine_submit(schedule->engine, &request);
    assert_true(rc == ERR_OK || rc == ERR_AGAIN);
    if (rc == ERR_OK)
        schedule->kind[schedule->submitted++] = kind;
}

static void check_event(struct schedule *schedule, const struct engine_event *event)
{
    static struct outcome outcome;
    const struct outcome *whole;

    assert_true(event->tag < schedule->submitted && !schedule->done[event->tag]);
    whole = &alone[schedule->kind[event->tag]];
    schedule->done[event->tag] = true;
    schedule->ended++;
    schedule->sum_ns += event->cost.ns;
    schedule->sum_recompute_ns += event->cost.recompute_ns;
    rig_keep(&outcome, schedule->engine, event);
    if (event->finish != ENGINE_CANCELLED) {
        rig_check_same(&outcome, whole);
        return;
    }
    assert_true(outcome.tokens_len <= whole->tokens_len);
    assert_memory_equal(outcome.tokens, whole->tokens, outcome.tokens_len * sizeof(uint32_t));
    assert_null(event->embedding);
}

static void act(struct schedule *schedule)
{
    struct engine *engine = schedule->engine;
    struct engine_checkpoint checkpoint;
    struct engine_step_info info;
    struct engine_event event;
    uint32_t cursor = 0, live = 0;

    switch (rig_below(&schedule->random, 16)) {
    case 0 ... 4:
        submit(schedule);
        break;
    case 5:
        engine_cancel(engine, rig_below(&schedule->random, schedule->submitted + 3));
        break;
    case 6:
        assert_int_equal(engine_flush(engine), ERR_OK);
        break;
    case 7:
        while (engine_checkpoint(engine, &cursor, &checkpoint)) {
            assert_false(schedule->done[checkpoint.tag]);
            assert_memory_equal(checkpoint.tokens, alone[schedule->kind[checkpoint.tag]].tokens,
                                checkpoint.tokens_len * sizeof(uint32_t));
            live++;
        }
        assert_true(live <= schedule->submitted - schedule->ended);
        break;
    case 8:
        engine_idle(engine);
        break;
    case 9 ... 10:
        while (engine_poll(engine, &event))
            check_event(schedule, &event);
        break;
    default:
        assert_int_equal(engine_step(engine, &info), ERR_OK);
    }
    rig_check(engine);
}

/* Until nothing is left; then the accounts are what the events said. */
static void finish(struct schedule *schedule)
{
    struct engine_step_info info = {0};
    uint64_t shared_ns = 0, recompute_ns = 0;
    struct engine_group_books told;
    struct engine_books books;
    struct engine_event event;

    for (int turns = 0; !info.idle; turns++) {
        assert_true(turns < 100000);
        assert_int_equal(engine_step(schedule->engine, &info), ERR_OK);
        while (engine_poll(schedule->engine, &event))
            check_event(schedule, &event);
        rig_check(schedule->engine);
    }
    rig_check_empty(schedule->engine);
    assert_int_equal(schedule->ended, schedule->submitted);
    engine_books(schedule->engine, &books);
    assert_int_equal(books.live_ns + books.idle_ns, 0);
    while (engine_group_books(schedule->engine, &told)) {
        shared_ns += told.shared_ns;
        recompute_ns += told.recompute_ns;
    }
    assert_int_equal(books.shared_ns, shared_ns);
    assert_true(recompute_ns <= books.recompute_ns); /* some have no group */
    assert_int_equal(books.delivered_ns, schedule->sum_ns);
    assert_int_equal(books.recompute_ns, schedule->sum_recompute_ns);
    assert_int_equal(books.held_ns, engine_clock_ns(schedule->engine));
}

static struct engine_options random_options(uint64_t *random)
{
    struct engine_options options = rig_options();

    options.sequences_max = 1 + rig_below(random, rig_below(random, 2) ? 4 : 12);
    options.waiting_max = 1 + rig_below(random, 20);
    options.rows_max = options.sequences_max + rig_below(random, rig_below(random, 3) ? 8 : 100);
    options.context_max = 256;
    options.kv_tokens = rig_below(random, 3) == 0 ? 0 : 256 + 32 * rig_below(random, 6);
    options.sim.row_ns = rig_below(random, 3000);
    options.sim.kv_ns = rig_below(random, 3000);
    options.sim.chunk_kv_ns = options.sim.kv_ns * options.sim.kv_ns % 5000;
    options.sim.head_ns = rig_below(random, 3000);
    options.sim.fixed_ns = rig_below(random, 2) ? 0 : rig_below(random, 1000000);
    return options;
}

static void test_any_schedule_keeps_books_and_answers(void **state)
{
    static struct schedule schedule;

    (void)state;
    for (uint64_t i = 1; i <= 1500; i++) {
        const uint64_t seed = i < 1500 ? i : RARE;
        uint64_t random = seed * 0x9e3779b97f4a7c15u;
        const struct engine_options options = random_options(&random);

        memset(&schedule, 0, sizeof(schedule));
        schedule.random = random;
        schedule.engine = rig_open(&options);
        schedule.engine->forecasts = rig_below(&random, 2) == 0; /* without, many evictions */
        for (int acts = 0; acts < 300; acts++)
            act(&schedule);
        finish(&schedule);
        engine_close(schedule.engine);
    }
}

/* Closed in the middle of anything, nothing is left behind: the sanitizers' build looks. */
static void test_an_engine_can_be_closed_at_any_moment(void **state)
{
    static struct schedule schedule;

    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        uint64_t random = seed * 0xd6e8feb86659fd93u;
        const struct engine_options options = random_options(&random);

        memset(&schedule, 0, sizeof(schedule));
        schedule.random = random;
        schedule.engine = rig_open(&options);
        schedule.engine->forecasts = rig_below(&random, 2) == 0; /* without, many evictions */
        for (uint64_t i = 0; i < seed; i++)
            act(&schedule);
        engine_close(schedule.engine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_schedule_keeps_books_and_answers),
        cmocka_unit_test(test_an_engine_can_be_closed_at_any_moment),
    };

    return cmocka_run_group_tests(tests, run_alone, NULL);
}
