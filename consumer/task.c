/* task.c: making, ending and freeing what task.h describes. */
#include "consumer/task.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "consumer/recorder.h"

static char *put_text(char *at, struct slice text)
{
    if (text.len > 0)
        memcpy(at, text.data, text.len);
    at[text.len] = '\0';
    return at + text.len + 1;
}

struct task *task_new(struct claim_chunk *chunk, uint32_t index, struct slice custom_id,
                      struct slice model)
{
    struct task *task = xmalloc(sizeof *task + custom_id.len + model.len + 2);
    char *at = (char *)(task + 1);

    memset(task, 0, sizeof *task);
    task->chunk = claim_chunk_hold(chunk);
    task->index = index;
    task->slot = RECORDER_NONE;
    task->endpoint = chunk->job->endpoint;
    task->attempt = 1;
    task->custom_id = (struct slice){at, custom_id.len};
    at = put_text(at, custom_id);
    task->model = (struct slice){at, model.len};
    put_text(at, model);
    return task;
}

void task_free(struct task *task)
{
    if (!task)
        return;
    claim_chunk_release(task->chunk);
    free(task->prompt);
    free(task->resumed);
    free(task->stop);
    free(task->block);
    free(task->error.code);
    free(task->error.message);
    free(task->error.param);
    free(task);
}

void task_resume(struct task *task, const struct checkpoint *from, bool numerics_changed)
{
    size_t ids = from->tokens_len * sizeof *task->resumed;
    size_t floats = from->logprobs ? from->tokens_len * sizeof *task->resumed_logprobs : 0;

    assert(task->state == TASK_READY && !task->resumed);
    task->resumed = memcpy(xmalloc(ids + floats), from->tokens, ids);
    if (floats > 0)
        task->resumed_logprobs = memcpy(task->resumed + from->tokens_len, from->logprobs, floats);
    task->resumed_len = task->saved_tokens = task->told_tokens = from->tokens_len;
    task->numerics_changed = numerics_changed;
    task->ran_ns = from->ran_ns;
    task->bytes += ids + floats;
}

void task_forget_input(struct task *task)
{
    free(task->resumed);
    task->resumed = NULL;
    task->resumed_logprobs = NULL;
    if (task->return_token_ids)
        return;
    free(task->prompt);
    task->prompt = NULL;
}

bool task_is_unwanted(const struct task *task, enum task_status *ret)
{
    enum wish wish = claim_job_wish(task->chunk->job);

    if (claim_chunk_is_dropped(task->chunk) ||
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

void task_set_stop(struct task *task, const struct slice *stop, uint32_t count)
{
    size_t bytes = 0;
    char *at;

    assert(!task->stop);
    if (count == 0)
        return;
    for (uint32_t i = 0; i < count; i++)
        bytes += stop[i].len;
    task->stop = xmalloc(count * sizeof *task->stop + bytes);
    task->stop_len = count;
    at = (char *)(task->stop + count);
    for (uint32_t i = 0; i < count; i++) {
        memcpy(at, stop[i].data, stop[i].len);
        task->stop[i] = (struct slice){at, stop[i].len};
        at += stop[i].len;
    }
}

void task_fail(struct task *task, uint16_t status_code, const char *type, const char *code,
               const char *message, const char *param)
{
    assert(task->state != TASK_ENDED);
    task->state = TASK_ENDED;
    task->status = TASK_FAILED;
    task->error.status_code = status_code;
    task->error.type = type;
    task->error.code = xstrdup(code);
    task->error.message = xstrdup(message);
    task->error.param = param && param[0] ? xstrdup(param) : NULL;
}

void task_withdraw(struct task *task, enum task_status status)
{
    assert(task->state != TASK_ENDED);
    assert(status == TASK_CANCELLED || status == TASK_EXPIRED || status == TASK_DROPPED);
    task->state = TASK_ENDED;
    task->status = status;
}

void task_finish(struct task *task, const struct engine_event *event, uint32_t embedding_len)
{
    size_t floats = event->embedding ? embedding_len * sizeof(float) : 0;
    size_t ids = task->return_token_ids ? event->tokens_len * sizeof(uint32_t) : 0;
    char *at = xmalloc(floats + ids + event->text.len + 1); /* wide things first: alignment */

    assert(task->state != TASK_ENDED && !task->block);
    task->state = TASK_ENDED;
    task->status = TASK_COMPLETED;
    task->finish = event->finish;
    task->cost = event->cost;
    task->block = at;
    if (floats > 0) {
        task->embedding = memcpy(at, event->embedding, floats);
        task->embedding_len = embedding_len;
        at += floats;
    }
    if (ids > 0) {
        task->tokens = memcpy(at, event->tokens, ids);
        at += ids;
    }
    task->tokens_len = event->tokens_len;
    if (event->text.len > 0)
        memcpy(at, event->text.data, event->text.len);
    task->text = (struct slice){at, event->text.len};
}
