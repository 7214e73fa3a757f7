/* test_lanes.c: whose turn it is. */
#include "consumer/lanes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/consumer/made.h"

static void add(struct lanes *lanes, struct made *made, uint32_t index, bool resumed)
{
    static const uint32_t tokens[] = {1, 2};
    struct task *task = made_task(made, index, 3, 9);

    if (resumed)
        task_resume(task, &(struct checkpoint){.tokens = tokens, .tokens_len = 2}, false);
    lanes_add(lanes, task);
}

/* The next one is line `index` of that job. */
static void assert_next(struct lanes *lanes, const struct made *made, uint32_t index)
{
    struct task *task = lanes_first(lanes);

    assert_non_null(task);
    assert_ptr_equal(task->chunk, made->chunk);
    assert_int_equal(task->index, index);
    lanes_take_first(lanes);
    task_free(task);
}

/* Two jobs take turns. Before both come those that go on, whenever they arrived and whatever their
 * jobs, in the order in which they arrived. */
static void test_what_goes_on_comes_first(void **state)
{
    struct lanes lanes = {0};
    struct made a, b;

    (void)state;
    made_open(&a, 1, ENDPOINT_COMPLETIONS, 8);
    made_open(&b, 2, ENDPOINT_COMPLETIONS, 8);
    add(&lanes, &a, 0, false);
    add(&lanes, &a, 1, false);
    add(&lanes, &b, 0, false);
    add(&lanes, &b, 1, false);
    add(&lanes, &a, 2, true);
    add(&lanes, &a, 3, true);
    assert_next(&lanes, &a, 2);
    assert_next(&lanes, &a, 3);
    assert_next(&lanes, &a, 0);
    add(&lanes, &b, 2, true);
    assert_next(&lanes, &b, 2);
    assert_next(&lanes, &b, 0);
    assert_next(&lanes, &a, 1);
    assert_next(&lanes, &b, 1);
    assert_null(lanes_first(&lanes));
    made_close(&a);
    made_close(&b);
}

static bool keep_even(void *context, struct task *task)
{
    if (task->index % 2 == 0)
        return true;
    ++*(uint32_t *)context;
    task_free(task);
    return false;
}

/* Both kinds are asked for, and a job of which nothing is left has no turn any more. */
static void test_sifting_sees_both_kinds(void **state)
{
    struct lanes lanes = {0};
    struct made a, b;
    uint32_t gone = 0;

    (void)state;
    made_open(&a, 1, ENDPOINT_COMPLETIONS, 8);
    made_open(&b, 2, ENDPOINT_COMPLETIONS, 8);
    for (uint32_t i = 0; i < 4; i++)
        add(&lanes, &a, i, i >= 2);
    add(&lanes, &b, 1, true);
    add(&lanes, &b, 3, false);
    lanes_sift(&lanes, keep_even, &gone);
    assert_int_equal(gone, 4);
    assert_next(&lanes, &a, 2);
    assert_next(&lanes, &a, 0);
    assert_null(lanes_first(&lanes));
    made_close(&a);
    made_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_goes_on_comes_first),
        cmocka_unit_test(test_sifting_sees_both_kinds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
