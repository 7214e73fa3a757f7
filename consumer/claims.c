/* claims.c: making, counting and freeing what claims.h describes. */
#include "consumer/claims.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* True when this was the last reference. */
static bool let_go(atomic_uint *refs)
{
    unsigned before = atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel);

    assert(before > 0);
    return before == 1;
}

struct claim_partition *claim_partition_new(const char *topic, int32_t part, int64_t epoch,
                                            int64_t token)
{
    struct claim_partition *partition = xcalloc(1, sizeof *partition);

    partition->topic = xstrdup(topic);
    partition->part = part;
    partition->epoch = epoch;
    partition->token = token;
    atomic_init(&partition->leaving, false);
    atomic_init(&partition->dropped, false);
    atomic_init(&partition->refs, 1);
    return partition;
}

struct claim_partition *claim_partition_hold(struct claim_partition *partition)
{
    atomic_fetch_add_explicit(&partition->refs, 1, memory_order_relaxed);
    return partition;
}

void claim_partition_release(struct claim_partition *partition)
{
    if (!partition || !let_go(&partition->refs))
        return;
    free(partition->topic);
    free(partition);
}

static void hex_of(const uint8_t id[16], char out[33])
{
    static const char digits[] = "0123456789abcdef";

    for (unsigned i = 0; i < 16; i++) {
        out[2 * i] = digits[id[i] >> 4];
        out[2 * i + 1] = digits[id[i] & 15];
    }
    out[32] = '\0';
}

struct claim_job *claim_job_new(struct uuid id, enum endpoint endpoint)
{
    struct claim_job *job = xcalloc(1, sizeof *job);

    job->id = id;
    hex_of(id.bytes, job->hex);
    job->endpoint = endpoint;
    atomic_init(&job->wish, WISH_RUN);
    atomic_init(&job->held, false);
    atomic_init(&job->refs, 1);
    return job;
}

struct claim_job *claim_job_hold(struct claim_job *job)
{
    atomic_fetch_add_explicit(&job->refs, 1, memory_order_relaxed);
    return job;
}

void claim_job_release(struct claim_job *job)
{
    if (job && let_go(&job->refs))
        free(job);
}

struct claim_chunk *claim_chunk_new(struct claim_partition *partition, struct claim_job *job,
                                    struct mailbox *home)
{
    struct claim_chunk *chunk = xcalloc(1, sizeof *chunk);

    chunk->home = home;
    chunk->partition = claim_partition_hold(partition);
    chunk->job = claim_job_hold(job);
    atomic_init(&chunk->open_lines, 0);
    atomic_init(&chunk->incomplete, false);
    atomic_init(&chunk->refs, 1);
    return chunk;
}

struct claim_chunk *claim_chunk_hold(struct claim_chunk *chunk)
{
    atomic_fetch_add_explicit(&chunk->refs, 1, memory_order_relaxed);
    return chunk;
}

void claim_chunk_release(struct claim_chunk *chunk)
{
    struct claim_unsaved *next;

    if (!chunk || !let_go(&chunk->refs))
        return;
    for (struct claim_unsaved *line = chunk->unsaved; line; line = next) {
        next = line->next;
        free(line);
    }
    claim_partition_release(chunk->partition);
    claim_job_release(chunk->job);
    free(chunk);
}

void claim_chunk_ended(struct claim_chunk *chunk, uint32_t lines)
{
    unsigned before = atomic_fetch_sub_explicit(&chunk->open_lines, lines, memory_order_acq_rel);

    assert(before >= lines);
    if (before == lines)
        mailbox_post(chunk->home, &chunk->mail);
}
