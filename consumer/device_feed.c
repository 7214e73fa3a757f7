/* device_feed.c: what arrives, what goes into the engine, and what is taken out again. */
#include "consumer/device_inside.h"

#include <assert.h>

#include "config/log.h"
#include "consumer/batch.h"
#include "consumer/task.h"

/* ------------------------------------------------------------------------------ arriving tasks ---- */

static void count_taken(struct device_loop *loop, const struct task *task)
{
    struct gauges *gauges = loop->options.gauges;

    atomic_fetch_sub_explicit(&gauges->ready_requests, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&gauges->ready_bytes, task->bytes, memory_order_relaxed);
}

void device_end_task(struct device_loop *loop, struct task *task, uint64_t now_ns)
{
    assert(task->state == TASK_ENDED);
    task_forget_input(task);
    if (task->cost.output_tokens > task->told_tokens)
        loop->open->sampled += task->cost.output_tokens - task->told_tokens;
    batch_add(loop->open, task, now_ns);
}

/* Tasks that were born ended pass by the lanes; they wait when too many results do. */
void device_receive(struct device_loop *loop, uint64_t now_ns)
{
    while (loop->inbox.first && loop->open->count < loop->options.results_max) {
        struct task *task = task_of(mail_list_next(&loop->inbox));

        if (task->unusable) {
            batch_add_discard(loop->open, task);
            task->discarded_in = loop->cuts;
        }
        if (task->state == TASK_ENDED) {
            count_taken(loop, task);
            device_end_task(loop, task, now_ns);
        } else if (task->cap > 0) {
            suspects_add(&loop->suspects, task, now_ns);
        } else {
            lanes_add(&loop->lanes, task);
        }
    }
}

/* At a stop all of it is wanted at once. */
void device_receive_all(struct device_loop *loop, uint64_t now_ns)
{
    uint32_t limit = loop->options.results_max;

    loop->options.results_max = UINT32_MAX;
    device_receive(loop, now_ns);
    loop->options.results_max = limit;
}

/* --------------------------------------------------------------------------- into the engine ---- */

/*
 * Its time limit is for all attempts together, as far as checkpoints tell of them. While the database
 * is away and nothing may be launched the time of no request runs out.
 */
static enum err submit_task(struct device_loop *loop, struct task *task)
{
    uint64_t limit_ns = loop->options.request_time_limit_ns;
    uint64_t left_ns = limit_ns > task->ran_ns ? limit_ns - task->ran_ns : 0;

    task->began_ns = loop->worked_ns;
    return running_submit(&loop->running, task, limit_ns > 0 ? loop->worked_ns + left_ns : 0);
}

/* It is in nobody's line any more: in the engine, or ended by what running_submit() said. */
static void begin_task(struct device_loop *loop, struct task *task, enum err err, uint64_t now_ns)
{
    count_taken(loop, task);
    task->generated = task->resumed_len;
    task->generated_at = loop->pace.steps;
    if (err)
        device_end_task(loop, task, now_ns);
}

/* What goes on, then one request of each job in turn, until the engine is full or nothing is ready. */
static void feed(struct device_loop *loop, uint64_t now_ns)
{
    struct task *task;

    while ((task = lanes_first(&loop->lanes))) {
        enum err err = submit_task(loop, task);

        if (err == ERR_AGAIN)
            return;
        lanes_take_first(&loop->lanes);
        begin_task(loop, task, err, now_ns);
    }
}

/* ------------------------------------------------------------------------- taking tasks out ---- */

/* What lanes_sift() is to know. */
struct sifting {
    struct device_loop *loop;
    bool stopping;
    uint64_t now_ns;
};

static bool keep_ready(void *context, struct task *task)
{
    const struct sifting *sifting = context;
    enum task_status status = TASK_DROPPED;

    if (!sifting->stopping && !task_is_unwanted(task, &status))
        return true;
    count_taken(sifting->loop, task);
    task_withdraw(task, status);
    device_end_task(sifting->loop, task, sifting->now_ns);
    return false;
}

void device_withdraw_ready(struct device_loop *loop, bool stopping, uint64_t now_ns)
{
    struct sifting sifting = {loop, stopping, now_ns};

    lanes_sift(&loop->lanes, keep_ready, &sifting);
    suspects_sift(&loop->suspects, keep_ready, &sifting);
}

void device_withdraw_unwanted(struct device_loop *loop, uint64_t now_ns)
{
    unsigned changes = atomic_load_explicit(&loop->options.gauges->changes, memory_order_acquire);

    if (changes != loop->changes_seen) {
        loop->changes_seen = changes;
        device_withdraw_ready(loop, false, now_ns);
        running_withdraw(&loop->running);
        loop->hand_over = running_is_leaving(&loop->running);
    }
    if (now_ns - loop->limits_seen_ns >= LOOK_AT_LIMITS_NS) {
        loop->limits_seen_ns = now_ns;
        running_withdraw_late(&loop->running, loop->worked_ns);
    }
}

/* -------------------------------------------------------------------------- a set runs apart ---- */

/* The engine is empty: the batch that names the set has all that ended before. */
static enum err cut_set(struct device_loop *loop, uint64_t now_ns)
{
    struct buffer text = {0};
    enum err err = device_settle(loop, now_ns);

    if (err)
        return err;
    suspects_write_set(&loop->suspects, &text);
    log_info("suspects.apart", "requests=%u cap=%u waiting=%u", loop->suspects.set_count,
             suspects_first(&loop->suspects)->cap, loop->suspects.count);
    loop->open->running = buffer_detach(&text);
    loop->open->mark = loop->suspects.mark;
    device_cut(loop, 0, now_ns);
    return ERR_OK;
}

static void launch_set(struct device_loop *loop, uint64_t now_ns)
{
    struct task *task;

    recorder_apart(loop->options.recorder, loop->suspects.set_count);
    while ((task = suspects_first(&loop->suspects))) {
        enum err err = submit_task(loop, task);

        if (err == ERR_AGAIN)
            return;
        suspects_take_first(&loop->suspects);
        begin_task(loop, task, err, now_ns);
    }
}

static void end_set(struct device_loop *loop)
{
    recorder_apart(loop->options.recorder, 0);
    loop->open->ends_running = true;
}

enum err device_feed_some(struct device_loop *loop, uint64_t now_ns, bool *ret_holds)
{
    const struct gauges *gauges = loop->options.gauges;
    struct suspects_view view = {
        .has_normal = lanes_first(&loop->lanes) || !running_is_empty(&loop->running),
        .engine_empty = running_is_empty(&loop->running),
        .may_mark = atomic_load_explicit(&gauges->batches_waiting, memory_order_relaxed) == 0,
        .room = loop->options.engine.sequences_max,
        .marked = atomic_load_explicit(&gauges->marked, memory_order_acquire),
    };

    *ret_holds = false;
    switch (suspects_turn(&loop->suspects, &view, now_ns)) {
    case SUSPECTS_CUT:
        *ret_holds = true;
        return cut_set(loop, now_ns);
    case SUSPECTS_LAUNCH:
        launch_set(loop, now_ns);
        break;
    case SUSPECTS_HOLD:
        *ret_holds = true;
        break;
    case SUSPECTS_END:
        end_set(loop);
        feed(loop, now_ns);
        break;
    case SUSPECTS_FEED:
        feed(loop, now_ns);
        break;
    }
    return ERR_OK;
}
