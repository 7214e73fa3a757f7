/* log_reader.c: assign, seek, and a queue for each partition. */
#include "producer/log_reader.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "config/buffer.h"
#include "config/log.h"
#include "config/metrics.h"
#include "producer/kafka.h"

enum {
    FETCH_AHEAD_KB = 1024,
    PASS_OVER_MAX = 256, /* messages between two ranges that cost less than a seek */
    QUERY_MS = 2000,
    START_MS = 15000,
    CLOSE_MS = 2000,
    POLL_MS = 50,
};

struct log_part {
    int32_t part;
    rd_kafka_queue_t *queue;
    int64_t position; /* offset of the next message that the queue will give */
    int64_t first;    /* of the range */
    int64_t last;
    int64_t end;   /* one beyond the last offset that the log is known to hold */
    bool astray;   /* the client is not at `position`: a seek is due, */
    bool stopped;  /* or, where it does not seek any more, another start */
    bool confused; /* it has met damage, and has said nothing since that makes sense */
};

struct log_reader {
    char *topic;
    rd_kafka_t *kafka;
    rd_kafka_topic_t *handle;
    struct kafka_trouble trouble;
    int event_fd;
    struct log_part **part; /* few: looked for one by one */
    uint32_t part_count;
};

/* ----------------------------------------------------------------------------- connection ---- */

/*
 * What a reader of ranges needs beside brokers and security. A fetch is counted in compressed bytes
 * and lies in memory unpacked: small fetches keep what a partition has ahead small even where its
 * text compresses thirtyfold (64 KiB instead of 1 MiB: 64 MB instead of 706 MB, no slower).
 */
static enum err set_all(rd_kafka_conf_t *conf, const struct log_reader_options *options)
{
    char ahead_kb[16];
    const char *const pairs[][2] = {
        {"group.id", options->group},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"},
        {"check.crcs", "true"},
        {"fetch.error.backoff.ms", "100"},
        {"fetch.wait.max.ms", "100"},
        {"fetch.message.max.bytes", "65536"},
        {"queued.min.messages", "4096"},
        {"queued.max.messages.kbytes", ahead_kb},
    };

    snprintf(ahead_kb, sizeof ahead_kb, "%u",
             options->fetch_ahead_kb ? options->fetch_ahead_kb : FETCH_AHEAD_KB);
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        enum err err = kafka_conf_set(conf, pairs[i][0], pairs[i][1]);

        if (err)
            return err;
    }
    return ERR_OK;
}

static enum err connect_kafka(struct log_reader *reader, const struct log_reader_options *options)
{
    rd_kafka_conf_t *conf;
    char why[256];
    enum err err = kafka_conf(options->kafka, options->client, &reader->trouble, &conf);

    if (err)
        return err;
    err = set_all(conf, options);
    if (err) {
        rd_kafka_conf_destroy(conf);
        return err;
    }
    reader->kafka = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (!reader->kafka) {
        rd_kafka_conf_destroy(conf);
        return fail(ERR_SETTINGS, "Kafka client: %s", why);
    }
    rd_kafka_poll_set_consumer(reader->kafka);
    reader->handle = rd_kafka_topic_new(reader->kafka, options->topic, NULL);
    return ERR_OK;
}

/* A worker that starts without a broker, or for a topic that is not there, says so and ends. */
static enum err check_topic(struct log_reader *reader, const struct log_reader_options *options)
{
    uint32_t partitions;
    enum err err = kafka_partitions(reader->kafka, options->kafka, &reader->trouble, options->topic,
                                    START_MS, &partitions);

    if (err)
        return err;
    if (partitions == 0)
        return fail(ERR_BROKER, "Kafka has no topic %s: make it with `mserve topics`",
                    options->topic);
    return ERR_OK;
}

enum err log_reader_open(const struct log_reader_options *options, struct log_reader **ret)
{
    struct log_reader *reader = xcalloc(1, sizeof *reader);
    enum err err;

    reader->topic = xstrdup(options->topic);
    reader->event_fd = options->event_fd;
    kafka_trouble_init(&reader->trouble);
    err = connect_kafka(reader, options);
    if (!err)
        err = check_topic(reader, options);
    if (err) {
        log_reader_close(reader);
        return err;
    }
    *ret = reader;
    return ERR_OK;
}

/*
 * While no broker answers, librdkafka 2.0.2 closes a consumer only after a minute or never, and
 * rd_kafka_destroy() with it. So it is given a moment, in which the last offsets are committed, and is
 * left to the end of the process after that: there is no group that would have to be told.
 */
static void leave_kafka(rd_kafka_t *kafka)
{
    rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka);
    rd_kafka_error_t *error = rd_kafka_consumer_close_queue(kafka, queue);
    bool closed = error != NULL;

    for (int waited_ms = 0; !closed && waited_ms < CLOSE_MS; waited_ms += POLL_MS) {
        rd_kafka_event_destroy(rd_kafka_queue_poll(queue, POLL_MS));
        closed = rd_kafka_consumer_closed(kafka);
    }
    rd_kafka_error_destroy(error);
    if (!closed)
        return;
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy_flags(kafka, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

void log_reader_close(struct log_reader *reader)
{
    if (!reader)
        return;
    while (reader->part_count > 0)
        log_reader_drop(reader, reader->part[0]->part);
    if (reader->handle)
        rd_kafka_topic_destroy(reader->handle);
    if (reader->kafka)
        leave_kafka(reader->kafka);
    free(reader->part);
    free(reader->topic);
    free(reader);
}

bool log_reader_reaches_kafka(struct log_reader *reader, int timeout_ms)
{
    const struct rd_kafka_metadata *metadata;

    if (rd_kafka_metadata(reader->kafka, 0, reader->handle, &metadata, timeout_ms))
        return false;
    rd_kafka_metadata_destroy(metadata);
    return true;
}

void log_reader_serve(struct log_reader *reader)
{
    rd_kafka_message_t *message;

    while ((message = rd_kafka_consumer_poll(reader->kafka, 0))) {
        log_debug("log.stray", "part=%d offset=%lld error=%s", message->partition,
                  (long long)message->offset, rd_kafka_err2name(message->err));
        rd_kafka_message_destroy(message);
    }
}

/* ----------------------------------------------------------------------------- partitions ---- */

static struct log_part *find_part(struct log_reader *reader, int32_t number)
{
    for (uint32_t i = 0; i < reader->part_count; i++) {
        if (reader->part[i]->part == number)
            return reader->part[i];
    }
    return NULL;
}

static enum err assign(struct log_reader *reader, int32_t number, int64_t offset, bool add)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_error_t *error;
    enum err err = ERR_OK;

    rd_kafka_topic_partition_list_add(list, reader->topic, number)->offset = offset;
    error = add ? rd_kafka_incremental_assign(reader->kafka, list)
                : rd_kafka_incremental_unassign(reader->kafka, list);
    if (error) {
        err = fail(ERR_BROKER, "partition %d of topic %s cannot be %s: %s", number, reader->topic,
                   add ? "assigned" : "given back", rd_kafka_error_string(error));
        rd_kafka_error_destroy(error);
    }
    rd_kafka_topic_partition_list_destroy(list);
    return err;
}

/* The queue is cut off from the consumer's common one before the first fetch. */
static enum err start_fetching(struct log_reader *reader, struct log_part *part, int64_t offset)
{
    static const uint64_t one = 1;

    part->queue = rd_kafka_queue_get_partition(reader->kafka, reader->topic, part->part);
    rd_kafka_queue_forward(part->queue, NULL);
    rd_kafka_queue_io_event_enable(part->queue, reader->event_fd, &one, sizeof one);
    part->position = offset;
    return assign(reader, part->part, offset, true);
}

static void stop_fetching(struct log_reader *reader, struct log_part *part)
{
    assign(reader, part->part, RD_KAFKA_OFFSET_INVALID, false);
    rd_kafka_queue_io_event_enable(part->queue, -1, NULL, 0);
    rd_kafka_queue_destroy(part->queue);
}

static enum err add_part(struct log_reader *reader, int32_t number, int64_t offset,
                         struct log_part **ret)
{
    struct log_part *part = xcalloc(1, sizeof *part);
    enum err err;

    part->part = number;
    err = start_fetching(reader, part, offset);
    if (err) {
        rd_kafka_queue_destroy(part->queue);
        free(part);
        return err;
    }
    reader->part = xrealloc(reader->part, reader->part_count + 1, sizeof(struct log_part *));
    reader->part[reader->part_count++] = part;
    *ret = part;
    return ERR_OK;
}

void log_reader_drop(struct log_reader *reader, int32_t number)
{
    for (uint32_t i = 0; i < reader->part_count; i++) {
        struct log_part *part = reader->part[i];

        if (part->part != number)
            continue;
        reader->part[i] = reader->part[--reader->part_count];
        stop_fetching(reader, part);
        free(part);
        return;
    }
}

/* --------------------------------------------------------------------------------- ranges ---- */

/*
 * One of the two ends. Not by rd_kafka_query_watermark_offsets(): before librdkafka 2.3 it ignores its
 * time-out and waits for ever for a leader that died (confluentinc/librdkafka#2588). The special
 * offsets are special times, too.
 */
static enum err query_offset(struct log_reader *reader, int32_t part, int64_t which, int64_t *ret)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_resp_err_t error;

    rd_kafka_topic_partition_list_add(list, reader->topic, part)->offset = which;
    error = rd_kafka_offsets_for_times(reader->kafka, list, QUERY_MS);
    if (!error)
        error = list->elems[0].err;
    *ret = list->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(list);
    return !error && *ret >= 0 ? ERR_OK : ERR_BROKER;
}

static enum err query_ends(struct log_reader *reader, int32_t part, int64_t *ret_begin,
                           int64_t *ret_end)
{
    enum err err = query_offset(reader, part, RD_KAFKA_OFFSET_BEGINNING, ret_begin);

    return err ? err : query_offset(reader, part, RD_KAFKA_OFFSET_END, ret_end);
}

/* The end that is known from an earlier question is as good: a log only grows. One that shrank
 * answers a fetch beyond its end with an error, which log_reader_read() sees. */
static enum err check_range(struct log_reader *reader, struct log_part *part, int32_t number,
                            int64_t first, int64_t last)
{
    int64_t begin;
    int64_t end;
    enum err err;

    if (part && last < part->end)
        return ERR_OK;
    err = query_ends(reader, number, &begin, &end);
    if (err)
        return err;
    if (part)
        part->end = end;
    return first >= begin && last < end ? ERR_OK : ERR_NOT_FOUND;
}

/* A client that has met what it cannot make sense of may have stopped: it starts anew. */
static enum err seek(struct log_reader *reader, struct log_part *part, int64_t to)
{
    rd_kafka_resp_err_t error = part->stopped
                                    ? RD_KAFKA_RESP_ERR__STATE
                                    : rd_kafka_seek(reader->handle, part->part, to, QUERY_MS);

    log_debug("log.seek", "part=%d from=%lld to=%lld error=%s", part->part,
              (long long)part->position, (long long)to, rd_kafka_err2name(error));
    if (error && error != RD_KAFKA_RESP_ERR__STATE)
        return ERR_BROKER;
    if (error) {
        stop_fetching(reader, part);
        if (start_fetching(reader, part, to))
            return ERR_BROKER;
    }
    part->position = to;
    part->astray = false;
    part->stopped = false;
    return ERR_OK;
}

static enum err move_to(struct log_reader *reader, struct log_part *part, int64_t first)
{
    if (!part->astray && first >= part->position && first - part->position <= PASS_OVER_MAX)
        return ERR_OK;
    return seek(reader, part, first);
}

enum err log_reader_begin(struct log_reader *reader, int32_t number, int64_t first, int64_t last)
{
    struct log_part *part = find_part(reader, number);
    enum err err;

    assert(first <= last);
    err = check_range(reader, part, number, first, last);
    if (err)
        return err;
    err = part ? move_to(reader, part, first) : add_part(reader, number, first, &part);
    if (err)
        return err;
    part->first = first;
    part->last = last;
    if (part->end <= last)
        part->end = last + 1;
    return ERR_OK;
}

enum err log_reader_check(struct log_reader *reader, int32_t number)
{
    struct log_part *part = find_part(reader, number);
    int64_t begin;
    int64_t end;
    enum err err;

    if (!part)
        return ERR_NOT_FOUND;
    err = query_ends(reader, number, &begin, &end);
    if (err)
        return err;
    part->end = end;
    return part->position >= begin && part->last < end ? ERR_OK : ERR_NOT_FOUND;
}

/*
 * What a queue may hold beside messages. ERR_NOT_FOUND: the log does not hold the position. ERR_INPUT:
 * what lies there is damaged.
 */
static enum err judge_error(const struct log_reader *reader, const struct log_part *part,
                            const rd_kafka_message_t *message)
{
    log_debug("log.error", "topic=%s part=%d offset=%lld reason=\"%s\"", reader->topic, part->part,
              (long long)part->position, rd_kafka_message_errstr(message));
    metrics_add(METRIC_KAFKA_ERRORS, 0, 1);
    switch (message->err) {
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
        return ERR_NOT_FOUND;
    case RD_KAFKA_RESP_ERR__BAD_MSG:
    case RD_KAFKA_RESP_ERR__BAD_COMPRESSION:
    case RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED: /* a format that nobody writes */
        return ERR_INPUT;
    default:
        return ERR_OK;
    }
}

/*
 * Keeps the messages of the range at the front of the array and destroys the others. After the first
 * error that says something of the log nothing is kept: the client itself may be lost then.
 */
static enum err sift(struct log_reader *reader, struct log_part *part, rd_kafka_message_t **message,
                     size_t count, size_t *ret_kept)
{
    enum err err = ERR_OK;
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        rd_kafka_message_t *one = message[i];
        bool wanted = !err && !one->err && one->offset >= part->first && one->offset <= part->last;

        if (!err && one->err)
            err = judge_error(reader, part, one);
        else if (!err && one->offset >= part->position)
            part->position = one->offset + 1;
        if (wanted)
            message[kept++] = one;
        else
            rd_kafka_message_destroy(one);
    }
    *ret_kept = kept;
    return err;
}

/*
 * What lies at the position is damaged, and the client would ask for it for ever. How many offsets its
 * batch has nobody can say: they are stepped over one by one, until something can be read again.
 */
static void step_over(struct log_part *part, struct log_reader_got *ret)
{
    if (part->position >= part->first && part->position <= part->last)
        ret->unreadable++;
    part->position++;
    part->astray = true;
    part->confused = true;
}

/*
 * Behind damage the client may ask for an offset that it read out of the damage, and be told that
 * there is none. So the log itself is asked; when it does hold the range, the client starts anew.
 */
static enum err judge_loss(struct log_reader *reader, struct log_part *part)
{
    int64_t begin;
    int64_t end;

    if (part->confused && (query_ends(reader, part->part, &begin, &end) ||
                           (part->position >= begin && part->last < end))) {
        part->astray = true;
        part->stopped = true;
        return ERR_OK;
    }
    log_warn("log.gone", "topic=%s part=%d offset=%lld", reader->topic, part->part,
             (long long)part->position);
    return ERR_NOT_FOUND;
}

enum err log_reader_read(struct log_reader *reader, int32_t number, rd_kafka_message_t **message,
                         size_t max, struct log_reader_got *ret)
{
    struct log_part *part = find_part(reader, number);
    ssize_t got;
    enum err err;

    assert(part);
    *ret = (struct log_reader_got){.end = part->position > part->last};
    if (ret->end || (part->astray && seek(reader, part, part->position)))
        return ERR_OK;
    if ((uint64_t)(part->last - part->position) + 1 < max)
        max = (size_t)(part->last - part->position) + 1;
    got = rd_kafka_consume_batch_queue(part->queue, 0, message, max);
    if (got <= 0)
        return ERR_OK;
    err = sift(reader, part, message, (size_t)got, &ret->count);
    if (!err)
        part->confused = part->confused && ret->count == 0;
    else if (err == ERR_INPUT)
        step_over(part, ret);
    else
        err = judge_loss(reader, part);
    ret->end = part->position > part->last;
    return err == ERR_NOT_FOUND ? err : ERR_OK;
}

void log_reader_commit(struct log_reader *reader, int32_t part, int64_t offset)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

    rd_kafka_topic_partition_list_add(list, reader->topic, part)->offset = offset;
    rd_kafka_commit(reader->kafka, list, 1);
    rd_kafka_topic_partition_list_destroy(list);
}
