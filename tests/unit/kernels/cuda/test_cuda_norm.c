/*
 * test_cuda_norm.c: add and RMSNorm against the formula in doubles and against the loop of `ref`, in
 * each way that rows are prepared: odd widths, rows alone and among others, numbers that are none.
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

enum { ROWS = 3 };

static const uint32_t width[] = {1, 7, 8, 96, 576, 1032, 4096, 4104};
/* Held by more registers, and by none: one kind of output each. */
static const uint32_t long_width[] = {9000, 16392};

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
    n.sum = some_room((size_t)rows * len, sizeof(*n.sum));
    n.scale = some_room(rows, sizeof(*n.scale));
    n.value = some_room((size_t)rows * len, 2);
    n.want = some_room((size_t)rows * len, sizeof(*n.want));
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
    run.array[1] = (struct row_array){number_bytes(it->type), len, NULL, n->value};
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
    for (size_t type = 0; type < COUNT(number_prepared); type++) {
        for (size_t i = 0; i < COUNT(width); i++)
            check_norm(*state, number_prepared[type], (i + type) % 2 == 0, width[i]);
        if (type < COUNT(long_width))
            check_norm(*state, number_prepared[type], type == 0, long_width[type]);
    }
}

/* More rows than there are blocks at most. */
static void test_no_row_is_one_too_many(void **state)
{
    enum { MANY = 1030, LEN = 9 };
    struct normed n = normed_new(MANY, LEN);
    struct norm_case it = {NUMBER_BF16, rig_put(*state, n.gain, LEN * sizeof(float)), true};
    struct row_run run = norm_run(&n, &it, MANY, LEN);

    row_run(*state, &run);
    want_normed(&n, true, MANY, LEN);
    assert_prepared(NUMBER_BF16, n.value, n.scale, n.want, 1e-6, MANY, LEN);
    normed_free(&n);
}

/* The loop of `ref` over the same rows: the sums to the bit, the norms but for rounding. */
static void test_a_norm_is_refs(void **state)
{
    enum { LEN = 576 };
    struct normed n = normed_new(ROWS, LEN);
    struct norm_case it = {NUMBER_BF16, rig_put(*state, n.gain, LEN * sizeof(float)), true};
    struct row_run run = norm_run(&n, &it, ROWS, LEN);
    float *delta = some_room(ROWS * LEN, sizeof(float)),
          *out = some_room(ROWS * LEN, sizeof(float));
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
    size_t unit = number_bytes(type);

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

    for (size_t type = 0; type < COUNT(number_prepared); type++)
        for (size_t i = 0; i < COUNT(none); i++) {
            norm_with(*state, number_prepared[type], none[i][0], none[i][1], value, &scale);
            for (uint32_t k = 0; k < 40; k++)
                assert_true(isnan(number_prepared[type] == NUMBER_BF16 ? value[k] : scale));
        }
}

static void test_a_row_of_zeros_has_scale_1(void **state)
{
    double value[40], scale;

    for (size_t type = 0; type < COUNT(number_prepared); type++) {
        norm_with(*state, number_prepared[type], 0.0f, -0.0f, value, &scale);
        for (uint32_t k = 0; k < 40; k++)
            assert_true(value[k] == 0.0);
        assert_true(number_prepared[type] == NUMBER_BF16 || scale == 1.0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_norm_is_the_formula),
        cmocka_unit_test(test_no_row_is_one_too_many),
        cmocka_unit_test(test_a_norm_is_refs),
        cmocka_unit_test(test_a_norm_hides_no_nan_and_no_infinity),
        cmocka_unit_test(test_a_row_of_zeros_has_scale_1),
    };

    return run_on_every_schedule(tests);
}
