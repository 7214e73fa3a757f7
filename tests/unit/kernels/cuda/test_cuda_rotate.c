/*
 * test_cuda_rotate.c: angles to the bit of the host's, and what becomes of a row of qkv: against the
 * formula in doubles, and against `ref` where that does the same: queries in place, keys and values at
 * their place in the cache and nowhere else.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/maths.h"
#include "kernels/ref/ref.h"
#include "row_runs.h"

enum { ROWS = 3, DIM_MAX = 600, WIDTH_MAX = 2560, BLOCKS = 3 };

static const float eps = 1e-6f;

/* ---- angles ---- */

/* Arrays: position, angle; with: frequencies on the card. */
static void launch_angles(struct rig *rig, const struct row_run *run, struct extent rows, void **at)
{
    struct angles_args args = {rows, at[0], run->with, run->array[1].width / 2, at[1]};

    rig->kernels->angles(rig->gpu, &args);
}

static void test_angles_have_the_bits_of_the_host(void **state)
{
    static const uint32_t pairs[] = {1, 3, 64, 100};
    static const uint32_t position[] = {0, 1, 131071, 8191, 77};
    enum { LEN = 5 };

    for (size_t p = 0; p < sizeof(pairs) / sizeof(pairs[0]); p++) {
        double frequency[100];
        float angle[LEN * 100][2];
        struct row_run run = {.arrays = 2, .rows = LEN, .most = 8, .launch = launch_angles};

        for (uint32_t i = 0; i < pairs[p]; i++)
            frequency[i] = maths_exp(-2.0 * i / (2.0 * pairs[p]) * maths_log(500000.0));
        run.with = rig_put(*state, frequency, pairs[p] * sizeof(double));
        run.array[0] = (struct row_array){4, 1, position, NULL};
        run.array[1] = (struct row_array){4, 2 * pairs[p], NULL, angle};
        row_run_every_way(*state, &run);
        for (uint32_t i = 0; i < LEN * pairs[p]; i++) {
            double sine, cosine;

            maths_sincos(position[i / pairs[p]] * frequency[i % pairs[p]], &sine, &cosine);
            assert_true(angle[i][0] == (float)cosine && angle[i][1] == (float)sine);
        }
    }
}

/* ---- rotate ---- */

struct shape {
    uint32_t heads, kv_heads, dim, rope_dim;
    bool biased, normed;
    enum number kv;
};

static uint32_t width_of(const struct shape *shape)
{
    return (shape->heads + 2 * shape->kv_heads) * shape->dim;
}

/* What a run has beside its rows; `on` is the same on the card. */
struct layer {
    struct shape shape;
    float bias[WIDTH_MAX], q_gain[DIM_MAX], k_gain[DIM_MAX];
    struct {
        const float *bias, *q_gain, *k_gain;
        void *k, *v;
    } on;
    size_t cache_bytes;
};

/* The rows of a step. */
struct rows {
    uint16_t qkv[ROWS * WIDTH_MAX], out[ROWS * WIDTH_MAX];
    float angle[ROWS * DIM_MAX];
    uint32_t place[ROWS];
};

static struct layer layer;
static struct rows rows;
static uint8_t k_cache[BLOCKS * 32 * WIDTH_MAX], v_cache[BLOCKS * 32 * WIDTH_MAX];

static void fill(float *x, size_t len, uint64_t seed, float size)
{
    for (size_t i = 0; i < len; i++)
        x[i] = rig_uniform(&seed) * size;
}

static void make_rows(const struct shape *shape)
{
    static const uint32_t place[ROWS] = {2 * 32 + 31, 5, 2 * 32};
    uint64_t seed = 5;

    for (size_t i = 0; i < (size_t)ROWS * width_of(shape); i++)
        rows.qkv[i] = bf16(rig_uniform(&seed) * (i % 3 == 0 ? 0.1f : 2.0f));
    for (size_t i = 0; i < (size_t)ROWS * shape->rope_dim; i += 2) {
        double sine, cosine;

        maths_sincos((double)rig_uniform(&seed) * 50.0, &sine, &cosine);
        rows.angle[i] = (float)cosine;
        rows.angle[i + 1] = (float)sine;
    }
    memcpy(rows.place, place, sizeof(place));
}

static void open_layer(struct rig *rig, const struct shape *shape)
{
    uint32_t width = width_of(shape);

    layer.shape = *shape;
    fill(layer.bias, width, 1, 1.0f);
    fill(layer.q_gain, shape->dim, 2, 2.0f);
    fill(layer.k_gain, shape->dim, 3, 2.0f);
    memset(&layer.on, 0, sizeof(layer.on));
    if (shape->biased)
        layer.on.bias = rig_put(rig, layer.bias, width * sizeof(float));
    if (shape->normed) {
        layer.on.q_gain = rig_put(rig, layer.q_gain, shape->dim * sizeof(float));
        layer.on.k_gain = rig_put(rig, layer.k_gain, shape->dim * sizeof(float));
    }
    layer.cache_bytes =
        (size_t)BLOCKS * shape->kv_heads * 32 * shape->dim * (shape->kv == NUMBER_FP8 ? 1 : 2);
    layer.on.k = rig_room(rig, layer.cache_bytes);
    layer.on.v = rig_room(rig, layer.cache_bytes);
}

/* Arrays: qkv, place, angle. */
static void launch_rotate(struct rig *rig, const struct row_run *run, struct extent extent,
                          void **at)
{
    const struct shape *shape = &layer.shape;
    struct rotate_args args = {.rows = extent,
                               .qkv = at[0],
                               .heads = shape->heads,
                               .kv_heads = shape->kv_heads,
                               .head_dim = shape->dim,
                               .rope_dim = shape->rope_dim,
                               .angle = run->arrays > 2 ? at[2] : NULL,
                               .bias = layer.on.bias,
                               .q_gain = layer.on.q_gain,
                               .k_gain = layer.on.k_gain,
                               .eps = eps,
                               .place = at[1],
                               .kv = {shape->kv, layer.on.k, layer.on.v}};

    rig->kernels->rotate(rig->gpu, &args);
}

static struct row_run rotate_run(const struct shape *shape)
{
    struct row_run run = {.arrays = shape->rope_dim > 0 ? 3 : 2,
                          .rows = ROWS,
                          .most = ROWS + 2,
                          .launch = launch_rotate};

    run.array[0] = (struct row_array){2, width_of(shape), rows.qkv, rows.out};
    run.array[1] = (struct row_array){4, 1, rows.place, NULL};
    run.array[2] = (struct row_array){4, shape->rope_dim, rows.angle, NULL};
    return run;
}

/* One head of one row by the formula; error[i] is what float arithmetic may be off by. */
static void want_head(const struct shape *shape, uint32_t row, uint32_t head, double *x,
                      double *error)
{
    const uint16_t *in = rows.qkv + (size_t)row * width_of(shape) + (size_t)head * shape->dim;
    const float *angle = rows.angle + (size_t)row * shape->rope_dim;
    bool query = head < shape->heads, value = head >= shape->heads + shape->kv_heads;
    double squares = 0.0, scale;

    for (uint32_t i = 0; i < shape->dim; i++) {
        float biased = bf16_float(in[i]);

        if (shape->biased)
            biased += layer.bias[head * shape->dim + i];
        x[i] = (double)biased;
        squares += x[i] * x[i];
    }
    scale = shape->normed && !value ? 1.0 / sqrt(squares / shape->dim + (double)eps) : 1.0;
    for (uint32_t i = 0; i < shape->dim; i++) {
        if (shape->normed && !value)
            x[i] *= scale * (double)(query ? layer.q_gain : layer.k_gain)[i];
        error[i] = value ? 0.0 : 1e-6 * fabs(x[i]);
    }
    for (uint32_t i = 0; i < shape->rope_dim && !value; i += 2) {
        double a = x[i], b = x[i + 1];

        x[i] = a * (double)angle[i] - b * (double)angle[i + 1];
        x[i + 1] = a * (double)angle[i + 1] + b * (double)angle[i];
        error[i] = error[i + 1] = 1e-6 * hypot(a, b);
    }
}

/* The place of a row's group in the cache, in numbers. */
static size_t cache_at(const struct shape *shape, uint32_t row, uint32_t group)
{
    uint32_t block = rows.place[row] / 32, at = rows.place[row] % 32;

    return (((size_t)block * shape->kv_heads + group) * 32 + at) * shape->dim;
}

/* Takes the numbers of a head out of a copy of the cache, and leaves poison there. */
static void check_cached(const struct shape *shape, uint8_t *cache, size_t at, const double *want,
                         const double *error)
{
    size_t unit = shape->kv == NUMBER_FP8 ? 1 : 2;

    for (uint32_t i = 0; i < shape->dim; i++)
        assert_number(shape->kv, number_at(shape->kv, cache, at + i), want[i], error[i]);
    memset(cache + at * unit, 0xff, shape->dim * unit);
}

static void check_row(const struct shape *shape, uint32_t row)
{
    uint32_t all = shape->heads + 2 * shape->kv_heads;
    size_t start = (size_t)row * width_of(shape);
    double want[DIM_MAX], error[DIM_MAX];

    for (uint32_t head = 0; head < all; head++) {
        size_t at = start + (size_t)head * shape->dim;
        bool value = head >= shape->heads + shape->kv_heads;

        want_head(shape, row, head, want, error);
        if (head < shape->heads)
            for (uint32_t i = 0; i < shape->dim; i++)
                assert_number(NUMBER_BF16, rows.out[at + i], want[i], error[i]);
        else
            check_cached(shape, value ? v_cache : k_cache,
                         cache_at(shape, row, (head - shape->heads) % shape->kv_heads), want,
                         error);
        if (head >= shape->heads)
            assert_memory_equal(rows.out + at, rows.qkv + at, shape->dim * sizeof(uint16_t));
    }
}

/* Nothing but poison is left where no row has its place, whichever way numbers were moved. */
static void check_shape(struct rig *rig, const struct shape *shape)
{
    struct row_run run = rotate_run(shape);

    make_rows(shape);
    open_layer(rig, shape);
    row_run_every_way(rig, &run);
    for (run.shift = 0; run.shift < 2; run.shift++) {
        open_layer(rig, shape);
        run.blocks = run.shift;
        row_run(rig, &run);
        rig_get(rig, k_cache, layer.on.k, layer.cache_bytes);
        rig_get(rig, v_cache, layer.on.v, layer.cache_bytes);
        for (uint32_t row = 0; row < ROWS; row++)
            check_row(shape, row);
        for (size_t i = 0; i < layer.cache_bytes; i++)
            assert_true(k_cache[i] == 0xff && v_cache[i] == 0xff);
    }
}

static void test_heads_are_turned_and_put_in_the_cache(void **state)
{
    static const struct shape shape[] = {
        {4, 2, 64, 64, false, false, NUMBER_BF16},    {3, 1, 16, 16, false, false, NUMBER_BF16},
        {8, 1, 128, 64, false, false, NUMBER_BF16},   {2, 2, 80, 20, false, false, NUMBER_BF16},
        {1, 1, 256, 256, false, false, NUMBER_BF16},  {1, 1, 6, 6, false, false, NUMBER_BF16},
        {2, 1, 600, 600, false, false, NUMBER_BF16},  {2, 1, 64, 0, false, false, NUMBER_BF16},
        {12, 4, 128, 128, false, false, NUMBER_BF16}, {7, 1, 256, 64, false, false, NUMBER_BF16},
    };

    for (size_t i = 0; i < sizeof(shape) / sizeof(shape[0]); i++)
        check_shape(*state, &shape[i]);
}

/* Bias before the norm, the norm before the turn; values get the bias alone. */
static void test_heads_are_biased_and_normed(void **state)
{
    static const struct shape shape[] = {
        {4, 2, 64, 64, true, false, NUMBER_BF16},   {5, 1, 32, 32, true, true, NUMBER_BF16},
        {2, 1, 128, 128, false, true, NUMBER_BF16}, {2, 2, 96, 96, true, true, NUMBER_BF16},
        {1, 1, 26, 10, true, true, NUMBER_BF16},    {1, 1, 600, 300, true, true, NUMBER_BF16},
    };

    for (size_t i = 0; i < sizeof(shape) / sizeof(shape[0]); i++)
        check_shape(*state, &shape[i]);
}

static void test_a_cache_of_fp8_has_the_nearest(void **state)
{
    static const struct shape shape[] = {{4, 2, 64, 64, false, false, NUMBER_FP8},
                                         {2, 1, 128, 64, true, true, NUMBER_FP8},
                                         {2, 1, 18, 18, true, false, NUMBER_FP8}};

    for (size_t i = 0; i < sizeof(shape) / sizeof(shape[0]); i++)
        check_shape(*state, &shape[i]);
}

/* 448 is the largest e4m3; what is no number must not become it. */
static void test_fp8_saturates_and_hides_no_infinity(void **state)
{
    static const struct shape shape = {1, 1, 16, 0, false, false, NUMBER_FP8};
    static const float in[] = {1e4f, -500.0f, 464.0f, INFINITY, -INFINITY, NAN};
    static const double want[] = {448.0, -448.0, 448.0, (double)NAN, (double)NAN, (double)NAN};
    struct row_run run = rotate_run(&shape);

    make_rows(&shape);
    for (uint32_t head = 1; head < 3; head++)
        for (uint32_t i = 0; i < 6; i++)
            rows.qkv[head * 16 + i] = bf16(in[i]);
    open_layer(*state, &shape);
    row_run(*state, &run);
    rig_get(*state, k_cache, layer.on.k, layer.cache_bytes);
    rig_get(*state, v_cache, layer.on.v, layer.cache_bytes);
    for (uint32_t i = 0; i < 6; i++) {
        assert_number(NUMBER_FP8, k_cache[cache_at(&shape, 0, 0) + i], want[i], 0.0);
        assert_number(NUMBER_FP8, v_cache[cache_at(&shape, 0, 0) + i], want[i], 0.0);
    }
}

/* One NaN makes its head NaN where heads are normed, and no other. */
static void test_a_normed_head_hides_no_nan(void **state)
{
    static const struct shape shape = {2, 1, 32, 32, false, true, NUMBER_BF16};
    struct row_run run = rotate_run(&shape);

    make_rows(&shape);
    rows.qkv[7] = bf16(NAN);
    open_layer(*state, &shape);
    row_run(*state, &run);
    for (uint32_t i = 0; i < 64; i++)
        assert_true(isnan(bf16_float(rows.out[i])) == (i < 32));
}

/* Rows of one sequence through `ref`: its floats, rounded once. */
static void test_turned_heads_are_refs(void **state)
{
    enum { HEADS = 4, GROUPS = 2, DIM = 48, WIDTH = (HEADS + 2 * GROUPS) * DIM };
    static const struct shape shape = {HEADS, GROUPS, DIM, 32, false, false, NUMBER_BF16};
    static float qkv[ROWS * WIDTH], k[GROUPS * DIM * 32], v[GROUPS * DIM * 32];
    struct row place[ROWS] = {{0, 0}, {1, 0}, {2, 0}};
    uint32_t block = 0;
    struct ref ref = {.k = k, .v = v};
    struct backend *host = &ref.host;
    struct row_run run = rotate_run(&shape);

    make_rows(&shape);
    open_layer(*state, &shape);
    row_run(*state, &run);
    rig_get(*state, k_cache, layer.on.k, layer.cache_bytes);
    for (size_t i = 0; i < ROWS * WIDTH; i++)
        qkv[i] = bf16_float(rows.qkv[i]);
    host->team = team_new(1, false);
    host->hyper =
        (struct model_hyper){.heads = HEADS, .kv_heads = GROUPS, .head_dim = DIM, .rope_dim = 32};
    host->limits.blocks = 1;
    host->slots.blocks = &block;
    host->slots.blocks_stride = 1;
    host->row = place;
    host->angle = rows.angle;
    host->act[ACT_QKV] = qkv;
    host->act_width[ACT_QKV] = WIDTH;
    ref_qkv_post(host, &(struct step){.rows = ROWS}, 0);
    for (uint32_t row = 0; row < ROWS; row++)
        for (uint32_t i = 0; i < (HEADS + GROUPS) * DIM; i++) {
            size_t cached = cache_at(&shape, row, i / DIM - HEADS) + i % DIM;
            uint32_t got = i < HEADS * DIM ? rows.out[row * WIDTH + i]
                                           : number_at(NUMBER_BF16, k_cache, cached);

            assert_int_equal(got, bf16(qkv[row * WIDTH + i]));
        }
    team_free(host->team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_angles_have_the_bits_of_the_host),
        cmocka_unit_test(test_heads_are_turned_and_put_in_the_cache),
        cmocka_unit_test(test_heads_are_biased_and_normed),
        cmocka_unit_test(test_a_cache_of_fp8_has_the_nearest),
        cmocka_unit_test(test_fp8_saturates_and_hides_no_infinity),
        cmocka_unit_test(test_a_normed_head_hides_no_nan),
        cmocka_unit_test(test_turned_heads_are_refs),
    };

    return run_on_every_schedule(tests);
}
