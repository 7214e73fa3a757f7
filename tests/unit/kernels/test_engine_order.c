/*
 * test_engine_order.c: who is in the batch when: no place stays empty while somebody waits, long
 * answers go first, nobody is passed over for ever, and embeddings fill what is left of a step.
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

enum { PROMPT = 40, LOG = 4096 };

static uint32_t ids[1000];

/* What the step log says: sequences that each step worked on, and the tags in the order of ends. */
struct step_log {
    uint32_t sequences[LOG];
    uint32_t rows[LOG];
    uint32_t len;
    uint64_t tag[LOG];
    uint32_t ended;
};

static struct step_log seen;

static void submit_resumed(struct engine *engine, uint64_t tag, uint32_t prompt_len,
                           uint32_t tokens_max, uint32_t resumed_len)
{
    const struct engine_request request = {
        .tag = tag,
        .kind = tokens_max == 0 ? ENGINE_EMBED : ENGINE_GENERATE,
        .prompt = ids,
        .prompt_len = prompt_len,
        .tokens_max = tokens_max,
        .resumed = ids,
        .resumed_len = resumed_len,
        .sampling = {.temperature = 1, .top_p = 1, .seed = tag},
    };

    assert_int_equal(engine_submit(engine, &request), ERR_OK);
}

static void submit(struct engine *engine, uint64_t tag, uint32_t prompt_len, uint32_t tokens_max)
{
    submit_resumed(engine, tag, prompt_len, tokens_max, 0);
}

/* One turn; notes the step that came in, and who ended. False when the engine was idle. */
static bool turn(struct engine *engine)
{
    struct engine_step_info info;
    struct engine_event event;

    assert_int_equal(engine_step(engine, &info), ERR_OK);
    rig_check(engine);
    if (info.rows > 0) {
        assert_true(seen.len < LOG);
        seen.sequences[seen.len] = info.sequences;
        seen.rows[seen.len++] = info.rows;
    }
    while (engine_poll(engine, &event))
        seen.tag[seen.ended++] = event.tag;
    return !info.idle;
}

static struct engine *open_engine(uint32_t sequences_max, uint32_t rows_max)
{
    struct engine_options options = rig_options();

    options.sequences_max = sequences_max;
    options.rows_max = rows_max;
    options.sim.eos_per_million = 0;
    memset(&seen, 0, sizeof(seen));
    return rig_open(&options);
}

/* Answers of 1 and of 200 tokens, and always others that wait: from the step log. */
static void test_with_a_backlog_the_batch_is_full(void **state)
{
    struct engine *engine = open_engine(16, 1024);
    const uint32_t skip = 2;
    uint64_t worked = 0;
    uint32_t next = 0;

    (void)state;
    while (seen.len < 1000) {
        for (; waiting_len(&engine->waiting) < 64; next++)
            submit(engine, next, PROMPT, next % 2 == 0 ? 1 : 200);
        assert_true(turn(engine));
    }
    for (uint32_t i = skip; i < seen.len; i++)
        worked += seen.sequences[i];
    assert_true(worked * 10 >= (uint64_t)(seen.len - skip) * 16 * 9);
    assert_int_equal(worked, (uint64_t)(seen.len - skip) * 16); /* all of it, in fact */
    engine_close(engine);
}

/* The same with answers of one token alone: each has its place for one step. */
static void test_one_token_needs_one_step(void **state)
{
    struct engine *engine = open_engine(8, 1024);

    (void)state;
    for (uint32_t tag = 0; tag < 64; tag++)
        submit(engine, tag, PROMPT, 1);
    while (turn(engine))
        ;
    assert_int_equal(seen.len, 8);
    for (uint32_t i = 0; i < seen.len; i++)
        assert_int_equal(seen.sequences[i], 8);
    engine_close(engine);
}

/* A long answer that came last is not what is left at the end. */
static void test_long_answers_go_first(void **state)
{
    struct engine *engine = open_engine(4, 256);

    (void)state;
    for (uint32_t tag = 0; tag < 15; tag++)
        submit(engine, tag, 20, 20);
    submit(engine, 15, 20, 150);
    while (turn(engine))
        ;
    assert_true(seen.len <= 160); /* as many as the long one has, not as many as both */
    assert_int_equal(seen.tag[15], 15);
    engine_close(engine);
}

/* Though they came last and want least: what they have is only as safe as their last checkpoint. */
static void test_who_was_begun_elsewhere_goes_first(void **state)
{
    struct engine *engine = open_engine(4, 256);

    (void)state;
    for (uint32_t tag = 0; tag < 12; tag++)
        submit(engine, tag, 20, 50);
    for (uint32_t tag = 12; tag < 16; tag++)
        submit_resumed(engine, tag, 20, 30, 20);
    while (turn(engine))
        ;
    for (uint32_t i = 0; i < 4; i++)
        assert_true(seen.tag[i] >= 12);
    engine_close(engine);
}

/* Nor does a full queue of fresh ones keep them out; they have as many places as there are slots. */
static void test_who_was_begun_elsewhere_has_places_to_wait_in(void **state)
{
    struct engine_options options = rig_options();
    const struct engine_request fresh = {
        .tag = 2, .prompt = ids, .prompt_len = 20, .tokens_max = 50, .sampling = {.top_p = 1}};
    struct engine_request resumed = fresh;
    struct engine *engine;

    (void)state;
    options.sequences_max = 2;
    options.waiting_max = 2;
    engine = rig_open(&options);
    memset(&seen, 0, sizeof(seen));
    for (uint32_t tag = 0; tag < 2; tag++)
        submit(engine, tag, 20, 50);
    assert_int_equal(engine_submit(engine, &fresh), ERR_AGAIN);
    resumed.resumed = ids;
    resumed.resumed_len = 20;
    for (resumed.tag = 2; resumed.tag < 4; resumed.tag++)
        assert_int_equal(engine_submit(engine, &resumed), ERR_OK);
    assert_int_equal(engine_submit(engine, &resumed), ERR_AGAIN);
    while (turn(engine))
        ;
    assert_int_equal(seen.ended, 4);
    assert_true(seen.tag[0] >= 2 && seen.tag[1] >= 2);
    engine_close(engine);
}

/* Who asks for the same goes in the order in which he came. */
static void test_equal_requests_keep_their_order(void **state)
{
    struct engine *engine = open_engine(2, 64);

    (void)state;
    for (uint32_t tag = 0; tag < 20; tag++)
        submit(engine, tag, 20, 5 + tag % 3); /* one octave */
    while (turn(engine))
        ;
    for (uint32_t tag = 0; tag < 20; tag++)
        assert_true(seen.tag[tag] + 2 > tag && seen.tag[tag] < tag + 2);
    engine_close(engine);
}

/* A short answer among endless long ones: as many go before it as the patience allows. */
static void test_nobody_is_passed_over_for_ever(void **state)
{
    struct engine *engine = open_engine(2, 64);
    const uint32_t patience = engine->waiting.patience;
    uint32_t next = 1, before = 0;

    (void)state;
    assert_int_equal(patience, 8);
    submit(engine, 100, 20, 50);
    submit(engine, 101, 20, 50);
    turn(engine);
    submit(engine, 0, 20, 1);
    while (before == seen.ended || seen.tag[seen.ended - 1] != 0) {
        for (; waiting_len(&engine->waiting) < 10; next++)
            submit(engine, 200 + next, 20, 50);
        before = seen.ended;
        assert_true(turn(engine) && seen.ended <= patience + 4);
    }
    assert_true(seen.ended >= patience);
    engine_close(engine);
}

/* Lengths that fit a budget of 64 rows together are read together, long first, none in parts. */
static void test_embeddings_fill_a_step_whole(void **state)
{
    static const uint32_t lens[] = {9, 30, 10, 60, 31, 4, 25, 2, 7, 14};
    struct engine *engine = open_engine(16, 64);
    uint32_t rows = 0;

    (void)state;
    for (uint32_t tag = 0; tag < 10; tag++)
        submit(engine, tag, lens[tag], 0);
    while (turn(engine))
        ;
    assert_int_equal(seen.ended, 10);
    assert_int_equal(seen.tag[0], 3); /* 60, and with it the 4 */
    assert_int_equal(seen.tag[1], 5);
    for (uint32_t i = 0; i < seen.len; i++)
        rows += seen.rows[i];
    assert_int_equal(rows, 9 + 30 + 10 + 60 + 31 + 4 + 25 + 2 + 7 + 14);
    assert_int_equal(seen.len, 4); /* 192 rows at least: no step wasted */
    engine_close(engine);
}

/* One that is longer than a step is read in parts, and does not wait for ever. */
static void test_a_long_embedding_is_cut(void **state)
{
    struct engine *engine = open_engine(4, 32);

    (void)state;
    submit(engine, 0, 200, 0);
    for (uint32_t tag = 1; tag < 30; tag++)
        submit(engine, tag, 20, 0);
    while (turn(engine))
        ;
    assert_int_equal(seen.ended, 30);
    engine_close(engine);
}

/*
 * Nine of ten answers end after 10 of their 200 tokens. Once that is known, a pool that would hold
 * five whole ones holds many more, and few are evicted.
 */
static void test_memory_is_shared_out_by_what_answers_take(void **state)
{
    struct engine_options options = rig_options();
    struct engine_step_info info;
    struct engine_event event;
    struct engine *engine;
    uint32_t most = 0;

    (void)state;
    options.sequences_max = 32;
    options.rows_max = 256;
    options.waiting_max = 1000;
    options.kv_tokens = 1024;
    options.context_max = 256;
    options.sim.eos_per_million = 100000;
    engine = rig_open(&options);
    for (uint32_t tag = 0; tag < 400; tag++)
        submit(engine, tag, 20, 200);
    do {
        assert_int_equal(engine_step(engine, &info), ERR_OK);
        rig_check(engine);
        while (engine_poll(engine, &event))
            ;
        most = info.running > most ? info.running : most;
    } while (!info.idle);
    assert_true(most >= 12);
    assert_true(engine->evictions < 40);
    engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_with_a_backlog_the_batch_is_full),
        cmocka_unit_test(test_one_token_needs_one_step),
        cmocka_unit_test(test_long_answers_go_first),
        cmocka_unit_test(test_who_was_begun_elsewhere_goes_first),
        cmocka_unit_test(test_who_was_begun_elsewhere_has_places_to_wait_in),
        cmocka_unit_test(test_equal_requests_keep_their_order),
        cmocka_unit_test(test_nobody_is_passed_over_for_ever),
        cmocka_unit_test(test_embeddings_fill_a_step_whole),
        cmocka_unit_test(test_a_long_embedding_is_cut),
        cmocka_unit_test(test_memory_is_shared_out_by_what_answers_take),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
