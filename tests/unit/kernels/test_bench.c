/*
 * test_bench.c: what figures rest on: random models that are what they claim to be, phases that hold
 * the tokens that they are said to hold, and rates that are tokens over time.
 */
#include "config/json.h"
#include "config/log.h"
#include "kernels/bench/ceilings.h"
#include "kernels/bench/machine.h"
#include "kernels/bench/measure.h"
#include "kernels/bench/random_model.h"
#include "kernels/bench/report.h"
#include "kernels/model/model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[64];

/* A random model in a file of its own; the last one is removed. */
static struct model *make(enum tensor_type type, uint64_t seed)
{
    struct model *model;
    int fd;

    strcpy(path, "/tmp/mserve-bench-test-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(random_model_write(path, random_shape_find("tiny"), type, seed), ERR_OK);
    assert_int_equal(model_open(path, &model), ERR_OK);
    unlink(path);
    return model;
}

static float *floats(const struct gguf_tensor *tensor)
{
    float *value = malloc(tensor->len * sizeof(*value));

    assert_non_null(value);
    tensor_format(tensor->type)->to_f32(tensor->data, tensor->len, value);
    return value;
}

/* Largest difference of two tensors' values, over the largest value of the first. */
static double difference(const struct gguf_tensor *a, const struct gguf_tensor *b)
{
    float *left = floats(a), *right = floats(b);
    double most = 0.0, size = 0.0;

    assert_int_equal(a->len, b->len);
    for (uint64_t i = 0; i < a->len; i++) {
        most = fmax(most, fabs((double)left[i] - (double)right[i]));
        size = fmax(size, fabs((double)left[i]));
    }
    free(left);
    free(right);
    return most / size;
}

/* Figures of two machines are comparable only if their models are the same bytes. */
static void test_the_same_seed_gives_the_same_bytes(void **state)
{
    struct model *one = make(TENSOR_Q8_0, 7), *same = make(TENSOR_Q8_0, 7);
    struct model *other = make(TENSOR_Q8_0, 8);
    const struct slice a = gguf_bytes(one->gguf), b = gguf_bytes(same->gguf),
                       c = gguf_bytes(other->gguf);

    (void)state;
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    assert_int_equal(a.len, c.len);
    assert_int_not_equal(memcmp(a.data, c.data, a.len), 0);
    model_close(one);
    model_close(same);
    model_close(other);
}

/* The weights are the same numbers in each type, but for the type's rounding. */
static void test_types_hold_the_same_weights(void **state)
{
    static const struct {
        enum tensor_type type;
        double allowed;
    } cases[] = {{TENSOR_F16, 0x1p-11}, {TENSOR_BF16, 0x1p-8}, {TENSOR_Q8_0, 0.51 / 127}};
    struct model *exact = make(TENSOR_F32, 3);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct model *model = make(cases[i].type, 3);

        assert_int_equal(model->output->type, cases[i].type);
        assert_true(difference(exact->output, model->output) > 0.0);
        assert_true(difference(exact->output, model->output) <= cases[i].allowed);
        assert_true(difference(exact->layer[1].ffn_down, model->layer[1].ffn_down) <=
                    cases[i].allowed);
        model_close(model);
    }
    model_close(exact);
}

/* Mean 0, deviation 0.02, as far as a few ten thousand numbers can tell; no two rows alike. */
static void test_weights_are_nearly_normal(void **state)
{
    struct model *model = make(TENSOR_F32, 1);
    const struct gguf_tensor *tensor = model->output;
    float *value = floats(tensor);
    double sum = 0.0, squares = 0.0, most = 0.0;

    (void)state;
    for (uint64_t i = 0; i < tensor->len; i++) {
        sum += (double)value[i];
        squares += (double)value[i] * (double)value[i];
        most = fmax(most, fabs((double)value[i]));
    }
    assert_true(fabs(sum / (double)tensor->len) < 0.001);
    assert_true(fabs(sqrt(squares / (double)tensor->len) - 0.02) < 0.001);
    assert_true(most > 0.05 && most < 0.08);
    assert_int_not_equal(memcmp(value, value + tensor->dim[0], tensor->dim[0] * sizeof(*value)), 0);
    free(value);
    model_close(model);
}

/* A text is made of words of the vocabulary, so that the file is of use for whole requests too. */
static void test_the_vocabulary_merges_words(void **state)
{
    struct model *model = make(TENSOR_Q8_0, 1);
    struct tokens tokens = {0};

    (void)state;
    assert_int_equal(tokenizer_encode(model->tokenizer, SLICE("ab"), false, 16, &tokens), ERR_OK);
    assert_int_equal(tokens.len, 2);              /* a blank stands before the first word */
    assert_int_equal(tokens.id[0], 259);          /* the blank */
    assert_int_equal(tokens.id[1], 259 + 26 + 2); /* z is 26, aa 27, ab 28 */
    free(tokens.id);
    model_close(model);
}

/* A disk that is full leaves no half of a model behind. */
static void test_a_file_that_cannot_be_written_is_said(void **state)
{
    (void)state;
    assert_int_equal(
        random_model_write("/nowhere/model.gguf", random_shape_find("tiny"), TENSOR_F32, 1),
        ERR_IO);
    assert_int_equal(random_model_write("/dev/full", random_shape_find("tiny"), TENSOR_F32, 1),
                     ERR_IO);
    assert_null(random_shape_find("huge"));
}

static struct engine *open_sim(uint32_t sequences, uint32_t rows)
{
    const struct engine_options options = {
        .backend = "sim",
        .sequences_max = sequences,
        .waiting_max = sequences,
        .rows_max = rows,
        .context_max = 1024,
        .sim = {.fixed_ns = 1000, .row_ns = 100, .kv_ns = 1024, .head_ns = 10},
    };
    struct engine *engine;

    assert_int_equal(engine_open(&options, &engine), ERR_OK);
    return engine;
}

/* Prefill is all prompts and one token each, in as few steps as the rows allow. */
static void test_prefill_reads_the_prompts_and_nothing_else(void **state)
{
    struct engine *engine = open_sim(8, 64);
    struct sample sample;

    (void)state;
    assert_int_equal(measure_prefill(engine, 8, 40, 1, &sample), ERR_OK);
    assert_int_equal(sample.prompt, 8 * 40);
    assert_int_equal(sample.output, 8);
    assert_int_equal(sample.rows, 8 * 40);
    assert_int_equal(sample.wanted, 8);
    assert_int_equal(sample.kv, 8 * 40 * 41 / 2);
    assert_int_equal(sample.steps, 5);
    assert_int_equal(sample.part_ns[BENCH_LINEAR], 8 * 40 * 100);
    assert_int_equal(sample.part_ns[BENCH_FIXED], 5 * 1000);
    assert_int_equal(sample.device_ns, sample.part_ns[BENCH_FIXED] + sample.part_ns[BENCH_LINEAR] +
                                           sample.part_ns[BENCH_ATTENTION] +
                                           sample.part_ns[BENCH_HEAD]);
    assert_true(sample.wall_ns > 0);
    engine_close(engine);
}

/* Prompts that do not fit one step are read in several, and still no step of the window reads. */
static void test_decode_is_steps_of_one_token_each(void **state)
{
    struct engine *engine = open_sim(8, 64);
    struct sample sample;
    struct engine_books books;

    (void)state;
    for (uint32_t batch = 1; batch <= 8; batch++) {
        assert_int_equal(measure_decode(engine, batch, 40, 20, 64, batch, &sample), ERR_OK);
        assert_int_equal(sample.steps, 20);
        assert_int_equal(sample.rows, 20 * batch);
        assert_int_equal(sample.wanted, 20 * batch);
        assert_int_equal(sample.output, 20 * batch);
        assert_true(sample.kv >=
                    batch * (20 * 40 + 20 * 21 / 2)); /* contexts of 41 to 60, or more */
        assert_true(sample.kv <= batch * 20 * measure_context(batch, 40, 20, 64));
        assert_int_equal(sample.part_ns[BENCH_FIXED], 20 * 1000);
        assert_int_equal(sample.running * 1000, batch * 1000);
    }
    engine_books(engine, &books); /* nothing is left over for the next case */
    assert_int_equal(books.live_ns, 0);
    engine_close(engine);
}

/* A job runs to its end, with the engine kept full, whatever its requests look like. */
static void test_a_job_runs_to_its_end(void **state)
{
    struct engine *engine = open_sim(4, 64);
    struct bench_request request[50];
    uint64_t prompts = 0, outputs = 0;
    struct sample sample;

    (void)state;
    for (uint32_t i = 0; i < 50; i++) {
        request[i] = (struct bench_request){.prompt = 1 + i * 7 % 90, .output = 1 + i * 5 % 40};
        prompts += request[i].prompt;
        outputs += request[i].output;
    }
    assert_int_equal(measure_job(engine, request, 50, false, 1, &sample), ERR_OK);
    assert_int_equal(sample.prompt, prompts);
    assert_int_equal(sample.output, outputs);
    assert_true(sample.running > 3.0 && sample.running <= 4.0);
    engine_close(engine);
}

/* The same requests, told to belong together: what they share is read once. */
static void test_a_grouped_job_reads_what_is_shared_once(void **state)
{
    struct engine *engine = open_sim(4, 64);
    struct bench_request request[12];
    struct sample apart, grouped;

    (void)state;
    for (uint32_t i = 0; i < 12; i++)
        request[i] = (struct bench_request){.prompt = 256 + 20, .output = 10, .shared = 256};
    assert_int_equal(measure_job(engine, request, 12, false, 1, &apart), ERR_OK);
    assert_int_equal(measure_job(engine, request, 12, true, 2, &grouped), ERR_OK);
    assert_int_equal(apart.cached, 0);
    assert_int_equal(apart.rows, 12 * (276 + 9));
    assert_int_equal(grouped.cached, 11 * 256);
    assert_int_equal(grouped.rows, 256 + 12 * (20 + 9));
    assert_int_equal(grouped.prompt, apart.prompt);
    assert_int_equal(grouped.output, apart.output);
    engine_close(engine);
}

static void test_a_request_that_does_not_fit_is_refused(void **state)
{
    struct engine *engine = open_sim(1, 64);
    struct sample sample;

    (void)state;
    assert_int_equal(measure_prefill(engine, 1, 1024, 1, &sample), ERR_USAGE);
    engine_close(engine);
}

/* The highest of a kind; what this machine cannot run does not count. */
static void test_the_ceiling_is_the_highest_that_was_measured(void **state)
{
    const struct ceiling ceilings[] = {
        {"int8", "avx512-vnni", "GOP/s", false, 0.0}, {"int8", "avx2", "GOP/s", true, 300.0},
        {"f32", "avx2", "GOP/s", true, 100.0},        {"f32", "sse2", "GOP/s", true, 40.0},
        {"f32", "avx512", "GOP/s", true, 110.0},      {"read", "", "GB/s", true, 35.0},
    };

    (void)state;
    assert_ptr_equal(ceilings_find(ceilings, 6, "int8", NULL), &ceilings[1]);
    assert_null(ceilings_find(ceilings, 6, "int8", "avx512-vnni"));
    assert_ptr_equal(ceilings_find(ceilings, 6, "f32", NULL), &ceilings[4]);
    assert_ptr_equal(ceilings_find(ceilings, 6, "f32", "sse2"), &ceilings[3]);
    assert_null(ceilings_find(ceilings, 6, "bf16", NULL));
}

/* One thread's arithmetic is measured, and wider registers are never slower. */
static void test_ceilings_are_measured(void **state)
{
    struct ceiling ceiling[CEILINGS_MAX];
    const uint32_t count = ceilings_measure(1, ceiling);
    const struct ceiling *read = ceilings_find(ceiling, count, "read", NULL);

    (void)state;
    assert_non_null(read);
    assert_true(read->rate > 0.1 && read->rate < 10000);
    for (uint32_t i = 0; i < count; i++)
        assert_true(ceiling[i].here == (ceiling[i].rate > 0.0));
}

/* Rates are tokens over seconds, the middle of the runs counts, and shares are of the right kind. */
static void test_the_report_divides_tokens_by_time(void **state)
{
    const struct engine_model model = {.name = "m", .numerics_text = "cpu/avx2/1"};
    struct report_row row = {.name = "decode", .batch = 2, .prompt = 4, .output = 8, .samples = 3};
    struct report report = {
        .backend = "cpu",
        .model = &model,
        .workload = {.type = "Q8_0", .linear_ops = 1e9, .linear_bytes = 1e9},
        .ceiling = {{"int8", "avx512-vnni", "GOP/s", true, 1000.0},
                    {"int8", "avx2", "GOP/s", true, 64.0},
                    {"read", "", "GB/s", true, 40.0}},
        .ceilings = 3,
        .row = &row,
        .rows = 1,
    };
    static const uint64_t wall_ns[] = {1000000000, 500000000, 2000000000};
    struct buffer out = {0};
    struct arena arena = {0};
    struct json *json, *found;
    double value;

    (void)state;
    for (int i = 0; i < 3; i++)
        row.sample[i] = (struct sample){.wall_ns = wall_ns[i],
                                        .device_ns = wall_ns[i],
                                        .part_ns = {0, wall_ns[i] / 2, 0, 0},
                                        .steps = 8,
                                        .rows = 16,
                                        .output = 16};
    report_write_json(&report, &out);
    assert_int_equal(json_parse(&arena, buffer_slice(&out), NULL, &json, NULL), ERR_OK);
    found = json_get(json, "rows")->first;
    assert_true(json_f64(json_get(json_get(found, "tokens_per_s"), "median"), &value));
    assert_true(fabs(value - 16.0) < 1e-9);
    assert_true(json_f64(json_get(json_get(found, "tokens_per_s"), "max"), &value));
    assert_true(fabs(value - 32.0) < 1e-9);
    assert_true(json_f64(json_get(found, "linear_arithmetic_share"), &value));
    /* 48e9 in 1.75 s, of 64e9 */
    assert_true(fabs(value - 48.0 / 1.75 / 64.0) < 1e-9);
    assert_true(json_f64(json_get(found, "read_share"), &value)); /* 24e9 bytes in 3.5 s, of 40e9 */
    assert_true(fabs(value - 24.0 / 3.5 / 40.0) < 1e-9);
    assert_true(json_equals(json_get(found, "arithmetic_isa"), "avx2"));
    arena_release(&arena);
    buffer_release(&out);
}

/* Half of the time was somebody else's. */
static void test_what_others_used_is_what_was_busy_and_not_ours(void **state)
{
    const struct machine_load from = {1000, 400, 100}, to = {1200, 540, 140};

    (void)state;
    assert_true(fabs(machine_others(&from, &to) - 0.5) < 1e-9);
    assert_true(machine_others(&from, &from) == 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_same_seed_gives_the_same_bytes),
        cmocka_unit_test(test_types_hold_the_same_weights),
        cmocka_unit_test(test_weights_are_nearly_normal),
        cmocka_unit_test(test_the_vocabulary_merges_words),
        cmocka_unit_test(test_a_file_that_cannot_be_written_is_said),
        cmocka_unit_test(test_prefill_reads_the_prompts_and_nothing_else),
        cmocka_unit_test(test_decode_is_steps_of_one_token_each),
        cmocka_unit_test(test_a_job_runs_to_its_end),
        cmocka_unit_test(test_a_grouped_job_reads_what_is_shared_once),
        cmocka_unit_test(test_a_request_that_does_not_fit_is_refused),
        cmocka_unit_test(test_the_ceiling_is_the_highest_that_was_measured),
        cmocka_unit_test(test_ceilings_are_measured),
        cmocka_unit_test(test_the_report_divides_tokens_by_time),
        cmocka_unit_test(test_what_others_used_is_what_was_busy_and_not_ours),
    };

    log_init("test", LOG_ERROR, LOG_LOGFMT, true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
