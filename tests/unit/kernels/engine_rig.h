/*
 * engine_rig.h: what the engine's tests share: small options, requests by number, a loop that runs
 * an engine dry and keeps what came out, and the checks that must hold between any two calls.
 */
#ifndef MSERVE_TESTS_KERNELS_ENGINE_RIG_H
#define MSERVE_TESTS_KERNELS_ENGINE_RIG_H

#include "kernels/engine.h"

#include <stdbool.h>
#include <stdint.h>

enum { RIG_TOKENS_MAX = 256, RIG_TEXT_MAX = 2048, RIG_TAGS_MAX = 64, RIG_PROMPT_MAX = 128 };

/* What came out of one request. */
struct outcome {
    bool seen;
    enum engine_finish finish;
    uint32_t tokens[RIG_TOKENS_MAX];
    uint32_t tokens_len;
    bool scored;
    float logprobs[RIG_TOKENS_MAX]; /* where scored */
    char text[RIG_TEXT_MAX];
    size_t text_len;
    bool embedded;
    float embedding[64];
    struct engine_cost cost;
};

struct outcomes {
    struct outcome of[RIG_TAGS_MAX]; /* by tag */
    uint32_t len;                    /* seen */
};

/* A pseudo-random number below `limit`; the state is the caller's. */
uint32_t rig_below(uint64_t *random, uint32_t limit);

/* 8 sequences, 32 rows, contexts of 512, end tokens one in 100; costs that divide by 1 to 8. */
struct engine_options rig_options(void);

struct engine *rig_open(const struct engine_options *options);

/*
 * Request `number`, tag `number`: prompts of 1 to 100 ids, 1 to 150 tokens to generate, some
 * greedy, some with stop strings, some that pass over end tokens, some that want log-probabilities,
 * some embeddings. Three of four have a group, number % 4, whose first rig_common() ids are the same.
 * `prompt` has room for RIG_PROMPT_MAX.
 */
uint32_t rig_common(uint32_t group);
struct engine_request rig_request(uint32_t number, uint32_t *prompt);
void rig_submit(struct engine *engine, uint32_t number);

/* The books add up, no block or slot is lost or used twice, counters say what lists hold. */
void rig_check(const struct engine *engine);

/* Nothing is left in the engine: every block and slot is free. */
void rig_check_empty(const struct engine *engine);

/* Takes all events there are. */
void rig_poll(struct engine *engine, struct outcomes *outcomes);
void rig_keep(struct outcome *outcome, const struct engine *engine,
              const struct engine_event *event);

/* One turn; false when the engine was idle. */
bool rig_turn(struct engine *engine, struct outcomes *outcomes);
void rig_run(struct engine *engine, struct outcomes *outcomes);

/* Runs request `number` alone in an engine of its own. */
void rig_alone(const struct engine_options *options, uint32_t number, struct outcome *ret);

/* Same tokens, log-probabilities, text, embedding and end; cost may differ. */
void rig_check_same(const struct outcome *a, const struct outcome *b);

#endif
