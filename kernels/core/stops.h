/*
 * stops.h: the stop strings of one request, looked for in bytes that grow. A stop may begin in one
 * token and end in another, so each look begins as far back as the longest stop is long: the work
 * per token depends on the stops, not on how much text there is.
 */
#ifndef MSERVE_KERNELS_CORE_STOPS_H
#define MSERVE_KERNELS_CORE_STOPS_H

#include "config/buffer.h"

#include <stdbool.h>
#include <stdint.h>

enum { STOPS_MAX = 16, STOP_BYTES_MAX = 256 };

struct stops;

/* Copies the strings; each of 1..STOP_BYTES_MAX bytes, at most STOPS_MAX. */
struct stops *stops_new(const struct slice *stop, uint32_t len);
void stops_free(struct stops *stops);

/*
 * Looks for the stop that ends first in `text`, of which the first `seen` bytes were looked at
 * before; of two that end together, for the longer. Says where it begins and ends.
 */
bool stops_find(const struct stops *stops, struct slice text, size_t seen, size_t *ret_begin,
                size_t *ret_end);

#endif
