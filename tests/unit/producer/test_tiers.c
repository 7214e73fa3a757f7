/* test_tiers.c: which tier answers to a model, and what is said when none or several do. */
#include "producer/progress.h"
#include "producer/tiers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct slice names[] = {{"big", 3}, {"shared", 6}, {"shared", 6}, {"small", 5}};
static struct tier rows[] = {
    {"large", "t.large", 8, {names, 2, "large"}},
    {"other", "t.other", 4, {names + 2, 2, "other"}},
};
static const struct tiers tiers = {.tier = rows, .count = 2, .all = {names, 4, ""}};

static void test_a_model_finds_the_tier_that_serves_it(void **state)
{
    const struct tier *tier = NULL;

    (void)state;
    assert_int_equal(tiers_serving(&tiers, "big", &tier), ERR_OK);
    assert_string_equal(tier->name, "large");
    assert_int_equal(tiers_serving(&tiers, "small", &tier), ERR_OK);
    assert_string_equal(tier->name, "other");
    assert_int_equal(tiers_serving(&tiers, "bi", &tier), ERR_NOT_FOUND);
    assert_int_equal(tiers_serving(&tiers, "", &tier), ERR_NOT_FOUND);
}

/* Nobody guesses: --tier must say which. */
static void test_a_model_of_two_tiers_is_refused(void **state)
{
    const struct tier *tier = NULL;

    (void)state;
    assert_int_equal(tiers_serving(&tiers, "shared", &tier), ERR_INPUT);
    assert_null(tier);
}

static void test_a_tier_is_found_by_its_name(void **state)
{
    const struct tier *tier = NULL;

    (void)state;
    assert_int_equal(tiers_find(&tiers, "other", &tier), ERR_OK);
    assert_int_equal(tier->partitions, 4);
    assert_int_equal(tiers_find(&tiers, "others", &tier), ERR_INPUT);
}

static void test_numbers_are_grouped_for_people(void **state)
{
    char out[32];

    (void)state;
    assert_string_equal(progress_number(0, out), "0");
    assert_string_equal(progress_number(999, out), "999");
    assert_string_equal(progress_number(1000, out), "1,000");
    assert_string_equal(progress_number(20000000, out), "20,000,000");
    assert_string_equal(progress_number(UINT64_MAX, out), "18,446,744,073,709,551,615");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_model_finds_the_tier_that_serves_it),
        cmocka_unit_test(test_a_model_of_two_tiers_is_refused),
        cmocka_unit_test(test_a_tier_is_found_by_its_name),
        cmocka_unit_test(test_numbers_are_grouped_for_people),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
