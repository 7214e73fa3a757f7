/* intake.c: one source for each partition, each with a line of chunks to read. */
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
#include "consumer/log_reader.h"
#include "consumer/orders.h"
#include "consumer/store.h"
#include "consumer/task.h"
#include "producer/message.h"

enum {
    MESSAGES_AT_ONCE = 256,
    REST_MS = 100,
    SILENCE_MS = 10000, /* after which it is asked whether the log still holds the range */
    RETRY_MS = 500,
};

/* A partition: the chunks that are to be read from it, the first of them being read. */
struct source {
    struct source *next;
    int32_t part;
    struct mail_list chunks;     /* behind the one being read */
    struct claim_chunk *reading; /* NULL: none */
    uint8_t seen[CHUNK_MAP_BYTES];
    uint32_t found;   /* open lines of it that became tasks */
    bool begun;       /* its range was given to the reader */
    bool again;       /* it is read for the second time */
    uint64_t wait_ns; /* not before this time, after a failure */
    uint64_t moved_ns;
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

    struct log_reader *reader;
    struct store *store;
    struct prepare prepare;
    struct arena arena; /* of one sweep or one fetched body */
    struct source *sources;
    struct mail_list made; /* tasks not yet posted */
};

/* Told to stop, and not yet stopped. */
static bool owes_answer(const struct intake *intake)
{
    return orders_last_stop(orders_given(&intake->orders)) != intake->answered;
}

/* ------------------------------------------------------------------------------ tasks made ---- */

static void add_task(struct intake *intake, struct source *source, struct task *task)
{
    struct gauges *gauges = intake->options.gauges;

    source->seen[task->index / 8] |= (uint8_t)(0x80u >> (task->index % 8));
    source->found++;
    atomic_fetch_sub_explicit(&gauges->unread_lines, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&gauges->ready_requests, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&gauges->ready_bytes, task->bytes, memory_order_relaxed);
    mail_list_add(&intake->made, &task->mail);
}

static bool has_room(const struct intake *intake)
{
    struct gauges *gauges = intake->options.gauges;

    return atomic_load_explicit(&gauges->ready_requests, memory_order_relaxed) <
               intake->options.requests_max &&
           atomic_load_explicit(&gauges->ready_bytes, memory_order_relaxed) <
               intake->options.bytes_max;
}

static bool is_open_line(const struct source *source, uint32_t index)
{
    return !claim_line_is_done(source->reading, index) &&
           !(source->seen[index / 8] & (0x80u >> (index % 8)));
}

/* --------------------------------------------------------------------------- end of a chunk ---- */

static void next_chunk(struct source *source)
{
    source->reading = (struct claim_chunk *)mail_list_next(&source->chunks);
    memset(source->seen, 0, sizeof source->seen);
    source->found = 0;
    source->begun = false;
    source->again = false;
    source->wait_ns = 0;
}

/* The reader's own count goes last: after it the chunk may be on its way home. */
static void leave_chunk(struct intake *intake, struct source *source)
{
    struct claim_chunk *chunk = source->reading;
    uint32_t unread = chunk->open_at_start - source->found;

    if (unread > 0)
        atomic_store_explicit(&chunk->incomplete, true, memory_order_release);
    atomic_fetch_sub_explicit(&intake->options.gauges->unread_lines, unread, memory_order_relaxed);
    next_chunk(source);
    claim_chunk_ended(chunk, unread + 1);
    intake->options.on_chunk_read(intake->options.context);
}

static void leave_missing(struct intake *intake, struct source *source)
{
    const struct claim_chunk *chunk = source->reading;

    log_error("chunk.missing",
              "job=%s chunk=%d topic=%s part=%d offsets=%lld..%lld lines=%u found=%u "
              "msg=\"the log does not hold these requests; the chunk is set aside\"",
              chunk->job->hex, chunk->chunk, chunk->partition->topic, chunk->partition->part,
              (long long)chunk->first_offset, (long long)chunk->last_offset, chunk->open_at_start,
              source->found);
    leave_chunk(intake, source);
}

/* ------------------------------------------------------------------------------- messages ---- */

static bool must_leave(struct intake *intake, struct source *source)
{
    return atomic_load_explicit(&intake->quit, memory_order_acquire) || owes_answer(intake) ||
           claim_chunk_is_leaving(source->reading);
}

/*
 * The body of a message that carries a digest only. While the database is away nothing could be
 * committed either, so it is waited for. False: the body is not there, and the line is missed.
 */
static bool fetch_body(struct intake *intake, struct source *source, const struct message *message,
                       struct slice *ret)
{
    const struct timespec pause = {.tv_nsec = RETRY_MS * (long)CLOCK_NS_PER_MS};

    while (!must_leave(intake, source)) {
        enum err err;

        arena_clear(&intake->arena);
        err = store_body(intake->store, message->blob, &intake->arena, ret);
        if (!err || !err_may_retry(err))
            return !err;
        nanosleep(&pause, NULL);
    }
    return false;
}

static void take_message(struct intake *intake, struct source *source,
                         const rd_kafka_message_t *raw)
{
    struct claim_chunk *chunk = source->reading;
    struct message message;
    struct slice body;
    uint32_t index;

    if (message_decode(raw, &message, NULL))
        return; /* not ours; if it was, its line will be missed */
    if (memcmp(message.job, chunk->job->id.bytes, sizeof message.job) != 0 ||
        message.chunk != (uint32_t)chunk->chunk || message.line < (uint64_t)chunk->first_line ||
        message.line >= (uint64_t)chunk->first_line + chunk->lines)
        return;
    index = (uint32_t)(message.line - (uint64_t)chunk->first_line);
    if (!is_open_line(source, index))
        return;
    if (message.error.len > 0) {
        add_task(intake, source,
                 prepare_invalid(&intake->prepare, chunk, index, message.custom_id, message.error));
        return;
    }
    body = message.body;
    if (message.has_blob && !fetch_body(intake, source, &message, &body))
        return;
    add_task(intake, source, prepare_task(&intake->prepare, chunk, index, message.custom_id, body));
}

/* True when there was something. */
static bool read_some(struct intake *intake, struct source *source, uint64_t now_ns)
{
    rd_kafka_message_t *message[MESSAGES_AT_ONCE];
    size_t count;
    bool end;
    enum err err =
        log_reader_read(intake->reader, source->part, message, MESSAGES_AT_ONCE, &count, &end);

    for (size_t i = 0; i < count; i++) {
        take_message(intake, source, message[i]);
        rd_kafka_message_destroy(message[i]);
    }
    if (count > 0)
        source->moved_ns = now_ns;
    if (err == ERR_NOT_FOUND) {
        log_reader_drop(intake->reader, source->part);
        end = true;
    }
    if (source->found == source->reading->open_at_start) {
        leave_chunk(intake, source);
    } else if (end && !source->again) {
        source->again = true;
        source->begun = false;
    } else if (end) {
        leave_missing(intake, source);
    }
    return count > 0 || end;
}

/* ---------------------------------------------------------------------------------- chunks ---- */

/* The open lines of a chunk whose job is cancelled or expired get that outcome, unread. */
static bool sweep(struct intake *intake, struct source *source, enum wish wish, uint64_t now_ns)
{
    struct claim_chunk *chunk = source->reading;
    struct slice custom_id[CHUNK_LINES_MAX];

    enum err err;

    arena_clear(&intake->arena);
    err = store_custom_ids(intake->store, chunk, &intake->arena, custom_id);
    if (err && err_may_retry(err)) {
        source->wait_ns = now_ns + RETRY_MS * (uint64_t)CLOCK_NS_PER_MS;
        return false;
    }
    if (err == ERR_NOT_FOUND) { /* the index has lost the chunk, and with it its job */
        leave_chunk(intake, source);
        return true;
    }
    if (err) { /* damaged: the rows come without names, as those of the scheduler do */
        for (uint32_t i = 0; i < chunk->lines; i++)
            custom_id[i] = SLICE("");
    }
    for (uint32_t i = 0; i < chunk->lines; i++) {
        struct task *task;

        if (!is_open_line(source, i))
            continue;
        task = task_new(chunk, i, custom_id[i], (struct slice){NULL, 0});
        task->bytes = sizeof *task + custom_id[i].len;
        task_withdraw(task, wish == WISH_CANCEL ? TASK_CANCELLED : TASK_EXPIRED);
        add_task(intake, source, task);
    }
    leave_chunk(intake, source);
    return true;
}

static bool begin_range(struct intake *intake, struct source *source, uint64_t now_ns)
{
    const struct claim_chunk *chunk = source->reading;
    enum err err =
        log_reader_begin(intake->reader, source->part, chunk->first_offset, chunk->last_offset);

    if (err == ERR_NOT_FOUND) {
        leave_missing(intake, source);
        return true;
    }
    if (err) {
        source->wait_ns = now_ns + RETRY_MS * (uint64_t)CLOCK_NS_PER_MS;
        return false;
    }
    source->begun = true;
    source->moved_ns = now_ns;
    return true;
}

/* A broker that is silent may be restarting, or the log may have lost what it held. */
static bool ask_after_silence(struct intake *intake, struct source *source, uint64_t now_ns)
{
    if (now_ns - source->moved_ns < SILENCE_MS * (uint64_t)CLOCK_NS_PER_MS)
        return false;
    source->moved_ns = now_ns;
    if (log_reader_check(intake->reader, source->part) != ERR_NOT_FOUND)
        return false;
    leave_missing(intake, source);
    return true;
}

/* A piece of work for this partition; false: there is nothing to do now. */
static bool serve(struct intake *intake, struct source *source, uint64_t now_ns)
{
    enum wish wish;

    if (!source->reading)
        next_chunk(source);
    if (!source->reading || now_ns < source->wait_ns)
        return false;
    if (claim_chunk_is_leaving(source->reading)) {
        leave_chunk(intake, source);
        return true;
    }
    if (!has_room(intake))
        return false;
    wish = claim_job_wish(source->reading->job);
    if (wish != WISH_RUN)
        return sweep(intake, source, wish, now_ns);
    if (!source->begun)
        return begin_range(intake, source, now_ns);
    return read_some(intake, source, now_ns) || ask_after_silence(intake, source, now_ns);
}

/* -------------------------------------------------------------------------------- the loop ---- */

static struct source *source_of(struct intake *intake, int32_t part)
{
    struct source **at = &intake->sources;

    while (*at && (*at)->part != part)
        at = &(*at)->next;
    if (!*at) {
        *at = xcalloc(1, sizeof **at);
        (*at)->part = part;
    }
    return *at;
}

static void take_orders(struct intake *intake)
{
    struct mail_list arrived = mailbox_take(&intake->chunks);
    struct mail *mail;

    while ((mail = mail_list_next(&arrived))) {
        const struct claim_chunk *chunk = (struct claim_chunk *)mail;

        mail_list_add(&source_of(intake, chunk->partition->part)->chunks, mail);
    }
    arrived = mailbox_take(&intake->tells);
    while ((mail = mail_list_next(&arrived))) {
        const struct tell *tell = (struct tell *)mail;

        log_reader_commit(intake->reader, tell->part, tell->offset);
        free(mail);
    }
}

static void let_all_go(struct intake *intake)
{
    for (struct source *source = intake->sources; source; source = source->next) {
        if (!source->reading)
            next_chunk(source);
        while (source->reading)
            leave_chunk(intake, source);
    }
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
    log_reader_serve(intake->reader);
    for (struct source *source = intake->sources; source; source = source->next) {
        if (owes_answer(intake))
            return true;
        if (serve(intake, source, now_ns))
            moved = true;
        mailbox_post_list(intake->options.tasks, &intake->made);
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
        .topic = options->topic,
        .group = options->group,
        .event_fd = intake->event_fd,
    };

    intake->store = store_new(options->settings);
    prepare_init(&intake->prepare, &options->prepare);
    return log_reader_open(&reader, &intake->reader);
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
    intake_stop(intake);
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

void intake_tell_offset(struct intake *intake, int32_t part, int64_t offset)
{
    struct tell *tell = xcalloc(1, sizeof *tell);

    tell->part = part;
    tell->offset = offset;
    mailbox_post(&intake->tells, &tell->mail);
}

static void free_sources(struct intake *intake)
{
    while (intake->sources) {
        struct source *source = intake->sources;

        intake->sources = source->next;
        free(source);
    }
}

void intake_stop(struct intake *intake)
{
    struct mail_list left;
    struct mail *mail;

    if (!intake)
        return;
    if (intake->started) {
        atomic_store_explicit(&intake->quit, true, memory_order_release);
        intake_ring(intake);
        pthread_join(intake->thread, NULL);
    }
    take_orders(intake);
    let_all_go(intake);
    left = intake->made;
    while ((mail = mail_list_next(&left)))
        task_free(task_of(mail));
    log_reader_close(intake->reader);
    store_free(intake->store);
    prepare_release(&intake->prepare);
    arena_release(&intake->arena);
    free_sources(intake);
    mailbox_release(&intake->chunks);
    mailbox_release(&intake->tells);
    close(intake->event_fd);
    free(intake);
}
