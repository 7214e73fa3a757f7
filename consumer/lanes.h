/*
 * lanes.h: tasks that are ready to run. Those that go on from a checkpoint come first, whatever their
 * jobs: each had its turn once, and what it has cost is at stake until it ends. The others are in a lane
 * for each job; jobs take turns, so that a small one does not wait behind a large one.
 *
 * One thread's own. Tasks in a lane belong to it until they are taken or sifted out.
 */
#ifndef MSERVE_CONSUMER_LANES_H
#define MSERVE_CONSUMER_LANES_H

#include "consumer/task.h"

#include <stdbool.h>

struct lane;

/* {0} is empty. */
struct lanes {
    struct mail_list resumed;
    struct lane *turn; /* last lane of the ring: the one behind it is served next; NULL: none */
};

/* A job that is new here comes last, so it waits for one task of each other job at most. */
void lanes_add(struct lanes *lanes, struct task *task);

/* The task whose turn it is, still in its lane; NULL: none is ready. */
struct task *lanes_first(const struct lanes *lanes);

/* Takes out what lanes_first() gave: it is the caller's, and the next job has its turn. */
void lanes_take_first(struct lanes *lanes);

/* Asks for every task, in order; one that is not kept is the callee's from then on. */
void lanes_sift(struct lanes *lanes, bool (*keep)(void *context, struct task *task), void *context);

#endif
