/*
 * test_cuda_prepare.c: rows of fp8 and int8, what int8 products stand for, and the gate, against
 * formulas in doubles and against the loop of `ref`.
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

static const uint32_t width[] = {1, 7, 8, 96, 576, 1032, 4096, 4104};
/* Held by more registers, and by none: one kind of output each. */
static const uint32_t long_width[] = {9000, 16392};

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
    double *want = some_room(ROWS * len, sizeof(*want));
    uint8_t *value = some_room(ROWS * len, 1);
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
    for (size_t type = 1; type < COUNT(number_prepared); type++) {
        for (size_t i = 0; i < COUNT(width); i++)
            check_quantise(*state, number_prepared[type], width[i]);
        check_quantise(*state, number_prepared[type], long_width[type - 1]);
    }
}

/* What is too small for a scale is zeros; what is no number makes the scale none. */
static void test_rows_without_a_scale(void **state)
{
    static const float first[] = {1e-38f, -1e-40f, 0.0f, NAN, -INFINITY};
    enum { LEN = 10 };

    for (size_t type = 1; type < COUNT(number_prepared); type++)
        for (size_t i = 0; i < COUNT(first); i++) {
            uint16_t *in = some_bf16(ROWS, LEN, 6);
            uint8_t value[ROWS * LEN];
            float scale[ROWS];

            for (uint32_t k = 0; k < LEN; k++)
                in[LEN + k] = bf16(k == 9 ? first[i] : 0.0f);
            quantise(*state, number_prepared[type], in, LEN, value, scale);
            assert_true(scale[0] > 0.0f && scale[2] > 0.0f);
            if (!isfinite(first[i])) {
                assert_true(isnan(scale[1]));
            } else {
                assert_true(scale[1] == 1.0f);
                for (uint32_t k = 0; k < LEN; k++)
                    assert_true(number_value(number_prepared[type], value[LEN + k]) == 0.0);
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
        int32_t *in = some_room(ROWS * len, sizeof(*in));
        uint16_t *out = some_room(ROWS * len, sizeof(*out));
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
    run.array[1] = (struct row_array){number_bytes(it->type), len, NULL, value};
    run.array[2] = (struct row_array){4, 1, NULL, it->type == NUMBER_BF16 ? NULL : scale};
    row_run_every_way(rig, &run);
}

static void check_glu(struct rig *rig, struct glu_case it, uint32_t len)
{
    uint16_t *pair = some_bf16(ROWS, 2 * len, 11);
    double *want = some_room(ROWS * len, sizeof(*want));
    uint16_t *value = some_room(ROWS * len, sizeof(*value));
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
    for (size_t type = 0; type < COUNT(number_prepared); type++)
        for (size_t i = 0; i < COUNT(width); i++)
            check_glu(
                *state,
                (struct glu_case){number_prepared[type], (i + type) % 2 ? GLU_SILU : GLU_GELU},
                width[i]);
    check_glu(*state, (struct glu_case){NUMBER_FP8, GLU_SILU}, long_width[0]);
    check_glu(*state, (struct glu_case){NUMBER_INT8, GLU_SILU}, long_width[1]);
}

/* The loop of `ref` over the same numbers. */
static void gate_of_ref(const uint16_t *pair, uint32_t rows, uint32_t len, float *out)
{
    struct backend ref = {.team = team_new(1, false), .hyper = {.ff = len}};
    float *floats = some_room(2 * rows * len, sizeof(*floats));

    for (size_t i = 0; i < 2 * (size_t)rows * len; i++)
        floats[i] = bf16_float(pair[i]);
    ref.act[ACT_PAIR] = floats;
    ref.act[ACT_FF] = out;
    ref.act_width[ACT_PAIR] = 2 * len;
    ref.act_width[ACT_FF] = len;
    ref_glu(&ref, rows);
    team_free(ref.team);
    free(floats);
}

/* NaN and infinity among them. */
static void test_the_gate_is_refs_rounded(void **state)
{
    enum { LEN = 200 };
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e30f, -1e30f, -90.0f};
    struct glu_case it = {NUMBER_BF16, GLU_SILU};
    uint16_t *pair = some_bf16(ROWS, 2 * LEN, 12);
    uint16_t value[ROWS * LEN];
    float want[ROWS * LEN];

    for (size_t i = 0; i < COUNT(odd); i++) {
        pair[i] = bf16(odd[i]);
        pair[2 * LEN + LEN + i] = bf16(odd[i]);
    }
    gate_of_ref(pair, ROWS, LEN, want);
    glu(*state, &it, pair, LEN, value, NULL);
    for (size_t i = 0; i < ROWS * LEN; i++)
        assert_number(NUMBER_BF16, value[i], (double)want[i], 0.0);
    free(pair);
}

/* All bits of it: they are in the scale of a row of one number. */
static void test_the_gate_is_refs_to_the_bit(void **state)
{
    enum { MANY = 400 };
    static const struct glu_case it = {NUMBER_INT8, GLU_SILU};
    struct row_run run = {
        .arrays = 3, .rows = MANY, .most = MANY, .launch = launch_glu, .with = &it};
    uint16_t *pair = some_bf16(MANY, 2, 13);
    uint8_t value[MANY];
    float want[MANY], scale[MANY];

    gate_of_ref(pair, MANY, 1, want);
    run.array[0] = (struct row_array){2, 2, pair, NULL};
    run.array[1] = (struct row_array){1, 1, NULL, value};
    run.array[2] = (struct row_array){4, 1, NULL, scale};
    row_run(*state, &run);
    for (uint32_t i = 0; i < MANY; i++)
        assert_true(scale[i] == fabsf(want[i]) / 127.0f);
    free(pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantised_rows_are_value_times_scale),
        cmocka_unit_test(test_rows_without_a_scale),
        cmocka_unit_test(test_sums_of_int8_are_scaled_by_row_and_column),
        cmocka_unit_test(test_the_gate_is_the_formula),
        cmocka_unit_test(test_the_gate_is_refs_rounded),
        cmocka_unit_test(test_the_gate_is_refs_to_the_bit),
    };

    return run_on_every_schedule(tests);
}
