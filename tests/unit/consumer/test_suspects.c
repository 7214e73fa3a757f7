/* test_suspects.c: the lane of suspects: nothing else runs beside a set, and none before its mark. */
#include "consumer/suspects.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/consumer/made.h"

enum { WAIT_NS = 100 };

struct bench {
    struct made made;
    struct suspects suspects;
};

static void bench_open(struct bench *bench)
{
    memset(bench, 0, sizeof *bench);
    made_open(&bench->made, 1, ENDPOINT_COMPLETIONS, 16);
    bench->suspects.wait_ns = WAIT_NS;
}

static void bench_close(struct bench *bench)
{
    suspects_release(&bench->suspects);
    made_close(&bench->made);
}

static void add(struct bench *bench, uint32_t index, uint32_t cap, uint64_t now_ns)
{
    struct task *task = made_task(&bench->made, index, 1, 1);

    task->cap = cap;
    suspects_add(&bench->suspects, task, now_ns);
}

static const struct suspects_view busy = {.has_normal = true, .may_mark = true, .room = 8};
static const struct suspects_view empty = {.engine_empty = true, .may_mark = true, .room = 8};

/* Normal work runs until the wait is over; then nothing is fed, and the engine runs empty. */
static void test_a_set_waits_and_then_the_engine_runs_empty(void **state)
{
    struct bench bench;

    (void)state;
    bench_open(&bench);
    assert_int_equal(suspects_turn(&bench.suspects, &busy, 0), SUSPECTS_FEED);
    add(&bench, 0, 4, 10);
    assert_int_equal(suspects_turn(&bench.suspects, &busy, 109), SUSPECTS_FEED);
    assert_int_equal(suspects_turn(&bench.suspects, &busy, 110), SUSPECTS_HOLD);
    assert_int_equal(suspects_turn(&bench.suspects, &busy, 111), SUSPECTS_HOLD);
    assert_int_equal(suspects_turn(&bench.suspects, &empty, 112), SUSPECTS_CUT);
    bench_close(&bench);
}

/* It is launched when its mark has landed, and normal work goes on when it is through. */
static void test_a_set_runs_only_when_its_mark_has_landed(void **state)
{
    struct suspects_view view = empty;
    struct buffer text = {0};
    struct bench bench;

    (void)state;
    bench_open(&bench);
    for (uint32_t i = 0; i < 3; i++)
        add(&bench, i, 2, i);
    assert_int_equal(suspects_turn(&bench.suspects, &view, 0), SUSPECTS_CUT);
    suspects_write_set(&bench.suspects, &text);
    assert_string_equal(
        text.data, "[{\"job\":\"019a0203-0405-7007-8009-000000000001\",\"line\":0,\"chunk\":0},"
                   "{\"job\":\"019a0203-0405-7007-8009-000000000001\",\"line\":1,\"chunk\":0}]");
    buffer_release(&text);
    assert_int_equal(suspects_turn(&bench.suspects, &view, 1), SUSPECTS_HOLD);
    view.marked = bench.suspects.mark;
    assert_int_equal(suspects_turn(&bench.suspects, &view, 2), SUSPECTS_LAUNCH);
    while (suspects_first(&bench.suspects)) {
        struct task *task = suspects_first(&bench.suspects);

        suspects_take_first(&bench.suspects);
        task_free(task);
    }
    view.engine_empty = false;
    assert_int_equal(suspects_turn(&bench.suspects, &view, 3), SUSPECTS_HOLD);
    view.engine_empty = true;
    assert_int_equal(suspects_turn(&bench.suspects, &view, 4), SUSPECTS_END);
    assert_int_equal(bench.suspects.count, 1);
    assert_int_equal(suspects_turn(&bench.suspects, &busy, 5), SUSPECTS_FEED);
    assert_int_equal(suspects_turn(&bench.suspects, &view, 6), SUSPECTS_CUT);
    bench_close(&bench);
}

/* A mark cannot be cut while a batch waits: the engine stays empty until it can. */
static void test_a_mark_waits_for_the_commit_thread(void **state)
{
    struct suspects_view view = empty;
    struct bench bench;

    (void)state;
    bench_open(&bench);
    add(&bench, 0, 1, 0);
    view.may_mark = false;
    assert_int_equal(suspects_turn(&bench.suspects, &view, 0), SUSPECTS_HOLD);
    view.may_mark = true;
    assert_int_equal(suspects_turn(&bench.suspects, &view, 1), SUSPECTS_CUT);
    bench_close(&bench);
}

static bool drop(void *context, struct task *task)
{
    (void)context;
    task_free(task);
    return false;
}

/* A worker that stops in the middle of a set begins anew, and waits for no mark of before. */
static void test_after_a_halt_nothing_is_waited_for(void **state)
{
    struct bench bench;

    (void)state;
    bench_open(&bench);
    add(&bench, 0, 1, 0);
    assert_int_equal(suspects_turn(&bench.suspects, &empty, 0), SUSPECTS_CUT);
    suspects_sift(&bench.suspects, drop, NULL);
    assert_true(suspects_is_empty(&bench.suspects));
    suspects_halt(&bench.suspects);
    assert_int_equal(suspects_turn(&bench.suspects, &busy, 1), SUSPECTS_FEED);
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_set_waits_and_then_the_engine_runs_empty),
        cmocka_unit_test(test_a_set_runs_only_when_its_mark_has_landed),
        cmocka_unit_test(test_a_mark_waits_for_the_commit_thread),
        cmocka_unit_test(test_after_a_halt_nothing_is_waited_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
