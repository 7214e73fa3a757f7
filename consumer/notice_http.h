/*
 * notice_http.h: asking a metadata service over HTTP, on a libuv loop.
 *
 * Whoever answers at that address is not trusted further than an answer goes: plain HTTP only, no
 * redirects are followed, no proxy of the environment is used, an answer has at most 64 KiB, and each
 * question has a time limit.
 *
 * THREADS One loop, one thread. Answers come from the loop, never from inside http_ask().
 */
#ifndef MSERVE_CONSUMER_NOTICE_HTTP_H
#define MSERVE_CONSUMER_NOTICE_HTTP_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "config/buffer.h"

enum { HTTP_ANSWER_BYTES_MAX = 65536, HTTP_HEADERS_MAX = 2, HTTP_ETAG_SIZE = 64 };

/* All copied. */
struct http_question {
    const char *method; /* GET, PUT, POST */
    const char *url;
    const char *header[HTTP_HEADERS_MAX]; /* "Metadata: true"; NULL: none */
    const char *body;                     /* of POST; NULL: none */
    uint32_t timeout_ms;
};

/* Borrowed for the call. */
struct http_answer {
    const char *failure; /* why there is no answer; NULL: there is one */
    long status;
    struct slice body;
    char etag[HTTP_ETAG_SIZE]; /* letters, digits, '-', '_'; else "" */
    bool from_google;          /* with `Metadata-Flavor: Google` */
};

typedef void (*http_answered)(void *context, const struct http_answer *answer);

struct http;

/* NULL, logged: libcurl could not be set up. */
struct http *http_new(uv_loop_t *loop);

/* The answer, or that there is none, comes to `answered`. */
void http_ask(struct http *http, const struct http_question *question, http_answered answered,
              void *context);

/* Asks and waits: for the last moment, when the loop runs no more. Returns the status, 0: none. */
long http_ask_now(const struct http_question *question);

/* Questions under way are dropped without a word. The loop must run once more to free all. */
void http_free(struct http *http); /* NULL is allowed */

#endif
