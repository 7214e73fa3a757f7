/*
 * frozen.h: a batch as sql/commit.h wants it: rows, checkpoints, attempts, chunks, partitions and
 * books, built once and then given unchanged until its outcome is known.
 *
 * Answers are written straight into one buffer, which rows point into. What belongs to a partition
 * that was dropped becomes an attempt: its cost is lost and no row or checkpoint is written.
 *
 * One thread uses a `struct frozen`; it keeps its memory from batch to batch.
 */
#ifndef MSERVE_CONSUMER_FROZEN_H
#define MSERVE_CONSUMER_FROZEN_H

#include "config/buffer.h"
#include "consumer/batch.h"
#include "consumer/books.h"
#include "consumer/response.h"
#include "sql/commit.h"

#include <stdint.h>

struct frozen_row; /* where a row's texts lie in the buffer */

struct frozen {
    struct commit_batch batch; /* what is sent; its arrays are the ones below */
    struct commit_partition *partitions;
    struct commit_chunk *chunks;
    struct commit_row *rows;
    struct commit_checkpoint *checkpoints;
    struct commit_discard *discards;
    struct commit_attempt *attempts;
    struct commit_job *jobs;
    struct claim_partition **claims; /* [partitions_count] the same, as this worker knows them */
    struct buffer text;
    size_t *text_at; /* [rows] where the row's text begins; it ends where the next one's begins */
    struct buffer states; /* of the checkpoints, one behind the other */
    uint32_t partitions_cap, chunks_cap, rows_cap, checkpoints_cap, discards_cap, attempts_cap,
        jobs_cap;
    uint64_t builds;
    const struct engine_model *model; /* for checkpoints: set before the first; borrowed */
    uint64_t out_ns; /* what its tasks have cost beyond their checkpoints, and its checkpoints */
};

void frozen_release(struct frozen *frozen);

/*
 * Fills frozen->batch but for worker, token, seq and lease. It borrows from the batch's tasks until
 * the next build. Called again after partitions were dropped, it gives the rest.
 */
void frozen_build(struct frozen *frozen, const struct batch *batch, const struct books_entry *entry,
                  const struct response_frame *frame);

#endif
