/*
 * history.h: a database that goes back in time, as one does that failed over to a standby which
 * lacked its last commits, or that lost them in a crash. All other connections break then, too.
 */
#ifndef MSERVE_TESTS_FLOW_HISTORY_H
#define MSERVE_TESTS_FLOW_HISTORY_H

#include "tests/flow/queue.h"

/* Remembers what is in the tables now; an earlier mark is forgotten. */
void history_mark(struct db *db);

/* It is there again, as often as you like. */
void history_go_back(struct db *db);

/* A worker whose connections broke makes new ones. */
void history_reconnect(struct queue_worker *worker);

#endif
