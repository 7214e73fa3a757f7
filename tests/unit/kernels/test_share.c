/* test_share.c: the memory plan of a card adds up, or is refused with its sum. */
#include "kernels/share.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define GIB (1ull << 30)
#define MIB (1ull << 20)

static uint64_t taken(const struct share_part *part)
{
    return part->weight_bytes + part->activation_bytes + part->context_bytes +
           part->kv_tokens * part->kv_token_bytes;
}

/* An 8B model of bf16: 128 KiB of KV a token. */
static struct share_part large(void)
{
    return (struct share_part){.name = "balanced",
                               .weight_bytes = 16 * GIB,
                               .activation_bytes = GIB,
                               .context_bytes = 512 * MIB,
                               .kv_token_bytes = 128 << 10,
                               .kv_tokens_min = 8192,
                               .kv_tokens_max = 256 * 8192};
}

static struct share_part small(void)
{
    return (struct share_part){.name = "fast",
                               .weight_bytes = 2 * GIB,
                               .activation_bytes = 512 * MIB,
                               .context_bytes = 512 * MIB,
                               .kv_token_bytes = 32 << 10,
                               .kv_tokens_min = 4096,
                               .kv_tokens_max = 64 * 4096};
}

/* One model alone: 93 % of what weights and activations leave is KV cache. */
static void test_one_model_has_what_is_left(void **state)
{
    struct share_part part = large();
    struct buffer text = {0};
    uint64_t left = 80 * GIB - 17 * GIB - 512 * MIB - 8192 * (128 << 10);

    (void)state;
    assert_true(share_memory(&part, 1, 80 * GIB, &text));
    assert_int_equal(part.kv_tokens % SHARE_KV_BLOCK, 0);
    assert_true((part.kv_tokens - 8192) * (128 << 10) <= left / 100 * SHARE_KV_PERCENT);
    assert_true((part.kv_tokens - 8192 + 2 * SHARE_KV_BLOCK) * (128 << 10) >
                left / 100 * SHARE_KV_PERCENT);
    assert_non_null(strstr(text.data, "tier balanced: weights 16.00 GiB + activations 1.00 GiB + "
                                      "context 0.50 GiB + KV cache"));
    assert_non_null(strstr(text.data, "of the 80.00 GiB that there are"));
    buffer_release(&text);
}

/* No pool is larger than all its sequences could ever use. */
static void test_nobody_has_more_than_it_can_use(void **state)
{
    struct share_part part = small();
    struct buffer text = {0};

    (void)state;
    assert_true(share_memory(&part, 1, 80 * GIB, &text));
    assert_int_equal(part.kv_tokens, 64 * 4096);
    buffer_release(&text);
}

/* Two models: the plan adds up, each has a whole context, and both the same part of their contexts. */
static void test_two_models_share_what_is_left(void **state)
{
    struct share_part part[2] = {large(), small()};
    struct buffer text = {0};
    double of_large, of_small;

    (void)state;
    assert_true(share_memory(part, 2, 40 * GIB, &text));
    assert_true(taken(&part[0]) + taken(&part[1]) <= 40 * GIB);
    assert_true(part[0].kv_tokens >= 8192 && part[1].kv_tokens >= 4096);
    of_large = (double)(part[0].kv_tokens - 8192) / (255 * 8192);
    of_small = (double)(part[1].kv_tokens - 4096) / (63 * 4096);
    assert_true(of_large - of_small < 0.001 && of_small - of_large < 0.001);
    assert_true(of_large > 0.05 && of_large < 0.08);
    buffer_release(&text);
}

/* What was stated is not touched; the other has the rest. */
static void test_a_stated_pool_stays_as_it_is(void **state)
{
    struct share_part part[2] = {large(), small()};
    struct buffer text = {0};

    (void)state;
    part[0].kv_tokens = 16384;
    assert_true(share_memory(part, 2, 24 * GIB, &text));
    assert_int_equal(part[0].kv_tokens, 16384);
    assert_true(taken(&part[0]) + taken(&part[1]) <= 24 * GIB);
    assert_true(part[1].kv_tokens > 4096);
    buffer_release(&text);
}

/* To the byte: the least that both need fits exactly, and one byte less does not. */
static void test_what_just_fits_is_taken(void **state)
{
    struct share_part part[2] = {large(), small()}, again[2] = {large(), small()};
    struct buffer text = {0};
    uint64_t least;

    (void)state;
    part[0].kv_tokens = 8192;
    part[1].kv_tokens = 4096;
    least = taken(&part[0]) + taken(&part[1]);
    assert_true(share_memory(again, 2, least, &text));
    assert_int_equal(again[0].kv_tokens, 8192);
    assert_int_equal(again[1].kv_tokens, 4096);
    assert_int_equal(taken(&again[0]) + taken(&again[1]), least);
    again[0].kv_tokens = again[1].kv_tokens = 0;
    assert_false(share_memory(again, 2, least - 1, &text));
    assert_int_equal(again[0].kv_tokens, 0);
    buffer_release(&text);
}

/* A refusal shows each line, the sum, what there is, how much is missing and what to lower. */
static void test_a_plan_that_does_not_fit_shows_its_sum(void **state)
{
    struct share_part part[2] = {large(), small()};
    struct buffer text = {0};

    (void)state;
    assert_false(share_memory(part, 2, 20 * GIB, &text));
    assert_string_equal(
        text.data,
        "tier balanced: weights 16.00 GiB + activations 1.00 GiB + context 0.50 GiB + KV cache "
        "1.00 GiB (8192 tokens) = 18.50 GiB\n"
        "tier fast: weights 2.00 GiB + activations 0.50 GiB + context 0.50 GiB + KV cache 0.12 GiB "
        "(4096 tokens) = 3.12 GiB\n"
        "together 21.62 GiB, and there are 20.00 GiB: 1.62 GiB are missing\n"
        "lower kv_tokens, context_max, sequences_max or rows_max, or take smaller models, fewer "
        "tiers or another GPU\n");
    buffer_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_model_has_what_is_left),
        cmocka_unit_test(test_nobody_has_more_than_it_can_use),
        cmocka_unit_test(test_two_models_share_what_is_left),
        cmocka_unit_test(test_a_stated_pool_stays_as_it_is),
        cmocka_unit_test(test_what_just_fits_is_taken),
        cmocka_unit_test(test_a_plan_that_does_not_fit_shows_its_sum),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
