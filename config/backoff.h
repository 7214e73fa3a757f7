/*
 * backoff.h: how long to wait before something is tried again: each time about twice as long, up to
 * a limit, and never at the same moment as everybody else who lost the same server.
 *
 * A struct belongs to one thread. Sleeping is the caller's.
 */
#ifndef MSERVE_CONFIG_BACKOFF_H
#define MSERVE_CONFIG_BACKOFF_H

#include <stdint.h>

struct backoff {
    uint32_t min_ms;  /* of the first step */
    uint32_t max_ms;  /* of the longest */
    uint32_t step_ms; /* the last one; 0: none since the last success */
};

/* A random time between half of `ms` and `ms`. */
uint32_t backoff_jitter(uint32_t ms);

/* The pause before the next try: between half of a step and the step, which then doubles. */
uint32_t backoff_next(struct backoff *backoff);

/* It succeeded: the next pause is a first one. */
static inline void backoff_reset(struct backoff *backoff)
{
    backoff->step_ms = 0;
}

#endif
