/* test_frozen.c: tasks become rows and attempts, and no nanosecond of theirs gets lost on the way. */
#include "consumer/frozen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/consumer/made.h"

static const struct response_frame frame = {.created_s = 1, .fingerprint = "fp_0"};
static const struct books_entry entry = {.held_ns = 60, .wip_ns = 7};

/* A task of line `index` that ended so, having cost that. */
static void add(struct batch *batch, struct made *made, uint32_t index, enum task_status status,
                uint64_t ns)
{
    struct task *task = made_task(made, index, 3, 2);
    struct engine_event event = {.text = TEXT("hi"), .cost = {.ns = ns, .output_tokens = 2}};

    task->cost.ns = ns;
    if (status == TASK_COMPLETED)
        task_finish(task, &event, 0);
    else if (status == TASK_FAILED)
        task_fail(task, 500, "server_error", "numeric_error", "No.", NULL);
    else
        task_withdraw(task, status);
    batch_add(batch, task, 1);
}

static uint64_t row_costs(const struct commit_batch *batch)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < batch->rows_count; i++)
        sum += batch->rows[i].gpu_ns;
    return sum;
}

static uint64_t attempt_costs(const struct commit_batch *batch)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < batch->attempts_count; i++)
        sum += batch->attempts[i].gpu_ns;
    return sum;
}

/* What answered keeps its cost on its row; what was withdrawn has a row without, and an attempt. */
static void test_each_outcome_goes_where_it_belongs(void **state)
{
    struct batch *batch = batch_new();
    struct frozen frozen = {0};
    struct made made;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 8);
    add(batch, &made, 0, TASK_COMPLETED, 10);
    add(batch, &made, 1, TASK_FAILED, 20);
    add(batch, &made, 2, TASK_CANCELLED, 5);
    add(batch, &made, 3, TASK_CANCELLED, 0); /* had not begun: no attempt */
    add(batch, &made, 4, TASK_DROPPED, 3);   /* no row: somebody else runs it */
    batch_add_job(batch, &(struct batch_job){.job = made_uuid(1), .wip_ns = 7});
    batch_add_job(batch, &(struct batch_job){.job = made_uuid(2), .shared_ns = 4});
    batch_add_job(batch,
                  &(struct batch_job){.job = made_uuid(1), .shared_ns = 2, .recompute_ns = 9});
    frozen_build(&frozen, batch, &entry, &frame);

    assert_int_equal(frozen.batch.rows_count, 4);
    assert_int_equal(frozen.batch.attempts_count, 2);
    assert_int_equal(row_costs(&frozen.batch), 30);
    assert_int_equal(attempt_costs(&frozen.batch), 8);
    assert_int_equal(frozen.out_ns, 38);
    assert_int_equal(frozen.batch.partitions_count, 1);
    assert_int_equal(frozen.batch.chunks_count, 1);
    assert_int_equal(frozen.batch.jobs_count, 2);
    assert_int_equal(frozen.batch.jobs[0].wip_ns, 7);
    assert_int_equal(frozen.batch.jobs[0].shared_ns, 2);
    assert_int_equal(frozen.batch.jobs[0].recompute_ns, 9);
    assert_int_equal(frozen.batch.jobs[1].shared_ns, 4);
    assert_int_equal(frozen.batch.rows[0].status_code, 200);
    assert_memory_equal(frozen.batch.rows[1].response.data, "{\"error\":{\"message\":\"No.\"", 25);
    assert_null(frozen.batch.rows[2].response.data);
    assert_memory_equal(frozen.batch.rows[2].error.data, "{\"code\":\"batch_cancelled\"", 25);
    frozen_release(&frozen);
    batch_free(batch);
    made_close(&made);
}

/* A partition was lost: built again, its rows are gone and their cost is lost, the rest is as before. */
static void test_a_lost_partition_leaves_its_cost_behind(void **state)
{
    struct batch *batch = batch_new();
    struct frozen frozen = {0};
    struct made kept;
    struct made lost;

    (void)state;
    made_open(&kept, 1, ENDPOINT_COMPLETIONS, 8);
    made_open(&lost, 2, ENDPOINT_COMPLETIONS, 8);
    add(batch, &kept, 0, TASK_COMPLETED, 10);
    add(batch, &lost, 0, TASK_COMPLETED, 20);
    frozen_build(&frozen, batch, &entry, &frame);
    assert_int_equal(frozen.batch.partitions_count, 2);
    assert_ptr_equal(frozen.claims[1], lost.partition);

    atomic_store(&lost.partition->dropped, true);
    frozen_build(&frozen, batch, &entry, &frame);
    assert_int_equal(frozen.batch.partitions_count, 1);
    assert_int_equal(row_costs(&frozen.batch), 10);
    assert_int_equal(attempt_costs(&frozen.batch), 20);
    assert_int_equal(frozen.batch.attempts[0].why, ATTEMPT_FENCED);
    assert_int_equal(frozen.out_ns, 30);
    frozen_release(&frozen);
    batch_free(batch);
    made_close(&kept);
    made_close(&lost);
}

/* A request of line `index` that runs, and what it has generated: three tokens, 7 ns since the last. */
static void save(struct batch *batch, struct made *made, uint32_t index)
{
    static const uint32_t tokens[] = {5, 300, 70000};
    struct engine_checkpoint live = {.tokens = tokens, .tokens_len = 3, .cost_ns = 17};
    struct task *task = made_task(made, index, 3, 9);

    task->attempt = 2;
    task->saved_tokens = 1;
    task->saved_ns = 10;
    task->prompt_key[0] = 0x5a;
    batch_add_checkpoint(batch, task, &live, 0);
    task_free(task);
}

/* What runs goes into states that can be read again, under this worker's model. */
static void test_checkpoints_are_encoded(void **state)
{
    struct batch *batch = batch_new();
    struct engine_model model = {.digest = {1}, .numerics = {2}};
    struct frozen frozen = {.model = &model};
    struct made made;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 100);
    for (uint32_t i = 0; i < 100; i++)
        save(batch, &made, i);
    batch->sampled = 200;
    frozen_build(&frozen, batch, &entry, &frame);
    assert_int_equal(frozen.batch.checkpoints_count, 100);
    assert_int_equal(frozen.batch.sampled, 200);
    assert_int_equal(frozen.out_ns, 700);
    for (uint32_t i = 0; i < 100; i++) {
        const struct commit_checkpoint *saved = &frozen.batch.checkpoints[i];
        struct checkpoint got;
        struct arena arena = {0};
        const char *why;

        assert_int_equal(checkpoint_decode(saved->state, &arena, &got, &why), ERR_OK);
        assert_int_equal(saved->line, i);
        assert_int_equal(saved->gpu_ns, 7);
        assert_int_equal(saved->attempt, 2);
        assert_int_equal(saved->tokens, 3);
        assert_int_equal(got.line, i);
        assert_int_equal(got.epoch, 1);
        assert_int_equal(got.seed, i);
        assert_int_equal(got.tokens[2], 70000);
        assert_int_equal(got.prompt[0], 0x5a);
        assert_int_equal(got.model[0], 1);
        assert_int_equal(got.numerics[0], 2);
        arena_release(&arena);
    }
    frozen_release(&frozen);
    batch_free(batch);
    made_close(&made);
}

/* The partition is somebody else's: what could not be saved is lost, and nothing is deleted there. */
static void test_a_checkpoint_that_came_too_late_is_lost(void **state)
{
    struct batch *batch = batch_new();
    struct engine_model model = {0};
    struct frozen frozen = {.model = &model};
    struct made made;
    struct task *task;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 8);
    save(batch, &made, 0);
    task = made_task(&made, 1, 3, 2);
    batch_add_discard(batch, task);
    task_free(task);
    frozen_build(&frozen, batch, &entry, &frame);
    assert_int_equal(frozen.batch.checkpoints_count, 1);
    assert_int_equal(frozen.batch.discards_count, 1);
    assert_int_equal(frozen.batch.discards[0].line, 1);

    atomic_store(&made.partition->dropped, true);
    frozen_build(&frozen, batch, &entry, &frame);
    assert_int_equal(frozen.batch.partitions_count, 0);
    assert_int_equal(frozen.batch.checkpoints_count, 0);
    assert_int_equal(frozen.batch.discards_count, 0);
    assert_int_equal(frozen.batch.attempts_count, 1);
    assert_int_equal(frozen.batch.attempts[0].why, ATTEMPT_FENCED);
    assert_int_equal(frozen.batch.attempts[0].gpu_ns, 7);
    assert_int_equal(frozen.batch.attempts[0].tokens_lost, 2);
    assert_int_equal(frozen.out_ns, 7);
    frozen_release(&frozen);
    batch_free(batch);
    made_close(&made);
}

/* It runs on and believes itself saved, as the device thread does once a checkpoint is cut. */
static void save_more(struct batch *batch, struct task *task, uint32_t tokens, uint64_t cost_ns)
{
    static const uint32_t ids[8];
    struct engine_checkpoint live = {.tokens = ids, .tokens_len = tokens, .cost_ns = cost_ns};

    batch_add_checkpoint(batch, task, &live, 0);
    task->saved_tokens = tokens;
    task->saved_ns = cost_ns;
}

struct told {
    uint64_t kept_ns, lost_ns;
    int32_t tokens_kept, tokens_lost;
};

static void add_told(struct told *told, const struct frozen *frozen)
{
    for (uint32_t i = 0; i < frozen->batch.attempts_count; i++) {
        told->kept_ns += frozen->batch.attempts[i].kept_ns;
        told->lost_ns += frozen->batch.attempts[i].gpu_ns;
        told->tokens_kept += frozen->batch.attempts[i].tokens_kept;
        told->tokens_lost += frozen->batch.attempts[i].tokens_lost;
    }
}

/*
 * The first checkpoint lands, the partition is lost, two more are refused, the second of them in the
 * batch in which the request ends: of its six tokens and 35 ns one and 10 ns are kept, and no more.
 */
static void test_a_refused_checkpoint_is_not_kept(void **state)
{
    struct batch *batch[3] = {batch_new(), batch_new(), batch_new()};
    struct engine_model model = {0};
    struct frozen frozen = {.model = &model};
    struct told told = {0};
    struct made made;
    struct task *task;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 8);
    task = made_task(&made, 3, 3, 9);
    task->attempt = 1;
    save_more(batch[0], task, 1, 10);
    frozen_build(&frozen, batch[0], &entry, &frame);
    assert_int_equal(frozen.batch.checkpoints_count, 1);
    save_more(batch[1], task, 3, 17);
    save_more(batch[2], task, 5, 30);
    task->cost = (struct engine_cost){.ns = 35, .output_tokens = 6};
    task_withdraw(task, TASK_DROPPED);
    batch_add(batch[2], task, 1);
    atomic_store(&made.partition->dropped, true);
    for (int i = 1; i < 3; i++) {
        frozen_build(&frozen, batch[i], &entry, &frame);
        frozen_build(&frozen, batch[i], &entry, &frame); /* as when another one is lost, too */
        add_told(&told, &frozen);
    }
    assert_int_equal(told.tokens_kept, 1);
    assert_int_equal(told.kept_ns, 10);
    assert_int_equal(told.tokens_lost, 5);
    assert_int_equal(told.lost_ns, 25);
    frozen_release(&frozen);
    for (int i = 0; i < 3; i++)
        batch_free(batch[i]);
    made_close(&made);
}

/* Resumed with four tokens, ended with nine, of which six were saved: what its row or attempt says. */
static struct task *resumed_task(struct made *made, uint32_t index)
{
    struct task *task = made_task(made, index, 3, 9);

    task->attempt = 3;
    task->resumed_len = 4;
    task->saved_tokens = 6;
    task->saved_ns = 10;
    task->numerics_changed = true;
    task->cost = (struct engine_cost){.ns = 15, .recompute_ns = 8, .output_tokens = 9};
    return task;
}

static void test_what_was_saved_is_on_no_row_and_not_lost(void **state)
{
    struct batch *batch = batch_new();
    struct frozen frozen = {0};
    struct made made;
    struct task *task;
    const struct commit_attempt *attempt;
    struct engine_event event = {.text = TEXT("hi")};

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 8);
    task = resumed_task(&made, 0);
    event.cost = task->cost;
    task_finish(task, &event, 0);
    batch_add(batch, task, 1);
    task = resumed_task(&made, 1);
    task_withdraw(task, TASK_DROPPED);
    batch_add(batch, task, 1);
    frozen_build(&frozen, batch, &entry, &frame);
    assert_int_equal(frozen.batch.rows_count, 1);
    assert_int_equal(frozen.batch.rows[0].gpu_ns, 5);
    assert_int_equal(frozen.batch.rows[0].attempt, 3);
    assert_int_equal(frozen.batch.rows[0].resumed_tokens, 4);
    assert_int_equal(frozen.batch.rows[0].recompute_ns, 8);
    assert_true(frozen.batch.rows[0].numerics_changed);
    assert_int_equal(frozen.batch.attempts_count, 1);
    attempt = &frozen.batch.attempts[0];
    assert_int_equal(attempt->why, ATTEMPT_PREEMPTED);
    assert_int_equal(attempt->gpu_ns, 5);
    assert_int_equal(attempt->kept_ns, 10);
    assert_int_equal(attempt->attempt, 3);
    assert_int_equal(attempt->tokens_kept, 2);
    assert_int_equal(attempt->tokens_lost, 3);
    assert_int_equal(attempt->recompute_ns, 8);
    assert_int_equal(frozen.out_ns, 10);

    /* Cancelled, it gets a row, which takes the checkpoint away: of that nothing is kept. */
    task->status = TASK_CANCELLED;
    frozen_build(&frozen, batch, &entry, &frame);
    attempt = &frozen.batch.attempts[0];
    assert_int_equal(attempt->why, ATTEMPT_CANCELLED);
    assert_int_equal(attempt->gpu_ns, 5);
    assert_int_equal(attempt->kept_ns, 0);
    assert_int_equal(attempt->tokens_kept, 0);
    assert_int_equal(attempt->tokens_lost, 3);
    task->status = TASK_DROPPED;

    atomic_store(&made.partition->leaving, true);
    frozen_build(&frozen, batch, &entry, &frame);
    assert_int_equal(frozen.batch.attempts[0].why, ATTEMPT_FENCED);

    /* All of it is saved: handed over, it is told of here; when the worker leaves, by its burial. */
    task->saved_ns = task->cost.ns;
    task->saved_tokens = task->cost.output_tokens;
    frozen_build(&frozen, batch, &entry, &frame);
    assert_int_equal(frozen.batch.attempts_count, 1);
    assert_int_equal(frozen.batch.attempts[0].kept_ns, 15);
    atomic_store(&made.partition->leaving, false);
    frozen_build(&frozen, batch, &entry, &frame);
    assert_int_equal(frozen.batch.attempts_count,
                     1); /* a burial does not know what was read again */
    assert_int_equal(frozen.batch.attempts[0].why, ATTEMPT_PREEMPTED);
    assert_int_equal(frozen.batch.attempts[0].gpu_ns, 0);
    assert_int_equal(frozen.batch.attempts[0].recompute_ns, 8);
    task->cost.recompute_ns = 0;
    frozen_build(&frozen, batch, &entry, &frame);
    assert_int_equal(frozen.batch.attempts_count, 0);
    frozen_release(&frozen);
    batch_free(batch);
    made_close(&made);
}

/* More rows than the first arrays hold: their texts still lie where the rows say. */
static void test_many_rows_keep_their_texts(void **state)
{
    struct batch *batch = batch_new();
    struct frozen frozen = {0};
    struct made made;

    (void)state;
    made_open(&made, 1, ENDPOINT_COMPLETIONS, 1024);
    for (uint32_t i = 0; i < 1024; i++)
        add(batch, &made, i, i % 2 ? TASK_COMPLETED : TASK_EXPIRED, i % 2);
    frozen_build(&frozen, batch, &entry, &frame);
    for (uint32_t i = 0; i < 1024; i++) {
        const struct commit_row *row = &frozen.batch.rows[i];
        struct slice text = i % 2 ? row->response : row->error;

        assert_int_equal(row->line, i);
        assert_int_equal(text.data[0], '{');
        assert_int_equal(text.data[text.len - 1], '}');
    }
    frozen_release(&frozen);
    batch_free(batch);
    made_close(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_outcome_goes_where_it_belongs),
        cmocka_unit_test(test_a_lost_partition_leaves_its_cost_behind),
        cmocka_unit_test(test_checkpoints_are_encoded),
        cmocka_unit_test(test_a_checkpoint_that_came_too_late_is_lost),
        cmocka_unit_test(test_a_refused_checkpoint_is_not_kept),
        cmocka_unit_test(test_what_was_saved_is_on_no_row_and_not_lost),
        cmocka_unit_test(test_many_rows_keep_their_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
