/* worker_metrics.c: from steps, books and commits to the rows of config/metrics_table.h. */
#include "consumer/worker_metrics.h"

#include "config/clock.h"
#include "config/metrics.h"

enum { BILLION = 1000000000 };

void worker_count_step(const struct engine_step_info *info)
{
    metrics_set(METRIC_STEPS, 0, (int64_t)info->steps);
    if (info->rows == 0)
        return;
    metrics_observe(METRIC_STEP_DURATION, info->end_ns - info->begin_ns);
    metrics_observe(METRIC_STEP_SEQUENCES, info->sequences);
    if (info->kv_blocks > 0)
        metrics_set(METRIC_KV_USAGE, 0,
                    (int64_t)(info->kv_blocks - info->kv_blocks_free) * BILLION / info->kv_blocks);
}

void worker_count_books(const struct engine_books *books)
{
    metrics_set(METRIC_DEVICE_HELD, 0, (int64_t)books->held_ns);
    metrics_set(METRIC_DEVICE_UNFINISHED, 0, (int64_t)books->live_ns);
    metrics_set(METRIC_DEVICE, ACCOUNT_DELIVERED, (int64_t)books->delivered_ns);
    metrics_set(METRIC_DEVICE, ACCOUNT_SHARED, (int64_t)books->shared_ns);
    metrics_set(METRIC_DEVICE, ACCOUNT_RECOMPUTE, (int64_t)books->recompute_ns);
    metrics_set(METRIC_DEVICE, ACCOUNT_OVERHEAD, (int64_t)books->overhead_ns);
    metrics_set(METRIC_DEVICE, ACCOUNT_IDLE, (int64_t)books->idle_ns);
}

static unsigned outcome_of(enum row_status status)
{
    static const unsigned outcomes[] = {
        [ROW_COMPLETED] = OUTCOME_COMPLETED,
        [ROW_FAILED] = OUTCOME_FAILED,
        [ROW_CANCELLED] = OUTCOME_CANCELLED,
        [ROW_EXPIRED] = OUTCOME_EXPIRED,
    };

    return outcomes[status];
}

static void count_rows(const struct commit_batch *batch)
{
    uint64_t of_outcome[OUTCOME_COUNT] = {0};
    uint64_t input = 0, cached = 0, output = 0, resumed = 0;

    for (uint32_t i = 0; i < batch->rows_count; i++) {
        const struct commit_row *row = &batch->rows[i];

        of_outcome[outcome_of(row->status)]++;
        input += row->input_tokens;
        cached += row->cached_tokens;
        output += row->output_tokens;
        resumed += row->resumed_tokens;
    }
    for (unsigned i = 0; i < OUTCOME_COUNT; i++)
        metrics_add(METRIC_REQUESTS, i, of_outcome[i]);
    metrics_add(METRIC_TOKENS, TOKENS_INPUT, input);
    metrics_add(METRIC_TOKENS, TOKENS_OUTPUT, output);
    metrics_add(METRIC_TOKENS_CACHED, 0, cached);
    metrics_add(METRIC_TOKENS_RESUMED, 0, resumed);
}

static void count_checkpoints(const struct commit_batch *batch, uint64_t now_ms)
{
    uint64_t bytes = 0;

    metrics_add(METRIC_CHECKPOINTS_UNUSABLE, 0, batch->discards_count);
    if (batch->checkpoints_count == 0)
        return;
    for (uint32_t i = 0; i < batch->checkpoints_count; i++)
        bytes += batch->checkpoints[i].state.len;
    metrics_add(METRIC_CHECKPOINTS, 0, batch->checkpoints_count);
    metrics_add(METRIC_CHECKPOINT_BYTES, 0, bytes);
    metrics_set(METRIC_CHECKPOINT_TIME, 0, (int64_t)(now_ms * CLOCK_NS_PER_MS));
}

static unsigned reason_of(enum attempt_why why)
{
    switch (why) {
    case ATTEMPT_PREEMPTED:
        return REASON_PREEMPTED;
    case ATTEMPT_FENCED:
        return REASON_FENCED;
    case ATTEMPT_DEADLINE:
        return REASON_DEADLINE;
    case ATTEMPT_CANCELLED:
        return REASON_CANCELLED;
    default: /* what burials write, and the server */
        return REASON_OTHER;
    }
}

void worker_count_commit(const struct commit_batch *batch, const struct commit_result *result,
                         uint64_t wall_ns)
{
    uint64_t lost_ns = batch->books.lost_ns;

    metrics_observe(METRIC_COMMIT_DURATION, wall_ns);
    count_rows(batch);
    count_checkpoints(batch, clock_wall_ms());
    for (uint32_t i = 0; i < batch->attempts_count; i++) {
        metrics_add(METRIC_ATTEMPTS, reason_of(batch->attempts[i].why), 1);
        lost_ns += batch->attempts[i].gpu_ns;
    }
    metrics_add(METRIC_DEVICE_LOST, 0, lost_ns);
    metrics_add(METRIC_TOKENS_SAMPLED, 0, batch->sampled);
    /* Of a sending that landed without its reply, the counts are not known: all rows went in, as
     * far as this worker can tell. */
    metrics_add(METRIC_COMMIT_ROWS, 0,
                result->landed_before ? batch->rows_count : result->rows_inserted);
    metrics_add(METRIC_COMMIT_DUPLICATES, 0, result->rows_duplicate);
    metrics_add(METRIC_COMMIT_UNSTORABLE, 0, result->rows_unstorable);
}
