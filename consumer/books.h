/*
 * books.h: from the engine's running totals to what one commit books.
 *
 * A cut is the engine's books at one moment between two steps, after all events were polled. What a
 * commit books is the difference of two cuts; its rows and losses are counted on their own, from the
 * tasks in it. Nothing here is the remainder of something else: books_gap() is what does not add up,
 * and it is 0.
 *
 * Pure functions; any thread.
 */
#ifndef MSERVE_CONSUMER_BOOKS_H
#define MSERVE_CONSUMER_BOOKS_H

#include "kernels/engine.h"

#include <stdint.h>

/* Nanoseconds of the device's clock that one commit moves; `wip_ns` alone is a state, not a move. */
struct books_entry {
    uint64_t held_ns;
    uint64_t shared_ns;
    uint64_t recompute_ns;
    uint64_t overhead_ns;
    uint64_t idle_ns;
    uint64_t wip_ns; /* in unfinished requests and in no checkpoint, at the later cut */
};

/*
 * `before` is the cut of the commit before; zeros at the start. `saved_ns` is what of the cost of
 * those unfinished at the later cut is in checkpoints, this cut's included.
 */
void books_between(const struct engine_books *before, const struct engine_books *after,
                   uint64_t saved_ns, struct books_entry *ret);

/*
 * held + wip before - (out + shared + recompute + overhead + idle + wip after), where `out_ns` is what
 * left the work in progress between the cuts: what ended tasks have cost beyond their checkpoints,
 * and what went into checkpoints.
 */
int64_t books_gap(const struct books_entry *entry, uint64_t wip_before_ns, uint64_t out_ns);

#endif
