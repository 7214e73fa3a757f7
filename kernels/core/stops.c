/* stops.c: memmem() over the window in which a stop can have ended. */
#include "kernels/core/stops.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct stops {
    uint32_t len;
    bool last[256]; /* a stop ends in this byte: without one of them in sight no stop has ended */
    struct slice stop[STOPS_MAX];
    char bytes[];
};

struct stops *stops_new(const struct slice *stop, uint32_t len)
{
    struct stops *stops;
    size_t total = 0;
    char *at;

    assert(len <= STOPS_MAX);
    for (uint32_t i = 0; i < len; i++)
        total += stop[i].len;
    stops = xmalloc(sizeof(*stops) + total);
    memset(stops->last, 0, sizeof(stops->last));
    stops->len = len;
    at = stops->bytes;
    for (uint32_t i = 0; i < len; i++) {
        assert(stop[i].len > 0 && stop[i].len <= STOP_BYTES_MAX);
        memcpy(at, stop[i].data, stop[i].len);
        stops->stop[i] = (struct slice){at, stop[i].len};
        at += stop[i].len;
        stops->last[(uint8_t)at[-1]] = true;
    }
    return stops;
}

void stops_free(struct stops *stops)
{
    free(stops);
}

bool stops_find(const struct stops *stops, struct slice text, size_t seen, size_t *ret_begin,
                size_t *ret_end)
{
    bool found = false, near = false;

    for (size_t i = seen; i < text.len; i++)
        near |= stops->last[(uint8_t)text.data[i]];
    for (uint32_t i = 0; near && i < stops->len; i++) {
        const struct slice stop = stops->stop[i];
        const size_t from = seen >= stop.len ? seen - stop.len + 1 : 0;
        const char *hit = from >= text.len
                              ? NULL
                              : memmem(text.data + from, text.len - from, stop.data, stop.len);
        const size_t begin = hit == NULL ? 0 : (size_t)(hit - text.data);
        const size_t end = begin + stop.len;

        if (hit == NULL || (found && (end > *ret_end || (end == *ret_end && begin >= *ret_begin))))
            continue;
        found = true;
        *ret_begin = begin;
        *ret_end = end;
    }
    return found;
}
