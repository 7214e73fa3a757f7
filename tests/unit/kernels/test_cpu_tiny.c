/*
 * test_cpu_tiny.c: the `cpu` backend on small random models of odd shapes, on each instruction set
 * that this machine runs: `ref`'s logits, the same bits in whatever company and pieces, poison where
 * nothing may be read, and memory that is what the plan said.
 */
#include "kernels/cpu/cpu_device.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "drive.h"
#include "each_isa.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref_device.h"
#include "naive.h"
#include "tiny_model.h"

enum { VOCAB = TINY_VOCAB, PROMPT = 290, ROWS = 20, SEQUENCES = 8 };

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

static const struct tiny_options quantised = {.seed = 6,
                                              .heads = 4,
                                              .kv_heads = 1,
                                              .head_dim = 16,
                                              .embed = 64,
                                              .ff = 96,
                                              .type = TENSOR_Q8_0};

static const struct device_ops *device_or_skip(void **state)
{
    static const struct device_ops *const devices[] = {&cpu_scalar_device, &cpu_avx2_device,
                                                       &cpu_avx512_device};
    enum isa isa;

    if (!isa_find(*state, &isa)) {
        print_message("this machine does not run %s\n", (const char *)*state);
        skip();
    }
    return devices[isa];
}

struct logits {
    float value[ROWS * VOCAB];
    uint32_t len;
};

static void keep_logits(struct drive *drive, const struct step *step, void *arg)
{
    struct logits *logits = arg;

    if (step->wanted == 0)
        return;
    assert_true(logits->len < ROWS);
    memcpy(logits->value + (size_t)logits->len++ * VOCAB,
           forward_backend(drive->device)->act[ACT_LOGITS], VOCAB * sizeof(float));
}

/* Logits of ROWS tokens after a prompt that is longer than a split. */
static void run_logits(const struct device_ops *device, const struct model *model, bool exact,
                       struct logits *logits, uint32_t *ids)
{
    struct drive_sequence sequence = {
        .prompt = ids, .prompt_len = PROMPT, .tokens_max = ROWS, .chunk = 33};
    struct drive drive;

    logits->len = 0;
    tiny_ids(ids, PROMPT, 3);
    if (exact)
        drive_open_exact(&drive, device, model, 1, 400, 400, 1);
    else
        drive_open(&drive, device, model, 1, 400, 400, 1);
    drive.on_step = keep_logits;
    drive.arg = logits;
    drive_run(&drive, &sequence, 1, 3);
    assert_int_equal(logits->len, ROWS);
    memcpy(ids + PROMPT, sequence.tokens, ROWS * sizeof(*ids));
    drive_close(&drive);
}

static double compare(const struct device_ops *device, const struct tiny_options *options,
                      bool exact)
{
    static struct logits want, got;
    static double exactly[ROWS * VOCAB];
    uint32_t ids[PROMPT + ROWS];
    struct buffer file;
    struct model *model = tiny_open(options, &file);
    double error;

    run_logits(&ref_device, model, exact, &want, ids);
    run_logits(device, model, exact, &got, ids);
    for (uint32_t i = 0; i < ROWS * VOCAB; i++)
        exactly[i] = (double)want.value[i];
    error = naive_nmse(exactly, got.value, ROWS * VOCAB);
    model_close(model);
    buffer_release(&file);
    return error;
}

/*
 * Floats throughout; halves in the cache; weights and inputs of 8 bits: rounding a bell of inputs to
 * 8 bits costs 3e-5 of its size at each of the nine products in a row.
 */
static void test_logits_are_refs(void **state)
{
    const struct device_ops *device = device_or_skip(state);
    const struct tiny_options shapes[] = {odd, {.seed = 9}, {.kv_heads = 1}, {.kv_heads = 4}};
    struct tiny_options halves = {.seed = 4, .type = TENSOR_F16};
    double worst;

    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        worst = compare(device, &shapes[i], true);
        print_message("shape %zu: floats %.1e\n", i, worst);
        assert_true(worst < 1e-9);
        worst = compare(device, &shapes[i], false);
        print_message("shape %zu: halves %.1e\n", i, worst);
        assert_true(worst < 1e-6);
    }
    worst = compare(device, &halves, false);
    print_message("F16: %.1e\n", worst);
    assert_true(worst < 1e-6);
    worst = compare(device, &quantised, false);
    print_message("Q8_0: %.1e\n", worst);
    assert_true(worst < 5e-4);
}

static void new_sequences(struct drive_sequence *sequence, uint32_t (*ids)[PROMPT])
{
    memset(sequence, 0, SEQUENCES * sizeof(*sequence));
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        tiny_ids(ids[i], PROMPT, i);
        sequence[i].prompt = ids[i];
        sequence[i].prompt_len = 1 + i * 38;
        sequence[i].tokens_max = i % 3 == 2 ? 0 : 9;
        sequence[i].sampling.temperature = i % 3 == 1 ? 1.2f : 0.0f;
        sequence[i].sampling.top_p = 0.95f;
        sequence[i].sampling.seed = i;
    }
}

static void expect_equal(const struct drive_sequence *a, const struct drive_sequence *b)
{
    assert_int_equal(a->tokens_len, b->tokens_len);
    assert_memory_equal(a->tokens, b->tokens, a->tokens_len * sizeof(uint32_t));
    assert_memory_equal(a->embedding, b->embedding, sizeof(a->embedding));
    assert_int_equal(a->bad + b->bad, 0);
}

/* Chunks, late joiners, threads, steps in flight, scattered blocks; then each alone. */
static void test_company_pieces_and_threads_change_no_bit(void **state)
{
    const struct device_ops *device = device_or_skip(state);
    static const struct {
        uint32_t chunk, joins, rows_max, threads, depth;
    } ways[] = {{1, 0, 100, 2, 2}, {7, 3, 64, 3, 2}, {0, 2, 700, 2, 1}, {45, 1, 50, 1, 2}};
    static struct drive_sequence first[SEQUENCES], again[SEQUENCES];
    static uint32_t ids[SEQUENCES][PROMPT];
    struct drive drive;

    for (int shape = 0; shape < 2; shape++) {
        struct buffer file;
        struct model *model = tiny_open(shape == 0 ? &odd : &quantised, &file);

        new_sequences(first, ids);
        drive_open(&drive, device, model, SEQUENCES, 2000, 400, 1);
        drive_run(&drive, first, SEQUENCES, 1);
        for (uint32_t i = 0; i < SEQUENCES; i += 5) {
            new_sequences(again, ids);
            drive_run(&drive, &again[i], 1, i);
            expect_equal(&first[i], &again[i]);
        }
        drive_close(&drive);
        for (size_t way = 0; way < sizeof(ways) / sizeof(ways[0]); way++) {
            new_sequences(again, ids);
            for (uint32_t i = 0; i < SEQUENCES; i++) {
                again[i].chunk = ways[way].chunk;
                again[i].joins_step = i * ways[way].joins;
            }
            drive_open(&drive, device, model, SEQUENCES, ways[way].rows_max, 400,
                       ways[way].threads);
            drive.depth = ways[way].depth;
            drive_run(&drive, again, SEQUENCES, 7 + way);
            for (uint32_t i = 0; i < SEQUENCES; i++)
                expect_equal(&first[i], &again[i]);
            drive_close(&drive);
        }
        model_close(model);
        buffer_release(&file);
    }
}

static void poison(struct drive *drive)
{
    struct cpu *cpu = cpu_of(forward_backend(drive->device));

    memset(cpu->kv, 0xff, drive->limits.blocks * cpu->block_bytes); /* NaN as half and as float */
}

static void replace(uint32_t (*ids)[PROMPT], uint32_t from, uint32_t to)
{
    for (uint32_t i = 0; i < SEQUENCES; i++)
        for (uint32_t k = 0; k < PROMPT; k++)
            ids[i][k] = ids[i][k] == from ? to : ids[i][k];
}

/*
 * KV blocks hold what other sequences left, here NaN, in V's padding too; then a prompt with a NaN
 * among its embeddings runs beside.
 */
static void test_nan_reaches_no_other_sequence(void **state)
{
    const struct device_ops *device = device_or_skip(state);
    static struct drive_sequence clean[SEQUENCES], poisoned[SEQUENCES];
    static uint32_t ids[SEQUENCES][PROMPT];
    struct buffer file;
    struct model *model = tiny_open(&odd, &file);
    struct drive drive;

    drive_open(&drive, device, model, SEQUENCES, 100, 400, 2);
    new_sequences(clean, ids);
    drive_run(&drive, clean, SEQUENCES, 1);
    poison(&drive);
    new_sequences(poisoned, ids);
    drive_run(&drive, poisoned, SEQUENCES, 2);
    for (uint32_t i = 0; i < SEQUENCES; i++)
        expect_equal(&clean[i], &poisoned[i]);

    ((float *)(uintptr_t)model->token_embd->data)[7 * 36 + 3] = NAN;
    new_sequences(clean, ids);
    replace(ids, 7, 8);
    drive_run(&drive, clean, SEQUENCES, 1);
    new_sequences(poisoned, ids);
    replace(ids, 7, 8);
    ids[4][5] = 7;
    drive_run(&drive, poisoned, SEQUENCES, 3);
    for (uint32_t i = 0; i < SEQUENCES; i++)
        if (i == 4)
            assert_true(poisoned[i].bad > 0);
        else
            expect_equal(&clean[i], &poisoned[i]);
    drive_close(&drive);
    model_close(model);
    buffer_release(&file);
}

/* To the byte: weights, KV and activations of the plan are what open takes, but for three structs. */
static void test_the_plan_is_what_is_taken(void **state)
{
    const struct device_ops *device = device_or_skip(state);
    const struct tiny_options *shapes[] = {&odd, &quantised};

    for (int i = 0; i < 2; i++) {
        struct buffer file;
        struct model *model = tiny_open(shapes[i], &file);
        struct engine_plan plan;
        struct drive drive;
        struct backend *backend;
        uint64_t planned;

        drive_open(&drive, device, model, 5, 70, 300, 2);
        backend = forward_backend(drive.device);
        assert_int_equal(device->plan(model, &drive.limits, &plan), ERR_OK);
        planned = plan.weight_bytes + plan.kv_bytes + plan.activation_bytes -
                  DEVICE_STEPS * step_bytes(&drive.limits, model->hyper.embed);
        assert_true(backend->memory.bytes >= planned);
        assert_true(backend->memory.bytes - planned <=
                    (6 * model->hyper.layers + 3) * sizeof(struct weight));
        drive_close(&drive);
        model_close(model);
        buffer_release(&file);
    }
}

/* The linker leads what this program and the library take to here (meson.build). */
static _Atomic bool counting;
static _Atomic uint32_t taken;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);

void *__wrap_malloc(size_t size)
{
    taken += counting;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    taken += counting;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    taken += counting;
    return __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
    taken += counting;
    return __real_aligned_alloc(align, size);
}

/* A prompt of 40, then tokens one by one, drawn with all filters. */
static void run_step(struct device *device, uint32_t number)
{
    struct step *step = device->ops->begin(device, number % DEVICE_STEPS);
    struct step_result result;

    step->sequences = step->wanted = 1;
    step->seq_slot[0] = step->seq_row[0] = step->want_seq[0] = 0;
    step->rows = step->seq_rows[0] = number == 0 ? 40 : 1;
    step->seq_ctx[0] = number == 0 ? 0 : 39 + number;
    step->want_row[0] = step->rows - 1;
    for (uint32_t i = 0; i < step->rows; i++)
        step->token[i] = number == 0 ? (int32_t)i : -1;
    counting = true;
    device->ops->forward(device, number % DEVICE_STEPS);
    device->ops->sample(device, number % DEVICE_STEPS);
    assert_int_equal(device->ops->done(device, number % DEVICE_STEPS, -1, &result), ERR_OK);
    counting = false;
    assert_int_equal(result.bad[0], 0);
}

static void test_a_step_takes_no_memory(void **state)
{
    const struct device_ops *device = device_or_skip(state);
    struct buffer file;
    struct model *model = tiny_open(&quantised, &file);
    struct slots *slots;
    struct drive drive;

    taken = 0;
    counting = true;
    free(xcalloc(1, 1));
    counting = false;
    assert_int_equal(taken, 1); /* it is noticed */
    drive_open(&drive, device, model, 1, 64, 256, 2);
    slots = device->slots(drive.device);
    slots->sampling[0] =
        (struct engine_sampling){.temperature = 1.0f, .top_p = 0.9f, .top_k = 40, .min_p = 0.01f};
    slots->pool[0] = 0;
    for (uint32_t i = 0; i < slots->blocks_stride; i++)
        slots->blocks[i] = i;
    for (uint32_t number = 0; number < 30; number++)
        run_step(drive.device, number);
    assert_int_equal(taken, 1);
    drive_close(&drive);
    model_close(model);
    buffer_release(&file);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        EACH(test_logits_are_refs),
        EACH(test_company_pieces_and_threads_change_no_bit),
        EACH(test_nan_reaches_no_other_sequence),
        EACH(test_the_plan_is_what_is_taken),
        EACH(test_a_step_takes_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
