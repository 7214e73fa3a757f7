/*
 * test_demo_model.c: the project's own model (deploy/demo) against what llama.cpp says to 42 prompts:
 * token ids, greedy answers, and the logits after each prompt.
 */
#include "kernels/cpu/cpu_device.h"
#include "kernels/ref/ref_device.h"

#include "config/json.h"
#include "drive.h"
#include "goldens.h"
#include "kernels/model/forward.h"
#include "kernels/host/host.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CASES = 42, IDS_MAX = 1024, VOCAB = 260, ANSWER_MAX = 16, END = 2 };

struct reference {
    const struct json *line;
    uint32_t ids[IDS_MAX];
    uint32_t ids_len;
};

static struct arena arena;
static struct model *model;
static struct reference references[CASES];

static uint32_t read_ids(const struct json *array, uint32_t *ids)
{
    const struct json *item;
    uint32_t len = 0;

    json_each(item, array)
    {
        assert_true(len < IDS_MAX);
        ids[len++] = (uint32_t)strtoul(item->text.data, NULL, 10);
    }
    return len;
}

static int open_demo(void **state)
{
    struct slice text = read_whole(&arena, MSERVE_SOURCE "/deploy/demo/reference.jsonl");
    uint32_t len = 0;

    (void)state;
    assert_int_equal(model_open(MSERVE_SOURCE "/deploy/demo/mserve-demo-lang.gguf", &model),
                     ERR_OK);
    for (const char *at = text.data, *end; *at != '\0'; at = end + 1) {
        struct json *line;

        end = strchr(at, '\n');
        assert_non_null(end);
        assert_true(len < CASES);
        assert_int_equal(
            json_parse(&arena, (struct slice){at, (size_t)(end - at)}, NULL, &line, NULL), ERR_OK);
        references[len].line = line;
        references[len].ids_len = read_ids(json_get(line, "prompt_token_ids"), references[len].ids);
        len++;
    }
    assert_int_equal(len, CASES);
    return 0;
}

static int close_demo(void **state)
{
    (void)state;
    model_close(model);
    arena_release(&arena);
    return 0;
}

static void expect_ids(const struct reference *reference, struct tokens *tokens)
{
    assert_int_equal(tokens->len, reference->ids_len);
    assert_memory_equal(tokens->id, reference->ids, tokens->len * sizeof(*tokens->id));
    free(tokens->id);
}

/* Documents that spell special tokens, emoji, blanks and line ends of all kinds among them. */
static void test_prompts_and_conversations_give_the_same_ids(void **state)
{
    (void)state;
    assert_non_null(model->chat);
    for (int i = 0; i < CASES; i++) {
        const struct json *line = references[i].line, *item;
        struct chat_message messages[8];
        struct tokens tokens = {0}, chat = {0};
        uint32_t len = 0, bad;

        assert_int_equal(tokenizer_encode(model->tokenizer, json_get(line, "prompt")->text, true,
                                          IDS_MAX, &tokens),
                         ERR_OK);
        expect_ids(&references[i], &tokens);
        if (!json_equals(json_get(line, "form"), "chat"))
            continue;
        json_each(item, json_get(line, "messages")) messages[len++] =
            (struct chat_message){json_get(item, "role")->text, json_get(item, "content")->text};
        assert_int_equal(
            chat_encode(model->chat, model->tokenizer, messages, len, IDS_MAX, &chat, &bad),
            ERR_OK);
        expect_ids(&references[i], &chat);
    }
}

static void test_answers_are_the_same(void **state)
{
    struct drive_sequence *sequences = xcalloc(CASES, sizeof(*sequences));
    struct drive drive;

    (void)state;
    for (int i = 0; i < CASES; i++)
        sequences[i] = (struct drive_sequence){.prompt = references[i].ids,
                                               .prompt_len = references[i].ids_len,
                                               .tokens_max = ANSWER_MAX,
                                               .chunk = 100,
                                               .joins_step = (uint32_t)i / 4};
    drive_open(&drive, &TESTED, model, CASES, 512, IDS_MAX, 2);
    drive.depth = 2;
    drive_run(&drive, sequences, CASES, 1);
    for (int i = 0; i < CASES; i++) {
        bool stopped = json_equals(json_get(references[i].line, "finish"), "stop");
        uint32_t want[IDS_MAX];
        uint32_t len = read_ids(json_get(references[i].line, "token_ids"), want);

        assert_true(len <= ANSWER_MAX);
        assert_memory_equal(sequences[i].tokens, want, len * sizeof(*want));
        assert_true(stopped ? sequences[i].tokens[len] == END : len == ANSWER_MAX);
    }
    drive_close(&drive);
    free(sequences);
}

static void compare_logits(struct drive *drive, const struct step *step, void *arg)
{
    const float *got = forward_backend(drive->device)->act[ACT_LOGITS];
    const struct json *want = arg, *item;
    uint32_t id = 0;

    assert_int_equal(step->wanted, 1);
    json_each(item, want)
    {
        float difference = fabsf(strtof(item->text.data, NULL) - got[id++]);

        assert_true(difference < 1e-4f);
    }
    assert_int_equal(id, VOCAB);
}

/* With floats in the KV cache, as the reference was made. */
static void test_logits_are_the_same_to_a_ten_thousandth(void **state)
{
    struct drive drive;

    (void)state;
    drive_open_exact(&drive, &TESTED, model, 1, IDS_MAX, IDS_MAX, 2);
    drive.on_step = compare_logits;
    for (int i = 0; i < CASES; i++) {
        struct drive_sequence sequence = {
            .prompt = references[i].ids, .prompt_len = references[i].ids_len, .tokens_max = 1};

        drive.arg = (void *)(uintptr_t)json_get(references[i].line, "logits_first");
        drive_run(&drive, &sequence, 1, (uint64_t)i);
    }
    drive_close(&drive);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts_and_conversations_give_the_same_ids),
        cmocka_unit_test(test_answers_are_the_same),
        cmocka_unit_test(test_logits_are_the_same_to_a_ten_thousandth),
    };

    return cmocka_run_group_tests(tests, open_demo, close_demo);
}
