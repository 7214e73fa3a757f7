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
    uint64_t wip_ns; /* in unfinished requests, at the later cut */
};

/* `before` is the cut of the commit before; zeros at the start. */
void books_between(const struct engine_books *before, const struct engine_books *after,
                   struct books_entry *ret);

/*
 * held + wip before - (ended + shared + recompute + overhead + idle + wip after), where `ended_ns`
 * is the cost of all tasks that ended between the cuts.
 */
int64_t books_gap(const struct books_entry *entry, uint64_t wip_before_ns, uint64_t ended_ns);

#endif
