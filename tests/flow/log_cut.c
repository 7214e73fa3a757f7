/*
 * log_cut.c: takes messages out of the log, as retention and brokers that lose their disks do.
 *
 *     log_cut before TOPIC PARTITION OFFSET    what lies before the offset is gone
 *     log_cut delete TOPIC                     all of it is gone, and the topic with it
 *
 * Brokers from MSERVE_KAFKA_BROKERS. Ends when the log says so itself.
 */

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_MS = 15000, LOOKS_MAX = 300, LOOK_EVERY_MS = 100 };

static rd_kafka_t *client;
static rd_kafka_queue_t *queue;

static int die(const char *what, const char *why)
{
    fprintf(stderr, "log_cut: %s: %s\n", what, why);
    exit(1);
}

static void connect_kafka(void)
{
    const char *brokers = getenv("MSERVE_KAFKA_BROKERS");
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[256];

    if (!brokers)
        die("MSERVE_KAFKA_BROKERS", "is not set");
    if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, why, sizeof why))
        die("bootstrap.servers", why);
    client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (!client)
        die("librdkafka", why);
    queue = rd_kafka_queue_new(client);
}

/* Waits for the answer to the request just made. */
static void await_answer(const char *what)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, TIMEOUT_MS);

    if (!event)
        die(what, "no answer");
    if (rd_kafka_event_error(event))
        die(what, rd_kafka_event_error_string(event));
    rd_kafka_event_destroy(event);
}

static void cut_before(const char *topic, int32_t part, int64_t offset)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_DeleteRecords_t *request;
    int64_t begin = -1, end;

    rd_kafka_topic_partition_list_add(list, topic, part)->offset = offset;
    request = rd_kafka_DeleteRecords_new(list);
    rd_kafka_DeleteRecords(client, &request, 1, NULL, queue);
    await_answer("DeleteRecords");
    rd_kafka_DeleteRecords_destroy(request);
    rd_kafka_topic_partition_list_destroy(list);
    if (rd_kafka_query_watermark_offsets(client, topic, part, &begin, &end, TIMEOUT_MS) ||
        begin != offset)
        die("DeleteRecords", "the log does not begin there");
}

static int topic_is_there(const char *topic)
{
    rd_kafka_topic_t *handle = rd_kafka_topic_new(client, topic, NULL);
    const rd_kafka_metadata_t *metadata;
    int there;

    if (rd_kafka_metadata(client, 0, handle, &metadata, TIMEOUT_MS))
        die("metadata", topic);
    there = metadata->topics[0].err != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    rd_kafka_metadata_destroy(metadata);
    rd_kafka_topic_destroy(handle);
    return there;
}

static void delete_topic(const char *topic)
{
    rd_kafka_DeleteTopic_t *request = rd_kafka_DeleteTopic_new(topic);

    rd_kafka_DeleteTopics(client, &request, 1, NULL, queue);
    await_answer("DeleteTopics");
    rd_kafka_DeleteTopic_destroy(request);
    for (int i = 0; topic_is_there(topic); i++) {
        if (i == LOOKS_MAX)
            die("DeleteTopics", "the topic stays");
        rd_kafka_poll(client, LOOK_EVERY_MS);
    }
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "before") == 0) {
        connect_kafka();
        cut_before(argv[2], (int32_t)atoi(argv[3]), atoll(argv[4]));
    } else if (argc == 3 && strcmp(argv[1], "delete") == 0) {
        connect_kafka();
        delete_topic(argv[2]);
    } else {
        die("usage", "log_cut before TOPIC PARTITION OFFSET | delete TOPIC");
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(client);
    return 0;
}
