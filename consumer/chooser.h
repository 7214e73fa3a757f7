/*
 * chooser.h: which chunk is read next. Asks the index for open chunks, keeps the answer until it is
 * used up or a second old, and lets scheduler/policy/order.h decide among them.
 *
 * While enough requests wait, only jobs that have nothing under way get a chunk more: so a new job
 * starts at once behind a long one, and the long one does not fill the memory. Chunks of cancelled and
 * expired jobs need no device and go first, a few at a time.
 *
 * Control thread only.
 */
#ifndef MSERVE_CONSUMER_CHOOSER_H
#define MSERVE_CONSUMER_CHOOSER_H

#include "consumer/holdings.h"
#include "sql/db.h"
#include "sql/work.h"

#include <stdbool.h>
#include <stdint.h>

struct chooser;

/* `enough`: requests waiting at which no more are wanted. */
struct chooser *chooser_new(const char *topic, uint32_t enough);
void chooser_free(struct chooser *chooser); /* NULL is allowed */

uint32_t chooser_enough(const struct chooser *chooser);

/* What is known is old: the next call asks the index. */
void chooser_forget(struct chooser *chooser);

/*
 * The next chunk to take, or NULL: none, or the index cannot be asked now. Each is given once; it is
 * valid until the next call.
 */
struct work_chunk *chooser_next(struct chooser *chooser, struct db *db, struct holdings *holdings,
                                bool hungry, uint64_t now_ns);

/* The lowest offset of the partition that is not done, or -1 when that is not known. */
int64_t chooser_lowest_offset(const struct chooser *chooser, const struct holdings *holdings,
                              int32_t part);

#endif
