/*
 * matmul.h: a row has the same bits in every batch, whoever chooses and whatever the clock says. The
 * emulated cuBLASLt (emu/blas_emu.cc) proposes algorithms that are wrong first.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config/buffer.h"
#include "gpu_rig.h"
#include "kernels/cuda/matmul_set.h"

enum { ROWS_MAX = 300, INPUTS = 48, OUTPUTS = 16 };

static char folder[] = "/tmp/mserve-matmul-XXXXXX";

/* One tuned set with one product, and its data on the card. */
struct bench {
    struct rig *rig;
    struct matmul_set *set;
    struct matmul *matmul;
    struct matmul_shape shape;
    uint32_t room; /* rows */
    void *weight, *in, *out;
    float *weight_scale, *in_scale;
    unsigned char *rows, *weights; /* the host's */
    float row_scale[ROWS_MAX], column_scale[OUTPUTS];
};

static size_t out_bytes(const struct bench *bench)
{
    return OUTPUTS * number_bytes(bench->shape.out);
}

static size_t in_bytes(const struct bench *bench)
{
    return INPUTS * number_bytes(bench->shape.weight);
}

static void store(enum number type, unsigned char *at, size_t i, uint64_t *seed)
{
    float value = ldexpf(rig_uniform(seed), (int)(*seed >> 40 & 15) - 8);
    uint16_t number = bf16(value);

    if (type == NUMBER_BF16)
        memcpy(at + i * 2, &number, 2);
    else if (type == NUMBER_FP8)
        at[i] = (unsigned char)((*seed >> 33) % 0x7f | (*seed >> 20 & 0x80));
    else
        at[i] = (unsigned char)(*seed >> 37);
}

static double number(enum number type, const unsigned char *at, size_t i)
{
    uint16_t half;

    if (type == NUMBER_BF16) {
        memcpy(&half, at + i * 2, 2);
        return (double)bf16_float(half);
    }
    if (type == NUMBER_INT8)
        return (signed char)at[i];
    return (at[i] & 0x80 ? -1 : 1) *
           (at[i] & 0x78 ? ldexp(8 + (at[i] & 7), (at[i] >> 3 & 15) - 10) : ldexp(at[i] & 7, -9));
}

static void make_data(struct bench *bench)
{
    uint64_t seed = 77;

    bench->room = matmul_padded(bench->set, bench->matmul->shape.rows_max);
    bench->rows = malloc(ROWS_MAX * in_bytes(bench));
    bench->weights = malloc(OUTPUTS * in_bytes(bench));
    assert_true(bench->rows && bench->weights);
    for (size_t i = 0; i < ROWS_MAX * INPUTS; i++)
        store(bench->shape.weight, bench->rows, i, &seed);
    for (size_t i = 0; i < OUTPUTS * INPUTS; i++)
        store(bench->shape.weight, bench->weights, i, &seed);
    for (uint32_t i = 0; i < ROWS_MAX; i++)
        bench->row_scale[i] = 1.5f + rig_uniform(&seed);
    for (uint32_t i = 0; i < OUTPUTS; i++)
        bench->column_scale[i] = 1.5f + rig_uniform(&seed);
    bench->weight = rig_put(bench->rig, bench->weights, OUTPUTS * in_bytes(bench));
    bench->weight_scale = rig_put(bench->rig, bench->column_scale, sizeof(bench->column_scale));
    bench->in = rig_room(bench->rig, bench->room * in_bytes(bench));
    bench->in_scale = rig_room(bench->rig, bench->room * sizeof(float));
    bench->out = rig_room(bench->rig, bench->room * out_bytes(bench));
}

static const struct matmul_options quiet = {.rows_max = ROWS_MAX, .no_cache = true};

static void open_set(struct bench *bench, const char *emu, const struct matmul_options *options)
{
    memset(bench, 0, sizeof(*bench));
    bench->rig = rig_open_as(emu);
    assert_int_equal(matmul_set_open(bench->rig->module, bench->rig->gpu, &bench->rig->about, 13000,
                                     options, &bench->set),
                     ERR_OK);
}

static void open_bench(struct bench *bench, const char *emu, struct matmul_shape shape,
                       const struct matmul_options *options)
{
    open_set(bench, emu, options);
    bench->shape = shape;
    assert_int_equal(matmul_add(bench->set, &shape, &bench->matmul), ERR_OK);
    assert_int_equal(matmul_tune(bench->set), ERR_OK);
    make_data(bench);
}

static void close_bench(struct bench *bench)
{
    assert_null(matmul_fault(bench->set));
    matmul_set_close(bench->set);
    rig_close(bench->rig);
    free(bench->rows);
    free(bench->weights);
}

static const struct matmul_shape plain = {OUTPUTS, INPUTS, NUMBER_BF16, NUMBER_F32, 0};

/* Rows from..from + rows, what pads them being NaN; the result of these rows. */
static void run(struct bench *bench, uint32_t from, uint32_t rows, void *ret)
{
    const struct gpu_module *module = bench->rig->module;
    struct prepared in = {bench->shape.weight, bench->in, bench->in_scale};
    unsigned char *nan = malloc(bench->room * in_bytes(bench));

    assert_non_null(nan);
    memset(nan, 0xff, bench->room * in_bytes(bench));
    module->copy(bench->rig->gpu, bench->in, nan, bench->room * in_bytes(bench));
    module->copy(bench->rig->gpu, bench->in, bench->rows + from * in_bytes(bench),
                 rows * in_bytes(bench));
    module->copy(bench->rig->gpu, bench->in_scale, bench->row_scale + from, rows * sizeof(float));
    matmul_run(bench->matmul, bench->weight,
               bench->shape.weight == NUMBER_FP8 ? bench->weight_scale : NULL, &in, bench->out,
               rows);
    rig_get(bench->rig, ret, bench->out, rows * out_bytes(bench));
    free(nan);
}

/* All rows together; then alone and in batches of all kinds, odd ones too: the same bits. */
static unsigned char *same_bits(struct bench *bench, uint32_t rows_max)
{
    static const uint32_t batches[] = {1, 2, 3, 15, 16, 17, 31, 33, 64, 65, 97, 128, 200, 257, 299};
    unsigned char *want = malloc(rows_max * out_bytes(bench));
    unsigned char *got = malloc(rows_max * out_bytes(bench));

    assert_true(want && got);
    run(bench, 0, rows_max, want);
    for (unsigned i = 0; i < sizeof(batches) / sizeof(batches[0]); i++) {
        uint32_t rows = batches[i], from = rows <= rows_max ? (rows_max - rows) * i / 14 : 0;

        if (rows > rows_max)
            continue;
        run(bench, from, rows, got);
        assert_memory_equal(got, want + from * out_bytes(bench), rows * out_bytes(bench));
    }
    free(got);
    return want;
}

static double result(const struct bench *bench, const unsigned char *from, size_t i)
{
    int32_t whole;
    uint16_t half;
    float value;

    if (bench->shape.out == NUMBER_BF16) {
        memcpy(&half, from + i * 2, 2);
        return (double)bf16_float(half);
    }
    memcpy(&whole, from + i * 4, 4);
    memcpy(&value, from + i * 4, 4);
    return bench->shape.out == NUMBER_F32 ? (double)value : whole;
}

static void check_values(const struct bench *bench, const unsigned char *got, uint32_t rows,
                         double nmse)
{
    double apart = 0, size = 0;

    for (uint32_t m = 0; m < rows; m++)
        for (uint32_t n = 0; n < OUTPUTS; n++) {
            double sum = 0, difference;

            for (uint32_t k = 0; k < INPUTS; k++)
                sum += number(bench->shape.weight, bench->rows, (size_t)m * INPUTS + k) *
                       number(bench->shape.weight, bench->weights, (size_t)n * INPUTS + k);
            if (bench->shape.weight == NUMBER_FP8)
                sum *= (double)bench->row_scale[m] * (double)bench->column_scale[n];
            difference = sum - result(bench, got, (size_t)m * OUTPUTS + n);
            apart += difference * difference;
            size += sum * sum;
        }
    assert_true(size > 0);
    assert_true(apart <= nmse * size);
}

/* The list is multiples of 16 up to the budget, and never pads by more than half from 64 on. */
static void test_the_list_goes_to_the_budget(void **state)
{
    static const uint32_t budgets[] = {1, 16, 17, 100, 300, 8192, 65536};

    (void)state;
    for (unsigned i = 0; i < sizeof(budgets) / sizeof(budgets[0]); i++) {
        struct matmul_options options = {.rows_max = budgets[i], .no_cache = true};
        const uint32_t *list;
        struct bench bench;
        uint32_t len;

        open_set(&bench, "seed=1", &options);
        list = matmul_list(bench.set, &len);
        assert_int_equal(list[0], 16);
        for (uint32_t j = 0; j < len; j++) {
            assert_int_equal(list[j] % 16, 0);
            assert_true(j == 0 || (list[j] > list[j - 1] && list[j] <= 2 * list[j - 1]));
            assert_true(j == 0 || list[j - 1] < 64 || list[j] * 2 <= list[j - 1] * 3);
            assert_int_equal(matmul_padded(bench.set, list[j]), list[j]);
            assert_true(list[j] == len || matmul_padded(bench.set, list[j] - 15) == list[j]);
        }
        assert_in_range(list[len - 1], budgets[i], budgets[i] + 15);
        close_bench(&bench);
    }
}

/* bf16 in, floats and bf16 out. */
static void test_a_row_has_its_bits_in_every_batch(void **state)
{
    static const enum number outs[] = {NUMBER_F32, NUMBER_BF16};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct matmul_shape shape = plain;
        unsigned char *got;
        struct bench bench;

        shape.out = outs[i];
        open_bench(&bench, "seed=1", shape, &quiet);
        assert_false(bench.matmul->own);
        got = same_bits(&bench, ROWS_MAX);
        check_values(&bench, got, ROWS_MAX, i ? 1e-5 : 1e-12);
        free(got);
        close_bench(&bench);
    }
}

/* The algorithm's tile, by which the emulation's table names it. 1, 2, 3 are right. */
static uint32_t tile_of(const struct bench *bench, uint32_t i)
{
    return multiply_describe(&bench->matmul->multiply, &bench->matmul->choice[i].algo).tile;
}

/* Whatever is proposed first, nothing that adds up in another order is ever chosen. */
static void test_a_wrong_one_is_never_admitted(void **state)
{
    const struct matmul_figure *figure;
    struct bench bench;
    uint32_t len;

    (void)state;
    open_bench(&bench, "blas_clock=3", plain, &quiet);
    figure = matmul_figures(bench.set, &len);
    assert_int_equal(len, bench.matmul->len);
    for (uint32_t i = 0; i < len; i++) {
        const struct choice *choice = &bench.matmul->choice[i];

        assert_int_equal(figure[i].rows, bench.set->list[i]);
        assert_true(figure[i].tried > figure[i].admitted);
        assert_int_equal(choice->member, figure[i].admitted > 0);
        if (choice->member) {
            assert_in_range(tile_of(&bench, i), 1, 3);
            assert_int_equal(figure[i].run_rows, figure[i].rows);
            assert_true(figure[i].ms > 0 && figure[i].free_ms > 0);
            assert_true(figure[i].free_ms <= figure[i].ms);
        }
    }
    assert_true(matmul_price(bench.set) >= 1);
    close_bench(&bench);
}

/* No right algorithm takes 16 rows here: 32 are run. None takes 304: parts of 256 are. */
static void test_rows_without_a_member_go_elsewhere(void **state)
{
    const struct matmul_figure *figure;
    struct bench bench;
    uint32_t len;

    (void)state;
    open_bench(&bench, "seed=1", plain, &quiet);
    figure = matmul_figures(bench.set, &len);
    assert_int_equal(figure[0].rows, 16);
    assert_int_equal(figure[0].admitted, 0);
    assert_int_equal(figure[0].run_rows, 32);
    assert_int_equal(figure[len - 1].rows, 304);
    assert_int_equal(figure[len - 1].admitted, 0);
    assert_int_equal(figure[len - 1].run_rows, 256);
    close_bench(&bench);
}

/* Two machines measure other times, so they choose otherwise; the bits are the same. */
static void test_the_clock_does_not_change_a_bit(void **state)
{
    char first_print[64] = "";
    unsigned char *first = NULL;
    unsigned others = 0;
    uint32_t tiles[LIST_MAX];

    (void)state;
    for (unsigned clock = 1; clock <= 3; clock++) {
        unsigned char *got;
        struct bench bench;
        char emu[32];

        snprintf(emu, sizeof(emu), "blas_clock=%u", clock);
        open_bench(&bench, emu, plain, &quiet);
        got = same_bits(&bench, ROWS_MAX);
        for (uint32_t i = 0; i < bench.matmul->len; i++) {
            others += clock > 1 && bench.matmul->choice[i].member && tile_of(&bench, i) != tiles[i];
            tiles[i] = bench.matmul->choice[i].member ? tile_of(&bench, i) : 0;
        }
        if (first) {
            assert_memory_equal(got, first, ROWS_MAX * out_bytes(&bench));
            assert_string_equal(matmul_fingerprint(bench.set), first_print);
            free(got);
        } else {
            first = got;
            snprintf(first_print, sizeof(first_print), "%s", matmul_fingerprint(bench.set));
            assert_memory_equal(first_print, "products/", 9);
        }
        close_bench(&bench);
    }
    assert_true(others > 0);
    free(first);
}

/* A budget that is over at once: less is compared, the bits stay. */
static void test_no_time_costs_no_bits(void **state)
{
    struct matmul_options hurried = quiet;
    struct bench calm, hurry;
    unsigned char *want, *got;

    (void)state;
    hurried.budget_ms = 1;
    open_bench(&calm, "seed=1", plain, &quiet);
    open_bench(&hurry, "seed=1", plain, &hurried);
    assert_string_equal(matmul_fingerprint(calm.set), matmul_fingerprint(hurry.set));
    want = same_bits(&calm, ROWS_MAX);
    got = same_bits(&hurry, ROWS_MAX);
    assert_memory_equal(got, want, ROWS_MAX * out_bytes(&calm));
    free(want);
    free(got);
    close_bench(&calm);
    close_bench(&hurry);
}

/* Without the library, and with one that keeps no row's bits: the own kernel, at any M. */
static void test_the_own_kernel_steps_in(void **state)
{
    static const char *const emu[] = {"blas=none", "blas=hostile"};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        const struct matmul_figure *figure;
        struct matmul_options few = {.rows_max = 70, .no_cache = true};
        unsigned char *got;
        struct bench bench;
        uint32_t len;

        open_bench(&bench, emu[i], plain, &few);
        assert_true(bench.matmul->own);
        assert_string_equal(matmul_fingerprint(bench.set), "products/own");
        assert_int_equal(strncmp(matmul_library(bench.set), "own kernel: ", 12) == 0, i == 0);
        figure = matmul_figures(bench.set, &len);
        assert_true(len > 0);
        assert_int_equal(figure[0].run_rows, 0);
        got = same_bits(&bench, 70);
        check_values(&bench, got, 70, 1e-12);
        free(got);
        close_bench(&bench);
    }
}

/* int8 is exact, whatever the order: only those that lose something are refused. */
static void test_int8_is_exact(void **state)
{
    static const char *const emu[] = {"seed=1", "blas=hostile"};

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct matmul_shape shape = {OUTPUTS, INPUTS, NUMBER_INT8, NUMBER_INT32, 100};
        unsigned char *got;
        struct bench bench;

        open_bench(&bench, emu[i], shape, &quiet);
        got = same_bits(&bench, 100);
        check_values(&bench, got, 100, 0);
        free(got);
        close_bench(&bench);
    }
}

/* fp8 with scales for rows and columns; fast accumulation is another class with bits of its own. */
static void test_fp8_has_two_classes(void **state)
{
    struct matmul_shape shape = {OUTPUTS, INPUTS, NUMBER_FP8, NUMBER_F32, 100};
    unsigned char *got[2];
    char print[2][64];

    (void)state;
    for (unsigned fast = 0; fast < 2; fast++) {
        struct matmul_options options = quiet;
        struct bench bench;

        options.fast_accumulate = fast == 1;
        open_bench(&bench, "seed=1", shape, &options);
        got[fast] = same_bits(&bench, 100);
        check_values(&bench, got[fast], 100, fast ? 1e-6 : 1e-12);
        snprintf(print[fast], sizeof(print[0]), "%s", matmul_fingerprint(bench.set));
        close_bench(&bench);
    }
    assert_memory_not_equal(got[0], got[1], 100 * OUTPUTS * 4);
    assert_string_not_equal(print[0], print[1]);
    free(got[0]);
    free(got[1]);
}

/* What cannot be had is said before weights are loaded for it. */
static void test_what_cannot_be_had_is_said(void **state)
{
    struct matmul_shape fp8 = {OUTPUTS, INPUTS, NUMBER_FP8, NUMBER_BF16, 0};
    struct matmul_shape int8 = {OUTPUTS, INPUTS, NUMBER_INT8, NUMBER_INT32, 0};
    struct matmul_shape odd = {OUTPUTS, 12, NUMBER_BF16, NUMBER_F32, 0};
    struct matmul *matmul;
    struct bench bench;
    const char *why;

    (void)state;
    open_set(&bench, "capability=89", &quiet);
    assert_false(matmul_can(bench.set, &fp8, &why));
    assert_non_null(strstr(why, "fp8"));
    assert_int_equal(matmul_add(bench.set, &fp8, &matmul), ERR_DEVICE);
    assert_true(matmul_can(bench.set, &int8, &why));
    assert_true(matmul_can(bench.set, &plain, &why));
    assert_int_equal(matmul_add(bench.set, &odd, &matmul), ERR_LIMIT);
    close_bench(&bench);

    open_set(&bench, "blas=none", &quiet);
    assert_false(matmul_can(bench.set, &int8, &why));
    assert_non_null(strstr(why, "libcublasLt"));
    assert_true(matmul_can(bench.set, &plain, &why));
    close_bench(&bench);

    open_set(&bench, "blas=hostile", &quiet);
    assert_int_equal(matmul_add(bench.set, &fp8, &matmul), ERR_OK);
    assert_int_equal(matmul_tune(bench.set), ERR_DEVICE);
    close_bench(&bench);
}

/* Equal shapes are one product with the larger number of rows, and are tuned once. */
static void test_equal_shapes_are_one(void **state)
{
    struct matmul_shape few = plain, other = plain;
    struct matmul *a, *b, *c;
    struct bench bench;
    uint32_t len;

    (void)state;
    few.rows_max = 20;
    other.out = NUMBER_BF16;
    other.rows_max = 40;
    open_set(&bench, "seed=1", &quiet);
    assert_int_equal(matmul_add(bench.set, &few, &a), ERR_OK);
    assert_int_equal(matmul_add(bench.set, &other, &c), ERR_OK);
    few.rows_max = 40;
    assert_int_equal(matmul_add(bench.set, &few, &b), ERR_OK);
    assert_ptr_equal(a, b);
    assert_ptr_not_equal(a, c);
    assert_true(matmul_tune_bytes(bench.set) > 2048 * INPUTS * 2);
    assert_int_equal(matmul_tune(bench.set), ERR_OK);
    matmul_figures(bench.set, &len);
    assert_int_equal(len, 6); /* 16, 32, 48 of both */
    close_bench(&bench);
}

/* A run is recorded in a graph as it stands. */
static void test_a_graph_runs_it(void **state)
{
    enum { ROWS = 37 };
    struct prepared in;
    struct gpu_graph *graph;
    unsigned char *want, *got;
    struct bench bench;

    (void)state;
    open_bench(&bench, "seed=1", plain, &quiet);
    want = malloc(ROWS * out_bytes(&bench));
    got = malloc(ROWS * out_bytes(&bench));
    assert_true(want && got);
    run(&bench, 5, ROWS, want);
    bench.rig->module->zero(bench.rig->gpu, bench.out, ROWS * out_bytes(&bench));
    in = (struct prepared){NUMBER_BF16, bench.in, NULL};
    bench.rig->module->capture_begin(bench.rig->gpu);
    matmul_run(bench.matmul, bench.weight, NULL, &in, bench.out, ROWS);
    graph = bench.rig->module->capture_end(bench.rig->gpu);
    assert_non_null(graph);
    rig_get(bench.rig, got, bench.out, ROWS * out_bytes(&bench));
    assert_memory_not_equal(got, want, ROWS * out_bytes(&bench));
    bench.rig->module->graph_launch(bench.rig->gpu, graph);
    rig_get(bench.rig, got, bench.out, ROWS * out_bytes(&bench));
    assert_memory_equal(got, want, ROWS * out_bytes(&bench));
    free(want);
    free(got);
    close_bench(&bench);
}

/* ---- the cache ---- */

static const struct matmul_options kept = {.rows_max = 200, .cache = folder};

/* The one file of the folder. */
static void cache_path(char *path, size_t size)
{
    char command[128];
    FILE *pipe;

    snprintf(command, sizeof(command), "ls -d %s/matmul-*.txt", folder);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_non_null(fgets(path, (int)size, pipe));
    pclose(pipe);
    path[strcspn(path, "\n")] = '\0';
}

static void clear_cache(void)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -f %s/matmul-*", folder);
    assert_int_equal(system(command), 0);
}

/* How many choices of a new set come from the cache, and how many there are. */
static uint32_t from_cache(uint32_t driver, uint32_t *ret_members)
{
    const struct matmul_figure *figure;
    uint32_t len, cached = 0;
    struct bench bench;

    memset(&bench, 0, sizeof(bench));
    bench.rig = rig_open_as("blas_clock=2");
    assert_int_equal(matmul_set_open(bench.rig->module, bench.rig->gpu, &bench.rig->about, driver,
                                     &kept, &bench.set),
                     ERR_OK);
    assert_int_equal(matmul_add(bench.set, &plain, &bench.matmul), ERR_OK);
    assert_int_equal(matmul_tune(bench.set), ERR_OK);
    figure = matmul_figures(bench.set, &len);
    *ret_members = 0;
    for (uint32_t i = 0; i < len; i++) {
        *ret_members += bench.matmul->choice[i].member;
        cached += figure[i].cached;
        if (bench.matmul->choice[i].member)
            assert_in_range(tile_of(&bench, i), 1, 3);
    }
    close_bench(&bench);
    return cached;
}

static char *read_cache(const char *path)
{
    char *text = calloc(1, 1 << 16);
    FILE *file = fopen(path, "r");

    assert_true(text && file);
    assert_true(fread(text, 1, (1 << 16) - 1, file) > 100);
    fclose(file);
    return text;
}

static void write_cache(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fputs(text, file) < 0, 0);
    fclose(file);
}

/* The second start takes the first's choices; another driver has none. */
static void test_choices_are_kept(void **state)
{
    uint32_t members;

    (void)state;
    clear_cache();
    assert_int_equal(from_cache(13000, &members), 0);
    assert_true(members > 3);
    assert_int_equal(from_cache(13000, &members), members);
    assert_int_equal(from_cache(13010, &members), 0);
    assert_int_equal(from_cache(13000, &members), members);
}

/* One byte changed, the end cut off, another machine's file: not trusted, and written anew. */
static void test_a_damaged_cache_is_left_aside(void **state)
{
    char path[256], *text, *at;
    uint32_t members;

    (void)state;
    clear_cache();
    from_cache(13000, &members);
    cache_path(path, sizeof(path));
    text = read_cache(path);
    at = strstr(text, "\n16 48 ");
    assert_non_null(at);
    at[40] = at[40] == '0' ? '1' : '0';
    write_cache(path, text);
    assert_int_equal(from_cache(13000, &members), 0);
    assert_int_equal(from_cache(13000, &members), members);

    at[40] = '\0';
    write_cache(path, text);
    assert_int_equal(from_cache(13000, &members), 0);
    write_cache(path, "");
    assert_int_equal(from_cache(13000, &members), 0);
    free(text);
}

/* A file that is whole but says what is wrong: its algorithm has other bits, and is not run. */
static void test_a_cache_is_not_believed(void **state)
{
    uint8_t digest[SHA256_BYTES];
    char path[256], hex[SHA256_HEX_SIZE], *text, *end;
    uint32_t members;

    (void)state;
    clear_cache();
    from_cache(13000, &members);
    cache_path(path, sizeof(path));
    text = read_cache(path);
    /* An algorithm begins with the magic number and the row of the emulation's table: 3 is wrong. */
    for (char *at = text; (at = strstr(at, " 736d0000")); at++)
        memcpy(at + 9, "03000000", 8);
    end = strstr(text, "\nend ") + 1;
    sha256_of((struct slice){text, (size_t)(end - text)}, digest);
    memcpy(end + 4, hex_encode(digest, SHA256_BYTES, hex), 2 * SHA256_BYTES);
    write_cache(path, text);
    assert_int_equal(from_cache(13000, &members), 0);
    assert_true(members > 3);
    free(text);
}

/* A folder that cannot be made costs a warning, no more. */
static void test_a_cache_may_be_nowhere(void **state)
{
    struct matmul_options options = {.rows_max = 20, .cache = "/proc/no/such/folder"};
    struct bench bench;

    (void)state;
    open_bench(&bench, "blas_clock=1", plain, &options);
    close_bench(&bench);
}

/* A card that fails while it is tried is said to have failed. */
static void test_a_failing_card_is_said(void **state)
{
    struct matmul_shape large = {OUTPUTS, 512, NUMBER_BF16, NUMBER_F32, 0};
    struct matmul *matmul;
    struct bench bench;

    (void)state;
    open_set(&bench, "fault_at=20", &quiet);
    assert_int_equal(matmul_add(bench.set, &plain, &matmul), ERR_OK);
    assert_int_equal(matmul_tune(bench.set), ERR_DEVICE);
    close_bench(&bench);
    open_set(&bench, "memory_mib=1", &quiet);
    assert_int_equal(matmul_add(bench.set, &large, &matmul), ERR_OK);
    assert_int_equal(matmul_tune(bench.set), ERR_MEMORY);
    close_bench(&bench);
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    clear_cache();
    return rmdir(folder);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_list_goes_to_the_budget),
        cmocka_unit_test(test_a_row_has_its_bits_in_every_batch),
        cmocka_unit_test(test_a_wrong_one_is_never_admitted),
        cmocka_unit_test(test_rows_without_a_member_go_elsewhere),
        cmocka_unit_test(test_the_clock_does_not_change_a_bit),
        cmocka_unit_test(test_no_time_costs_no_bits),
        cmocka_unit_test(test_the_own_kernel_steps_in),
        cmocka_unit_test(test_int8_is_exact),
        cmocka_unit_test(test_fp8_has_two_classes),
        cmocka_unit_test(test_what_cannot_be_had_is_said),
        cmocka_unit_test(test_equal_shapes_are_one),
        cmocka_unit_test(test_a_graph_runs_it),
        cmocka_unit_test(test_choices_are_kept),
        cmocka_unit_test(test_a_damaged_cache_is_left_aside),
        cmocka_unit_test(test_a_cache_is_not_believed),
        cmocka_unit_test(test_a_cache_may_be_nowhere),
        cmocka_unit_test(test_a_failing_card_is_said),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
