/* device_loop.c: one turn after the other; what a turn does is in the functions from the top down. */
#include "consumer/device_loop.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "config/clock.h"
#include "config/log.h"
#include "consumer/batch.h"
#include "consumer/task.h"

enum { REST_MS = 50, LOOK_AT_LIMITS_NS = 100 * 1000 * 1000 };

/* The ready tasks of one job. Lanes stand in a ring; the next one in turn is served next. */
struct lane {
    struct lane *next;
    struct claim_job *job;
    struct mail_list tasks;
};

struct device_loop {
    struct device_loop_options options;
    struct mailbox mailbox;
    pthread_t thread;
    bool started;
    atomic_bool quit;
    struct engine *engine;
    uint32_t embedding_len;

    struct mail_list inbox; /* arrived and not yet looked at */
    struct lane *turn;      /* last lane of the ring: its next is served next; NULL: none ready */
    struct task *running;   /* in the engine, newest first */
    struct batch *open;
    unsigned changes_seen;
    uint64_t limits_seen_ns;
    uint64_t cut_ns; /* monotonic: when the last batch was cut */
    bool idle;       /* the engine had nothing to do in the last turn */
    bool stopped;    /* the last batch of DEVICE_STOP was cut */
};

/* ------------------------------------------------------------------------------ ready tasks ---- */

static struct lane *find_lane(struct device_loop *loop, struct claim_job *job)
{
    struct lane *lane = loop->turn;

    if (!lane)
        return NULL;
    do {
        if (lane->job == job)
            return lane;
        lane = lane->next;
    } while (lane != loop->turn);
    return NULL;
}

/* A new lane comes last in the ring, so it waits for one request of each other job at most. */
static struct lane *add_lane(struct device_loop *loop, struct claim_job *job)
{
    struct lane *lane = xcalloc(1, sizeof *lane);

    lane->job = claim_job_hold(job);
    if (loop->turn) {
        lane->next = loop->turn->next;
        loop->turn->next = lane;
    } else {
        lane->next = lane;
    }
    loop->turn = lane;
    return lane;
}

/* Takes the lane behind `before` out of the ring. */
static void remove_lane(struct device_loop *loop, struct lane *before)
{
    struct lane *lane = before->next;

    assert(!lane->tasks.first);
    if (lane == before) {
        loop->turn = NULL;
    } else {
        before->next = lane->next;
        if (loop->turn == lane)
            loop->turn = before;
    }
    claim_job_release(lane->job);
    free(lane);
}

static void count_taken(struct device_loop *loop, const struct task *task)
{
    struct gauges *gauges = loop->options.gauges;

    atomic_fetch_sub_explicit(&gauges->ready_requests, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&gauges->ready_bytes, task->bytes, memory_order_relaxed);
}

static void end_task(struct device_loop *loop, struct task *task, uint64_t now_ns)
{
    assert(task->state == TASK_ENDED);
    if (!task->return_token_ids) {
        free(task->prompt);
        task->prompt = NULL;
    }
    batch_add(loop->open, task, now_ns);
}

/* Tasks that were born ended pass by the lanes; they wait when too many results do. */
static void receive(struct device_loop *loop, uint64_t now_ns)
{
    while (loop->inbox.first && loop->open->count < loop->options.results_max) {
        struct task *task = task_of(mail_list_next(&loop->inbox));
        struct lane *lane;

        if (task->state == TASK_ENDED) {
            count_taken(loop, task);
            end_task(loop, task, now_ns);
            continue;
        }
        lane = find_lane(loop, task->chunk->job);
        if (!lane)
            lane = add_lane(loop, task->chunk->job);
        mail_list_add(&lane->tasks, &task->mail);
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

/* ---------------------------------------------------------------------------- running tasks ---- */

static void run_link(struct device_loop *loop, struct task *task)
{
    task->earlier = NULL;
    task->later = loop->running;
    if (loop->running)
        loop->running->earlier = task;
    loop->running = task;
    atomic_fetch_add_explicit(&loop->options.gauges->running, 1, memory_order_relaxed);
}

static void run_unlink(struct device_loop *loop, struct task *task)
{
    if (task->earlier)
        task->earlier->later = task->later;
    else
        loop->running = task->later;
    if (task->later)
        task->later->earlier = task->earlier;
    atomic_fetch_sub_explicit(&loop->options.gauges->running, 1, memory_order_relaxed);
}

static enum err submit(struct device_loop *loop, struct task *task)
{
    struct engine_request request = {
        .tag = (uint64_t)(uintptr_t)task,
        .kind = task->endpoint == ENDPOINT_EMBEDDINGS ? ENGINE_EMBED : ENGINE_GENERATE,
        .prompt = task->prompt,
        .prompt_len = task->prompt_len,
        .tokens_max = task->tokens_max,
        .sampling = task->sampling,
        .stop = task->stop,
        .stop_len = task->stop_len,
        .ignore_eos = task->ignore_eos,
        .include_stop = task->include_stop,
    };

    return engine_submit(loop->engine, &request);
}

static void launch(struct device_loop *loop, struct task *task, uint64_t now_ns)
{
    task->state = TASK_RUNNING;
    if (loop->options.request_time_limit_ns > 0)
        task->give_up_ns = now_ns + loop->options.request_time_limit_ns;
    if (!task->return_token_ids) {
        free(task->prompt);
        task->prompt = NULL;
    }
    run_link(loop, task);
}

/* One request of each job in turn, until the engine is full or nothing is ready. */
static void feed(struct device_loop *loop, uint64_t now_ns)
{
    while (loop->turn) {
        struct lane *lane = loop->turn->next;
        struct task *task = task_of(lane->tasks.first);
        enum err err = submit(loop, task);

        if (err == ERR_AGAIN)
            return;
        mail_list_next(&lane->tasks);
        count_taken(loop, task);
        if (err) {
            task_fail(task, 400, "invalid_request_error", "context_length_exceeded",
                      "The prompt and the tokens asked for do not fit the model's context.", NULL);
            end_task(loop, task, now_ns);
        } else {
            launch(loop, task, now_ns);
        }
        if (lane->tasks.first)
            loop->turn = lane;
        else
            remove_lane(loop, loop->turn);
    }
}

/* ------------------------------------------------------------------------- taking tasks out ---- */

/* What becomes of a task that nobody waits for any more; false: it is still wanted. */
static bool is_unwanted(const struct task *task, bool stopping, enum task_status *ret)
{
    enum wish wish = claim_job_wish(task->chunk->job);

    if (stopping || claim_chunk_is_dropped(task->chunk) ||
        (task->state == TASK_READY && claim_chunk_is_leaving(task->chunk)))
        *ret = TASK_DROPPED;
    else if (wish == WISH_CANCEL)
        *ret = TASK_CANCELLED;
    else if (wish == WISH_EXPIRE)
        *ret = TASK_EXPIRED;
    else
        return false;
    return true;
}

static void withdraw_lane(struct device_loop *loop, struct lane *lane, bool stopping,
                          uint64_t now_ns)
{
    struct mail_list kept = {0};
    struct mail *mail;

    while ((mail = mail_list_next(&lane->tasks))) {
        struct task *task = task_of(mail);
        enum task_status status;

        if (is_unwanted(task, stopping, &status)) {
            count_taken(loop, task);
            task_withdraw(task, status);
            end_task(loop, task, now_ns);
        } else {
            mail_list_add(&kept, &task->mail);
        }
    }
    lane->tasks = kept;
}

/* A round that never stops at a lane which it has just taken out. */
static void withdraw_ready(struct device_loop *loop, bool stopping, uint64_t now_ns)
{
    struct lane *before = loop->turn;
    uint32_t lanes = 0;

    if (!before)
        return;
    for (struct lane *lane = before->next; lane != before; lane = lane->next)
        lanes++;
    for (uint32_t i = 0; i <= lanes && loop->turn; i++) {
        struct lane *lane = before->next;

        withdraw_lane(loop, lane, stopping, now_ns);
        if (lane->tasks.first)
            before = lane;
        else
            remove_lane(loop, before);
    }
}

static void withdraw_running(struct device_loop *loop, bool stopping)
{
    for (struct task *task = loop->running; task; task = task->later) {
        enum task_status status;

        if (task->stop_why == TASK_WITHDRAWN || !is_unwanted(task, stopping, &status))
            continue;
        task->stop_why = TASK_WITHDRAWN;
        engine_cancel(loop->engine, (uint64_t)(uintptr_t)task);
    }
}

static void withdraw_late(struct device_loop *loop, uint64_t now_ns)
{
    for (struct task *task = loop->running; task; task = task->later) {
        if (task->stop_why != TASK_GOES_ON || task->give_up_ns == 0 || now_ns < task->give_up_ns)
            continue;
        task->stop_why = TASK_TIMED_OUT;
        engine_cancel(loop->engine, (uint64_t)(uintptr_t)task);
    }
}

static void withdraw_unwanted(struct device_loop *loop, uint64_t now_ns)
{
    unsigned changes = atomic_load_explicit(&loop->options.gauges->changes, memory_order_acquire);

    if (changes != loop->changes_seen) {
        loop->changes_seen = changes;
        withdraw_ready(loop, false, now_ns);
        withdraw_running(loop, false);
    }
    if (now_ns - loop->limits_seen_ns >= LOOK_AT_LIMITS_NS) {
        loop->limits_seen_ns = now_ns;
        withdraw_late(loop, now_ns);
    }
}

/* ------------------------------------------------------------------------- finished requests ---- */

static void end_cancelled(struct task *task)
{
    enum task_status status;

    if (task->stop_why == TASK_TIMED_OUT) {
        task_fail(task, 0, NULL, "request_timeout",
                  "The request ran longer than its tier's time limit.", NULL);
        return;
    }
    if (!is_unwanted(task, false, &status))
        status = TASK_DROPPED; /* the worker leaves; somebody else will run it */
    task_withdraw(task, status);
}

static void end_event(struct device_loop *loop, const struct engine_event *event, uint64_t now_ns)
{
    struct task *task = (struct task *)(uintptr_t)event->tag;

    run_unlink(loop, task);
    task->cost = event->cost;
    switch (event->finish) {
    case ENGINE_STOP:
    case ENGINE_LENGTH:
        task_finish(task, event, loop->embedding_len);
        break;
    case ENGINE_CANCELLED:
        end_cancelled(task);
        break;
    case ENGINE_NUMERIC:
        task_fail(task, 500, "server_error", "numeric_error",
                  "The model's output was not a number.", NULL);
        break;
    }
    end_task(loop, task, now_ns);
}

static void collect(struct device_loop *loop, uint64_t now_ns)
{
    struct engine_event event;

    while (engine_poll(loop->engine, &event))
        end_event(loop, &event, now_ns);
}

/* ------------------------------------------------------------------------------------ cuts ---- */

static void cut(struct device_loop *loop, bool last, uint64_t now_ns)
{
    struct batch *batch = loop->open;
    struct engine_checkpoint live;
    uint32_t cursor = 0;

    if (loop->idle)
        engine_idle(loop->engine);
    engine_books(loop->engine, &batch->books);
    while (engine_checkpoint(loop->engine, &cursor, &live)) {
        const struct task *task = (const struct task *)(uintptr_t)live.tag;

        if (live.cost_ns > 0)
            batch_add_wip(batch, task->chunk->job->id, live.cost_ns);
    }
    batch->last = last;
    loop->open = batch_new();
    loop->cut_ns = now_ns;
    atomic_fetch_add_explicit(&loop->options.gauges->batches_waiting, 1, memory_order_relaxed);
    mailbox_post(loop->options.batches, &batch->mail);
}

static bool is_due(const struct device_loop *loop, uint64_t now_ns)
{
    const struct batch *open = loop->open;

    if (atomic_load_explicit(&loop->options.gauges->batches_waiting, memory_order_relaxed) > 0)
        return false;
    if (open->count == 0)
        return now_ns - loop->cut_ns >= loop->options.ledger_interval_ns;
    return open->count >= loop->options.commit_rows ||
           now_ns - open->first_ns >= loop->options.commit_interval_ns;
}

/* What is in flight is taken in first, so that the books and the live costs are of one moment. */
static enum err cut_when_due(struct device_loop *loop, uint64_t now_ns)
{
    enum err err;

    if (!is_due(loop, now_ns))
        return ERR_OK;
    err = engine_flush(loop->engine);
    if (err)
        return err;
    collect(loop, now_ns);
    cut(loop, false, now_ns);
    return ERR_OK;
}

/* ---------------------------------------------------------------------------------- a turn ---- */

static void show_progress(struct device_loop *loop)
{
    struct gauges *gauges = loop->options.gauges;
    struct engine_books books;

    engine_books(loop->engine, &books);
    atomic_store_explicit(&gauges->held_ns, books.held_ns, memory_order_relaxed);
    atomic_fetch_add_explicit(&gauges->device_moves, 1, memory_order_relaxed);
}

static enum err stop_all(struct device_loop *loop, uint64_t now_ns)
{
    enum err err;

    receive_all(loop, now_ns);
    withdraw_ready(loop, true, now_ns);
    withdraw_running(loop, true);
    err = engine_flush(loop->engine);
    if (err)
        return err;
    collect(loop, now_ns);
    assert(!loop->running && !loop->turn);
    loop->idle = true;
    cut(loop, true, now_ns);
    loop->stopped = true;
    return ERR_OK;
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
    enum err err;

    if (!may_launch(loop, now_ns))
        return ERR_AGAIN;
    feed(loop, now_ns);
    err = engine_step(loop->engine, &info);
    if (err)
        return err;
    loop->idle = info.idle;
    collect(loop, now_ns);
    return info.idle && !loop->turn ? ERR_AGAIN : ERR_OK;
}

static enum err turn(struct device_loop *loop, bool rest, bool *ret_rest)
{
    struct gauges *gauges = loop->options.gauges;
    struct mail_list arrived =
        rest ? mailbox_wait(&loop->mailbox, REST_MS) : mailbox_take(&loop->mailbox);
    uint64_t now_ns = clock_mono_ns();
    bool go = atomic_load_explicit(&gauges->order, memory_order_acquire) == DEVICE_GO;
    unsigned ready = atomic_load_explicit(&gauges->ready_requests, memory_order_relaxed);
    enum err err;

    if (loop->idle)
        engine_idle(loop->engine);
    mail_list_append(&loop->inbox, &arrived);
    receive(loop, now_ns);
    if (go)
        loop->stopped = false;
    else if (!loop->stopped)
        return stop_all(loop, now_ns);
    *ret_rest = true;
    if (!loop->stopped) {
        withdraw_unwanted(loop, now_ns);
        err = step(loop, now_ns);
        if (err && err != ERR_AGAIN)
            return err;
        *ret_rest = err == ERR_AGAIN;
        err = cut_when_due(loop, now_ns);
        if (err)
            return err;
    }
    show_progress(loop);
    if (atomic_load_explicit(&gauges->ready_requests, memory_order_relaxed) < ready)
        loop->options.on_room(loop->options.context);
    return ERR_OK;
}

static void *run(void *argument)
{
    struct device_loop *loop = argument;
    bool rest = false;
    enum err err = engine_open(&loop->options.engine, &loop->engine);

    if (!err)
        loop->embedding_len = engine_model(loop->engine)->embedding_len;
    loop->cut_ns = clock_mono_ns();
    loop->options.on_opened(loop->options.context, err);
    while (!err && !atomic_load_explicit(&loop->quit, memory_order_acquire))
        err = turn(loop, rest, &rest);
    if (err && loop->engine)
        loop->options.on_failed(loop->options.context, err);
    return NULL;
}

/* --------------------------------------------------------------------------------- outside ---- */

enum err device_loop_start(const struct device_loop_options *options, struct device_loop **ret)
{
    struct device_loop *loop = xcalloc(1, sizeof *loop);
    int failed;

    loop->options = *options;
    loop->open = batch_new();
    loop->stopped = true; /* until DEVICE_GO */
    mailbox_init(&loop->mailbox, -1);
    atomic_init(&loop->quit, false);
    failed = pthread_create(&loop->thread, NULL, run, loop);
    if (failed) {
        device_loop_stop(loop);
        return fail(ERR_MEMORY, "the device thread could not be started: %s", strerror(failed));
    }
    loop->started = true;
    pthread_setname_np(loop->thread, "device");
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

static void free_ready(struct device_loop *loop)
{
    struct mail_list arrived = mailbox_take(&loop->mailbox);
    struct mail *mail;

    mail_list_append(&loop->inbox, &arrived);
    while ((mail = mail_list_next(&loop->inbox)))
        task_free(task_of(mail));
    while (loop->turn) {
        while ((mail = mail_list_next(&loop->turn->next->tasks)))
            task_free(task_of(mail));
        remove_lane(loop, loop->turn);
    }
}

void device_loop_stop(struct device_loop *loop)
{
    if (!loop)
        return;
    atomic_store_explicit(&loop->quit, true, memory_order_release);
    if (loop->started) {
        mailbox_ring(&loop->mailbox);
        pthread_join(loop->thread, NULL);
    }
    free_ready(loop);
    while (loop->running) {
        struct task *task = loop->running;

        run_unlink(loop, task);
        task_free(task);
    }
    engine_close(loop->engine);
    batch_free(loop->open);
    mailbox_release(&loop->mailbox);
    free(loop);
}
