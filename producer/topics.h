/*
 * topics.h: brings Kafka and the tables to what the settings say of tiers: `mserve topics`.
 */
#ifndef MSERVE_PRODUCER_TOPICS_H
#define MSERVE_PRODUCER_TOPICS_H

#include "config/settings.h"
#include "producer/kafka.h"
#include "sql/db.h"

#include <stdio.h>

/*
 * For each tier: makes its topic, or adds partitions to one that has fewer than the settings say;
 * refuses one that would delete requests before their window has passed; registers the tier. A line
 * for each goes to `out`. Can be run again and again. ERR_BROKER, ERR_DENIED, ERR_SETTINGS with a
 * sentence.
 */
enum err topics_make(const struct settings *settings, struct db *db, FILE *out);

struct topic_look {
    struct kafka_shape shape;
    char loss
        [512]; /* a sentence: how it may lose what it acknowledged; "" where it is as asked for */
};

/*
 * Looks at a topic and changes nothing. ERR_NOT_FOUND (not logged): it does
 * not exist. ERR_SETTINGS: it would delete requests before their window has passed. ERR_BROKER,
 * ERR_DENIED.
 */
enum err topics_look(const struct settings *settings, const char *topic, struct topic_look *ret);

/* For how long what came to a topic can be read. */
struct topic_keeps {
    int64_t retention_ms; /* -1: for ever */
    int64_t roll_ms;      /* Kafka deletes whole segments: how long one may be written to */
};

/* As Kafka says now, whatever the settings say. ERR_NOT_FOUND (not logged), ERR_BROKER, ERR_DENIED. */
enum err topics_keeps(const struct settings *settings, const char *topic, struct topic_keeps *ret);

#endif
