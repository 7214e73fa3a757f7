/*
 * engine_rig.h: what the engine's tests share: small options, requests by number, a loop that runs
 * an engine dry and keeps what came out, and the check that the books add up.
 */
#ifndef TESTS_ENGINE_RIG_H
#define TESTS_ENGINE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/core/core.h"
#include "kernels/engine.h"

enum { RIG_TOKENS_MAX = 512, RIG_TAGS_MAX = 256 };

/* What came out of one request. */
struct outcome {
    bool seen;
    enum engine_finish finish;
    uint32_t tokens[RIG_TOKENS_MAX];
    uint32_t tokens_len;
    char text[RIG_TOKENS_MAX];
    size_t text_len;
    float embedding[64];
    struct engine_cost cost;
};

struct outcomes {
    struct outcome of[RIG_TAGS_MAX]; /* by tag */
    uint32_t len;                    /* seen */
};

static inline struct engine_options rig_options(void)
{
    return (struct engine_options){
        .backend = "sim",
        .sequences_max = 8,
        .waiting_max = 64,
        .rows_max = 32,
        .context_max = 512,
        .sim =
            {.load_ns = 5000000, .fixed_ns = 40000, .row_ns = 700, .kv_ns = 1900, .head_ns = 300},
    };
}

static inline struct engine *rig_open(const struct engine_options *options)
{
    struct engine *engine = NULL;

    assert_int_equal(engine_open(options, &engine), ERR_OK);
    assert_non_null(engine);
    return engine;
}

/* The prompt of request `number`: lengths from 1 up, each with a beginning of its own. */
static inline uint32_t rig_prompt(uint32_t number, uint32_t *token)
{
    const uint32_t len = 1 + number * 7 % 90;

    for (uint32_t i = 0; i < len; i++)
        token[i] = (number * 31 + i * 17) % 256;
    return len;
}

static inline struct engine_request rig_request(uint32_t number, uint32_t *prompt)
{
    return (struct engine_request){
        .tag = number,
        .prompt = prompt,
        .prompt_len = rig_prompt(number, prompt),
        .tokens_max = 1 + number * 13 % 60,
        .sampling = {.temperature = 1, .top_p = 1, .seed = number / 3},
    };
}

static inline void rig_books_hold(const struct engine *engine)
{
    struct engine_books books;

    engine_books(engine, &books);
    assert_int_equal(books.held_ns, books.delivered_ns + books.live_ns + books.shared_ns +
                                        books.recompute_ns + books.overhead_ns + books.idle_ns);
}

static inline void rig_keep(struct outcomes *outcomes, const struct engine_event *event,
                            uint32_t embedding_len)
{
    struct outcome *outcome;

    assert_true(event->tag < RIG_TAGS_MAX);
    outcome = &outcomes->of[event->tag];
    assert_false(outcome->seen);
    assert_true(event->tokens_len <= RIG_TOKENS_MAX && event->text.len <= RIG_TOKENS_MAX);
    outcome->seen = true;
    outcome->finish = event->finish;
    outcome->tokens_len = event->tokens_len;
    memcpy(outcome->tokens, event->tokens, event->tokens_len * sizeof(uint32_t));
    outcome->text_len = event->text.len;
    if (event->text.len > 0)
        memcpy(outcome->text, event->text.data, event->text.len);
    if (event->embedding != NULL)
        memcpy(outcome->embedding, event->embedding, embedding_len * sizeof(float));
    outcome->cost = event->cost;
    outcomes->len++;
}

/* Takes all events there are. */
static inline void rig_poll(struct engine *engine, struct outcomes *outcomes)
{
    struct engine_event event;

    while (engine_poll(engine, &event)) {
        rig_keep(outcomes, &event, engine_model(engine)->embedding_len);
        rig_books_hold(engine);
    }
}

/* One turn; false when the engine was idle. */
static inline bool rig_turn(struct engine *engine, struct outcomes *outcomes)
{
    struct engine_step_info info;

    assert_int_equal(engine_step(engine, &info), ERR_OK);
    rig_books_hold(engine);
    rig_poll(engine, outcomes);
    return !info.idle;
}

static inline void rig_run(struct engine *engine, struct outcomes *outcomes)
{
    int turns = 0;

    while (rig_turn(engine, outcomes))
        assert_true(++turns < 100000);
}

static inline void rig_same_tokens(const struct outcome *a, const struct outcome *b)
{
    assert_true(a->seen && b->seen);
    assert_int_equal(a->finish, b->finish);
    assert_int_equal(a->tokens_len, b->tokens_len);
    assert_memory_equal(a->tokens, b->tokens, a->tokens_len * sizeof(uint32_t));
    assert_int_equal(a->text_len, b->text_len);
    assert_memory_equal(a->text, b->text, a->text_len);
}

#endif
