/* response.c: OpenAI's answers, field by field. */
#include "consumer/response.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "config/base64.h"
#include "config/json.h"
#include "config/utf8.h"
#include "sql/work.h"

#define ADD(out, literal) buffer_add((out), literal, sizeof(literal) - 1)

void response_fingerprint(const uint8_t numerics[32], char out[16])
{
    snprintf(out, 16, "fp_%02x%02x%02x%02x%02x%02x", numerics[0], numerics[1], numerics[2],
             numerics[3], numerics[4], numerics[5]);
}

static const char *finish_reason(enum engine_finish finish)
{
    return finish == ENGINE_STOP ? "stop" : "length";
}

/* The text in whole characters: the one that a limit of tokens cut in two was never said. */
static struct slice text_said(const struct task *task)
{
    struct slice text = task->text;

    for (size_t cut = 1; task->finish == ENGINE_LENGTH && cut < 4 && cut <= text.len; cut++)
        if (utf8_is_cut((struct slice){text.data + text.len - cut, cut}))
            return (struct slice){text.data, text.len - cut};
    return text;
}

static void write_ids(struct buffer *out, const uint32_t *ids, uint32_t count)
{
    buffer_add_byte(out, '[');
    for (uint32_t i = 0; i < count; i++) {
        if (i > 0)
            buffer_add_byte(out, ',');
        buffer_add_u64(out, ids[i]);
    }
    buffer_add_byte(out, ']');
}

/* "id", "object", "created", "model": what an answer begins with. */
static void write_head(struct buffer *out, const struct task *task, const char *prefix,
                       const char *object, uint64_t created_s)
{
    ADD(out, "{\"id\":\"");
    buffer_add_text(out, prefix);
    buffer_add(out, task->chunk->job->hex, 32);
    buffer_add_byte(out, '-');
    buffer_add_i64(out, task->chunk->first_line + task->index);
    ADD(out, "\",\"object\":\"");
    buffer_add_text(out, object);
    ADD(out, "\",\"created\":");
    buffer_add_u64(out, created_s);
    ADD(out, ",\"model\":");
    json_write_string(out, task->model);
}

static void write_usage(struct buffer *out, const struct engine_cost *cost)
{
    ADD(out, ",\"usage\":{\"prompt_tokens\":");
    buffer_add_u64(out, cost->prompt_tokens);
    ADD(out, ",\"completion_tokens\":");
    buffer_add_u64(out, cost->output_tokens);
    ADD(out, ",\"total_tokens\":");
    buffer_add_u64(out, (uint64_t)cost->prompt_tokens + cost->output_tokens);
    ADD(out, ",\"prompt_tokens_details\":{\"cached_tokens\":");
    buffer_add_u64(out, cost->cached_tokens);
    ADD(out, "}}");
}

static void write_finish(struct buffer *out, const struct task *task)
{
    ADD(out, ",\"logprobs\":null,\"finish_reason\":\"");
    buffer_add_text(out, finish_reason(task->finish));
    buffer_add_byte(out, '"');
    if (task->return_token_ids) {
        ADD(out, ",\"token_ids\":");
        write_ids(out, task->tokens, task->tokens_len);
    }
}

static void write_prompt_ids(struct buffer *out, const struct task *task)
{
    if (!task->return_token_ids)
        return;
    ADD(out, ",\"prompt_token_ids\":");
    write_ids(out, task->prompt, task->prompt_len);
}

static void write_tail(struct buffer *out, const struct task *task,
                       const struct response_frame *frame)
{
    write_usage(out, &task->cost);
    ADD(out, ",\"system_fingerprint\":\"");
    buffer_add_text(out, frame->fingerprint);
    ADD(out, "\"}");
}

static void write_completion(struct buffer *out, const struct task *task,
                             const struct response_frame *frame)
{
    write_head(out, task, "cmpl-", "text_completion", frame->created_s);
    ADD(out, ",\"choices\":[{\"index\":0,\"text\":");
    json_write_string_clean(out, text_said(task));
    write_finish(out, task);
    write_prompt_ids(out, task);
    ADD(out, "}]");
    write_tail(out, task, frame);
}

static void write_chat(struct buffer *out, const struct task *task,
                       const struct response_frame *frame)
{
    write_head(out, task, "chatcmpl-", "chat.completion", frame->created_s);
    ADD(out, ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
    json_write_string_clean(out, text_said(task));
    ADD(out, ",\"refusal\":null}");
    write_finish(out, task);
    ADD(out, "}]");
    write_prompt_ids(out, task);
    write_tail(out, task, frame);
}

static void write_vector(struct buffer *out, const struct task *task)
{
    if (task->embedding_base64) {
        buffer_add_byte(out, '"');
        base64_add(out, task->embedding, task->embedding_len * sizeof(float));
        buffer_add_byte(out, '"');
        return;
    }
    buffer_add_byte(out, '[');
    for (uint32_t i = 0; i < task->embedding_len; i++) {
        if (i > 0)
            buffer_add_byte(out, ',');
        buffer_printf(out, "%.9g", (double)task->embedding[i]);
    }
    buffer_add_byte(out, ']');
}

static void write_embedding(struct buffer *out, const struct task *task)
{
    ADD(out, "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":");
    write_vector(out, task);
    ADD(out, "}],\"model\":");
    json_write_string(out, task->model);
    ADD(out, ",\"usage\":{\"prompt_tokens\":");
    buffer_add_u64(out, task->cost.prompt_tokens);
    ADD(out, ",\"total_tokens\":");
    buffer_add_u64(out, task->cost.prompt_tokens);
    ADD(out, "}}");
}

void response_write(struct buffer *out, const struct task *task, const struct response_frame *frame)
{
    assert(task->state == TASK_ENDED && task->status == TASK_COMPLETED);
    switch (task->endpoint) {
    case ENDPOINT_COMPLETIONS:
        write_completion(out, task, frame);
        break;
    case ENDPOINT_CHAT:
        write_chat(out, task, frame);
        break;
    case ENDPOINT_EMBEDDINGS:
        write_embedding(out, task);
        break;
    case ENDPOINT_COUNT:
        assert(0 && "no such endpoint");
    }
}

static struct slice slice_of(const char *text)
{
    return (struct slice){text, text ? strlen(text) : 0};
}

static void write_http_error(struct buffer *out, const struct task_error *error)
{
    ADD(out, "{\"error\":{\"message\":");
    json_write_string_clean(out, slice_of(error->message));
    ADD(out, ",\"type\":");
    json_write_text(out, error->type);
    ADD(out, ",\"param\":");
    if (error->param)
        json_write_string_clean(out, slice_of(error->param));
    else
        json_write_null(out);
    ADD(out, ",\"code\":");
    json_write_text(out, error->code);
    ADD(out, "}}");
}

static void write_line_error(struct buffer *out, const char *code, const char *message)
{
    ADD(out, "{\"code\":");
    json_write_text(out, code);
    ADD(out, ",\"message\":");
    json_write_string_clean(out, slice_of(message));
    ADD(out, "}");
}

bool response_write_error(struct buffer *out, const struct task *task)
{
    switch (task->status) {
    case TASK_CANCELLED:
        buffer_add_text(out, WORK_ERROR_CANCELLED);
        return false;
    case TASK_EXPIRED:
        buffer_add_text(out, WORK_ERROR_EXPIRED);
        return false;
    case TASK_FAILED:
        if (task->error.status_code == 0) {
            write_line_error(out, task->error.code, task->error.message);
            return false;
        }
        write_http_error(out, &task->error);
        return true;
    case TASK_COMPLETED:
    case TASK_DROPPED:
        break;
    }
    assert(0 && "no row says this");
    return false;
}
