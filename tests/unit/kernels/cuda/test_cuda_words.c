/*
 * test_cuda_words.c: what each word of simt.cuh does, against plain arithmetic: the first test to
 * run on a card that is new to us. words.cu says which word is where.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gpu_rig.h"

/* Even rounds are any bits, odd ones pairs of bf16 between -1 and 1. */
enum { ROUNDS = 24, ROWS = ROUNDS * WORDS_THREADS };

static uint32_t in[ROWS][WORDS_IN], out[ROWS][WORDS_OUT];

static float as_float(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint32_t as_bits(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static uint64_t both(const uint32_t *word)
{
    return word[0] | (uint64_t)word[1] << 32;
}

/* Row of lane `lane` in the warp of `row`. */
static uint32_t mate(uint32_t row, uint32_t lane)
{
    return row / 32 * 32 + lane % 32;
}

static void choose(void)
{
    /* Halfway between two numbers of e4m3 or bf16, at the ends of their ranges, and no numbers. */
    static const float corner[] = {
        0.0f,       -0.0f,     448.0f,    464.0f,          465.0f,    -1e9f,     0x1p-6f,
        0x1.ffp-7f, 0x1p-9f,   0x1p-10f,  0x3p-10f,        0x1p-11f,  0x7p-10f,  0xfp-10f,
        0x11p0f,    0x13p0f,   1.0625f,   1.1875f,         INFINITY,  -INFINITY, NAN,
        0x1.01p0f,  0x1.03p0f, 0x1p-140f, 0x1.fffffep127f, 0x1p-133f, 432.0f,    440.0f};
    uint64_t seed = 11;

    for (uint32_t i = 0; i < ROWS; i++)
        for (uint32_t j = 0; j < WORDS_IN; j++) {
            uint32_t low = bf16(rig_uniform(&seed)), high = bf16(rig_uniform(&seed));
            in[i][j] = i / WORDS_THREADS % 2 == 1
                           ? low | high << 16
                           : as_bits(rig_uniform(&seed)) ^ (uint32_t)(seed >> 24);
            if (j == 2 && i / WORDS_THREADS % 2 == 0)
                in[i][j] = as_bits(rig_uniform(&seed) * 140);
        }
    for (uint32_t i = 0; i < sizeof(corner) / sizeof(corner[0]); i++) {
        in[i][0] = as_bits(corner[i]);
        in[i + 1][1] = as_bits(corner[i]);
    }
    in[0][2] = as_bits(-INFINITY);
    for (uint32_t i = 0; i < 32; i++) /* nobody of the second warp has it */
        in[32 + i][1] |= 1;
    for (uint32_t code = 0; code < 256; code++) /* of fp8, in rounds 2, 4, 6 and 8 */
        in[(code / WORDS_THREADS + 1) * 2 * WORDS_THREADS + code % WORDS_THREADS][0] =
            code | (255 - code) << 8;
}

static void run(void)
{
    static uint32_t first[ROWS][WORDS_OUT];

    choose();
    for (uint32_t i = 0; rig_schedule(i) != NULL; i++) {
        struct rig *rig = rig_open_as(rig_schedule(i));
        void *room = rig_room(rig, sizeof(out));
        struct words_args args = {ROUNDS, rig_put(rig, in, sizeof(in)), room};
        rig->kernels->words(rig->gpu, &args);
        rig_get(rig, out, room, sizeof(out));
        rig_close(rig);
        if (i == 0)
            memcpy(first, out, sizeof(out));
        assert_memory_equal(out, first, sizeof(out));
    }
}

static int once(void **state)
{
    static bool ran;

    (void)state;
    if (!ran)
        run();
    ran = true;
    return 0;
}

static void cuda_lanes_give_each_other_their_values(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ROWS; i++) {
        uint32_t lane = i % 32;
        assert_int_equal(out[i][0], in[mate(i, lane ^ 5)][0]);
        assert_int_equal(out[i][1], in[mate(i, 7)][0]);
        assert_int_equal(out[i][2], in[mate(i, lane ^ 9)][0]);
        assert_int_equal(out[i][3], in[mate(i, 31)][0]);
        assert_true(both(out[i] + 4) == both(in[mate(i, lane ^ 16)]));
        assert_true(both(out[i] + 6) == both(in[mate(i, 3)]));
        assert_true(both(out[i] + 8) == both(in[mate(i, lane ^ 1)]));
        assert_true(both(out[i] + 10) == both(in[mate(i, 30)]));
    }
}

static void cuda_a_warp_votes(void **state)
{
    uint32_t yes = 0;

    (void)state;
    for (uint32_t i = 0; i < ROWS; i++) {
        uint32_t ballot = 0, any = 0;
        for (uint32_t lane = 0; lane < 32; lane++) {
            ballot |= (in[mate(i, lane)][0] & 1) << lane;
            any |= in[mate(i, lane)][1] % 64 == 0;
        }
        assert_int_equal(out[i][12], ballot);
        assert_int_equal(out[i][13], any);
        yes += any;
    }
    assert_in_range(yes, 1, ROWS - 1); /* both answers were there */
}

static void cuda_bf16_is_the_nearest_ties_to_even(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ROWS; i++) {
        uint32_t low = bf16(as_float(in[i][0])), high = bf16(as_float(in[i][1]));
        assert_int_equal(out[i][14], low | high << 16);
        assert_int_equal(out[i][15], low);
        assert_int_equal(out[i][16], in[i][0] << 16);
        assert_int_equal(out[i][17], in[i][0] & 0xffff0000);
        assert_int_equal(out[i][18], in[i][0] << 16);
        assert_int_equal(out[i][23], in[i][0]);
    }
}

/* What a code of e4m3 stands for. */
static double e4m3(uint32_t code)
{
    uint32_t exponent = code >> 3 & 15, fraction = code & 7;
    double size = exponent == 0 ? ldexp(fraction, -9) : ldexp(8 + fraction, (int)exponent - 10);

    return (code & 0x80) != 0 ? -size : size;
}

/* By looking at all of them: the nearest, and of two the even one. */
static uint32_t nearest_e4m3(float value)
{
    uint32_t sign = as_bits(value) >> 24 & 0x80, best = 0;

    if (isnan(value))
        return sign | 0x7f;
    for (uint32_t code = 1; code < 0x7f; code++) {
        double gap = fabs(fabs((double)value) - e4m3(code));
        double least = fabs(fabs((double)value) - e4m3(best));
        if (isinf(value) || gap < least || (gap == least && code % 2 == 0))
            best = code;
    }
    return sign | best;
}

static bool same_e4m3(uint32_t got, uint32_t want)
{
    return got == want || ((got & 0x7f) == 0x7f && (want & 0x7f) == 0x7f);
}

static void cuda_fp8_is_the_nearest_and_saturates(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ROWS; i++) {
        assert_true(same_e4m3(out[i][19] & 0xff, nearest_e4m3(as_float(in[i][0]))));
        assert_true(same_e4m3(out[i][19] >> 8, nearest_e4m3(as_float(in[i][1]))));
        for (uint32_t half = 0; half < 2; half++) {
            uint32_t code = in[i][0] >> 8 * half & 0xff;
            float got = as_float(out[i][20 + half]);
            if ((code & 0x7f) == 0x7f)
                assert_true(isnan(got));
            else
                assert_int_equal(as_bits(got), as_bits((float)e4m3(code)));
        }
    }
}

static void cuda_exp2_is_right_to_22_bits(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ROWS; i++) {
        double want = exp2((double)as_float(in[i][2])), got = (double)as_float(out[i][22]);
        if (want > 0x1p-126 && want < 0x1p127)
            assert_true(fabs(got - want) <= want * 0x1p-22);
        else if (want < 0x1p-149)
            assert_true(got == 0);
    }
    assert_true(as_float(out[0][22]) == 0); /* of minus infinity */
}

/* Lane l has the bits of 16 of two neighbours of a row, or of a column of the transposed tile. */
static void cuda_tiles_are_loaded_as_ldmatrix_does(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ROWS; i++)
        for (uint32_t tile = 0; tile < 4; tile++) {
            uint32_t lane = i % 32, named[2], half[2];
            named[0] = mate(i, 5 * (tile * 8 + lane / 4) + 3);
            assert_int_equal(out[i][24 + tile], in[named[0]][lane % 4]);
            for (uint32_t j = 0; j < 2; j++) {
                named[j] = mate(i, 5 * (tile * 8 + lane % 4 * 2 + j) + 3);
                half[j] = in[named[j]][lane / 8] >> lane / 4 % 2 * 16 & 0xffff;
            }
            assert_int_equal(out[i][28 + tile], half[0] | half[1] << 16);
        }
}

/* Number `index` of 16 bits among a thread's words. */
static double bf16_at(uint32_t row, uint32_t word, uint32_t half)
{
    return (double)bf16_float((uint16_t)(in[row][word] >> 16 * half));
}

static double a_at(uint32_t row, uint32_t m, uint32_t k)
{
    return bf16_at(mate(row, m % 8 * 4 + k % 8 / 2), m / 8 + k / 8 * 2, k % 2);
}

static double b_at(uint32_t row, uint32_t k, uint32_t n)
{
    return bf16_at(mate(row, n * 4 + k % 8 / 2), 4 + k / 8, k % 2);
}

static void cuda_tiles_are_multiplied_as_mma_does(void **state)
{
    (void)state;
    for (uint32_t i = WORDS_THREADS; i < ROWS; i++)
        for (uint32_t j = 0; j < 4 && i / WORDS_THREADS % 2 == 1; j++) {
            uint32_t lane = i % 32, m = lane / 4 + j / 2 * 8, n = lane % 4 * 2 + j % 2;
            double want = (4 * lane + j) / 64.0;
            for (uint32_t k = 0; k < 16; k++)
                want += a_at(i, m, k) * b_at(i, k, n);
            assert_true(fabs(want - (double)as_float(out[i][32 + j])) < 1e-5);
        }
}

static void cuda_16_bytes_are_read_and_written_at_once(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ROWS; i++)
        assert_memory_equal(out[i] + 36, in[i], 16);
}

static void cuda_a_block_adds_up_and_meets(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t base = round * WORDS_THREADS, sum_32 = 0;
        uint64_t sum_64 = 0;
        for (uint32_t t = 0; t < WORDS_THREADS; t++) {
            sum_32 += in[base + t][0];
            sum_64 += both(in[base + t]);
        }
        for (uint32_t t = 0; t < WORDS_THREADS; t++) {
            assert_int_equal(out[base + t][40], sum_32);
            assert_true(both(out[base + t] + 41) == sum_64);
            assert_int_equal(out[base + t][43], in[base + (t + 32) % WORDS_THREADS][0]);
            assert_int_equal(out[base + t][50], in[mate(base + t, t + 1)][0]);
        }
    }
}

static void cuda_copies_land_group_by_group(void **state)
{
    static const uint32_t zeros[4];

    (void)state;
    for (uint32_t i = 0; i < ROWS; i++) {
        uint32_t base = i / WORDS_THREADS * WORDS_THREADS, t = i % WORDS_THREADS;
        uint32_t next = (t + 1) % WORDS_THREADS;
        assert_memory_equal(out[i] + 44, next % 3 != 0 ? in[base + next] : zeros, 16);
        assert_int_equal(out[i][48], t % 3 != 0 ? in[i][0] : 0);
        assert_int_equal(out[i][49], in[i][4]);
    }
}

static void cuda_a_thread_knows_its_place(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < ROWS; i++) {
        assert_int_equal(out[i][52], i / WORDS_THREADS);
        assert_int_equal(out[i][53], WORDS_THREADS);
        assert_int_equal(out[i][54], ROUNDS);
        assert_int_equal(out[i][55], i % WORDS_THREADS);
        for (uint32_t j = 56; j < WORDS_OUT; j++)
            assert_int_equal(out[i][j], UINT32_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuda_lanes_give_each_other_their_values),
        cmocka_unit_test(cuda_a_warp_votes),
        cmocka_unit_test(cuda_bf16_is_the_nearest_ties_to_even),
        cmocka_unit_test(cuda_fp8_is_the_nearest_and_saturates),
        cmocka_unit_test(cuda_exp2_is_right_to_22_bits),
        cmocka_unit_test(cuda_tiles_are_loaded_as_ldmatrix_does),
        cmocka_unit_test(cuda_tiles_are_multiplied_as_mma_does),
        cmocka_unit_test(cuda_16_bytes_are_read_and_written_at_once),
        cmocka_unit_test(cuda_a_block_adds_up_and_meets),
        cmocka_unit_test(cuda_copies_land_group_by_group),
        cmocka_unit_test(cuda_a_thread_knows_its_place),
    };

    return cmocka_run_group_tests_name("cuda_words", tests, once, NULL);
}
