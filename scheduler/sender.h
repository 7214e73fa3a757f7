/*
 * sender.h: POSTs to people's own servers, many at once, on a libuv loop.
 *
 * Nobody at the other end is trusted. A URL is checked again each time (producer/webhook_url.h); each
 * socket is made for an address that policy/address.h has let through, so what a name server says later
 * does not matter, and the peer of a connection that is used again is asked for once more. No redirect
 * is followed, no proxy is used, nothing is read from .netrc, TLS is always verified. 64 KiB of headers
 * are read, and 64 KiB of a body, whose bytes are forgotten. An answer counts once its headers are
 * whole, by its status: how its body ends, or that it never does, changes nothing.
 *
 * URLs, bodies and headers are never logged.
 *
 * THREADS One loop, one thread. Answers come from the loop, never from inside sender_send(). Names are
 * looked up in threads of libcurl's own: a name server that hangs holds up nobody else.
 */
#ifndef MSERVE_SCHEDULER_SENDER_H
#define MSERVE_SCHEDULER_SENDER_H

#include "config/buffer.h"
#include "config/errors.h"
#include "config/settings.h"

#include <stdint.h>
#include <uv.h>

enum {
    SENDER_HEADERS_MAX = 4,
    SENDER_ANSWER_BYTES_MAX = 65536,
    SENDER_CONNECT_MS = 5000,
    SENDER_WHY_SIZE = 256,
};

struct sender;

/* `settings` outlives the sender. ERR_SETTINGS: webhook.private_networks; ERR_IO: no libcurl. */
enum err sender_open(uv_loop_t *loop, const struct settings_webhook *settings, struct sender **ret);

/* Borrowed until the answer comes; the strings of `header` are copied. */
struct sender_request {
    const char *url;
    const char *header[SENDER_HEADERS_MAX]; /* "webhook-id: evt_1"; NULL: no more */
    struct slice body;                      /* JSON */
};

/* Borrowed for the call. */
struct sender_answer {
    uint32_t status;          /* 0: no answer */
    const char *why;          /* what went wrong, in a sentence; NULL: a status of 2xx */
    struct slice retry_after; /* the header's value; empty: there was none */
    uint64_t took_ns;
};

typedef void (*sender_answered)(void *context, const struct sender_answer *answer);

void sender_send(struct sender *sender, const struct sender_request *request,
                 sender_answered answered, void *context);

/* Requests under way are dropped without a word. The loop must run once more to free all. */
void sender_close(struct sender *sender); /* NULL is allowed */

#endif
