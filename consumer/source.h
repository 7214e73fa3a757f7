/*
 * source.h: one partition of the log as intake reads it: a line of chunks, and of the first of them the
 * lines that became tasks so far.
 *
 * A message in a chunk's range counts when it names the chunk's job and number and a line that is
 * open and not yet seen: two submitters of one file may have interleaved, other chunks may lie
 * between. When the range is through and a line was not there, the range is read once more. Then:
 *
 *   as many messages could not be read as lines are missing   these lines fail: `request_unreadable`
 *   fewer                                                     the log has lost some of them: the chunk
 *                                                             is missing (`chunk.missing`) and comes
 *                                                             home as incomplete
 *
 * A range that the log does not hold at all is asked for twice, too, and then missing.
 *
 * Before a range is read, the checkpoints that earlier attempts left of its lines are asked for, in a
 * statement behind the claim: such a task goes on from there (resume.h).
 *
 * In a chunk that is marked as suspect, what deaths of workers say of its lines is asked first: some
 * become tasks that run apart, and those that were found guilty become dead letters and fail
 * (`worker_crashed`), without being looked at any further.
 *
 * A body that was put aside and is not there any more, or is damaged, fails its line likewise.
 * Chunks of a job that is cancelled or expired are not read: their open lines become tasks with that
 * outcome, with the custom_ids of the index.
 *
 * Intake thread only.
 */
#ifndef MSERVE_CONSUMER_SOURCE_H
#define MSERVE_CONSUMER_SOURCE_H

#include "consumer/claims.h"
#include "consumer/gauges.h"
#include "producer/log_reader.h"
#include "consumer/mailbox.h"
#include "consumer/prepare.h"
#include "consumer/recorder.h"
#include "consumer/store.h"
#include "kernels/engine.h"

#include <stdbool.h>
#include <stdint.h>

/* What all sources of an intake use. */
struct source_tools {
    struct log_reader *reader;
    struct store *store;
    const struct engine_model *model; /* that checkpoints are to be of */
    struct prepare prepare;
    struct arena arena; /* of one question to the store */
    struct gauges *gauges;
    struct recorder *recorder;       /* NULL: nothing is recorded */
    struct quarantine_limits limits; /* of what finds a request guilty */
    uint32_t requests_max; /* while so many requests or bytes wait for the device, none is read */
    uint64_t bytes_max;
    struct mail_list made;                /* the tasks; whoever calls posts them */
    bool (*must_leave)(void *context);    /* asked while a source waits for the database */
    void (*on_chunk_read)(void *context); /* a chunk is through */
    void *context;
};

struct source;

struct source *source_new(int32_t part);
void source_free(struct source *source); /* its chunks were let go before; NULL is allowed */

int32_t source_part(const struct source *source);

/* The chunk is read after those that were added before. */
void source_add(struct source *source, struct claim_chunk *chunk);

/* A piece of work; false: there is nothing to do now. */
bool source_serve(struct source *source, struct source_tools *tools, uint64_t now_ns);

/* What was not yet read ends here, without a task. */
void source_let_go(struct source *source, struct source_tools *tools);

#endif
