/* row_runs.c: staging, poison, and what is compared. */
#include "row_runs.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { POISON = 0xff, GUARD = 64 };

static size_t row_bytes(const struct row_array *array)
{
    return (size_t)array->unit * array->width;
}

/* Bytes on the card, and where in them the rows begin. */
static size_t staged_bytes(const struct row_run *run, const struct row_array *array, size_t *start)
{
    *start = (size_t)run->shift * array->unit;
    return *start + run->most * row_bytes(array) + GUARD;
}

static void *put_array(struct rig *rig, const struct row_run *run, const struct row_array *array)
{
    size_t start;
    size_t bytes = staged_bytes(run, array, &start);
    uint8_t *staged = malloc(bytes);
    void *device;

    assert_non_null(staged);
    memset(staged, POISON, bytes);
    if (array->in != NULL)
        memcpy(staged + start, array->in, run->rows * row_bytes(array));
    device = rig_put(rig, staged, bytes);
    free(staged);
    return device;
}

static void take_array(struct rig *rig, const struct row_run *run, const struct row_array *array,
                       const void *device)
{
    size_t start;
    size_t bytes = staged_bytes(run, array, &start);
    size_t end = start + run->rows * row_bytes(array);
    uint8_t *staged = malloc(bytes);

    assert_non_null(staged);
    rig_get(rig, staged, device, bytes);
    for (size_t i = 0; i < bytes; i++)
        if ((i < start || i >= end) && staged[i] != POISON)
            fail_msg("byte %zu was written, rows are at %zu to %zu", i, start, end);
    if (array->out != NULL)
        memcpy(array->out, staged + start, end - start);
    free(staged);
}

void row_run(struct rig *rig, const struct row_run *run)
{
    struct extent extent = rig_extent(rig, run->blocks > 0 ? run->blocks : run->most, run->rows);
    void *device[ROW_ARRAYS_MAX], *at[ROW_ARRAYS_MAX];
    size_t start;

    for (uint32_t i = 0; i < run->arrays; i++) {
        device[i] = put_array(rig, run, &run->array[i]);
        staged_bytes(run, &run->array[i], &start);
        at[i] = (uint8_t *)device[i] + start;
    }
    run->launch(rig, run, extent, at);
    rig_wait(rig);
    for (uint32_t i = 0; i < run->arrays; i++) {
        take_array(rig, run, &run->array[i], device[i]);
        rig->module->give(rig->gpu, device[i]);
    }
}

/* Rows from `first` on, of the run whose results are known, run as `other` says: the same bits. */
static void compare(struct rig *rig, const struct row_run *run, struct row_run other,
                    uint32_t first)
{
    for (uint32_t i = 0; i < run->arrays; i++) {
        struct row_array *array = &other.array[i];

        if (array->in != NULL)
            array->in = (const uint8_t *)array->in + first * row_bytes(array);
        if (array->out != NULL) {
            array->out = malloc(other.rows * row_bytes(array));
            assert_non_null(array->out);
        }
    }
    row_run(rig, &other);
    for (uint32_t i = 0; i < run->arrays; i++)
        if (run->array[i].out != NULL) {
            assert_memory_equal(other.array[i].out,
                                (uint8_t *)run->array[i].out + first * row_bytes(&run->array[i]),
                                other.rows * row_bytes(&run->array[i]));
            free(other.array[i].out);
        }
}

void row_run_every_way(struct rig *rig, const struct row_run *run)
{
    struct row_run other = *run;

    row_run(rig, run);
    other.shift = 1;
    compare(rig, run, other, 0);
    other.shift = 0;
    other.most = 2 * run->most + 5;
    compare(rig, run, other, 0);
    other.blocks = 1;
    compare(rig, run, other, 0);
    other.blocks = 0;
    other.rows = 1;
    other.most = 1;
    for (uint32_t row = 0; row < run->rows; row++)
        compare(rig, run, other, row);
}

/* ---- numbers ---- */

static double fp8_value(uint32_t bits)
{
    double size = bits & 7;
    int exponent = (int)(bits >> 3 & 15);

    if ((bits & 0x7f) == 0x7f)
        return (double)NAN;
    size = exponent == 0 ? ldexp(size, -9) : ldexp(8.0 + size, exponent - 10);
    return bits & 0x80 ? -size : size;
}

double number_value(enum number type, uint32_t bits)
{
    float value;

    switch (type) {
    case NUMBER_BF16:
        return (double)bf16_float((uint16_t)bits);
    case NUMBER_FP8:
        return fp8_value(bits);
    case NUMBER_INT8:
        return (double)(int8_t)bits;
    default:
        memcpy(&value, &bits, sizeof(value));
        return (double)value;
    }
}

uint32_t number_at(enum number type, const void *array, size_t index)
{
    if (type == NUMBER_BF16)
        return ((const uint16_t *)array)[index];
    if (type == NUMBER_F32)
        return ((const uint32_t *)array)[index];
    return ((const uint8_t *)array)[index];
}

/* Eight numbers between powers of two, multiples of 2^-9 under 2^-6, 448 the last. */
static double fp8_nearest(double x)
{
    int exponent = fabs(x) < 0x1p-6 ? -6 : ilogb(x);
    double step = ldexp(1.0, exponent - 3);

    return copysign(fmin(nearbyint(fabs(x) / step) * step, 448.0), x);
}

static double nearest(enum number type, double x)
{
    switch (type) {
    case NUMBER_BF16:
        return (double)bf16_float(bf16((float)x));
    case NUMBER_FP8:
        return fp8_nearest(x);
    case NUMBER_INT8:
        return nearbyint(x);
    default:
        return x;
    }
}

void assert_number(enum number type, uint32_t bits, double want, double error)
{
    double got = number_value(type, bits);

    if (isnan(want) ? isnan(got)
                    : got >= nearest(type, want - error) && got <= nearest(type, want + error))
        return;
    fail_msg("%a (%#x) instead of %a", got, bits, want);
}

void assert_prepared(enum number type, const void *value, const float *scale, const double *want,
                     double part, uint32_t rows, uint32_t width)
{
    for (uint32_t row = 0; row < rows; row++, want += width) {
        double most = 0.0, scaled = 1.0;

        for (uint32_t i = 0; i < width; i++)
            most = fmax(most, fabs(want[i]));
        if (type != NUMBER_BF16) {
            scaled = (double)scale[row];
            most /= type == NUMBER_FP8 ? 448.0 : 127.0;
            assert_true(fabs(scaled - (most > 0.0 ? most : 1.0)) <= part * scaled);
        }
        for (uint32_t i = 0; i < width; i++)
            assert_number(type, number_at(type, value, (size_t)row * width + i), want[i] / scaled,
                          part * fabs(want[i] / scaled) + 1e-30);
    }
}

/* ---- made-up rows ---- */

const enum number number_prepared[3] = {NUMBER_BF16, NUMBER_FP8, NUMBER_INT8};

uint32_t number_bytes(enum number type)
{
    return type == NUMBER_BF16 ? 2 : type == NUMBER_F32 || type == NUMBER_INT32 ? 4 : 1;
}

void *some_room(size_t len, size_t unit)
{
    void *at = calloc(len > 0 ? len : 1, unit);

    assert_non_null(at);
    return at;
}

float *some_floats(uint32_t rows, uint32_t len, uint64_t seed)
{
    float *x = some_room((size_t)rows * len, sizeof(*x));

    for (uint32_t row = 0; row < rows; row++)
        for (uint32_t i = 0; i < len; i++)
            x[(size_t)row * len + i] =
                rig_uniform(&seed) * (row % 3 == 1 ? 0.01f : 3.0f) * (i % 50 == 17 ? 30.0f : 1.0f);
    return x;
}

uint16_t *some_bf16(uint32_t rows, uint32_t len, uint64_t seed)
{
    float *x = some_floats(rows, len, seed);
    uint16_t *y = some_room((size_t)rows * len, sizeof(*y));

    for (size_t i = 0; i < (size_t)rows * len; i++)
        y[i] = bf16(x[i]);
    free(x);
    return y;
}

/* ---- main ---- */

static const char *schedule;

static int open_rig(void **state)
{
    *state = rig_open_as(schedule);
    return *state == NULL;
}

static int close_rig(void **state)
{
    rig_close(*state);
    return 0;
}

int row_runs_main(const struct CMUnitTest *tests, size_t len)
{
    int failed = 0;

    for (uint32_t i = 0; rig_schedule(i) != NULL; i++) {
        schedule = rig_schedule(i);
        failed += _cmocka_run_group_tests(schedule, tests, len, open_rig, close_rig);
    }
    return failed;
}
