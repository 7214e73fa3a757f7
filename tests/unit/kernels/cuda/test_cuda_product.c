/* product.cu and same.cu: values, edges, and that a row's bits are its own. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gpu_rig.h"

struct shape {
    uint32_t rows, outputs, inputs;
};

/* bf16 numbers of magnitudes so mixed that a float loses some of each sum; many cancel. */
static uint16_t *numbers(size_t len, uint64_t seed)
{
    uint16_t *at = malloc(len * sizeof(*at));

    assert_non_null(at);
    for (size_t i = 0; i < len; i++) {
        at[i] = bf16(ldexpf(rig_uniform(&seed), (int)(seed >> 40 & 15) - 8));
        if (i % 2 && i % 8 != 7)
            at[i] = (uint16_t)(at[i - 1] ^ 0x8000);
    }
    return at;
}

/* On the card, with a row of NaN behind it that nobody may look at. */
static uint16_t *put(struct rig *rig, const uint16_t *from, uint32_t rows, uint32_t inputs)
{
    size_t bytes = (size_t)rows * inputs * 2;
    uint16_t *at = rig_room(rig, bytes + (size_t)inputs * 2);

    rig->module->copy(rig->gpu, at, from, bytes);
    rig_wait(rig);
    return at;
}

/* The product as the card has it: floats, or bf16 in floats. What lies behind it stays as it was. */
static void multiply(struct rig *rig, const struct shape *shape, const uint16_t *a,
                     const uint16_t *b, enum number type, float *ret)
{
    size_t len = (size_t)shape->rows * shape->outputs, size = type == NUMBER_F32 ? 4 : 2;
    uint16_t *left = put(rig, a, shape->rows, shape->inputs);
    uint16_t *right = put(rig, b, shape->outputs, shape->inputs);
    unsigned char *out = rig_room(rig, (len + 256) * size), *got = malloc((len + 256) * size);
    struct product_args args = {shape->rows, shape->outputs, shape->inputs, left, right, type, out};

    assert_non_null(got);
    rig->kernels->product(rig->gpu, &args);
    rig_get(rig, got, out, (len + 256) * size);
    for (size_t i = 0; i < len; i++) {
        uint16_t half;

        memcpy(&half, got + i * 2, 2);
        if (type == NUMBER_F32)
            memcpy(&ret[i], got + i * 4, 4);
        else
            ret[i] = bf16_float(half);
    }
    for (size_t i = len * size; i < (len + 256) * size; i++)
        assert_int_equal(got[i], 0xff);
    free(got);
    rig->module->give(rig->gpu, left);
    rig->module->give(rig->gpu, right);
    rig->module->give(rig->gpu, out);
}

static double *by_doubles(const struct shape *shape, const uint16_t *a, const uint16_t *b)
{
    double *want = calloc((size_t)shape->rows * shape->outputs, sizeof(*want));

    assert_non_null(want);
    for (uint32_t m = 0; m < shape->rows; m++)
        for (uint32_t n = 0; n < shape->outputs; n++)
            for (uint32_t k = 0; k < shape->inputs; k++)
                want[(size_t)m * shape->outputs + n] +=
                    (double)bf16_float(a[(size_t)m * shape->inputs + k]) *
                    (double)bf16_float(b[(size_t)n * shape->inputs + k]);
    return want;
}

static const struct shape shapes[] = {
    {1, 1, 8}, {3, 5, 16}, {17, 33, 24}, {64, 64, 32}, {65, 129, 40}, {33, 70, 200},
};

/* Sizes of all kinds: every number is the sum that doubles give, in every order of threads. */
static void test_it_multiplies(void **state)
{
    (void)state;
    for (uint32_t s = 0; rig_schedule(s) != NULL; s++) {
        struct rig *rig = rig_open_as(rig_schedule(s));

        for (unsigned i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
            size_t len = (size_t)shapes[i].rows * shapes[i].outputs;
            uint16_t *a = numbers((size_t)shapes[i].rows * shapes[i].inputs, 3 + i);
            uint16_t *b = numbers((size_t)shapes[i].outputs * shapes[i].inputs, 30 + i);
            double *want = by_doubles(&shapes[i], a, b);
            float *got = malloc(len * sizeof(*got));

            assert_non_null(got);
            multiply(rig, &shapes[i], a, b, NUMBER_F32, got);
            assert_true(rig_nmse(want, got, len) < 1e-12);
            multiply(rig, &shapes[i], a, b, NUMBER_BF16, got);
            assert_true(rig_nmse(want, got, len) < 1e-5);
            free(a);
            free(b);
            free(want);
            free(got);
        }
        rig_close(rig);
    }
}

/* A row alone, among few and among many, and with fewer columns: the same bits, in all orders. */
static void test_a_row_has_its_bits(void **state)
{
    static const struct shape whole = {70, 67, 136};
    static const uint32_t rows[] = {1, 2, 31, 65}, columns[] = {67, 64, 5};
    uint16_t *a = numbers((size_t)whole.rows * whole.inputs, 5);
    uint16_t *b = numbers((size_t)whole.outputs * whole.inputs, 6);
    float *want = malloc(70 * 67 * sizeof(*want)), *got = malloc(70 * 67 * sizeof(*got));

    (void)state;
    assert_true(want && got);
    for (uint32_t s = 0; rig_schedule(s) != NULL; s++) {
        struct rig *rig = rig_open_as(rig_schedule(s));

        multiply(rig, &whole, a, b, NUMBER_F32, s == 0 ? want : got);
        if (s > 0)
            assert_memory_equal(got, want, 70 * 67 * sizeof(*want));
        for (unsigned i = 0; i < 4; i++) {
            struct shape part = {rows[i], columns[i % 3], whole.inputs};
            uint32_t from = whole.rows - rows[i];

            multiply(rig, &part, a + (size_t)from * whole.inputs, b, NUMBER_F32, got);
            for (uint32_t m = 0; m < part.rows; m++)
                assert_memory_equal(got + (size_t)m * part.outputs,
                                    want + (size_t)(from + m) * whole.outputs,
                                    part.outputs * sizeof(*got));
        }
        rig_close(rig);
    }
    free(a);
    free(b);
    free(want);
    free(got);
}

/* What the tuner asks: one bit in any segment of any row is seen, and only there. */
static void test_one_bit_is_seen(void **state)
{
    enum { ROWS = 5, BYTES = SAME_SEGMENT + 6, LEN = ROWS * BYTES / 2 };
    static const uint32_t row[ROWS] = {2, 0, SAME_ANY, 1, 1};
    uint16_t *want = calloc(LEN, 2), *got = calloc(LEN, 2);
    uint32_t differs[ROWS * 2];
    struct rig *rig = rig_open_as("seed=1");
    uint64_t seed = 9;

    (void)state;
    assert_true(want && got);
    for (uint32_t i = 0; i < LEN; i++)
        want[i] = bf16(rig_uniform(&seed));
    for (uint32_t i = 0; i < ROWS; i++)
        memcpy(got + i * BYTES / 2, want + (row[i] == SAME_ANY ? 3 : row[i]) * BYTES / 2, BYTES);
    got[1 * BYTES / 2 + BYTES / 2 - 1] ^= 0x100; /* the last of row 1 */
    got[2 * BYTES / 2] ^= 1;                     /* a row that may be anything */
    got[4 * BYTES / 2 + 7] ^= 0x8000;            /* the sign of one in the first segment of row 4 */
    {
        struct same_args args = {ROWS,
                                 BYTES,
                                 rig_put(rig, got, LEN * 2),
                                 rig_put(rig, want, LEN * 2),
                                 rig_put(rig, row, sizeof(row)),
                                 rig_room(rig, sizeof(differs))};

        rig->kernels->same(rig->gpu, &args);
        rig_get(rig, differs, args.differs, sizeof(differs));
    }
    for (uint32_t i = 0; i < ROWS * 2; i++)
        assert_int_equal(differs[i], i == 3 || i == 8);
    rig_close(rig);
    free(want);
    free(got);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_multiplies),
        cmocka_unit_test(test_a_row_has_its_bits),
        cmocka_unit_test(test_one_bit_is_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
