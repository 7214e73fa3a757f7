/*
 * source.c: begin a range, read it, see what is missing, go on with the next chunk. What a message
 * becomes is in source_lines.c.
 */
#include "consumer/source_inside.h"

#include <stdlib.h>
#include <string.h>

#include "config/backoff.h"
#include "config/clock.h"
#include "config/failpoint.h"
#include "config/log.h"
#include "consumer/task.h"

enum {
    MESSAGES_AT_ONCE = 256,
    SILENCE_MS = 10000, /* after which it is asked whether the log still holds the range */
};

struct source *source_new(int32_t part)
{
    struct source *source = xcalloc(1, sizeof *source);

    source->part = part;
    return source;
}

void source_free(struct source *source)
{
    if (!source)
        return;
    arena_release(&source->arena);
    arena_release(&source->known_arena);
    free(source);
}

int32_t source_part(const struct source *source)
{
    return source->part;
}

void source_add(struct source *source, struct claim_chunk *chunk)
{
    mail_list_add(&source->chunks, &chunk->mail);
}

/* ------------------------------------------------------------------------------ tasks made ---- */

void source_add_task(struct source *source, struct source_tools *tools, struct task *task)
{
    struct gauges *gauges = tools->gauges;

    source->seen[task->index / 8] |= (uint8_t)(0x80u >> (task->index % 8));
    source->found++;
    atomic_fetch_sub_explicit(&gauges->unread_lines, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&gauges->ready_requests, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&gauges->ready_bytes, task->bytes, memory_order_relaxed);
    mail_list_add(&tools->made, &task->mail);
}

static bool has_room(const struct source_tools *tools)
{
    const struct gauges *gauges = tools->gauges;

    return atomic_load_explicit(&gauges->ready_requests, memory_order_relaxed) <
               tools->requests_max &&
           atomic_load_explicit(&gauges->ready_bytes, memory_order_relaxed) < tools->bytes_max;
}

bool source_is_open(const struct source *source, uint32_t index)
{
    return !claim_line_is_done(source->reading, index) &&
           !(source->seen[index / 8] & (0x80u >> (index % 8)));
}

struct task *source_new_task(const struct source *source, uint32_t index, struct slice custom_id)
{
    struct task *task = task_new(source->reading, index, custom_id, (struct slice){NULL, 0});

    task->bytes = sizeof *task + custom_id.len;
    return task;
}

/* --------------------------------------------------------------------------- end of a chunk ---- */

static uint32_t lines_missing(const struct source *source)
{
    return source->reading->open_at_start - source->found;
}

static void next_chunk(struct source *source)
{
    source->reading = (struct claim_chunk *)mail_list_next(&source->chunks);
    memset(source->seen, 0, sizeof source->seen);
    source->found = 0;
    source->unreadable = 0;
    arena_clear(&source->arena);
    source->left = NULL;
    source->left_count = 0;
    source->resumed = 0;
    source->asked = false;
    source->begun = false;
    source->again = false;
    source->told = false;
    source->refused = false;
    source->judged = false;
    source->known_count = 0;
    arena_clear(&source->known_arena);
    source->wait_ns = 0;
}

/* Before what could not be had now is asked for again. */
void source_wait_a_while(struct source *source, uint64_t now_ns)
{
    source->wait_ns = now_ns + backoff_jitter(SOURCE_RETRY_MS) * (uint64_t)CLOCK_NS_PER_MS;
}

static void log_resumed(const struct source *source)
{
    const struct claim_chunk *chunk = source->reading;

    if (source->left_count > 0)
        log_info("chunk.resumed", "job=%s chunk=%d part=%d checkpoints=%u resumed=%u",
                 chunk->job->hex, chunk->chunk, chunk->partition->part, source->left_count,
                 source->resumed);
}

/* The reader's own count goes last: after it the chunk may be on its way home. */
static void give_back(struct source *source, struct source_tools *tools)
{
    struct claim_chunk *chunk = source->reading;
    uint32_t unread = lines_missing(source);

    log_resumed(source);
    atomic_fetch_sub_explicit(&tools->gauges->unread_lines, unread, memory_order_relaxed);
    next_chunk(source);
    claim_chunk_ended(chunk, unread + 1);
    tools->on_chunk_read(tools->context);
}

static void leave_chunk(struct source *source, struct source_tools *tools)
{
    if (lines_missing(source) > 0)
        atomic_store_explicit(&source->reading->incomplete, true, memory_order_release);
    give_back(source, tools);
}

static void leave_missing(struct source *source, struct source_tools *tools)
{
    struct claim_chunk *chunk = source->reading;

    atomic_store_explicit(&chunk->missing, true, memory_order_release);
    log_error("chunk.missing",
              "job=%s chunk=%d topic=%s part=%d offsets=%lld..%lld lines=%u found=%u "
              "unreadable=%u msg=\"the log does not hold these requests; they are held until the "
              "same file is submitted again\"",
              chunk->job->hex, chunk->chunk, chunk->partition->topic, chunk->partition->part,
              (long long)chunk->first_offset, (long long)chunk->last_offset, chunk->open_at_start,
              source->found, source->unreadable);
    leave_chunk(source, tools);
}

void source_let_go(struct source *source, struct source_tools *tools)
{
    if (!source->reading)
        next_chunk(source);
    while (source->reading)
        leave_chunk(source, tools);
}

/* --------------------------------------------------- lines whose outcome is known unread ---- */

/*
 * All open lines of the chunk become tasks that ended, under the names of the index; where these are
 * damaged, without names. False: the index cannot be asked now.
 */
static bool end_unread(struct source *source, struct source_tools *tools, uint64_t now_ns,
                       void (*end)(struct task *task))
{
    const struct claim_chunk *chunk = source->reading;
    struct slice custom_id[CHUNK_LINES_MAX];
    enum err err;

    arena_clear(&tools->arena);
    err = store_custom_ids(tools->store, chunk, &tools->arena, custom_id);
    if (err && err != ERR_NOT_FOUND) {
        source_wait_a_while(source, now_ns);
        return false;
    }
    for (uint32_t i = 0; !err && i < chunk->lines; i++) {
        struct task *task;

        if (!source_is_open(source, i))
            continue;
        task = source_new_task(source, i, custom_id[i]);
        end(task);
        source_add_task(source, tools, task);
    }
    leave_chunk(source, tools); /* where the index has lost the chunk, it has lost its job too */
    return true;
}

static void end_as_wished(struct task *task)
{
    bool cancelled = claim_job_wish(task->chunk->job) == WISH_CANCEL;

    task_withdraw(task, cancelled ? TASK_CANCELLED : TASK_EXPIRED);
}

static void end_as_unreadable(struct task *task)
{
    task_fail(task, 0, NULL, "request_unreadable",
              "The request lies in the log and cannot be read.", NULL);
}

static bool fail_unreadable(struct source *source, struct source_tools *tools, uint64_t now_ns)
{
    const struct claim_chunk *chunk = source->reading;

    if (!source->told)
        log_error("chunk.unreadable",
                  "job=%s chunk=%d topic=%s part=%d offsets=%lld..%lld lines=%u "
                  "msg=\"these requests lie in the log and cannot be read; they fail\"",
                  chunk->job->hex, chunk->chunk, chunk->partition->topic, chunk->partition->part,
                  (long long)chunk->first_offset, (long long)chunk->last_offset,
                  lines_missing(source));
    source->told = true;
    return end_unread(source, tools, now_ns, end_as_unreadable);
}

/* ------------------------------------------------------------------------------- reading ---- */

/* The range is through: the next chunk, or once more, or what is left over has its outcome. */
static bool end_range(struct source *source, struct source_tools *tools, uint64_t now_ns)
{
    if (lines_missing(source) == 0) {
        leave_chunk(source, tools);
    } else if (!source->again) {
        source->again = true;
        source->begun = false;
    } else if (source->refused) {
        leave_chunk(source, tools);
    } else if (source->unreadable >= lines_missing(source)) {
        return fail_unreadable(source, tools, now_ns);
    } else {
        leave_missing(source, tools);
    }
    return true;
}

/* True when there was something. */
static bool read_some(struct source *source, struct source_tools *tools, uint64_t now_ns)
{
    rd_kafka_message_t *message[MESSAGES_AT_ONCE];
    struct log_reader_got got;
    enum err err = log_reader_read(tools->reader, source->part, message, MESSAGES_AT_ONCE, &got);

    for (size_t i = 0; i < got.count; i++) {
        source_take_message(source, tools, message[i]);
        rd_kafka_message_destroy(message[i]);
    }
    source->unreadable += got.unreadable;
    if (!err && got.count > 0)
        err = FAILPOINT_ERR("range.read", ERR_NOT_FOUND);
    if (got.count > 0 || got.unreadable > 0)
        source->moved_ns = now_ns;
    if (err == ERR_NOT_FOUND)
        log_reader_drop(tools->reader, source->part);
    if (err == ERR_NOT_FOUND || got.end || lines_missing(source) == 0)
        return end_range(source, tools, now_ns);
    return got.count > 0 || got.unreadable > 0;
}

/* --------------------------------------------------------------------------------- ranges ---- */

static bool begin_range(struct source *source, struct source_tools *tools, uint64_t now_ns)
{
    const struct claim_chunk *chunk = source->reading;
    enum err err =
        log_reader_begin(tools->reader, source->part, chunk->first_offset, chunk->last_offset);

    if (err == ERR_NOT_FOUND && source->again) {
        leave_missing(source, tools);
        return true;
    }
    if (err == ERR_NOT_FOUND)
        source->again = true; /* what is to be told to people is asked for twice */
    if (err) {
        source_wait_a_while(source, now_ns);
        return false;
    }
    source->begun = true;
    source->unreadable = 0;
    source->moved_ns = now_ns;
    return true;
}

/*
 * A broker that is silent may be restarting: it is waited for. One that answers has lost what it held,
 * or the reader is stuck: the range is begun anew, with a reader that knows nothing of before.
 */
static bool ask_after_silence(struct source *source, struct source_tools *tools, uint64_t now_ns)
{
    enum err err;

    if (now_ns - source->moved_ns < SILENCE_MS * (uint64_t)CLOCK_NS_PER_MS)
        return false;
    source->moved_ns = now_ns;
    err = log_reader_check(tools->reader, source->part);
    if (err && err != ERR_NOT_FOUND)
        return false;
    log_warn("log.silent", "part=%d offsets=%lld..%lld found=%u msg=\"begun anew\"", source->part,
             (long long)source->reading->first_offset, (long long)source->reading->last_offset,
             source->found);
    log_reader_drop(tools->reader, source->part);
    source->begun = false;
    return true;
}

bool source_serve(struct source *source, struct source_tools *tools, uint64_t now_ns)
{
    if (!source->reading)
        next_chunk(source);
    if (!source->reading || now_ns < source->wait_ns)
        return false;
    if (claim_chunk_is_leaving(source->reading)) {
        give_back(source, tools); /* whole: what is unread may be wanted again at once */
        return true;
    }
    if (!has_room(tools)) {
        source->moved_ns = now_ns;
        return false;
    }
    if (claim_job_wish(source->reading->job) != WISH_RUN)
        return end_unread(source, tools, now_ns, end_as_wished);
    if (!source->asked && !source_ask_for_checkpoints(source, tools, now_ns))
        return false;
    if (!source->judged && !source_ask_for_suspects(source, tools, now_ns))
        return false;
    if (!source->begun)
        return begin_range(source, tools, now_ns);
    return read_some(source, tools, now_ns) || ask_after_silence(source, tools, now_ns);
}
