/*
 * prepare.h: from a body to a task that the engine can take: checked, its chat rendered, its prompt
 * as token ids, its limits settled. What cannot run becomes a task that has failed, with the error
 * that OpenAI's API would give.
 *
 * Truncation as in vLLM: truncate_prompt_tokens k keeps the last k tokens of the prompt, -1 keeps as
 * many as the context holds beside the tokens asked for. A text that began with the model's begin
 * token still does: it is one of the k. (vLLM does so for completions and embeddings; in a chat, where
 * the begin token is part of its template's text, it cuts it off. We do not.) A list of token ids is
 * cut as it is. Without truncation, what does not fit fails with `context_length_exceeded`.
 *
 * One thread uses a `struct prepare`; it reuses its memory from task to task.
 */
#ifndef MSERVE_CONSUMER_PREPARE_H
#define MSERVE_CONSUMER_PREPARE_H

#include "config/buffer.h"
#include "consumer/task.h"
#include "kernels/text/tokenizer.h"

#include <stdint.h>

struct chat_format;

struct prepare_options {
    const struct tokenizer *tokenizer;
    const struct chat_format *chat; /* NULL: the model has none, chat requests fail */
    uint32_t context_max;
    /* Of a chat that says nothing; 0: what the context holds. A prompt truncated by -1 leaves room for
     * as many, but for no more than half of the context. */
    uint32_t max_tokens_default;
};

struct prepare {
    struct prepare_options options;
    struct arena arena;
    struct tokens tokens;
};

void prepare_init(struct prepare *prepare, const struct prepare_options *options);
void prepare_release(struct prepare *prepare);

/* Never NULL. Nothing of `custom_id` or `body` is kept. */
struct task *prepare_task(struct prepare *prepare, struct claim_chunk *chunk, uint32_t index,
                          struct slice custom_id, struct slice body);

/* The task of a line that was not valid when it was submitted; `error` is its JSON. */
struct task *prepare_invalid(struct prepare *prepare, struct claim_chunk *chunk, uint32_t index,
                             struct slice custom_id, struct slice error);

/* The seed of a request that names none: the same whenever and wherever it runs. */
uint64_t prepare_seed(struct uuid job, uint64_t line);

#endif
