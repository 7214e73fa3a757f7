/* topics.c: the admin API of Kafka, one request at a time. */
#include "producer/topics.h"
#include "config/log.h"
#include "config/units.h"
#include "producer/kafka.h"
#include "sql/job.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_MS = 15000, SEEN_TRIES = 100, COPIES_SAFE = 3 };

struct admin {
    const struct settings *settings;
    struct kafka_trouble trouble;
    rd_kafka_t *client;
    rd_kafka_queue_t *queue;
    rd_kafka_AdminOptions_t *options;
};

static enum err admin_open(const struct settings *settings, struct admin *admin)
{
    rd_kafka_conf_t *conf;
    char why[256];
    enum err rc;

    *admin = (struct admin){.settings = settings};
    kafka_trouble_init(&admin->trouble);
    rc = kafka_conf(&settings->kafka, "mserve-topics", &admin->trouble, &conf);
    if (rc != ERR_OK)
        return rc;
    admin->client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
    if (admin->client == NULL) {
        rd_kafka_conf_destroy(conf);
        return fail(ERR_SETTINGS, "Kafka client: %s", why);
    }
    admin->queue = rd_kafka_queue_new(admin->client);
    admin->options = rd_kafka_AdminOptions_new(admin->client, RD_KAFKA_ADMIN_OP_ANY);
    rd_kafka_AdminOptions_set_request_timeout(admin->options, TIMEOUT_MS, why, sizeof(why));
    return ERR_OK;
}

static void admin_close(struct admin *admin)
{
    if (admin->client == NULL)
        return;
    rd_kafka_AdminOptions_destroy(admin->options);
    rd_kafka_queue_destroy(admin->queue);
    rd_kafka_destroy(admin->client);
}

/* The answer to the request just made; NULL after a sentence in the log. */
static rd_kafka_event_t *answer(struct admin *admin, const char *what, enum err *ret)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(admin->queue, TIMEOUT_MS + 5000);
    rd_kafka_resp_err_t err =
        event != NULL ? rd_kafka_event_error(event) : RD_KAFKA_RESP_ERR__TIMED_OUT;

    rd_kafka_poll(admin->client, 0);
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
        return event;
    if (event != NULL)
        rd_kafka_event_destroy(event);
    *ret = kafka_fail(&admin->settings->kafka, &admin->trouble, what, err);
    return NULL;
}

/* Of the one topic that a request was about. */
static enum err topic_error(struct admin *admin, const rd_kafka_topic_result_t *const *results,
                            size_t count, rd_kafka_resp_err_t expected, const char *what)
{
    rd_kafka_resp_err_t err;

    if (count == 0)
        return ERR_OK;
    err = rd_kafka_topic_result_error(results[0]);
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR || err == expected)
        return ERR_OK;
    if (rd_kafka_topic_result_error_string(results[0]) != NULL)
        return fail(ERR_BROKER, "Kafka at %s: cannot %s: %s", admin->settings->kafka.brokers, what,
                    rd_kafka_topic_result_error_string(results[0]));
    return kafka_fail(&admin->settings->kafka, &admin->trouble, what, err);
}

/*
 * Requests are deleted by age alone, by the broker's clock, and kept as they were compressed. What is
 * acknowledged lies on two brokers where there are three copies, so that one may be lost; and a broker
 * that lacks it never leads.
 */
static void set_configs(rd_kafka_NewTopic_t *topic, uint64_t retention_ms, uint32_t copies)
{
    char retention[24];

    snprintf(retention, sizeof(retention), "%" PRIu64, retention_ms);
    rd_kafka_NewTopic_set_config(topic, "min.insync.replicas", copies >= COPIES_SAFE ? "2" : "1");
    rd_kafka_NewTopic_set_config(topic, "unclean.leader.election.enable", "false");
    rd_kafka_NewTopic_set_config(topic, "retention.ms", retention);
    rd_kafka_NewTopic_set_config(topic, "retention.bytes", "-1");
    rd_kafka_NewTopic_set_config(topic, "cleanup.policy", "delete");
    rd_kafka_NewTopic_set_config(topic, "message.timestamp.type", "LogAppendTime");
    rd_kafka_NewTopic_set_config(topic, "compression.type", "producer");
}

static enum err create_topic(struct admin *admin, const char *name, uint32_t partitions)
{
    const struct settings_kafka *kafka = &admin->settings->kafka;
    char why[256], what[320];
    rd_kafka_NewTopic_t *topic =
        rd_kafka_NewTopic_new(name, (int)partitions, (int)kafka->replication, why, sizeof(why));
    rd_kafka_event_t *event;
    const rd_kafka_topic_result_t **results;
    size_t count;
    enum err rc;

    if (topic == NULL)
        return fail(ERR_SETTINGS, "the topic %s cannot be made: %s", name, why);
    set_configs(topic, kafka->retention_ms, kafka->replication);
    rd_kafka_CreateTopics(admin->client, &topic, 1, admin->options, admin->queue);
    rd_kafka_NewTopic_destroy(topic);
    snprintf(what, sizeof(what), "make the topic %s", name);
    event = answer(admin, what, &rc);
    if (event == NULL)
        return rc;
    results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    rc = topic_error(admin, (const rd_kafka_topic_result_t *const *)results, count,
                     RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS, what);
    rd_kafka_event_destroy(event);
    return rc;
}

static enum err grow_topic(struct admin *admin, const char *name, uint32_t partitions)
{
    char why[256], what[320];
    rd_kafka_NewPartitions_t *more = rd_kafka_NewPartitions_new(name, partitions, why, sizeof(why));
    rd_kafka_event_t *event;
    const rd_kafka_topic_result_t **results;
    size_t count;
    enum err rc;

    if (more == NULL)
        return fail(ERR_SETTINGS, "the topic %s cannot get %u partitions: %s", name, partitions,
                    why);
    rd_kafka_CreatePartitions(admin->client, &more, 1, admin->options, admin->queue);
    rd_kafka_NewPartitions_destroy(more);
    snprintf(what, sizeof(what), "add partitions to the topic %s", name);
    event = answer(admin, what, &rc);
    if (event == NULL)
        return rc;
    results = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event),
                                                      &count);
    rc = topic_error(admin, (const rd_kafka_topic_result_t *const *)results, count,
                     RD_KAFKA_RESP_ERR_NO_ERROR, what);
    rd_kafka_event_destroy(event);
    return rc;
}

/* Kafka says yes to a new topic before all of it knows: waits until the partitions are seen. */
static enum err wait_for_partitions(struct admin *admin, const char *name, uint32_t wanted,
                                    struct kafka_shape *ret)
{
    enum err rc = ERR_OK;

    *ret = (struct kafka_shape){0};
    for (int i = 0; i < SEEN_TRIES && rc == ERR_OK && ret->partitions < wanted; i++) {
        if (i > 0)
            rd_kafka_poll(admin->client, 100);
        rc = kafka_shape_of(admin->client, &admin->settings->kafka, &admin->trouble, name,
                            TIMEOUT_MS, ret);
    }
    if (rc == ERR_OK && ret->partitions < wanted)
        rc = fail(ERR_BROKER, "the topic %s has %u of %u partitions; run the command again", name,
                  ret->partitions, wanted);
    return rc;
}

static const char *find_config(const rd_kafka_ConfigEntry_t **entries, size_t count,
                               const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), name) == 0)
            return rd_kafka_ConfigEntry_value(entries[i]);
    return NULL;
}

/* With three copies a broker may be lost, if what was acknowledged lay on two. Who made it otherwise is
 * told, and may have reasons. */
static void judge_loss(const struct settings *settings, const char *name, const char *least,
                       const char *unclean, struct topic_look *look)
{
    uint32_t wanted = settings->kafka.replication;

    if (look->shape.copies < wanted)
        snprintf(look->loss, sizeof(look->loss),
                 "the topic %s lies on %u broker%s where kafka.replication asks for %u", name,
                 look->shape.copies, look->shape.copies == 1 ? "" : "s", wanted);
    else if (wanted >= COPIES_SAFE && ((least != NULL && atoi(least) < 2) ||
                                       (unclean != NULL && strcmp(unclean, "true") == 0)))
        snprintf(look->loss, sizeof(look->loss),
                 "the topic %s may lose what it acknowledged when a broker dies: "
                 "min.insync.replicas should be 2, unclean.leader.election.enable false",
                 name);
}

/* A topic that deletes requests before their window has passed loses them: refused. */
static enum err check_configs(const struct settings *settings, const char *name,
                              const rd_kafka_ConfigEntry_t **entries, size_t count,
                              struct topic_look *look)
{
    const char *retention = find_config(entries, count, "retention.ms");
    const char *bytes = find_config(entries, count, "retention.bytes");
    const char *policy = find_config(entries, count, "cleanup.policy");
    long long ms = retention != NULL ? strtoll(retention, NULL, 10) : -1;
    struct buffer window = {0};
    enum err rc = ERR_OK;

    duration_add(&window, settings->submit.window_max_ms);
    if (ms >= 0 && (uint64_t)ms <= settings->submit.window_max_ms)
        rc = fail(ERR_SETTINGS,
                  "the topic %s keeps requests for %lld ms, but a window may be %s "
                  "(submit.window_max): raise its retention.ms or lower "
                  "submit.window_max",
                  name, ms, window.data);
    else if (bytes != NULL && strcmp(bytes, "-1") != 0)
        rc = fail(ERR_SETTINGS,
                  "the topic %s has retention.bytes=%s, so it may delete requests "
                  "before they ran; it must be -1",
                  name, bytes);
    else if (policy != NULL && strcmp(policy, "delete") != 0)
        rc = fail(ERR_SETTINGS, "the topic %s has cleanup.policy=%s; it must be delete", name,
                  policy);
    judge_loss(settings, name, find_config(entries, count, "min.insync.replicas"),
               find_config(entries, count, "unclean.leader.election.enable"), look);
    buffer_release(&window);
    return rc;
}

/* What one broker says of the topic's configuration; it is in the event. NULL: no answer. */
static rd_kafka_event_t *describe_topic(struct admin *admin, const char *name, const char *what,
                                        const rd_kafka_ConfigResource_t **ret_found,
                                        rd_kafka_resp_err_t *ret_err, enum err *ret)
{
    rd_kafka_ConfigResource_t *resource =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name);
    const rd_kafka_ConfigResource_t **found;
    rd_kafka_event_t *event;
    size_t count;

    rd_kafka_DescribeConfigs(admin->client, &resource, 1, admin->options, admin->queue);
    rd_kafka_ConfigResource_destroy(resource);
    event = answer(admin, what, ret);
    if (event == NULL)
        return NULL;
    found = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event),
                                                      &count);
    *ret_found = count == 1 ? found[0] : NULL;
    *ret_err = count == 1 ? rd_kafka_ConfigResource_error(found[0]) : RD_KAFKA_RESP_ERR_UNKNOWN;
    return event;
}

/* A broker that has not heard of a new topic yet is asked again. */
static enum err check_topic(struct admin *admin, const char *name, struct topic_look *look)
{
    const rd_kafka_ConfigResource_t *found;
    const rd_kafka_ConfigEntry_t **entries;
    rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    rd_kafka_event_t *event = NULL;
    size_t count;
    char what[320];
    enum err rc = ERR_OK;

    snprintf(what, sizeof(what), "read the configuration of the topic %s", name);
    for (int i = 0; i < SEEN_TRIES && err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART; i++) {
        if (i > 0)
            rd_kafka_poll(admin->client, 100);
        rd_kafka_event_destroy(event);
        event = describe_topic(admin, name, what, &found, &err, &rc);
        if (event == NULL)
            return rc;
    }
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        entries = rd_kafka_ConfigResource_configs(found, &count);
        rc = check_configs(admin->settings, name, entries, count, look);
    } else {
        rc = kafka_fail(&admin->settings->kafka, &admin->trouble, what, err);
    }
    rd_kafka_event_destroy(event);
    return rc;
}

/* The topic has at least `wanted` partitions afterwards; *ret is how many. */
static enum err bring_topic(struct admin *admin, const char *name, uint32_t wanted, uint32_t *ret)
{
    struct topic_look look = {0};
    uint32_t had;
    enum err rc = kafka_partitions(admin->client, &admin->settings->kafka, &admin->trouble, name,
                                   TIMEOUT_MS, &had);

    if (rc == ERR_OK && had == 0)
        rc = create_topic(admin, name, wanted);
    else if (rc == ERR_OK && had < wanted)
        rc = grow_topic(admin, name, wanted);
    if (rc == ERR_OK)
        rc = wait_for_partitions(admin, name, wanted, &look.shape);
    if (rc == ERR_OK)
        rc = check_topic(admin, name, &look);
    if (look.loss[0] != '\0')
        log_warn("topic.may_lose", "%s", look.loss);
    *ret = look.shape.partitions;
    return rc;
}

/* As a person reads it: what it is called, where it lies, what it answers to. */
static void print_tier(const struct settings_tier *tier, const char *topic, uint32_t partitions,
                       FILE *out)
{
    fprintf(out, "tier %s: topic %s, %u partitions, answers to", tier->name, topic, partitions);
    for (uint32_t i = 0; i < tier->served_names.count; i++)
        fprintf(out, "%s %s", i > 0 ? "," : "", tier->served_names.item[i]);
    fputc('\n', out);
}

static enum err make_tier(struct admin *admin, struct db *db, const struct settings_tier *tier,
                          FILE *out)
{
    struct slice names[SETTINGS_LIST_MAX];
    char topic[256];
    uint32_t partitions, registered;
    enum err rc;

    for (uint32_t i = 0; i < tier->served_names.count; i++)
        names[i] = (struct slice){tier->served_names.item[i], strlen(tier->served_names.item[i])};
    kafka_topic_of(&admin->settings->kafka, tier->name, topic);
    rc = bring_topic(admin, topic, admin->settings->kafka.partitions, &partitions);
    if (rc == ERR_OK)
        rc = tier_register(db, tier->name, topic, partitions, names, tier->served_names.count,
                           &registered);
    if (rc == ERR_OK && registered != partitions)
        rc = fail(ERR_BROKER,
                  "the topic %s has %u partitions where %u are registered; was it made "
                  "anew? Jobs that were sent to the old one are lost",
                  topic, partitions, registered);
    if (rc == ERR_OK)
        print_tier(tier, topic, partitions, out);
    return rc;
}

enum err topics_look(const struct settings *settings, const char *topic, struct topic_look *ret)
{
    struct admin admin;
    enum err rc = admin_open(settings, &admin);

    *ret = (struct topic_look){0};
    if (rc == ERR_OK)
        rc = kafka_shape_of(admin.client, &settings->kafka, &admin.trouble, topic, TIMEOUT_MS,
                            &ret->shape);
    if (rc == ERR_OK)
        rc = ret->shape.partitions == 0 ? ERR_NOT_FOUND : check_topic(&admin, topic, ret);
    admin_close(&admin);
    return rc;
}

static int64_t config_ms(const rd_kafka_ConfigEntry_t **entries, size_t count, const char *name)
{
    const char *text = find_config(entries, count, name);

    return text != NULL ? strtoll(text, NULL, 10) : -1;
}

static enum err read_keeps(struct admin *admin, const char *topic, struct topic_keeps *ret)
{
    const rd_kafka_ConfigResource_t *found;
    const rd_kafka_ConfigEntry_t **entries;
    rd_kafka_resp_err_t err;
    rd_kafka_event_t *event;
    size_t count;
    char what[320];
    enum err rc = ERR_OK;

    snprintf(what, sizeof(what), "read the configuration of the topic %s", topic);
    event = describe_topic(admin, topic, what, &found, &err, &rc);
    if (event == NULL)
        return rc;
    if (err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        entries = rd_kafka_ConfigResource_configs(found, &count);
        ret->retention_ms = config_ms(entries, count, "retention.ms");
        ret->roll_ms = config_ms(entries, count, "segment.ms");
    } else {
        rc = kafka_fail(&admin->settings->kafka, &admin->trouble, what, err);
    }
    rd_kafka_event_destroy(event);
    return rc;
}

enum err topics_keeps(const struct settings *settings, const char *topic, struct topic_keeps *ret)
{
    struct admin admin;
    uint32_t partitions = 0;
    enum err rc = admin_open(settings, &admin);

    if (rc == ERR_OK)
        rc = kafka_partitions(admin.client, &settings->kafka, &admin.trouble, topic, TIMEOUT_MS,
                              &partitions);
    if (rc == ERR_OK)
        rc = partitions == 0 ? ERR_NOT_FOUND : read_keeps(&admin, topic, ret);
    admin_close(&admin);
    return rc;
}

/* Where workers tell of requests that killed them (consumer/dead_letters.h). */
static enum err make_dead_letters(struct admin *admin)
{
    char topic[256];
    uint32_t partitions;

    snprintf(topic, sizeof(topic), "%.200s.dead-letter", admin->settings->kafka.topic_prefix);
    return bring_topic(admin, topic, 1, &partitions);
}

enum err topics_make(const struct settings *settings, struct db *db, FILE *out)
{
    struct admin admin;
    enum err rc;

    if (settings->tier_count == 0)
        return fail(ERR_SETTINGS,
                    "the settings have no tiers; add one under tiers: in mserve.yaml");
    rc = admin_open(settings, &admin);
    for (uint32_t i = 0; i < settings->tier_count && rc == ERR_OK; i++)
        rc = make_tier(&admin, db, &settings->tier[i], out);
    if (rc == ERR_OK)
        rc = make_dead_letters(&admin);
    admin_close(&admin);
    return rc;
}
