/*
 * scheduler_health.h: what the scheduler says of itself over HTTP (config/health_server.h): how the
 * rounds go, as the loop that makes them tells.
 */
#ifndef MSERVE_SCHEDULER_SCHEDULER_HEALTH_H
#define MSERVE_SCHEDULER_SCHEDULER_HEALTH_H

#include "config/errors.h"

#include <stdint.h>

struct deliver;
struct scheduler_health;

/* `http` is the setting of that name. ERR_SETTINGS, ERR_IO: there is no such address to be had. */
enum err scheduler_health_open(const char *http, struct scheduler_health **ret);
void scheduler_health_close(struct scheduler_health *health); /* NULL is allowed */

/* The loop: a round, or a try to connect, begins; and how it ended. */
void scheduler_health_begin(struct scheduler_health *health, uint64_t now_ns);
void scheduler_health_end(struct scheduler_health *health, uint64_t now_ns, enum err err);

/* From now on /livez and /readyz speak of deliveries too; NULL: no more, and nobody looks any longer. */
void scheduler_health_deliver(struct scheduler_health *health, const struct deliver *deliver);

#endif
