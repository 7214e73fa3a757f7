/*
 * made.h: claims and tasks made for tests: partition 0, one job, a chunk of `lines` open lines.
 * Include after cmocka.
 */
#ifndef MSERVE_TESTS_UNIT_CONSUMER_MADE_H
#define MSERVE_TESTS_UNIT_CONSUMER_MADE_H

#include <stdlib.h>
#include <string.h>

#include "consumer/task.h"

#define TEXT(text) ((struct slice){(text), strlen(text)})

struct made {
    struct mailbox home;
    struct claim_partition *partition;
    struct claim_job *job;
    struct claim_chunk *chunk;
};

static inline struct uuid made_uuid(uint8_t last)
{
    struct uuid uuid = {.bytes = {0x01, 0x9a, 0x02, 0x03, 0x04, 0x05, 0x70, 0x07, 0x80, 0x09}};

    uuid.bytes[15] = last;
    return uuid;
}

static inline void made_open(struct made *made, uint8_t job, enum endpoint endpoint, uint32_t lines)
{
    mailbox_init(&made->home, -1);
    made->partition = claim_partition_new("t", 0, 1, 11);
    made->job = claim_job_new(made_uuid(job), endpoint);
    made->chunk = claim_chunk_new(made->partition, made->job, &made->home);
    made->chunk->lines = lines;
    made->chunk->open_at_start = lines;
    atomic_store(&made->chunk->open_lines, lines);
}

static inline void made_close(struct made *made)
{
    mailbox_take(&made->home);
    claim_chunk_release(made->chunk);
    claim_job_release(made->job);
    claim_partition_release(made->partition);
    mailbox_release(&made->home);
}

/* A request with `prompt_len` prompt tokens that wants `tokens` more. */
static inline struct task *made_task(struct made *made, uint32_t index, uint32_t prompt_len,
                                     uint32_t tokens)
{
    struct task *task = task_new(made->chunk, index, TEXT("id"), TEXT("m"));

    task->prompt = xcalloc(prompt_len, sizeof *task->prompt);
    for (uint32_t i = 0; i < prompt_len; i++)
        task->prompt[i] = 'a' + i % 26;
    task->prompt_len = prompt_len;
    task->tokens_max = tokens;
    task->sampling = (struct engine_sampling){.temperature = 1, .top_p = 1, .seed = index};
    return task;
}

#endif
