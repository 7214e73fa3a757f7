/*
 * queue.c: operations wait in a ring; one thread does them in order and keeps the time.
 *
 * The caller writes commands and publishes them all at once; the worker takes the lock only when it
 * has done what it knew of. Time is read between commands, so every nanosecond of a step is in one
 * part; waiting for sample() in the middle of a step counts as fixed. A step that was ready when the
 * one before ended begins at that end, to the nanosecond; any other when the worker turns to it.
 */
#include "kernels/host/host.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

/* The worker's own. */
struct watch {
    struct host_step *step;
    uint64_t at_ns; /* up to here, time is in a part */
};

uint64_t queue_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void charge(struct watch *watch, enum part part)
{
    uint64_t now = queue_clock_ns();

    watch->step->part_ns[part] += now - watch->at_ns;
    watch->at_ns = now;
}

static enum part part_of(const struct command *command)
{
    switch (command->kind) {
    case COMMAND_START:
        return PART_FIXED;
    case COMMAND_ATTN:
        return PART_ATTENTION;
    case COMMAND_LINEAR:
        return command->out == ACT_LOGITS ? PART_HEAD : PART_LINEAR;
    case COMMAND_POOL:
    case COMMAND_GATHER:
    case COMMAND_SAMPLE:
    case COMMAND_END:
        return PART_HEAD;
    default:
        return PART_LINEAR;
    }
}

static void finish_step(struct backend *backend, struct watch *watch)
{
    watch->step->end_ns = watch->at_ns;
    pthread_mutex_lock(&backend->queue.lock);
    watch->step->done = true;
    pthread_cond_signal(&backend->queue.finished);
    pthread_mutex_unlock(&backend->queue.lock);
}

/* `waited`: the worker had nothing to do before this command. */
static void work(struct backend *backend, const struct command *command, bool waited,
                 struct watch *watch)
{
    if (command->kind == COMMAND_START) {
        watch->step = &backend->steps[command->slot];
        if (watch->step->ready_ns > watch->at_ns)
            watch->at_ns = queue_clock_ns();
        watch->step->begin_ns = watch->at_ns;
        for (int part = 0; part < PART_COUNT; part++)
            watch->step->part_ns[part] = 0;
    } else if (waited) {
        charge(watch, PART_FIXED);
    }
    run_command(backend, command);
    charge(watch, part_of(command));
    if (command->kind == COMMAND_END)
        finish_step(backend, watch);
}

/* Waits until more is published than `done` commands; false when the queue stops. */
static bool wait_for_more(struct queue *queue, uint64_t done, uint64_t *ret_published,
                          bool *ret_waited)
{
    bool stop;

    pthread_mutex_lock(&queue->lock);
    *ret_waited = queue->published == done;
    while (queue->published == done && !queue->stop)
        pthread_cond_wait(&queue->submitted, &queue->lock);
    *ret_published = queue->published;
    stop = queue->stop;
    pthread_mutex_unlock(&queue->lock);
    return !stop;
}

static void *run_worker(void *arg)
{
    struct backend *backend = arg;
    struct queue *queue = &backend->queue;
    struct watch watch = {0};
    uint64_t done = 0, published = 0;
    bool waited = false;

    team_join(backend->team);
    while (done < published || wait_for_more(queue, done, &published, &waited)) {
        work(backend, &queue->ring[done % queue->ring_len], waited, &watch);
        waited = false;
        done++;
    }
    return NULL;
}

void queue_start(struct backend *backend)
{
    struct queue *queue = &backend->queue;
    uint32_t picks = backend->limits.sequences_max / HOST_PICKED_MAX + 1;

    queue->ring_len = DEVICE_STEPS * (backend->hyper.layers * 9 + picks * 3 + 5);
    queue->ring = xcalloc(queue->ring_len, sizeof(*queue->ring));
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->submitted, NULL);
    pthread_cond_init(&queue->finished, NULL);
    queue->running = pthread_create(&queue->worker, NULL, run_worker, backend) == 0;
}

void queue_stop(struct backend *backend)
{
    struct queue *queue = &backend->queue;

    if (queue->ring == NULL)
        return;
    pthread_mutex_lock(&queue->lock);
    queue->stop = true;
    pthread_cond_signal(&queue->submitted);
    pthread_mutex_unlock(&queue->lock);
    if (queue->running)
        pthread_join(queue->worker, NULL);
    pthread_cond_destroy(&queue->finished);
    pthread_cond_destroy(&queue->submitted);
    pthread_mutex_destroy(&queue->lock);
    free(queue->ring);
}

void queue_add(struct backend *backend, struct command command)
{
    struct queue *queue = &backend->queue;

    if (command.kind == COMMAND_START)
        backend->steps[command.slot].ready_ns = queue_clock_ns();
    queue->ring[queue->written++ % queue->ring_len] = command;
}

void queue_submit(struct backend *backend)
{
    struct queue *queue = &backend->queue;

    pthread_mutex_lock(&queue->lock);
    queue->published = queue->written;
    pthread_cond_signal(&queue->submitted);
    pthread_mutex_unlock(&queue->lock);
}

static struct timespec deadline(int timeout_ms)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += timeout_ms % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    return until;
}

static bool wait_for_step(struct queue *queue, const struct host_step *step, int timeout_ms)
{
    struct timespec until = deadline(timeout_ms > 0 ? timeout_ms : 0);
    bool late = timeout_ms == 0;
    bool done;

    pthread_mutex_lock(&queue->lock);
    while (!step->done && !late)
        if (timeout_ms < 0)
            pthread_cond_wait(&queue->finished, &queue->lock);
        else
            late = pthread_cond_clockwait(&queue->finished, &queue->lock, CLOCK_MONOTONIC,
                                          &until) == ETIMEDOUT;
    done = step->done;
    pthread_mutex_unlock(&queue->lock);
    return done;
}

enum err queue_done(struct backend *backend, unsigned slot, int timeout_ms, struct step_result *ret)
{
    const struct host_step *step = &backend->steps[slot];

    if (!wait_for_step(&backend->queue, step, timeout_ms))
        return ERR_AGAIN;
    *ret = (struct step_result){
        .token = step->sampled.token,
        .embedding = step->sampled.embedding,
        .logprob = step->sampled.logprob,
        .bad = step->sampled.bad,
        .begin_ns = step->begin_ns,
        .end_ns = step->end_ns,
    };
    for (int part = 0; part < PART_COUNT; part++)
        ret->part_ns[part] = step->part_ns[part];
    return ERR_OK;
}
