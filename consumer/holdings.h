/*
 * holdings.h: the control thread's ledger of what the worker holds: its partitions, the chunks it has
 * under way, the jobs these belong to, and the chunks it has set aside because the log does not hold
 * them.
 *
 * Control thread only. No clock, no database: those are worker.c's.
 */
#ifndef MSERVE_CONSUMER_HOLDINGS_H
#define MSERVE_CONSUMER_HOLDINGS_H

#include "consumer/claims.h"
#include "sql/lease.h"
#include "sql/work.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct holdings;

/* `home` is where chunks come back to; borrowed. */
struct holdings *holdings_new(const char *topic, struct mailbox *home);
void holdings_free(struct holdings *holdings); /* NULL is allowed */

void holdings_add_partition(struct holdings *holdings, const struct lease_partition *partition);

/* Partitions held and not on their way out. */
uint32_t holdings_partitions(const struct holdings *holdings);

/* Fills ret[] with the partitions from which chunks may be taken; room for all is asked for first. */
size_t holdings_parts(const struct holdings *holdings, int32_t *ret, size_t cap);

/* All of them belong to somebody else from now on. */
void holdings_drop_all(struct holdings *holdings);

/* Whether the partition stands here and was not dropped. */
bool holdings_has_part(const struct holdings *holdings, int32_t part);

/* Forgets partitions that were dropped; those with chunks under way when these are home. */
void holdings_forget_dropped(struct holdings *holdings);

/*
 * Marks partitions as leaving until `share` are left, idle ones first (*ret_marked: some were), and
 * fills `ret` with those of the leaving that have nothing under way: they are dropped, to be released.
 */
size_t holdings_surplus(struct holdings *holdings, uint32_t share, int32_t *ret, size_t cap,
                        bool *ret_marked);

/* The chunk goes under way; NULL: its partition is not held any more, or it is under way already. */
struct claim_chunk *holdings_take(struct holdings *holdings, const struct work_chunk *work);

/*
 * A chunk came home. One that was incomplete is set aside until `until_ns`, unless the index says of it
 * that it is missing: then it is given anew when it has been sent again.
 */
void holdings_home(struct holdings *holdings, struct claim_chunk *chunk, uint64_t until_ns);

/* Chunks set aside whose time has come may be taken again. */
void holdings_look_again(struct holdings *holdings, uint64_t now_ns);

/*
 * The chunks, under way and set aside, that the log does not hold and of which the index was not told:
 * ret[], `cap` at most. holdings_told() says that it was told of one, which is not set aside any more.
 */
size_t holdings_missing(const struct holdings *holdings, struct work_missing *ret, size_t cap);
void holdings_told(struct holdings *holdings, const struct work_missing *missing);

uint32_t holdings_chunks(const struct holdings *holdings); /* under way */
bool holdings_has_job(const struct holdings *holdings, struct uuid job);

/* What work_open() shall not tell of: under way and set aside. Lives until the next call. */
const struct work_in_hand *holdings_in_hand(struct holdings *holdings, size_t *ret_count);

/* The jobs with chunks under way, for the question what is wished of them. */
const struct uuid *holdings_jobs(struct holdings *holdings, size_t *ret_count);

/*
 * wish[i] is for the i-th job of the last holdings_jobs(). True when something changed of which threads
 * that run requests are to hear. A wish is never taken back, a hold is.
 */
bool holdings_set_wishes(struct holdings *holdings, const enum work_wish *wish, size_t count);

/* The lowest offset under way or set aside in the partition; INT64_MAX: none. */
int64_t holdings_lowest_offset(const struct holdings *holdings, int32_t part);

#endif
