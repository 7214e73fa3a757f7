/* deliver.c: the loop that sends, and the start and the end of both threads. */
#include "scheduler/deliver_internal.h"

#include "config/clock.h"
#include "config/failpoint.h"
#include "config/log.h"
#include "config/metrics.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

enum { OTHER_FDS = 256 };

/* --------------------------------------------------------------------------------- the lists ---- */

void parcels_add(struct parcels *list, struct parcel *parcel)
{
    parcel->next = NULL;
    parcel->before = list->last;
    *(list->last ? &list->last->next : &list->first) = parcel;
    list->last = parcel;
    list->count++;
}

void parcels_take_out(struct parcels *list, struct parcel *parcel)
{
    *(parcel->before ? &parcel->before->next : &list->first) = parcel->next;
    *(parcel->next ? &parcel->next->before : &list->last) = parcel->before;
    list->count--;
}

void parcels_free(struct parcels *list)
{
    while (list->first) {
        struct parcel *parcel = list->first;

        parcels_take_out(list, parcel);
        parcel_free(parcel);
    }
}

/* ---------------------------------------------------------------------------------- the loop ---- */

void deliver_wake_clerk(struct deliver *deliver)
{
    uint64_t one = 1;
    ssize_t written = write(deliver->wake_clerk, &one, sizeof(one));

    (void)written; /* a counter that is full wakes as well */
}

static void give_back(struct deliver *deliver, struct parcel *parcel)
{
    parcels_take_out(&deliver->post.sending, parcel);
    pthread_mutex_lock(&deliver->lock);
    parcels_add(&deliver->ended, parcel);
    pthread_mutex_unlock(&deliver->lock);
    deliver_wake_clerk(deliver);
}

static void on_answered_cb(void *context, const struct sender_answer *answer)
{
    struct parcel *parcel = context;

    metrics_observe(METRIC_WEBHOOK_DURATION, answer->took_ns);
    parcel_answer(parcel, answer, (int64_t)(clock_wall_ms() / 1000), clock_mono_ns());
    if (answer->why == NULL)
        FAILPOINT("webhook.answered");
    give_back(parcel->owner, parcel);
}

static void send_one(struct deliver *deliver, struct parcel *parcel)
{
    struct sender_request request;

    parcel->owner = deliver;
    parcels_add(&deliver->post.sending, parcel);
    if (!deliver->post.sender) {
        parcel_release(parcel, 0, clock_mono_ns());
        give_back(deliver, parcel);
        return;
    }
    parcel_sign(parcel, (int64_t)(clock_wall_ms() / 1000), &request);
    sender_send(deliver->post.sender, &request, on_answered_cb, parcel);
}

static struct parcels take_to_send(struct deliver *deliver)
{
    struct parcels taken;

    pthread_mutex_lock(&deliver->lock);
    taken = deliver->to_send;
    deliver->to_send = (struct parcels){0};
    pthread_mutex_unlock(&deliver->lock);
    return taken;
}

static void abandon_all(struct deliver *deliver)
{
    struct post *post = &deliver->post;

    sender_close(post->sender);
    post->sender = NULL;
    while (post->sending.first) {
        parcel_release(post->sending.first, 0, clock_mono_ns());
        give_back(deliver, post->sending.first);
    }
}

static void on_wake_cb(uv_async_t *async)
{
    struct deliver *deliver = async->data;
    struct parcels taken = take_to_send(deliver);

    while (taken.first) {
        struct parcel *parcel = taken.first;

        parcels_take_out(&taken, parcel);
        send_one(deliver, parcel);
    }
    if (atomic_load(&deliver->is_abandoned))
        abandon_all(deliver);
    if (atomic_load(&deliver->is_over))
        uv_close((uv_handle_t *)async, NULL); /* the last handle: the loop ends */
}

static void *run_post(void *arg)
{
    struct deliver *deliver = arg;

    uv_run(&deliver->post.loop, UV_RUN_DEFAULT);
    return NULL;
}

/* -------------------------------------------------------------------------- beginning and end ---- */

/* A connection is a descriptor, and one that is kept open for the next event is one too. */
static void raise_limit(uint32_t connections)
{
    rlim_t wanted = 2 * (rlim_t)connections + OTHER_FDS;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < wanted)
        log_warn("webhook.few_descriptors", "limit=%lu wanted=%lu", (unsigned long)limit.rlim_cur,
                 (unsigned long)wanted);
}

static enum err prepare(struct deliver *deliver)
{
    const struct settings_webhook *settings = deliver->options.webhook;
    enum err rc = delivery_schedule_parse(settings->retries.item, settings->retries.count,
                                          &deliver->schedule);

    if (!rc)
        rc = seal_open(settings->key_file, &deliver->seal);
    if (!rc)
        rc = sender_open(&deliver->post.loop, settings, &deliver->post.sender);
    if (!rc) {
        deliver->wake_clerk = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (deliver->wake_clerk < 0)
            rc = fail(ERR_IO, "webhooks: eventfd: %s", strerror(errno));
    }
    return rc;
}

/* Runs the loop until what was closed is gone. */
static void deliver_free(struct deliver *deliver)
{
    sender_close(deliver->post.sender);
    if (!uv_is_closing((uv_handle_t *)&deliver->wake_post))
        uv_close((uv_handle_t *)&deliver->wake_post, NULL);
    uv_run(&deliver->post.loop, UV_RUN_DEFAULT);
    uv_loop_close(&deliver->post.loop);
    parcels_free(&deliver->to_send);
    parcels_free(&deliver->ended);
    parcels_free(&deliver->clerk.ended);
    if (deliver->wake_clerk >= 0)
        close(deliver->wake_clerk);
    seal_close(deliver->seal);
    pthread_mutex_destroy(&deliver->lock);
    free(deliver);
}

static void end_post(struct deliver *deliver)
{
    atomic_store(&deliver->is_abandoned, true);
    atomic_store(&deliver->is_over, true);
    uv_async_send(&deliver->wake_post);
    pthread_join(deliver->post_thread, NULL);
}

static enum err start_threads(struct deliver *deliver)
{
    if (pthread_create(&deliver->post_thread, NULL, run_post, deliver) != 0)
        return fail(ERR_MEMORY, "webhooks: a thread could not be started");
    if (pthread_create(&deliver->clerk_thread, NULL, clerk_run, deliver) == 0)
        return ERR_OK;
    end_post(deliver);
    return fail(ERR_MEMORY, "webhooks: a thread could not be started");
}

enum err deliver_start(const struct deliver_options *options, struct deliver **ret)
{
    struct deliver *deliver;
    enum err rc;

    *ret = NULL;
    if (!options->webhook->key_file[0]) {
        log_info("webhook.off", "why=\"webhook.key_file is not set\"");
        return ERR_OK;
    }
    deliver = xcalloc(1, sizeof(*deliver));
    deliver->options = *options;
    deliver->wake_clerk = -1;
    pthread_mutex_init(&deliver->lock, NULL);
    uv_loop_init(&deliver->post.loop);
    uv_async_init(&deliver->post.loop, &deliver->wake_post, on_wake_cb);
    deliver->wake_post.data = deliver;
    atomic_store(&deliver->moved_ns, clock_mono_ns());
    raise_limit(options->webhook->connections);
    rc = prepare(deliver);
    if (!rc)
        rc = start_threads(deliver);
    if (rc) {
        deliver_free(deliver);
        return rc;
    }
    log_info("webhook.on", "connections=%u attempts=%u", options->webhook->connections,
             deliver->schedule.count);
    *ret = deliver;
    return ERR_OK;
}

void deliver_stop(struct deliver *deliver)
{
    if (!deliver)
        return;
    atomic_store(&deliver->is_stopping, true);
    deliver_wake_clerk(deliver);
    pthread_join(deliver->clerk_thread, NULL);
    end_post(deliver);
    deliver_free(deliver);
}

void deliver_look(const struct deliver *deliver, struct deliver_health *ret)
{
    *ret = (struct deliver_health){
        .last = (enum err)atomic_load(&deliver->last),
        .good_ns = atomic_load(&deliver->good_ns),
        .moved_ns = atomic_load(&deliver->moved_ns),
    };
}
