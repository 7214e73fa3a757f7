/*
 * test_publish.c: chunks on their way into librdkafka's mock cluster: what is confirmed, what is
 * sent again, what is told.
 */
#include "producer/publish.h"

#include "producer/kafka.h"

#include <librdkafka/rdkafka_mock.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static rd_kafka_t *host; /* the client that holds the mock cluster */
static rd_kafka_mock_cluster_t *cluster;
static struct settings_kafka kafka;

static int start_cluster(void **state)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[256];

    (void)state;
    rd_kafka_conf_set(conf, "log_level", "0", NULL, 0);
    host = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
    cluster = rd_kafka_mock_cluster_new(host, 1);
    kafka = (struct settings_kafka){.brokers = rd_kafka_mock_cluster_bootstraps(cluster),
                                    .topic_prefix = "t",
                                    .security_protocol = "plaintext"};
    rd_kafka_mock_topic_create(cluster, "four", 4, 1);
    return 0;
}

static int stop_cluster(void **state)
{
    (void)state;
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(host);
    return 0;
}

static struct publisher_options options(const char *topic, uint32_t partitions)
{
    return (struct publisher_options){.kafka = &kafka,
                                      .topic = topic,
                                      .partitions = partitions,
                                      .connect_timeout_ms = 5000,
                                      .message_timeout_ms = 5000};
}

static struct publisher *open_publisher(void)
{
    static struct publisher_options with;
    struct publisher_job job = {.tenant = SLICE("default"), .partition_first = 3, .partitions = 4};
    struct publisher *publisher;

    with = options("four", 4);
    assert_int_equal(publisher_open(&with, &publisher), ERR_OK);
    publisher_begin(publisher, &job);
    return publisher;
}

static void fill(struct chunk *chunk, uint32_t number, uint32_t lines)
{
    chunk->number = number;
    chunk->first_line = (uint64_t)number * lines;
    chunk->lines = lines;
    buffer_clear(&chunk->values);
    buffer_clear(&chunk->ids);
    for (uint32_t i = 0; i < lines; i++) {
        struct chunk_line *line = &chunk->line[i];

        *line =
            (struct chunk_line){.body_at = chunk->values.len, .id_at = (uint32_t)chunk->ids.len};
        buffer_printf(&chunk->values, "{\"line\":%u}", i);
        line->body_len = (uint32_t)(chunk->values.len - line->body_at);
        buffer_add_byte(&chunk->values, '\n');
        buffer_printf(&chunk->ids, "id-%u", i);
        line->id_len = (uint32_t)(chunk->ids.len - line->id_at);
        buffer_add_byte(&chunk->ids, '\0');
    }
}

/* Polls until `wanted` chunks are confirmed; their numbers as bits. */
static unsigned collect(struct publisher *publisher, unsigned wanted)
{
    unsigned bits = 0, count = 0;

    for (int i = 0; i < 200 && count < wanted; i++) {
        struct chunk *chunk;

        assert_int_equal(publisher_poll(publisher, 50, true), ERR_OK);
        while ((chunk = publisher_confirmed(publisher)) != NULL) {
            assert_true(chunk->first_offset >= 0);
            assert_true(chunk->last_offset >= chunk->first_offset + chunk->lines - 1);
            bits |= 1U << chunk->number;
            count++;
            publisher_recycle(publisher, chunk);
        }
    }
    assert_true(count >= wanted);
    return bits;
}

static void send_chunk(struct publisher *publisher, uint32_t number, uint32_t lines)
{
    struct chunk *chunk = publisher_chunk(publisher);

    assert_non_null(chunk);
    fill(chunk, number, lines);
    assert_int_equal(publisher_send(publisher, chunk), ERR_OK);
}

static void test_partitions_follow_one_another(void **state)
{
    (void)state;
    assert_int_equal(publish_partition(3, 0, 4), 3);
    assert_int_equal(publish_partition(3, 1, 4), 0);
    assert_int_equal(publish_partition(UINT32_MAX, UINT32_MAX, 7), (2 * (uint64_t)UINT32_MAX) % 7);
}

static void test_every_chunk_is_confirmed_with_its_offsets(void **state)
{
    struct publisher *publisher = open_publisher();

    (void)state;
    for (uint32_t i = 0; i < 8; i++)
        send_chunk(publisher, i, 100);
    assert_int_equal(publisher_on_the_way(publisher), 800);
    assert_int_equal(collect(publisher, 8), 0xff);
    assert_int_equal(publisher_on_the_way(publisher), 0);
    publisher_close(publisher);
}

/* What is on the way is bounded, whoever sends. */
static void test_too_much_at_once_has_to_wait(void **state)
{
    struct publisher *publisher = open_publisher();
    uint32_t sent = 0;
    struct chunk *chunk;

    (void)state;
    while ((chunk = publisher_chunk(publisher)) != NULL && sent < 64) {
        fill(chunk, sent % 32, CHUNK_LINES_MAX);
        assert_int_equal(publisher_send(publisher, chunk), ERR_OK);
        sent++;
    }
    assert_null(chunk);
    assert_int_equal(sent, 32);
    collect(publisher, 1);
    chunk = publisher_chunk(publisher);
    assert_non_null(chunk);
    publisher_recycle(publisher, chunk);
    publisher_close(publisher); /* with chunks on the way */
}

/* A sequence that broke: the producer is made anew and what was on the way is sent again. */
static void test_a_fatal_error_is_survived(void **state)
{
    struct publisher *publisher = open_publisher();

    (void)state;
    send_chunk(publisher, 0, 100);
    send_chunk(publisher, 1, 100);
    rd_kafka_test_fatal_error(publisher_client(publisher),
                              RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, "a test");
    send_chunk(publisher, 2, 100);
    assert_int_equal(collect(publisher, 3), 7);
    publisher_close(publisher);
}

/* Replicas that come late are waited for. */
static void test_a_passing_error_is_tried_again(void **state)
{
    struct publisher *publisher = open_publisher();

    (void)state;
    rd_kafka_mock_push_request_errors(cluster, 0 /* Produce */, 2,
                                      RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
                                      RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION);
    send_chunk(publisher, 0, 100);
    assert_int_equal(collect(publisher, 1), 1);
    publisher_close(publisher);
}

/* What will not pass is told, and nothing counts as confirmed. */
static void test_a_lasting_error_is_told(void **state)
{
    struct publisher *publisher = open_publisher();
    enum err rc = ERR_OK;

    (void)state;
    rd_kafka_mock_push_request_errors(cluster, 0, 1, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    send_chunk(publisher, 0, 100);
    for (int i = 0; i < 100 && rc == ERR_OK; i++)
        rc = publisher_poll(publisher, 50, true);
    assert_int_equal(rc, ERR_DENIED);
    assert_null(publisher_confirmed(publisher));
    publisher_close(publisher);
}

static void test_a_topic_must_be_there_and_large_enough(void **state)
{
    struct publisher_options none = options("none-such", 4), large = options("four", 5);
    struct publisher *publisher;

    (void)state;
    rd_kafka_mock_topic_set_error(cluster, "none-such", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    assert_int_equal(publisher_open(&none, &publisher), ERR_BROKER);
    assert_int_equal(publisher_open(&large, &publisher), ERR_BROKER);
    publisher_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_partitions_follow_one_another),
        cmocka_unit_test(test_every_chunk_is_confirmed_with_its_offsets),
        cmocka_unit_test(test_too_much_at_once_has_to_wait),
        cmocka_unit_test(test_a_fatal_error_is_survived),
        cmocka_unit_test(test_a_passing_error_is_tried_again),
        cmocka_unit_test(test_a_lasting_error_is_told),
        cmocka_unit_test(test_a_topic_must_be_there_and_large_enough),
    };

    return cmocka_run_group_tests(tests, start_cluster, stop_cluster);
}
