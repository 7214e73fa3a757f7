/*
 * feed.c: puts a job of made-up requests on the queue, without mserve-submit, so that the worker can
 * be measured and tested alone. Makes schema, topic and tier where they are missing.
 *
 *   feed REQUESTS BODY_BYTES MAX_TOKENS PARTITIONS [TEXT]
 *
 * Prints the job's id. Servers from MSERVE_POSTGRES_DSN and MSERVE_KAFKA_BROKERS, names from
 * MSERVE_KAFKA_TOPIC_PREFIX, tier MSERVE_TIER or "sim". TEXT stands in every prompt.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "config/clock.h"
#include "config/log.h"
#include "config/sha256.h"
#include "producer/message.h"
#include "sql/job.h"
#include "sql/migrate.h"

enum { CHUNK_LINES = 1024, CHUNKS_AT_ONCE = 64, LINE_MAX_BYTES = 1 << 20 };

struct feed {
    uint32_t requests, body_bytes, max_tokens, partitions;
    const char *text;
    char tier[64];
    char topic[256];
    struct db *db;
    rd_kafka_t *kafka;
    struct job job;
    char *body;
    struct job_chunk chunk[CHUNKS_AT_ONCE];
    int64_t unacked;
    bool failed;
};

static const char *variable(const char *name, const char *other)
{
    const char *value = getenv(name);

    return value && value[0] ? value : other;
}

static void die(const char *what)
{
    fprintf(stderr, "feed: %s\n", what);
    exit(1);
}

static void must(enum err err, const char *what)
{
    if (err)
        die(what);
}

/* The opaque of a message is its chunk, whose offsets widen with each report. */
static void on_delivery(rd_kafka_t *kafka, const rd_kafka_message_t *message, void *context)
{
    struct feed *feed = context;
    struct job_chunk *chunk = message->_private;

    (void)kafka;
    feed->unacked--;
    if (message->err) {
        feed->failed = true;
        return;
    }
    if (chunk->first_offset < 0 || message->offset < chunk->first_offset)
        chunk->first_offset = message->offset;
    if (message->offset > chunk->last_offset)
        chunk->last_offset = message->offset;
}

static void connect_kafka(struct feed *feed)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[256];
    const char *const pairs[][2] = {
        {"bootstrap.servers", variable("MSERVE_KAFKA_BROKERS", "localhost:9092")},
        {"enable.idempotence", "true"},
        {"compression.codec", "zstd"},
        {"linger.ms", "50"},
        {"queue.buffering.max.messages", "200000"},
    };

    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        if (rd_kafka_conf_set(conf, pairs[i][0], pairs[i][1], why, sizeof why))
            die(why);
    }
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_conf_set_opaque(conf, feed);
    feed->kafka = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (!feed->kafka)
        die(why);
}

static void make_topic(struct feed *feed)
{
    char why[256];
    rd_kafka_NewTopic_t *topic =
        rd_kafka_NewTopic_new(feed->topic, (int)feed->partitions, 1, why, sizeof why);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(feed->kafka);
    rd_kafka_event_t *event;

    rd_kafka_CreateTopics(feed->kafka, &topic, 1, NULL, queue);
    event = rd_kafka_queue_poll(queue, 30000);
    if (!event || rd_kafka_event_error(event))
        die("the topic cannot be made");
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewTopic_destroy(topic);
}

static void connect_database(struct feed *feed)
{
    struct db_options options = {.dsn = variable("MSERVE_POSTGRES_DSN", ""),
                                 .application_name = "feed"};
    struct slice name = {feed->tier, strlen(feed->tier)};
    uint32_t partitions;

    must(db_open(&options, &feed->db), "no database");
    must(migrate_run(feed->db, stderr), "migrate");
    must(tier_register(feed->db, feed->tier, feed->topic, feed->partitions, &name, 1, &partitions),
         "tier");
}

static void open_job(struct feed *feed, struct arena *arena)
{
    char key[64];
    struct job_spec spec = {
        .idempotency_key = key,
        .input_name = "feed",
        .endpoint = "/v1/completions",
        .tier = feed->tier,
        .model = feed->tier,
        .topic = feed->topic,
        .partitions = feed->partitions,
        .chunk_lines_max = CHUNK_LINES,
        .chunk_bytes_max = 4 << 20,
        .completion_window = "24h",
        .window_ms = 86400000,
    };

    snprintf(key, sizeof key, "feed-%llu", (unsigned long long)clock_wall_ms());
    must(job_open(feed->db, &spec, arena, &feed->job), "job");
}

/* A body of body_bytes, or as short as it can be. */
static size_t make_body(struct feed *feed, uint32_t line)
{
    int head = snprintf(feed->body, LINE_MAX_BYTES,
                        "{\"model\":\"%s\",\"max_tokens\":%u,\"prompt\":\"%s%u ", feed->tier,
                        feed->max_tokens, feed->text, line);
    size_t len = (size_t)head;

    while (len + 2 < feed->body_bytes)
        feed->body[len] = (char)('a' + (line + len) % 26), len++;
    memcpy(feed->body + len, "\"}", 2);
    return len + 2;
}

static void send_line(struct feed *feed, struct job_chunk *chunk, uint32_t line, struct buffer *ids)
{
    size_t len = make_body(feed, line);
    char id[32];
    struct message message = {.line = line,
                              .chunk = (uint32_t)chunk->chunk,
                              .custom_id = {id, (size_t)snprintf(id, sizeof id, "r-%u", line)},
                              .tenant = SLICE("default")};
    rd_kafka_headers_t *headers;

    memcpy(message.job, feed->job.job.bytes, sizeof message.job);
    message_encode(&message, &headers);
    while (rd_kafka_producev(feed->kafka, RD_KAFKA_V_TOPIC(feed->topic),
                             RD_KAFKA_V_PARTITION(chunk->part), RD_KAFKA_V_HEADERS(headers),
                             RD_KAFKA_V_VALUE(feed->body, len),
                             RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_OPAQUE(chunk),
                             RD_KAFKA_V_END) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        rd_kafka_poll(feed->kafka, 100);
    feed->unacked++;
    chunk->bytes += (int64_t)len;
    buffer_add(ids, id, message.custom_id.len + 1);
    rd_kafka_poll(feed->kafka, 0);
}

static void send_chunk(struct feed *feed, struct job_chunk *chunk, uint32_t number)
{
    struct buffer ids = {0};
    uint32_t first = number * CHUNK_LINES;
    uint32_t left = feed->requests - first;
    char *packed;
    size_t bound;

    *chunk = (struct job_chunk){.chunk = (int32_t)number, .first_line = first, .first_offset = -1};
    chunk->lines = left < CHUNK_LINES ? left : CHUNK_LINES;
    chunk->part = (int32_t)((feed->job.partition_first + number) % feed->partitions);
    chunk->work = (int64_t)chunk->lines * (feed->body_bytes / 4 + feed->max_tokens);
    for (uint32_t i = 0; i < chunk->lines; i++)
        send_line(feed, chunk, first + i, &ids);
    bound = ZSTD_compressBound(ids.len);
    packed = xmalloc(bound);
    chunk->custom_ids = (struct slice){packed, ZSTD_compress(packed, bound, ids.data, ids.len, 1)};
    sha256_of(buffer_slice(&ids), chunk->sha256);
    buffer_release(&ids);
}

/* Some chunks, their delivery reports, then their rows. */
static void send_some(struct feed *feed, uint32_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        send_chunk(feed, &feed->chunk[i], first + i);
    while (feed->unacked > 0 && !feed->failed)
        rd_kafka_poll(feed->kafka, 1000);
    if (feed->failed)
        die("a message was not delivered");
    must(job_add_chunks(feed->db, &feed->job.job, feed->chunk, count), "chunks");
    for (uint32_t i = 0; i < count; i++)
        free((void *)(uintptr_t)feed->chunk[i].custom_ids.data);
}

int main(int argc, char **argv)
{
    struct feed feed = {.text = argc > 5 ? argv[5] : ""};
    struct arena arena = {0};
    char id[UUID_TEXT_SIZE];
    uint32_t chunks;

    log_init("feed", LOG_WARN, LOG_LOGFMT, false);
    if (argc < 5)
        die("feed REQUESTS BODY_BYTES MAX_TOKENS PARTITIONS [TEXT]");
    feed.requests = (uint32_t)strtoul(argv[1], NULL, 10);
    feed.body_bytes = (uint32_t)strtoul(argv[2], NULL, 10);
    feed.max_tokens = (uint32_t)strtoul(argv[3], NULL, 10);
    feed.partitions = (uint32_t)strtoul(argv[4], NULL, 10);
    feed.body = xmalloc(LINE_MAX_BYTES);
    snprintf(feed.tier, sizeof feed.tier, "%s", variable("MSERVE_TIER", "sim"));
    snprintf(feed.topic, sizeof feed.topic, "%s.requests.%s",
             variable("MSERVE_KAFKA_TOPIC_PREFIX", "mserve"), feed.tier);
    connect_kafka(&feed);
    make_topic(&feed);
    connect_database(&feed);
    open_job(&feed, &arena);
    chunks = (feed.requests + CHUNK_LINES - 1) / CHUNK_LINES;
    for (uint32_t at = 0; at < chunks; at += CHUNKS_AT_ONCE)
        send_some(&feed, at, chunks - at < CHUNKS_AT_ONCE ? chunks - at : CHUNKS_AT_ONCE);
    must(job_seal(feed.db, &feed.job.job, chunks, feed.requests, 0), "seal");
    puts(uuid_format(feed.job.job, id));
    rd_kafka_destroy(feed.kafka);
    db_close(feed.db);
    arena_release(&arena);
    free(feed.body);
    return 0;
}
