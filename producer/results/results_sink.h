/*
 * results_sink.h: where written lines go: bytes are gathered, compressed where the name says so, and
 * handed to a stream some megabytes at a time.
 *
 * A pipe that nobody reads any more is no failure (`mserve results … | head`): the sink has stopped, and
 * takes what comes without writing it. ERR_IO, with a sentence, for every other failure. One thread.
 */
#ifndef MSERVE_PRODUCER_RESULTS_SINK_H
#define MSERVE_PRODUCER_RESULTS_SINK_H

#include "config/buffer.h"
#include "config/errors.h"

#include <stdbool.h>
#include <stdio.h>

enum { RESULTS_SINK_BYTES = 4 << 20 }; /* after which results_sink_full() */

struct results_sink {
    struct buffer lines; /* who writes adds here */
    bool stopped;
    FILE *out;  /* borrowed */
    void *zstd; /* NULL: not compressed */
    struct buffer squeezed;
};

void results_sink_init(struct results_sink *sink, FILE *out, bool compress);
void results_sink_release(struct results_sink *sink); /* what was not flushed is dropped */

static inline bool results_sink_full(const struct results_sink *sink)
{
    return sink->lines.len >= RESULTS_SINK_BYTES;
}

/* All that was added is with the system now: a reader of a pipe sees it. */
enum err results_sink_flush(struct results_sink *sink);

/* The same, and that was all. */
enum err results_sink_finish(struct results_sink *sink);

#endif
