/*
 * publish.h: sends chunks into the log and says which are there.
 *
 * The producer is idempotent: within one run a message is in the log once and in order. Between
 * runs nothing is assumed: a chunk counts when its row is in the index, and else it is sent again.
 *
 * A chunk is confirmed when all its messages got their delivery report. One that failed is sent
 * again as a whole; after a fatal error of the idempotent producer a new one is made. What is on
 * the way is bounded (32,768 messages or 32 MiB and a chunk), so memory does not grow with the file.
 *
 * ERRORS ERR_BROKER, ERR_DENIED, ERR_SETTINGS, all logged with a sentence.
 * One thread; librdkafka has its own.
 */
#ifndef MSERVE_PRODUCER_PUBLISH_H
#define MSERVE_PRODUCER_PUBLISH_H

#include "config/settings.h"
#include "producer/chunk.h"

#include <stdbool.h>
#include <stdint.h>

struct publisher_options {
    const struct settings_kafka *kafka;
    const char *topic;
    uint32_t partitions;         /* the topic must have at least as many */
    uint32_t connect_timeout_ms; /* for the first answer of a broker; 0: 10 s */
    uint32_t message_timeout_ms; /* how long a broker may be gone meanwhile; 0: 10 min */
};

/* Whose chunks they are: chunk c goes to partition (partition_first + c) mod partitions. */
struct publisher_job {
    uint8_t job[MESSAGE_JOB_BYTES];
    struct slice tenant;
    uint32_t partition_first;
    uint32_t partitions;
};

struct publisher;

/* Connects and checks the topic. All options are borrowed for the publisher's life. */
enum err publisher_open(const struct publisher_options *options, struct publisher **ret);

/* Before the first chunk is sent. The tenant is borrowed. */
void publisher_begin(struct publisher *publisher, const struct publisher_job *job);
void publisher_close(struct publisher *publisher); /* drops what is on the way; NULL is allowed */

/* A chunk to fill and send; NULL: enough is on the way, poll first. */
struct chunk *publisher_chunk(struct publisher *publisher);

/* Hands the chunk over; it comes back from publisher_confirmed(). */
enum err publisher_send(struct publisher *publisher, struct chunk *chunk);

/*
 * Waits up to `timeout_ms` for delivery reports and sends again what failed. `last`: nothing more
 * will follow, so what lingers to be sent with it goes at once.
 */
enum err publisher_poll(struct publisher *publisher, int timeout_ms, bool last);

/* A chunk that is in the log, with its offsets; NULL: none now. */
struct chunk *publisher_confirmed(struct publisher *publisher);

/* Gives back a chunk that was confirmed or never sent. */
void publisher_recycle(struct publisher *publisher, struct chunk *chunk);

/* Messages sent and not yet confirmed. */
uint32_t publisher_on_the_way(const struct publisher *publisher);

/* The partition of a chunk. */
static inline int32_t publish_partition(uint32_t partition_first, uint32_t chunk,
                                        uint32_t partitions)
{
    return (int32_t)(((uint64_t)partition_first + chunk) % partitions);
}

/* For tests: the librdkafka client. */
void *publisher_client(struct publisher *publisher);

#endif
