/*
 * test_engine_device.c: the engine on a device that is not ideal: the simulated one behind a
 * wrapper that lets time pass between steps, spoils logits and fails.
 */
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
#include "kernels/sim/sim.h"

/* What the wrapper does; one engine at a time. */
static struct {
    uint64_t gap_ns;    /* before each step */
    uint64_t passed_ns; /* in all, beside the inner device's clock */
    uint32_t bad_slot;  /* from bad_step on this slot's logits are not numbers */
    uint32_t bad_step;
    uint32_t fail_step; /* done() of this step fails */
    uint32_t steps;
    uint64_t block_kv_bytes; /* what plan() says of each KV block, if not 0 */
    uint64_t begin_ns[DEVICE_STEPS];
    struct device device;
    struct device *inner;
    uint8_t bad[64];
    uint32_t token[64];
} rough;

static enum err rough_plan(const struct model *model, const struct device_limits *limits,
                           struct engine_plan *ret)
{
    const enum err rc = sim_device.plan(model, limits, ret);

    if (rough.block_kv_bytes > 0)
        ret->kv_bytes = limits->blocks * rough.block_kv_bytes;
    return rc;
}

static enum err rough_open(const struct model *model, const struct engine_options *options,
                           const struct device_limits *limits, struct device **ret)
{
    *ret = &rough.device;
    return sim_device.open(model, options, limits, &rough.inner);
}

static void rough_close(struct device *device)
{
    (void)device;
    sim_device.close(rough.inner);
    rough.inner = NULL;
}

static struct slots *rough_slots(struct device *device)
{
    (void)device;
    return sim_device.slots(rough.inner);
}

static struct step *rough_begin(struct device *device, unsigned slot)
{
    (void)device;
    return sim_device.begin(rough.inner, slot);
}

static void rough_forward(struct device *device, unsigned slot)
{
    (void)device;
    sim_device.forward(rough.inner, slot);
}

static void rough_sample(struct device *device, unsigned slot)
{
    (void)device;
    rough.passed_ns += rough.gap_ns;
    rough.begin_ns[slot] = sim_device.clock_ns(rough.inner) + rough.passed_ns;
    sim_device.sample(rough.inner, slot);
}

static enum err rough_done(struct device *device, unsigned slot, int timeout_ms,
                           struct step_result *ret)
{
    const struct step *step = sim_device.begin(rough.inner, slot);
    const enum err rc = sim_device.done(rough.inner, slot, timeout_ms, ret);

    (void)device;
    if (++rough.steps == rough.fail_step)
        return ERR_DEVICE;
    ret->end_ns = rough.begin_ns[slot] + ret->end_ns - ret->begin_ns;
    ret->begin_ns = rough.begin_ns[slot];
    for (uint32_t want = 0; want < step->wanted; want++) {
        rough.bad[want] = rough.bad_step > 0 && rough.steps >= rough.bad_step &&
                          step->seq_slot[step->want_seq[want]] == rough.bad_slot;
        rough.token[want] = rough.bad[want] ? UINT32_MAX : ret->token[want];
    }
    ret->bad = rough.bad;
    ret->token = rough.token;
    return rc;
}

static uint64_t rough_clock_ns(const struct device *device)
{
    return device == NULL ? 0 : sim_device.clock_ns(rough.inner) + rough.passed_ns;
}

static const char *rough_numerics(const struct device *device)
{
    (void)device;
    return "rough";
}

static const struct device_ops rough_device = {
    .name = "rough",
    .plan = rough_plan,
    .open = rough_open,
    .close = rough_close,
    .slots = rough_slots,
    .begin = rough_begin,
    .forward = rough_forward,
    .sample = rough_sample,
    .done = rough_done,
    .clock_ns = rough_clock_ns,
    .numerics = rough_numerics,
};

static struct outcomes outcomes;

static int clear(void **state)
{
    (void)state;
    memset(&rough, 0, sizeof(rough));
    memset(&outcomes, 0, sizeof(outcomes));
    return 0;
}

static struct engine *open_rough(void)
{
    struct engine_options options = rig_options();
    struct engine *engine = NULL;

    options.sim.eos_per_million = 0;
    assert_int_equal(core_open(&options, &rough_device, &engine), ERR_OK);
    return engine;
}

/* A host too slow to keep the device busy: each gap is overhead, and nobody's. */
static void test_gaps_with_work_at_hand_are_overhead(void **state)
{
    struct engine_books quick, slow;
    struct engine *engine;

    (void)state;
    for (int round = 0; round < 2; round++) {
        clear(NULL);
        rough.gap_ns = round == 0 ? 0 : 777;
        engine = open_rough();
        for (uint32_t number = 0; number < 20; number++)
            rig_submit(engine, number);
        rig_run(engine, &outcomes);
        engine_books(engine, round == 0 ? &quick : &slow);
        engine_close(engine);
    }
    assert_int_equal(slow.delivered_ns, quick.delivered_ns);
    assert_int_equal(slow.overhead_ns, quick.overhead_ns + (uint64_t)rough.steps * 777);
    assert_int_equal(slow.held_ns, quick.held_ns + (uint64_t)rough.steps * 777);
    assert_int_equal(slow.idle_ns, 0);
}

/* Time without work is idle when the loop says so, and only then. */
static void test_waiting_for_work_is_idle(void **state)
{
    struct engine *engine = open_rough();
    struct engine_books before, after;

    (void)state;
    rough.passed_ns += 1000;
    engine_idle(engine);
    engine_books(engine, &after);
    assert_int_equal(after.idle_ns, 1000);

    rig_submit(engine, 1);
    rough.passed_ns += 50;
    engine_idle(engine); /* there is work: this is no idling */
    rig_check(engine);
    engine_books(engine, &before);
    assert_int_equal(before.idle_ns, 1000);
    rig_run(engine, &outcomes);
    engine_books(engine, &before);
    assert_int_equal(before.overhead_ns, 5000000 + 50);

    rough.passed_ns += 7;
    engine_idle(engine);
    rough.passed_ns += 13;
    engine_idle(engine);
    rig_check(engine);
    engine_books(engine, &after);
    assert_int_equal(after.idle_ns, 1020);
    assert_int_equal(after.held_ns, engine_clock_ns(engine));
    engine_close(engine);
}

/* One sequence whose logits are not numbers fails; those beside it do not notice. */
static void test_bad_logits_fail_their_request_alone(void **state)
{
    struct engine_options options = rig_options();
    struct engine *engine;

    (void)state;
    options.sim.eos_per_million = 0;
    engine = open_rough();
    for (uint32_t number = 1; number < 9; number++)
        rig_submit(engine, number);
    do
        rig_turn(engine, &outcomes);
    while (waiting_len(&engine->waiting) > 0); /* from here on no slot changes hands */
    assert_false(outcomes.of[4].seen);
    rough.bad_step = rough.steps + 9;
    rough.bad_slot = tags_find(&engine->tags, 4)->slot;
    rig_run(engine, &outcomes);
    assert_int_equal(outcomes.len, 8);
    for (uint32_t number = 1; number < 9; number++) {
        struct outcome alone;

        rig_alone(&options, number, &alone);
        if (number != 4) {
            rig_check_same(&outcomes.of[number], &alone);
            continue;
        }
        assert_int_equal(outcomes.of[4].finish, ENGINE_NUMERIC);
        assert_true(outcomes.of[4].tokens_len > 0 && outcomes.of[4].tokens_len < alone.tokens_len);
        assert_memory_equal(outcomes.of[4].tokens, alone.tokens,
                            outcomes.of[4].tokens_len * sizeof(uint32_t));
        assert_true(outcomes.of[4].cost.ns > 0);
    }
    engine_close(engine);
}

/* Not even an embedding is given out when it is not made of numbers. */
static void test_a_bad_embedding_is_not_given_out(void **state)
{
    struct engine *engine;

    (void)state;
    rough.bad_step = 1;
    engine = open_rough();
    rig_submit(engine, 6); /* an embedding */
    rig_run(engine, &outcomes);
    assert_int_equal(outcomes.of[6].finish, ENGINE_NUMERIC);
    assert_false(outcomes.of[6].embedded);
    engine_close(engine);
}

/* A device that failed is done with: every call says so, what was finished before can be had. */
static void test_a_failed_device_stays_failed(void **state)
{
    struct engine_step_info info;
    struct engine_event event;
    struct engine *engine;
    enum err rc;

    (void)state;
    rough.fail_step = 170;
    engine = open_rough();
    for (uint32_t number = 0; number < 20; number++)
        rig_submit(engine, number);
    do {
        rc = engine_step(engine, &info);
        rig_check(engine);
    } while (rc == ERR_OK);
    assert_int_equal(rc, ERR_DEVICE);
    assert_int_equal(engine_step(engine, &info), ERR_DEVICE);
    assert_int_equal(engine_flush(engine), ERR_DEVICE);
    assert_true(engine_poll(engine, &event));
    engine_close(engine);
}

/* Books that add up, of an engine in which nobody waits to be polled. */
static uint64_t assert_books_close(struct engine *engine)
{
    struct engine_books books;

    engine_books(engine, &books);
    assert_int_equal(books.held_ns, books.delivered_ns + books.live_ns + books.shared_ns +
                                        books.recompute_ns + books.overhead_ns + books.idle_ns);
    return books.held_ns;
}

/*
 * The card fails with two steps in flight. What the host has taken in can be saved and goes on
 * elsewhere to the same end; whoever is withdrawn then ends at once; the books are closed.
 */
static void test_what_a_failed_device_had_given_is_saved(void **state)
{
    uint32_t saved[20] = {0}, kept = 0, cursor = 0, ended = 0, polled = 0;
    struct engine_checkpoint live;
    struct engine_step_info info;
    struct engine_event event;
    struct engine *engine;

    (void)state;
    rough.fail_step = 40;
    rough.gap_ns = 1000;
    engine = open_rough();
    for (uint32_t number = 0; number < 20; number++)
        rig_submit(engine, number);
    while (engine_step(engine, &info) == ERR_OK)
        while (engine_poll(engine, &event))
            polled++;
    while (engine_poll(engine, &event))
        polled++;
    while (engine_checkpoint(engine, &cursor, &live)) {
        saved[kept++] = live.tokens_len;
        ended += live.tokens_len > 0;
    }
    assert_int_equal(kept, 20 - polled);
    assert_true(ended > 0);
    assert_books_close(engine);
    cursor = 0;
    for (uint32_t i = 0; i < kept; i++) {
        uint32_t at = 0;

        assert_true(engine_checkpoint(engine, &at, &live));
        engine_cancel(engine, live.tag);
        assert_true(engine_poll(engine, &event));
        assert_int_equal(event.finish, ENGINE_CANCELLED);
        assert_int_equal(event.tokens_len, saved[i]);
    }
    assert_false(engine_checkpoint(engine, &cursor, &live));
    rough.passed_ns += 777;
    {
        const uint64_t before_ns = assert_books_close(engine);

        engine_idle(engine);
        assert_int_equal(assert_books_close(engine), before_ns + 777);
    }
    engine_close(engine);
}

/* A model of many long heads and a pool of many tokens: their product wraps, and is not allocated. */
static void test_a_pool_whose_bytes_cannot_be_counted_is_refused(void **state)
{
    struct engine_options options = rig_options();
    struct engine *engine = NULL;

    (void)state;
    options.kv_tokens = 1ull << 24;
    assert_int_equal(core_open(&options, &rough_device, &engine), ERR_OK);
    engine_close(engine);
    rough.block_kv_bytes = 1ull << 45;
    heard_start();
    assert_int_equal(core_open(&options, &rough_device, &engine), ERR_SETTINGS);
    assert_non_null(strstr(heard(), "a KV pool of 16777216 tokens of this model has more bytes"));
    heard_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_gaps_with_work_at_hand_are_overhead, clear),
        cmocka_unit_test_setup(test_waiting_for_work_is_idle, clear),
        cmocka_unit_test_setup(test_bad_logits_fail_their_request_alone, clear),
        cmocka_unit_test_setup(test_a_bad_embedding_is_not_given_out, clear),
        cmocka_unit_test_setup(test_a_failed_device_stays_failed, clear),
        cmocka_unit_test_setup(test_what_a_failed_device_had_given_is_saved, clear),
        cmocka_unit_test_setup(test_a_pool_whose_bytes_cannot_be_counted_is_refused, clear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
