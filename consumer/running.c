/* running.c: a list of tasks, and what each event of the engine makes of one. */
#include "consumer/running.h"

#include <stdlib.h>
#include <string.h>

static uint64_t tag_of(const struct task *task)
{
    return (uint64_t)(uintptr_t)task;
}

static void add(struct running *running, struct task *task)
{
    task->earlier = NULL;
    task->later = running->newest;
    if (running->newest)
        running->newest->earlier = task;
    running->newest = task;
    atomic_fetch_add_explicit(&running->gauges->running, 1, memory_order_relaxed);
}

static void take_out(struct running *running, struct task *task)
{
    if (task->earlier)
        task->earlier->later = task->later;
    else
        running->newest = task->later;
    if (task->later)
        task->later->earlier = task->earlier;
    atomic_fetch_sub_explicit(&running->gauges->running, 1, memory_order_relaxed);
}

/* The random bits of the id, and its time: two jobs at once have not the same. */
uint64_t running_group_of(struct uuid job)
{
    uint64_t half[2];

    memcpy(half, job.bytes, sizeof half);
    half[0] = half[0] * 0x9e3779b97f4a7c15u ^ half[1];
    return half[0] != 0 ? half[0] : 1;
}

enum err running_submit(struct running *running, struct task *task, uint64_t give_up_ns)
{
    struct engine_request request = {
        .tag = tag_of(task),
        .group = running_group_of(task->chunk->job->id),
        .kind = task->endpoint == ENDPOINT_EMBEDDINGS ? ENGINE_EMBED : ENGINE_GENERATE,
        .prompt = task->prompt,
        .prompt_len = task->prompt_len,
        .tokens_max = task->tokens_max,
        .sampling = task->sampling,
        .stop = task->stop,
        .stop_len = task->stop_len,
        .ignore_eos = task->ignore_eos,
        .include_stop = task->include_stop,
        .logprobs = task->logprobs,
        .resumed = task->resumed,
        .resumed_len = task->resumed_len,
        .resumed_logprobs = task->resumed_logprobs,
    };
    enum err err = engine_submit(running->engine, &request);

    if (err == ERR_AGAIN)
        return err;
    if (err) {
        task_fail(task, 400, "invalid_request_error", "context_length_exceeded",
                  "The prompt and the tokens asked for do not fit the model's context.", NULL);
        return err;
    }
    task->state = TASK_RUNNING;
    task->give_up_ns = give_up_ns;
    task_forget_input(task);
    add(running, task);
    task->slot = recorder_begin(running->recorder, task->chunk->job->id,
                                task->chunk->first_line + task->index, task->chunk->chunk,
                                task->attempt > 0 ? task->attempt : 1);
    return ERR_OK;
}

static void stop(struct running *running, struct task *task, enum task_stop why)
{
    task->stop_why = why;
    engine_cancel(running->engine, tag_of(task));
}

void running_withdraw(struct running *running)
{
    for (struct task *task = running->newest; task; task = task->later) {
        enum task_status status;

        if (task->stop_why != TASK_WITHDRAWN && task_is_unwanted(task, &status))
            stop(running, task, TASK_WITHDRAWN);
    }
}

bool running_is_leaving(const struct running *running)
{
    for (const struct task *task = running->newest; task; task = task->later)
        if (task->stop_why == TASK_GOES_ON && claim_chunk_is_leaving(task->chunk))
            return true;
    return false;
}

void running_hand_over(struct running *running, bool all)
{
    for (struct task *task = running->newest; task; task = task->later)
        if (task->stop_why == TASK_GOES_ON &&
            (all || (task->saved_tokens > 0 && claim_chunk_is_leaving(task->chunk))))
            stop(running, task,
                 !all && claim_job_is_held(task->chunk->job) ? TASK_HELD : TASK_HANDED_OVER);
}

void running_withdraw_late(struct running *running, uint64_t worked_ns)
{
    for (struct task *task = running->newest; task; task = task->later) {
        if (task->stop_why == TASK_GOES_ON && task->give_up_ns > 0 && worked_ns >= task->give_up_ns)
            stop(running, task, TASK_TIMED_OUT);
    }
}

static uint64_t tokens_left(const struct task *task, const struct pace *pace)
{
    uint64_t wanted = task->endpoint == ENDPOINT_EMBEDDINGS ? 1 : task->tokens_max;
    uint64_t has = task->generated + (pace->steps - task->generated_at);

    return wanted > has ? wanted - has : 1;
}

bool running_any_fits(const struct running *running, const struct pace *pace, uint64_t left_ns)
{
    for (const struct task *task = running->newest; task; task = task->later) {
        if (task->stop_why == TASK_GOES_ON &&
            pace_takes_ns(pace, tokens_left(task, pace)) <= left_ns)
            return true;
    }
    return false;
}

static void end_cancelled(struct task *task)
{
    enum task_status status;

    if (task->stop_why == TASK_TIMED_OUT) {
        task_fail(task, 0, NULL, "request_timeout",
                  "The request ran longer than its tier's time limit.", NULL);
        return;
    }
    if (task->stop_why == TASK_HANDED_OVER || task->stop_why == TASK_HELD ||
        !task_is_unwanted(task, &status))
        status = TASK_DROPPED;
    task_withdraw(task, status);
}

struct task *running_end(struct running *running, const struct engine_event *event)
{
    struct task *task = running_task_of(event->tag);

    take_out(running, task);
    task->cost = event->cost;
    recorder_ended(running->recorder, task->slot, event->cost.output_tokens, event->cost.ns,
                   event->cost.recompute_ns);
    switch (event->finish) {
    case ENGINE_STOP:
    case ENGINE_LENGTH:
        task_finish(task, event, engine_model(running->engine)->embedding_len);
        break;
    case ENGINE_CANCELLED:
        end_cancelled(task);
        break;
    case ENGINE_NUMERIC:
        task_fail(task, 500, "server_error", "numeric_error",
                  "The model's output was not a number.", NULL);
        break;
    }
    return task;
}

void running_release(struct running *running)
{
    while (running->newest) {
        struct task *task = running->newest;

        take_out(running, task);
        task_free(task);
    }
}
