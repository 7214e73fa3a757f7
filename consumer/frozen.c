/*
 * frozen.c: one walk over the tasks, each of which becomes a row, an attempt, both or nothing, and one
 * over the checkpoints.
 */
#include "consumer/frozen.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void frozen_release(struct frozen *frozen)
{
    free(frozen->partitions);
    free(frozen->chunks);
    free(frozen->rows);
    free(frozen->checkpoints);
    free(frozen->discards);
    free(frozen->attempts);
    free(frozen->jobs);
    free(frozen->claims);
    free(frozen->text_at);
    buffer_release(&frozen->text);
    buffer_release(&frozen->states);
    *frozen = (struct frozen){0};
}

/* Room for one more of *array[count]. */
static void grow(void *array, uint32_t count, uint32_t *cap, size_t size)
{
    void **at = array;

    if (count < *cap)
        return;
    *cap = *cap ? 2 * *cap : 64;
    *at = xrealloc(*at, *cap, size);
}

static uint32_t partition_slot(struct frozen *frozen, struct claim_partition *claim)
{
    uint32_t cap = frozen->partitions_cap;
    uint32_t slot = frozen->batch.partitions_count;

    if (claim->build == frozen->builds)
        return claim->slot;
    grow(&frozen->claims, slot, &cap, sizeof(struct claim_partition *));
    grow(&frozen->partitions, slot, &frozen->partitions_cap, sizeof *frozen->partitions);
    frozen->claims[slot] = claim;
    frozen->partitions[slot] = (struct commit_partition){
        .topic = claim->topic,
        .part = claim->part,
        .epoch = claim->epoch,
        .token = claim->token,
    };
    claim->build = frozen->builds;
    claim->slot = frozen->batch.partitions_count++;
    return claim->slot;
}

static uint32_t chunk_slot(struct frozen *frozen, struct claim_chunk *chunk)
{
    uint32_t slot = frozen->batch.chunks_count;

    if (chunk->build == frozen->builds)
        return chunk->slot;
    grow(&frozen->chunks, slot, &frozen->chunks_cap, sizeof *frozen->chunks);
    frozen->chunks[slot] = (struct commit_chunk){
        .job = chunk->job->id,
        .chunk = chunk->chunk,
        .partition = partition_slot(frozen, chunk->partition),
        .first_line = chunk->first_line,
        .lines = chunk->lines,
        .suspect = chunk->suspect,
    };
    chunk->build = frozen->builds;
    chunk->slot = frozen->batch.chunks_count++;
    return chunk->slot;
}

static enum row_status row_status(enum task_status status)
{
    switch (status) {
    case TASK_COMPLETED:
        return ROW_COMPLETED;
    case TASK_CANCELLED:
        return ROW_CANCELLED;
    case TASK_EXPIRED:
        return ROW_EXPIRED;
    case TASK_FAILED:
    case TASK_DROPPED:
        break;
    }
    return ROW_FAILED;
}

/* Marks which of the two JSON columns the text is for; the pointer is set when all are written. */
static void write_text(struct frozen *frozen, struct commit_row *row, const struct task *task,
                       const struct response_frame *frame)
{
    static const char later[] = "";

    if (task->status == TASK_COMPLETED) {
        response_write(&frozen->text, task, frame);
        row->status_code = 200;
        row->response.data = later;
    } else if (response_write_error(&frozen->text, task)) {
        row->status_code = (int16_t)task->error.status_code;
        row->response.data = later;
    } else {
        row->error.data = later;
    }
}

static void add_row(struct frozen *frozen, const struct task *task,
                    const struct response_frame *frame)
{
    uint32_t index = frozen->batch.rows_count++;
    uint32_t cap = frozen->rows_cap;
    bool keeps_cost = task->status == TASK_COMPLETED || task->status == TASK_FAILED;
    struct commit_row *row;

    grow(&frozen->text_at, index, &cap, sizeof *frozen->text_at);
    grow(&frozen->rows, index, &frozen->rows_cap, sizeof *frozen->rows);
    frozen->text_at[index] = frozen->text.len;
    row = &frozen->rows[index];
    *row = (struct commit_row){
        .chunk = chunk_slot(frozen, task->chunk),
        .line = task->chunk->first_line + task->index,
        .custom_id = task->custom_id,
        .status = row_status(task->status),
        .input_tokens = task->cost.prompt_tokens,
        .cached_tokens = task->cost.cached_tokens,
        .output_tokens = task->cost.output_tokens,
        .gpu_ns = keeps_cost ? task->cost.ns - task->saved_ns : 0,
        .attempt = task->attempt,
        .resumed_tokens = task->resumed_len,
        .recompute_ns = task->cost.recompute_ns,
        .numerics_changed = task->numerics_changed,
    };
    write_text(frozen, row, task, frame);
}

static void add_attempt(struct frozen *frozen, const struct commit_attempt *attempt)
{
    uint32_t index = frozen->batch.attempts_count++;

    grow(&frozen->attempts, index, &frozen->attempts_cap, sizeof *frozen->attempts);
    frozen->attempts[index] = *attempt;
}

static const struct claim_unsaved *find_unsaved(const struct claim_chunk *chunk, uint32_t index)
{
    for (const struct claim_unsaved *line = chunk->unsaved; line; line = line->next)
        if (line->index == index)
            return line;
    return NULL;
}

/* The task believes in each checkpoint that was cut. Of those refused the first says what there is. */
static void note_unsaved(const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->checkpoints_count; i++) {
        const struct batch_checkpoint *from = &batch->checkpoint[i];
        struct claim_unsaved *line;

        if (!claim_chunk_is_dropped(from->chunk) || find_unsaved(from->chunk, from->index))
            continue;
        line = xmalloc(sizeof *line);
        *line = (struct claim_unsaved){.next = from->chunk->unsaved,
                                       .index = from->index,
                                       .tokens = from->tokens_before,
                                       .ns = from->ns_before};
        from->chunk->unsaved = line;
    }
}

/*
 * A run that ended without a row of its own; one that cost nothing is not told of. What a checkpoint
 * has of it is kept, but for a request that is passed over: its checkpoint goes in this commit. One
 * that was refused is lost, and was told of on its own (lose_checkpoint).
 */
static void add_task_attempt(struct frozen *frozen, const struct task *task, enum attempt_why why)
{
    const struct claim_unsaved *unsaved = find_unsaved(task->chunk, task->index);
    uint32_t saved = task->saved_tokens, made = task->cost.output_tokens;
    uint32_t landed = unsaved ? unsaved->tokens : saved;
    bool is_kept = why != ATTEMPT_CANCELLED && why != ATTEMPT_DEADLINE;

    if (task->cost.ns == 0 && task->cost.recompute_ns == 0)
        return;
    add_attempt(frozen, &(struct commit_attempt){
                            .job = task->chunk->job->id,
                            .line = task->chunk->first_line + task->index,
                            .gpu_ns = task->cost.ns - task->saved_ns,
                            .why = why,
                            .attempt = task->attempt,
                            .tokens_kept = is_kept ? (int32_t)(landed - task->resumed_len) : 0,
                            .tokens_lost = (int32_t)(made > saved ? made - saved : 0),
                            .kept_ns = is_kept ? (unsaved ? unsaved->ns : task->saved_ns) : 0,
                            .recompute_ns = task->cost.recompute_ns,
                        });
}

/* Somebody else has it now, or will; it waits; or nobody wants it. */
static enum attempt_why why_without_row(const struct task *task)
{
    if (task->status == TASK_CANCELLED)
        return ATTEMPT_CANCELLED;
    if (task->status == TASK_EXPIRED)
        return ATTEMPT_DEADLINE;
    if (task->stop_why == TASK_HELD)
        return ATTEMPT_HELD;
    return claim_chunk_is_leaving(task->chunk) ? ATTEMPT_FENCED : ATTEMPT_PREEMPTED;
}

/*
 * The worker leaves, and all of the attempt is in a checkpoint of its own: the burial writes the
 * attempt of each of these. What was read again is in no checkpoint, so it is told of here.
 */
static bool burial_tells(const struct task *task)
{
    return task->status == TASK_DROPPED && task->stop_why != TASK_HELD &&
           task->saved_tokens > task->resumed_len && task->saved_ns == task->cost.ns &&
           task->cost.recompute_ns == 0 && !claim_chunk_is_leaving(task->chunk);
}

static void add_task(struct frozen *frozen, const struct task *task,
                     const struct response_frame *frame)
{
    assert(task->state == TASK_ENDED);
    frozen->out_ns += task->cost.ns - task->saved_ns;
    if (claim_chunk_is_dropped(task->chunk)) {
        add_task_attempt(frozen, task, ATTEMPT_FENCED);
        return;
    }
    if (task->status != TASK_DROPPED)
        add_row(frozen, task, frame);
    if (task->status != TASK_COMPLETED && task->status != TASK_FAILED && !burial_tells(task))
        add_task_attempt(frozen, task, why_without_row(task));
}

/* ------------------------------------------------------------------------------ checkpoints ---- */

static void encode(struct frozen *frozen, const struct batch *batch,
                   const struct batch_checkpoint *from)
{
    const uint32_t *words = batch->words + from->at;
    struct checkpoint checkpoint = {
        .job = from->chunk->job->id,
        .line = from->chunk->first_line + from->index,
        .epoch = from->chunk->partition->epoch,
        .attempt = from->attempt,
        .seed = from->seed,
        .numerics_changed = from->numerics_changed,
        .ran_ns = from->ran_ns,
        .tokens = words,
        .tokens_len = from->tokens,
        .logprobs = from->logprobs ? (const float *)(words + from->tokens) : NULL,
    };

    memcpy(checkpoint.prompt, from->prompt_key, sizeof checkpoint.prompt);
    memcpy(checkpoint.model, frozen->model->digest, sizeof checkpoint.model);
    memcpy(checkpoint.numerics, frozen->model->numerics, sizeof checkpoint.numerics);
    checkpoint_encode(&checkpoint, &frozen->states);
}

/* What could not be saved because the partition is somebody else's is lost. */
static void lose_checkpoint(struct frozen *frozen, const struct batch_checkpoint *from)
{
    add_attempt(frozen, &(struct commit_attempt){
                            .job = from->chunk->job->id,
                            .line = from->chunk->first_line + from->index,
                            .gpu_ns = from->gpu_ns,
                            .why = ATTEMPT_FENCED,
                            .attempt = from->attempt,
                            .tokens_lost = (int32_t)(from->tokens - from->tokens_before),
                        });
}

static void add_checkpoint(struct frozen *frozen, const struct batch *batch,
                           const struct batch_checkpoint *from)
{
    uint32_t index = frozen->batch.checkpoints_count;
    size_t begin = frozen->states.len;

    frozen->out_ns += from->gpu_ns;
    if (claim_chunk_is_dropped(from->chunk)) {
        lose_checkpoint(frozen, from);
        return;
    }
    encode(frozen, batch, from);
    grow(&frozen->checkpoints, index, &frozen->checkpoints_cap, sizeof *frozen->checkpoints);
    frozen->checkpoints[index] = (struct commit_checkpoint){
        .chunk = chunk_slot(frozen, from->chunk),
        .line = from->chunk->first_line + from->index,
        .attempt = from->attempt,
        .tokens = from->tokens,
        .gpu_ns = from->gpu_ns,
        .state = {NULL, frozen->states.len - begin},
    };
    frozen->batch.checkpoints_count++;
}

static void add_discard(struct frozen *frozen, const struct batch_discard *from)
{
    uint32_t index = frozen->batch.discards_count;

    if (claim_chunk_is_dropped(from->chunk))
        return; /* its next owner finds it too */
    grow(&frozen->discards, index, &frozen->discards_cap, sizeof *frozen->discards);
    frozen->discards[index] = (struct commit_discard){
        .chunk = chunk_slot(frozen, from->chunk),
        .line = from->chunk->first_line + from->index,
    };
    frozen->batch.discards_count++;
}

/* The buffer has its final place now. */
static void point_checkpoints(struct frozen *frozen)
{
    const char *at = frozen->states.data;

    for (uint32_t i = 0; i < frozen->batch.checkpoints_count; i++) {
        frozen->checkpoints[i].state.data = at;
        at += frozen->checkpoints[i].state.len;
    }
}

/* -------------------------------------------------------------------------- what else there is ---- */

static void add_jobs(struct frozen *frozen, const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->jobs_count; i++) {
        const struct batch_job *job = &batch->job[i];

        grow(&frozen->jobs, i, &frozen->jobs_cap, sizeof *frozen->jobs);
        frozen->jobs[i] = (struct commit_job){
            .job = job->job,
            .wip_ns = job->wip_ns,
            .shared_ns = job->shared_ns,
            .recompute_ns = job->recompute_ns,
        };
    }
    frozen->batch.jobs_count = batch->jobs_count;
}

/* The buffer has its final place now. */
static void point_rows(struct frozen *frozen)
{
    for (uint32_t i = 0; i < frozen->batch.rows_count; i++) {
        struct commit_row *row = &frozen->rows[i];
        size_t end = i + 1 < frozen->batch.rows_count ? frozen->text_at[i + 1] : frozen->text.len;
        struct slice text = {frozen->text.data + frozen->text_at[i], end - frozen->text_at[i]};

        if (row->response.data)
            row->response = text;
        else
            row->error = text;
    }
}

void frozen_build(struct frozen *frozen, const struct batch *batch, const struct books_entry *entry,
                  const struct response_frame *frame)
{
    frozen->batch = (struct commit_batch){0};
    frozen->builds++;
    frozen->out_ns = 0;
    buffer_clear(&frozen->text);
    buffer_clear(&frozen->states);
    note_unsaved(batch);
    for (uint32_t i = 0; i < batch->count; i++)
        add_task(frozen, batch->task[i], frame);
    for (uint32_t i = 0; i < batch->checkpoints_count; i++)
        add_checkpoint(frozen, batch, &batch->checkpoint[i]);
    for (uint32_t i = 0; i < batch->discards_count; i++)
        add_discard(frozen, &batch->discard[i]);
    add_jobs(frozen, batch);
    point_rows(frozen);
    point_checkpoints(frozen);
    frozen->batch.partitions = frozen->partitions;
    frozen->batch.chunks = frozen->chunks;
    frozen->batch.rows = frozen->rows;
    frozen->batch.checkpoints = frozen->checkpoints;
    frozen->batch.discards = frozen->discards;
    frozen->batch.attempts = frozen->attempts;
    frozen->batch.jobs = frozen->jobs;
    frozen->batch.books = (struct commit_books){
        .held_ns = entry->held_ns,
        .wip_ns = entry->wip_ns,
        .shared_ns = entry->shared_ns,
        .recompute_ns = entry->recompute_ns,
        .overhead_ns = entry->overhead_ns,
        .idle_ns = entry->idle_ns,
    };
    frozen->batch.sampled = batch->sampled;
}
