/* mix.c: requests by a random number generator, and a loop that keeps an engine supplied. */
#include "mix.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/core/core.h"
#include "tiny_gguf.h"

enum { TURNS_MAX = 200000, CHECK_EVERY = 64 };

static const struct slice stops[] = {SLICE("a"), SLICE("never comes"), SLICE("he")};

/* Ids of a beginning: of the group as far as all go together, then of one of its branches. */
static uint32_t common_id(uint64_t seed, uint32_t group, uint32_t branch, uint32_t at)
{
    uint64_t random = seed ^ (uint64_t)group << 32 ^ at ^ (at < 48 ? 0 : (uint64_t)branch << 48);

    rig_below(&random, 2);
    return 3 + rig_below(&random, MIX_VOCAB - 3);
}

static void make_prompt(struct engine_request *request, const struct mix_kind *kind, uint32_t *ids,
                        uint64_t *random)
{
    const uint32_t group = (uint32_t)request->group, branch = rig_below(random, 3);
    const uint32_t common = group > 0 ? rig_below(random, kind->growing ? 2 : 4) * 40 : 0;
    const uint32_t longest = rig_below(random, 4) > 0 || kind->growing ? 20 : 80;

    request->prompt = ids;
    request->prompt_len = common + 1 + rig_below(random, longest);
    for (uint32_t i = 0; i < request->prompt_len; i++)
        ids[i] = i < common ? common_id(kind->seed, group, branch, i)
                            : 3 + rig_below(random, MIX_VOCAB - 3);
}

static struct engine_sampling make_sampling(uint64_t *random)
{
    return (struct engine_sampling){
        .temperature = rig_below(random, 3) == 0 ? 0 : 0.5f + (float)rig_below(random, 3) * 0.5f,
        .top_p = rig_below(random, 3) == 0 ? 0.8f : 1,
        .min_p = rig_below(random, 4) == 0 ? 0.05f : 0,
        .top_k = rig_below(random, 4) == 0 ? 40 : 0,
        .seed = rig_below(random, 50),
        .choice = rig_below(random, 3),
    };
}

static void make_request(struct mix *mix, uint32_t i, const struct mix_kind *kind, uint64_t *random)
{
    struct engine_request *request = &mix->request[i];

    if (i > 0 && rig_below(random, 8) == 0) { /* another choice of the one before */
        *request = mix->request[i - 1];
        request->sampling.choice++;
    } else {
        request->kind = rig_below(random, 7) == 0 ? ENGINE_EMBED : ENGINE_GENERATE;
        request->group = rig_below(random, MIX_GROUPS);
        make_prompt(request, kind, mix->ids + (size_t)i * MIX_PROMPT_MAX, random);
        request->sampling = make_sampling(random);
        request->ignore_eos = rig_below(random, 4) == 0 || kind->growing;
        request->include_stop = rig_below(random, 2) == 0;
        request->logprobs = rig_below(random, 2) == 0;
        if (rig_below(random, 4) == 0) {
            request->stop = stops;
            request->stop_len = 3;
        }
    }
    request->tokens_max = 1 + rig_below(random, rig_below(random, 3) == 0 ? kind->tokens_max : 8);
    if (kind->growing)
        request->tokens_max = kind->tokens_max - rig_below(random, kind->tokens_max / 2);
    request->tag = i;
}

void mix_init(struct mix *mix, const struct mix_kind *kind, uint32_t len)
{
    uint64_t random = kind->seed;

    *mix = (struct mix){.len = len};
    mix->request = xcalloc(len, sizeof(*mix->request));
    mix->outcome = xcalloc(len, sizeof(*mix->outcome));
    mix->ids = xcalloc((size_t)len * MIX_PROMPT_MAX, sizeof(*mix->ids));
    assert_true(kind->tokens_max <= RIG_TOKENS_MAX);
    for (uint32_t i = 0; i < len; i++)
        make_request(mix, i, kind, &random);
}

void mix_release(struct mix *mix)
{
    free(mix->request);
    free(mix->outcome);
    free(mix->ids);
    *mix = (struct mix){0};
}

void mix_poll(struct mix *mix, struct engine *engine)
{
    struct engine_event event;

    while (engine_poll(engine, &event)) {
        assert_true(event.tag < mix->len && !mix->outcome[event.tag].seen);
        rig_keep(&mix->outcome[event.tag], engine, &event);
        mix->seen++;
    }
}

static uint32_t *make_order(const struct mix *mix, uint64_t shuffle)
{
    uint32_t *order = xcalloc(mix->len, sizeof(*order));

    for (uint32_t i = 0; i < mix->len; i++)
        order[i] = i;
    for (uint32_t i = mix->len; shuffle > 0 && i > 1; i--) {
        const uint32_t other = rig_below(&shuffle, i), kept = order[i - 1];

        order[i - 1] = order[other];
        order[other] = kept;
    }
    return order;
}

struct engine *mix_run(struct mix *mix, const struct engine_options *options,
                       const struct mix_way *way)
{
    struct engine *engine = rig_open(options);
    uint32_t *order = make_order(mix, way->shuffle), next = 0;
    struct engine_step_info info = {0};

    engine->forecasts = !way->no_forecasts;
    memset(mix->outcome, 0, mix->len * sizeof(*mix->outcome));
    mix->seen = 0;
    for (int turns = 0; !info.idle || next < mix->len; turns++) {
        for (; next < mix->len; next++) {
            struct engine_request request = mix->request[order[next]];
            enum err rc;

            request.group = way->apart ? 0 : request.group;
            rc = engine_submit(engine, &request);
            assert_true(rc == ERR_OK || rc == ERR_AGAIN);
            if (rc == ERR_AGAIN)
                break;
        }
        assert_true(turns < TURNS_MAX);
        assert_int_equal(engine_step(engine, &info), ERR_OK);
        if (turns % CHECK_EVERY == 0)
            rig_check(engine);
        mix_poll(mix, engine);
    }
    rig_check_empty(engine);
    assert_int_equal(mix->seen, mix->len);
    free(order);
    return engine;
}

void mix_check_same(const struct mix *mix, const struct outcome *expected)
{
    for (uint32_t i = 0; i < mix->len; i++)
        rig_check_same(&mix->outcome[i], &expected[i]);
}

static char model_path[128];

int mix_make_model(void **state)
{
    const struct tiny_options tiny = {.seed = 5,
                                      .layers = 2,
                                      .embed = 32,
                                      .heads = 2,
                                      .kv_heads = 1,
                                      .head_dim = 16,
                                      .ff = 32,
                                      .vocab = MIX_VOCAB};
    struct buffer file = tiny_llama(&tiny);

    (void)state;
    tiny_save(&file, model_path, sizeof(model_path));
    buffer_release(&file);
    return 0;
}

int mix_remove_model(void **state)
{
    (void)state;
    return unlink(model_path);
}

struct engine_options mix_options(const char *backend)
{
    struct engine_options options = rig_options();

    options.backend = backend;
    options.model_path = model_path;
    options.waiting_max = 100;
    options.rows_max = 64;
    options.context_max = MIX_CONTEXT;
    options.threads = 1;
    return options;
}

void mix_run_alone(struct mix *mix, const struct engine_options *options, struct outcome *ret)
{
    const struct mix_way apart = {.apart = true};
    struct engine_options one = *options;

    one.sequences_max = 1;
    one.rows_max = MIX_CONTEXT;
    engine_close(mix_run(mix, &one, &apart));
    memcpy(ret, mix->outcome, mix->len * sizeof(*ret));
}

void mix_for_backends(void (*check)(const char *backend))
{
    const char *only = getenv("MSERVE_TEST_BACKEND"), *why;
    int checked = 0;

    for (int i = 0; device_table[i] != NULL; i++) {
        const struct device_ops *device = device_table[i];

        const bool named = strcmp(device->name, only != NULL ? only : "cuda-emu") == 0;

        if (!device->needs_model || named != (only != NULL) ||
            (device->usable != NULL && !device->usable(&why)))
            continue;
        check(device->name);
        checked++;
    }
    assert_true(checked > 0);
}
