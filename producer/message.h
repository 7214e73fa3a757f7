/*
 * message.h: one request as it travels through Kafka.
 *
 * VALUE    the request body, byte for byte as submitted; empty with `blob` and with `error`
 * HEADERS  v            "1"
 *          job          16 bytes, the job's UUID
 *          line         decimal: which request of the job, from 0, blank lines not counted
 *          chunk        decimal: the chunk it was sent in
 *          custom_id    the user's name for it, decoded, 0 to 512 bytes of UTF-8 without NUL; empty
 *                       only beside `error`, where the line had none that could be read
 *          tenant       1 to 63 bytes
 *          traceparent  W3C trace context, 55 bytes; optional
 *          blob         32 bytes, optional: sha256 of a body that lies in table `blobs`
 *          error        JSON {code, message, param, line}, optional: the line was not valid and was
 *                       passed over with --on-invalid skip; it becomes a failed row and never runs
 * Headers of other names are passed over, so that tools on the way may add theirs. The key is unused:
 * the partition is chosen by number.
 *
 * Pure functions of their arguments; any thread.
 */
#ifndef MSERVE_PRODUCER_MESSAGE_H
#define MSERVE_PRODUCER_MESSAGE_H

#include "config/buffer.h"
#include "config/errors.h"

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    MESSAGE_JOB_BYTES = 16,
    MESSAGE_BLOB_BYTES = 32,
    MESSAGE_TRACEPARENT_BYTES = 55,
    MESSAGE_TENANT_BYTES_MAX = 63,
    MESSAGE_CUSTOM_ID_BYTES_MAX = 512,
    MESSAGE_ERROR_BYTES_MAX = 4096,
};

struct message {
    uint8_t job[MESSAGE_JOB_BYTES];
    uint64_t line;
    uint32_t chunk;
    struct slice custom_id;
    struct slice tenant;
    struct slice traceparent; /* len 0: none */
    bool has_blob;
    uint8_t blob[MESSAGE_BLOB_BYTES];
    struct slice error; /* len 0: none */
    struct slice body;  /* len 0 with has_blob and with error */
};

/*
 * The headers of `message` (the body is the value and is not looked at). *ret is the caller's: given
 * to rd_kafka_producev() with RD_KAFKA_V_HEADERS, or destroyed. Sizes are asserted: who builds a
 * message has checked them.
 */
void message_encode(const struct message *message, rd_kafka_headers_t **ret);

/*
 * Reads a consumed message; the slices of *ret point into `from`. ERR_INPUT, not logged, when it is
 * none of ours or damaged; *ret_why (may be NULL) then points to a constant sentence.
 */
enum err message_decode(const rd_kafka_message_t *from, struct message *ret, const char **ret_why);

/* The same for who holds headers and value apart; the slices of *ret point into both. */
enum err message_decode_parts(const rd_kafka_headers_t *headers, struct slice value,
                              struct message *ret, const char **ret_why);

#endif
