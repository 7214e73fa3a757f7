/* dead_letters.c: a producer that is made when the first letter is to be sent. */
#include "consumer/dead_letters.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/json.h"
#include "config/log.h"
#include "producer/kafka.h"

enum { BODY_BYTES_MAX = 512 * 1024, SEND_TIMEOUT_MS = 6000, ID_BYTES = UUID_BATCH_SIZE + 24 };

struct dead_letters {
    const struct settings_kafka *settings;
    struct kafka_trouble trouble;
    rd_kafka_t *client;
    char topic[256];
    rd_kafka_resp_err_t sent; /* of the last message, when `answered` */
    bool answered;
};

static void on_delivery_cb(rd_kafka_t *client, const rd_kafka_message_t *message, void *opaque)
{
    struct dead_letters *letters = message->_private;

    (void)client;
    (void)opaque;
    letters->sent = message->err;
    letters->answered = true;
}

/* An answer within seconds, whatever it is. */
static enum err set_limits(rd_kafka_conf_t *conf)
{
    enum err err = kafka_conf_set(conf, "message.timeout.ms", "5000");

    if (!err)
        err = kafka_conf_set(conf, "topic.metadata.propagation.max.ms", "2000");
    return err;
}

enum err dead_letters_open(const struct settings_kafka *settings, struct dead_letters **ret)
{
    struct dead_letters *letters = xcalloc(1, sizeof *letters);
    rd_kafka_conf_t *conf;
    char why[256];
    enum err err;

    letters->settings = settings;
    kafka_trouble_init(&letters->trouble);
    snprintf(letters->topic, sizeof letters->topic, "%.200s.dead-letter", settings->topic_prefix);
    err = kafka_conf(settings, "mserve-worker", &letters->trouble, &conf);
    if (err)
        goto failed;
    err = set_limits(conf);
    if (err) {
        rd_kafka_conf_destroy(conf);
        goto failed;
    }
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery_cb);
    letters->client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (!letters->client) {
        rd_kafka_conf_destroy(conf);
        err = fail(ERR_SETTINGS, "no Kafka producer could be made: %s", why);
        goto failed;
    }
    *ret = letters;
    return ERR_OK;
failed:
    dead_letters_close(letters);
    return err;
}

void dead_letters_close(struct dead_letters *letters)
{
    if (!letters)
        return;
    if (letters->client)
        rd_kafka_destroy(letters->client);
    free(letters);
}

static void write_id(const struct dead_letter *letter, char out[ID_BYTES])
{
    char job[UUID_BATCH_SIZE];

    snprintf(out, ID_BYTES, "%s/%" PRId64, uuid_format_batch(letter->job, job), letter->line);
}

void dead_letters_write(const struct dead_letter *letter, struct buffer *out)
{
    char id[ID_BYTES], job[UUID_BATCH_SIZE];
    bool fits = letter->body.len <= BODY_BYTES_MAX;

    write_id(letter, id);
    buffer_printf(out, "{\"id\":\"%s\",\"job\":\"%s\",\"line\":%" PRId64 ",\"custom_id\":", id,
                  uuid_format_batch(letter->job, job), letter->line);
    json_write_string_clean(out, letter->custom_id);
    buffer_add_text(out, ",\"deaths\":");
    buffer_add(out, letter->deaths.data, letter->deaths.len);
    buffer_add_text(out, ",\"body\":");
    buffer_add(out, fits ? letter->body.data : "null", fits ? letter->body.len : 4);
    buffer_add_byte(out, '}');
}

bool dead_letters_is_refusal(int answer)
{
    switch (answer) {
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD:
        return true;
    default:
        return false;
    }
}

static enum err wait_for_answer(struct dead_letters *letters)
{
    for (int waited_ms = 0; !letters->answered; waited_ms += 100) {
        if (waited_ms >= SEND_TIMEOUT_MS) {
            rd_kafka_purge(letters->client, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
            rd_kafka_flush(letters->client, 1000);
            break;
        }
        rd_kafka_poll(letters->client, 100);
    }
    if (letters->answered && letters->sent == RD_KAFKA_RESP_ERR_NO_ERROR)
        return ERR_OK;
    if (letters->answered && dead_letters_is_refusal(letters->sent)) {
        log_error(
            "dead_letter.refused",
            "topic=%s why=\"%s\" msg=\"this letter stands in table dead_letters only; `mserve "
            "topics` makes the topic as it should be\"",
            letters->topic, rd_kafka_err2str(letters->sent));
        return ERR_OK;
    }
    return kafka_fail(letters->settings, &letters->trouble, "send a dead letter",
                      letters->answered ? letters->sent : RD_KAFKA_RESP_ERR__TIMED_OUT);
}

enum err dead_letters_send(struct dead_letters *letters, const struct dead_letter *letter)
{
    struct buffer text = {0};
    rd_kafka_resp_err_t err;
    char id[ID_BYTES];

    write_id(letter, id);
    dead_letters_write(letter, &text);
    letters->answered = false;
    err = rd_kafka_producev(letters->client, RD_KAFKA_V_TOPIC(letters->topic),
                            RD_KAFKA_V_KEY(id, strlen(id)), RD_KAFKA_V_VALUE(text.data, text.len),
                            RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_OPAQUE(letters),
                            RD_KAFKA_V_END);
    buffer_release(&text);
    if (err) { /* it was not taken: as if that had been the answer */
        letters->sent = err;
        letters->answered = true;
    }
    return wait_for_answer(letters);
}
