/* device_loop.c: one turn after the other. What a turn takes in is in device_feed.c, what it gives out in
 * device_cut.c. */
#include "consumer/device_inside.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config/clock.h"
#include "config/failpoint.h"
#include "config/log.h"
#include "consumer/batch.h"
#include "consumer/task.h"
#include "consumer/worker_metrics.h"

enum {
    REST_MS = 50,
    RECORD_EVERY_NS = 20 * 1000 * 1000, /* a walk over what runs costs microseconds */
};

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
                          look.cost_ns, look.recompute_ns);
}

/* Not while it stands still: the books were closed, and what comes is on those of whoever goes on. */
static void show_books(struct device_loop *loop)
{
    struct engine_books books;

    engine_books(loop->engine, &books);
    worker_count_books(&books);
    atomic_store_explicit(&loop->options.gauges->held_ns, books.held_ns, memory_order_relaxed);
    loop->told.held_ns = books.held_ns;
    loop->told.overhead_ns = books.overhead_ns;
    loop->told.idle_ns = books.idle_ns;
    loop->told.recompute_ns = books.recompute_ns;
}

static void show_progress(struct device_loop *loop, bool works, uint64_t now_ns)
{
    if (works)
        show_books(loop);
    atomic_fetch_add_explicit(&loop->options.gauges->device_moves, 1, memory_order_relaxed);
    record_requests(loop, now_ns);
    loop->told.moves++;
    recorder_device(loop->options.recorder, &loop->told);
}

/* What has not begun is for somebody else. */
static void give_up_ready(struct device_loop *loop, uint64_t now_ns)
{
    device_receive_all(loop, now_ns);
    device_withdraw_ready(loop, true, now_ns);
}

static enum err stop_all(struct device_loop *loop, unsigned stop, uint64_t now_ns)
{
    struct gauges *gauges = loop->options.gauges;
    enum err err;

    give_up_ready(loop, now_ns);
    if (loop->finishing != stop)
        atomic_store_explicit(&gauges->stop_finished, 0, memory_order_relaxed);
    running_withdraw(&loop->running);
    err = device_settle(loop, now_ns);
    if (err)
        return err;
    atomic_store_explicit(&gauges->stop_kept,
                          atomic_load_explicit(&gauges->running, memory_order_relaxed),
                          memory_order_relaxed);
    device_save_and_hand_over(loop, true, now_ns);
    assert(running_is_empty(&loop->running) && !lanes_first(&loop->lanes));
    loop->idle = true;
    atomic_store_explicit(&gauges->stopped_ns, now_ns, memory_order_relaxed);
    suspects_halt(&loop->suspects);
    recorder_apart(loop->options.recorder, 0);
    device_cut(loop, stop, now_ns);
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

    if (now_ns >= until_ns || loop->failed || running_is_empty(&loop->running))
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
    err = device_feed_some(loop, now_ns, &holds);
    if (!err)
        err = FAILPOINT_CALL("step", ERR_DEVICE, engine_step(loop->engine, &info));
    if (err)
        return err;
    worker_count_step(&info);
    loop->idle = info.idle;
    pace_note(&loop->pace, info.steps, info.idle, now_ns);
    loop->told.sampled += info.tokens;
    device_collect(loop, now_ns);
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
    bool works;
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
    device_receive(loop, now_ns);
    if (stop != loop->answered) {
        if (!goes_on(loop, stop, now_ns))
            return stop_all(loop, stop, now_ns);
        give_up_ready(loop, now_ns);
    }
    *ret_rest = true;
    works = !loop->failed && (orders_is_go(order) || stop != loop->answered);
    if (works) {
        device_withdraw_unwanted(loop, now_ns);
        err = step(loop, now_ns);
        if (err && err != ERR_AGAIN)
            return err;
        *ret_rest = err == ERR_AGAIN;
        err = device_cut_when_due(loop, now_ns);
        if (err)
            return err;
    }
    show_progress(loop, works, now_ns);
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

/* The device failed. What it gave before is saved by the stop that control orders when it hears. */
static void fail_device(struct device_loop *loop, enum err err)
{
    log_error("device.failed",
              "code=%s running=%u msg=\"nothing is launched any more; what was taken in before is "
              "saved for others\"",
              err_name(err), atomic_load(&loop->options.gauges->running));
    loop->failed = true;
    loop->options.on_failed(loop->options.context, err);
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
    while (loop->engine && !atomic_load_explicit(&loop->quit, memory_order_acquire)) {
        err = turn(loop, rest, &rest);
        if (err)
            fail_device(loop, err);
    }
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
