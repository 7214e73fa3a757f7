/* batch.c: growable arrays. */
#include "consumer/batch.h"

#include <stdlib.h>
#include <string.h>

struct batch *batch_new(void)
{
    return xcalloc(1, sizeof(struct batch));
}

void batch_free(struct batch *batch)
{
    if (!batch)
        return;
    for (uint32_t i = 0; i < batch->count; i++)
        task_free(batch->task[i]);
    for (uint32_t i = 0; i < batch->checkpoints_count; i++)
        claim_chunk_release(batch->checkpoint[i].chunk);
    for (uint32_t i = 0; i < batch->discards_count; i++)
        claim_chunk_release(batch->discard[i].chunk);
    free(batch->task);
    free(batch->job);
    free(batch->checkpoint);
    free(batch->words);
    free(batch->discard);
    free(batch->again);
    free(batch->running);
    free(batch);
}

void batch_add(struct batch *batch, struct task *task, uint64_t now_ns)
{
    if (batch->count == batch->cap) {
        batch->cap = batch->cap ? 2 * batch->cap : 256;
        batch->task = xrealloc(batch->task, batch->cap, sizeof(struct task *));
    }
    if (batch->count == 0)
        batch->first_ns = now_ns;
    batch->task[batch->count++] = task;
}

static void add_words(struct batch *batch, const void *words, size_t count)
{
    if (batch->words_cap - batch->words_len < count) {
        batch->words_cap = 2 * batch->words_cap + count;
        batch->words = xrealloc(batch->words, batch->words_cap, sizeof *batch->words);
    }
    memcpy(batch->words + batch->words_len, words, count * sizeof *batch->words);
    batch->words_len += count;
}

void batch_add_checkpoint(struct batch *batch, const struct task *task,
                          const struct engine_checkpoint *live, uint64_t worked_ns)
{
    struct batch_checkpoint *checkpoint;

    _Static_assert(sizeof(float) == sizeof *batch->words, "a log-probability is a word");
    if (batch->checkpoints_count == batch->checkpoints_cap) {
        batch->checkpoints_cap = batch->checkpoints_cap ? 2 * batch->checkpoints_cap : 64;
        batch->checkpoint =
            xrealloc(batch->checkpoint, batch->checkpoints_cap, sizeof *batch->checkpoint);
    }
    checkpoint = &batch->checkpoint[batch->checkpoints_count++];
    *checkpoint = (struct batch_checkpoint){
        .chunk = claim_chunk_hold(task->chunk),
        .index = task->index,
        .attempt = task->attempt,
        .tokens = live->tokens_len,
        .tokens_before = task->saved_tokens,
        .gpu_ns = live->cost_ns - task->saved_ns,
        .ns_before = task->saved_ns,
        .ran_ns = task->ran_ns + (worked_ns - task->began_ns),
        .seed = task->sampling.seed,
        .numerics_changed = task->numerics_changed,
        .logprobs = live->logprobs != NULL,
        .at = batch->words_len,
    };
    memcpy(checkpoint->prompt_key, task->prompt_key, sizeof checkpoint->prompt_key);
    add_words(batch, live->tokens, live->tokens_len);
    if (live->logprobs)
        add_words(batch, live->logprobs, live->tokens_len);
}

void batch_add_discard(struct batch *batch, const struct task *task)
{
    batch->discard = xrealloc(batch->discard, batch->discards_count + 1, sizeof *batch->discard);
    batch->discard[batch->discards_count++] =
        (struct batch_discard){claim_chunk_hold(task->chunk), task->index};
}

/* Only of those that have read again since the cut before: none, mostly. */
void batch_add_again(struct batch *batch, uint32_t slot, uint64_t recompute_ns)
{
    batch->again = xrealloc(batch->again, batch->again_count + 1, sizeof *batch->again);
    batch->again[batch->again_count++] = (struct batch_again){slot, recompute_ns};
}

/* Few jobs run at a time, and neighbours are mostly of one: looked for from the end. */
void batch_add_job(struct batch *batch, const struct batch_job *add)
{
    for (uint32_t i = batch->jobs_count; i-- > 0;) {
        struct batch_job *entry = &batch->job[i];

        if (uuid_equal(entry->job, add->job)) {
            entry->wip_ns += add->wip_ns;
            entry->shared_ns += add->shared_ns;
            entry->recompute_ns += add->recompute_ns;
            return;
        }
    }
    batch->job = xrealloc(batch->job, batch->jobs_count + 1, sizeof *batch->job);
    batch->job[batch->jobs_count++] = *add;
}
