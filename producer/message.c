/*
 * message.c: headers are few and short, so reading is one walk over them and a table of names.
 */
#include "producer/message.h"
#include "config/utf8.h"

#include <assert.h>
#include <string.h>

/* Which headers a message had, one bit each. */
enum header {
    HEADER_V,
    HEADER_JOB,
    HEADER_LINE,
    HEADER_CHUNK,
    HEADER_CUSTOM_ID,
    HEADER_TENANT,
    HEADER_TRACEPARENT,
    HEADER_BLOB,
    HEADER_ERROR,
    HEADER_COUNT
};

static const struct {
    const char *name;
    bool required;
    size_t bytes_min, bytes_max;
    const char *wrong; /* what is said when it is not as it must be */
} headers[HEADER_COUNT] = {
    [HEADER_V] = {"v", true, 1, 1, "the header v is missing or not 1"},
    [HEADER_JOB] = {"job", true, 16, 16, "the header job is missing or not 16 bytes"},
    [HEADER_LINE] = {"line", true, 1, 20, "the header line is missing or not a number"},
    [HEADER_CHUNK] = {"chunk", true, 1, 10, "the header chunk is missing or not a number"},
    [HEADER_CUSTOM_ID] = {"custom_id", true, 0, MESSAGE_CUSTOM_ID_BYTES_MAX,
                          "the header custom_id is missing, too long or not text"},
    [HEADER_TENANT] = {"tenant", true, 1, MESSAGE_TENANT_BYTES_MAX,
                       "the header tenant is missing or too long"},
    [HEADER_TRACEPARENT] = {"traceparent", false, MESSAGE_TRACEPARENT_BYTES,
                            MESSAGE_TRACEPARENT_BYTES, "the header traceparent is not 55 bytes"},
    [HEADER_BLOB] = {"blob", false, MESSAGE_BLOB_BYTES, MESSAGE_BLOB_BYTES,
                     "the header blob is not 32 bytes"},
    [HEADER_ERROR] = {"error", false, 2, MESSAGE_ERROR_BYTES_MAX,
                      "the header error is empty or too long"},
};

static void add(rd_kafka_headers_t *to, enum header header, const void *data, size_t len)
{
    rd_kafka_resp_err_t err;

    assert(len >= headers[header].bytes_min && len <= headers[header].bytes_max);
    err = rd_kafka_header_add(to, headers[header].name, (ssize_t)strlen(headers[header].name), data,
                              (ssize_t)len);
    assert(err == RD_KAFKA_RESP_ERR_NO_ERROR);
    (void)err;
}

static void add_number(rd_kafka_headers_t *to, enum header header, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    add(to, header, digits + at, sizeof(digits) - at);
}

void message_encode(const struct message *message, rd_kafka_headers_t **ret)
{
    rd_kafka_headers_t *to = rd_kafka_headers_new(HEADER_COUNT);

    add(to, HEADER_V, "1", 1);
    add(to, HEADER_JOB, message->job, sizeof(message->job));
    add_number(to, HEADER_LINE, message->line);
    add_number(to, HEADER_CHUNK, message->chunk);
    add(to, HEADER_CUSTOM_ID, message->custom_id.len > 0 ? message->custom_id.data : "",
        message->custom_id.len);
    add(to, HEADER_TENANT, message->tenant.data, message->tenant.len);
    if (message->traceparent.len > 0)
        add(to, HEADER_TRACEPARENT, message->traceparent.data, message->traceparent.len);
    if (message->has_blob)
        add(to, HEADER_BLOB, message->blob, sizeof(message->blob));
    if (message->error.len > 0)
        add(to, HEADER_ERROR, message->error.data, message->error.len);
    *ret = to;
}

/* Digits only, no leading zero, at most `max`. */
static bool read_number(struct slice digits, uint64_t max, uint64_t *ret)
{
    uint64_t value = 0;

    if (digits.len > 1 && digits.data[0] == '0')
        return false;
    for (size_t i = 0; i < digits.len; i++) {
        uint64_t digit = (uint64_t)(digits.data[i] - '0');

        if (digits.data[i] < '0' || digits.data[i] > '9' || value > (max - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *ret = value;
    return true;
}

/* Puts one header into the message; false when its content is not as it must be. */
static bool read_header(struct message *message, enum header header, struct slice value)
{
    uint64_t chunk;

    switch (header) {
    case HEADER_V:
        return value.data[0] == '1';
    case HEADER_JOB:
        memcpy(message->job, value.data, sizeof(message->job));
        return true;
    case HEADER_LINE:
        return read_number(value, INT64_MAX, &message->line);
    case HEADER_CHUNK:
        if (!read_number(value, INT32_MAX, &chunk))
            return false;
        message->chunk = (uint32_t)chunk;
        return true;
    case HEADER_CUSTOM_ID:
        message->custom_id = value;
        return utf8_valid(value) && (value.len == 0 || memchr(value.data, 0, value.len) == NULL);
    case HEADER_TENANT:
        message->tenant = value;
        return utf8_valid(value);
    case HEADER_TRACEPARENT:
        message->traceparent = value;
        return true;
    case HEADER_BLOB:
        memcpy(message->blob, value.data, sizeof(message->blob));
        message->has_blob = true;
        return true;
    case HEADER_ERROR:
        message->error = value;
        return utf8_valid(value);
    case HEADER_COUNT:
        break;
    }
    return false;
}

static enum header find_header(const char *name)
{
    int header = 0;

    while (header < HEADER_COUNT && strcmp(headers[header].name, name) != 0)
        header++;
    return (enum header)header;
}

/* NULL when all is well, else what is wrong. */
static const char *read_headers(const rd_kafka_headers_t *list, struct message *message)
{
    const char *name;
    const void *data;
    size_t len;
    unsigned seen = 0;

    for (size_t i = 0; rd_kafka_header_get_all(list, i, &name, &data, &len) == 0; i++) {
        enum header header = find_header(name);

        if (header == HEADER_COUNT)
            continue;
        if (len < headers[header].bytes_min || len > headers[header].bytes_max ||
            (seen & 1U << header) != 0 ||
            !read_header(message, header, (struct slice){len > 0 ? data : "", len}))
            return headers[header].wrong;
        seen |= 1U << header;
    }
    for (int header = 0; header < HEADER_COUNT; header++)
        if (headers[header].required && (seen & 1U << header) == 0)
            return headers[header].wrong;
    return NULL;
}

static const char *read_all(const rd_kafka_headers_t *list, struct slice value,
                            struct message *message)
{
    const char *why = read_headers(list, message);

    if (why != NULL)
        return why;
    if (message->custom_id.len == 0 && message->error.len == 0)
        return "the header custom_id is empty";
    if (message->has_blob && message->error.len > 0)
        return "the message has both a blob and an error";
    if ((message->has_blob || message->error.len > 0) != (value.len == 0))
        return "the message has neither a body nor a blob nor an error, or two of them";
    message->body = value.len > 0 ? value : (struct slice){"", 0};
    return NULL;
}

enum err message_decode_parts(const rd_kafka_headers_t *list, struct slice value,
                              struct message *ret, const char **ret_why)
{
    struct message message = {0};
    const char *why = read_all(list, value, &message);

    if (why != NULL) {
        if (ret_why != NULL)
            *ret_why = why;
        return ERR_INPUT;
    }
    *ret = message;
    return ERR_OK;
}

enum err message_decode(const rd_kafka_message_t *from, struct message *ret, const char **ret_why)
{
    rd_kafka_headers_t *list;

    if (rd_kafka_message_headers(from, &list) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        if (ret_why != NULL)
            *ret_why = "the message has no headers";
        return ERR_INPUT;
    }
    return message_decode_parts(list, (struct slice){from->payload, from->len}, ret, ret_why);
}
