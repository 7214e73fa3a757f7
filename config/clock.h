/*
 * clock.h: the two clocks. Only loops and the clock-reading edges of programs call these; everything
 * else is given the time as a parameter.
 */
#ifndef MSERVE_CONFIG_CLOCK_H
#define MSERVE_CONFIG_CLOCK_H

#include <stdint.h>
#include <time.h>

#define CLOCK_NS_PER_MS 1000000u
#define CLOCK_NS_PER_S  1000000000u

/* Never goes back; starts anywhere. It stands still while the host is suspended. */
static inline uint64_t clock_mono_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * CLOCK_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Milliseconds since 1970, UTC; may jump. For ids and for people, never for leases. */
static inline uint64_t clock_wall_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / CLOCK_NS_PER_MS;
}

#endif
