/* device_cut.c: what has ended, what is saved of the rest, and when both are cut into a batch. */
#include "consumer/device_inside.h"

#include <assert.h>

#include "config/clock.h"
#include "consumer/batch.h"
#include "consumer/task.h"

void device_collect(struct device_loop *loop, uint64_t now_ns)
{
    struct engine_event event;

    while (engine_poll(loop->engine, &event)) {
        struct task *task = running_end(&loop->running, &event);

        if (task->status == TASK_COMPLETED || task->status == TASK_FAILED)
            atomic_fetch_add_explicit(&loop->options.gauges->stop_finished, 1,
                                      memory_order_relaxed);
        device_end_task(loop, task, now_ns);
    }
}

/* ------------------------------------------------------------------------------ checkpoints ---- */

static bool saving_is_due(const struct device_loop *loop, uint64_t now_ns)
{
    return !running_is_empty(&loop->running) &&
           now_ns - loop->saved_ns >= loop->options.checkpoint_interval_ns;
}

/*
 * One line has one wish in a batch: where it has a checkpoint deleted, none is written. Nothing is
 * for a partition that is lost.
 */
static bool wants_saving(const struct device_loop *loop, const struct task *task,
                         const struct engine_checkpoint *live)
{
    return live->tokens_len > task->saved_tokens && !claim_chunk_is_dropped(task->chunk) &&
           !(task->unusable && task->discarded_in == loop->cuts);
}

static void count_pass(struct gauges *gauges, uint64_t requests, uint64_t tokens, uint64_t ns)
{
    atomic_fetch_add_explicit(&gauges->checkpoint_passes, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&gauges->checkpoint_requests, requests, memory_order_relaxed);
    atomic_fetch_add_explicit(&gauges->checkpoint_tokens, tokens, memory_order_relaxed);
    atomic_fetch_add_explicit(&gauges->checkpoint_ns, ns, memory_order_relaxed);
}

/* One pass over what runs; nothing is in flight. */
static void save_running(struct device_loop *loop, uint64_t now_ns)
{
    uint64_t began_ns = clock_mono_ns(), requests = 0, tokens = 0;
    struct engine_checkpoint live;
    uint32_t cursor = 0;

    while (engine_checkpoint(loop->engine, &cursor, &live)) {
        struct task *task = running_task_of(live.tag);

        if (!wants_saving(loop, task, &live))
            continue;
        batch_add_checkpoint(loop->open, task, &live, loop->worked_ns);
        task->saved_tokens = live.tokens_len;
        task->saved_ns = live.cost_ns;
        requests++;
        tokens += live.tokens_len;
    }
    loop->saved_ns = now_ns;
    count_pass(loop->options.gauges, requests, tokens, clock_mono_ns() - began_ns);
}

/* ------------------------------------------------------------------------------------ cuts ---- */

/* Whoever had such time since the cut before is still in the engine, or ended since. */
static const struct task *task_of_group(const struct device_loop *loop, const struct batch *batch,
                                        uint64_t group)
{
    for (uint32_t i = batch->count; i-- > 0;)
        if (running_group_of(batch->task[i]->chunk->job->id) == group)
            return batch->task[i];
    for (const struct task *task = loop->running.newest; task; task = task->later)
        if (running_group_of(task->chunk->job->id) == group)
            return task;
    return NULL;
}

static void add_groups(struct device_loop *loop, struct batch *batch)
{
    struct engine_group_books told;

    while (engine_group_books(loop->engine, &told)) {
        const struct task *task = task_of_group(loop, batch, told.group);

        assert(task);
        batch_add_job(batch, &(struct batch_job){.job = task->chunk->job->id,
                                                 .shared_ns = told.shared_ns,
                                                 .recompute_ns = told.recompute_ns});
    }
}

/* What the unfinished have generated and cost that no batch and no checkpoint tells of. */
static void add_running(struct device_loop *loop, struct batch *batch)
{
    struct engine_checkpoint live;
    uint32_t cursor = 0;

    while (engine_checkpoint(loop->engine, &cursor, &live)) {
        struct task *task = running_task_of(live.tag);
        uint64_t wip_ns = live.cost_ns - task->saved_ns;

        task->generated = live.tokens_len;
        task->generated_at = loop->pace.steps;
        if (live.tokens_len > task->told_tokens) {
            batch->sampled += live.tokens_len - task->told_tokens;
            task->told_tokens = live.tokens_len;
        }
        if (live.recompute_ns > task->told_recompute_ns) {
            batch_add_again(batch, task->slot, live.recompute_ns);
            task->told_recompute_ns = live.recompute_ns;
        }
        batch->saved_ns += task->saved_ns;
        if (wip_ns > 0)
            batch_add_job(batch,
                          &(struct batch_job){.job = task->chunk->job->id, .wip_ns = wip_ns});
    }
}

void device_cut(struct device_loop *loop, unsigned stop, uint64_t now_ns)
{
    struct batch *batch = loop->open;

    if (loop->idle)
        engine_idle(loop->engine);
    engine_books(loop->engine, &batch->books);
    add_running(loop, batch);
    add_groups(loop, batch);
    batch->stop = stop;
    loop->open = batch_new();
    loop->cuts++;
    loop->cut_ns = now_ns;
    atomic_fetch_add_explicit(&loop->options.gauges->batches_waiting, 1, memory_order_relaxed);
    mailbox_post(loop->options.batches, &batch->mail);
}

/* Then nobody waits for more rows: the last ones of a job are not kept for the interval. */
static bool nothing_to_do(const struct device_loop *loop)
{
    return loop->idle && !loop->inbox.first && !lanes_first(&loop->lanes);
}

static bool is_due(const struct device_loop *loop, uint64_t now_ns)
{
    const struct batch *open = loop->open;

    if (atomic_load_explicit(&loop->options.gauges->batches_waiting, memory_order_relaxed) > 0)
        return false;
    if (loop->hand_over || saving_is_due(loop, now_ns))
        return true;
    if (open->count == 0)
        return now_ns - loop->cut_ns >= loop->options.ledger_interval_ns;
    return open->count >= loop->options.commit_rows || nothing_to_do(loop) ||
           now_ns - open->first_ns >= loop->options.commit_interval_ns;
}

enum err device_settle(struct device_loop *loop, uint64_t now_ns)
{
    enum err err = engine_flush(loop->engine);

    if (!err || loop->failed)
        device_collect(loop, now_ns);
    return loop->failed ? ERR_OK : err;
}

void device_save_and_hand_over(struct device_loop *loop, bool all, uint64_t now_ns)
{
    if (all && loop->open->discards_count > 0)
        device_cut(loop, 0, now_ns); /* so that none is kept from being saved */
    save_running(loop, now_ns);
    running_hand_over(&loop->running, all);
    device_collect(loop, now_ns);
    loop->hand_over = false;
}

enum err device_cut_when_due(struct device_loop *loop, uint64_t now_ns)
{
    enum err err;

    if (!is_due(loop, now_ns))
        return ERR_OK;
    err = device_settle(loop, now_ns);
    if (err)
        return err;
    if (loop->hand_over || saving_is_due(loop, now_ns))
        device_save_and_hand_over(loop, false, now_ns);
    device_cut(loop, 0, now_ns);
    return ERR_OK;
}
