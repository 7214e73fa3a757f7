/* test_sim.c: the simulated device by itself: its clock, its hash, its pace. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "kernels/sim/sim.h"

enum { SLOTS = 4, BLOCKS = 12, CONTEXT = 96 };

static const struct device_limits limits = {
    .rows_max = 64, .sequences_max = SLOTS, .blocks = BLOCKS, .context_max = CONTEXT};

static struct device *open_sim(const struct sim_options *sim)
{
    const struct engine_options options = {.backend = "sim", .sim = *sim};
    struct device *device = NULL;

    assert_int_equal(sim_device.open(NULL, &options, &limits, &device), ERR_OK);
    for (uint32_t i = 0; i < BLOCKS; i++)
        sim_device.slots(device)->blocks[i] = i; /* slot s has blocks 3 s .. 3 s + 2 */
    return device;
}

/* Adds an entry to a step: `rows` ids that begin with `token`, the last one wanted. */
static void add(struct step *step, uint32_t slot, uint32_t ctx, uint32_t rows, int32_t token)
{
    const uint32_t index = step->sequences++;

    step->seq_slot[index] = slot;
    step->seq_ctx[index] = ctx;
    step->seq_row[index] = step->rows;
    step->seq_rows[index] = rows;
    for (uint32_t i = 0; i < rows; i++)
        step->token[step->rows++] = token < 0 ? -1 : token + (int32_t)i;
    step->want_row[step->wanted] = step->rows - 1;
    step->want_seq[step->wanted++] = index;
}

static struct step *begin(struct device *device, unsigned slot)
{
    struct step *step = sim_device.begin(device, slot);

    step->sequences = step->rows = step->wanted = 0;
    return step;
}

static struct step_result run(struct device *device, unsigned slot)
{
    struct step_result result;

    sim_device.forward(device, slot);
    sim_device.sample(device, slot);
    assert_int_equal(sim_device.done(device, slot, -1, &result), ERR_OK);
    return result;
}

/* The clock is the formula of sim.h, part by part, and steps stand end to end. */
static void test_a_step_takes_what_the_formula_says(void **state)
{
    const struct sim_options sim = {
        .load_ns = 1000, .fixed_ns = 500, .row_ns = 10, .kv_ns = 2048, .head_ns = 7};
    struct device *device = open_sim(&sim);
    struct step_result first, second;
    struct step *step;

    (void)state;
    assert_int_equal(sim_device.clock_ns(NULL), 0);
    assert_int_equal(sim_device.clock_ns(device), 1000);
    step = begin(device, 0);
    add(step, 0, 0, 5, 65);
    add(step, 1, 0, 3, 70);
    first = run(device, 0);
    assert_int_equal(first.begin_ns, 1000);
    assert_int_equal(first.part_ns[PART_FIXED], 500);
    assert_int_equal(first.part_ns[PART_LINEAR], 8 * 10);
    assert_int_equal(first.part_ns[PART_ATTENTION], (15 + 6) * 2);
    assert_int_equal(first.part_ns[PART_HEAD], 2 * 7);
    assert_int_equal(first.end_ns, 1000 + 500 + 80 + 42 + 14);
    step = begin(device, 1);
    add(step, 0, 5, 1, -1);
    second = run(device, 1);
    assert_int_equal(second.begin_ns, first.end_ns);
    assert_int_equal(second.part_ns[PART_ATTENTION], 6 * 2);
    sim_device.close(device);
}

/* Prompts have a price of their own for what their attention touches; 0 is that of answers. */
static void test_a_prompt_pays_its_own_price(void **state)
{
    const struct sim_options sim = {.kv_ns = 20480, .chunk_kv_ns = 1024}, one = {.kv_ns = 20480};
    struct device *device = open_sim(&sim), *plain = open_sim(&one);
    struct step *step = begin(device, 0);

    (void)state;
    assert_int_equal(device->decode_weight, 20 * device->chunk_weight);
    assert_int_equal(plain->decode_weight, plain->chunk_weight);
    add(step, 0, 0, 5, 65);
    assert_int_equal(run(device, 0).part_ns[PART_ATTENTION], 15);
    step = begin(device, 1);
    add(step, 0, 5, 1, -1);
    step->decodes = 1;
    add(step, 1, 0, 4, 65);
    assert_int_equal(run(device, 1).part_ns[PART_ATTENTION], 6 * 20 + 10);
    sim_device.close(device);
    sim_device.close(plain);
}

/* 40 rows at once, or one by one, or in a crowd: the same token comes after them. */
static void test_chunks_do_not_change_the_token(void **state)
{
    const struct sim_options sim = {0};
    struct device *device = open_sim(&sim);
    struct step_result result;
    uint32_t whole;

    (void)state;
    add(begin(device, 0), 0, 0, 40, 65);
    whole = run(device, 0).token[0];
    for (uint32_t i = 0; i < 40; i++) {
        struct step *step = begin(device, i % 2);

        add(step, 2, 0, 7, 99);
        add(step, 3, i, 1, 65 + (int32_t)i);
        result = run(device, i % 2);
    }
    assert_int_equal(result.token[1], whole);
    sim_device.close(device);
}

/* Runs 40 ids on slot 0 and then ten sampled ones, with a chance to spoil it; their sum as text. */
static void generate(struct device *device, char out[11])
{
    struct step *step = begin(device, 0);

    add(step, 0, 0, 40, 65);
    out[0] = (char)run(device, 0).token[0];
    for (uint32_t i = 1; i < 10; i++) {
        add(begin(device, i % 2), 0, 39 + i, 1, -1);
        out[i] = (char)run(device, i % 2).token[0];
    }
    out[10] = '\0';
}

/* What a scheduler may get wrong is seen in the output. */
static void test_mistakes_change_the_output(void **state)
{
    const struct sim_options sim = {0};
    struct device *device = open_sim(&sim);
    char right[11], wrong[11];

    (void)state;
    generate(device, right);
    generate(device, wrong);
    assert_string_equal(right, wrong); /* no mistake, no change */

    /* another sequence writes into one of its blocks */
    add(begin(device, 0), 0, 0, 40, 65);
    run(device, 0);
    sim_device.slots(device)->blocks[3] = 1; /* slot 1's first block is slot 0's second */
    add(begin(device, 0), 1, 0, 30, 1);
    run(device, 0);
    add(begin(device, 0), 0, 40, 1, right[0]);
    assert_int_not_equal(run(device, 0).token[0], right[1]);
    sim_device.slots(device)->blocks[3] = 3;

    /* a position too far */
    add(begin(device, 0), 0, 0, 40, 65);
    run(device, 0);
    add(begin(device, 0), 0, 41, 1, right[0]);
    assert_int_not_equal(run(device, 0).token[0], right[1]);

    /* two ids in the wrong order */
    struct step *step = begin(device, 0);

    add(step, 0, 0, 40, 65);
    step->token[7] = 73;
    step->token[8] = 72;
    assert_int_not_equal(run(device, 0).token[0], right[0]);
    sim_device.close(device);
}

/* Greedy answers follow from the ids alone; sampled ones from seed and choice too. */
static void test_seed_and_choice_count_unless_greedy(void **state)
{
    const struct sim_options sim = {0};
    struct device *device = open_sim(&sim);
    struct engine_sampling *sampling = sim_device.slots(device)->sampling;
    char base[11], other[11];

    (void)state;
    generate(device, base);
    sampling[0].seed = 9;
    generate(device, other);
    assert_string_equal(base, other);
    sampling[0].temperature = 1;
    generate(device, base);
    sampling[0].seed = 10;
    generate(device, other);
    assert_string_not_equal(base, other);
    sampling[0].seed = 9;
    sampling[0].choice = 1;
    generate(device, other);
    assert_string_not_equal(base, other);
    sim_device.close(device);
}

/* End tokens come about as often as asked: a tenth of 20,000 samples, give or take 4 sigma. */
static void test_ends_come_at_their_rate(void **state)
{
    const struct sim_options sim = {.eos_per_million = 100000};
    struct device *device = open_sim(&sim);
    uint32_t ends = 0;

    (void)state;
    for (int32_t i = 0; i < 20000; i++) {
        struct step *step = begin(device, 0);

        add(step, 0, 0, 2, i % 256);
        step->token[1] = i / 256;
        ends += run(device, 0).token[0] == SIM_END;
    }
    assert_true(ends > 2000 - 170 && ends < 2000 + 170);
    sim_device.close(device);
}

/* An embedding has length 1, does not depend on chunks, and tells two texts apart. */
static void test_embeddings_pool_what_was_read(void **state)
{
    const struct sim_options sim = {0};
    struct device *device = open_sim(&sim);
    float first[SIM_EMBEDDING_LEN], norm = 0;
    struct step *step;

    (void)state;
    memset(sim_device.slots(device)->pool, 1, SLOTS);
    add(begin(device, 0), 0, 0, 40, 65);
    memcpy(first, run(device, 0).embedding, sizeof(first));
    for (int i = 0; i < SIM_EMBEDDING_LEN; i++)
        norm += first[i] * first[i];
    assert_true(norm > 0.9999f && norm < 1.0001f);
    add(begin(device, 0), 1, 0, 33, 65);
    run(device, 0);
    step = begin(device, 1);
    add(step, 2, 0, 40, 66);
    add(step, 1, 33, 7, 65 + 33);
    const float *second = run(device, 1).embedding;

    assert_memory_equal(second + SIM_EMBEDDING_LEN, first, sizeof(first));
    assert_memory_not_equal(second, first, sizeof(first));
    sim_device.close(device);
}

static uint64_t wall_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/*
 * At pace 1 two steps of 20 ms, enqueued together, are done after 20 and 40 ms and not before. What
 * must not be done yet is only asked when the clock, read afterwards, says that it was early.
 */
static void test_a_paced_step_takes_its_time(void **state)
{
    const struct sim_options sim = {.fixed_ns = 20000000, .pace = 1};
    struct device *device = open_sim(&sim);
    const uint64_t from_ns = wall_ns();
    struct step_result result;

    (void)state;
    for (unsigned slot = 0; slot < DEVICE_STEPS; slot++) {
        add(begin(device, slot), slot, 0, 1, 65);
        sim_device.forward(device, slot);
        sim_device.sample(device, slot);
    }
    for (int timeout_ms = 0; timeout_ms < 4; timeout_ms += 2) {
        const enum err rc = sim_device.done(device, 0, timeout_ms, &result);

        if (wall_ns() - from_ns < 20000000)
            assert_int_equal(rc, ERR_AGAIN);
    }
    assert_int_equal(sim_device.done(device, 0, -1, &result), ERR_OK);
    assert_true(wall_ns() - from_ns >= 20000000);
    assert_int_equal(sim_device.done(device, 1, 60000, &result), ERR_OK);
    assert_true(wall_ns() - from_ns >= 40000000);
    assert_int_equal(result.end_ns, 40000000);
    sim_device.close(device);
}

static void test_options_out_of_range_are_refused(void **state)
{
    const struct sim_options bad[] = {
        {.pace = -1}, {.pace = 1e300}, {.eos_per_million = 1000001}, {.row_ns = 1000000001}};
    const struct engine_options none = {.backend = "sim"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct engine_options options = none;
        struct device *device = NULL;

        options.sim = bad[i];
        assert_int_equal(sim_device.open(NULL, &options, &limits, &device), ERR_SETTINGS);
        assert_null(device);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_step_takes_what_the_formula_says),
        cmocka_unit_test(test_a_prompt_pays_its_own_price),
        cmocka_unit_test(test_chunks_do_not_change_the_token),
        cmocka_unit_test(test_mistakes_change_the_output),
        cmocka_unit_test(test_seed_and_choice_count_unless_greedy),
        cmocka_unit_test(test_ends_come_at_their_rate),
        cmocka_unit_test(test_embeddings_pool_what_was_read),
        cmocka_unit_test(test_a_paced_step_takes_its_time),
        cmocka_unit_test(test_options_out_of_range_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
