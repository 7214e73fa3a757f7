/*
 * gauges.h: the numbers that the worker's threads show one another. Atomics, each with one writer
 * unless said otherwise; nothing waits on them.
 */
#ifndef MSERVE_CONSUMER_GAUGES_H
#define MSERVE_CONSUMER_GAUGES_H

#include <stdatomic.h>
#include <stdint.h>

struct gauges {
    /* control and commit write, each renewal of the lease a later time */
    atomic_uint_fast64_t launch_until_ns; /* monotonic: no work is launched after it */

    /* any thread writes: grows when a wish or a loss was noted */
    atomic_uint changes;

    /* the device thread writes */
    atomic_uint_fast64_t device_moves; /* grows while it is alive */
    atomic_uint_fast64_t held_ns;      /* of the device's clock since the engine was opened */
    atomic_uint running;               /* requests in the engine */
    atomic_uint stop_finished;       /* at the last stop: requests that ended since it was asked */
    atomic_uint stop_kept;           /* for, and those that were taken out */
    atomic_uint_fast64_t stopped_ns; /* monotonic: when its batch was cut */

    /* what checkpoints cost it, since the start: passes over what runs, requests and tokens that
     * were copied, time of the clock on the wall */
    atomic_uint_fast64_t checkpoint_passes;
    atomic_uint_fast64_t checkpoint_requests;
    atomic_uint_fast64_t checkpoint_tokens;
    atomic_uint_fast64_t checkpoint_ns;

    /* requests that intake has posted and the device has not yet taken; both write */
    atomic_uint ready_requests;
    atomic_size_t ready_bytes;

    /* lines of chosen chunks that intake has not yet come to; control and intake write */
    atomic_uint unread_lines;

    /* the commit thread writes: number of the last set to run apart whose mark has landed */
    atomic_uint marked;

    /* batches posted and not yet begun; device and commit write */
    atomic_uint batches_waiting;
};

/*
 * The lease was renewed by a message that left at sent_ns: launching stops a sixth of the lease
 * before its end, counted from then.
 */
static inline void gauges_extend(struct gauges *gauges, uint64_t sent_ns, uint64_t lease_ms)
{
    uint64_t lease_ns = lease_ms * 1000000;
    uint64_t until_ns = sent_ns + lease_ns - lease_ns / 6;
    uint64_t known_ns = atomic_load_explicit(&gauges->launch_until_ns, memory_order_relaxed);

    while (known_ns < until_ns &&
           !atomic_compare_exchange_weak_explicit(&gauges->launch_until_ns, &known_ns, until_ns,
                                                  memory_order_release, memory_order_relaxed))
        ;
}

#endif
