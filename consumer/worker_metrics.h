/*
 * worker_metrics.h: what the worker's threads count (config/metrics.h), one call at each place.
 */
#ifndef MSERVE_CONSUMER_WORKER_METRICS_H
#define MSERVE_CONSUMER_WORKER_METRICS_H

#include "kernels/engine.h"
#include "sql/commit.h"

#include <stdint.h>

/* device thread: after a step, and after the books were read */
void worker_count_step(const struct engine_step_info *info);
void worker_count_books(const struct engine_books *books);

/* commit thread: a commit landed `wall_ns` after its first try */
void worker_count_commit(const struct commit_batch *batch, const struct commit_result *result,
                         uint64_t wall_ns);

#endif
