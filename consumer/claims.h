/*
 * claims.h: what this worker holds, as its threads share it: partitions (the fence), jobs (what the
 * user wishes) and chunks (a range of the log and which of its lines are still open).
 *
 * OWNERSHIP Counted references: the control thread makes them and holds one each; a chunk holds its
 * partition and its job, a task holds its chunk. The last release frees. A chunk goes to intake by
 * its `mail`, and comes home by it when all its lines have ended.
 *
 * THREADS Fields are constant after the thing is made, but for the atomics: `leaving`, `dropped` and
 * `wish` are set once by whoever learns of it first and are read by all; `held` comes and goes, as the
 * control thread hears of it; `open_lines` is counted down by the thread that ends a line.
 */
#ifndef MSERVE_CONSUMER_CLAIMS_H
#define MSERVE_CONSUMER_CLAIMS_H

#include "config/buffer.h"
#include "config/uuid.h"
#include "consumer/mailbox.h"
#include "producer/request.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { CHUNK_LINES_MAX = 1024, CHUNK_MAP_BYTES = CHUNK_LINES_MAX / 8 };

/* What the user wants of the lines that have no row yet. */
enum wish { WISH_RUN, WISH_CANCEL, WISH_EXPIRE };

struct claim_partition {
    char *topic;
    int32_t part;
    int64_t epoch;
    int64_t token;
    atomic_bool leaving; /* to be handed back: what runs of it ends, what does not is given up */
    atomic_bool dropped; /* somebody else's now, or handed back: nothing of it may be written */
    atomic_uint refs;
    uint64_t build; /* commit thread's own: the batch in which it stands, and where */
    uint32_t slot;
};

struct claim_job {
    struct uuid id;
    char hex[33];
    enum endpoint endpoint;
    atomic_int wish;  /* enum wish */
    atomic_bool held; /* it waits: what runs of it is saved and ends, the rest is given up */
    atomic_uint refs;
};

/* A line whose checkpoint was refused with its partition: up to where it is saved nevertheless. */
struct claim_unsaved {
    struct claim_unsaved *next;
    uint32_t index;
    uint32_t tokens; /* in the last checkpoint that landed, resumed ones included */
    uint64_t ns;     /* of this worker's cost, in those that landed */
};

struct claim_chunk {
    struct mail mail;     /* first */
    struct mailbox *home; /* where it is posted when open_lines comes to 0 */
    struct claim_partition *partition;
    struct claim_job *job;
    int32_t chunk;
    int64_t first_line;
    uint32_t lines;
    int64_t first_offset;
    int64_t last_offset;
    uint64_t bytes;
    uint8_t done[CHUNK_MAP_BYTES]; /* bit i: line first_line + i had its row when it was claimed */
    uint32_t open_at_start;        /* lines without a row then */
    atomic_uint open_lines;        /* of these, not yet ended here; one more while it is read */
    atomic_bool incomplete;        /* a line was not had from the log: look at it again later */
    atomic_bool missing;           /* because the log does not hold it: the index is to be told */
    bool marked;                   /* control's own: the index has been told */
    bool suspect;                  /* lines of it were open when a worker died */
    atomic_uint refs;
    uint64_t build; /* commit thread's own: the batch in which it stands, and where */
    uint32_t slot;
    struct claim_unsaved *unsaved; /* likewise its own; NULL: none was refused */
};

/* Copies `topic`. */
struct claim_partition *claim_partition_new(const char *topic, int32_t part, int64_t epoch,
                                            int64_t token);
struct claim_partition *claim_partition_hold(struct claim_partition *partition);
void claim_partition_release(struct claim_partition *partition); /* NULL is allowed */

struct claim_job *claim_job_new(struct uuid id, enum endpoint endpoint);
struct claim_job *claim_job_hold(struct claim_job *job);
void claim_job_release(struct claim_job *job); /* NULL is allowed */

/* Takes its own references; the caller fills the rest. */
struct claim_chunk *claim_chunk_new(struct claim_partition *partition, struct claim_job *job,
                                    struct mailbox *home);

/* `lines` more have ended: have their row, or are not to get one from this worker. */
void claim_chunk_ended(struct claim_chunk *chunk, uint32_t lines);
struct claim_chunk *claim_chunk_hold(struct claim_chunk *chunk);
void claim_chunk_release(struct claim_chunk *chunk); /* NULL is allowed */

static inline bool claim_line_is_done(const struct claim_chunk *chunk, uint32_t index)
{
    return chunk->done[index / 8] & (0x80u >> (index % 8));
}

static inline bool claim_chunk_is_dropped(struct claim_chunk *chunk)
{
    return atomic_load_explicit(&chunk->partition->dropped, memory_order_acquire);
}

static inline enum wish claim_job_wish(struct claim_job *job)
{
    return (enum wish)atomic_load_explicit(&job->wish, memory_order_acquire);
}

static inline bool claim_job_is_held(struct claim_job *job)
{
    return atomic_load_explicit(&job->held, memory_order_acquire);
}

/* Of its lines those that have not begun are for somebody else, or for later. */
static inline bool claim_chunk_is_leaving(struct claim_chunk *chunk)
{
    return claim_chunk_is_dropped(chunk) || claim_job_is_held(chunk->job) ||
           atomic_load_explicit(&chunk->partition->leaving, memory_order_acquire);
}

#endif
