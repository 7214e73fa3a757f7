/*
 * group.h: requests that probably begin alike, by a number that the caller gives (its job). A group
 * lives as long as it has sequences, nodes in the prefix tree, or time that was not told yet.
 *
 * Groups and the engine as a whole remember how long answers were: what is needed to say how much
 * KV memory a sequence will want.
 */
#ifndef MSERVE_KERNELS_CORE_GROUP_H
#define MSERVE_KERNELS_CORE_GROUP_H

#include "kernels/engine.h"

#include <stdbool.h>
#include <stdint.h>

enum { LENGTHS_BINS = 4 * 32, LENGTHS_ENOUGH = 16 };

/* How long answers were, in bins a quarter of an octave wide; old ones fade. */
struct lengths {
    uint32_t count;
    uint32_t p90; /* nine of ten were at most so long; rounded up to the end of a bin */
    uint16_t bin[LENGTHS_BINS];
};

void lengths_add(struct lengths *lengths, uint32_t tokens);

struct group {
    uint64_t id;        /* the caller's number, never 0 */
    uint64_t order;     /* of the submission that made it: its place among groups */
    uint64_t shared_ns; /* not told yet, as is: */
    uint64_t recompute_ns;
    uint32_t sequences; /* in the engine */
    uint32_t nodes;     /* of the prefix tree */
    bool untold;        /* in groups->untold */
    struct group *next; /* in its hash chain */
    struct group *next_untold;
    struct lengths lengths;
};

struct groups {
    struct group **head; /* chains by hash of the id */
    uint32_t mask;
    uint32_t len;
    struct group *untold; /* with time to tell, first and last */
    struct group *untold_last;
};

void groups_init(struct groups *groups);
void groups_release(struct groups *groups);

/* That with this number; made, with this order, when there is none. */
struct group *groups_get(struct groups *groups, uint64_t id, uint64_t order);

/* After a sequence, a node or its time has gone: drops the group when nothing is left of it. */
void groups_tidy(struct groups *groups, struct group *group);

/* Time of its common beginning, and of rows read again. */
void groups_charge(struct groups *groups, struct group *group, uint64_t shared_ns,
                   uint64_t recompute_ns);

/* Takes the next that has time to tell; false when there is none. */
bool groups_tell(struct groups *groups, struct engine_group_books *ret);

#endif
