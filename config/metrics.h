/*
 * metrics.h: what a daemon counts of itself. Numbers live in one array of atomics, a place for each
 * row of config/metrics_table.h and each value of its label; nothing waits for anything.
 *
 * THREADS metrics_add, metrics_set and metrics_observe from any thread, without a lock: one atomic
 * instruction each, some 10 ns; all that a step counts takes 50 ns. metrics_render() from one thread at
 * a time; it reads each number once, so two numbers of one page may be a moment apart, and none ever
 * goes back that should not.
 *
 * UNITS as the table says: nanoseconds for seconds, billionths for ratios.
 */
#ifndef MSERVE_CONFIG_METRICS_H
#define MSERVE_CONFIG_METRICS_H

#include "config/buffer.h"
#include "config/metrics_table.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

/* Places of a row: label values, or a histogram's 15 buckets, the one without a bound, and the sum.
 * 24 of them are three lines of the cache: two rows never share one. */
enum { METRIC_CELLS = 24 };

extern atomic_uint_fast64_t metrics_cells[METRIC_COUNT][METRIC_CELLS];

/* `value` is the number of the label's value; 0 where the row has no label. */
static inline void metrics_add(enum metric metric, unsigned value, uint64_t amount)
{
    atomic_fetch_add_explicit(&metrics_cells[metric][value], amount, memory_order_relaxed);
}

/* Of gauges; and of counters that somebody else adds up, who then is the only one to write them. */
static inline void metrics_set(enum metric metric, unsigned value, int64_t amount)
{
    atomic_store_explicit(&metrics_cells[metric][value], (uint64_t)amount, memory_order_relaxed);
}

void metrics_observe(enum metric metric, uint64_t amount); /* of histograms */

/* A label of an info row; the value may be any bytes. */
struct metrics_pair {
    const char *key;
    const char *value;
};

/* Once for each info row; copies. Until then the row is not shown. */
void metrics_info(enum metric metric, const struct metrics_pair *pairs, size_t count);

/*
 * Once at the start: `programs` is METRICS_WORKER or METRICS_SCHEDULER, `name` that of the program,
 * now_ms milliseconds since 1970.
 */
void metrics_init(unsigned programs, const char *name, uint64_t now_ms);

/* Reads what the kernel says of this process into the process_ rows; metrics_render() follows. */
void metrics_sample_process(void);

#define METRICS_CONTENT_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

/* Adds the page of the program: all its rows, in the order of the table, and `# EOF`. */
void metrics_render(struct buffer *out);

/* docs/metrics.md. */
void metrics_print_reference(FILE *out);

/* All numbers 0, no info: for tests. */
void metrics_reset(void);

#endif
