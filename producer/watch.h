/*
 * watch.h: how a job goes, in a line that a person reads: rows by outcome, tokens a second, its share of
 * the devices, what it is charged so far. Counts are as they were seen; rates are of the last
 * WATCH_WINDOW_MS.
 *
 * No clock, no database: it is given what was seen, and when. One thread.
 */
#ifndef MSERVE_PRODUCER_WATCH_H
#define MSERVE_PRODUCER_WATCH_H

#include "producer/job_view.h"

#include <stdbool.h>
#include <stdint.h>

enum { WATCH_WINDOW_MS = 15000, WATCH_SIGHTS = 64, WATCH_LINE_SIZE = 320 };

struct watch_sight {
    uint64_t at_ns;
    int64_t tokens;
    int64_t device_ns;
    int64_t offered_ns; /* time of all devices since the first sight */
};

/* {0} at first. */
struct watch {
    struct watch_sight sight[WATCH_SIGHTS]; /* from old to new */
    uint32_t count;
    struct job_progress last;
};

/*
 * Takes what was seen. False: a number is smaller than it was, so the database went back to an earlier
 * state (a failover that lost commits); rates begin anew.
 */
bool watch_see(struct watch *watch, const struct job_progress *progress, uint64_t now_ns);

/* Tokens a second, and how much of the devices' time the job has, 0 to 1; negative: not known yet. */
double watch_tokens_per_s(const struct watch *watch);
double watch_share(const struct watch *watch);

/* "1,234 of 5,000 requests (3 failed), 812 tokens/s, 63% of 2 devices, 0.0123 USD"; returns `out`. */
const char *watch_line(const struct watch *watch, char out[WATCH_LINE_SIZE]);

#endif
