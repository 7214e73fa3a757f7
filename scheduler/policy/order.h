/*
 * order.h: which open chunk comes next: tenants in turn, inside a tenant the highest priority first
 * and jobs of equal priority in turn, inside a job the lowest chunk. "In turn" is by estimated work,
 * not by number: whoever was given less so far comes first.
 *
 * HOW Each tenant has a clock of the work it was given, and each job one among those of its tenant
 * and priority. The one whose clock is furthest behind is next, and its clock moves by the work it
 * gets. Who comes, or comes back, stands beside the last of those who have been waiting: absence
 * earns nothing and costs nothing. So two tenants, or two jobs of a tenant at one priority, that both
 * have work all the time never differ by more than one chunk, and none starves, however many come
 * new. A lower priority waits as long as its tenant has a higher one: that is what priority means.
 *
 * A pure function of the calls made: no wall clock, no randomness. One thread at a time.
 */
#ifndef MSERVE_SCHEDULER_POLICY_ORDER_H
#define MSERVE_SCHEDULER_POLICY_ORDER_H

#include "config/uuid.h"

#include <stdint.h>

struct order_candidate {
    const char *tenant; /* borrowed for the call */
    struct uuid job;
    int32_t priority;
    int32_t chunk;
    uint64_t work; /* estimated, any unit, the same for all; 0 counts as 1 */
};

struct order;

struct order *order_new(void);
void order_free(struct order *order); /* NULL is allowed */

/*
 * The index of the candidate to take next; its work is put on the clocks of its tenant and job.
 * `count` >= 1. Candidates stand in any order; the caller leaves out those taken before.
 */
uint32_t order_pick(struct order *order, const struct order_candidate *candidates, uint32_t count);

#endif
