/* test_engine_ref.c: the whole engine on the reference backend: a trained model's reference results
 * out of engine_submit() and engine_poll(), and books that add up in real time. */
#include "kernels/engine.h"

#include "goldens.h"
#include "heard.h"
#include "kernels/text/tokenizer.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Built once more with "cpu" (meson.build). */
#ifndef BACKEND
#define BACKEND "ref"
#endif

static struct engine *open_engine(const struct goldens *goldens)
{
    const struct engine_options options = {
        .backend = BACKEND,
        .model_path = goldens->model,
        .model_sha256 = "047bf46455a544931cff6fef14d7910154c56afbc23ab1c5e56a72e69912c04b",
        .sequences_max = 8,
        .waiting_max = 64,
        .rows_max = 60,
        .context_max = 256,
        .kv_tokens = 640,
        .threads = 2,
    };
    struct engine *engine;

    heard_start(); /* it warns that the model was trained on less context */
    assert_int_equal(engine_open(&options, &engine), ERR_OK);
    assert_non_null(strstr(heard(), "context_max=256 trained=128"));
    heard_stop();
    return engine;
}

static void submit(struct engine *engine, const struct golden *golden, uint64_t tag, bool embed)
{
    struct tokens prompt = {0};
    struct engine_request request = {
        .tag = tag,
        .kind = embed ? ENGINE_EMBED : ENGINE_GENERATE,
        .tokens_max = embed ? 0 : 64,
        .sampling = {.top_p = 1.0f},
    };

    assert_int_equal(tokenizer_encode(engine_tokenizer(engine), golden->prompt, true, 256, &prompt),
                     ERR_OK);
    request.prompt = prompt.id;
    request.prompt_len = prompt.len;
    assert_int_equal(engine_submit(engine, &request), ERR_OK);
    free(prompt.id);
}

static void check(const struct engine_event *event, const struct golden *golden, bool embed)
{
    assert_int_equal(event->cost.prompt_tokens, golden->ids_len);
    assert_true(event->cost.ns > 0);
    if (embed) {
        for (uint32_t i = 0; i < golden->embedding_len; i++)
            assert_true(fabsf(event->embedding[i] - golden->embedding[i]) < 1e-4f);
        return;
    }
    assert_int_equal(event->finish, ENGINE_LENGTH);
    assert_int_equal(event->tokens_len, 64);
    assert_int_equal(event->text.len, golden->text.len);
    assert_memory_equal(event->text.data, golden->text.data, event->text.len);
}

/* 24 requests over eight places and a pool too small for them: chunked, waiting, evicted. */
static void test_reference_results_come_out_of_the_engine(void **state)
{
    struct goldens *goldens = goldens_open();
    struct engine_step_info info = {0};
    struct engine_event event;
    struct engine_books books;
    struct engine *engine;
    uint64_t delivered = 0;
    uint32_t events = 0;

    (void)state;
    if (goldens == NULL)
        skip();
    engine = open_engine(goldens);
    for (uint32_t i = 0; i < 24; i++)
        submit(engine, &goldens->golden[i / 2], i, i % 2 == 1);
    while (!info.idle) {
        assert_int_equal(engine_step(engine, &info), ERR_OK);
        while (engine_poll(engine, &event)) {
            check(&event, &goldens->golden[event.tag / 2], event.tag % 2 == 1);
            delivered += event.cost.ns;
            events++;
        }
    }
    assert_int_equal(events, 24);
    engine_idle(engine);
    engine_books(engine, &books);
    assert_int_equal(books.delivered_ns, delivered);
    assert_int_equal(books.live_ns, 0);
    assert_int_equal(books.held_ns, books.delivered_ns + books.shared_ns + books.recompute_ns +
                                        books.overhead_ns + books.idle_ns);
    assert_memory_equal(engine_model(engine)->numerics_text, BACKEND "/", sizeof(BACKEND));
    assert_non_null(strstr(engine_model(engine)->numerics_text, "/kv-f16/1"));
    engine_close(engine);
    goldens_close(goldens);
}

/* What cannot be opened says so, and leaves nothing behind. */
static void test_a_wrong_digest_is_refused(void **state)
{
    struct goldens *goldens = goldens_open();
    struct engine_options options = {
        .backend = BACKEND,
        .model_sha256 = "147bf46455a544931cff6fef14d7910154c56afbc23ab1c5e56a72e69912c04b",
        .sequences_max = 1,
        .waiting_max = 1,
        .rows_max = 1,
    };
    struct engine *engine;

    (void)state;
    if (goldens == NULL)
        skip();
    options.model_path = goldens->model;
    heard_start();
    assert_int_equal(engine_open(&options, &engine), ERR_MODEL);
    assert_non_null(strstr(heard(), "the file's sha256 is 047bf464"));
    options.model_path = "/nonexistent.gguf";
    assert_int_equal(engine_open(&options, &engine), ERR_MODEL);
    heard_stop();
    goldens_close(goldens);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_results_come_out_of_the_engine),
        cmocka_unit_test(test_a_wrong_digest_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
