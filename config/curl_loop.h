/*
 * curl_loop.h: libcurl's transfers on a libuv loop: each is told what the other waits for.
 *
 * THREADS One loop, one thread. `done` is called from the loop, never from inside curl_loop_add().
 */
#ifndef MSERVE_CONFIG_CURL_LOOP_H
#define MSERVE_CONFIG_CURL_LOOP_H

#include "config/buffer.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <uv.h>

/* `context` is the transfer's CURLOPT_PRIVATE. It has left the loop; its handle is the caller's. */
typedef void (*curl_loop_done)(void *context, CURLcode code);

struct curl_loop;

/* `connections` are kept open at most; 0: as many as libcurl likes. NULL: libcurl could not be set up. */
struct curl_loop *curl_loop_new(uv_loop_t *loop, long connections, curl_loop_done done);

void curl_loop_add(struct curl_loop *curl_loop, CURL *easy);

/* Before it is done. */
void curl_loop_remove(struct curl_loop *curl_loop, CURL *easy);

/* No transfer is left in it. The loop must run once more to free all. NULL is allowed. */
void curl_loop_free(struct curl_loop *curl_loop);

/* The value of a header line, when it is this one; names are not case-sensitive. */
bool curl_header_value(struct slice line, const char *name, struct slice *ret);

#endif
