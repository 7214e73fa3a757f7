/* books.c: subtraction, account by account. */
#include "consumer/books.h"

void books_between(const struct engine_books *before, const struct engine_books *after,
                   uint64_t saved_ns, struct books_entry *ret)
{
    *ret = (struct books_entry){
        .held_ns = after->held_ns - before->held_ns,
        .shared_ns = after->shared_ns - before->shared_ns,
        .recompute_ns = after->recompute_ns - before->recompute_ns,
        .overhead_ns = after->overhead_ns - before->overhead_ns,
        .idle_ns = after->idle_ns - before->idle_ns,
        .wip_ns = after->live_ns - saved_ns,
    };
}

int64_t books_gap(const struct books_entry *entry, uint64_t wip_before_ns, uint64_t out_ns)
{
    uint64_t in = entry->held_ns + wip_before_ns;
    uint64_t out = out_ns + entry->shared_ns + entry->recompute_ns + entry->overhead_ns +
                   entry->idle_ns + entry->wip_ns;

    return (int64_t)(in - out);
}
