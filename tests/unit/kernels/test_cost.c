/* test_cost.c: a step's time is split to the nanosecond, and by the work. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/core/cost.h"

enum { ENTRIES_MAX = 300 };

/* A step as a test makes it, with everything that cost_split() wants of it. */
struct load {
    uint32_t len;
    uint32_t rows[ENTRIES_MAX];
    uint32_t ctx[ENTRIES_MAX];
    uint8_t wanted[ENTRIES_MAX];
    uint64_t part_ns[PART_COUNT];
    uint64_t share_ns[ENTRIES_MAX];
    uint16_t decode_weight, chunk_weight; /* 0: 1 */
    uint32_t plain;                       /* entries of the form of a decode at the front */
};

static struct cost_scratch scratch;

static int setup(void **state)
{
    (void)state;
    cost_scratch_init(&scratch, ENTRIES_MAX);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cost_scratch_release(&scratch);
    return 0;
}

/* KV tokens of an entry, with their weight. */
static uint64_t weighted_kv(const struct load *load, uint32_t i)
{
    const uint16_t weight = i < load->plain ? load->decode_weight : load->chunk_weight;

    return cost_kv(load->rows[i], load->ctx[i]) * (weight > 0 ? weight : 1);
}

/* Splits; entries of the form of a decode at the front are handed over as such. */
static void split(struct load *load)
{
    load->plain = 0;
    while (load->plain < load->len && load->rows[load->plain] == 1 && load->wanted[load->plain])
        load->plain++;
    struct cost_work work = {
        .sequences = load->len,
        .plain = load->plain,
        .rows = load->rows,
        .ctx = load->ctx,
        .wanted = load->wanted,
        .plain_weight = load->decode_weight > 0 ? load->decode_weight : 1,
        .chunk_weight = load->chunk_weight > 0 ? load->chunk_weight : 1,
    };

    for (uint32_t i = 0; i < load->len; i++) {
        work.rows_sum += load->rows[i];
        work.wanted_sum += load->wanted[i];
        work.kv_sum += weighted_kv(load, i);
    }
    cost_split(load->part_ns, &work, &scratch, load->share_ns);
}

static uint64_t total(const struct load *load)
{
    return load->part_ns[0] + load->part_ns[1] + load->part_ns[2] + load->part_ns[3];
}

static uint32_t below(uint64_t *random, uint32_t limit)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((*random >> 33) % limit);
}

/* Some decodes, then some chunks; times from nothing to minutes. */
static void make(struct load *load, uint64_t *random)
{
    const uint32_t decodes = below(random, 200);

    load->len = 1 + below(random, ENTRIES_MAX);
    for (uint32_t i = 0; i < load->len; i++) {
        load->rows[i] = i < decodes ? 1 : 1 + below(random, 700);
        load->ctx[i] = below(random, 4) == 0 ? 77 : below(random, 100000);
        load->wanted[i] = i < decodes || below(random, 2) == 0;
    }
    for (int part = 0; part < PART_COUNT; part++)
        load->part_ns[part] =
            below(random, 5) == 0 ? 0 : (uint64_t)below(random, 1u << 30) >> below(random, 30);
    if (below(random, 20) == 0)
        load->part_ns[PART_LINEAR] *= 1000;
}

/* The share as the formula says it, in floating point. */
static long double exact(const struct load *load, uint32_t i)
{
    long double rows = 0, kv = 0, wanted = 0, fixed = (long double)load->part_ns[PART_FIXED];
    long double share = 0;

    for (uint32_t j = 0; j < load->len; j++) {
        rows += load->rows[j];
        kv += (long double)weighted_kv(load, j);
        wanted += load->wanted[j];
    }
    if (wanted > 0)
        share += (long double)load->part_ns[PART_HEAD] * load->wanted[i] / wanted;
    else
        fixed += (long double)load->part_ns[PART_HEAD];
    share += (long double)load->part_ns[PART_LINEAR] * load->rows[i] / rows;
    share += (long double)load->part_ns[PART_ATTENTION] * (long double)weighted_kv(load, i) / kv;
    return share + fixed / load->len;
}

/* Whatever the step, nothing is lost and nothing is made. */
static void test_shares_add_up_to_the_step(void **state)
{
    static struct load load;
    uint64_t random = 1;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        uint64_t sum = 0;

        make(&load, &random);
        split(&load);
        for (uint32_t i = 0; i < load.len; i++)
            sum += load.share_ns[i];
        assert_int_equal(sum, total(&load));
    }
}

/* Each share is the formula's to within the one nanosecond of rounding. */
static void test_shares_are_what_the_formula_says(void **state)
{
    static struct load load;
    uint64_t random = 2;

    (void)state;
    for (int round = 0; round < 200; round++) {
        make(&load, &random);
        split(&load);
        for (uint32_t i = 0; i < load.len; i++) {
            const long double difference = (long double)load.share_ns[i] - exact(&load, i);

            assert_true(difference > -1.01L && difference < 1.01L);
        }
    }
}

/* A device that takes longer for what decodes touch, or for what chunks do: all that holds as well. */
static void test_what_decodes_and_chunks_touch_may_weigh_differently(void **state)
{
    static struct load load;
    uint64_t random = 5;

    (void)state;
    for (int round = 0; round < 200; round++) {
        uint64_t sum = 0;

        make(&load, &random);
        load.decode_weight = (uint16_t)(1 + below(&random, 60000) / (1 + below(&random, 1000)));
        load.chunk_weight = (uint16_t)(1 + below(&random, 60000) / (1 + below(&random, 1000)));
        split(&load);
        for (uint32_t i = 0; i < load.len; i++) {
            const long double difference = (long double)load.share_ns[i] - exact(&load, i);

            assert_true(difference > -1.01L && difference < 1.01L);
            sum += load.share_ns[i];
        }
        assert_int_equal(sum, total(&load));
    }
}

/* A decode that touches 10 tokens at weight 12, and a chunk of 4 that touches 10 at weight 3. */
static void test_the_heavier_pays_in_proportion(void **state)
{
    struct load load = {.len = 2,
                        .rows = {1, 4},
                        .ctx = {9, 0},
                        .wanted = {1, 1},
                        .part_ns = {0, 0, 150, 0},
                        .decode_weight = 12,
                        .chunk_weight = 3};

    (void)state;
    split(&load);
    assert_int_equal(load.share_ns[0], 120);
    assert_int_equal(load.share_ns[1], 30);
}

/* Nobody pays more for less: among equals the first may pay one nanosecond more. */
static void test_more_work_never_costs_less(void **state)
{
    static struct load load;
    uint64_t random = 3;

    (void)state;
    for (int round = 0; round < 200; round++) {
        make(&load, &random);
        split(&load);
        for (uint32_t i = 0; i < load.len; i++)
            for (uint32_t j = 0; j < load.len; j++) {
                const bool no_more = load.rows[i] <= load.rows[j] && load.ctx[i] <= load.ctx[j] &&
                                     load.wanted[i] <= load.wanted[j];
                const bool equal = load.rows[i] == load.rows[j] && load.ctx[i] == load.ctx[j] &&
                                   load.wanted[i] == load.wanted[j];

                if (no_more)
                    assert_true(load.share_ns[i] <= load.share_ns[j] + (i < j));
                if (equal && i < j)
                    assert_true(load.share_ns[i] - load.share_ns[j] <= 1);
            }
    }
}

/* Turned round, every entry pays the same but for the nanosecond that equals draw lots for. */
static void test_the_order_of_entries_does_not_matter(void **state)
{
    static struct load load, turned;
    uint64_t random = 4;

    (void)state;
    for (int round = 0; round < 500; round++) {
        make(&load, &random);
        split(&load);
        turned = load;
        for (uint32_t i = 0; i < load.len; i++) {
            turned.rows[i] = load.rows[load.len - 1 - i];
            turned.ctx[i] = load.ctx[load.len - 1 - i];
            turned.wanted[i] = load.wanted[load.len - 1 - i];
        }
        split(&turned);
        for (uint32_t i = 0; i < load.len; i++)
            assert_true(turned.share_ns[load.len - 1 - i] - load.share_ns[i] + 1 <= 2);
    }
}

/* 7 ns over three equal sequences: 3, 2, 2. */
static void test_the_remainder_goes_to_the_lowest_index(void **state)
{
    struct load load = {.len = 3,
                        .rows = {1, 1, 1},
                        .ctx = {9, 9, 9},
                        .wanted = {1, 1, 1},
                        .part_ns = {7, 0, 0, 0}};

    (void)state;
    split(&load);
    assert_int_equal(load.share_ns[0], 3);
    assert_int_equal(load.share_ns[1], 2);
    assert_int_equal(load.share_ns[2], 2);
}

/* A head that nobody used is shared like the fixed part. */
static void test_a_part_without_takers_is_shared_equally(void **state)
{
    struct load load = {.len = 2, .rows = {10, 30}, .ctx = {0, 0}, .part_ns = {100, 400, 0, 60}};

    (void)state;
    split(&load);
    assert_int_equal(load.share_ns[0], 50 + 30 + 100);
    assert_int_equal(load.share_ns[1], 50 + 30 + 300);
}

/* A price below the fixed-point's last digit: the time is still all given out. */
static void test_prices_too_small_to_write_down_lose_nothing(void **state)
{
    static struct load load;
    uint64_t sum = 0;

    (void)state;
    load.len = ENTRIES_MAX;
    for (uint32_t i = 0; i < load.len; i++) {
        load.rows[i] = 65536;
        load.ctx[i] = 1u << 24;
    }
    load.part_ns[PART_FIXED] = (uint64_t)1 << 61;
    load.part_ns[PART_ATTENTION] = 1000000000;
    split(&load);
    for (uint32_t i = 0; i < load.len; i++)
        sum += load.share_ns[i];
    assert_int_equal(sum, total(&load));
    assert_true(load.share_ns[0] - load.share_ns[load.len - 1] <= 1);
}

static void test_parts_of_a_measured_whole_add_up(void **state)
{
    const uint32_t ppm[PART_COUNT] = {333333, 333333, 333333, 1};
    uint64_t part_ns[PART_COUNT];

    (void)state;
    for (uint64_t whole_ns = 0; whole_ns < 1ull << 61; whole_ns = whole_ns * 3 + 7) {
        cost_parts(whole_ns, ppm, part_ns);
        assert_int_equal(part_ns[0] + part_ns[1] + part_ns[2] + part_ns[3], whole_ns);
        assert_true(part_ns[PART_FIXED] >= part_ns[PART_LINEAR]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares_add_up_to_the_step),
        cmocka_unit_test(test_shares_are_what_the_formula_says),
        cmocka_unit_test(test_what_decodes_and_chunks_touch_may_weigh_differently),
        cmocka_unit_test(test_the_heavier_pays_in_proportion),
        cmocka_unit_test(test_more_work_never_costs_less),
        cmocka_unit_test(test_the_order_of_entries_does_not_matter),
        cmocka_unit_test(test_the_remainder_goes_to_the_lowest_index),
        cmocka_unit_test(test_a_part_without_takers_is_shared_equally),
        cmocka_unit_test(test_prices_too_small_to_write_down_lose_nothing),
        cmocka_unit_test(test_parts_of_a_measured_whole_add_up),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
