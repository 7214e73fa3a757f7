/*
 * health_server.h: what a daemon says of itself over HTTP: /metrics (config/metrics.h), /livez and
 * /readyz, to whoever reaches its address; on loopback unless the settings say otherwise. Nothing can
 * be asked for that changes anything, and there is no secret in the answers.
 *
 * It has threads of its own that work on nothing else. A client can neither slow down the daemon nor
 * make it grow: at most 16 connections of 8 KiB each, one request a connection, 10 s for all of it,
 * and only GET and HEAD.
 *
 * THE ANSWERS /livez and /readyz have status 200 or 503, and a line for each check that failed; with
 * ?verbose for each check. /livez is for whoever restarts a process that hangs: nothing outside the
 * process may be part of it. /readyz says what the daemon waits for.
 *
 * THREADS The calls of the options are made by the server's threads, one at a time: they read atomics
 * and wait for nothing.
 */
#ifndef MSERVE_CONFIG_HEALTH_SERVER_H
#define MSERVE_CONFIG_HEALTH_SERVER_H

#include "config/errors.h"

#include <stdbool.h>
#include <stdint.h>

enum { HEALTH_CHECKS_MAX = 8 };

struct health_check {
    const char *name; /* constant: "kafka" */
    bool good;
    char text[200]; /* one line: how it is, or what it waits for */
};

/* Fills one check. */
void health_say(struct health_check *check, const char *name, bool good, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

struct health_server_options {
    const char *address; /* "127.0.0.1:9464", "[::1]:0"; port 0: one that is free */
    const char *setting; /* its name, for sentences: "worker.http" */
    /* Each fills check[] and returns how many, at most HEALTH_CHECKS_MAX. */
    unsigned (*live)(void *context, uint64_t now_ns, struct health_check *check);
    unsigned (*ready)(void *context, uint64_t now_ns, struct health_check *check);
    /* Each second, and before an answer: copies into the metrics what is kept elsewhere. */
    void (*sample)(void *context, uint64_t now_ns);
    void *context;
    uint32_t connection_ms; /* how long a client may take, from its first byte on; 0: 10,000 */
};

struct health_server;

/*
 * Listens, and says where in the log: `http.listening address=…`. With an empty address there is no
 * server, and *ret is NULL. ERR_SETTINGS: the address is none; ERR_IO: it cannot be had.
 */
enum err health_server_open(const struct health_server_options *options,
                            struct health_server **ret);
void health_server_close(struct health_server *server); /* NULL is allowed */

/* The port it listens on. */
uint16_t health_server_port(const struct health_server *server);

#endif
