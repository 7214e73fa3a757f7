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
    assert_int_equal(frozen.ended_ns, 38);
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
    assert_int_equal(frozen.ended_ns, 30);
    frozen_release(&frozen);
    batch_free(batch);
    made_close(&kept);
    made_close(&lost);
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
        cmocka_unit_test(test_many_rows_keep_their_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
