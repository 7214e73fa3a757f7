/*
 * team.h: a loop over independent items, shared by threads. Which thread does an item changes nothing
 * in it, so results are the same for any number of threads.
 *
 * A forward pass is some 180 loops a few microseconds apart: between them helpers spin, and sleep
 * only when nothing came for a while. A loop does not wait for a helper that is late: who has not
 * begun when the items are gone stays out of it.
 */
#ifndef MSERVE_KERNELS_HOST_TEAM_H
#define MSERVE_KERNELS_HOST_TEAM_H

#include <stdbool.h>
#include <stdint.h>

struct team;

/*
 * `threads` counts the caller of team_run(): 1 starts none. 0: one per core that this process may
 * use. `pinned`: each thread keeps to a core of its own, provided that the team has as many threads as
 * the process has cores: with fewer, two processes would meet on the same ones.
 */
struct team *team_new(uint32_t threads, bool pinned);
void team_free(struct team *team); /* NULL is allowed */
uint32_t team_threads(const struct team *team);

/* Called once by the thread that will call team_run(), before it does: takes its core. */
void team_join(struct team *team);

/*
 * Calls task(arg, begin, end, thread) until 0 .. items - 1 are covered, once each; returns when all
 * is done. thread < team_threads() names who calls, for scratch memory. `item_ns` is the cost of an
 * item, roughly: too little in all is done by the caller alone. One caller at a time; not from inside
 * a task.
 */
void team_run(struct team *team, uint32_t items, uint64_t item_ns,
              void (*task)(void *arg, uint32_t begin, uint32_t end, uint32_t thread), void *arg);

#endif
