/* engine_rig.c: looks inside the engine (core.h) for what its interface does not show. */
#include "engine_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/core/core.h"

uint32_t rig_below(uint64_t *random, uint32_t limit)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*random >> 33) % limit);
}

struct engine_options rig_options(void)
{
    return (struct engine_options){
        .backend = "sim",
        .sequences_max = 8,
        .waiting_max = 64,
        .rows_max = 32,
        .context_max = 512,
        .sim = {.load_ns = 5000000,
                .fixed_ns = 840000,
                .row_ns = 700,
                .kv_ns = 1024,
                .head_ns = 300,
                .eos_per_million = 10000},
    };
}

struct engine *rig_open(const struct engine_options *options)
{
    struct engine *engine = NULL;

    assert_int_equal(engine_open(options, &engine), ERR_OK);
    assert_non_null(engine);
    return engine;
}

uint32_t rig_common(uint32_t group)
{
    static const uint32_t common[] = {0, 40, 64, 90};

    return common[group];
}

struct engine_request rig_request(uint32_t number, uint32_t *prompt)
{
    static const struct slice stop[] = {SLICE("e t"), SLICE("ss"), SLICE("never comes")};
    const uint32_t len = 1 + number * 29 % 100;
    struct engine_request request = {
        .tag = number,
        .kind = number % 7 == 6 ? ENGINE_EMBED : ENGINE_GENERATE,
        .group = number % 4,
        .prompt = prompt,
        .prompt_len = len,
        .tokens_max = 1 + number * 37 % 150,
        .sampling = {.temperature = number % 4 == 0 ? 0 : 1, .top_p = 1, .seed = number / 3},
        .ignore_eos = number % 11 == 3,
        .include_stop = number % 2 == 0,
        .logprobs = number % 3 == 1,
    };

    for (uint32_t i = 0; i < len; i++)
        prompt[i] = ((i < rig_common(number % 4) ? number % 4 : number) * 31 + i * 17) % 256;
    if (number % 5 == 2) {
        request.stop = stop;
        request.stop_len = 3;
    }
    return request;
}

void rig_submit(struct engine *engine, uint32_t number)
{
    uint32_t prompt[RIG_PROMPT_MAX];
    struct engine_request request = rig_request(number, prompt);

    assert_int_equal(engine_submit(engine, &request), ERR_OK);
}

static void check_books(const struct engine *engine)
{
    uint64_t live_ns = 0;
    struct engine_books books;

    for (uint32_t i = 0; i < engine->pool.len; i++) {
        const struct sequence *sequence = sequence_at(&engine->pool, i);

        if (sequence->state != SEQUENCE_FREE)
            live_ns += sequence->cost_ns;
    }
    for (const struct sequence *s = engine->delivered.first; s != NULL; s = s->next)
        live_ns -= s->cost_ns;
    engine_books(engine, &books);
    assert_int_equal(books.live_ns, live_ns);
    assert_int_equal(books.held_ns, books.delivered_ns + books.live_ns + books.shared_ns +
                                        books.recompute_ns + books.overhead_ns + books.idle_ns);
}

/* What the tables say of each block. */
static void count_tables(const struct engine *engine, uint32_t *users, uint32_t *leaving)
{
    for (uint32_t slot = 0; slot < engine->slots_len; slot++) {
        const uint32_t *table = engine->slots->blocks + (size_t)slot * engine->slots->blocks_stride;

        for (uint32_t i = 0; i < engine->slot_blocks[slot]; i++) {
            users[table[i]]++;
            leaving[table[i]] += engine->slot_leaving[slot];
        }
    }
}

/* A node's block says so too, and what is left of a path is its beginning. */
static void check_node(const struct prefix *prefix, uint32_t index)
{
    const struct prefix_node *node = &prefix->node[index];

    assert_true(node->block != KV_NONE || node->pending > 0);
    if (node->block == KV_NONE)
        return;
    assert_int_equal(prefix->kv->block[node->block].node, index);
    assert_false(node->begun);
    if (node->parent != KV_NONE)
        assert_true(prefix->node[node->parent].block != KV_NONE);
}

static void check_prefix(const struct engine *engine)
{
    const struct prefix *prefix = &engine->prefix;
    uint32_t kept = 0, len = 0;

    for (uint32_t i = 0; i <= prefix->mask; i++)
        for (uint32_t index = prefix->head[i]; index != KV_NONE; index = prefix->node[index].next) {
            check_node(prefix, index);
            len++;
        }
    assert_int_equal(len, prefix->len);
    for (int i = 0; i < PREFIX_KEPT; i++) {
        uint32_t index = prefix->kept[i].oldest;

        for (len = 0; index != KV_NONE; index = prefix->node[index].newer, len++) {
            assert_int_equal(prefix->node[index].pending > 0, i == PREFIX_WANTED);
            assert_int_equal(engine->kv.block[prefix->node[index].block].users, 0);
        }
        assert_int_equal(len, prefix->kept[i].len);
        kept += len;
    }
    len = engine->kv.free_len + kept;
    for (uint32_t i = 0; i < engine->kv.blocks; i++)
        len += engine->kv.block[i].users > 0;
    assert_int_equal(len, engine->kv.blocks);
}

/* Every block is free, kept or in tables, and the counters say in how many. */
static void check_blocks(const struct engine *engine)
{
    const struct kv *kv = &engine->kv;
    uint32_t *users = calloc(3ull * kv->blocks, sizeof(*users)), *leaving = users + kv->blocks;
    uint32_t *stacked = leaving + kv->blocks, coming = 0;

    count_tables(engine, users, leaving);
    for (uint32_t i = 0; i < kv->free_len; i++)
        assert_int_equal(stacked[kv->stack[i]]++, 0);
    for (uint32_t i = 0; i < kv->blocks; i++) {
        assert_int_equal(users[i], kv->block[i].users);
        assert_int_equal(leaving[i], kv->block[i].leaving);
        assert_true(stacked[i] == 0 || (users[i] == 0 && kv->block[i].node == KV_NONE));
        assert_true(users[i] < 2 || kv->block[i].node != KV_NONE);
        coming += users[i] > 0 && users[i] == leaving[i];
    }
    assert_int_equal(coming, kv->coming);
    free(users);
    check_prefix(engine);
}

/* Slots of sequences that ended with a row in flight. */
static uint32_t dropped_slots(const struct engine *engine)
{
    uint32_t slots = 0;

    for (unsigned i = 0; i < engine->in_flight; i++) {
        const struct flight *flight = &engine->flights[(engine->oldest + i) % DEVICE_STEPS];

        for (uint32_t s = 0; s < flight->step->sequences; s++)
            slots += flight->sequence[s] == &engine->dropped;
    }
    return slots;
}

static void check_lists(const struct engine *engine)
{
    uint32_t running = 0, evicting = 0, slots = engine->free_slots_len;
    uint64_t most = 0;
    const struct sequence *last = NULL;

    for (uint32_t i = 0; i < engine->pool.len; i++) {
        const struct sequence *sequence = sequence_at(&engine->pool, i);
        const bool leaving = sequence->state == SEQUENCE_LEAVING;

        running += sequence->state == SEQUENCE_RUNNING;
        most += sequence->state == SEQUENCE_RUNNING ? (sequence->limit + 31) / 32 : 0;
        slots += sequence->state == SEQUENCE_RUNNING || leaving;
        evicting += leaving && sequence->flags & SEQUENCE_EVICTED;
        assert_true(!leaving || engine->slot_leaving[sequence->slot]);
    }
    assert_int_equal(running, engine->running);
    assert_true(running <= engine->sequences_max);
    assert_int_equal(most, engine->most_blocks);
    assert_int_equal(evicting, engine->evicting);
    assert_int_equal(slots + dropped_slots(engine), engine->slots_len);
    for (uint32_t i = 0; i < engine->run_len; i++) {
        if (engine->run[i]->state != SEQUENCE_RUNNING)
            continue;
        assert_true(last == NULL || last->order < engine->run[i]->order);
        last = engine->run[i];
    }
    for (const struct sequence *s = engine->waiting.fresh.first; s != NULL && s->next != NULL;
         s = s->next)
        assert_true(s->order < s->next->order);
    for (const struct sequence *s = engine->waiting.evicted.first; s != NULL && s->next != NULL;
         s = s->next)
        assert_true(s->order < s->next->order);
}

void rig_check(const struct engine *engine)
{
    check_books(engine);
    check_blocks(engine);
    check_lists(engine);
}

void rig_check_empty(const struct engine *engine)
{
    rig_check(engine);
    assert_int_equal(engine->kv.free_len + engine->prefix.kept[PREFIX_IDLE].len, engine->kv.blocks);
    assert_int_equal(engine->prefix.kept[PREFIX_IDLE].len, engine->prefix.len);
    assert_int_equal(engine->free_slots_len, engine->slots_len);
    assert_int_equal(engine->running + waiting_len(&engine->waiting) + engine->in_flight, 0);
}

void rig_keep(struct outcome *outcome, const struct engine *engine,
              const struct engine_event *event)
{
    *outcome = (struct outcome){
        .seen = true,
        .finish = event->finish,
        .tokens_len = event->tokens_len,
        .scored = event->logprobs != NULL,
        .text_len = event->text.len,
        .embedded = event->embedding != NULL,
        .cost = event->cost,
    };
    assert_true(event->tokens_len <= RIG_TOKENS_MAX && event->text.len <= RIG_TEXT_MAX);
    if (event->tokens_len > 0)
        memcpy(outcome->tokens, event->tokens, event->tokens_len * sizeof(uint32_t));
    if (event->logprobs != NULL)
        memcpy(outcome->logprobs, event->logprobs, event->tokens_len * sizeof(float));
    if (event->text.len > 0)
        memcpy(outcome->text, event->text.data, event->text.len);
    if (event->embedding != NULL)
        memcpy(outcome->embedding, event->embedding,
               engine_model(engine)->embedding_len * sizeof(float));
}

void rig_poll(struct engine *engine, struct outcomes *outcomes)
{
    struct engine_event event;

    while (engine_poll(engine, &event)) {
        assert_true(event.tag < RIG_TAGS_MAX);
        assert_false(outcomes->of[event.tag].seen);
        rig_keep(&outcomes->of[event.tag], engine, &event);
        outcomes->len++;
        rig_check(engine);
    }
}

bool rig_turn(struct engine *engine, struct outcomes *outcomes)
{
    struct engine_step_info info;

    assert_int_equal(engine_step(engine, &info), ERR_OK);
    rig_check(engine);
    rig_poll(engine, outcomes);
    return !info.idle;
}

void rig_run(struct engine *engine, struct outcomes *outcomes)
{
    int turns = 0;

    while (rig_turn(engine, outcomes))
        assert_true(++turns < 100000);
    rig_check_empty(engine);
}

void rig_alone(const struct engine_options *options, uint32_t number, struct outcome *ret)
{
    static struct outcomes outcomes;
    struct engine *engine = rig_open(options);

    memset(&outcomes, 0, sizeof(outcomes));
    rig_submit(engine, number);
    rig_run(engine, &outcomes);
    *ret = outcomes.of[number];
    engine_close(engine);
}

void rig_check_same(const struct outcome *a, const struct outcome *b)
{
    assert_true(a->seen && b->seen);
    assert_int_equal(a->finish, b->finish);
    assert_int_equal(a->tokens_len, b->tokens_len);
    assert_memory_equal(a->tokens, b->tokens, sizeof(a->tokens));
    assert_int_equal(a->scored, b->scored);
    assert_memory_equal(a->logprobs, b->logprobs, sizeof(a->logprobs));
    assert_int_equal(a->text_len, b->text_len);
    assert_memory_equal(a->text, b->text, sizeof(a->text));
    assert_int_equal(a->embedded, b->embedded);
    assert_memory_equal(a->embedding, b->embedding, sizeof(a->embedding));
}
