/*
 * kafka.h: what every client of Kafka has in common: brokers and security from the settings, names
 * of topics, and librdkafka's many complaints kept for the one sentence in which a failure is told.
 *
 * Any thread.
 */
#ifndef MSERVE_PRODUCER_KAFKA_H
#define MSERVE_PRODUCER_KAFKA_H

#include "config/errors.h"
#include "config/settings.h"

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdbool.h>

/* The last thing that librdkafka said of its connections; the opaque of the clients made here. */
struct kafka_trouble {
    pthread_mutex_t lock;
    char text[256]; /* "" while all is well */
    bool denied;    /* password, certificate or right */
    bool down;      /* all brokers refused or closed the connection at least once */
};

void kafka_trouble_init(struct kafka_trouble *trouble);

/* Copies the text; "" when there was none. Returns `out`. */
const char *kafka_trouble_text(struct kafka_trouble *trouble, char out[256]);

/*
 * Brokers, security, and callbacks that fill `trouble`, which becomes the client's opaque and must
 * live as long as it. *ret is the caller's: given to rd_kafka_new() or destroyed. ERR_SETTINGS.
 */
enum err kafka_conf(const struct settings_kafka *settings, const char *client_id,
                    struct kafka_trouble *trouble, rd_kafka_conf_t **ret);

/* Sets one property; a refused value is ERR_SETTINGS with librdkafka's words. */
enum err kafka_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value);

/* "mserve.requests.small" in `out` of 256 bytes; returns `out`. */
const char *kafka_topic_of(const struct settings_kafka *settings, const char *tier, char out[256]);

/*
 * ERR_BROKER or ERR_DENIED, with a sentence: "no Kafka broker answers at localhost:9092 (…)".
 * `what` is what was tried: "ask for the topic x".
 */
enum err kafka_fail(const struct settings_kafka *settings, struct kafka_trouble *trouble,
                    const char *what, rd_kafka_resp_err_t err);

struct kafka_shape {
    uint32_t partitions; /* 0: the topic does not exist */
    uint32_t copies;     /* of the partition that has the fewest */
};

/* What a topic is like. Waits up to `timeout_ms` for a broker, and a few seconds only where nothing
 * listens. */
enum err kafka_shape_of(rd_kafka_t *client, const struct settings_kafka *settings,
                        struct kafka_trouble *trouble, const char *topic, int timeout_ms,
                        struct kafka_shape *ret);

/* The same, of the partitions alone. */
enum err kafka_partitions(rd_kafka_t *client, const struct settings_kafka *settings,
                          struct kafka_trouble *trouble, const char *topic, int timeout_ms,
                          uint32_t *ret);

#endif
