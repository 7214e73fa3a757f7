/* prepare.c: the steps from body to task, each of which may end it. */
#include "consumer/prepare.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/json.h"
#include "kernels/text/chat.h"
#include "producer/request.h"

void prepare_init(struct prepare *prepare, const struct prepare_options *options)
{
    *prepare = (struct prepare){.options = *options};
}

void prepare_release(struct prepare *prepare)
{
    arena_release(&prepare->arena);
    free(prepare->tokens.id);
    *prepare = (struct prepare){0};
}

/* The finalizer of SplitMix64: each bit of the result depends on all of `value`. */
static uint64_t mix(uint64_t value)
{
    value += 0x9e3779b97f4a7c15u;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9u;
    value = (value ^ value >> 27) * 0x94d049bb133111ebu;
    return value ^ value >> 31;
}

uint64_t prepare_seed(struct uuid job, uint64_t line)
{
    uint64_t half[2];

    memcpy(half, job.bytes, sizeof half);
    return mix(mix(mix(half[0]) ^ half[1]) ^ line);
}

static void refuse(struct task *task, const char *code, const char *message, const char *param)
{
    task_fail(task, 400, "invalid_request_error", code, message, param);
}

static void refuse_length(struct task *task, const struct prepare *prepare, uint32_t prompt_len,
                          uint32_t max_tokens)
{
    char message[192];

    if (prompt_len > prepare->options.context_max)
        snprintf(message, sizeof message,
                 "The model's context holds %u tokens; the prompt alone has more.",
                 prepare->options.context_max);
    else
        snprintf(message, sizeof message,
                 "The model's context holds %u tokens; the prompt has %u and %u were asked for.",
                 prepare->options.context_max, prompt_len, max_tokens);
    refuse(task, "context_length_exceeded", message,
           task->endpoint == ENDPOINT_CHAT         ? "messages"
           : task->endpoint == ENDPOINT_EMBEDDINGS ? "input"
                                                   : "prompt");
}

/*
 * Tokens of answer that a prompt truncated to what fits leaves room for: as many as were asked for, or
 * the usual number. That one is a setting, so it must not leave less than half of the context.
 */
static uint32_t reserve_of(const struct prepare *prepare, const struct request *request)
{
    uint32_t half = (prepare->options.context_max + 1) / 2;
    uint32_t usual = prepare->options.max_tokens_default;

    if (request->endpoint == ENDPOINT_EMBEDDINGS)
        return 0;
    if (request->max_tokens > 0)
        return request->max_tokens;
    return usual > 0 && usual < half ? usual : half;
}

static enum err take_ids(struct prepare *prepare, const struct request *request)
{
    struct tokens *tokens = &prepare->tokens;
    uint32_t vocab = tokenizer_vocab(prepare->options.tokenizer);

    for (uint32_t i = 0; i < request->prompt_ids_len; i++) {
        if (request->prompt_ids[i] >= vocab)
            return ERR_INPUT;
    }
    if (tokens->cap < request->prompt_ids_len) {
        tokens->cap = request->prompt_ids_len;
        tokens->id = xrealloc(tokens->id, tokens->cap, sizeof *tokens->id);
    }
    memcpy(tokens->id, request->prompt_ids, request->prompt_ids_len * sizeof *tokens->id);
    tokens->len = request->prompt_ids_len;
    return ERR_OK;
}

/* Of a prompt that is to be truncated all tokens are made, of others no more than can fit. */
static uint32_t tokens_wanted(const struct prepare *prepare, const struct request *request)
{
    return request->truncate_prompt != 0 ? UINT32_MAX - 1 : prepare->options.context_max;
}

static enum err encode_chat(struct prepare *prepare, const struct request *request,
                            struct task *task)
{
    struct chat_message *messages =
        arena_zalloc(&prepare->arena, request->messages_len, sizeof *messages);
    uint32_t bad = 0;
    char param[64];
    enum err err;

    for (uint32_t i = 0; i < request->messages_len; i++) {
        const char *role = message_role_name(request->messages[i].role);

        messages[i].role = (struct slice){role, strlen(role)};
        messages[i].content = request->messages[i].content;
    }
    err =
        chat_encode(prepare->options.chat, prepare->options.tokenizer, messages,
                    request->messages_len, tokens_wanted(prepare, request), &prepare->tokens, &bad);
    if (err == ERR_INPUT) {
        snprintf(param, sizeof param, "messages[%u].role", bad);
        refuse(task, "invalid_value", "The model's chat format has no such role.", param);
    }
    return err;
}

/* Fills prepare->tokens; false: the task has failed. */
static bool encode(struct prepare *prepare, const struct request *request, struct task *task)
{
    enum err err;

    prepare->tokens.len = 0;
    if (request->endpoint == ENDPOINT_CHAT && !prepare->options.chat) {
        refuse(task, "unsupported_endpoint", "The model of this tier has no chat format.", NULL);
        return false;
    }
    if (request->endpoint == ENDPOINT_CHAT)
        err = encode_chat(prepare, request, task);
    else if (request->prompt_ids_len > 0)
        err = take_ids(prepare, request);
    else
        err = tokenizer_encode(prepare->options.tokenizer, request->prompt, true,
                               tokens_wanted(prepare, request), &prepare->tokens);
    if (task->state == TASK_ENDED)
        return false;
    if (err == ERR_LIMIT)
        refuse_length(task, prepare, UINT32_MAX, 0);
    else if (err)
        refuse(task, "invalid_value", "The prompt holds a token id outside the model's vocabulary.",
               task->endpoint == ENDPOINT_EMBEDDINGS ? "input" : "prompt");
    else if (prepare->tokens.len == 0)
        refuse(task, "invalid_value", "The prompt is empty.", NULL);
    return task->state != TASK_ENDED;
}

/* Where the prompt begins after truncation. */
static uint32_t first_kept(const struct prepare *prepare, const struct request *request)
{
    uint32_t len = prepare->tokens.len;
    uint32_t reserve = reserve_of(prepare, request);
    uint32_t context = prepare->options.context_max;
    uint32_t keep = request->truncate_prompt > 0 ? (uint32_t)request->truncate_prompt
                    : reserve < context          ? context - reserve
                                                 : 1;

    return request->truncate_prompt == 0 || len <= keep ? 0 : len - keep;
}

/* Tokens to generate; 0: it does not fit. */
static uint32_t tokens_allowed(const struct prepare *prepare, const struct request *request,
                               uint32_t prompt_len)
{
    uint32_t room =
        prompt_len < prepare->options.context_max ? prepare->options.context_max - prompt_len : 0;
    uint32_t usual = prepare->options.max_tokens_default;

    if (request->max_tokens > 0)
        return request->max_tokens <= room ? request->max_tokens : 0;
    return usual > 0 && usual < room ? usual : room;
}

/* The prompt from token `from` on. What it was cut from had a begin token of ours: it keeps that. */
static uint32_t *copy_prompt(const struct prepare *prepare, const struct request *request,
                             uint32_t from)
{
    uint32_t begin = tokenizer_begin(prepare->options.tokenizer);
    size_t bytes = (prepare->tokens.len - from) * sizeof(uint32_t);
    uint32_t *prompt = memcpy(xmalloc(bytes), prepare->tokens.id + from, bytes);

    if (from > 0 && request->prompt_ids_len == 0 && begin != TOKEN_NONE)
        prompt[0] = begin;
    return prompt;
}

static void settle_prompt(struct prepare *prepare, const struct request *request, struct task *task)
{
    uint32_t from = first_kept(prepare, request);
    uint32_t len = prepare->tokens.len - from;

    if (request->endpoint != ENDPOINT_EMBEDDINGS) {
        task->tokens_max = tokens_allowed(prepare, request, len);
        if (task->tokens_max == 0) {
            refuse_length(task, prepare, len, request->max_tokens > 0 ? request->max_tokens : 1);
            return;
        }
    } else if (len > prepare->options.context_max) {
        refuse_length(task, prepare, len, 0);
        return;
    }
    task->prompt = copy_prompt(prepare, request, from);
    task->prompt_len = len;
    checkpoint_prompt_key(task->prompt, len, task->prompt_key);
    task->bytes += len * sizeof *task->prompt;
}

static void settle_sampling(const struct request *request, struct task *task)
{
    uint64_t line = (uint64_t)task->chunk->first_line + task->index;

    task->sampling = (struct engine_sampling){
        .temperature = (float)request->temperature,
        .top_p = request->top_p > (double)FLT_MIN ? (float)request->top_p : FLT_MIN, /* 0 is off */
        .min_p = (float)request->min_p,
        .top_k = request->top_k,
        .seed = request->has_seed ? request->seed : prepare_seed(task->chunk->job->id, line),
    };
    task_set_stop(task, request->stop, request->stop_len);
    task->ignore_eos = request->ignore_eos;
    task->include_stop = request->include_stop;
    task->return_token_ids = request->return_token_ids;
    task->embedding_base64 = request->embedding_base64;
}

struct task *prepare_task(struct prepare *prepare, struct claim_chunk *chunk, uint32_t index,
                          struct slice custom_id, struct slice body)
{
    struct request_error error;
    struct request *request;
    struct task *task;
    enum err err;

    arena_clear(&prepare->arena);
    err = request_parse(&prepare->arena, body, chunk->job->endpoint, &request, &error);
    task = task_new(chunk, index, custom_id, err ? (struct slice){NULL, 0} : request->model);
    task->bytes = sizeof *task + custom_id.len;
    if (err) {
        refuse(task, error.code, error.message, error.param);
        return task;
    }
    settle_sampling(request, task);
    if (encode(prepare, request, task))
        settle_prompt(prepare, request, task);
    return task;
}

static const char *text_of(struct prepare *prepare, const struct json *value, const char *other)
{
    return json_is_string(value) ? arena_copy(&prepare->arena, value->text.data, value->text.len)
                                 : other;
}

struct task *prepare_invalid(struct prepare *prepare, struct claim_chunk *chunk, uint32_t index,
                             struct slice custom_id, struct slice error)
{
    struct task *task = task_new(chunk, index, custom_id, (struct slice){NULL, 0});
    struct json *told = NULL;

    arena_clear(&prepare->arena);
    task->bytes = sizeof *task + custom_id.len;
    if (json_parse(&prepare->arena, error, NULL, &told, NULL))
        told = NULL;
    refuse(task, text_of(prepare, json_get(told, "code"), "invalid_request"),
           text_of(prepare, json_get(told, "message"), "The line is not a valid request."),
           text_of(prepare, json_get(told, "param"), NULL));
    return task;
}
