/* source_lines.c: what a line becomes, of its message, its checkpoint, and what deaths say of it. */
#include "consumer/source_inside.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config/backoff.h"
#include "config/clock.h"
#include "config/log.h"
#include "consumer/resume.h"
#include "consumer/task.h"
#include "producer/message.h"

/* ---------------------------------------------------------------------------- checkpoints ---- */

/*
 * Whoever held the partition before may have left some; its first holder finds none. False: the
 * database cannot be asked now. It is waited for: to begin anew instead would throw work away.
 */
bool source_ask_for_checkpoints(struct source *source, struct source_tools *tools, uint64_t now_ns)
{
    const struct claim_chunk *chunk = source->reading;

    if (chunk->partition->epoch > 1 && store_checkpoints(tools->store, chunk, &source->arena,
                                                         &source->left, &source->left_count)) {
        source->left_count = 0;
        source_wait_a_while(source, now_ns);
        return false;
    }
    source->asked = true;
    return true;
}

static int by_line(const void *key, const void *element)
{
    int64_t line = *(const int64_t *)key, other = ((const struct checkpoint_row *)element)->line;

    return (line > other) - (line < other);
}

static void resume(struct source *source, struct source_tools *tools, struct task *task)
{
    int64_t line = task->chunk->first_line + task->index;
    const struct checkpoint_row *row;

    if (source->left_count == 0 || task->state == TASK_ENDED)
        return;
    row = bsearch(&line, source->left, source->left_count, sizeof *source->left, by_line);
    if (!row)
        return;
    resume_task(task, row, tools->model, &tools->arena);
    source->resumed += task->resumed_len > 0;
}

/* ------------------------------------------------------------------------------- suspects ---- */

/* False: the database cannot be asked now. It is waited for: to run one unawares may kill again. */
bool source_ask_for_suspects(struct source *source, struct source_tools *tools, uint64_t now_ns)
{
    const struct claim_chunk *chunk = source->reading;

    if (chunk->suspect && store_suspects(tools->store, chunk, &source->known_arena, &source->known,
                                         &source->known_count)) {
        source->known_count = 0;
        source_wait_a_while(source, now_ns);
        return false;
    }
    if (source->known_count > 0)
        log_info("chunk.suspect", "job=%s chunk=%d lines=%u", chunk->job->hex, chunk->chunk,
                 source->known_count);
    source->judged = true;
    return true;
}

static enum quarantine_verdict verdict_of(const struct source *source,
                                          const struct source_tools *tools, uint32_t index,
                                          uint32_t *ret_cap)
{
    const int64_t line = source->reading->first_line + index;

    for (uint32_t i = 0; i < source->known_count; i++)
        if (source->known[i].line == line)
            return quarantine_judge(&source->known[i].evidence, &tools->limits, ret_cap);
    return QUARANTINE_FREE;
}

/* NULL: what has to be told first could not be told now; the line is missed in this reading. */
static struct task *guilty_task(struct source *source, struct source_tools *tools, uint32_t index,
                                const struct message *message)
{
    struct slice body = message->body;
    struct task *task;

    arena_clear(&tools->arena);
    if (message->has_blob &&
        store_body(tools->store, &source->reading->job->id, message->blob, &tools->arena, &body))
        body = SLICE("null"); /* it is gone, but so is the request */
    if (store_dead_letter(tools->store, source->reading, index, message->custom_id, body,
                          &tools->arena)) {
        source->refused = true;
        return NULL;
    }
    log_error("request.guilty",
              "job=%s line=%lld msg=\"every worker that ran it alone died; it fails\"",
              source->reading->job->hex, (long long)source->reading->first_line + index);
    task = source_new_task(source, index, message->custom_id);
    task_fail(task, 0, NULL, "worker_crashed",
              "Every worker that ran this request alone died of it; it will not be run again.",
              NULL);
    return task;
}

/* ------------------------------------------------------------------------------- messages ---- */

static struct task *unreadable_task(const struct source *source, uint32_t index,
                                    struct slice custom_id, const char *message)
{
    struct task *task = source_new_task(source, index, custom_id);

    task_fail(task, 0, NULL, "request_unreadable", message, NULL);
    return task;
}

/*
 * The task of a message that carries a digest only. While the database is away nothing could be
 * committed either, so it is waited for. NULL: not now; the line is missed in this reading.
 */
static struct task *task_of_blob(struct source *source, struct source_tools *tools, uint32_t index,
                                 const struct message *message)
{
    const struct timespec pause = {.tv_nsec =
                                       backoff_jitter(SOURCE_RETRY_MS) * (long)CLOCK_NS_PER_MS};

    while (!tools->must_leave(tools->context) && !claim_chunk_is_leaving(source->reading)) {
        struct slice body;
        enum err err;

        arena_clear(&tools->arena);
        err = store_body(tools->store, &source->reading->job->id, message->blob, &tools->arena,
                         &body);
        if (!err)
            return prepare_task(&tools->prepare, source->reading, index, message->custom_id, body);
        if (err == ERR_NOT_FOUND)
            return unreadable_task(source, index, message->custom_id,
                                   "The body, stored aside for its size, is not there any more.");
        if (err == ERR_INPUT)
            return unreadable_task(source, index, message->custom_id,
                                   "The body, stored aside for its size, is damaged.");
        if (!err_may_retry(err))
            break;
        nanosleep(&pause, NULL);
    }
    source->refused = true;
    return NULL;
}

static struct task *task_of_message(struct source *source, struct source_tools *tools,
                                    uint32_t index, const struct message *message)
{
    struct claim_chunk *chunk = source->reading;
    uint32_t cap = 0;
    struct task *task;

    if (verdict_of(source, tools, index, &cap) == QUARANTINE_GUILTY)
        return guilty_task(source, tools, index, message);
    recorder_prepare(tools->recorder, chunk->job->id, chunk->first_line + index, chunk->chunk);
    if (message->error.len > 0)
        task = prepare_invalid(&tools->prepare, chunk, index, message->custom_id, message->error);
    else if (message->has_blob)
        task = task_of_blob(source, tools, index, message);
    else
        task = prepare_task(&tools->prepare, chunk, index, message->custom_id, message->body);
    if (task) {
        task->cap = cap;
        resume(source, tools, task);
    }
    recorder_prepared(tools->recorder);
    return task;
}

void source_take_message(struct source *source, struct source_tools *tools,
                         const rd_kafka_message_t *raw)
{
    struct claim_chunk *chunk = source->reading;
    struct message message;
    struct task *task;
    uint32_t index;

    if (message_decode(raw, &message, NULL)) {
        source->unreadable++;
        return;
    }
    if (memcmp(message.job, chunk->job->id.bytes, sizeof message.job) != 0 ||
        message.chunk != (uint32_t)chunk->chunk || message.line < (uint64_t)chunk->first_line ||
        message.line >= (uint64_t)chunk->first_line + chunk->lines)
        return;
    index = (uint32_t)(message.line - (uint64_t)chunk->first_line);
    if (!source_is_open(source, index))
        return;
    task = task_of_message(source, tools, index, &message);
    if (task)
        source_add_task(source, tools, task);
}
