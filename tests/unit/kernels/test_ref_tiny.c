/*
 * test_ref_tiny.c: the reference backend on small random models of odd shapes: against the formulas
 * in double precision, in every number format, with poison where nothing may be read.
 */
#include "kernels/ref/ref_device.h"

#include "drive.h"
#include "kernels/model/forward.h"
#include "kernels/ref/ref.h"
#include "naive.h"
#include "tiny_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PROMPT_MAX = 400, VOCAB = TINY_VOCAB };

/* All logits that a run made, row by row, as the backend's memory had them. */
struct logits {
    float *value; /* [cap][VOCAB] */
    uint32_t len;
    uint32_t cap;
};

static void keep_logits(struct drive *drive, const struct step *step, void *arg)
{
    const struct backend *backend = forward_backend(drive->device);
    struct logits *logits = arg;

    for (uint32_t i = 0; i < step->wanted; i++) {
        assert_true(logits->len < logits->cap);
        memcpy(logits->value + (size_t)logits->len++ * VOCAB,
               backend->act[ACT_LOGITS] + (size_t)i * VOCAB, VOCAB * sizeof(float));
    }
}

/* Heads of ten, a third rotated, frequencies of the file, three queries a key, own output matrix. */
static const struct tiny_options odd = {.seed = 5,
                                        .layers = 3,
                                        .heads = 6,
                                        .kv_heads = 2,
                                        .head_dim = 10,
                                        .embed = 36,
                                        .ff = 52,
                                        .rope_dim = 4,
                                        .key_length = true,
                                        .rope_freqs = true,
                                        .untied = true};

/* Prompt and what the model says after it, each row's logits against doubles. */
static void test_logits_are_those_of_the_formulas(void **state)
{
    const struct tiny_options shapes[] = {odd, {.seed = 9}, {.kv_heads = 1}, {.kv_heads = 4}};
    double *want = xcalloc((size_t)PROMPT_MAX * VOCAB, sizeof(*want));

    (void)state;
    for (size_t shape = 0; shape < sizeof(shapes) / sizeof(shapes[0]); shape++) {
        struct buffer file;
        struct model *model = tiny_open(&shapes[shape], &file);
        struct logits logits = {xcalloc(40 * VOCAB, sizeof(float)), 0, 40};
        uint32_t ids[PROMPT_MAX];
        struct drive_sequence sequence = {
            .prompt = ids, .prompt_len = 290, .tokens_max = 20, .chunk = 33};
        struct drive drive;
        double worst = 0.0;

        tiny_ids(ids, 290, shape);
        drive_open_exact(&drive, &ref_device, model, 1, 400, 400, 1);
        drive.on_step = keep_logits;
        drive.arg = &logits;
        drive_run(&drive, &sequence, 1, 3);
        assert_int_equal(logits.len, 20);
        memcpy(ids + 290, sequence.tokens, 20 * sizeof(*ids));
        naive_forward(model, ids, 310, want, NULL);
        for (uint32_t i = 0; i < 20; i++)
            worst = fmax(worst, naive_nmse(want + (size_t)(289 + i) * VOCAB,
                                           logits.value + (size_t)i * VOCAB, VOCAB));
        print_message("shape %zu: NMSE %.1e\n", shape, worst);
        assert_true(worst < 1e-11);
        drive_close(&drive);
        model_close(model);
        buffer_release(&file);
        free(logits.value);
    }
    free(want);
}

/* Halves in the KV cache cost about 1e-7 of the logits' square, not more. */
static void test_halves_in_the_cache_stay_close(void **state)
{
    struct buffer file;
    struct model *model = tiny_open(&odd, &file);
    struct logits logits = {xcalloc(VOCAB, sizeof(float)), 0, 1};
    double *want = xcalloc((size_t)PROMPT_MAX * VOCAB, sizeof(*want));
    uint32_t ids[PROMPT_MAX];
    struct drive_sequence sequence = {.prompt = ids, .prompt_len = 300, .tokens_max = 1};
    struct drive drive;
    double nmse;

    (void)state;
    tiny_ids(ids, 300, 4);
    drive_open(&drive, &ref_device, model, 1, 300, 400, 1);
    drive.on_step = keep_logits;
    drive.arg = &logits;
    drive_run(&drive, &sequence, 1, 3);
    naive_forward(model, ids, 300, want, NULL);
    nmse = naive_nmse(want + 299 * VOCAB, logits.value, VOCAB);
    print_message("NMSE %.1e\n", nmse);
    assert_true(nmse > 1e-12 && nmse < 1e-6);
    assert_string_equal(drive.device->ops->numerics(drive.device), "ref/scalar/f32/kv-f16/1");
    drive_close(&drive);
    model_close(model);
    buffer_release(&file);
    free(logits.value);
    free(want);
}

static void embed(const struct model *model, const uint32_t *ids, uint32_t len, uint32_t chunk,
                  float *out)
{
    struct drive_sequence sequence = {.prompt = ids, .prompt_len = len, .chunk = chunk};
    struct drive drive;

    drive_open_exact(&drive, &ref_device, model, 1, 400, 400, 1);
    drive_run(&drive, &sequence, 1, 3);
    assert_int_equal(sequence.bad, 0);
    memcpy(out, sequence.embedding, model->hyper.embed * sizeof(float));
    drive_close(&drive);
}

static void test_an_embedding_is_the_mean_of_hidden_states_with_length_one(void **state)
{
    struct buffer file;
    struct model *model = tiny_open(&odd, &file);
    double hidden[50 * 36], mean[36] = {0}, squares = 0.0;
    uint32_t ids[50];
    float got[36];

    (void)state;
    tiny_ids(ids, 50, 8);
    embed(model, ids, 50, 7, got);
    naive_forward(model, ids, 50, NULL, hidden);
    for (uint32_t t = 0; t < 50; t++)
        for (uint32_t i = 0; i < 36; i++)
            mean[i] += hidden[t * 36 + i];
    for (uint32_t i = 0; i < 36; i++)
        squares += mean[i] * mean[i];
    for (uint32_t i = 0; i < 36; i++)
        assert_true(fabs((double)got[i] - mean[i] / sqrt(squares)) < 1e-6);
    model_close(model);
    buffer_release(&file);
}

/* A file in F16, BF16 or Q8_0 and a file of the floats that these stand for: the same bits. */
static void test_quantised_files_equal_their_floats(void **state)
{
    static const enum tensor_type types[] = {TENSOR_F16, TENSOR_BF16, TENSOR_Q8_0};
    uint32_t ids[60];
    float before[64] = {0};

    (void)state;
    tiny_ids(ids, 60, 2);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct tiny_options options = {.seed = 3, .embed = 64, .head_dim = 16, .untied = true};
        struct buffer file, plain;
        struct model *model, *floats;
        float got[64], want[64];

        options.type = types[i];
        model = tiny_open(&options, &file);
        options.type = TENSOR_F32;
        options.rounded = types[i];
        floats = tiny_open(&options, &plain);
        assert_int_equal(model->layer[0].attn_q->type, types[i]);
        assert_int_equal(floats->layer[0].attn_q->type, TENSOR_F32);
        embed(model, ids, 60, 0, got);
        embed(floats, ids, 60, 0, want);
        assert_memory_equal(got, want, sizeof(got));
        assert_memory_not_equal(got, before, sizeof(got)); /* and no two formats are the same */
        memcpy(before, got, sizeof(before));
        model_close(model);
        model_close(floats);
        buffer_release(&file);
        buffer_release(&plain);
    }
}

static void fill_with_nan(struct drive *drive)
{
    struct backend *backend = forward_backend(drive->device);
    size_t len = (size_t)drive->limits.blocks * BLOCK * backend->hyper.layers *
                 backend->hyper.kv_heads * backend->hyper.head_dim;

    for (size_t i = 0; i < len; i++)
        ref_of(backend)->k[i] = ref_of(backend)->v[i] = NAN;
}

/* KV blocks come from other sequences: what they left there, here NaN, must not be read. */
static void test_stale_kv_is_never_read(void **state)
{
    struct buffer file;
    struct model *model = tiny_open(&odd, &file);
    uint32_t ids[3][70];
    struct drive_sequence clean[3] = {{0}}, poisoned[3];
    struct drive drive;

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        tiny_ids(ids[i], 70, i);
        clean[i] = (struct drive_sequence){.prompt = ids[i],
                                           .prompt_len = 31 + i * 17,
                                           .tokens_max = i < 2 ? 40 : 0,
                                           .chunk = 9 + i};
        poisoned[i] = clean[i];
    }
    drive_open(&drive, &ref_device, model, 3, 64, 128, 1);
    drive_run(&drive, clean, 3, 1);
    drive_close(&drive);
    drive_open(&drive, &ref_device, model, 3, 64, 128, 2);
    fill_with_nan(&drive);
    drive_run(&drive, poisoned, 3, 2);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(poisoned[i].bad, 0);
        assert_memory_equal(clean[i].tokens, poisoned[i].tokens, sizeof(clean[i].tokens));
        assert_memory_equal(clean[i].embedding, poisoned[i].embedding, sizeof(clean[i].embedding));
    }
    drive_close(&drive);
    model_close(model);
    buffer_release(&file);
}

/* One id whose embedding is NaN: the sequence that has it is flagged, the others never notice. */
static void test_nan_stays_in_its_sequence(void **state)
{
    struct buffer file;
    struct model *model = tiny_open(&odd, &file);
    float *row = (float *)(uintptr_t)model->token_embd->data + 7 * 36;
    uint32_t good[] = {1, 20, 30, 40}, bad[] = {1, 20, 7, 40};
    struct drive_sequence alone = {.prompt = good, .prompt_len = 4, .tokens_max = 5};
    struct drive_sequence both[3] = {alone, alone, alone};
    struct drive drive;

    (void)state;
    row[3] = NAN;
    both[1].prompt = both[2].prompt = bad;
    both[2].tokens_max = 0;
    drive_open(&drive, &ref_device, model, 3, 64, 128, 1);
    drive_run(&drive, &alone, 1, 1);
    drive_run(&drive, both, 3, 1);
    assert_int_equal(alone.bad, 0);
    assert_int_equal(both[0].bad, 0);
    assert_int_equal(both[1].bad, 5);
    assert_int_equal(both[2].bad, 1);
    assert_memory_equal(alone.tokens, both[0].tokens, sizeof(alone.tokens));
    drive_close(&drive);
    model_close(model);
    buffer_release(&file);
}

/* A token is sample_token() of the logits at the position that it will have. */
static void test_sampling_is_by_seed_and_position(void **state)
{
    struct buffer file;
    struct model *model = tiny_open(&odd, &file);
    struct logits logits = {xcalloc(30 * VOCAB, sizeof(float)), 0, 30};
    struct sample_scratch scratch = {xcalloc(VOCAB, 4), xcalloc(VOCAB, 4), NULL};
    uint32_t ids[10];
    struct drive_sequence sequence = {
        .prompt = ids,
        .prompt_len = 10,
        .tokens_max = 30,
        .sampling = {.temperature = 1.5f, .top_p = 0.9f, .top_k = 50, .seed = 77, .choice = 2}};
    struct drive drive;
    uint32_t other = 0;

    (void)state;
    tiny_ids(ids, 10, 6);
    drive_open(&drive, &ref_device, model, 1, 64, 128, 1);
    drive.on_step = keep_logits;
    drive.arg = &logits;
    drive_run(&drive, &sequence, 1, 1);
    for (uint32_t i = 0; i < 30; i++) {
        const float *row = logits.value + (size_t)i * VOCAB;

        assert_int_equal(sequence.tokens[i],
                         sample_token(row, VOCAB, &sequence.sampling, 10 + i, &scratch));
        other += sequence.tokens[i] != sample_greedy(row, VOCAB);
    }
    assert_true(other > 5);
    drive_close(&drive);
    model_close(model);
    buffer_release(&file);
    free(logits.value);
    free(scratch.weight);
    free(scratch.heap);
}

/* More wanted rows than logits fit at once: every one gets its own. */
static void test_a_hundred_sequences_are_sampled_in_one_step(void **state)
{
    enum { SEQUENCES = 100 };
    struct buffer file;
    struct model *model = tiny_open(&odd, &file);
    struct drive_sequence *many = xcalloc(SEQUENCES, sizeof(*many));
    uint32_t ids[SEQUENCES][4];
    struct drive drive;

    (void)state;
    drive_open(&drive, &ref_device, model, SEQUENCES, 400, 32, 2);
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        tiny_ids(ids[i], 4, i * 31);
        many[i] = (struct drive_sequence){
            .prompt = ids[i], .prompt_len = 4, .tokens_max = i % 5 == 0 ? 0 : 6};
    }
    drive_run(&drive, many, SEQUENCES, 1);
    assert_int_equal(drive.steps, 6);
    for (uint32_t i = 0; i < SEQUENCES; i += 9) {
        struct drive_sequence alone = {
            .prompt = ids[i], .prompt_len = 4, .tokens_max = many[i].tokens_max};

        drive_run(&drive, &alone, 1, 1);
        assert_memory_equal(alone.tokens, many[i].tokens, sizeof(alone.tokens));
        assert_memory_equal(alone.embedding, many[i].embedding, sizeof(alone.embedding));
    }
    drive_close(&drive);
    model_close(model);
    buffer_release(&file);
    free(many);
}

/* A plan is what opening takes: more threads, more rows, more blocks, by their sizes. */
static void test_a_plan_counts_what_is_allocated(void **state)
{
    struct buffer file;
    struct model *model = tiny_open(&(struct tiny_options){0}, &file);
    struct device_limits limits = {
        .rows_max = 10, .sequences_max = 4, .blocks = 7, .context_max = 100, .threads = 1};
    struct engine_plan plan, more;

    (void)state;
    assert_int_equal(ref_device.plan(model, &limits, &plan), ERR_OK);
    assert_int_equal(plan.kv_tokens, 7 * 32);
    assert_int_equal(plan.kv_bytes, 7 * 32 * 2 /* layers */ * 2 /* heads */ * 8 * 2 * 4);
    /* 320 x 32, and a layer's 64 x 32, 32 x 32, 128 x 32, 32 x 64, twice 32; tiles are full. */
    assert_int_equal(plan.weight_bytes,
                     4 * (320 * 32 + 32 + 2 * (64 * 32 + 32 * 32 + 128 * 32 + 32 * 64 + 64)));
    limits.rows_max++;
    assert_int_equal(ref_device.plan(model, &limits, &more), ERR_OK);
    assert_int_equal(more.activation_bytes - plan.activation_bytes,
                     4 * (32 + 32 + 64 + 32 + 32 + 128 + 64) + 8 * 4 + 8 + 2 * 4 /* ids */);
    assert_int_equal(more.kv_bytes, plan.kv_bytes);
    model_close(model);
    buffer_release(&file);
}

/* done() with a time limit comes back; closing with steps in flight ends the worker. */
static void test_waiting_has_a_limit_and_closing_does_not_wait(void **state)
{
    struct buffer file;
    struct model *model = tiny_open(&(struct tiny_options){.layers = 8, .ff = 1024}, &file);
    struct step_result result;
    struct device *device;
    struct drive drive;

    (void)state;
    drive_open(&drive, &ref_device, model, 1, 256, 256, 1);
    device = drive.device;
    for (unsigned slot = 0; slot < DEVICE_STEPS; slot++) {
        struct step *step = device->ops->begin(device, slot);

        step->sequences = step->wanted = 1;
        step->rows = step->seq_rows[0] = 128;
        step->seq_slot[0] = step->seq_row[0] = step->want_seq[0] = 0;
        step->seq_ctx[0] = slot * 128;
        step->want_row[0] = 127;
        for (uint32_t i = 0; i < 128; i++) {
            step->token[i] = (int32_t)i;
            device->ops->slots(device)->blocks[i / 32 + slot * 4] = i / 32 + slot * 4;
        }
        device->ops->forward(device, slot);
    }
    /* Nothing was sampled, so nothing can be done. */
    assert_int_equal(device->ops->done(device, 0, 0, &result), ERR_AGAIN);
    assert_int_equal(device->ops->done(device, 0, 5, &result), ERR_AGAIN);
    drive_close(&drive);
    ref_device.close(NULL);
    model_close(model);
    buffer_release(&file);
}

struct counts {
    uint8_t seen[5000];
};

static void count(void *arg, uint32_t begin, uint32_t end, uint32_t thread)
{
    struct counts *counts = arg;

    assert_true(thread < 3);
    for (uint32_t i = begin; i < end; i++)
        counts->seen[i]++;
}

static void test_a_team_does_every_item_once(void **state)
{
    struct team *team = team_new(3, false);

    (void)state;
    for (uint32_t items = 0; items <= 5000; items = items * 3 + 1)
        for (uint64_t work = 1; work < 2000000; work *= 100) {
            struct counts counts = {{0}};

            team_run(team, items, work, count, &counts);
            for (uint32_t i = 0; i < 5000; i++)
                assert_int_equal(counts.seen[i], i < items);
        }
    team_free(team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_are_those_of_the_formulas),
        cmocka_unit_test(test_halves_in_the_cache_stay_close),
        cmocka_unit_test(test_an_embedding_is_the_mean_of_hidden_states_with_length_one),
        cmocka_unit_test(test_quantised_files_equal_their_floats),
        cmocka_unit_test(test_stale_kv_is_never_read),
        cmocka_unit_test(test_nan_stays_in_its_sequence),
        cmocka_unit_test(test_sampling_is_by_seed_and_position),
        cmocka_unit_test(test_a_hundred_sequences_are_sampled_in_one_step),
        cmocka_unit_test(test_a_plan_counts_what_is_allocated),
        cmocka_unit_test(test_waiting_has_a_limit_and_closing_does_not_wait),
        cmocka_unit_test(test_a_team_does_every_item_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
