/*
 * test_matrix.c: products of packed matrices, each format on each instruction set that this machine
 * runs: near the sum in doubles, and the same bits in any company and any split.
 */
#include "kernels/cpu/matrix.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/model/gguf.h"
#include "kernels/model/tensor.h"

enum { ROWS = 29 };

/* A matrix with its source, and operands that belong to it. */
struct rig {
    struct gguf_tensor tensor[MATRIX_TENSORS_MAX];
    const struct gguf_tensor *tensors[MATRIX_TENSORS_MAX];
    uint32_t len;
    struct matrix matrix;
    uint8_t *packed;
    uint8_t *input; /* [ROWS] prepared */
    float *in;      /* [ROWS][K] */
    float *out;     /* [ROWS][N] */
};

struct shape {
    uint32_t outputs, inputs;
};

static const uint32_t types[] = {TENSOR_Q8_0, TENSOR_F32, TENSOR_F16, TENSOR_BF16};
enum { TYPES = sizeof(types) / sizeof(types[0]) };

/* All multiples of 32, as Q8_0 has it; the others take one input less. */
static const struct shape shapes[] = {{1, 32},   {15, 64},  {16, 256}, {33, 288},
                                      {64, 544}, {97, 768}, {70, 1056}};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

static uint32_t seed = 1;

static uint32_t draw(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static float uniform(void)
{
    return (float)draw() * 0x1p-23f - 1.0f;
}

/* Near a bell, with a far one now and then. */
static float bell(void)
{
    float x = uniform() + uniform() + uniform();

    return draw() % 500 == 0 ? 20 * x : x;
}

static uint16_t half_of(float x)
{
    for (uint16_t h = 0;; h++)
        if (tensor_half(h) >= fabsf(x))
            return (uint16_t)(x < 0 ? h | 0x8000 : h);
}

static void fill_q8_0(uint8_t *data, uint64_t blocks)
{
    for (uint64_t i = 0; i < blocks; i++, data += 34) {
        uint16_t d = (uint16_t)(0x1c00 + draw() % 0x0600); /* 2^-8, a factor of 3 */

        if (draw() % 300 == 0)
            d -= 0x1800; /* a 64th: some chunks on AVX2 become wide */
        if (draw() % 8 == 0)
            d |= 0x8000;
        if (draw() % 50 == 0)
            d = 0;
        memcpy(data, &d, 2);
        for (int k = 0; k < 32; k++)
            data[2 + k] =
                (uint8_t)(draw() % 16 == 0 ? -128 : (int)(42 * uniform() + 42 * uniform()));
    }
}

static void fill(uint32_t type, uint8_t *data, uint64_t len)
{
    if (type == TENSOR_Q8_0)
        fill_q8_0(data, len / 32);
    for (uint64_t i = 0; type != TENSOR_Q8_0 && i < len; i++) {
        float x = bell() / 50;
        uint32_t bits;

        memcpy(&bits, &x, 4);
        if (type == TENSOR_F32)
            memcpy(data + 4 * i, &bits, 4);
        else if (type == TENSOR_BF16)
            memcpy(data + 2 * i, (const uint8_t *)&bits + 2, 2);
        else
            memcpy(data + 2 * i,
                   &(uint16_t){(uint16_t)(bits >> 16 & 0x8000u) | /* 2^-15 to 2^0 */
                               (uint16_t)(draw() % 0x3c00)},
                   2);
    }
}

static void *take(size_t bytes)
{
    void *memory = aligned_alloc(MATRIX_ALIGN, (bytes + 63) / 64 * 64 + 64);

    assert_non_null(memory);
    memset(memory, 0x7f, bytes);
    return memory;
}

static void rig_release(struct rig *rig)
{
    for (uint32_t i = 0; i < rig->len; i++)
        free((void *)(uintptr_t)rig->tensor[i].data);
    free(rig->packed);
    free(rig->input);
    free(rig->in);
    free(rig->out);
}

static void add_tensor(struct rig *rig, uint32_t type, uint32_t outputs, uint32_t inputs)
{
    const struct tensor_format *format = tensor_format(type);
    struct gguf_tensor *tensor = &rig->tensor[rig->len];
    uint64_t len = (uint64_t)outputs * inputs;
    uint8_t *data = take(len / format->block_len * format->block_bytes);

    fill(type, data, len);
    *tensor = (struct gguf_tensor){.type = type, .dims = 2, .dim = {inputs, outputs, 1, 1}};
    tensor->len = len;
    tensor->data = data;
    rig->tensors[rig->len++] = tensor;
}

/* Packs what was added, and draws rows. */
static void rig_pack(struct rig *rig, enum isa isa)
{
    assert_int_equal(matrix_plan(isa, rig->tensors, rig->len, &rig->matrix), ERR_OK);
    rig->packed = take(rig->matrix.bytes);
    assert_int_equal(
        matrix_pack(&rig->matrix, rig->tensors, rig->len, 0, rig->matrix.outputs, rig->packed),
        ERR_OK);
    rig->matrix.packed = rig->packed;
    rig->in = take((size_t)ROWS * rig->matrix.inputs * sizeof(float));
    rig->input = take(ROWS * rig->matrix.row_bytes);
    rig->out = take((size_t)ROWS * rig->matrix.outputs * sizeof(float));
    for (size_t i = 0; i < (size_t)ROWS * rig->matrix.inputs; i++)
        rig->in[i] = bell();
}

static void rig_init(struct rig *rig, enum isa isa, uint32_t type, const struct shape *shape)
{
    *rig = (struct rig){0};
    add_tensor(rig, type, shape->outputs, type == TENSOR_Q8_0 ? shape->inputs : shape->inputs - 1);
    rig_pack(rig, isa);
}

static void multiply(struct rig *rig, uint32_t rows)
{
    matrix_prepare(&rig->matrix, rig->in, rig->matrix.inputs, rows, rig->input);
    matrix_multiply(&rig->matrix, rig->input, rows, 0, rig->matrix.outputs, rig->out,
                    rig->matrix.outputs);
}

/* out[m][n] in doubles, of the weights as they stand in the file; *ret_size the sum of squares. */
static double truth(const struct rig *rig, uint32_t m, uint32_t n)
{
    uint32_t inputs = rig->matrix.inputs, i = 0;
    float *row = take(inputs * sizeof(float));
    const struct tensor_format *format;
    double sum = 0.0;

    while (n >= rig->tensor[i].dim[1])
        n -= (uint32_t)rig->tensor[i++].dim[1];
    format = tensor_format(rig->tensor[i].type);
    format->to_f32((const uint8_t *)rig->tensor[i].data +
                       (size_t)n * (inputs / format->block_len) * format->block_bytes,
                   inputs, row);
    for (uint32_t k = 0; k < inputs; k++)
        sum += (double)row[k] * (double)rig->in[(size_t)m * inputs + k];
    free(row);
    return sum;
}

static double nmse(const struct rig *rig)
{
    double error = 0.0, size = 0.0;

    for (uint32_t m = 0; m < ROWS; m++)
        for (uint32_t n = 0; n < rig->matrix.outputs; n++) {
            double want = truth(rig, m, n);
            double off = (double)rig->out[(size_t)m * rig->matrix.outputs + n] - want;

            error += off * off;
            size += want * want;
        }
    return error / size;
}

static enum isa isa_or_skip(void **state)
{
    enum isa isa;

    seed = 1; /* the same data whatever ran before */
    if (!isa_find(*state, &isa)) {
        print_message("this machine does not run %s\n", (const char *)*state);
        skip();
    }
    return isa;
}

/* notes: floats 1e-7 and below, operands of 8 bits 5e-4, of bfloat16 in between. */
static void test_products_are_near_the_sum_in_doubles(void **state)
{
    enum isa isa = isa_or_skip(state);

    for (size_t t = 0; t < TYPES; t++) {
        double worst = 0.0, limit = types[t] == TENSOR_Q8_0 ? 5e-4 : 1e-10;
        struct rig rig;

        for (size_t s = 0; s < SHAPES; s++) {
            rig_init(&rig, isa, types[t], &shapes[s]);
            multiply(&rig, ROWS);
            worst = fmax(worst, nmse(&rig));
            if (s + 1 < SHAPES)
                rig_release(&rig);
        }
        if (types[t] == TENSOR_BF16 && isa == ISA_AVX512_BF16)
            limit = 1e-5;
        print_message("%s: NMSE %.2g\n", matrix_numerics(&rig.matrix), worst);
        assert_true(worst < limit);
        rig_release(&rig);
    }
}

/* The second half of each row takes away most of what the first gave: any other order shows. */
static void cancel(struct rig *rig)
{
    uint32_t inputs = rig->matrix.inputs;

    for (uint32_t m = 0; m < ROWS; m++)
        for (uint32_t k = 0; k < inputs; k++) {
            float *x = &rig->in[(size_t)m * inputs + k];

            *x *= k % 7 == 0 ? 1e4f : k % 3 == 0 ? 1e-3f : 1.0f;
            if (k >= inputs / 2)
                *x = -x[-(ptrdiff_t)(inputs / 2)] * (1.0f + 1e-6f * (float)(draw() % 16));
        }
}

/* 1 to ROWS rows, outputs in two parts, and rows alone at other places: always the same bits. */
static void test_company_and_splits_change_no_bit(void **state)
{
    enum isa isa = isa_or_skip(state);

    for (size_t i = 0; i < TYPES * SHAPES; i++) {
        struct rig rig;
        uint32_t outputs, cut;
        float *alone;

        rig_init(&rig, isa, types[i % TYPES], &shapes[i / TYPES]);
        cancel(&rig);
        outputs = rig.matrix.outputs;
        cut = outputs / 2 / rig.matrix.tile * rig.matrix.tile;
        alone = take((size_t)ROWS * outputs * sizeof(float));
        matrix_prepare(&rig.matrix, rig.in, rig.matrix.inputs, ROWS, rig.input);
        for (uint32_t m = 0; m < ROWS; m++)
            matrix_multiply(&rig.matrix, rig.input + m * rig.matrix.row_bytes, 1, 0, outputs,
                            alone + (size_t)m * outputs, outputs);
        for (uint32_t rows = 1; rows <= ROWS; rows++) {
            memset(rig.out, 0x55, (size_t)ROWS * outputs * sizeof(float));
            matrix_multiply(&rig.matrix, rig.input, rows, cut, outputs, rig.out, outputs);
            matrix_multiply(&rig.matrix, rig.input, rows, 0, cut, rig.out, outputs);
            assert_memory_equal(rig.out, alone, (size_t)rows * outputs * sizeof(float));
            if (rows < ROWS)
                assert_int_equal(((uint8_t *)rig.out)[(size_t)rows * outputs * sizeof(float)],
                                 0x55);
        }
        free(alone);
        rig_release(&rig);
    }
}

/* A fault in a row reaches all of its outputs, so that the sampler sees it, and no other row. */
static void test_a_nan_stays_in_its_row(void **state)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    enum isa isa = isa_or_skip(state);

    for (size_t i = 0; i < TYPES * 3; i++) {
        struct rig rig;
        float *before;
        size_t row;

        rig_init(&rig, isa, types[i % TYPES], &shapes[5]);
        row = rig.matrix.outputs * sizeof(float);
        multiply(&rig, ROWS);
        before = take(ROWS * row);
        memcpy(before, rig.out, ROWS * row);
        rig.in[7 * (size_t)rig.matrix.inputs + 333] = bad[i / TYPES];
        multiply(&rig, ROWS);
        for (uint32_t n = 0; n < rig.matrix.outputs; n++)
            assert_true(!isfinite(rig.out[7 * rig.matrix.outputs + n]));
        assert_memory_equal(rig.out, before, 7 * row);
        assert_memory_equal((char *)rig.out + 8 * row, (char *)before + 8 * row, (ROWS - 8) * row);
        free(before);
        rig_release(&rig);
    }
}

static void set_blocks(struct rig *rig, float d, int quant)
{
    uint8_t *data = (uint8_t *)(uintptr_t)rig->tensor[0].data;
    uint16_t bits = half_of(d);

    for (uint64_t i = 0; i < rig->tensor[0].len / 32; i++) {
        memcpy(data + 34 * i, &bits, 2);
        for (uint64_t k = 0; k < 32; k++)
            data[34 * i + 2 + k] = (uint8_t)(quant != 0 ? quant : (int)((i + k) % 256));
    }
}

/* The ends of the number formats: the largest products, the smallest scales, zeros, denormals. */
static void test_extremes_of_q8_0(void **state)
{
    static const struct {
        float d, in;
        int quant;
    } rows[] = {{65504.0f, 1e30f, -128}, {-65504.0f, 1e30f, -128}, {65504.0f, -1e30f, 127},
                {6e-8f, 1.0f, -128},     {0.0f, 1e30f, 127},       {1.0f, 1e-34f, 127},
                {-1.0f, 0.0f, 0},        {1e-4f, 3.4e38f, 1}};
    enum isa isa = isa_or_skip(state);

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rig rig = {0};

        add_tensor(&rig, TENSOR_Q8_0, 33, 288);
        set_blocks(&rig, rows[i].d, rows[i].quant);
        rig_pack(&rig, isa);
        for (size_t k = 0; k < (size_t)ROWS * 288; k++)
            rig.in[k] = rows[i].in;
        multiply(&rig, ROWS);
        for (uint32_t n = 0; n < 33; n++) {
            double want = truth(&rig, 3, n), got = (double)rig.out[3 * 33 + n];

            if (fabs(want) > 3e38)
                assert_true(isinf(got) || fabs(got) > 3e38);
            else
                assert_true(fabs(got - want) <= 1e-3 * fabs(want));
        }
        rig_release(&rig);
    }
}

/*
 * A block of small weights beside large ones counts where only its inputs are not 0: arithmetic that
 * shares a scale between blocks must not lose it.
 */
static void test_small_blocks_are_not_lost(void **state)
{
    static const float parts[] = {0.5f, 0.1f, 1.0f / 17, 0.01f, 1e-4f};
    enum isa isa = isa_or_skip(state);

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        struct rig rig = {0};
        uint16_t bits = half_of(parts[i]);

        add_tensor(&rig, TENSOR_Q8_0, 20, 544);
        set_blocks(&rig, -1.0f, 0);
        for (uint64_t n = 0; n < 20; n++)
            memcpy((uint8_t *)(uintptr_t)rig.tensor[0].data + (n * 17 + 9) * 34, &bits, 2);
        rig_pack(&rig, isa);
        for (size_t k = 0; k < (size_t)ROWS * 544; k++)
            rig.in[k] = k % 544 / 32 == 9 ? uniform() : 0.0f;
        multiply(&rig, ROWS);
        assert_true(nmse(&rig) < 5e-4);
        rig_release(&rig);
    }
}

/* Q, K and V lie in one matrix, also when the file has them in different formats. */
static void test_tensors_lie_one_after_another(void **state)
{
    static const uint32_t kinds[][3] = {{TENSOR_Q8_0, TENSOR_Q8_0, TENSOR_Q8_0},
                                        {TENSOR_Q8_0, TENSOR_F16, TENSOR_BF16}};
    enum isa isa = isa_or_skip(state);

    for (int i = 0; i < 2; i++) {
        struct rig rig = {0};

        add_tensor(&rig, kinds[i][0], 40, 288);
        add_tensor(&rig, kinds[i][1], 7, 288);
        add_tensor(&rig, kinds[i][2], 9, 288);
        rig_pack(&rig, isa);
        multiply(&rig, ROWS);
        assert_int_equal(rig.matrix.outputs, 56);
        assert_true(nmse(&rig) < (i == 0 ? 5e-4 : 1e-10));
        rig_release(&rig);
    }
}

/* A level counts only with all of its parts, and when the operating system saves its registers. */
static void test_levels_from_what_cpuid_says(void **state)
{
    const struct isa_words all = {UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};
    struct isa_words words = all;
    enum isa isa;

    (void)state;
    assert_int_equal(isa_of(&all), ISA_AVX512_BF16);
    words.leaf7_1_eax = 0;
    assert_int_equal(isa_of(&words), ISA_AVX512);
    words.xcr0 = 0x1f;
    assert_int_equal(isa_of(&words), ISA_AVX2);
    words.xcr0 = 0x3;
    assert_int_equal(isa_of(&words), ISA_SCALAR);
    words = all;
    words.leaf7_ebx &= ~(1u << 31);
    assert_int_equal(isa_of(&words), ISA_AVX2);
    words.leaf1_ecx &= ~(1u << 29);
    assert_int_equal(isa_of(&words), ISA_SCALAR);

    assert_true(isa_find("", &isa) && isa == isa_best());
    assert_true(isa_find("scalar", &isa) && isa == ISA_SCALAR);
    assert_false(isa_find("avx1024", &isa));
}

#define ON_EACH(test)                                                                              \
    {#test "_scalar", test, NULL, NULL, "scalar"}, {#test "_avx2", test, NULL, NULL, "avx2"},      \
        {#test "_avx512", test, NULL, NULL, "avx512"},                                             \
    {                                                                                              \
#test "_avx512_bf16", test, NULL, NULL, "avx512_bf16"                                      \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels_from_what_cpuid_says),
        ON_EACH(test_products_are_near_the_sum_in_doubles),
        ON_EACH(test_company_and_splits_change_no_bit),
        ON_EACH(test_a_nan_stays_in_its_row),
        ON_EACH(test_extremes_of_q8_0),
        ON_EACH(test_small_blocks_are_not_lost),
        ON_EACH(test_tensors_lie_one_after_another),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
