/*
 * timeline.h: where a step stood on the host's clock, from what the card measured. Events give
 * durations on the card's clock, as floats; costs are counted on the host's, in nanoseconds, and a
 * step must not begin before the one before it has ended.
 *
 * A step that stood in the queue when the one before ended began as much later as the card says; any
 * other began when it was enqueued. What the two clocks drift apart is never counted twice: a step
 * that would end after the moment at which its end was seen ends at that moment.
 */
#ifndef MSERVE_KERNELS_CUDA_TIMELINE_H
#define MSERVE_KERNELS_CUDA_TIMELINE_H

#include <stdint.h>

struct timeline {
    uint64_t end_ns; /* of the step before; 0: none was */
};

struct timeline_step {
    uint64_t enqueued_ns; /* host's clock */
    uint64_t seen_ns;     /* host's clock: it had ended by then */
    float gap_ms;         /* card's clock: from the end of the step before to its begin */
    float lasted_ms;      /* card's clock */
};

/* A float of milliseconds that no event can give counts as zero. */
static inline uint64_t timeline_ns(float ms)
{
    return ms > 0.0f && ms < 1e9f ? (uint64_t)((double)ms * 1e6) : 0;
}

static inline void timeline_place(struct timeline *timeline, const struct timeline_step *step,
                                  uint64_t *ret_begin_ns, uint64_t *ret_end_ns)
{
    const uint64_t before = timeline->end_ns;
    uint64_t begin = step->enqueued_ns, end;

    if (begin < before)
        begin = before + timeline_ns(step->gap_ms);
    end = begin + timeline_ns(step->lasted_ms);
    if (end > step->seen_ns)
        end = step->seen_ns > before ? step->seen_ns : before;
    if (begin > end)
        begin = end;
    timeline->end_ns = end;
    *ret_begin_ns = begin;
    *ret_end_ns = end;
}

#endif
