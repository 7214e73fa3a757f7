/*
 * running.h: the tasks that are in the engine, from submission to the event that ends them.
 *
 * Device thread only. The engine knows a task by its address, as the request's tag.
 */
#ifndef MSERVE_CONSUMER_RUNNING_H
#define MSERVE_CONSUMER_RUNNING_H

#include "consumer/gauges.h"
#include "consumer/pace.h"
#include "consumer/recorder.h"
#include "consumer/task.h"
#include "kernels/engine.h"

#include <stdbool.h>
#include <stdint.h>

struct running {
    struct engine *engine;     /* borrowed */
    struct gauges *gauges;     /* `running` is counted there; borrowed */
    struct recorder *recorder; /* NULL: nothing is recorded; borrowed */
    struct task *newest;       /* NULL: none runs */
};

static inline bool running_is_empty(const struct running *running)
{
    return !running->newest;
}

/*
 * Gives the task to the engine. ERR_AGAIN: the engine is full. ERR_LIMIT: it can never run; the task
 * has failed. `give_up_ns`: after it running_withdraw_late() takes it out; 0: never.
 */
enum err running_submit(struct running *running, struct task *task, uint64_t give_up_ns);

/* A job's number as a group of requests, by which the engine knows what they have in common. */
uint64_t running_group_of(struct uuid job);

/* Takes out what nobody wants any more; their events come as any other's. */
void running_withdraw(struct running *running);
void running_withdraw_late(struct running *running, uint64_t worked_ns);

/* Whether there is one that will be done in that time, had it every token it may have. */
bool running_any_fits(const struct running *running, const struct pace *pace, uint64_t left_ns);

/*
 * Takes out what is to go on elsewhere, or later: all of it, or of partitions that are leaving and of
 * jobs that are held what has a checkpoint. Nothing of it is in flight; it ends as TASK_DROPPED.
 */
void running_hand_over(struct running *running, bool all);
bool running_is_leaving(const struct running *running); /* some of it is to go on elsewhere */

/* The task that the event is for, ended with its outcome and its cost. */
struct task *running_end(struct running *running, const struct engine_event *event);

static inline struct task *running_task_of(uint64_t tag)
{
    return (struct task *)(uintptr_t)tag;
}

/* Frees the tasks; the engine is not told. */
void running_release(struct running *running);

#endif
