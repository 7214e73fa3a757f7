/*
 * units.h: times and sizes as people write them: `24h`, `1d12h`, `500ms`; `4MiB`, `64kB`, `512`.
 *
 * Pure functions of their arguments; any thread.
 */
#ifndef MSERVE_CONFIG_UNITS_H
#define MSERVE_CONFIG_UNITS_H

#include "config/buffer.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * One or more whole numbers, each with its unit (w, d, h, m, s, ms), larger units first, each at
 * most once: `90s`, `7d`, `1d12h30m`. False when the text is anything else or overflows.
 */
bool duration_parse(struct slice text, uint64_t *ret_ms);

/* The shortest exact form, which duration_parse() reads back: 5400000 is `1h30m`, 0 is `0s`. */
void duration_add(struct buffer *buffer, uint64_t ms);

/*
 * A whole number with a unit: B, KiB, MiB, GiB, TiB (powers of 1,024) or kB, MB, GB, TB (powers of
 * 1,000); bytes without one. False when the text is anything else or overflows.
 */
bool bytes_parse(struct slice text, uint64_t *ret_bytes);

/* The largest unit of 1,024 that divides it exactly: 4194304 is `4MiB`, 1000 is `1000B`. */
void bytes_add(struct buffer *buffer, uint64_t bytes);

#endif
