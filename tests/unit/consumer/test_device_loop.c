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

#include "config/clock.h"
#include "consumer/batch.h"
#include "consumer/books.h"
#include "tests/unit/consumer/made.h"

enum { INTERVAL_NS = 5 * 1000 * 1000 };

struct bench {
    struct gauges gauges;
    struct mailbox batches;
    struct device_loop *loop;
    atomic_int opened; /* 1 + enum err */
    struct engine_books before;
    uint64_t wip_ns;
    uint64_t shared_ns, recompute_ns, sampled; /* of all batches */
    uint64_t save_every_ns;                    /* set before it is opened; 0: never */
    uint64_t limit_ns;                         /* likewise: of a request's time; 0: none */
    struct recorder *recorder;                 /* likewise; NULL: none */
};

static void on_opened(void *context, enum err err)
{
    atomic_store(&((struct bench *)context)->opened, 1 + (int)err);
}

static void on_failed(void *context, enum err err)
{
    (void)context;
    (void)err;
    abort();
}

static void on_room(void *context)
{
    (void)context;
}

static void bench_open(struct bench *bench, double pace, uint32_t sequences_max,
                       uint64_t commit_interval_ns)
{
    struct device_loop_options options = {
        .engine = {.backend = "sim",
                   .sequences_max = sequences_max,
                   .waiting_max = 4,
                   .rows_max = 64,
                   .context_max = 1024,
                   .sim = {.load_ns = 1000,
                           .fixed_ns = 1000000,
                           .row_ns = 1001,
                           .kv_ns = 107,
                           .head_ns = 13,
                           .pace = pace}},
        .gauges = &bench->gauges,
        .batches = &bench->batches,
        .commit_rows = 8,
        .commit_interval_ns = commit_interval_ns,
        .checkpoint_interval_ns =
            bench->save_every_ns > 0 ? bench->save_every_ns : 3600 * (uint64_t)CLOCK_NS_PER_S,
        .ledger_interval_ns = 3600 * (uint64_t)CLOCK_NS_PER_S,
        .results_max = 64,
        .request_time_limit_ns = bench->limit_ns,
        .recorder = bench->recorder,
        .on_opened = on_opened,
        .on_failed = on_failed,
        .on_room = on_room,
        .context = bench,
    };

    *bench = (struct bench){.save_every_ns = bench->save_every_ns,
                            .limit_ns = bench->limit_ns,
                            .recorder = bench->recorder};
    atomic_store(&bench->gauges.launch_until_ns, UINT64_MAX);
    mailbox_init(&bench->batches, -1);
    assert_int_equal(device_loop_start(&options, &bench->loop), ERR_OK);
    while (atomic_load(&bench->opened) == 0)
        usleep(1000);
    assert_int_equal(atomic_load(&bench->opened), 1);
    device_loop_go(bench->loop);
}

static void bench_close(struct bench *bench)
{
    device_loop_stop(bench->loop);
    device_loop_free(bench->loop);
    mailbox_release(&bench->batches);
}

static void post(struct bench *bench, struct task *task)
{
    atomic_fetch_add(&bench->gauges.ready_requests, 1);
    atomic_fetch_add(&bench->gauges.ready_bytes, task->bytes);
    mailbox_post(device_loop_mailbox(bench->loop), &task->mail);
}

static void assert_books(struct bench *bench, const struct batch *batch)
{
    struct books_entry entry;
    uint64_t out = 0;
    uint64_t wip = 0, shared = 0, recompute = 0;

    for (uint32_t i = 0; i < batch->count; i++)
        out += batch->task[i]->cost.ns - batch->task[i]->saved_ns;
    for (uint32_t i = 0; i < batch->checkpoints_count; i++)
        out += batch->checkpoint[i].gpu_ns;
    for (uint32_t i = 0; i < batch->jobs_count; i++) {
        wip += batch->job[i].wip_ns;
        shared += batch->job[i].shared_ns;
        recompute += batch->job[i].recompute_ns;
    }
    books_between(&bench->before, &batch->books, batch->saved_ns, &entry);
    assert_int_equal(books_gap(&entry, bench->wip_ns, out), 0);
    assert_int_equal(wip, entry.wip_ns);
    assert_int_equal(shared, entry.shared_ns); /* jobs have all of it */
    assert_int_equal(recompute, entry.recompute_ns);
    bench->shared_ns += shared;
    bench->recompute_ns += recompute;
    bench->sampled += batch->sampled;
    bench->before = batch->books;
    bench->wip_ns = entry.wip_ns;
}

/* The next batch, its books checked; fails after ten seconds. */
static struct batch *next_batch(struct bench *bench)
{
    static struct mail_list waiting;
    struct mail *mail = mail_list_next(&waiting);

    for (int i = 0; !mail && i < 100; i++) {
        waiting = mailbox_wait(&bench->batches, 100);
        mail = mail_list_next(&waiting);
    }
    assert_non_null(mail);
    atomic_fetch_sub(&bench->gauges.batches_waiting, 1);
    assert_books(bench, batch_of(mail));
    return batch_of(mail);
}

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

/* Until so many run, and have for a while: the device takes one step at least in each of its moves. */
static void let_run(struct bench *bench, uint32_t requests)
{
    uint64_t from;

    while (atomic_load(&bench->gauges.running) < requests)
        usleep(1000);
    from = atomic_load(&bench->gauges.device_moves);
    while (atomic_load(&bench->gauges.device_moves) < from + 10)
        usleep(1000);
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
    struct bench bench;
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

/* There is time: what runs is finished, what waits is not begun. */
static void test_a_stop_with_time_finishes_what_runs(void **state)
{
    uint32_t count[TASK_DROPPED + 1];
    struct bench bench;
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
    struct bench bench;
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
    struct bench bench;
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

/* --------------------------------------------------------------------------------- checkpoints ---- */

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

static struct answer undisturbed(struct bench *bench, struct made *made, uint32_t index)
{
    struct answer answer = {0};
    struct batch *batch;

    bench_open(bench, 0, 2, INTERVAL_NS);
    post(bench, long_task(made, index));
    batch = next_batch(bench);
    assert_int_equal(batch->task[0]->tokens_len, ANSWER);
    answer.len = ANSWER;
    memcpy(answer.tokens, batch->task[0]->tokens, sizeof answer.tokens);
    batch_free(batch);
    bench_close(bench);
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
        answer[i] = undisturbed(&bench, &made, i);
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
    answer = undisturbed(&bench, &made, 0);
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
    answer = undisturbed(&bench, &made, 0);
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
    answer = undisturbed(&bench, &made, 0);
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
    answer = undisturbed(&bench, &made, 0);
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
        cmocka_unit_test(test_a_stop_with_time_finishes_what_runs),
        cmocka_unit_test(test_a_stop_does_not_wait_for_what_does_not_fit),
        cmocka_unit_test(test_a_stop_can_be_hurried),
        cmocka_unit_test(test_a_stop_is_answered_by_its_number_even_when_the_go_was_missed),
        cmocka_unit_test(test_nothing_is_launched_after_the_lease),
        cmocka_unit_test(test_passes_save_what_was_gained),
        cmocka_unit_test(test_an_answer_goes_on_where_it_was_left),
        cmocka_unit_test(test_an_answer_that_was_whole_is_told_at_once),
        cmocka_unit_test(test_a_time_limit_counts_what_ran_before),
        cmocka_unit_test(test_an_outage_uses_up_no_time_limit),
        cmocka_unit_test(test_reading_again_is_recorded),
        cmocka_unit_test(test_what_leaves_is_saved_and_handed_over),
        cmocka_unit_test(test_what_nobody_wants_is_not_saved),
        cmocka_unit_test(test_a_bad_checkpoint_goes_before_a_new_one_comes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
