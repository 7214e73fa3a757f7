/*
 * intake.h: the intake thread: it reads the chunks that control chose, each line of a chunk once,
 * makes tasks of them and posts these to the device thread. How a chunk is read stands in source.h.
 *
 * BOUNDED While so many requests, or bytes of them, wait for the device, nothing more is read.
 */
#ifndef MSERVE_CONSUMER_INTAKE_H
#define MSERVE_CONSUMER_INTAKE_H

#include "config/settings.h"
#include "consumer/claims.h"
#include "consumer/gauges.h"
#include "consumer/mailbox.h"
#include "consumer/prepare.h"
#include "consumer/recorder.h"

#include <stdint.h>

struct intake_options {
    const struct settings *settings;
    const char *topic;
    const char *group;
    const struct engine_model *model; /* that checkpoints are to be of; borrowed */
    struct prepare_options prepare;
    struct gauges *gauges;
    struct recorder *recorder; /* NULL: nothing is recorded */
    struct mailbox *tasks;     /* to the device thread */
    uint32_t requests_max;     /* waiting for the device */
    uint64_t bytes_max;
    void (*on_chunk_read)(void *context);             /* the next one may be wanted */
    void (*on_stopped)(void *context, unsigned stop); /* after intake_halt(): no task follows */
    void *context;
};

struct intake;

enum err intake_start(const struct intake_options *options, struct intake **ret);

/* Posts the chunk: its range is read and its tasks made. It comes home when all its lines ended. */
void intake_read_chunk(struct intake *intake, struct claim_chunk *chunk);

/*
 * Control thread, in turns; it begins at rest. intake_halt(): no more reading, what was not yet read
 * ends here, and on_stopped is called with the number that is returned. See orders.h.
 */
void intake_go(struct intake *intake);
unsigned intake_halt(struct intake *intake);

/* Something changed: room with the device, a wish, a partition lost. Any thread. */
void intake_ring(struct intake *intake);

/* Tells the lag tools: everything below `offset` of `part` is done. Any thread; best effort. */
void intake_tell_offset(struct intake *intake, int32_t part, int64_t offset);

/* Whether Kafka answers within that time; waits for it. Any thread, before intake_stop(). */
bool intake_reaches_kafka(struct intake *intake, int timeout_ms);

/* Ends the thread; what other threads may still call does nothing from then on. NULL is allowed. */
void intake_stop(struct intake *intake);

/* Behind intake_stop(), when no other thread calls it any more. Chunks still with it are let go. */
void intake_free(struct intake *intake); /* NULL is allowed */

#endif
