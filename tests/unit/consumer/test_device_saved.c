/*
 * test_device_saved.c: what the device thread saves of requests that run, how they go on from it, and
 * what is left of their time.
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

enum { ANSWER = 300 };

/* What a request generates undisturbed: ids and the log-probability of each. */
struct answer {
    uint32_t tokens[ANSWER];
    float logprobs[ANSWER];
    uint32_t len;
};

static struct task *long_task(struct made *made, uint32_t index)
{
    struct task *task = made_task(made, index, 9, ANSWER);

    task->return_token_ids = true;
    task->logprobs = true;
    task->ignore_eos = true;
    return task;
}

/* The checkpoint as a later attempt finds it; its arrays are the batch's. */
static struct checkpoint found(const struct batch *batch, const struct batch_checkpoint *from)
{
    const uint32_t *words = batch->words + from->at;

    return (struct checkpoint){.ran_ns = from->ran_ns,
                               .tokens = words,
                               .tokens_len = from->tokens,
                               .logprobs = (const float *)(words + from->tokens)};
}

static struct answer undisturbed(struct made *made, uint32_t index)
{
    struct answer answer = {0};
    struct bench bench = {0};
    struct batch *batch;

    bench_open(&bench, 0, 2, INTERVAL_NS);
    post(&bench, long_task(made, index));
    batch = next_batch(&bench);
    assert_int_equal(batch->task[0]->tokens_len, ANSWER);
    answer.len = ANSWER;
    memcpy(answer.tokens, batch->task[0]->tokens, sizeof answer.tokens);
    batch_free(batch);
    bench_close(&bench);
    return answer;
}

static void assert_begins_as(const struct checkpoint *found, const struct answer *answer)
{
    assert_true(found->tokens_len <= answer->len);
    assert_memory_equal(found->tokens, answer->tokens, found->tokens_len * sizeof(uint32_t));
}

/* Every pass saves what was gained since the one before; together they are never more than the cost. */
static void test_passes_save_what_was_gained(void **state)
{
    struct bench bench = {.save_every_ns = 20 * CLOCK_NS_PER_MS};
    struct answer answer[2];
    uint64_t saved_ns[2] = {0};
    uint32_t saved[2] = {0};
    uint32_t ended = 0, passes = 0;
    struct made made;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 2);
    for (uint32_t i = 0; i < 2; i++)
        answer[i] = undisturbed(&made, i);
    bench_open(&bench, 1, 2, INTERVAL_NS);
    for (uint32_t i = 0; i < 2; i++)
        post(&bench, long_task(&made, i));
    while (ended < 2) {
        struct batch *batch = next_batch(&bench);

        for (uint32_t i = 0; i < batch->checkpoints_count; i++) {
            const struct batch_checkpoint *from = &batch->checkpoint[i];
            struct checkpoint checkpoint = found(batch, from);

            assert_int_equal(from->tokens_before, saved[from->index]);
            assert_true(from->tokens > saved[from->index] && from->gpu_ns > 0);
            assert_int_equal(from->attempt, 1);
            assert_begins_as(&checkpoint, &answer[from->index]);
            saved[from->index] = from->tokens;
            saved_ns[from->index] += from->gpu_ns;
            passes++;
        }
        for (uint32_t i = 0; i < batch->count; i++) {
            const struct task *task = batch->task[i];

            assert_int_equal(task->status, TASK_COMPLETED);
            assert_int_equal(task->saved_ns, saved_ns[task->index]);
            assert_true(task->cost.ns > task->saved_ns);
        }
        ended += batch->count;
        batch_free(batch);
    }
    assert_true(passes >= 2);
    assert_int_equal(bench.sampled, 2 * ANSWER);
    assert_true(atomic_load(&bench.gauges.checkpoint_passes) >= 2);
    assert_int_equal(atomic_load(&bench.gauges.checkpoint_requests), passes);
    bench_close(&bench);
    made_close(&made);
}

/* Lets one request run for a while and stops the loop; returns the batch with its checkpoint. */
static struct batch *stopped_in_the_middle(struct bench *bench, struct task *task)
{
    struct batch *batch;
    unsigned stop;

    post(bench, task);
    let_run(bench, 1);
    stop = device_loop_halt(bench->loop, 0);
    batch = next_batch(bench);
    assert_int_equal(batch->stop, stop);
    return batch;
}

/*
 * Stopped twice in the middle of an answer, by workers that have nothing but the checkpoint of the
 * one before: the answer is the one that an undisturbed run gives, no token was made twice, and each
 * checkpoint has the log-probabilities of the one before it.
 */
static void test_an_answer_goes_on_where_it_was_left(void **state)
{
    struct bench bench = {0};
    struct answer answer;
    struct made made;
    struct task *task;
    struct batch *batch;
    uint64_t sampled = 0, ran_ns = 0;
    float logprobs[ANSWER];
    uint32_t saved = 0;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 1);
    answer = undisturbed(&made, 0);
    task = long_task(&made, 0);
    for (uint32_t attempt = 1; attempt <= 2; attempt++) {
        struct checkpoint checkpoint;

        bench_open(&bench, 5, 2, INTERVAL_NS); /* 1.5 s for all of it */
        batch = stopped_in_the_middle(&bench, task);
        assert_int_equal(batch->checkpoints_count, 1);
        assert_int_equal(batch->count, 1);
        assert_int_equal(batch->task[0]->status, TASK_DROPPED);
        assert_int_equal(batch->task[0]->saved_ns, batch->task[0]->cost.ns); /* nothing is lost */
        assert_true((attempt == 1) == (batch->task[0]->cost.recompute_ns == 0));
        checkpoint = found(batch, &batch->checkpoint[0]);
        assert_begins_as(&checkpoint, &answer);
        assert_true(checkpoint.ran_ns > ran_ns); /* the time of both attempts */
        ran_ns = checkpoint.ran_ns;
        assert_true(checkpoint.tokens_len > saved);
        assert_memory_equal(checkpoint.logprobs, logprobs, saved * sizeof *logprobs);
        saved = checkpoint.tokens_len;
        memcpy(logprobs, checkpoint.logprobs, saved * sizeof *logprobs);
        task = long_task(&made, 0);
        task_resume(task, &checkpoint, false);
        sampled += bench.sampled;
        batch_free(batch);
        bench_close(&bench);
    }
    bench_open(&bench, 0, 2, INTERVAL_NS);
    post(&bench, task);
    batch = next_batch(&bench);
    assert_int_equal(batch->task[0]->status, TASK_COMPLETED);
    assert_int_equal(batch->task[0]->tokens_len, ANSWER);
    assert_memory_equal(batch->task[0]->tokens, answer.tokens, sizeof answer.tokens);
    assert_true(batch->task[0]->cost.recompute_ns > 0);
    assert_int_equal(sampled + bench.sampled, ANSWER);
    batch_free(batch);
    bench_close(&bench);
    made_close(&made);
}

/* A checkpoint with the whole answer in it: the row is made, and nothing is generated. */
static void test_an_answer_that_was_whole_is_told_at_once(void **state)
{
    struct bench bench = {0};
    struct answer answer;
    struct made made;
    struct task *task;
    struct batch *batch;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 1);
    answer = undisturbed(&made, 0);
    task = long_task(&made, 0);
    task_resume(task,
                &(struct checkpoint){
                    .tokens = answer.tokens, .tokens_len = answer.len, .logprobs = answer.logprobs},
                false);
    bench_open(&bench, 0, 2, INTERVAL_NS);
    post(&bench, task);
    batch = next_batch(&bench);
    assert_int_equal(batch->task[0]->status, TASK_COMPLETED);
    assert_int_equal(batch->task[0]->finish, ENGINE_LENGTH);
    assert_memory_equal(batch->task[0]->tokens, answer.tokens, sizeof answer.tokens);
    assert_int_equal(batch->task[0]->cost.ns, 0);
    assert_int_equal(bench.sampled, 0);
    batch_free(batch);
    bench_close(&bench);
    made_close(&made);
}

/*
 * A request has one time limit for all its attempts. What an earlier one used up is not given again; the
 * neighbour that has just begun runs to its end.
 */
static void test_a_time_limit_counts_what_ran_before(void **state)
{
    struct bench bench = {0};
    struct answer answer;
    struct made made;
    struct task *task;
    enum task_status status[2] = {TASK_DROPPED, TASK_DROPPED};

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 2);
    answer = undisturbed(&made, 0);
    task = long_task(&made, 0);
    task_resume(task,
                &(struct checkpoint){.ran_ns = 3600 * (uint64_t)CLOCK_NS_PER_S,
                                     .tokens = answer.tokens,
                                     .tokens_len = 3,
                                     .logprobs = answer.logprobs},
                false);
    bench.limit_ns = 3600 * (uint64_t)CLOCK_NS_PER_S;
    bench_open(&bench, 1, 2, INTERVAL_NS);
    post(&bench, task);
    post(&bench, long_task(&made, 1));
    for (uint32_t ended = 0; ended < 2;) {
        struct batch *batch = next_batch(&bench);

        for (uint32_t i = 0; i < batch->count; i++)
            status[batch->task[i]->index] = batch->task[i]->status;
        if (batch->count > 0 && status[0] == TASK_FAILED && ended == 0)
            assert_string_equal(batch->task[0]->error.code, "request_timeout");
        ended += batch->count;
        batch_free(batch);
    }
    assert_int_equal(status[0], TASK_FAILED);
    assert_int_equal(status[1], TASK_COMPLETED);
    bench_close(&bench);
    made_close(&made);
}

/*
 * The database is away for longer than the time limit of a request that runs: nothing is launched
 * meanwhile, and that is not the request's fault.
 */
static void test_an_outage_uses_up_no_time_limit(void **state)
{
    struct bench bench = {.limit_ns = CLOCK_NS_PER_S};
    struct made made;
    uint32_t ended = 0;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 1);
    bench_open(&bench, 1, 2, INTERVAL_NS);
    post(&bench, long_task(&made, 0));
    while (atomic_load(&bench.gauges.running) == 0)
        usleep(100);
    atomic_store(&bench.gauges.launch_until_ns, 0);
    usleep(1200 * 1000);
    atomic_store(&bench.gauges.launch_until_ns, UINT64_MAX);
    while (ended == 0) {
        struct batch *batch = next_batch(&bench);

        ended = batch->count;
        if (ended > 0)
            assert_int_equal(batch->task[0]->status, TASK_COMPLETED);
        batch_free(batch);
    }
    bench_close(&bench);
    made_close(&made);
}

/*
 * What a resumed request spends on reading again is in the recorder, and how much of it the books of a
 * batch have goes with the batch: what is lost with a worker can be told from what was booked.
 */
static void test_reading_again_is_recorded(void **state)
{
    struct bench bench = {.save_every_ns = 20 * CLOCK_NS_PER_MS};
    struct answer answer;
    struct made made;
    struct task *task;
    uint32_t told = 0, ended = 0;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 2);
    answer = undisturbed(&made, 0);
    assert_int_equal(recorder_open(NULL, 4, &bench.recorder), ERR_OK);
    task = long_task(&made, 0);
    task_resume(
        task,
        &(struct checkpoint){.tokens = answer.tokens, .tokens_len = 3, .logprobs = answer.logprobs},
        false);
    bench_open(&bench, 1, 2, INTERVAL_NS);
    post(&bench, long_task(&made, 1));
    post(&bench, task);
    while (ended < 2) {
        struct batch *batch = next_batch(&bench);

        for (uint32_t i = 0; i < batch->again_count; i++) {
            const struct recorder_slot *slot = &bench.recorder->slot[batch->again[i].slot];

            assert_int_equal(slot->line, 0); /* the other one reads for the first time */
            assert_true(batch->again[i].recompute_ns > 0);
            told++;
        }
        for (uint32_t i = 0; i < batch->count; i++) {
            const struct task *done = batch->task[i];

            assert_int_equal(bench.recorder->slot[done->slot].recompute_ns,
                             done->cost.recompute_ns);
            assert_true((done->index == 0) == (done->cost.recompute_ns > 0));
        }
        ended += batch->count;
        batch_free(batch);
    }
    assert_int_equal(told, 1);
    assert_int_equal(bench.recorder->head->recompute_ns, bench.recompute_ns);
    bench_close(&bench);
    recorder_close(bench.recorder);
    made_close(&made);
}

/* A partition that is to go takes with it what runs, saved; what runs of others runs on. */
static void test_what_leaves_is_saved_and_handed_over(void **state)
{
    struct bench bench = {0};
    struct made stays, leaves;
    struct batch *batch;

    (void)state;
    made_open(&stays, 1, ENDPOINT_COMPLETIONS, 1);
    made_open(&leaves, 2, ENDPOINT_COMPLETIONS, 1);
    bench_open(&bench, 3, 2, INTERVAL_NS);
    post(&bench, long_task(&stays, 0));
    post(&bench, long_task(&leaves, 0));
    let_run(&bench, 2);
    atomic_store(&leaves.partition->leaving, true);
    atomic_fetch_add(&bench.gauges.changes, 1);
    batch = next_batch(&bench);
    assert_int_equal(batch->count, 1);
    assert_ptr_equal(batch->task[0]->chunk, leaves.chunk);
    assert_int_equal(batch->task[0]->status, TASK_DROPPED);
    assert_int_equal(batch->task[0]->saved_ns, batch->task[0]->cost.ns);
    assert_int_equal(batch->checkpoints_count, 2);
    batch_free(batch);
    batch = next_batch(&bench);
    assert_ptr_equal(batch->task[0]->chunk, stays.chunk);
    assert_int_equal(batch->task[0]->status, TASK_COMPLETED);
    batch_free(batch);
    bench_close(&bench);
    made_close(&stays);
    made_close(&leaves);
}

/* One that was cancelled has its row and no checkpoint beside it, also when both come at once. */
static void test_what_nobody_wants_is_not_saved(void **state)
{
    struct bench bench = {0};
    struct made made;
    struct batch *batch;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 1);
    bench_open(&bench, 5, 2, INTERVAL_NS);
    atomic_store(&made.job->wish, WISH_CANCEL); /* it is not told of: no change is noted */
    batch = stopped_in_the_middle(&bench, long_task(&made, 0));
    assert_int_equal(batch->checkpoints_count, 0);
    assert_int_equal(batch->task[0]->status, TASK_CANCELLED);
    assert_true(batch->task[0]->cost.ns > 0);
    batch_free(batch);
    bench_close(&bench);
    made_close(&made);
}

/* The commit that deletes a checkpoint writes none for the same line; a later one does. */
static void test_a_bad_checkpoint_goes_before_a_new_one_comes(void **state)
{
    struct bench bench = {.save_every_ns = 1};
    struct made made;
    struct task *task;
    bool discarded = false, saved = false, stopped = false;
    unsigned stop = 0;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 1);
    bench_open(&bench, 1, 2, INTERVAL_NS);
    task = long_task(&made, 0);
    task->unusable = true;
    task->attempt = 4;
    post(&bench, task);
    while (!stopped) {
        struct batch *batch = next_batch(&bench);

        for (uint32_t i = 0; i < batch->discards_count; i++) {
            assert_false(discarded);
            assert_int_equal(batch->checkpoints_count, 0);
            assert_ptr_equal(batch->discard[i].chunk, made.chunk);
            discarded = true;
        }
        if (batch->checkpoints_count > 0) {
            assert_true(discarded);
            assert_int_equal(batch->checkpoint[0].attempt, 4);
            if (!saved)
                stop = device_loop_halt(bench.loop, 0);
            saved = true;
        }
        stopped = saved && batch->stop == stop;
        batch_free(batch);
    }
    bench_close(&bench);
    made_close(&made);
}

/*
 * The device fails while two answers are half done. All the tokens that it had given are in the batch
 * of the stop, the books of that batch close, and both answers go on elsewhere as if nothing had been.
 */
static void test_what_a_failed_device_gave_is_saved(void **state)
{
    struct bench bench = {.fail_token = '@'};
    struct answer answer[2];
    struct batch *batch;
    struct task *poison;
    struct made made;
    unsigned stop;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 3);
    for (uint32_t i = 0; i < 2; i++)
        answer[i] = undisturbed(&made, i);
    bench_open(&bench, 1, 3, INTERVAL_NS);
    for (uint32_t i = 0; i < 2; i++)
        post(&bench, long_task(&made, i));
    let_run(&bench, 2);
    poison = made_task(&made, 2, 9, 4);
    poison->prompt[3] = '@';
    post(&bench, poison);
    while (atomic_load(&bench.failures) == 0)
        usleep(1000);
    stop = device_loop_halt(bench.loop, UINT64_MAX);
    batch = next_batch(&bench);
    assert_int_equal(batch->stop, stop);
    assert_int_equal(batch->count, 3);
    assert_int_equal(batch->checkpoints_count, 2); /* of the third there is nothing */
    for (uint32_t i = 0; i < 2; i++) {
        struct checkpoint checkpoint = found(batch, &batch->checkpoint[i]);

        assert_true(checkpoint.tokens_len >= 5);
        assert_begins_as(&checkpoint, &answer[batch->checkpoint[i].index]);
    }
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(batch->task[i]->status, TASK_DROPPED);
    assert_int_equal(atomic_load(&bench.failures), 1); /* and said so once */
    batch_free(batch);
    bench_close(&bench);
    made_close(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passes_save_what_was_gained),
        cmocka_unit_test(test_an_answer_goes_on_where_it_was_left),
        cmocka_unit_test(test_an_answer_that_was_whole_is_told_at_once),
        cmocka_unit_test(test_a_time_limit_counts_what_ran_before),
        cmocka_unit_test(test_an_outage_uses_up_no_time_limit),
        cmocka_unit_test(test_reading_again_is_recorded),
        cmocka_unit_test(test_what_leaves_is_saved_and_handed_over),
        cmocka_unit_test(test_what_nobody_wants_is_not_saved),
        cmocka_unit_test(test_a_bad_checkpoint_goes_before_a_new_one_comes),
        cmocka_unit_test(test_what_a_failed_device_gave_is_saved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
