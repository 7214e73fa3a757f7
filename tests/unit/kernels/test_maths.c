/* test_maths.c: our exp, log, sine and cosine against the C library's, over the ranges promised,
 * and rounding to half precision against its definition. */
#include "kernels/maths.h"

#include "kernels/model/tensor.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* Error in units in the last place of the float nearest to the truth. */
static double ulps(float got, double truth)
{
    float near = (float)truth;

    return fabs((double)got - truth) / (double)(nextafterf(near, INFINITY) - near);
}

static void test_float_exp_is_within_two_ulps(void **state)
{
    double worst = 0.0;

    (void)state;
    for (int i = 0; i <= 1750000; i++) {
        float x = -87.0f + (float)i * 1e-4f;

        worst = fmax(worst, ulps(maths_exp32(x), exp((double)x)));
    }
    print_message("exp32: %.3f ulp\n", worst);
    assert_true(worst < 2.0);
    assert_true(maths_exp32(0.0f) == 1.0f);
}

/* A masked or far-off token has weight 0, and nothing overflows. */
static void test_float_exp_at_the_ends(void **state)
{
    (void)state;
    assert_true(maths_exp32(-87.1f) == 0.0f);
    assert_true(maths_exp32(-INFINITY) == 0.0f);
    assert_true(maths_exp32(-3e38f) == 0.0f);
    assert_true(isfinite(maths_exp32(INFINITY)));
    assert_true(maths_exp32(1000.0f) == maths_exp32(88.0f));
}

/* Every half, and the floats just beside the midpoints of halves, through all exponents. */
static void test_halves_round_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t half = 0; half < 0x7c00; half++) {
        float value = tensor_half((uint16_t)half);
        float next = half + 1 < 0x7c00 ? tensor_half((uint16_t)(half + 1)) : 65536.0f;
        float middle = value + (next - value) / 2;
        float even = half % 2 == 0 ? value : half + 1 < 0x7c00 ? next : INFINITY;

        assert_true(maths_half(value) == value);
        assert_true(maths_half(-value) == -value);
        assert_true(maths_half(nextafterf(middle, 0.0f)) == value);
        assert_true(maths_half(middle) == even);
        assert_true(maths_half(-nextafterf(middle, 1e9f)) ==
                    -(half + 1 < 0x7c00 ? next : INFINITY));
    }
    assert_true(isnan(maths_half(NAN)));
    assert_true(maths_half(INFINITY) == INFINITY);
    assert_true(maths_half(1e30f) == INFINITY);
    assert_true(signbit(maths_half(-1e-30f)));
}

static void test_double_functions_agree_with_libm(void **state)
{
    double worst_exp = 0.0, worst_log = 0.0, worst_sin = 0.0;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        double x = -700.0 + i * 0.007;
        double angle = i * 5.0 + i * 1e-3;
        double sine, cosine;

        worst_exp = fmax(worst_exp, fabs(maths_exp(x) / exp(x) - 1.0));
        worst_log = fmax(worst_log, fabs(maths_log(exp(x)) - log(exp(x))) / fmax(1.0, fabs(x)));
        maths_sincos(angle, &sine, &cosine);
        worst_sin = fmax(worst_sin, fabs(sine - sin(angle)));
        worst_sin = fmax(worst_sin, fabs(cosine - cos(angle)));
    }
    print_message("exp %.2e log %.2e sincos %.2e\n", worst_exp, worst_log, worst_sin);
    assert_true(worst_exp < 1e-14);
    assert_true(worst_log < 1e-14);
    assert_true(worst_sin < 1e-14);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_float_exp_is_within_two_ulps),
        cmocka_unit_test(test_float_exp_at_the_ends),
        cmocka_unit_test(test_halves_round_to_nearest_even),
        cmocka_unit_test(test_double_functions_agree_with_libm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
