/*
 * order.h: which open chunk comes next: tenants in turn, inside a tenant the highest priority first
 * and jobs of equal priority in turn, inside a job the lowest chunk. "In turn" is by estimated work,
 * not by number: whoever was given less so far comes first.
 *
 * HOW Each tenant has a clock of the work it was given, and each job one inside its tenant and
 * priority. The one that is furthest behind is next, and its clock moves by the work it gets. Who
 * was away comes back at the clock of those who were served meanwhile: absence earns nothing and
 * costs nothing. So two tenants that both have work never differ by more than one chunk, and nobody
 * starves.
 *
 * A pure function of the calls made: no clock of the wall, no randomness. One thread at a time.
 */
#ifndef MSERVE_SCHEDULER_POLICY_ORDER_H
#define MSERVE_SCHEDULER_POLICY_ORDER_H

#include "config/uuid.h"

#include <stdint.h>

struct order_candidate {
    const char *tenant;
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
 * `count` >= 1. Candidates stand in any order; those taken before are left out by the caller.
 */
uint32_t order_pick(struct order *order, const struct order_candidate *candidates, uint32_t count);

#endif
