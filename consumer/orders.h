/*
 * orders.h: go and stop, numbered, from the control thread to a thread that works.
 *
 * A counter that only grows: odd, the thread is to work; even, it is to stand still. It begins at 0:
 * standing still, and nothing to answer. What a thread owes follows from two numbers, the order and
 * the last stop that it answered, and never from when it looks: an order that came and went while
 * it was busy is not missed.
 *
 * WHO WAITS FOR WHOM Only control waits, for one answer at a time; the others never do.
 *
 *     control   stop n to intake                    (the worker was buried, or is to leave)
 *     intake    lets go of what it has not read, answers n: no task follows
 *     control   stop n to device
 *     device    empties engine and lanes into a batch that says "stop n": nothing follows it
 *     commit    commits it, or throws it away when the worker is lost, answers n
 *     control   leaves; or registers anew and gives go n + 1 to intake and device
 *
 * A stop is answered once, with its number, also by a thread that stood still already because it
 * had not yet seen the go before it. An answer to any other number than the awaited one is passed
 * over.
 *
 * A SECOND LOSS While control waits for the answers to n it gives no other order: a loss that it hears
 * of then is that of the same life, whose work is being thrown away already. Its commit thread
 * tells of a loss before it answers n, so none is heard of later and taken for one of the next
 * life. One that comes right behind go n + 1 is stop n + 2, and goes the same way.
 */
#ifndef MSERVE_CONSUMER_ORDERS_H
#define MSERVE_CONSUMER_ORDERS_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>

struct orders {
    atomic_uint given; /* control writes */
};

static inline unsigned orders_given(const struct orders *orders)
{
    return atomic_load_explicit(&orders->given, memory_order_acquire);
}

static inline bool orders_is_go(unsigned order)
{
    return order & 1u;
}

/* The newest stop at or before an order. */
static inline unsigned orders_last_stop(unsigned order)
{
    return order & ~1u;
}

/* Control: the thread stands still and is to work. */
static inline void orders_go(struct orders *orders)
{
    unsigned before = atomic_fetch_add_explicit(&orders->given, 1, memory_order_acq_rel);

    assert(!orders_is_go(before));
    (void)before;
}

/* Control: the thread works and is to stop; returns the number that it will answer with. */
static inline unsigned orders_stop(struct orders *orders)
{
    unsigned before = atomic_fetch_add_explicit(&orders->given, 1, memory_order_acq_rel);

    assert(orders_is_go(before));
    return before + 1;
}

#endif
