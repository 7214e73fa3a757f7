/*
 * test_cuda_sample.c: the sampling kernel says what its oracles say (sample_oracle.h): to the token
 * where whole numbers decide, by its frequencies where doubles do.
 */
#include "gpu_rig.h"
#include "sample_oracle.h"

#include "kernels/philox.h"
#include "kernels/sample.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NOTHING = 0xffffffff }; /* what device memory holds before a kernel writes it */

/* BRIEF: under sanitizers, which look at other things and take ten times as long, a part of it. */
enum { DRAWS = BRIEF ? 100 : 2000, TIE_DRAWS = BRIEF ? 2 : 20 };

/* Rows of one launch and what came of them. Results lie at `want`, last tokens at `slot`. */
struct batch {
    uint32_t vocab, rows, most, masks, slots, wanted;
    float *logits;
    struct sample_row *row;
    uint32_t *mask; /* [masks][ceil(vocab / 32)] */
    uint16_t *seen; /* [slots][vocab] */
    uint32_t *token, *bad, *last;
    float *logprob;
};

static void *room(size_t count, size_t size)
{
    void *at = calloc(count > 0 ? count : 1, size);

    assert_non_null(at);
    return at;
}

/* Rows that want plain sampling at temperature 1, each for a slot and a place of its own. */
static struct batch batch_of(uint32_t rows, uint32_t vocab)
{
    struct batch batch = {
        .vocab = vocab, .rows = rows, .most = rows, .slots = rows, .wanted = rows};

    batch.logits = room((size_t)rows * vocab, sizeof(float));
    batch.row = room(rows, sizeof(*batch.row));
    for (uint32_t i = 0; i < rows; i++)
        batch.row[i] = (struct sample_row){.seed = 11,
                                           .temperature = 1.0f,
                                           .top_p = 1.0f,
                                           .position = i,
                                           .slot = i,
                                           .want = i,
                                           .mask = SAMPLE_NO_MASK,
                                           .repetition = 1.0f};
    return batch;
}

static void batch_free(struct batch *batch)
{
    free(batch->logits);
    free(batch->row);
    free(batch->mask);
    free(batch->seen);
    free(batch->token);
    free(batch->bad);
    free(batch->last);
    free(batch->logprob);
}

static float *row_of(const struct batch *batch, uint32_t row)
{
    return batch->logits + (size_t)row * batch->vocab;
}

static size_t mask_words(const struct batch *batch)
{
    return (batch->vocab + 31) / 32;
}

static void run(struct rig *rig, struct batch *batch)
{
    size_t logits = (size_t)batch->rows * batch->vocab * sizeof(float);
    size_t seen = (size_t)batch->slots * batch->vocab * sizeof(uint16_t);
    size_t results = batch->wanted * sizeof(uint32_t), last = batch->slots * sizeof(uint32_t);
    struct sample_args args = {
        .rows = rig_extent(rig, batch->most, batch->rows),
        .row = rig_put(rig, batch->row, batch->rows * sizeof(*batch->row)),
        .logits = rig_put(rig, batch->logits, logits),
        .vocab = batch->vocab,
        .last = rig_room(rig, last),
        .token = rig_room(rig, results),
        .logprob = rig_room(rig, results),
        .bad = rig_room(rig, results),
    };

    if (batch->mask != NULL)
        args.mask = rig_put(rig, batch->mask, batch->masks * mask_words(batch) * sizeof(uint32_t));
    if (batch->seen != NULL)
        args.seen = rig_put(rig, batch->seen, seen);
    batch->token = batch->token != NULL ? batch->token : room(batch->wanted, sizeof(uint32_t));
    batch->bad = batch->bad != NULL ? batch->bad : room(batch->wanted, sizeof(uint32_t));
    batch->logprob = batch->logprob != NULL ? batch->logprob : room(batch->wanted, sizeof(float));
    batch->last = batch->last != NULL ? batch->last : room(batch->slots, sizeof(uint32_t));
    rig->kernels->sample(rig->gpu, &args);
    rig_wait(rig);
    rig_get(rig, batch->token, args.token, results);
    rig_get(rig, batch->bad, args.bad, results);
    rig_get(rig, batch->logprob, args.logprob, results);
    rig_get(rig, batch->last, args.last, last);
}

static struct oracle_row oracle_of(const struct batch *batch, uint32_t at)
{
    const struct sample_row *row = &batch->row[at];
    struct oracle_row from = {.vocab = batch->vocab, .logits = row_of(batch, at), .row = row};

    if (row->mask != SAMPLE_NO_MASK)
        from.mask = batch->mask + row->mask * mask_words(batch);
    if (batch->seen != NULL)
        from.seen = batch->seen + (size_t)row->slot * batch->vocab;
    return from;
}

/* Every row has the token that whole numbers say, or is bad where none is allowed. */
static void expect_the_oracles_tokens(const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->rows; i++) {
        struct oracle_row from = oracle_of(batch, i);
        const struct sample_row *row = &batch->row[i];
        bool none = oracle_greedy(&from) == UINT32_MAX;

        assert_int_equal(batch->bad[row->want], none);
        assert_int_equal(batch->token[row->want], none ? 0 : oracle_token(&from));
        assert_int_equal(batch->last[row->slot], batch->token[row->want]);
    }
}

/* A position, different for each `index`, whose random number is above `unit`. */
static uint32_t position_beyond(double unit, const struct sample_row *row, uint32_t index)
{
    uint32_t position = index << 24;

    while (philox_unit(row->seed, position, row->choice, 0) <= unit)
        position++;
    return position;
}

static float normal(uint64_t *seed)
{
    float sum = 0.0f;

    for (int i = 0; i < 6; i++)
        sum += rig_uniform(seed);
    return sum;
}

/* Two equal ones at every two places, in rows that begin at every alignment. */
static void test_cuda_greedy_takes_the_lowest_of_the_highest(void **state)
{
    enum { V = 19 };
    struct batch batch = batch_of(V * (V + 1) / 2, V);
    uint64_t seed = 3;
    uint32_t at = 0;

    for (uint32_t a = 0; a < V; a++)
        for (uint32_t b = a; b < V; b++, at++) {
            for (uint32_t i = 0; i < V; i++)
                row_of(&batch, at)[i] = normal(&seed) - 20.0f;
            row_of(&batch, at)[a] = at % 3 == 0 ? 0.0f : 4.0f;
            row_of(&batch, at)[b] = at % 3 == 0 ? -0.0f : 4.0f;
            batch.row[at].temperature = at % 5 == 0 ? -1.0f : 0.0f;
        }
    run(*state, &batch);
    at = 0;
    for (uint32_t a = 0; a < V; a++)
        for (uint32_t b = a; b < V; b++, at++)
            assert_int_equal(batch.token[at], a);
    expect_the_oracles_tokens(&batch);
    batch_free(&batch);
}

/* Ties far apart are seen by different warps of the larger block. */
static void test_cuda_greedy_in_a_large_vocabulary(void **state)
{
    static const uint32_t place[][2] = {{0, 9000}, {8999, 9000}, {31, 32}, {2047, 2048},
                                        {2, 6},    {515, 4611},  {0, 0},   {9000, 9000}};
    struct batch batch = batch_of(8, 9001);
    uint64_t seed = 4;

    for (uint32_t at = 0; at < batch.rows; at++) {
        for (uint32_t i = 0; i < batch.vocab; i++)
            row_of(&batch, at)[i] = normal(&seed) - 5.0f;
        row_of(&batch, at)[place[at][0]] = row_of(&batch, at)[place[at][1]] = 7.0f;
        batch.row[at].temperature = 0.0f;
    }
    run(*state, &batch);
    for (uint32_t at = 0; at < batch.rows; at++)
        assert_int_equal(batch.token[at], place[at][0]);
    batch_free(&batch);
}

/* Wherever it stands, and where a mask hides it too. */
static void test_cuda_what_is_no_number_is_said(void **state)
{
    static const float worst[] = {NAN, INFINITY, -INFINITY, -NAN};
    enum { V = 41 };
    struct batch batch = batch_of(V * 4 + 1, V);
    uint64_t seed = 5;

    batch.masks = 1;
    batch.mask = room(mask_words(&batch), sizeof(uint32_t));
    batch.mask[0] = 0x5u; /* ids 0 and 2 */
    for (uint32_t at = 0; at < batch.rows; at++) {
        for (uint32_t i = 0; i < V; i++)
            row_of(&batch, at)[i] = normal(&seed);
        if (at < V * 4)
            row_of(&batch, at)[at / 4] = worst[at % 4];
        batch.row[at].temperature = at % 3 == 0 ? 0.0f : 1.0f;
        batch.row[at].mask = at % 2 == 0 ? 0 : SAMPLE_NO_MASK;
        batch.row[at].flags = SAMPLE_LOGPROB;
        batch.row[at].top_k = at % 7;
    }
    run(*state, &batch);
    for (uint32_t at = 0; at < V * 4; at++) {
        assert_int_equal(batch.bad[at], 1);
        assert_int_equal(batch.token[at], 0);
        assert_int_equal(batch.last[at], 0);
        assert_true(batch.logprob[at] == 0.0f);
    }
    assert_int_equal(batch.bad[V * 4], 0);
    batch_free(&batch);
}

struct filters {
    float temperature, min_p, top_p;
    uint32_t top_k;
};

static const struct filters filters[] = {
    {1.0f, 0.0f, 1.0f, 0},   {0.7f, 0.0f, 1.0f, 0},   {1.0f, 0.3f, 1.0f, 0},
    {1.0f, 0.0f, 1.0f, 1},   {1.0f, 0.0f, 1.0f, 7},   {3.0f, 0.0f, 1.0f, 64},
    {1.0f, 0.0f, 0.9f, 0},   {1.0f, 0.0f, 0.01f, 0},  {2.0f, 0.0f, 0.5f, 0},
    {1.0f, 0.0f, 0.999f, 0}, {1.5f, 0.0f, 0.8f, 20},  {1.5f, 0.05f, 1.0f, 20},
    {1.5f, 0.1f, 0.6f, 0},   {1.5f, 0.02f, 0.7f, 33}, {9.0f, 0.5f, 0.5f, 50},
    {1.0f, 2.0f, 1.0f, 0},   {1.0f, 1.0f, 0.5f, 5},   {1.0f, 0.0f, 1e-40f, 0},
    {1.0f, 1e-30f, 1.0f, 0}, {0.1f, 0.0f, 0.75f, 3},  {1.0f, -1.0f, 7.0f, 5000},
};

enum { FILTERS = sizeof(filters) / sizeof(filters[0]), KINDS = 5 };

/* Spread, flat to the last bits of a weight, few values, two values, all the same. */
static float logit_of_kind(uint32_t kind, uint64_t *seed)
{
    float value = rig_uniform(seed);

    switch (kind) {
    case 0:
        return 12.0f * value;
    case 1:
        return 1e-3f * value;
    case 2:
        return rintf(3.0f * value);
    case 3:
        return value > 0.0f ? 1.0f : 0.5f;
    default:
        return -2.0f;
    }
}

static void use(struct sample_row *row, const struct filters *filter)
{
    row->temperature = filter->temperature;
    row->min_p = filter->min_p;
    row->top_p = filter->top_p;
    row->top_k = filter->top_k;
}

/* Each filter alone and together, on logits with and without ties; several draws of each. */
static void filtered(struct rig *rig, uint32_t vocab, uint32_t draws)
{
    struct batch batch = batch_of(FILTERS * KINDS * draws, vocab);
    uint8_t *kept = room(vocab, 1);
    double *probability = room(vocab, sizeof(double));
    uint64_t seed = 100 + vocab;

    for (uint32_t at = 0; at < batch.rows; at++) {
        float *logits = row_of(&batch, at);

        use(&batch.row[at], &filters[at / draws % FILTERS]);
        for (uint32_t i = 0; i < vocab; i++)
            logits[i] = at % draws > 0 ? row_of(&batch, at - 1)[i]
                                       : logit_of_kind(at / draws / FILTERS, &seed);
    }
    run(rig, &batch);
    expect_the_oracles_tokens(&batch);
    for (uint32_t at = 0; at < batch.rows; at += draws) {
        struct oracle_row from = oracle_of(&batch, at);

        oracle_kept(&from, kept);
        oracle_distribution(&from, probability);
        for (uint32_t i = 0; i < vocab; i++)
            assert_int_equal(kept[i], probability[i] > 0.0);
    }
    free(kept);
    free(probability);
    batch_free(&batch);
}

static void test_cuda_filters_keep_what_the_model_keeps(void **state)
{
    filtered(*state, 37, BRIEF ? 1 : 3);
    filtered(*state, 333, BRIEF ? 1 : 2);
    if (!BRIEF)
        filtered(*state, 2, 2);
}

/* Ties are cut at every number of them, and by mass within them: the lowest ids stay. */
static void test_cuda_ties_are_cut_to_the_lowest_ids(void **state)
{
    enum { V = 24, EACH = TIE_DRAWS };
    struct batch batch = batch_of(2 * V * EACH, V);

    for (uint32_t at = 0; at < batch.rows; at++) {
        uint32_t k = at / EACH % V;

        for (uint32_t i = 0; i < V; i++)
            row_of(&batch, at)[i] = i % 3 == 1 ? 0.25f : 0.0f; /* 8 above, 16 below */
        batch.row[at].temperature = 1e3f;
        if (at < V * EACH)
            batch.row[at].top_k = k;
        else
            batch.row[at].top_p = ((float)k + 0.5f) / V;
    }
    run(*state, &batch);
    expect_the_oracles_tokens(&batch);
    for (uint32_t k = 1; k < V; k++) {
        uint32_t highest_low = 0, drawn = 0;

        for (uint32_t at = k * EACH; at < (k + 1) * EACH; at++)
            if (batch.token[at] % 3 != 1) {
                highest_low = batch.token[at] > highest_low ? batch.token[at] : highest_low;
                drawn++;
            }
        /* The k - 8 lowest ids of the lighter: 0 2 3 5 6 8 … */
        assert_true(k > 8 ? highest_low <= (k - 9) / 2 * 3 + ((k - 9) % 2) * 2 : drawn == 0);
    }
    batch_free(&batch);
}

/*
 * Chi-squared over 2,000 draws, by the distribution in doubles: with 7 degrees of freedom 24.3 is
 * passed once in 1,000 seeds, with 4 18.5; the seed is fixed.
 */
static void test_cuda_draws_follow_the_distribution(void **state)
{
    static const float logits[8] = {0.0f, 1.0f, 2.0f, -1.0f, 0.5f, 1.5f, -3.0f, 2.0f};
    static const double limit[2] = {24.3, 18.5};
    for (uint32_t with = 0; with < 2; with++) {
        struct batch batch = batch_of(DRAWS, 8);
        uint32_t seen[8] = {0};
        double probability[8], chi = 0.0;
        struct oracle_row from = oracle_of(&batch, 0);

        for (uint32_t at = 0; at < DRAWS; at++) {
            memcpy(row_of(&batch, at), logits, sizeof(logits));
            batch.row[at].temperature = 0.8f;
            batch.row[at].top_k = with == 1 ? 5 : 0;
            batch.row[at].choice = 3;
        }
        run(*state, &batch);
        oracle_distribution(&from, probability);
        for (uint32_t at = 0; at < DRAWS; at++)
            seen[batch.token[at]]++;
        for (uint32_t i = 0; i < 8; i++) {
            double want = DRAWS * probability[i];

            assert_true(want > 0.0 || seen[i] == 0);
            chi += want > 0.0 ? (seen[i] - want) * (seen[i] - want) / want : 0.0;
        }
        assert_true(chi < limit[with]);
        expect_the_oracles_tokens(&batch);
        batch_free(&batch);
    }
}

/*
 * Penalties change what was generated before, in their order; a mask hides; both change what is
 * drawn.
 */
static void test_cuda_penalties_and_masks(void **state)
{
    enum { V = 75, ROWS = 160 };
    struct batch batch = batch_of(ROWS, V);
    uint64_t seed = 8;

    batch.masks = 4;
    batch.mask = room(batch.masks * mask_words(&batch), sizeof(uint32_t));
    batch.seen = room((size_t)ROWS * V, sizeof(uint16_t));
    for (uint32_t i = 0; i < V; i++) {
        batch.mask[i / 32] |= (uint32_t)(i % 2) << i % 32;
        batch.mask[3 + i / 32] |= (i == 74 ? 1u : 0u) << i % 32;
        batch.mask[6 + i / 32] |= (rig_uniform(&seed) > 0.0f ? 1u : 0u) << i % 32;
    } /* the last allows nothing */
    for (uint32_t at = 0; at < ROWS; at++) {
        struct sample_row *row = &batch.row[at];

        for (uint32_t i = 0; i < V; i++) {
            row_of(&batch, at)[i] = 4.0f * rig_uniform(&seed);
            batch.seen[at * V + i] = (uint16_t)(rig_uniform(&seed) > 0.3f ? 0 : i % 5);
        }
        use(row, &filters[at % FILTERS]);
        row->temperature = at % 4 == 0 ? 0.0f : row->temperature;
        row->mask = at % 6 < 4 ? at % 6 : SAMPLE_NO_MASK;
        row->presence = at % 2 == 0 ? 0.6f : 0.0f;
        row->frequency = at % 3 == 0 ? 0.3f : -0.1f;
        row->repetition = at % 5 == 0 ? 1.0f : 1.3f;
    }
    memset(batch.seen + 7 * V, 0xff, V * sizeof(uint16_t)); /* 65,535 times each */
    batch.row[7].repetition = 1e-37f;                       /* logits beyond float: at its ends */
    batch.row[13].repetition = 1e38f;
    run(*state, &batch);
    expect_the_oracles_tokens(&batch);
    batch_free(&batch);
}

/* Far apart, tiny, all the same; temperatures at both ends of float. */
static void test_cuda_extreme_logits(void **state)
{
    static const float value[][2] = {{1e30f, -1e30f},   {FLT_MAX, -FLT_MAX}, {1e-45f, 0.0f},
                                     {1e-39f, -1e-39f}, {0.0f, -0.0f},       {-FLT_MAX, -FLT_MAX},
                                     {1e30f, 1e30f},    {88.0f, -88.0f}};
    static const float temperature[] = {0.0f, 1e-45f, 1e-30f, 1.0f, 1e30f, FLT_MAX};
    enum { V = 43, KIND = 8 * 6 };
    struct batch batch = batch_of(BRIEF ? KIND : KIND * 4, V);
    uint64_t seed = 9;

    for (uint32_t at = 0; at < batch.rows; at++) {
        const float *pair = value[at % 8];

        for (uint32_t i = 0; i < V; i++)
            row_of(&batch, at)[i] = pair[rig_uniform(&seed) > 0.0f];
        batch.row[at].temperature = temperature[at / 8 % 6];
        batch.row[at].top_p = at / KIND % 2 == 1 ? 0.7f : 1.0f;
        batch.row[at].top_k = at / KIND / 2 == 1 ? 9 : 0;
    }
    run(*state, &batch);
    expect_the_oracles_tokens(&batch);
    batch_free(&batch);
}

/*
 * Weights to both sides of min_p, where that is a power of two and one unit in the last place of a
 * logit decides: what is not even weighed weighs less than min_p.
 */
static void test_cuda_the_edge_of_min_p(void **state)
{
    enum { V = 41, EACH = 12, EDGES = 20 };
    struct batch batch = batch_of(EACH * EDGES, V);

    for (uint32_t at = 0; at < batch.rows; at++) {
        float min_p = ldexpf(1.0f, -1 - (int)(at / EACH));
        float logit = logf(min_p);

        for (uint32_t i = 0; i < V / 2; i++)
            logit = nextafterf(logit, 0.0f);
        row_of(&batch, at)[0] = 0.0f;
        for (uint32_t i = 1; i < V; i++, logit = nextafterf(logit, -200.0f))
            row_of(&batch, at)[i] = logit;
        batch.row[at].min_p = min_p;
        /* Beside tokens as light as that, most draws would be of the highest. */
        batch.row[at].position = position_beyond(1.0 - 16.0 * (double)min_p, &batch.row[at], at);
    }
    run(*state, &batch);
    expect_the_oracles_tokens(&batch);
    batch_free(&batch);
}

/* Thousands that weigh 2^-23 and less add up to what top_p looks at; draws from their very end. */
static void test_cuda_light_tokens_count(void **state)
{
    struct batch batch = batch_of(8, 5000);
    uint64_t seed = 17;

    for (uint32_t at = 0; at < batch.rows; at++) {
        for (uint32_t i = 0; i < batch.vocab; i++)
            row_of(&batch, at)[i] =
                i == 0 ? 0.0f : -16.0f + (at % 2 == 0 ? rig_uniform(&seed) : 0.0f);
        batch.row[at].top_p = at < 4 ? 0.9998f : 1.0f;
        batch.row[at].position = position_beyond(0.9998, &batch.row[at], at);
    }
    run(*state, &batch);
    expect_the_oracles_tokens(&batch);
    for (uint32_t at = 0; at < batch.rows; at++)
        assert_true(batch.token[at] > 1000);
    batch_free(&batch);
}

/*
 * The whole of a vocabulary with equal logits: sums stay below 2^64, and the block's shares are of
 * every size. One row draws from 300,000, one from the lowest 150,001 of them, one from half the
 * mass.
 */
static void test_cuda_the_largest_vocabulary(void **state)
{
    struct batch batch = batch_of(3, BRIEF ? 9000 : 300000);

    for (uint32_t i = 0; i < 3 * batch.vocab; i++)
        batch.logits[i] = i < batch.vocab ? 1.0f : (float)(i % 2);
    batch.row[1].top_k = batch.vocab / 2 + 1;
    batch.row[1].temperature = 5.0f;
    batch.row[2].top_p = 0.5f;
    run(*state, &batch);
    expect_the_oracles_tokens(&batch);
    batch_free(&batch);
}

/* As many as a tokenizer can have, all the same: their sum does not overflow. */
static void test_cuda_a_million_tokens(void **state)
{
    struct batch batch = batch_of(1, 1 << 20);
    double unit = philox_unit(11, 0, 0, 0);

    run(*state, &batch);
    assert_int_equal(batch.token[0], (uint32_t)(unit * (1 << 20)));
    batch_free(&batch);
}

/* The same logits through kernels/sample.c: greedy, unfiltered, and the log-probability. */
static void test_cuda_agrees_with_the_hosts(void **state)
{
    static const uint32_t vocab[] = {2, 3, 17, 500, 8192, 8193};

    for (uint32_t at = 0; at < sizeof(vocab) / sizeof(vocab[0]); at++) {
        uint32_t rows = vocab[at] > 1000 ? 6 : 40;
        uint64_t seed = 20 + at;
        struct batch batch = batch_of(rows, vocab[at]);
        struct sample_scratch scratch = {room(vocab[at], 4), room(vocab[at], 4), NULL};

        for (uint32_t i = 0; i < rows * vocab[at]; i++)
            batch.logits[i] = (i / vocab[at] % 2 == 0 ? 3.0f : 1.0f) * normal(&seed);
        for (uint32_t i = 0; i < rows; i++) {
            batch.row[i].temperature = i % 3 == 0 ? 0.0f : 0.9f;
            batch.row[i].flags = i % 5 == 4 ? 0 : SAMPLE_LOGPROB;
        }
        run(*state, &batch);
        for (uint32_t i = 0; i < rows; i++) {
            struct engine_sampling sampling = {
                .temperature = batch.row[i].temperature, .top_p = 1.0f, .seed = 11};
            uint32_t token = sample_token(row_of(&batch, i), vocab[at], &sampling,
                                          batch.row[i].position, &scratch);
            float logprob = sample_logprob(row_of(&batch, i), vocab[at], token);

            assert_int_equal(batch.token[i], token);
            if (batch.row[i].flags == 0)
                assert_true(isnan(batch.logprob[i])); /* not touched */
            else
                assert_true(fabsf(batch.logprob[i] - logprob) <=
                            1e-6f * fmaxf(1.0f, fabsf(logprob)));
        }
        free(scratch.weight);
        free(scratch.heap);
        batch_free(&batch);
    }
}

/* The log-probability is of what the model gave, whatever the mask and the penalties made of it. */
static void test_cuda_logprob_is_of_the_raw_logits(void **state)
{
    static const float logits[4] = {1.0f, 5.0f, 2.0f, 1.0f};
    static const uint16_t seen[4] = {0, 3, 1, 0};
    struct batch batch = batch_of(2, 4);

    batch.masks = 1;
    batch.mask = room(1, sizeof(uint32_t));
    batch.mask[0] = 0xdu; /* not id 1 */
    batch.seen = room(2 * 4, sizeof(uint16_t));
    for (uint32_t at = 0; at < 2; at++) {
        memcpy(row_of(&batch, at), logits, sizeof(logits));
        memcpy(batch.seen + at * 4, seen, sizeof(seen));
        batch.row[at].flags = SAMPLE_LOGPROB;
        batch.row[at].temperature = at == 0 ? 0.0f : 1e-3f;
        batch.row[at].mask = 0;
        batch.row[at].presence = 3.0f; /* id 2 falls below 0 and 3 */
    }
    run(*state, &batch);
    assert_int_equal(batch.token[0], 0);
    for (uint32_t at = 0; at < 2; at++)
        assert_float_equal(batch.logprob[at], sample_logprob(logits, 4, batch.token[at]), 1e-6);
    expect_the_oracles_tokens(&batch);
    batch_free(&batch);
}

/* Many kinds of rows at once: filters, masks, penalties, greedy, log-probabilities. */
static struct batch mixed(uint32_t rows, uint32_t vocab)
{
    struct batch batch = batch_of(rows, vocab);
    uint64_t seed = 30;

    batch.masks = 2;
    batch.mask = room(batch.masks * mask_words(&batch), sizeof(uint32_t));
    batch.seen = room((size_t)rows * vocab, sizeof(uint16_t));
    for (uint32_t i = 0; i < batch.masks * mask_words(&batch); i++)
        batch.mask[i] = 0x5a5a00ffu * (i + 1);
    for (uint32_t at = 0; at < rows; at++) {
        for (uint32_t i = 0; i < vocab; i++) {
            row_of(&batch, at)[i] = logit_of_kind(at % 3, &seed);
            batch.seen[(size_t)at * vocab + i] = (uint16_t)(i % 9 == 0);
        }
        use(&batch.row[at], &filters[at % FILTERS]);
        batch.row[at].temperature = at % 5 == 0 ? 0.0f : batch.row[at].temperature;
        batch.row[at].mask = at % 4 < 2 ? at % 4 : SAMPLE_NO_MASK;
        batch.row[at].presence = at % 3 == 0 ? 0.5f : 0.0f;
        batch.row[at].flags = at % 2 == 0 ? SAMPLE_LOGPROB : 0;
    }
    return batch;
}

/*
 * Results go where they are wanted, tokens to their slots, and nowhere else; padding is not looked
 * at.
 */
static void test_cuda_results_go_where_they_are_wanted(void **state)
{
    enum { V = 66, ROWS = 23 };
    struct batch batch = mixed(ROWS, V);
    bool touched[3 * ROWS] = {false};

    batch.most = 64;
    batch.wanted = batch.slots = 3 * ROWS;
    batch.seen = realloc(batch.seen, (size_t)batch.slots * V * sizeof(uint16_t));
    assert_non_null(batch.seen);
    memset(batch.seen, 0, (size_t)batch.slots * V * sizeof(uint16_t));
    for (uint32_t at = 0; at < ROWS; at++) {
        batch.row[at].want = (at * 7 + 5) % ROWS * 3;
        batch.row[at].slot = (at * 5 + 2) % ROWS * 3 + 1;
        touched[batch.row[at].want] = true;
        touched[batch.row[at].slot] = true;
    }
    run(*state, &batch);
    expect_the_oracles_tokens(&batch);
    for (uint32_t i = 0; i < batch.wanted; i++) {
        if (!touched[i] || i % 3 != 0)
            assert_true(batch.token[i] == NOTHING && batch.bad[i] == NOTHING);
        if (!touched[i] || i % 3 != 1)
            assert_true(batch.last[i] == NOTHING);
    }
    batch_free(&batch);
}

static void expect_the_same(const struct batch *a, const struct batch *b, uint32_t at, uint32_t as)
{
    assert_int_equal(a->token[at], b->token[as]);
    assert_int_equal(a->bad[at], b->bad[as]);
    assert_memory_equal(&a->logprob[at], &b->logprob[as], sizeof(float));
}

/* A row alone is what it is among others, to the last bit, wherever its logits begin. */
static void test_cuda_a_row_is_itself_in_any_company(void **state)
{
    enum { V = 131, ROWS = 21 };
    struct batch many = mixed(ROWS, V);

    run(*state, &many);
    expect_the_oracles_tokens(&many);
    for (uint32_t at = 0; at < ROWS; at += 2) {
        struct batch one = mixed(ROWS, V);

        one.rows = 1;
        one.most = 1 + at % 4;
        one.row[0] = many.row[at];
        memmove(one.logits, row_of(&many, at), V * sizeof(float));
        run(*state, &one);
        expect_the_same(&one, &many, one.row[0].want, one.row[0].want);
        batch_free(&one);
    }
    batch_free(&many);
}

/* However threads take turns: sums are of whole numbers, ties have an order. */
static void test_cuda_any_schedule_gives_the_same(void **state)
{
    static const uint32_t vocab[] = {150, 8500};

    for (uint32_t size = 0; size < 2; size++) {
        struct batch first = mixed(size == 0 ? 21 : 3, vocab[size]);

        run(*state, &first);
        expect_the_oracles_tokens(&first);
        for (uint32_t i = 0; rig_schedule(i) != NULL; i++) {
            struct batch again = mixed(first.rows, vocab[size]);
            struct rig *rig = rig_open_as(rig_schedule(i));

            run(rig, &again);
            for (uint32_t at = 0; at < first.rows; at++)
                expect_the_same(&first, &again, at, at);
            rig_close(rig);
            batch_free(&again);
        }
        batch_free(&first);
    }
}

static int open_rig(void **state)
{
    *state = rig_open();
    return *state == NULL;
}

static int close_rig(void **state)
{
    rig_close(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuda_greedy_takes_the_lowest_of_the_highest),
        cmocka_unit_test(test_cuda_greedy_in_a_large_vocabulary),
        cmocka_unit_test(test_cuda_what_is_no_number_is_said),
        cmocka_unit_test(test_cuda_filters_keep_what_the_model_keeps),
        cmocka_unit_test(test_cuda_ties_are_cut_to_the_lowest_ids),
        cmocka_unit_test(test_cuda_draws_follow_the_distribution),
        cmocka_unit_test(test_cuda_penalties_and_masks),
        cmocka_unit_test(test_cuda_extreme_logits),
        cmocka_unit_test(test_cuda_the_edge_of_min_p),
        cmocka_unit_test(test_cuda_light_tokens_count),
        cmocka_unit_test(test_cuda_the_largest_vocabulary),
        cmocka_unit_test(test_cuda_a_million_tokens),
        cmocka_unit_test(test_cuda_agrees_with_the_hosts),
        cmocka_unit_test(test_cuda_logprob_is_of_the_raw_logits),
        cmocka_unit_test(test_cuda_results_go_where_they_are_wanted),
        cmocka_unit_test(test_cuda_a_row_is_itself_in_any_company),
        cmocka_unit_test(test_cuda_any_schedule_gives_the_same),
    };

    return cmocka_run_group_tests(tests, open_rig, close_rig);
}
