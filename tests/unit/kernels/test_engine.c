/* test_engine.c: the life of requests in an engine on the simulated device. */
#include "engine_rig.h"

static struct outcomes first, second;

static int clear(void **state)
{
    (void)state;
    memset(&first, 0, sizeof(first));
    memset(&second, 0, sizeof(second));
    return 0;
}

static void submit(struct engine *engine, uint32_t number)
{
    uint32_t prompt[128];
    struct engine_request request = rig_request(number, prompt);

    assert_int_equal(engine_submit(engine, &request), ERR_OK);
}

/* One request, from tokens in to tokens, text and cost out. */
static void test_a_request_gives_its_tokens_and_their_text(void **state)
{
    struct engine_options options = rig_options();
    struct engine *engine = rig_open(&options);

    (void)state;
    submit(engine, 7);
    rig_run(engine, &first);
    assert_int_equal(first.len, 1);
    assert_int_equal(first.of[7].finish, ENGINE_LENGTH);
    assert_int_equal(first.of[7].tokens_len, 1 + 7 * 13 % 60);
    assert_int_equal(first.of[7].cost.output_tokens, first.of[7].tokens_len);
    assert_int_equal(first.of[7].cost.prompt_tokens, 50);
    assert_int_equal(first.of[7].text_len, first.of[7].tokens_len);
    for (size_t i = 0; i < first.of[7].text_len; i++)
        assert_int_equal((uint8_t)first.of[7].text[i], first.of[7].tokens[i]);
    assert_true(first.of[7].cost.ns > 0);
    engine_close(engine);
}

/* A crowd shares steps, slots and the pool; each of it answers as if it were alone. */
static void test_tokens_do_not_depend_on_the_company(void **state)
{
    struct engine_options options = rig_options();
    struct engine *engine = rig_open(&options);

    (void)state;
    for (uint32_t i = 0; i < 40; i++)
        submit(engine, i);
    rig_run(engine, &first);
    engine_close(engine);
    for (uint32_t i = 0; i < 40; i++) {
        engine = rig_open(&options);
        submit(engine, i);
        rig_run(engine, &second);
        rig_same_tokens(&first.of[i], &second.of[i]);
        engine_close(engine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_request_gives_its_tokens_and_their_text, clear),
        cmocka_unit_test_setup(test_tokens_do_not_depend_on_the_company, clear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
