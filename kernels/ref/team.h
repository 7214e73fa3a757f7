/*
 * team.h: a loop over independent items, shared by threads. Which thread does an item changes nothing
 * in it, so results are the same for any number of threads.
 */
#ifndef MSERVE_KERNELS_REF_TEAM_H
#define MSERVE_KERNELS_REF_TEAM_H

#include <stdint.h>

struct team;

/* `threads` counts the caller: 1 starts none. 0: one per core that this process may use. */
struct team *team_new(uint32_t threads);
void team_free(struct team *team); /* NULL is allowed */
uint32_t team_threads(const struct team *team);

/*
 * Calls task(arg, begin, end, thread) until 0 .. items - 1 are covered, once each; returns when all
 * is done. thread < team_threads() names who calls, for scratch memory. `item_work` is the cost of an
 * item, roughly in multiplications: too little in all is done by the caller alone. One caller at a
 * time; not from inside a task.
 */
void team_run(struct team *team, uint32_t items, uint64_t item_work,
              void (*task)(void *arg, uint32_t begin, uint32_t end, uint32_t thread), void *arg);

#endif
