/*
 * pace.h: how fast the engine steps by the clock on the wall, and so whether a request will be done by
 * a time. A running request gains one token a step; a step of a full batch takes about as long as the
 * one before.
 *
 * Pure functions; the device thread's own.
 */
#ifndef MSERVE_CONSUMER_PACE_H
#define MSERVE_CONSUMER_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* {0}: nothing is known yet. */
struct pace {
    uint64_t step_ns; /* of wall time, of the latest steps; 0: none was seen */
    uint64_t steps;   /* of the engine since it was opened */
    uint64_t seen_ns; /* monotonic: when they were so many; 0: what came since is no step */
};

/* The engine has made `steps` by now; `idle`: and now it has nothing to do. */
void pace_note(struct pace *pace, uint64_t steps, bool idle, uint64_t now_ns);

/* How long so many tokens of one request take; 0 while nothing is known. */
uint64_t pace_takes_ns(const struct pace *pace, uint64_t tokens);

#endif
