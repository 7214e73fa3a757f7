/*
 * log_reader.h: ranges of the log, read by partition. Partitions are assigned with explicit offsets,
 * so there is no consumer group and no rebalance; a seek happens only where a range does not begin
 * where the one before it ended. Each partition has a queue of its own, so what was fetched ahead of
 * one range waits for the next without being read.
 *
 * THREADS One thread at a time: librdkafka 2.0 is not safe with a seek beside a consume.
 *
 * MEMORY Messages are the caller's to destroy, and soon: one that is kept pins its whole fetch.
 * Fetched ahead: at most fetch_ahead_kb for each partition.
 */
#ifndef MSERVE_PRODUCER_LOG_READER_H
#define MSERVE_PRODUCER_LOG_READER_H

#include "config/errors.h"
#include "config/settings.h"

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct log_reader_options {
    const struct settings_kafka *kafka;
    const char *client; /* the program, as the broker's log has it */
    const char *topic;
    const char *group;       /* name under which offsets are committed, for tools that show lag */
    uint32_t fetch_ahead_kb; /* by partition; 0: 1,024 */
    int event_fd;            /* an eventfd that is written when messages arrive */
};

struct log_reader;

enum err log_reader_open(const struct log_reader_options *options, struct log_reader **ret);
void log_reader_close(struct log_reader *reader); /* NULL is allowed */

/*
 * The range that `part` gives out next; what was left of the one before is passed over.
 * ERR_NOT_FOUND: the log does not hold all of it. ERR_BROKER (not logged): ask again later.
 */
enum err log_reader_begin(struct log_reader *reader, int32_t part, int64_t first, int64_t last);

struct log_reader_got {
    size_t count;        /* messages; may be 0 */
    uint32_t unreadable; /* offsets of the range that were stepped over: damaged where they lie */
    bool end;            /* the range is through */
};

/* Up to `max` messages of the range, as they are there. ERR_NOT_FOUND: the log lost it meanwhile. */
enum err log_reader_read(struct log_reader *reader, int32_t part, rd_kafka_message_t **message,
                         size_t max, struct log_reader_got *ret);

/* Whether the log still reaches beyond the range: for one that gives nothing. As log_reader_begin. */
enum err log_reader_check(struct log_reader *reader, int32_t part);

/* No more of this partition. */
void log_reader_drop(struct log_reader *reader, int32_t part);

/* Serves librdkafka's events; to be called now and then. */
void log_reader_serve(struct log_reader *reader);

/* Asks for the topic and waits for the answer, `timeout_ms` at most. Any thread. */
bool log_reader_reaches_kafka(struct log_reader *reader, int timeout_ms);

/* Commits an offset for lag tools; best effort, does not wait. */
void log_reader_commit(struct log_reader *reader, int32_t part, int64_t offset);

#endif
