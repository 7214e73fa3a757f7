/*
 * test_ref.c: a backend on a trained model: llama.cpp's results, llama2.c's text, and the same bits in
 * whatever company and pieces. Built once for each backend: TESTED is its struct device_ops.
 */
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/isa.h"
#include "kernels/ref/ref_device.h"

#include "drive.h"
#include "goldens.h"
#include "tiny_gguf.h"
#include "tests/unit/shared.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CASES = 12, TOKENS = 64, CONTEXT = 256 };

static struct goldens *goldens;
static struct model *model;

/* "cpu-avx2" needs a machine that runs avx2; then all tests skip as they do without the files. */
static bool machine_runs(const char *backend)
{
    enum isa isa;

    if (strncmp(backend, "cpu-", 4) != 0 || isa_find(backend + 4, &isa))
        return true;
    print_message("this machine does not run %s\n", backend + 4);
    return false;
}

static int open_goldens(void **state)
{
    (void)state;
    goldens = machine_runs(TESTED.name) ? goldens_open() : NULL;
    if (goldens != NULL)
        assert_int_equal(model_open(goldens->model, &model), ERR_OK);
    return 0;
}

static int close_goldens(void **state)
{
    (void)state;
    model_close(model);
    if (goldens != NULL)
        goldens_close(goldens);
    return 0;
}

/* Sequences 0 .. 11 generate, 12 .. 23 embed. */
static struct drive_sequence *new_cases(void)
{
    struct drive_sequence *sequences = xcalloc(2 * CASES, sizeof(*sequences));

    for (uint32_t i = 0; i < 2 * CASES; i++) {
        sequences[i].prompt = goldens->golden[i % CASES].ids;
        sequences[i].prompt_len = goldens->golden[i % CASES].ids_len;
        sequences[i].tokens_max = i < CASES ? TOKENS : 0;
        sequences[i].sampling.top_p = 1.0f;
    }
    return sequences;
}

static struct slice text_of(const uint32_t *tokens, uint32_t len, struct buffer *out)
{
    buffer_clear(out);
    for (uint32_t i = 0; i < len; i++) {
        struct slice piece = tokenizer_piece(model->tokenizer, tokens[i]);

        buffer_add(out, piece.data, piece.len);
    }
    return buffer_slice(out);
}

static void check_golden(const struct drive_sequence *generated,
                         const struct drive_sequence *embedded, const struct golden *golden)
{
    struct buffer out = {0};
    struct slice text = text_of(generated->tokens, generated->tokens_len, &out);
    double worst = 0.0;

    if (text.len != golden->text.len || memcmp(text.data, golden->text.data, text.len) != 0)
        fail_msg("\"%.*s\" instead of \"%.*s\"", (int)text.len, text.data, (int)golden->text.len,
                 golden->text.data);
    for (uint32_t i = 0; i < golden->embedding_len; i++)
        worst = fmax(worst, fabs((double)embedded->embedding[i] - (double)golden->embedding[i]));
    print_message("embedding: largest difference %.1e\n", worst);
    assert_true(worst < 1e-4);
    buffer_release(&out);
}

/* What llama.cpp says to the same file and prompts. */
static void test_the_twelve_reference_results(void **state)
{
    struct drive_sequence *sequences;
    struct drive drive;

    (void)state;
    if (goldens == NULL)
        skip();
    assert_int_equal(goldens->len, CASES);
    assert_int_equal(goldens->golden[0].embedding_len, model->hyper.embed);
    sequences = new_cases();
    drive_open(&drive, &TESTED, model, 2 * CASES, 2000, CONTEXT, 1);
    drive_run(&drive, sequences, 2 * CASES, 1);
    for (uint32_t i = 0; i < CASES; i++)
        check_golden(&sequences[i], &sequences[CASES + i], &goldens->golden[i]);
    drive_close(&drive);
    free(sequences);
}

static void expect_equal(const struct drive_sequence *a, const struct drive_sequence *b,
                         uint32_t len)
{
    for (uint32_t i = 0; i < len; i++) {
        assert_int_equal(a[i].tokens_len, b[i].tokens_len);
        assert_memory_equal(a[i].tokens, b[i].tokens, a[i].tokens_len * sizeof(uint32_t));
        assert_memory_equal(a[i].embedding, b[i].embedding, sizeof(a[i].embedding));
    }
}

/*
 * Prompts read a row at a time, by sevens or whole, alone or with others that join later, one or two
 * steps in flight, one to three threads, blocks scattered anew: the same tokens and the same bits of
 * each embedding, which depends on every hidden state of the prompt.
 */
static void test_company_and_pieces_change_no_bit(void **state)
{
    static const struct {
        uint32_t chunk, joins, rows_max, threads, depth;
    } ways[] = {{1, 0, 400, 1, 2}, {7, 3, 64, 2, 2}, {0, 5, 700, 3, 1}, {13, 1, 24, 2, 1}};
    struct drive_sequence *first;
    struct drive drive;

    (void)state;
    if (goldens == NULL)
        skip();
    first = new_cases();
    drive_open(&drive, &TESTED, model, 2 * CASES, 2000, CONTEXT, 1);
    drive_run(&drive, first, 2 * CASES, 1);
    drive_close(&drive);
    for (size_t way = 0; way < sizeof(ways) / sizeof(ways[0]); way++) {
        struct drive_sequence *again = new_cases();

        for (uint32_t i = 0; i < 2 * CASES; i++) {
            again[i].chunk = ways[way].chunk;
            again[i].joins_step = i * ways[way].joins;
        }
        drive_open(&drive, &TESTED, model, 2 * CASES, ways[way].rows_max, CONTEXT,
                   ways[way].threads);
        drive.depth = ways[way].depth;
        drive_run(&drive, again, 2 * CASES, 7 + way);
        expect_equal(first, again, 2 * CASES);
        drive_close(&drive);
        free(again);
    }
    free(first);
}

static void test_a_sequence_alone_gives_what_it_gives_in_company(void **state)
{
    struct drive_sequence *together, *alone;
    struct drive drive;

    (void)state;
    if (goldens == NULL)
        skip();
    together = new_cases();
    alone = new_cases();
    drive_open(&drive, &TESTED, model, 2 * CASES, 2000, CONTEXT, 2);
    drive_run(&drive, together, 2 * CASES, 1);
    drive_close(&drive);
    drive_open(&drive, &TESTED, model, 1, 200, CONTEXT, 2);
    for (uint32_t i = 0; i < 2 * CASES; i++)
        drive_run(&drive, &alone[i], 1, i);
    expect_equal(together, alone, 2 * CASES);
    drive_close(&drive);
    free(together);
    free(alone);
}

/* The text that llama2.c prints for this model: 200 greedy steps from nothing. */
static void test_two_hundred_steps_from_nothing(void **state)
{
    const char *path = shared_path("models/stories260K.greedy.steps200.expected.txt");
    const uint32_t begin = 1;
    struct drive_sequence sequence = {.prompt = &begin, .prompt_len = 1, .tokens_max = 200};
    struct arena arena = {0};
    struct buffer out = {0};
    struct drive drive;
    struct slice want, text;

    (void)state;
    if (path == NULL || goldens == NULL)
        skip();
    want = read_whole(&arena, path);
    drive_open(&drive, &TESTED, model, 1, 200, CONTEXT, 1);
    drive.depth = 2;
    drive_run(&drive, &sequence, 1, 1);
    text = text_of(sequence.tokens, 200, &out);
    if (text.data[0] == ' ') /* llama2.c leaves out the blank after <s> */
        text = (struct slice){text.data + 1, text.len - 1};
    assert_int_equal(text.len, want.len);
    assert_memory_equal(text.data, want.data, text.len);
    drive_close(&drive);
    buffer_release(&out);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_twelve_reference_results),
        cmocka_unit_test(test_company_and_pieces_change_no_bit),
        cmocka_unit_test(test_a_sequence_alone_gives_what_it_gives_in_company),
        cmocka_unit_test(test_two_hundred_steps_from_nothing),
    };

    return cmocka_run_group_tests(tests, open_goldens, close_goldens);
}
