/* intake.c: the thread that serves the sources, one for each partition, in turn. */
#include "consumer/intake.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "config/clock.h"
#include "config/log.h"
#include "consumer/orders.h"
#include "consumer/source.h"
#include "consumer/task.h"

enum { REST_MS = 100 };

/* A partition that this worker had a chunk of. */
struct reading {
    struct reading *next;
    struct source *source;
};

struct tell {
    struct mail mail;
    int32_t part;
    int64_t offset;
};

struct intake {
    struct intake_options options;
    pthread_t thread;
    bool started;
    int event_fd;
    struct mailbox chunks;
    struct mailbox tells;
    atomic_bool quit;
    struct orders orders;
    unsigned answered; /* the last stop after which all was let go */

    struct source_tools tools;
    struct reading *readings;
};

/* Told to stop, and not yet stopped. */
static bool owes_answer(const struct intake *intake)
{
    return orders_last_stop(orders_given(&intake->orders)) != intake->answered;
}

static bool must_leave(void *context)
{
    const struct intake *intake = context;

    return atomic_load_explicit(&intake->quit, memory_order_acquire) || owes_answer(intake);
}

static void on_chunk_read(void *context)
{
    const struct intake *intake = context;

    intake->options.on_chunk_read(intake->options.context);
}

/* -------------------------------------------------------------------------------- the loop ---- */

static struct source *source_of(struct intake *intake, int32_t part)
{
    struct reading **at = &intake->readings;

    while (*at && source_part((*at)->source) != part)
        at = &(*at)->next;
    if (!*at) {
        *at = xcalloc(1, sizeof **at);
        (*at)->source = source_new(part);
    }
    return (*at)->source;
}

static void take_orders(struct intake *intake)
{
    struct mail_list arrived = mailbox_take(&intake->chunks);
    struct mail *mail;

    while ((mail = mail_list_next(&arrived))) {
        struct claim_chunk *chunk = (struct claim_chunk *)mail;

        source_add(source_of(intake, chunk->partition->part), chunk);
    }
    arrived = mailbox_take(&intake->tells);
    while ((mail = mail_list_next(&arrived))) {
        const struct tell *tell = (struct tell *)mail;

        log_reader_commit(intake->tools.reader, tell->part, tell->offset);
        free(mail);
    }
}

static void let_all_go(struct intake *intake)
{
    for (struct reading *reading = intake->readings; reading; reading = reading->next)
        source_let_go(reading->source, &intake->tools);
}

static void rest(struct intake *intake)
{
    struct pollfd wait = {.fd = intake->event_fd, .events = POLLIN};
    uint64_t count;

    if (poll(&wait, 1, REST_MS) > 0 && read(intake->event_fd, &count, sizeof count) < 0)
        return;
}

static void halt_or_go(struct intake *intake)
{
    unsigned order = orders_given(&intake->orders);
    unsigned stop = orders_last_stop(order);

    if (!orders_is_go(order) || stop != intake->answered)
        let_all_go(intake);
    if (stop == intake->answered)
        return;
    intake->answered = stop;
    intake->options.on_stopped(intake->options.context, stop);
}

static bool turn(struct intake *intake)
{
    uint64_t now_ns = clock_mono_ns();
    bool moved = false;

    take_orders(intake);
    halt_or_go(intake);
    log_reader_serve(intake->tools.reader);
    for (struct reading *reading = intake->readings; reading; reading = reading->next) {
        if (owes_answer(intake))
            return true;
        if (source_serve(reading->source, &intake->tools, now_ns))
            moved = true;
        mailbox_post_list(intake->options.tasks, &intake->tools.made);
    }
    return moved;
}

static void *run(void *argument)
{
    struct intake *intake = argument;

    while (!atomic_load_explicit(&intake->quit, memory_order_acquire)) {
        if (!turn(intake))
            rest(intake);
    }
    let_all_go(intake);
    return NULL;
}

/* --------------------------------------------------------------------------------- outside ---- */

static enum err open_all(struct intake *intake)
{
    const struct intake_options *options = &intake->options;
    struct log_reader_options reader = {
        .kafka = &options->settings->kafka,
        .client = "mserve-worker",
        .topic = options->topic,
        .group = options->group,
        .event_fd = intake->event_fd,
    };

    intake->tools = (struct source_tools){
        .store = store_new(options->settings),
        .model = options->model,
        .gauges = options->gauges,
        .recorder = options->recorder,
        .limits = {.deaths_alone = DEATHS_ALONE_MAX,
                   .vanished = options->settings->worker.vanished_workers,
                   .hosts = options->settings->worker.vanished_hosts},
        .requests_max = options->requests_max,
        .bytes_max = options->bytes_max,
        .must_leave = must_leave,
        .on_chunk_read = on_chunk_read,
        .context = intake,
    };
    prepare_init(&intake->tools.prepare, &options->prepare);
    return log_reader_open(&reader, &intake->tools.reader);
}

enum err intake_start(const struct intake_options *options, struct intake **ret)
{
    struct intake *intake = xcalloc(1, sizeof *intake);
    int failed;
    enum err err;

    intake->options = *options;
    intake->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    mailbox_init(&intake->chunks, intake->event_fd);
    mailbox_init(&intake->tells, intake->event_fd);
    err = open_all(intake);
    if (err)
        goto failed;
    failed = pthread_create(&intake->thread, NULL, run, intake);
    if (failed) {
        err = fail(ERR_MEMORY, "the intake thread could not be started: %s", strerror(failed));
        goto failed;
    }
    intake->started = true;
    pthread_setname_np(intake->thread, "intake");
    *ret = intake;
    return ERR_OK;
failed:
    intake_free(intake);
    return err;
}

void intake_read_chunk(struct intake *intake, struct claim_chunk *chunk)
{
    mailbox_post(&intake->chunks, &chunk->mail);
}

void intake_go(struct intake *intake)
{
    orders_go(&intake->orders);
    intake_ring(intake);
}

unsigned intake_halt(struct intake *intake)
{
    unsigned stop = orders_stop(&intake->orders);

    intake_ring(intake);
    return stop;
}

void intake_ring(struct intake *intake)
{
    const uint64_t one = 1;

    if (write(intake->event_fd, &one, sizeof one) < 0)
        assert(errno == EAGAIN);
}

bool intake_reaches_kafka(struct intake *intake, int timeout_ms)
{
    return log_reader_reaches_kafka(intake->tools.reader, timeout_ms);
}

void intake_tell_offset(struct intake *intake, int32_t part, int64_t offset)
{
    struct tell *tell = xcalloc(1, sizeof *tell);

    tell->part = part;
    tell->offset = offset;
    mailbox_post(&intake->tells, &tell->mail);
}

static void free_sources(struct intake *intake)
{
    while (intake->readings) {
        struct reading *reading = intake->readings;

        intake->readings = reading->next;
        source_free(reading->source);
        free(reading);
    }
}

void intake_stop(struct intake *intake)
{
    if (!intake || !intake->started)
        return;
    atomic_store_explicit(&intake->quit, true, memory_order_release);
    intake_ring(intake);
    pthread_join(intake->thread, NULL);
    intake->started = false;
}

void intake_free(struct intake *intake)
{
    struct mail_list left;
    struct mail *mail;

    if (!intake)
        return;
    take_orders(intake);
    let_all_go(intake);
    left = intake->tools.made;
    while ((mail = mail_list_next(&left)))
        task_free(task_of(mail));
    log_reader_close(intake->tools.reader);
    store_free(intake->tools.store);
    prepare_release(&intake->tools.prepare);
    arena_release(&intake->tools.arena);
    free_sources(intake);
    mailbox_release(&intake->chunks);
    mailbox_release(&intake->tells);
    close(intake->event_fd);
    free(intake);
}
