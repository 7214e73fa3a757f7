/*
 * worker_health.h: what the worker says of itself over HTTP (config/health_server.h).
 *
 * Three threads have a part in it. The control thread shows what it knows once a second. A thread of
 * its own asks Kafka for the topic every few seconds, because a consumer that has nothing to fetch
 * does not notice that the broker is gone; it may wait for the answer, since nobody waits for it. The
 * server's thread reads what these two, and the gauges, have last said.
 */
#ifndef MSERVE_CONSUMER_WORKER_HEALTH_H
#define MSERVE_CONSUMER_WORKER_HEALTH_H

#include "config/errors.h"

struct worker;
struct worker_health;

/* After the loop was made. ERR_SETTINGS, ERR_IO: worker.http. */
enum err worker_health_open(struct worker *worker, struct worker_health **ret);

/* Ends both threads: before intake is stopped. The timer goes with the loop's other handles. */
void worker_health_stop(struct worker_health *health); /* NULL is allowed */

/* After the loop was closed. */
void worker_health_free(struct worker_health *health); /* NULL is allowed */

#endif
