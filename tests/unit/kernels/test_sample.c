/* test_sample.c: Philox gives the published answers; filters keep what they say; seeds decide. */
#include "kernels/sample.h"

#include "kernels/philox.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { VOCAB = 300 };

static float weight[VOCAB];
static uint32_t heap[VOCAB];
static const struct sample_scratch scratch = {weight, heap, NULL};

/* The three known answers that Random123 publishes for philox4x32-10. */
static void test_philox_gives_the_known_answers(void **state)
{
    static const struct {
        struct philox counter;
        uint64_t key;
        struct philox answer;
    } known[] = {
        {{{0, 0, 0, 0}}, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
        {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
         0xffffffffffffffff,
         {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
        {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
         0x299f31d0a4093822,
         {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        struct philox got = philox4x32(known[i].counter, known[i].key);

        assert_memory_equal(&got, &known[i].answer, sizeof(got));
    }
}

static void ramp(float *logits)
{
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = (float)((i * 97) % VOCAB) * 0.01f; /* each value once */
}

/* Two tokens with the same logit: the lower id, on every machine. */
static void test_greedy_takes_the_first_of_the_highest(void **state)
{
    struct engine_sampling sampling = {.temperature = 0.0f, .top_p = 1.0f};
    float logits[VOCAB];

    (void)state;
    ramp(logits);
    logits[17] = logits[230] = 9.0f;
    assert_int_equal(sample_token(logits, VOCAB, &sampling, 5, &scratch), 17);
    assert_int_equal(sample_greedy(logits, 1), 0);
}

static void test_nan_and_infinity_are_seen_wherever_they_stand(void **state)
{
    const float bad[] = {NAN, INFINITY, -INFINITY};
    float logits[VOCAB];

    (void)state;
    ramp(logits);
    assert_true(sample_finite(logits, VOCAB));
    for (uint32_t at = 0; at < VOCAB; at++)
        for (uint32_t i = 0; i < 3; i++) {
            float kept = logits[at];

            logits[at] = bad[i];
            assert_false(sample_finite(logits, VOCAB));
            logits[at] = kept;
        }
    logits[3] = -3.4e38f;
    assert_true(sample_finite(logits, VOCAB));
}

/* Chi-squared over 40,000 draws of 8 tokens: 7 degrees of freedom, 24.3 is passed once in 1,000. */
static void test_draws_follow_the_softmax(void **state)
{
    const float logits[8] = {0.0f, 1.0f, 2.0f, -1.0f, 0.5f, 1.5f, -3.0f, 2.0f};
    struct engine_sampling sampling = {.temperature = 0.8f, .top_p = 1.0f, .seed = 7};
    uint32_t seen[8] = {0};
    double sum = 0.0, chi = 0.0;

    (void)state;
    for (uint32_t draw = 0; draw < 40000; draw++)
        seen[sample_token(logits, 8, &sampling, draw, &scratch)]++;
    for (int i = 0; i < 8; i++)
        sum += exp((double)logits[i] / 0.8);
    for (int i = 0; i < 8; i++) {
        double want = 40000.0 * exp((double)logits[i] / 0.8) / sum;

        chi += (seen[i] - want) * (seen[i] - want) / want;
    }
    assert_true(chi < 24.3);
}

/* The ids that come out in many draws, as a sorted set. */
static uint32_t drawn(const float *logits, const struct engine_sampling *sampling, uint8_t *seen)
{
    uint32_t count = 0;

    memset(seen, 0, VOCAB);
    for (uint32_t draw = 0; draw < 20000; draw++)
        seen[sample_token(logits, VOCAB, sampling, draw, &scratch)] = 1;
    for (uint32_t i = 0; i < VOCAB; i++)
        count += seen[i];
    return count;
}

static void test_top_k_keeps_exactly_k_and_ties_to_the_low_ids(void **state)
{
    struct engine_sampling sampling = {.temperature = 5.0f, .top_p = 1.0f, .top_k = 4};
    float logits[VOCAB] = {0};
    uint8_t seen[VOCAB];

    (void)state;
    logits[200] = 1.0f;
    assert_int_equal(drawn(logits, &sampling, seen), 4);
    assert_true(seen[200] && seen[0] && seen[1] && seen[2]);
}

/* Weights 1, 1/2, 1/4, …: half of all lies on the first, three quarters on the first two. */
static void test_top_p_keeps_the_fewest_that_reach_it(void **state)
{
    static const struct {
        float top_p;
        uint32_t top_k;
        uint32_t kept;
    } cases[] = {{0.4f, 0, 1}, {0.6f, 0, 2}, {0.8f, 0, 3},
                 {0.9f, 0, 4}, {0.6f, 2, 1}, {0.7f, 2, 2}};
    struct engine_sampling sampling = {.temperature = 1.0f};
    float logits[VOCAB];
    uint8_t seen[VOCAB];

    (void)state;
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = -80.0f;
    for (uint32_t i = 0; i < 40; i++)
        logits[100 + i] = -0.69314718f * (float)i;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        sampling.top_p = cases[i].top_p;
        sampling.top_k = cases[i].top_k;
        assert_int_equal(drawn(logits, &sampling, seen), cases[i].kept);
        for (uint32_t id = 0; id < cases[i].kept; id++)
            assert_true(seen[100 + id]);
    }
}

static void test_min_p_is_relative_to_the_highest(void **state)
{
    struct engine_sampling sampling = {.temperature = 1.0f, .top_p = 1.0f, .min_p = 0.2f};
    float logits[VOCAB];
    uint8_t seen[VOCAB];

    (void)state;
    for (uint32_t i = 0; i < VOCAB; i++)
        logits[i] = 3.0f - 0.69314718f * (float)i;
    assert_int_equal(drawn(logits, &sampling, seen), 3); /* 1, 1/2, 1/4 are over 0.2 */
    sampling.min_p = 7.0f;
    assert_int_equal(drawn(logits, &sampling, seen), 1);
}

/* Seed, position and choice each matter; nothing else does. */
static void test_a_draw_is_a_function_of_seed_position_choice(void **state)
{
    struct engine_sampling sampling = {.temperature = 3.0f, .top_p = 0.95f, .seed = 42};
    float logits[VOCAB];
    uint32_t first[64], same = 0, other_seed = 0, other_choice = 0;

    (void)state;
    ramp(logits);
    for (uint32_t i = 0; i < 64; i++)
        first[i] = sample_token(logits, VOCAB, &sampling, i, &scratch);
    for (uint32_t i = 64; i-- > 0;) {
        same += first[i] == sample_token(logits, VOCAB, &sampling, i, &scratch);
        sampling.seed = 43;
        other_seed += first[i] == sample_token(logits, VOCAB, &sampling, i, &scratch);
        sampling.seed = 42;
        sampling.choice = 1;
        other_choice += first[i] == sample_token(logits, VOCAB, &sampling, i, &scratch);
        sampling.choice = 0;
    }
    assert_int_equal(same, 64);
    assert_true(other_seed < 16);
    assert_true(other_choice < 16);
}

/* A temperature so small that every quotient overflows is greedy, not undefined. */
static void test_tiny_temperatures_are_greedy(void **state)
{
    struct engine_sampling sampling = {.temperature = 1e-38f, .top_p = 1.0f};
    float logits[VOCAB];

    (void)state;
    ramp(logits);
    for (uint32_t i = 0; i < 50; i++)
        assert_int_equal(sample_token(logits, VOCAB, &sampling, i, &scratch),
                         sample_greedy(logits, VOCAB));
}

/* What the C library's doubles say, to float's last places; and never above 0. */
static void test_a_logprob_is_that_of_the_softmax(void **state)
{
    float logits[VOCAB];

    (void)state;
    for (uint32_t vocab = 1; vocab <= VOCAB; vocab += vocab < 40 ? 1 : 37) {
        double sum = 0;

        ramp(logits);
        for (uint32_t i = 0; i < vocab; i++)
            logits[i] = logits[i] * 20.0f - 17.0f;
        for (uint32_t i = 0; i < vocab; i++)
            sum += exp((double)logits[i]);
        for (uint32_t id = 0; id < vocab; id++) {
            const double want = (double)logits[id] - log(sum);

            assert_true(fabs((double)sample_logprob(logits, vocab, id) - want) <=
                        2e-7 + fabs(want) * 1e-7);
        }
    }
    logits[0] = 88.0f; /* all the others together do not show */
    logits[1] = -87.0f;
    assert_true(sample_logprob(logits, 2, 0) == 0.0f);
    assert_true(sample_logprob(logits, 2, 1) == -175.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_gives_the_known_answers),
        cmocka_unit_test(test_a_logprob_is_that_of_the_softmax),
        cmocka_unit_test(test_greedy_takes_the_first_of_the_highest),
        cmocka_unit_test(test_nan_and_infinity_are_seen_wherever_they_stand),
        cmocka_unit_test(test_draws_follow_the_softmax),
        cmocka_unit_test(test_top_k_keeps_exactly_k_and_ties_to_the_low_ids),
        cmocka_unit_test(test_top_p_keeps_the_fewest_that_reach_it),
        cmocka_unit_test(test_min_p_is_relative_to_the_highest),
        cmocka_unit_test(test_a_draw_is_a_function_of_seed_position_choice),
        cmocka_unit_test(test_tiny_temperatures_are_greedy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
