/*
 * test_device_loop.c: the device thread on a simulated device: what goes in comes out once, and the
 * books of each batch add up to the nanosecond.
 */
#include "consumer/device_loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/consumer/device_bench.h"

static void test_every_request_ends_once_and_the_books_add_up(void **state)
{
    enum { REQUESTS = 100 };
    uint8_t seen[REQUESTS] = {0};
    uint32_t ended = 0;
    struct bench bench = {0};
    struct made made;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, REQUESTS);
    bench_open(&bench, 0, 4, INTERVAL_NS);
    for (uint32_t i = 0; i < REQUESTS; i++)
        post(&bench, made_task(&made, i, 5 + i % 40, 1 + i % 30));
    while (ended < REQUESTS) {
        struct batch *batch = next_batch(&bench);

        for (uint32_t i = 0; i < batch->count; i++) {
            const struct task *task = batch->task[i];

            assert_int_equal(task->status, TASK_COMPLETED);
            assert_int_equal(seen[task->index]++, 0);
            assert_int_equal(task->cost.output_tokens, 1 + task->index % 30);
            assert_true(task->cost.ns > 0);
        }
        ended += batch->count;
        batch_free(batch);
    }
    assert_int_equal(atomic_load(&bench.gauges.ready_requests), 0);
    assert_int_equal(atomic_load(&bench.gauges.running), 0);
    bench_close(&bench);
    made_close(&made);
}

/* Prompts of a job that begin alike are computed once; what that took is the job's, on no row. */
static void test_a_common_beginning_is_booked_on_its_job(void **state)
{
    struct made made[2];
    struct bench bench = {0};
    uint32_t ended = 0, cached = 0;

    (void)state;
    bench_open(&bench, 0, 4, INTERVAL_NS);
    atomic_store(&bench.gauges.launch_until_ns, 0); /* hold it until all are there */
    for (uint8_t job = 0; job < 2; job++) {
        made_open(&made[job], (uint8_t)(job + 1), ENDPOINT_COMPLETIONS, 8);
        for (uint32_t i = 0; i < 8; i++)
            post(&bench, made_task(&made[job], i, 120 + i, 5));
    }
    atomic_store(&bench.gauges.launch_until_ns, UINT64_MAX);
    while (ended < 16) {
        struct batch *batch = next_batch(&bench);

        for (uint32_t i = 0; i < batch->count; i++)
            cached += batch->task[i]->cost.cached_tokens;
        ended += batch->count;
        batch_free(batch);
    }
    assert_int_equal(cached, 2 * 7 * 96); /* of all but the first of each job */
    assert_true(bench.shared_ns > 2 * 96 * 1001);
    bench_close(&bench);
    made_close(&made[0]);
    made_close(&made[1]);
}

/* A job of two requests that comes behind one of sixty is not the last to be done. */
static void test_jobs_are_served_in_turn(void **state)
{
    struct bench bench = {0};
    struct made large;
    struct made small;
    uint32_t ended = 0;
    uint32_t small_done_at = 0;

    (void)state;
    made_open(&large, 1, ENDPOINT_COMPLETIONS, 60);
    made_open(&small, 2, ENDPOINT_COMPLETIONS, 2);
    bench_open(&bench, 0, 1, INTERVAL_NS);
    atomic_store(&bench.gauges.launch_until_ns, 0); /* hold it until all are there */
    for (uint32_t i = 0; i < 60; i++)
        post(&bench, made_task(&large, i, 4, 4));
    for (uint32_t i = 0; i < 2; i++)
        post(&bench, made_task(&small, i, 4, 4));
    atomic_store(&bench.gauges.launch_until_ns, UINT64_MAX);
    while (ended < 62) {
        struct batch *batch = next_batch(&bench);

        for (uint32_t i = 0; i < batch->count; i++) {
            ended++;
            if (batch->task[i]->chunk->job == small.job)
                small_done_at = ended;
        }
        batch_free(batch);
    }
    assert_true(small_done_at <= 12);
    bench_close(&bench);
    made_close(&large);
    made_close(&small);
}

/* Cancelled in mid-run: no answer, its cost is on it, and what had not begun cost nothing. */
static void test_a_cancelled_job_ends_with_what_it_cost(void **state)
{
    struct bench bench = {0};
    struct made made;
    uint32_t ended = 0;
    uint64_t cost = 0;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 8);
    bench_open(&bench, 5, 2, INTERVAL_NS); /* 4.5 s each */
    for (uint32_t i = 0; i < 8; i++)
        post(&bench, made_task(&made, i, 4, 900));
    let_run(&bench, 1);
    atomic_store(&made.job->wish, WISH_CANCEL);
    atomic_fetch_add(&bench.gauges.changes, 1);
    while (ended < 8) {
        struct batch *batch = next_batch(&bench);

        for (uint32_t i = 0; i < batch->count; i++) {
            assert_int_equal(batch->task[i]->status, TASK_CANCELLED);
            cost += batch->task[i]->cost.ns;
        }
        ended += batch->count;
        batch_free(batch);
    }
    assert_true(cost > 0);
    bench_close(&bench);
    made_close(&made);
}

/* Told to stop: what runs comes out with its cost and no status of its own, then rest, then go on. */
static void test_stop_gives_everything_back_and_go_goes_on(void **state)
{
    struct bench bench = {0};
    struct made made;
    struct batch *batch;
    uint32_t ended = 0;
    unsigned stop;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 9);
    bench_open(&bench, 5, 2, INTERVAL_NS);
    for (uint32_t i = 0; i < 8; i++)
        post(&bench, made_task(&made, i, 4, 900));
    while (atomic_load(&bench.gauges.running) == 0)
        usleep(1000);
    stop = device_loop_halt(bench.loop, 0);
    do {
        batch = next_batch(&bench);
        ended += batch->count;
        for (uint32_t i = 0; i < batch->count; i++)
            assert_int_equal(batch->task[i]->status, TASK_DROPPED);
        if (batch->stop == stop)
            break;
        assert_int_equal(batch->stop, 0);
        batch_free(batch);
    } while (true);
    assert_int_equal(ended, 8);
    assert_int_equal(batch->books.live_ns, 0);
    batch_free(batch);

    device_loop_go(bench.loop);
    post(&bench, made_task(&made, 8, 4, 4));
    batch = next_batch(&bench);
    assert_int_equal(batch->count, 1);
    assert_int_equal(batch->task[0]->status, TASK_COMPLETED);
    batch_free(batch);
    bench_close(&bench);
    made_close(&made);
}

/* When the device has nothing more to do, what it has done waits for nobody. */
static void test_the_last_results_do_not_wait_for_the_interval(void **state)
{
    struct bench bench = {0};
    struct made made;
    uint32_t ended = 0;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 3);
    bench_open(&bench, 0, 4, 3600 * (uint64_t)CLOCK_NS_PER_S);
    for (uint32_t i = 0; i < 3; i++)
        post(&bench, made_task(&made, i, 4, 4));
    while (ended < 3) {
        struct batch *batch = next_batch(&bench);

        ended += batch->count;
        batch_free(batch);
    }
    bench_close(&bench);
    made_close(&made);
}

/* What came back until the stop was answered, by status. */
static void count_until(struct bench *bench, unsigned stop, uint32_t count[TASK_DROPPED + 1])
{
    bool answered = false;

    memset(count, 0, (TASK_DROPPED + 1) * sizeof count[0]);
    while (!answered) {
        struct batch *batch = next_batch(bench);

        for (uint32_t i = 0; i < batch->count; i++)
            count[batch->task[i]->status]++;
        answered = batch->stop == stop;
        batch_free(batch);
    }
}

/*
 * From the stop on nothing is on this worker's books, as long as it takes until it is buried: a renewal
 * in between told of more, and the burial called it lost. The simulated clock stands at rest; a real
 * one does not.
 */
static void test_time_after_a_stop_is_nobodys(void **state)
{
    struct bench bench = {.model_path = MSERVE_SOURCE "/deploy/demo/mserve-demo-lang.gguf"};
    struct batch *batch;
    uint64_t moves;
    unsigned stop;

    (void)state;
    bench_open(&bench, 0, 2, INTERVAL_NS);
    stop = device_loop_halt(bench.loop, 0);
    while ((batch = next_batch(&bench))->stop != stop)
        batch_free(batch);
    moves = atomic_load(&bench.gauges.device_moves);
    while (atomic_load(&bench.gauges.device_moves) < moves + 3)
        usleep(1000);
    assert_true(atomic_load(&bench.gauges.held_ns) <= batch->books.held_ns);
    batch_free(batch);
    bench_close(&bench);
}

/* There is time: what runs is finished, what waits is not begun. */
static void test_a_stop_with_time_finishes_what_runs(void **state)
{
    uint32_t count[TASK_DROPPED + 1];
    struct bench bench = {0};
    struct made made;
    unsigned stop;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 20);
    bench_open(&bench, 1, 2, INTERVAL_NS);
    for (uint32_t i = 0; i < 20; i++)
        post(&bench, made_task(&made, i, 4, 300));
    while (atomic_load(&bench.gauges.running) < 6) /* two run, four wait in the engine */
        usleep(1000);
    stop = device_loop_halt(bench.loop, clock_mono_ns() + 600 * (uint64_t)CLOCK_NS_PER_S);
    count_until(&bench, stop, count);
    assert_true(count[TASK_COMPLETED] >= 6);
    assert_int_equal(count[TASK_COMPLETED] + count[TASK_DROPPED], 20);
    assert_true(count[TASK_DROPPED] > 0);
    assert_int_equal(atomic_load(&bench.gauges.stop_kept), 0);
    assert_true(atomic_load(&bench.gauges.stop_finished) > 0);
    bench_close(&bench);
    made_close(&made);
}

/* 900 tokens do not fit in the time: nobody waits for them, and the time is not used up. */
static void test_a_stop_does_not_wait_for_what_does_not_fit(void **state)
{
    uint32_t count[TASK_DROPPED + 1];
    struct bench bench = {0};
    struct made made;
    unsigned stop;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 2);
    bench_open(&bench, 5, 2, INTERVAL_NS);
    for (uint32_t i = 0; i < 2; i++)
        post(&bench, made_task(&made, i, 4, 900));
    while (atomic_load(&bench.gauges.running) < 2)
        usleep(1000);
    stop = device_loop_halt(bench.loop, clock_mono_ns() + 300 * (uint64_t)CLOCK_NS_PER_MS);
    count_until(&bench, stop, count);
    assert_int_equal(count[TASK_DROPPED], 2);
    assert_int_equal(atomic_load(&bench.gauges.stop_kept), 2);
    assert_int_equal(atomic_load(&bench.gauges.stop_finished), 0);
    bench_close(&bench);
    made_close(&made);
}

/* The time is taken away in the middle: what runs comes out then. */
static void test_a_stop_can_be_hurried(void **state)
{
    uint32_t count[TASK_DROPPED + 1];
    struct bench bench = {0};
    struct made made;
    unsigned stop;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 2);
    bench_open(&bench, 20, 2, INTERVAL_NS); /* a step takes 20 ms, and all of them 18 s */
    for (uint32_t i = 0; i < 2; i++)
        post(&bench, made_task(&made, i, 4, 900));
    while (atomic_load(&bench.gauges.running) < 2)
        usleep(1000);
    stop = device_loop_halt(bench.loop, clock_mono_ns() + 600 * (uint64_t)CLOCK_NS_PER_S);
    usleep(50000);
    device_loop_finish_until(bench.loop, 0);
    count_until(&bench, stop, count);
    assert_int_equal(count[TASK_DROPPED], 2);
    bench_close(&bench);
    made_close(&made);
}

/* Told to go on and to stop again before it looks: the second stop has its answer, and one only. */
static void test_a_stop_is_answered_by_its_number_even_when_the_go_was_missed(void **state)
{
    struct bench bench = {0};
    struct made made;
    struct batch *batch;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 1);
    bench_open(&bench, 0, 2, INTERVAL_NS);
    for (int round = 0; round < 20; round++) {
        unsigned stop = device_loop_halt(bench.loop, 0);

        batch = next_batch(&bench);
        assert_int_equal(batch->stop, stop);
        assert_int_equal(batch->count, 0);
        batch_free(batch);
        device_loop_go(bench.loop);
    }
    post(&bench, made_task(&made, 0, 4, 4));
    batch = next_batch(&bench);
    assert_int_equal(batch->stop, 0);
    assert_int_equal(batch->task[0]->status, TASK_COMPLETED);
    batch_free(batch);
    bench_close(&bench);
    made_close(&made);
}

/* After the time up to which the lease allows it nothing is launched; when it is extended, all is. */
static void test_nothing_is_launched_after_the_lease(void **state)
{
    struct bench bench = {0};
    struct made made;
    struct batch *batch;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 1);
    bench_open(&bench, 0, 2, INTERVAL_NS);
    atomic_store(&bench.gauges.launch_until_ns, clock_mono_ns());
    post(&bench, made_task(&made, 0, 4, 4));
    usleep(120000);
    assert_int_equal(atomic_load(&bench.gauges.running), 0);
    assert_int_equal(atomic_load(&bench.gauges.ready_requests), 1); /* as posted: not taken */
    atomic_store(&bench.gauges.launch_until_ns, UINT64_MAX);
    batch = next_batch(&bench);
    assert_int_equal(batch->task[0]->status, TASK_COMPLETED);
    batch_free(batch);
    bench_close(&bench);
    made_close(&made);
}

/* Intake and the commit thread end in their own time: what they post and ring meanwhile does no harm. */
static void test_a_loop_that_has_ended_can_still_be_rung(void **state)
{
    struct bench bench = {0};
    struct made made;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 1);
    bench_open(&bench, 0, 2, INTERVAL_NS);
    device_loop_stop(bench.loop);
    post(&bench, made_task(&made, 0, 5, 5));
    mailbox_ring(device_loop_mailbox(bench.loop));
    bench_close(&bench);
    assert_int_equal(atomic_load(&made.chunk->refs), 1);
    made_close(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_loop_that_has_ended_can_still_be_rung),
        cmocka_unit_test(test_every_request_ends_once_and_the_books_add_up),
        cmocka_unit_test(test_a_common_beginning_is_booked_on_its_job),
        cmocka_unit_test(test_jobs_are_served_in_turn),
        cmocka_unit_test(test_a_cancelled_job_ends_with_what_it_cost),
        cmocka_unit_test(test_stop_gives_everything_back_and_go_goes_on),
        cmocka_unit_test(test_the_last_results_do_not_wait_for_the_interval),
        cmocka_unit_test(test_time_after_a_stop_is_nobodys),
        cmocka_unit_test(test_a_stop_with_time_finishes_what_runs),
        cmocka_unit_test(test_a_stop_does_not_wait_for_what_does_not_fit),
        cmocka_unit_test(test_a_stop_can_be_hurried),
        cmocka_unit_test(test_a_stop_is_answered_by_its_number_even_when_the_go_was_missed),
        cmocka_unit_test(test_nothing_is_launched_after_the_lease),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
