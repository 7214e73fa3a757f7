/*
 * committer.h: the commit thread: it takes batches from the device thread, builds their rows, and
 * commits them one after the other on a connection of its own.
 *
 * A batch is tried until its outcome is known; the database may be away for as long as it likes. When
 * the worker is found to be lost, all that comes up to the batch of the device's stop is thrown away,
 * and committer_adopt() begins a new life under a new identity, with books that start at that cut.
 */
#ifndef MSERVE_CONSUMER_COMMITTER_H
#define MSERVE_CONSUMER_COMMITTER_H

#include "consumer/gauges.h"
#include "consumer/mailbox.h"
#include "kernels/engine.h"
#include "sql/db.h"
#include "sql/lease.h"

#include <stdint.h>

struct recorder;

struct committer_options {
    struct db_options db;
    struct gauges *gauges;
    struct recorder *recorder;       /* NULL: nothing is recorded */
    void (*on_taken)(void *context); /* a batch was taken: the device may cut the next one */
    /* the batch of the device's stop is committed, or thrown away when lost */
    void (*on_stopped)(void *context, unsigned stop);
    void (*on_lost)(void *context);   /* the worker is buried */
    void (*on_fenced)(void *context); /* a partition is somebody else's; it is marked as dropped */
    void (*on_failed)(void *context, enum err err); /* no commit is possible: a mistake of ours */
    void *context;
};

struct committer;

enum err committer_start(const struct committer_options *options, struct committer **ret);

/* Where the device thread posts batches. */
struct mailbox *committer_mailbox(struct committer *committer);

/* For the answers and the checkpoints; before the first batch. Copies. */
void committer_set_model(struct committer *committer, const struct engine_model *model);

/* From now on commits are this worker's, from number 1. */
void committer_adopt(struct committer *committer, const struct lease *lease);

/* The worker is lost: throw away what there is and what comes, up to the device's stop. */
void committer_abandon(struct committer *committer);

/* Number of the last commit that landed. */
int64_t committer_landed(const struct committer *committer);

/* The device's time when this worker's books began, and up to which its commits have booked. */
uint64_t committer_began_ns(const struct committer *committer);
uint64_t committer_booked_ns(const struct committer *committer);

/* Ends the thread; what is posted from then on lies there. NULL is allowed. */
void committer_stop(struct committer *committer);

/* Behind committer_stop(), when no other thread posts any more. Batches left are thrown away. */
void committer_free(struct committer *committer); /* NULL is allowed */

#endif
