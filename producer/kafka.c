/* kafka.c: librdkafka, told once how we want it. */
#include "producer/kafka.h"
#include "config/log.h"

#include <stdio.h>
#include <string.h>

enum {
    TURN_MS = 500,
    REFUSED_MS = 3000, /* how long a broker that is just starting is waited for */
};

void kafka_trouble_init(struct kafka_trouble *trouble)
{
    pthread_mutex_init(&trouble->lock, NULL);
    trouble->text[0] = '\0';
    trouble->denied = trouble->down = false;
}

const char *kafka_trouble_text(struct kafka_trouble *trouble, char out[256])
{
    pthread_mutex_lock(&trouble->lock);
    memcpy(out, trouble->text, 256);
    pthread_mutex_unlock(&trouble->lock);
    return out;
}

static bool is_denial(rd_kafka_resp_err_t err)
{
    switch (err) {
    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR__SSL:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
        return true;
    default:
        return false;
    }
}

/* Of "… failed: Connection refused (after 0ms in state CONNECT, …)" what a person needs. */
static int said_len(const char *reason)
{
    const char *rest = strstr(reason, " (after ");

    return rest != NULL ? (int)(rest - reason) : (int)strlen(reason);
}

/* That all brokers are down is said beside the reason, which is what people want to know. */
static void on_error_cb(rd_kafka_t *client, int err, const char *reason, void *opaque)
{
    struct kafka_trouble *trouble = opaque;

    (void)client;
    log_debug("kafka.error", "code=%s reason=\"%s\"", rd_kafka_err2name((rd_kafka_resp_err_t)err),
              reason);
    if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        trouble->down = true; /* read by the thread that polls, which is the one that runs this */
        return;
    }
    pthread_mutex_lock(&trouble->lock);
    snprintf(trouble->text, sizeof(trouble->text), "%.*s", said_len(reason), reason);
    trouble->denied = is_denial((rd_kafka_resp_err_t)err);
    pthread_mutex_unlock(&trouble->lock);
}

static void on_log_cb(const rd_kafka_t *client, int level, const char *facility, const char *text)
{
    (void)client;
    (void)level;
    log_debug("kafka.log", "facility=%s text=\"%s\"", facility, text);
}

enum err kafka_conf_set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[256];

    if (rd_kafka_conf_set(conf, name, value, why, sizeof(why)) != RD_KAFKA_CONF_OK)
        return fail(ERR_SETTINGS, "Kafka client: %s: %s", name, why);
    return ERR_OK;
}

/* Settings that have no default of ours are passed on only where they are set. */
static enum err set_security(rd_kafka_conf_t *conf, const struct settings_kafka *settings)
{
    bool sasl = strncmp(settings->security_protocol, "sasl", 4) == 0;
    const struct {
        const char *name, *value;
        bool wanted;
    } rows[] = {
        {"security.protocol", settings->security_protocol, true},
        {"sasl.mechanisms", settings->sasl_mechanism, sasl},
        {"sasl.username", settings->sasl_username, sasl},
        {"sasl.password", settings->sasl_password, sasl},
        {"ssl.ca.location", settings->ssl_ca_file, true},
        {"ssl.certificate.location", settings->ssl_certificate_file, true},
        {"ssl.key.location", settings->ssl_key_file, true},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].wanted && rows[i].value != NULL && rows[i].value[0] != '\0') {
            enum err rc = kafka_conf_set(conf, rows[i].name, rows[i].value);

            if (rc != ERR_OK)
                return rc;
        }
    }
    return ERR_OK;
}

enum err kafka_conf(const struct settings_kafka *settings, const char *client_id,
                    struct kafka_trouble *trouble, rd_kafka_conf_t **ret)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    enum err rc;

    rd_kafka_conf_set_opaque(conf, trouble);
    rd_kafka_conf_set_error_cb(conf, on_error_cb);
    rd_kafka_conf_set_log_cb(conf, on_log_cb);
    rc = kafka_conf_set(conf, "bootstrap.servers", settings->brokers);
    if (rc == ERR_OK)
        rc = kafka_conf_set(conf, "client.id", client_id);
    if (rc == ERR_OK)
        rc = kafka_conf_set(conf, "socket.nagle.disable", "true");
    if (rc == ERR_OK)
        rc = kafka_conf_set(conf, "reconnect.backoff.max.ms", "2000");
    if (rc == ERR_OK)
        rc = set_security(conf, settings);
    if (rc != ERR_OK) {
        rd_kafka_conf_destroy(conf);
        return rc;
    }
    *ret = conf;
    return ERR_OK;
}

const char *kafka_topic_of(const struct settings_kafka *settings, const char *tier, char out[256])
{
    snprintf(out, 256, "%s.requests.%s", settings->topic_prefix, tier);
    return out;
}

enum err kafka_fail(const struct settings_kafka *settings, struct kafka_trouble *trouble,
                    const char *what, rd_kafka_resp_err_t err)
{
    char text[256];
    bool denied = is_denial(err) || trouble->denied;
    const char *open = " (", *close = ")";

    kafka_trouble_text(trouble, text);
    if (text[0] == '\0')
        open = close = "";
    if (denied)
        return fail(ERR_DENIED, "Kafka at %s refuses to %s: %s%s%s%s", settings->brokers, what,
                    rd_kafka_err2str(err), open, text, close);
    if (err == RD_KAFKA_RESP_ERR__TRANSPORT || err == RD_KAFKA_RESP_ERR__TIMED_OUT ||
        err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || err == RD_KAFKA_RESP_ERR__MSG_TIMED_OUT)
        return fail(ERR_BROKER,
                    "no Kafka broker answers at %s; is it running, and is kafka.brokers right? "
                    "cannot %s%s%s%s",
                    settings->brokers, what, open, text, close);
    return fail(ERR_BROKER, "Kafka at %s: cannot %s: %s%s%s%s", settings->brokers, what,
                rd_kafka_err2str(err), open, text, close);
}

static uint32_t fewest_copies(const rd_kafka_metadata_topic_t *topic)
{
    uint32_t fewest = topic->partition_cnt > 0 ? UINT32_MAX : 0;

    for (int i = 0; i < topic->partition_cnt; i++)
        if ((uint32_t)topic->partitions[i].replica_cnt < fewest)
            fewest = (uint32_t)topic->partitions[i].replica_cnt;
    return fewest;
}

/* Of the metadata of one topic. */
static enum err read_shape(const rd_kafka_metadata_t *metadata,
                           const struct settings_kafka *settings, struct kafka_trouble *trouble,
                           const char *topic, struct kafka_shape *ret)
{
    char what[320];

    *ret = (struct kafka_shape){0};
    snprintf(what, sizeof(what), "ask for the topic %s", topic);
    for (int i = 0; i < metadata->topic_cnt; i++) {
        const rd_kafka_metadata_topic_t *found = &metadata->topics[i];

        if (strcmp(found->topic, topic) != 0)
            continue;
        if (found->err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
            return ERR_OK;
        if (found->err != RD_KAFKA_RESP_ERR_NO_ERROR &&
            found->err != RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
            return kafka_fail(settings, trouble, what, found->err);
        ret->partitions = (uint32_t)found->partition_cnt;
        ret->copies = fewest_copies(found);
    }
    return ERR_OK;
}

/* Asks in short turns, so that a connection that is refused again and again ends the waiting. */
static rd_kafka_resp_err_t ask(rd_kafka_t *client, struct kafka_trouble *trouble,
                               rd_kafka_topic_t *topic, int timeout_ms,
                               const rd_kafka_metadata_t **ret)
{
    rd_kafka_resp_err_t err;
    int waited_ms = 0;

    do {
        int turn_ms = timeout_ms - waited_ms < TURN_MS ? timeout_ms - waited_ms : TURN_MS;

        err = rd_kafka_metadata(client, 0, topic, ret, turn_ms);
        rd_kafka_poll(client, 0); /* what librdkafka has to say about it */
        waited_ms += turn_ms;
    } while ((err == RD_KAFKA_RESP_ERR__TRANSPORT || err == RD_KAFKA_RESP_ERR__TIMED_OUT) &&
             waited_ms < timeout_ms && !trouble->denied &&
             !(trouble->down && waited_ms >= REFUSED_MS));
    return err;
}

enum err kafka_shape_of(rd_kafka_t *client, const struct settings_kafka *settings,
                        struct kafka_trouble *trouble, const char *topic, int timeout_ms,
                        struct kafka_shape *ret)
{
    const rd_kafka_metadata_t *metadata;
    rd_kafka_topic_t *handle = rd_kafka_topic_new(client, topic, NULL);
    rd_kafka_resp_err_t err;
    char what[320];
    enum err rc;

    if (handle == NULL)
        return fail(ERR_SETTINGS, "%s is no name for a topic", topic);
    err = ask(client, trouble, handle, timeout_ms, &metadata);
    if (err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        snprintf(what, sizeof(what), "ask for the topic %s", topic);
        rc = kafka_fail(settings, trouble, what, err);
    } else {
        rc = read_shape(metadata, settings, trouble, topic, ret);
        rd_kafka_metadata_destroy(metadata);
    }
    rd_kafka_topic_destroy(handle);
    return rc;
}

enum err kafka_partitions(rd_kafka_t *client, const struct settings_kafka *settings,
                          struct kafka_trouble *trouble, const char *topic, int timeout_ms,
                          uint32_t *ret)
{
    struct kafka_shape shape;
    enum err rc = kafka_shape_of(client, settings, trouble, topic, timeout_ms, &shape);

    if (rc == ERR_OK)
        *ret = shape.partitions;
    return rc;
}
