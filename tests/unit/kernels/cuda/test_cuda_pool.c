/*
 * test_cuda_pool.c: rows that are looked up and rows that are picked, as they are; pools that do not
 * depend on how a prompt was cut, and the embeddings made of them, which are the host's.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/host/host.h"
#include "row_runs.h"

enum { WIDTH_MAX = 1032, TABLE = 9, ROWS = 5 };

static const uint32_t width[] = {1, 7, 8, 384, 1001, 1032};

static void fill(uint16_t *x, size_t len, uint64_t seed)
{
    for (size_t i = 0; i < len; i++)
        x[i] = bf16(rig_uniform(&seed) * (i % 7 == 0 ? 100.0f : 1.0f));
}

/* ---- rows of tables ---- */

/* What is not a row of the step's own, on the card. */
struct tables {
    const uint16_t *table;
    const uint32_t *last;
};

/* Arrays: token, slot, stream. */
static void launch_embed(struct rig *rig, const struct row_run *run, struct extent rows, void **at)
{
    const struct tables *it = run->with;
    struct embed_args args = {rows, at[0], at[1], it->last, it->table, run->array[2].width, at[2]};

    rig->kernels->embed(rig->gpu, &args);
}

static void test_rows_of_the_table_are_looked_up(void **state)
{
    static uint16_t table[TABLE * WIDTH_MAX];
    static float stream[ROWS * WIDTH_MAX];
    const int32_t token[ROWS] = {8, -1, 0, -1, 3};
    const uint32_t slot[ROWS] = {77, 2, 78, 0, 79}, last[3] = {1, 99, 7};
    const uint32_t want[ROWS] = {8, 7, 0, 1, 3};

    fill(table, COUNT(table), 3);
    for (size_t w = 0; w < COUNT(width); w++) {
        struct row_run run = {.arrays = 3, .rows = ROWS, .most = 6, .launch = launch_embed};
        struct tables tables = {rig_put(*state, table, TABLE * width[w] * sizeof(*table)),
                                rig_put(*state, last, sizeof(last))};

        run.with = &tables;
        run.array[0] = (struct row_array){4, 1, token, NULL};
        run.array[1] = (struct row_array){4, 1, slot, NULL};
        run.array[2] = (struct row_array){4, width[w], NULL, stream};
        row_run_every_way(*state, &run);
        for (size_t i = 0; i < (size_t)ROWS * width[w]; i++)
            assert_true(stream[i] ==
                        bf16_float(table[want[i / width[w]] * width[w] + i % width[w]]));
    }
}

/* Arrays: row, out. */
static void launch_gather(struct rig *rig, const struct row_run *run, struct extent rows, void **at)
{
    const struct tables *it = run->with;
    struct gather_args args = {rows, at[0], it->table, run->array[1].width, at[1]};

    rig->kernels->gather(rig->gpu, &args);
}

/* NaN and all: what is picked is not computed with. */
static void test_rows_that_are_wanted_are_picked(void **state)
{
    static uint16_t table[TABLE * WIDTH_MAX], out[ROWS * WIDTH_MAX];
    const uint32_t row[ROWS] = {8, 0, 3, 3, 7};

    fill(table, COUNT(table), 4);
    table[3] = 0x7fa1;
    for (size_t w = 0; w < COUNT(width); w++) {
        struct row_run run = {.arrays = 2, .rows = ROWS, .most = 6, .launch = launch_gather};
        struct tables tables = {rig_put(*state, table, TABLE * width[w] * sizeof(*table)), NULL};
        size_t bytes = width[w] * sizeof(*table);

        run.with = &tables;
        run.array[0] = (struct row_array){4, 1, row, NULL};
        run.array[1] = (struct row_array){2, width[w], NULL, out};
        row_run_every_way(*state, &run);
        for (uint32_t i = 0; i < ROWS; i++)
            assert_memory_equal(out + i * width[w], table + row[i] * width[w], bytes);
    }
}

/* ---- pools ---- */

enum { SLOTS = 4, PROMPT = 21, POOLED = 3 };

/* Prompts of three sequences side by side; slot i + 1 is sequence i's, slot 0 is nobody's. */
static const uint32_t prompt_row[POOLED] = {0, 2, 2 + PROMPT}, prompt_rows[POOLED] = {2, PROMPT, 9};

struct pools {
    struct rig *rig;
    uint32_t width, shift;
    uint16_t *in; /* on the card */
    double *pool;
};

static uint16_t states_in[(2 + PROMPT + 9) * WIDTH_MAX];

/* The card's pools are poison, and the states begin `shift` numbers past an address of 256. */
static struct pools pools_open(struct rig *rig, uint32_t len, uint32_t shift)
{
    struct pools pools = {rig, len, shift, NULL, NULL};
    size_t numbers = (size_t)(2 + PROMPT + 9) * len;
    uint16_t *shifted = malloc((numbers + shift) * sizeof(*shifted));

    assert_non_null(shifted);
    memcpy(shifted + shift, states_in, numbers * sizeof(*shifted));
    pools.in = (uint16_t *)rig_put(rig, shifted, (numbers + shift) * sizeof(*shifted)) + shift;
    pools.pool = rig_room(rig, SLOTS * len * sizeof(double));
    free(shifted);
    return pools;
}

static void add_items(const struct pools *pools, const struct pool_item *item, uint32_t items,
                      uint32_t most)
{
    struct pool_args args = {rig_extent(pools->rig, most, items),
                             rig_put(pools->rig, item, items * sizeof(*item)), pools->in,
                             pools->width, pools->pool};

    pools->rig->kernels->pool(pools->rig->gpu, &args);
    rig_wait(pools->rig);
}

/* All prompts, `step` rows at a time, in so few blocks as `most` asks for. */
static void add_prompts(const struct pools *pools, uint32_t step, uint32_t most)
{
    for (uint32_t done = 0; done < PROMPT; done += step) {
        struct pool_item item[POOLED];
        uint32_t items = 0;

        for (uint32_t i = 0; i < POOLED; i++) {
            uint32_t left = prompt_rows[i] > done ? prompt_rows[i] - done : 0;

            if (left > 0)
                item[items++] = (struct pool_item){prompt_row[i] + done, left < step ? left : step,
                                                   i + 1, done == 0};
        }
        add_items(pools, item, items, most);
    }
}

static void get_pools(const struct pools *pools, double *pool)
{
    rig_get(pools->rig, pool, pools->pool, SLOTS * pools->width * sizeof(*pool));
}

static void check_pool(const double *pool, uint32_t len)
{
    for (uint32_t k = 0; k < len; k++) {
        assert_true(isnan(pool[k])); /* slot 0: poison still */
        for (uint32_t i = 0; i < POOLED; i++) {
            double sum = 0.0;

            for (uint32_t row = 0; row < prompt_rows[i]; row++)
                sum += (double)bf16_float(states_in[(prompt_row[i] + row) * len + k]);
            assert_true(pool[(i + 1) * len + k] == sum);
        }
    }
}

/* In order, from zero where it begins: numbers so far apart that another order has other bits. */
static void test_a_pool_is_the_same_however_a_prompt_is_cut(void **state)
{
    static const uint32_t cut[][3] = {
        {PROMPT, 3, 0}, {PROMPT, 9, 1}, {1, 4, 0}, {8, 1, 1}, {5, 3, 0}};
    static double pool[SLOTS * WIDTH_MAX];

    uint64_t seed = 5;

    for (size_t i = 0; i < COUNT(states_in); i++)
        states_in[i] = bf16(ldexpf(rig_uniform(&seed), (int)(rig_uniform(&seed) * 40.0f)));
    for (size_t w = 0; w < COUNT(width); w++)
        for (size_t i = 0; i < COUNT(cut); i++) {
            struct pools pools = pools_open(*state, width[w], cut[i][2]);

            add_prompts(&pools, cut[i][0], cut[i][1]);
            get_pools(&pools, pool);
            check_pool(pool, width[w]);
        }
}

/* ---- embeddings ---- */

/* Arrays: item, out, bad. */
static void launch_embedding(struct rig *rig, const struct row_run *run, struct extent rows,
                             void **at)
{
    struct embedding_args args = {rows, at[0], run->with, run->array[1].width, at[1], at[2]};

    rig->kernels->embedding(rig->gpu, &args);
}

/* An embedding by the loop that the host's backends have. */
static bool host_embedding(double *pool, uint32_t len, float *out)
{
    static const struct arithmetic none;
    uint32_t want_row = 0, token;
    uint8_t bad, pooled = 1;
    struct row row = {0, 0};
    struct backend host = {.arithmetic = &none, .hyper = {.embed = len}, .row = &row, .pool = pool};
    struct command end = {.kind = COMMAND_END};

    host.slots.pool = &pooled;
    host.steps[0].step.wanted = 1;
    host.steps[0].step.want_row = &want_row;
    host.steps[0].sampled = (struct sampled){&token, NULL, &bad, out};
    run_command(&host, &end);
    return bad != 0;
}

static void test_embeddings_are_the_hosts(void **state)
{
    static double pool[SLOTS * WIDTH_MAX];
    static float out[SLOTS * WIDTH_MAX], want[WIDTH_MAX];
    static const struct embedding_item item[SLOTS] = {{2, 3}, {0, 0}, {3, 2}, {1, 1}};
    uint64_t seed = 9;

    for (size_t w = 0; w < COUNT(width); w++) {
        struct row_run run = {.arrays = 3, .rows = SLOTS, .most = 6, .launch = launch_embedding};
        uint32_t len = width[w], bad[SLOTS];

        for (uint32_t i = 0; i < SLOTS * len; i++)
            pool[i] = (double)rig_uniform(&seed) * (i / len == 0   ? 0.0
                                                    : i / len == 1 ? 1e-9
                                                                   : 50.0);
        pool[3 * len] = (double)(w % 2 == 0 ? NAN : INFINITY);
        run.with = rig_put(*state, pool, SLOTS * len * sizeof(*pool));
        run.array[0] = (struct row_array){4, 2, item, NULL};
        run.array[1] = (struct row_array){4, len, NULL, out};
        run.array[2] = (struct row_array){4, 1, NULL, bad};
        run.blocks = w % 2; /* one that does them all, or six */
        row_run(*state, &run);
        for (uint32_t i = 0; i < SLOTS; i++) {
            const float *got = out + item[i].want * len;

            assert_int_equal(bad[item[i].want],
                             host_embedding(pool + item[i].slot * len, len, want));
            for (uint32_t k = 0; k < len; k++)
                assert_true(fabsf(got[k] - want[k]) <= 6e-8f * fabsf(want[k]));
        }
        assert_true(bad[3] == 0 && bad[0] == 1 && bad[2] == 1 && bad[1] == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_of_the_table_are_looked_up),
        cmocka_unit_test(test_rows_that_are_wanted_are_picked),
        cmocka_unit_test(test_a_pool_is_the_same_however_a_prompt_is_cut),
        cmocka_unit_test(test_embeddings_are_the_hosts),
    };

    return run_on_every_schedule(tests);
}
