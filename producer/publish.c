/*
 * publish.c: chunks move between four lists: free, on the way (known by their messages alone),
 * confirmed, and to be sent again.
 */
#include "producer/publish.h"
#include "config/log.h"
#include "producer/kafka.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MESSAGES_MAX = 32768,
    BYTES_MAX = 32 << 20,
    CONNECT_TIMEOUT_MS = 10000,
    MESSAGE_TIMEOUT_MS = 600000,
    RENEWALS_MAX = 20, /* new producers after fatal errors before giving up */
    RESENDS_MAX = 1000,
};

struct list {
    struct chunk *first, *last;
};

struct publisher {
    struct publisher_options options;
    struct publisher_job job;
    struct kafka_trouble trouble;
    rd_kafka_t *client;
    rd_kafka_topic_t *topic;
    struct list idle, confirmed, failed;
    uint32_t messages; /* on the way */
    uint64_t bytes;    /* likewise */
    uint32_t renewals, resends;
    rd_kafka_resp_err_t last_error; /* of a message that was not delivered */
};

static void list_add(struct list *list, struct chunk *chunk)
{
    chunk->next = NULL;
    if (list->last != NULL)
        list->last->next = chunk;
    else
        list->first = chunk;
    list->last = chunk;
}

static struct chunk *list_take(struct list *list)
{
    struct chunk *chunk = list->first;

    if (chunk != NULL) {
        list->first = chunk->next;
        if (list->first == NULL)
            list->last = NULL;
    }
    return chunk;
}

static void list_free(struct list *list)
{
    struct chunk *chunk;

    while ((chunk = list_take(list)) != NULL) {
        chunk_release(chunk);
        free(chunk);
    }
}

static uint64_t weight(const struct chunk *chunk)
{
    return chunk->values.len + chunk->ids.len + chunk->errors.len;
}

/* The chunk has a report for every message that was sent. */
static void settle(struct publisher *publisher, struct chunk *chunk)
{
    publisher->messages -= chunk->sent;
    publisher->bytes -= weight(chunk);
    list_add(chunk->failed ? &publisher->failed : &publisher->confirmed, chunk);
}

static struct publisher *of_client(rd_kafka_t *client)
{
    char *trouble = rd_kafka_opaque(client);

    return (struct publisher *)(void *)(trouble - offsetof(struct publisher, trouble));
}

static void on_delivery_cb(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
    struct publisher *publisher = of_client(client);
    struct chunk *chunk = message->_private;

    (void)opaque;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        chunk->failed = true;
        publisher->last_error = message->err;
    } else if (chunk->first_offset < 0) {
        chunk->first_offset = chunk->last_offset = message->offset;
    } else if (message->offset < chunk->first_offset) {
        chunk->first_offset = message->offset;
    } else if (message->offset > chunk->last_offset) {
        chunk->last_offset = message->offset;
    }
    if (++chunk->answered == chunk->sent)
        settle(publisher, chunk);
}

static enum err make_conf(struct publisher *publisher, rd_kafka_conf_t **ret)
{
    static const char *const rows[][2] = {
        {"enable.idempotence", "true"},
        {"acks", "all"},
        {"compression.codec", "zstd"},
        {"compression.level", "1"},
        {"linger.ms", "50"},
        {"delivery.report.only.error", "false"},
    };
    rd_kafka_conf_t *conf;
    char timeout[16];
    enum err rc = kafka_conf(publisher->options.kafka, "mserve-submit", &publisher->trouble, &conf);

    if (rc != ERR_OK)
        return rc;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && rc == ERR_OK; i++)
        rc = kafka_conf_set(conf, rows[i][0], rows[i][1]);
    snprintf(timeout, sizeof(timeout), "%u", publisher->options.message_timeout_ms);
    if (rc == ERR_OK)
        rc = kafka_conf_set(conf, "message.timeout.ms", timeout);
    if (rc != ERR_OK) {
        rd_kafka_conf_destroy(conf);
        return rc;
    }
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery_cb);
    *ret = conf;
    return ERR_OK;
}

static enum err check_topic(struct publisher *publisher)
{
    const struct publisher_options *options = &publisher->options;
    uint32_t partitions;
    enum err rc = kafka_partitions(publisher->client, options->kafka, &publisher->trouble,
                                   options->topic, (int)options->connect_timeout_ms, &partitions);

    if (rc != ERR_OK)
        return rc;
    if (partitions == 0)
        return fail(ERR_BROKER, "Kafka at %s has no topic %s; make it with: mserve topics",
                    options->kafka->brokers, options->topic);
    if (partitions < options->partitions)
        return fail(ERR_BROKER,
                    "the topic %s has %u partitions where %u are registered; a topic cannot "
                    "shrink: was it made anew? Run: mserve topics",
                    options->topic, partitions, options->partitions);
    return ERR_OK;
}

static enum err make_client(struct publisher *publisher)
{
    rd_kafka_conf_t *conf;
    char why[256];
    enum err rc = make_conf(publisher, &conf);

    if (rc != ERR_OK)
        return rc;
    publisher->client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
    if (publisher->client == NULL) {
        rd_kafka_conf_destroy(conf);
        return fail(ERR_SETTINGS, "Kafka client: %s", why);
    }
    /* First, so that asking for the topic tells librdkafka what it needs to begin at once. */
    publisher->topic = rd_kafka_topic_new(publisher->client, publisher->options.topic, NULL);
    if (publisher->topic == NULL)
        return fail(ERR_SETTINGS, "%s is no name for a topic", publisher->options.topic);
    return check_topic(publisher);
}

/* Drops what is on the way: every message gets its report, which says that it failed. */
static void disconnect(struct publisher *publisher)
{
    if (publisher->client == NULL)
        return;
    rd_kafka_purge(publisher->client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    for (int i = 0; i < 1200 && publisher->messages > 0; i++)
        rd_kafka_poll(publisher->client, 50);
    if (publisher->topic != NULL)
        rd_kafka_topic_destroy(publisher->topic);
    rd_kafka_destroy(publisher->client);
    publisher->topic = NULL;
    publisher->client = NULL;
}

enum err publisher_open(const struct publisher_options *options, struct publisher **ret)
{
    struct publisher *publisher = xcalloc(1, sizeof(*publisher));
    enum err rc;

    publisher->options = *options;
    if (publisher->options.connect_timeout_ms == 0)
        publisher->options.connect_timeout_ms = CONNECT_TIMEOUT_MS;
    if (publisher->options.message_timeout_ms == 0)
        publisher->options.message_timeout_ms = MESSAGE_TIMEOUT_MS;
    kafka_trouble_init(&publisher->trouble);
    rc = make_client(publisher);
    if (rc != ERR_OK) {
        publisher_close(publisher);
        return rc;
    }
    *ret = publisher;
    return ERR_OK;
}

void publisher_close(struct publisher *publisher)
{
    if (publisher == NULL)
        return;
    disconnect(publisher);
    list_free(&publisher->idle);
    list_free(&publisher->confirmed);
    list_free(&publisher->failed);
    pthread_mutex_destroy(&publisher->trouble.lock);
    free(publisher);
}

void publisher_begin(struct publisher *publisher, const struct publisher_job *job)
{
    publisher->job = *job;
}

struct chunk *publisher_chunk(struct publisher *publisher)
{
    struct chunk *chunk;

    if (publisher->messages + CHUNK_LINES_MAX > MESSAGES_MAX || publisher->bytes > BYTES_MAX)
        return NULL;
    chunk = list_take(&publisher->idle);
    return chunk != NULL ? chunk : xcalloc(1, sizeof(*chunk));
}

void publisher_recycle(struct publisher *publisher, struct chunk *chunk)
{
    list_add(&publisher->idle, chunk);
}

/* One message; ERR_AGAIN, not logged, when librdkafka's queue is full. */
static enum err produce(struct publisher *publisher, struct chunk *chunk, int32_t part,
                        struct message *message, uint32_t line)
{
    rd_kafka_headers_t *headers;
    rd_kafka_resp_err_t err;

    chunk_message(chunk, line, message);
    message_encode(message, &headers);
    err = rd_kafka_producev(
        publisher->client, RD_KAFKA_V_RKT(publisher->topic), RD_KAFKA_V_PARTITION(part),
        RD_KAFKA_V_MSGFLAGS(0),
        RD_KAFKA_V_VALUE((void *)(uintptr_t)message->body.data, message->body.len),
        RD_KAFKA_V_OPAQUE(chunk), RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END);
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
        return ERR_OK;
    rd_kafka_headers_destroy(headers);
    publisher->last_error = err;
    if (err == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        return ERR_AGAIN;
    if (err == RD_KAFKA_RESP_ERR__FATAL)
        return ERR_LOST;
    return kafka_fail(publisher->options.kafka, &publisher->trouble, "send a request", err);
}

/*
 * Sends all lines of a chunk. After a fatal error the rest is not sent and counts as failed, so
 * that the chunk is sent again by a new producer.
 */
static enum err send_lines(struct publisher *publisher, struct chunk *chunk)
{
    const struct publisher_job *job = &publisher->job;
    int32_t part = publish_partition(job->partition_first, chunk->number, job->partitions);
    struct message message = {.tenant = job->tenant};
    enum err rc = ERR_OK;
    uint32_t line = 0;

    memcpy(message.job, job->job, sizeof(message.job));
    while (line < chunk->lines && (rc == ERR_OK || rc == ERR_AGAIN)) {
        rc = produce(publisher, chunk, part, &message, line);
        if (rc == ERR_OK)
            line++;
        else if (rc == ERR_AGAIN)
            rd_kafka_poll(publisher->client, 100);
    }
    if (line == chunk->lines)
        return ERR_OK;
    chunk->failed = true;
    chunk->answered += chunk->lines - line;
    if (chunk->answered == chunk->sent)
        settle(publisher, chunk);
    return rc == ERR_LOST ? ERR_OK : rc;
}

enum err publisher_send(struct publisher *publisher, struct chunk *chunk)
{
    assert(chunk->lines >= 1 && chunk->lines <= CHUNK_LINES_MAX);
    chunk->sent = chunk->lines;
    chunk->answered = 0;
    chunk->failed = false;
    chunk->first_offset = chunk->last_offset = -1;
    publisher->messages += chunk->sent;
    publisher->bytes += weight(chunk);
    return send_lines(publisher, chunk);
}

/* What may succeed when it is tried again; all else is told at once. */
static bool is_passing(rd_kafka_resp_err_t err)
{
    switch (err) {
    case RD_KAFKA_RESP_ERR__FATAL:
    case RD_KAFKA_RESP_ERR__PURGE_QUEUE:
    case RD_KAFKA_RESP_ERR__PURGE_INFLIGHT:
    case RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER:
    case RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID:
    case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS:
    case RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND:
    case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
        return true;
    default:
        return false;
    }
}

/* A producer whose sequence is broken stays broken: it is replaced. */
static enum err renew(struct publisher *publisher)
{
    char why[256];

    rd_kafka_fatal_error(publisher->client, why, sizeof(why));
    if (++publisher->renewals > RENEWALS_MAX)
        return fail(ERR_BROKER, "the Kafka producer failed again and again: %s", why);
    log_info("publish.renewed", "why=\"%s\"", why);
    disconnect(publisher);
    return make_client(publisher);
}

static enum err send_again(struct publisher *publisher)
{
    struct chunk *chunk;

    while ((chunk = publisher->failed.first) != NULL) {
        enum err rc;

        if (!is_passing(publisher->last_error) || ++publisher->resends > RESENDS_MAX)
            return kafka_fail(publisher->options.kafka, &publisher->trouble,
                              "deliver requests to the topic", publisher->last_error);
        list_take(&publisher->failed);
        rc = publisher_send(publisher, chunk);
        if (rc != ERR_OK)
            return rc;
        if (rd_kafka_fatal_error(publisher->client, NULL, 0) != RD_KAFKA_RESP_ERR_NO_ERROR)
            break;
    }
    return ERR_OK;
}

enum err publisher_poll(struct publisher *publisher, int timeout_ms, bool last)
{
    enum err rc = ERR_OK;

    if (publisher->confirmed.first != NULL)
        timeout_ms = 0;
    if (last)
        rd_kafka_flush(publisher->client, timeout_ms);
    else
        rd_kafka_poll(publisher->client, timeout_ms);
    if (rd_kafka_fatal_error(publisher->client, NULL, 0) != RD_KAFKA_RESP_ERR_NO_ERROR)
        rc = renew(publisher);
    if (rc == ERR_OK && publisher->failed.first != NULL)
        rc = send_again(publisher);
    return rc;
}

struct chunk *publisher_confirmed(struct publisher *publisher)
{
    return list_take(&publisher->confirmed);
}

uint32_t publisher_on_the_way(const struct publisher *publisher)
{
    return publisher->messages;
}

void *publisher_client(struct publisher *publisher)
{
    return publisher->client;
}
