/*
 * test_cuda_rows.c: norms, preparation, the gate and what int8 products stand for, against formulas in
 * doubles and against the loops of `ref`: odd widths, rows alone and among others, numbers that are
 * none.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/ref/ref.h"
#include "row_runs.h"

enum { ROWS = 3, MOST = 5 };

static const uint32_t width[] = {1, 7, 8, 96, 576, 1000, 1032, 4096, 4104};
/* Held by more registers, and by none: one kind of output each. */
static const uint32_t long_width[] = {9000, 16392};

static const enum number prepared[] = {NUMBER_BF16, NUMBER_FP8, NUMBER_INT8};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static uint32_t unit_of(enum number type)
{
    return type == NUMBER_BF16 ? 2 : type == NUMBER_F32 || type == NUMBER_INT32 ? 4 : 1;
}

static void *room(size_t len, size_t unit)
{
    void *at = calloc(len > 0 ? len : 1, unit);

    assert_non_null(at);
    return at;
}

/* Rows of other sizes, each with a few numbers far larger than the rest. */
static float *some_floats(uint32_t rows, uint32_t len, uint64_t seed)
{
    float *x = room((size_t)rows * len, sizeof(*x));

    for (uint32_t row = 0; row < rows; row++)
        for (uint32_t i = 0; i < len; i++)
            x[(size_t)row * len + i] =
                rig_uniform(&seed) * (row % 3 == 1 ? 0.01f : 3.0f) * (i % 50 == 17 ? 30.0f : 1.0f);
    return x;
}

static uint16_t *some_bf16(uint32_t rows, uint32_t len, uint64_t seed)
{
    float *x = some_floats(rows, len, seed);
    uint16_t *y = room((size_t)rows * len, sizeof(*y));

    for (size_t i = 0; i < (size_t)rows * len; i++)
        y[i] = bf16(x[i]);
    free(x);
    return y;
}

/* ---- norm ---- */

static const float eps = 1e-5f;

struct norm_case {
    enum number type;
    const float *gain; /* on the card */
    bool delta;
};

/* Arrays: stream, value, scale, delta. */
static void launch_norm(struct rig *rig, const struct row_run *run, struct extent rows, void **at)
{
    const struct norm_case *it = run->with;
    struct norm_args args = {.rows = rows,
                             .stream = at[0],
                             .delta = it->delta ? at[3] : NULL,
                             .gain = it->gain,
                             .width = run->array[0].width,
                             .eps = eps,
                             .out = {it->type, at[1], at[2]}};

    rig->kernels->norm(rig->gpu, &args);
}

struct normed {
    float *gain, *stream, *sum, *scale;
    uint16_t *delta;
    void *value;
    double *want;
};

static struct normed normed_new(uint32_t rows, uint32_t len)
{
    struct normed n = {.gain = some_floats(1, len, 1), .stream = some_floats(rows, len, 2)};

    n.delta = some_bf16(rows, len, 3);
    n.sum = room((size_t)rows * len, sizeof(*n.sum));
    n.scale = room(rows, sizeof(*n.scale));
    n.value = room((size_t)rows * len, 2);
    n.want = room((size_t)rows * len, sizeof(*n.want));
    return n;
}

static void normed_free(struct normed *n)
{
    free(n->gain);
    free(n->stream);
    free(n->sum);
    free(n->scale);
    free(n->delta);
    free(n->value);
    free(n->want);
}

static struct row_run norm_run(const struct normed *n, const struct norm_case *it, uint32_t rows,
                               uint32_t len)
{
    struct row_run run = {.arrays = it->delta ? 4 : 3,
                          .rows = rows,
                          .most = rows + 2,
                          .launch = launch_norm,
                          .with = it};

    run.array[0] = (struct row_array){4, len, n->stream, n->sum};
    run.array[1] = (struct row_array){unit_of(it->type), len, NULL, n->value};
    run.array[2] = (struct row_array){4, 1, NULL, it->type == NUMBER_BF16 ? NULL : n->scale};
    run.array[3] = (struct row_array){2, len, n->delta, NULL};
    return run;
}

/* The sum is the float it is in any order; what follows is the formula in doubles. */
static void want_normed(const struct normed *n, bool delta, uint32_t rows, uint32_t len)
{
    for (uint32_t row = 0; row < rows; row++) {
        size_t start = (size_t)row * len;
        double squares = 0.0;

        for (size_t i = start; i < start + len; i++) {
            float x = n->stream[i];

            if (delta)
                x += bf16_float(n->delta[i]);
            assert_memory_equal(&n->sum[i], &x, sizeof(x));
            squares += (double)x * (double)x;
        }
        for (size_t i = start; i < start + len; i++)
            n->want[i] =
                (double)n->sum[i] / sqrt(squares / len + (double)eps) * (double)n->gain[i - start];
    }
}

static void check_norm(struct rig *rig, enum number type, bool delta, uint32_t len)
{
    struct normed n = normed_new(ROWS, len);
    struct norm_case it = {type, rig_put(rig, n.gain, len * sizeof(float)), delta};
    struct row_run run = norm_run(&n, &it, ROWS, len);

    row_run_every_way(rig, &run);
    want_normed(&n, delta, ROWS, len);
    assert_prepared(type, n.value, n.scale, n.want, 1e-6, ROWS, len);
    normed_free(&n);
}

/* Right to 1e-6 before it is rounded: an NMSE below 1e-12. */
static void test_a_norm_is_the_formula(void **state)
{
    for (size_t type = 0; type < COUNT(prepared); type++) {
        for (size_t i = 0; i < COUNT(width); i++)
            check_norm(*state, prepared[type], (i + type) % 2 == 0, width[i]);
        if (type < COUNT(long_width))
            check_norm(*state, prepared[type], type == 0, long_width[type]);
    }
}

/* More rows than blocks: each block does its rows one after another, and nobody waits for them. */
static void test_blocks_go_from_row_to_row(void **state)
{
    enum { MANY = 1100, LEN = 9 };

    for (size_t type = 0; type < COUNT(prepared); type++) {
        struct normed n = normed_new(MANY, LEN);
        struct norm_case it = {prepared[type], rig_put(*state, n.gain, LEN * sizeof(float)), true};
        struct row_run run = norm_run(&n, &it, MANY, LEN);

        row_run(*state, &run);
        want_normed(&n, true, MANY, LEN);
        assert_prepared(prepared[type], n.value, n.scale, n.want, 1e-6, MANY, LEN);
        normed_free(&n);
    }
}

/* The loop of `ref` over the same rows: the sums to the bit, the norms but for rounding. */
static void test_a_norm_is_refs(void **state)
{
    enum { LEN = 576 };
    struct normed n = normed_new(ROWS, LEN);
    struct norm_case it = {NUMBER_BF16, rig_put(*state, n.gain, LEN * sizeof(float)), true};
    struct row_run run = norm_run(&n, &it, ROWS, LEN);
    float *delta = room(ROWS * LEN, sizeof(float)), *out = room(ROWS * LEN, sizeof(float));
    struct weight gain = {0, LEN, n.gain};
    struct backend ref = {.team = team_new(1, false), .hyper = {.embed = LEN, .rms_eps = eps}};

    row_run(*state, &run);
    for (size_t i = 0; i < ROWS * LEN; i++)
        delta[i] = bf16_float(n.delta[i]);
    ref.act[ACT_STREAM] = n.stream;
    ref.act[ACT_DELTA] = delta;
    ref.act[ACT_NORMED] = out;
    ref.act_width[ACT_STREAM] = ref.act_width[ACT_DELTA] = ref.act_width[ACT_NORMED] = LEN;
    ref_norm(&ref, ROWS, &gain, false);
    assert_memory_equal(n.sum, n.stream, ROWS * LEN * sizeof(float));
    for (size_t i = 0; i < ROWS * LEN; i++)
        assert_number(NUMBER_BF16, ((uint16_t *)n.value)[i], (double)out[i],
                      1e-6 * fabs((double)out[i]));
    team_free(ref.team);
    free(delta);
    free(out);
    normed_free(&n);
}

/* ---- numbers that are none ---- */

/* Row 0 is what was put there; the others are ordinary, and stay so. */
static void norm_with(struct rig *rig, enum number type, float first, float rest, double *ret_value,
                      double *ret_scale)
{
    enum { LEN = 40 };
    struct normed n = normed_new(ROWS, LEN);
    struct norm_case it = {type, rig_put(rig, n.gain, LEN * sizeof(float)), false};
    struct row_run run = norm_run(&n, &it, ROWS, LEN);
    size_t unit = unit_of(type);

    for (uint32_t i = 0; i < LEN; i++)
        n.stream[i] = i == 3 ? first : rest;
    row_run(rig, &run);
    want_normed(&n, false, ROWS, LEN);
    assert_prepared(type, (uint8_t *)n.value + LEN * unit, n.scale + 1, n.want + LEN, 1e-6,
                    ROWS - 1, LEN);
    for (uint32_t i = 0; i < LEN; i++)
        ret_value[i] = number_value(type, number_at(type, n.value, i));
    *ret_scale = (double)n.scale[0];
    normed_free(&n);
}

static void test_a_norm_hides_no_nan_and_no_infinity(void **state)
{
    static const float none[][2] = {
        {NAN, 1.0f}, {INFINITY, 1.0f}, {-INFINITY, 1.0f}, {1e30f, 1e30f}};
    double value[40], scale;

    for (size_t type = 0; type < COUNT(prepared); type++)
        for (size_t i = 0; i < COUNT(none); i++) {
            norm_with(*state, prepared[type], none[i][0], none[i][1], value, &scale);
            for (uint32_t k = 0; k < 40; k++)
                assert_true(isnan(prepared[type] == NUMBER_BF16 ? value[k] : scale));
        }
}

static void test_a_row_of_zeros_has_scale_1(void **state)
{
    double value[40], scale;

    for (size_t type = 0; type < COUNT(prepared); type++) {
        norm_with(*state, prepared[type], 0.0f, -0.0f, value, &scale);
        for (uint32_t k = 0; k < 40; k++)
            assert_true(value[k] == 0.0);
        assert_true(prepared[type] == NUMBER_BF16 || scale == 1.0);
    }
}

/* ---- quantise ---- */

/* Arrays: in, value, scale. */
static void launch_quantise(struct rig *rig, const struct row_run *run, struct extent rows,
                            void **at)
{
    const enum number *type = run->with;
    struct quantise_args args = {rows, at[0], run->array[0].width, {*type, at[1], at[2]}};

    rig->kernels->quantise(rig->gpu, &args);
}

static void quantise(struct rig *rig, enum number type, const uint16_t *in, uint32_t len,
                     void *value, float *scale)
{
    struct row_run run = {
        .arrays = 3, .rows = ROWS, .most = MOST, .launch = launch_quantise, .with = &type};

    run.array[0] = (struct row_array){2, len, in, NULL};
    run.array[1] = (struct row_array){1, len, NULL, value};
    run.array[2] = (struct row_array){4, 1, NULL, scale};
    row_run_every_way(rig, &run);
}

static void check_quantise(struct rig *rig, enum number type, uint32_t len)
{
    uint16_t *in = some_bf16(ROWS, len, 5);
    double *want = room(ROWS * len, sizeof(*want));
    uint8_t *value = room(ROWS * len, 1);
    float scale[ROWS];

    quantise(rig, type, in, len, value, scale);
    for (size_t i = 0; i < (size_t)ROWS * len; i++)
        want[i] = (double)bf16_float(in[i]);
    assert_prepared(type, value, scale, want, 1e-6, ROWS, len);
    free(in);
    free(want);
    free(value);
}

static void test_quantised_rows_are_value_times_scale(void **state)
{
    for (size_t type = 1; type < COUNT(prepared); type++) {
        for (size_t i = 0; i < COUNT(width); i++)
            check_quantise(*state, prepared[type], width[i]);
        check_quantise(*state, prepared[type], long_width[type - 1]);
    }
}

/* What is too small for a scale is zeros; what is no number makes the scale none. */
static void test_rows_without_a_scale(void **state)
{
    static const float first[] = {1e-38f, -1e-40f, 0.0f, NAN, -INFINITY};
    enum { LEN = 10 };

    for (size_t type = 1; type < COUNT(prepared); type++)
        for (size_t i = 0; i < COUNT(first); i++) {
            uint16_t *in = some_bf16(ROWS, LEN, 6);
            uint8_t value[ROWS * LEN];
            float scale[ROWS];

            for (uint32_t k = 0; k < LEN; k++)
                in[LEN + k] = bf16(k == 9 ? first[i] : 0.0f);
            quantise(*state, prepared[type], in, LEN, value, scale);
            assert_true(scale[0] > 0.0f && scale[2] > 0.0f);
            if (!isfinite(first[i])) {
                assert_true(isnan(scale[1]));
            } else {
                assert_true(scale[1] == 1.0f);
                for (uint32_t k = 0; k < LEN; k++)
                    assert_true(number_value(prepared[type], value[LEN + k]) == 0.0);
            }
            free(in);
        }
}

/* ---- rescale ---- */

/* Arrays: in, out, row_scale; with: column_scale on the card. */
static void launch_rescale(struct rig *rig, const struct row_run *run, struct extent rows,
                           void **at)
{
    struct rescale_args args = {rows, at[0], at[2], run->with, run->array[0].width, at[1]};

    rig->kernels->rescale(rig->gpu, &args);
}

static void test_sums_of_int8_are_scaled_by_row_and_column(void **state)
{
    for (size_t w = 0; w < COUNT(width); w++) {
        uint32_t len = width[w];
        float *row_scale = some_floats(ROWS, 1, 7), *column_scale = some_floats(1, len, 8);
        float *numbers = some_floats(ROWS, len, 9);
        int32_t *in = room(ROWS * len, sizeof(*in));
        uint16_t *out = room(ROWS * len, sizeof(*out));
        struct row_run run = {.arrays = 3, .rows = ROWS, .most = MOST, .launch = launch_rescale};

        for (size_t i = 0; i < (size_t)ROWS * len; i++)
            in[i] = (int32_t)(numbers[i] * 2e7f);
        row_scale[2] = NAN;
        run.with = rig_put(*state, column_scale, len * sizeof(float));
        run.array[0] = (struct row_array){4, len, in, NULL};
        run.array[1] = (struct row_array){2, len, NULL, out};
        run.array[2] = (struct row_array){4, 1, row_scale, NULL};
        row_run_every_way(*state, &run);
        for (size_t i = 0; i < (size_t)ROWS * len; i++)
            assert_number(NUMBER_BF16, out[i],
                          (double)((float)in[i] * row_scale[i / len] * column_scale[i % len]), 0.0);
        free(row_scale);
        free(column_scale);
        free(numbers);
        free(in);
        free(out);
    }
}

/* ---- glu ---- */

struct glu_case {
    enum number type;
    enum glu_kind kind;
};

/* Arrays: pair, value, scale. */
static void launch_glu(struct rig *rig, const struct row_run *run, struct extent rows, void **at)
{
    const struct glu_case *it = run->with;
    struct glu_args args = {rows, at[0], run->array[1].width, it->kind, {it->type, at[1], at[2]}};

    rig->kernels->glu(rig->gpu, &args);
}

/* (1 + tanh z) / 2 = 1 / (1 + e^-2z). Where e^-2z is large, what z was rounded by grows with it. */
static double act(enum glu_kind kind, double x)
{
    if (kind == GLU_SILU)
        return x / (1.0 + exp(-x));
    return x / (1.0 + exp(-2.0 * sqrt(2.0 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

static void glu(struct rig *rig, const struct glu_case *it, const uint16_t *pair, uint32_t len,
                void *value, float *scale)
{
    struct row_run run = {
        .arrays = 3, .rows = ROWS, .most = MOST, .launch = launch_glu, .with = it};

    run.array[0] = (struct row_array){2, 2 * len, pair, NULL};
    run.array[1] = (struct row_array){unit_of(it->type), len, NULL, value};
    run.array[2] = (struct row_array){4, 1, NULL, it->type == NUMBER_BF16 ? NULL : scale};
    row_run_every_way(rig, &run);
}

static void check_glu(struct rig *rig, struct glu_case it, uint32_t len)
{
    uint16_t *pair = some_bf16(ROWS, 2 * len, 11);
    double *want = room(ROWS * len, sizeof(*want));
    uint16_t *value = room(ROWS * len, sizeof(*value));
    float scale[ROWS];

    glu(rig, &it, pair, len, value, scale);
    for (size_t i = 0; i < (size_t)ROWS * len; i++) {
        const uint16_t *gate = pair + i / len * 2 * len + i % len;

        want[i] = act(it.kind, (double)bf16_float(gate[0])) * (double)bf16_float(gate[len]);
    }
    assert_prepared(it.type, value, scale, want, it.kind == GLU_GELU ? 2e-5 : 1e-6, ROWS, len);
    free(pair);
    free(want);
    free(value);
}

static void test_the_gate_is_the_formula(void **state)
{
    for (size_t type = 0; type < COUNT(prepared); type++)
        for (size_t i = 0; i < COUNT(width); i++)
            check_glu(*state,
                      (struct glu_case){prepared[type], (i + type) % 2 ? GLU_SILU : GLU_GELU},
                      width[i]);
    check_glu(*state, (struct glu_case){NUMBER_FP8, GLU_SILU}, long_width[0]);
    check_glu(*state, (struct glu_case){NUMBER_INT8, GLU_SILU}, long_width[1]);
}

/* The loop of `ref` over the same numbers, NaN and infinity among them: its floats, rounded. */
static void test_the_gate_is_refs_to_the_bit(void **state)
{
    enum { LEN = 200 };
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e30f, -1e30f, -90.0f};
    struct backend ref = {.team = team_new(1, false), .hyper = {.ff = LEN}};
    uint16_t *pair = some_bf16(ROWS, 2 * LEN, 12);
    uint16_t value[ROWS * LEN];
    float floats[ROWS * 2 * LEN], out[ROWS * LEN];
    struct glu_case it = {NUMBER_BF16, GLU_SILU};

    for (size_t i = 0; i < COUNT(odd); i++) {
        pair[i] = bf16(odd[i]);
        pair[2 * LEN + LEN + i] = bf16(odd[i]);
    }
    for (size_t i = 0; i < ROWS * 2 * LEN; i++)
        floats[i] = bf16_float(pair[i]);
    ref.act[ACT_PAIR] = floats;
    ref.act[ACT_FF] = out;
    ref.act_width[ACT_PAIR] = 2 * LEN;
    ref.act_width[ACT_FF] = LEN;
    ref_glu(&ref, ROWS);
    glu(*state, &it, pair, LEN, value, NULL);
    for (size_t i = 0; i < ROWS * LEN; i++)
        assert_number(NUMBER_BF16, value[i], (double)out[i], 0.0);
    team_free(ref.team);
    free(pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_norm_is_the_formula),
        cmocka_unit_test(test_blocks_go_from_row_to_row),
        cmocka_unit_test(test_a_norm_is_refs),
        cmocka_unit_test(test_a_norm_hides_no_nan_and_no_infinity),
        cmocka_unit_test(test_a_row_of_zeros_has_scale_1),
        cmocka_unit_test(test_quantised_rows_are_value_times_scale),
        cmocka_unit_test(test_rows_without_a_scale),
        cmocka_unit_test(test_sums_of_int8_are_scaled_by_row_and_column),
        cmocka_unit_test(test_the_gate_is_the_formula),
        cmocka_unit_test(test_the_gate_is_refs_to_the_bit),
    };

    return run_on_every_schedule(tests);
}
