/* device_loop.c: one turn after the other; what a turn does is in the functions from the top down. */
#include "consumer/device_loop.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config/clock.h"
#include "config/failpoint.h"
#include "config/log.h"
#include "consumer/batch.h"
#include "consumer/lanes.h"
#include "consumer/orders.h"
#include "consumer/pace.h"
#include "consumer/running.h"
#include "consumer/suspects.h"
#include "consumer/task.h"
#include "consumer/worker_metrics.h"

enum {
    REST_MS = 50,
    LOOK_AT_LIMITS_NS = 100 * 1000 * 1000,
    RECORD_EVERY_NS = 20 * 1000 * 1000, /* a walk over what runs costs microseconds */
};

struct device_loop {
    struct device_loop_options options;
    struct mailbox mailbox;
    pthread_t thread;
    bool started;
    atomic_bool quit;
    struct orders orders;
    atomic_uint_fast64_t finish_until_ns; /* of a stop; control writes */
    unsigned answered;                    /* the last stop whose batch was cut */
    unsigned finishing;                   /* the stop before which requests are being finished */
    struct engine *engine;

    struct mail_list inbox;      /* arrived and not yet looked at */
    struct lanes lanes;          /* of ready tasks */
    struct running running;      /* in the engine */
    struct suspects suspects;    /* ready, but they run apart */
    struct recorder_device told; /* to the recorder */
    uint64_t told_ns;            /* monotonic: when it was last told of the requests */
    uint64_t turned_ns;          /* monotonic: begin of the last turn */
    uint64_t worked_ns; /* time in which steps might be launched: that of the time limits */
    bool works;         /* the last turn was such a time */
    struct batch *open;
    unsigned changes_seen;
    uint64_t limits_seen_ns;
    uint64_t fits_seen_ns;
    struct pace pace;
    uint64_t cut_ns;   /* monotonic: when the last batch was cut, */
    uint64_t cuts;     /* and how many there were */
    uint64_t saved_ns; /* monotonic: when the last pass for checkpoints was, or nothing ran */
    bool hand_over;    /* a partition began to leave of which something runs */
    bool idle;         /* the engine had nothing to do in the last turn */
};

/* ------------------------------------------------------------------------------ arriving tasks ---- */

static void count_taken(struct device_loop *loop, const struct task *task)
{
    struct gauges *gauges = loop->options.gauges;

    atomic_fetch_sub_explicit(&gauges->ready_requests, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&gauges->ready_bytes, task->bytes, memory_order_relaxed);
}

static void end_task(struct device_loop *loop, struct task *task, uint64_t now_ns)
{
    assert(task->state == TASK_ENDED);
    task_forget_input(task);
    if (task->cost.output_tokens > task->told_tokens)
        loop->open->sampled += task->cost.output_tokens - task->told_tokens;
    batch_add(loop->open, task, now_ns);
}

/* Tasks that were born ended pass by the lanes; they wait when too many results do. */
static void receive(struct device_loop *loop, uint64_t now_ns)
{
    while (loop->inbox.first && loop->open->count < loop->options.results_max) {
        struct task *task = task_of(mail_list_next(&loop->inbox));

        if (task->unusable) {
            batch_add_discard(loop->open, task);
            task->discarded_in = loop->cuts;
        }
        if (task->state == TASK_ENDED) {
            count_taken(loop, task);
            end_task(loop, task, now_ns);
        } else if (task->cap > 0) {
            suspects_add(&loop->suspects, task, now_ns);
        } else {
            lanes_add(&loop->lanes, task);
        }
    }
}

/* At a stop all of it is wanted at once. */
static void receive_all(struct device_loop *loop, uint64_t now_ns)
{
    uint32_t limit = loop->options.results_max;

    loop->options.results_max = UINT32_MAX;
    receive(loop, now_ns);
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
        end_task(loop, task, now_ns);
}

/* One request of each job in turn, until the engine is full or nothing is ready. */
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
    end_task(sifting->loop, task, sifting->now_ns);
    return false;
}

static void withdraw_ready(struct device_loop *loop, bool stopping, uint64_t now_ns)
{
    struct sifting sifting = {loop, stopping, now_ns};

    lanes_sift(&loop->lanes, keep_ready, &sifting);
    suspects_sift(&loop->suspects, keep_ready, &sifting);
}

static void withdraw_unwanted(struct device_loop *loop, uint64_t now_ns)
{
    unsigned changes = atomic_load_explicit(&loop->options.gauges->changes, memory_order_acquire);

    if (changes != loop->changes_seen) {
        loop->changes_seen = changes;
        withdraw_ready(loop, false, now_ns);
        running_withdraw(&loop->running);
        loop->hand_over = running_is_leaving(&loop->running);
    }
    if (now_ns - loop->limits_seen_ns >= LOOK_AT_LIMITS_NS) {
        loop->limits_seen_ns = now_ns;
        running_withdraw_late(&loop->running, loop->worked_ns);
    }
}

static void collect(struct device_loop *loop, uint64_t now_ns)
{
    struct engine_event event;

    while (engine_poll(loop->engine, &event)) {
        struct task *task = running_end(&loop->running, &event);

        if (task->status == TASK_COMPLETED || task->status == TASK_FAILED)
            atomic_fetch_add_explicit(&loop->options.gauges->stop_finished, 1,
                                      memory_order_relaxed);
        end_task(loop, task, now_ns);
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
        recorder_saved(loop->options.recorder, task->slot, live.tokens_len, live.cost_ns);
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
        batch->saved_ns += task->saved_ns;
        if (wip_ns > 0)
            batch_add_job(batch,
                          &(struct batch_job){.job = task->chunk->job->id, .wip_ns = wip_ns});
    }
}

static void cut(struct device_loop *loop, unsigned stop, uint64_t now_ns)
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

/* Takes in what is in flight, so that tokens, costs and books are of one moment. */
static enum err settle(struct device_loop *loop, uint64_t now_ns)
{
    enum err err = engine_flush(loop->engine);

    if (!err)
        collect(loop, now_ns);
    return err;
}

/* Saves what runs, takes out what is to go on elsewhere; nothing is in flight. */
static void save_and_hand_over(struct device_loop *loop, bool all, uint64_t now_ns)
{
    if (all && loop->open->discards_count > 0)
        cut(loop, 0, now_ns); /* so that none is kept from being saved */
    save_running(loop, now_ns);
    running_hand_over(&loop->running, all);
    collect(loop, now_ns);
    loop->hand_over = false;
}

static enum err cut_when_due(struct device_loop *loop, uint64_t now_ns)
{
    enum err err;

    if (!is_due(loop, now_ns))
        return ERR_OK;
    err = settle(loop, now_ns);
    if (err)
        return err;
    if (loop->hand_over || saving_is_due(loop, now_ns))
        save_and_hand_over(loop, false, now_ns);
    cut(loop, 0, now_ns);
    return ERR_OK;
}

/* -------------------------------------------------------------------------- a set runs apart ---- */

/* The engine is empty: the batch that names the set has all that ended before. */
static enum err cut_set(struct device_loop *loop, uint64_t now_ns)
{
    struct buffer text = {0};
    enum err err = settle(loop, now_ns);

    if (err)
        return err;
    suspects_write_set(&loop->suspects, &text);
    log_info("suspects.apart", "requests=%u cap=%u waiting=%u", loop->suspects.set_count,
             suspects_first(&loop->suspects)->cap, loop->suspects.count);
    loop->open->running = buffer_detach(&text);
    loop->open->mark = loop->suspects.mark;
    cut(loop, 0, now_ns);
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

/* Normal work, or the set whose turn it is. *ret_holds: neither is to be fed now. */
static enum err feed_some(struct device_loop *loop, uint64_t now_ns, bool *ret_holds)
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

/* ---------------------------------------------------------------------------------- a turn ---- */

static void record_requests(struct device_loop *loop, uint64_t now_ns)
{
    struct engine_look look;
    uint32_t cursor = 0;

    if (!loop->options.recorder || now_ns - loop->told_ns < RECORD_EVERY_NS)
        return;
    loop->told_ns = now_ns;
    while (engine_look(loop->engine, &cursor, &look))
        recorder_progress(loop->options.recorder, running_task_of(look.tag)->slot, look.tokens_len,
                          look.cost_ns);
}

static void show_progress(struct device_loop *loop, uint64_t now_ns)
{
    struct gauges *gauges = loop->options.gauges;
    struct engine_books books;

    engine_books(loop->engine, &books);
    worker_count_books(&books);
    atomic_store_explicit(&gauges->held_ns, books.held_ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&gauges->device_moves, 1, memory_order_relaxed);
    record_requests(loop, now_ns);
    loop->told.moves++;
    loop->told.held_ns = books.held_ns;
    loop->told.overhead_ns = books.overhead_ns;
    loop->told.idle_ns = books.idle_ns;
    recorder_device(loop->options.recorder, &loop->told);
}

/* What has not begun is for somebody else. */
static void give_up_ready(struct device_loop *loop, uint64_t now_ns)
{
    receive_all(loop, now_ns);
    withdraw_ready(loop, true, now_ns);
}

static enum err stop_all(struct device_loop *loop, unsigned stop, uint64_t now_ns)
{
    struct gauges *gauges = loop->options.gauges;
    enum err err;

    give_up_ready(loop, now_ns);
    if (loop->finishing != stop)
        atomic_store_explicit(&gauges->stop_finished, 0, memory_order_relaxed);
    running_withdraw(&loop->running);
    err = settle(loop, now_ns);
    if (err)
        return err;
    atomic_store_explicit(&gauges->stop_kept,
                          atomic_load_explicit(&gauges->running, memory_order_relaxed),
                          memory_order_relaxed);
    save_and_hand_over(loop, true, now_ns);
    assert(running_is_empty(&loop->running) && !lanes_first(&loop->lanes));
    loop->idle = true;
    atomic_store_explicit(&gauges->stopped_ns, now_ns, memory_order_relaxed);
    suspects_halt(&loop->suspects);
    recorder_apart(loop->options.recorder, 0);
    cut(loop, stop, now_ns);
    loop->answered = stop;
    return ERR_OK;
}

/*
 * Whether requests are to be finished before the stop: there is time, and one of them will be done in
 * it. Those that will not run along: what they gain is not lost, and the device is held anyway.
 */
static bool goes_on(struct device_loop *loop, unsigned stop, uint64_t now_ns)
{
    uint64_t until_ns = atomic_load_explicit(&loop->finish_until_ns, memory_order_acquire);

    if (now_ns >= until_ns || running_is_empty(&loop->running))
        return false;
    if (loop->finishing != stop) {
        loop->finishing = stop;
        loop->fits_seen_ns = 0;
        atomic_store_explicit(&loop->options.gauges->stop_finished, 0, memory_order_relaxed);
    }
    if (now_ns - loop->fits_seen_ns < LOOK_AT_LIMITS_NS)
        return true;
    loop->fits_seen_ns = now_ns;
    return running_any_fits(&loop->running, &loop->pace, until_ns - now_ns);
}

static bool may_launch(const struct device_loop *loop, uint64_t now_ns)
{
    return now_ns <
               atomic_load_explicit(&loop->options.gauges->launch_until_ns, memory_order_acquire) &&
           loop->open->count < loop->options.results_max;
}

/* Steps while there is something to do; else moves the time to idle. */
static enum err step(struct device_loop *loop, uint64_t now_ns)
{
    struct engine_step_info info;
    bool holds;
    enum err err;

    loop->works = may_launch(loop, now_ns);
    if (!loop->works)
        return ERR_AGAIN;
    err = feed_some(loop, now_ns, &holds);
    if (!err)
        err = FAILPOINT_CALL("step", ERR_DEVICE, engine_step(loop->engine, &info));
    if (err)
        return err;
    worker_count_step(&info);
    loop->idle = info.idle;
    pace_note(&loop->pace, info.steps, info.idle, now_ns);
    loop->told.sampled += info.tokens;
    collect(loop, now_ns);
    return info.idle && (holds || !lanes_first(&loop->lanes)) ? ERR_AGAIN : ERR_OK;
}

static enum err turn(struct device_loop *loop, bool rest, bool *ret_rest)
{
    struct gauges *gauges = loop->options.gauges;
    unsigned order =
        orders_given(&loop->orders); /* first: all that was posted before it is taken */
    unsigned stop = orders_last_stop(order);
    struct mail_list arrived =
        rest ? mailbox_wait(&loop->mailbox, REST_MS) : mailbox_take(&loop->mailbox);
    uint64_t now_ns = clock_mono_ns();
    unsigned ready = atomic_load_explicit(&gauges->ready_requests, memory_order_relaxed);
    enum err err;

    if (loop->idle)
        engine_idle(loop->engine);
    if (loop->works)
        loop->worked_ns += now_ns - loop->turned_ns;
    loop->turned_ns = now_ns;
    loop->works = false;
    if (running_is_empty(&loop->running))
        loop->saved_ns = now_ns;
    mail_list_append(&loop->inbox, &arrived);
    receive(loop, now_ns);
    if (stop != loop->answered) {
        if (!goes_on(loop, stop, now_ns))
            return stop_all(loop, stop, now_ns);
        give_up_ready(loop, now_ns);
    }
    *ret_rest = true;
    if (orders_is_go(order) || stop != loop->answered) {
        withdraw_unwanted(loop, now_ns);
        err = step(loop, now_ns);
        if (err && err != ERR_AGAIN)
            return err;
        *ret_rest = err == ERR_AGAIN;
        err = cut_when_due(loop, now_ns);
        if (err)
            return err;
    }
    show_progress(loop, now_ns);
    if (atomic_load_explicit(&gauges->ready_requests, memory_order_relaxed) < ready)
        loop->options.on_room(loop->options.context);
    return ERR_OK;
}

/* What checkpoints cost, beside the time that the device was held. */
static void log_passes(struct gauges *gauges)
{
    log_info("checkpoints.taken",
             "passes=%" PRIuFAST64 " requests=%" PRIuFAST64 " tokens=%" PRIuFAST64
             " us=%" PRIuFAST64 " held_us=%" PRIuFAST64,
             atomic_load(&gauges->checkpoint_passes), atomic_load(&gauges->checkpoint_requests),
             atomic_load(&gauges->checkpoint_tokens), atomic_load(&gauges->checkpoint_ns) / 1000,
             atomic_load(&gauges->held_ns) / 1000);
}

static void *run(void *argument)
{
    struct device_loop *loop = argument;
    bool rest = false;
    enum err err;

    pthread_setname_np(pthread_self(), "device"); /* first: the engine's threads inherit it */
    err = engine_open(&loop->options.engine, &loop->engine);

    loop->running = (struct running){
        .engine = loop->engine, .gauges = loop->options.gauges, .recorder = loop->options.recorder};
    loop->cut_ns = clock_mono_ns();
    loop->options.on_opened(loop->options.context, err);
    while (!err && !atomic_load_explicit(&loop->quit, memory_order_acquire))
        err = turn(loop, rest, &rest);
    if (err && loop->engine)
        loop->options.on_failed(loop->options.context, err);
    log_passes(loop->options.gauges);
    return NULL;
}

/* --------------------------------------------------------------------------------- outside ---- */

enum err device_loop_start(const struct device_loop_options *options, struct device_loop **ret)
{
    struct device_loop *loop = xcalloc(1, sizeof *loop);
    int failed;

    loop->options = *options;
    loop->open = batch_new();
    loop->suspects.wait_ns = options->suspect_wait_ns;
    loop->worked_ns = 1; /* a time limit of 0 is none */
    mailbox_init(&loop->mailbox, -1);
    atomic_init(&loop->quit, false);
    failed = pthread_create(&loop->thread, NULL, run, loop);
    if (failed) {
        device_loop_free(loop);
        return fail(ERR_MEMORY, "the device thread could not be started: %s", strerror(failed));
    }
    loop->started = true;
    *ret = loop;
    return ERR_OK;
}

struct mailbox *device_loop_mailbox(struct device_loop *loop)
{
    return &loop->mailbox;
}

const struct engine *device_loop_engine(const struct device_loop *loop)
{
    return loop->engine;
}

void device_loop_go(struct device_loop *loop)
{
    orders_go(&loop->orders);
    mailbox_ring(&loop->mailbox);
}

unsigned device_loop_halt(struct device_loop *loop, uint64_t finish_until_ns)
{
    unsigned stop;

    atomic_store_explicit(&loop->finish_until_ns, finish_until_ns, memory_order_release);
    stop = orders_stop(&loop->orders);
    mailbox_ring(&loop->mailbox);
    return stop;
}

void device_loop_finish_until(struct device_loop *loop, uint64_t finish_until_ns)
{
    atomic_store_explicit(&loop->finish_until_ns, finish_until_ns, memory_order_release);
    mailbox_ring(&loop->mailbox);
}

static bool free_task(void *context, struct task *task)
{
    (void)context;
    task_free(task);
    return false;
}

static void free_ready(struct device_loop *loop)
{
    struct mail_list arrived = mailbox_take(&loop->mailbox);
    struct mail *mail;

    mail_list_append(&loop->inbox, &arrived);
    while ((mail = mail_list_next(&loop->inbox)))
        task_free(task_of(mail));
    lanes_sift(&loop->lanes, free_task, NULL);
    suspects_release(&loop->suspects);
}

void device_loop_stop(struct device_loop *loop)
{
    if (!loop || !loop->started)
        return;
    atomic_store_explicit(&loop->quit, true, memory_order_release);
    mailbox_ring(&loop->mailbox);
    pthread_join(loop->thread, NULL);
    loop->started = false;
}

void device_loop_free(struct device_loop *loop)
{
    if (!loop)
        return;
    free_ready(loop);
    running_release(&loop->running);
    engine_close(loop->engine);
    batch_free(loop->open);
    mailbox_release(&loop->mailbox);
    free(loop);
}
