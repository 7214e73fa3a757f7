/*
 * test_cuda_step.c: what the host does for a step on a GPU, without one: numbers of a card, what is
 * copied to it, where a step stood on the clock, and what its time went into.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/buffer.h"
#include "kernels/cuda/image.h"
#include "kernels/cuda/numbers.h"
#include "kernels/cuda/prices.h"
#include "kernels/cuda/timeline.h"
#include "kernels/step.h"

/* E4M3 by its definition. */
static float fp8_value(uint8_t bits)
{
    const int exponent = bits >> 3 & 15, mantissa = bits & 7;
    const float size = exponent == 0 ? ldexpf((float)mantissa, -9)
                                     : ldexpf(1.0f + (float)mantissa / 8.0f, exponent - 7);

    return (bits & 0x80) != 0 ? -size : size;
}

static uint8_t nearest_fp8(float x)
{
    uint8_t best = 0;

    for (uint8_t i = 1; i < 0x7f; i++) {
        const float now = fabsf(fp8_value(i) - fabsf(x)), then = fabsf(fp8_value(best) - fabsf(x));

        if (now < then || (now == then && (i & 1) == 0))
            best = i;
    }
    return best | (signbit(x) ? 0x80 : 0);
}

static void test_fp8_is_the_nearest(void **state)
{
    (void)state;
    for (int i = 0; i < 0x7f; i++) {
        const float low = fp8_value((uint8_t)i), high = fp8_value((uint8_t)(i + 1));
        const float between[] = {low,
                                 -low,
                                 (low + high) / 2,
                                 low * 0.75f + high * 0.25f,
                                 -(low * 0.25f + high * 0.75f),
                                 -(low + high) / 2};

        for (size_t j = 0; i < 0x7e && j < sizeof(between) / sizeof(between[0]); j++)
            assert_int_equal(number_fp8(between[j]), nearest_fp8(between[j]));
    }
    assert_int_equal(number_fp8(1e30f), 0x7e);
    assert_int_equal(number_fp8(-INFINITY), 0xfe);
    assert_int_equal(number_fp8(NAN) & 0x7f, 0x7f);
    assert_int_equal(number_fp8(1e-30f), 0);
}

static void test_bf16_and_int8_are_the_nearest(void **state)
{
    (void)state;
    assert_int_equal(number_bf16(1.0f), 0x3f80);
    assert_int_equal(number_bf16(1.00390625f), 0x3f80); /* half way: to the even one */
    assert_int_equal(number_bf16(1.01171875f), 0x3f82);
    assert_int_equal(number_bf16(-INFINITY), 0xff80);
    assert_true(isnan(number_from_bf16(number_bf16(NAN))));
    for (int i = -127; i <= 127; i++)
        assert_int_equal(number_int8((float)i), i);
    assert_int_equal(number_int8(2.5f), 2);
    assert_int_equal(number_int8(-3.5f), -4);
    assert_int_equal(number_int8(126.6f), 127);
}

/* Steps side by side in the queue, one after a pause, and one whose card's clock runs fast. */
static void test_steps_never_overlap_and_never_end_in_the_future(void **state)
{
    struct timeline timeline = {0};
    uint64_t begin, end;

    (void)state;
    timeline_place(&timeline, &(struct timeline_step){1000000, 9000000, 0.0f, 2.0f}, &begin, &end);
    assert_int_equal(begin, 1000000);
    assert_int_equal(end, 3000000);
    timeline_place(&timeline, &(struct timeline_step){1500000, 9000000, 0.25f, 1.0f}, &begin, &end);
    assert_int_equal(begin, 3250000);
    assert_int_equal(end, 4250000);
    timeline_place(&timeline, &(struct timeline_step){6000000, 9000000, 50.0f, 1.0f}, &begin, &end);
    assert_int_equal(begin, 6000000);
    assert_int_equal(end, 7000000);
    timeline_place(&timeline, &(struct timeline_step){6500000, 7200000, 0.5f, 3.0f}, &begin, &end);
    assert_int_equal(begin, 7200000);
    assert_int_equal(end, 7200000);
    timeline_place(&timeline, &(struct timeline_step){7000000, 7300000, NAN, -1.0f}, &begin, &end);
    assert_true(begin == 7200000 && end == 7200000);
}

static void test_a_price_lies_on_the_line(void **state)
{
    struct price_line line = {0};

    (void)state;
    assert_true(price_line_at(&line, 7) == 0.0);
    price_line_add(&line, 64, 200.0);
    price_line_add(&line, 1, 100.0);
    price_line_add(&line, 512, 1000.0);
    price_line_add(&line, 64, 226.0);
    assert_true(price_line_at(&line, 0) == 0.0 && price_line_at(&line, 1) == 100.0);
    assert_true(price_line_at(&line, 22) == 142.0);
    assert_true(price_line_at(&line, 64) == 226.0 && price_line_at(&line, 512) == 1000.0);
    assert_true(price_line_at(&line, 1024) == 2000.0);
}

static void test_parts_add_up_to_the_nanosecond(void **state)
{
    const struct prices none = {0};
    struct prices prices = {.fixed_ns = 3.3, .decode_kv_ns = 0.7, .chunk_kv_ns = 0.01};
    uint64_t part[PART_COUNT], sum, random = 1;
    uint16_t decode, chunk;

    (void)state;
    price_line_add(&prices.linear, 10, 77.7);
    price_line_add(&prices.head, 1, 5.5);
    for (int i = 0; i < 1000; i++) {
        const struct price_work work = {(uint32_t)i, (uint32_t)(i % 7), random % 1000, random % 33};

        random = random * 6364136223846793005u + 1442695040888963407u;
        prices_split(&prices, &work, random >> 20, part);
        sum = 0;
        for (int j = 0; j < PART_COUNT; j++)
            sum += part[j];
        assert_int_equal(sum, random >> 20);
    }
    prices_split(&none, &(struct price_work){1, 1, 1, 1}, 12345, part);
    assert_int_equal(part[PART_FIXED], 12345);
    prices_weights(&prices, &decode, &chunk);
    assert_true(decode >= 1000 && chunk >= 14 && chunk <= 16);
    prices_weights(&none, &decode, &chunk);
    assert_true(decode == 1 && chunk == 1);
}

enum { ROWS = 64, SEQUENCES = 8, CONTEXT = 200 };

static const struct device_limits limits = {
    .rows_max = ROWS, .sequences_max = SEQUENCES, .blocks = 40, .context_max = CONTEXT};

/* Two decodes, a chunk of a pool's middle, and a prompt's last chunk. */
static void fill(struct step *step, struct slots *slots)
{
    static const uint32_t slot[] = {5, 2, 7, 0}, rows[] = {1, 1, 9, 30}, ctx[] = {31, 160, 40, 0};
    uint32_t row = 0;

    for (uint32_t s = 0; s < 4; s++) {
        step->seq_slot[s] = slot[s];
        step->seq_row[s] = row;
        step->seq_rows[s] = rows[s];
        step->seq_ctx[s] = ctx[s];
        for (uint32_t i = 0; i < rows[s]; i++)
            step->token[row++] = s < 2 ? -1 : (int32_t)(100 * s + i);
    }
    for (uint32_t i = 0; i < SEQUENCES * slots->blocks_stride; i++)
        slots->blocks[i] = i % limits.blocks;
    slots->pool[7] = 1;
    slots->logprobs[2] = 1;
    slots->sampling[0] = (struct engine_sampling){.temperature = 0.5f, .seed = 9, .choice = 3};
    step->sequences = 4;
    step->rows = row;
    step->decodes = 2;
    for (uint32_t s = 0; s < 4; s++) {
        step->want_seq[s] = s;
        step->want_row[s] = step->seq_row[s] + rows[s] - 1;
    }
    step->wanted = 4;
}

static void test_an_image_says_where_each_row_belongs(void **state)
{
    const struct image_places places = image_places(&limits);
    uint8_t *image = xcalloc(1, places.attend);
    const uint32_t *slot = (void *)(image + places.slot), *at = (void *)(image + places.position);
    const uint32_t *place = (void *)(image + places.place);
    const struct pool_item *pool = (void *)(image + places.pool);
    struct slots slots;
    struct step step;

    (void)state;
    step_init(&step, &limits);
    slots_init(&slots, &limits);
    fill(&step, &slots);
    image_write(&places, &step, &slots, image);
    assert_int_equal(((struct image_head *)(void *)image)->rows, 41);
    assert_int_equal(((struct image_head *)(void *)image)->pools, 1);
    assert_memory_equal(image + places.token, step.token, 41 * sizeof(int32_t));
    assert_true(slot[0] == 5 && slot[1] == 2 && slot[2] == 7 && slot[11] == 0 && slot[40] == 0);
    assert_true(at[0] == 31 && at[1] == 160 && at[2] == 40 && at[10] == 48 && at[40] == 29);
    assert_int_equal(place[1], slots.blocks[2 * slots.blocks_stride + 5] * 32);
    assert_int_equal(place[10], slots.blocks[7 * slots.blocks_stride + 1] * 32 + 16);
    assert_true(pool[0].row == 2 && pool[0].rows == 9 && pool[0].slot == 7 && pool[0].first == 0);
    slots_release(&slots);
    step_release(&step);
    free(image);
}

static void test_a_sampling_image_has_its_passes(void **state)
{
    const struct sampling_places places = sampling_places(&limits);
    uint8_t *image = xcalloc(1, places.end);
    const struct sampling_head *head = (void *)image;
    const uint32_t *row = (void *)(image + places.row);
    const struct sample_row *sample = (void *)(image + places.sample);
    const struct embedding_item *embedding = (void *)(image + places.embedding);
    struct slots slots;
    struct step step;
    uint32_t picked;

    (void)state;
    step_init(&step, &limits);
    slots_init(&slots, &limits);
    fill(&step, &slots);
    assert_int_equal(sampling_write(&places, &step, &slots, 2, image, &picked), places.end);
    assert_int_equal(picked, 3);
    assert_true(head->picked[0] == 2 && head->picked[1] == 1 && head->picked[2] == 0);
    assert_true(head->embeddings == 1 && embedding[0].slot == 7 && embedding[0].want == 2);
    assert_true(row[0] == 0 && row[1] == 1 && row[2] == 40);
    assert_true(sample[0].position == 32 && sample[1].position == 161 && sample[2].position == 30);
    assert_true(sample[2].slot == 0 && sample[2].want == 3 && sample[2].seed == 9);
    assert_true(sample[2].choice == 3 && sample[2].temperature == 0.5f);
    assert_true(sample[0].flags == 0 && sample[1].flags == SAMPLE_LOGPROB);
    slots_release(&slots);
    step_release(&step);
    free(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp8_is_the_nearest),
        cmocka_unit_test(test_bf16_and_int8_are_the_nearest),
        cmocka_unit_test(test_steps_never_overlap_and_never_end_in_the_future),
        cmocka_unit_test(test_a_price_lies_on_the_line),
        cmocka_unit_test(test_parts_add_up_to_the_nanosecond),
        cmocka_unit_test(test_an_image_says_where_each_row_belongs),
        cmocka_unit_test(test_a_sampling_image_has_its_passes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
