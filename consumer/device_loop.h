/*
 * device_loop.h: the device thread: it owns the engine, keeps it full, and never waits while work is
 * at hand.
 *
 * A turn: take what intake posted; take out what nobody wants any more (cancelled, expired, lost,
 * over its time limit); submit from the lanes, one job in turn; one engine step; collect what
 * finished; cut a batch when one is due and the commit thread can take it.
 *
 * Requests that may have killed a worker wait in a lane of their own and run apart, in sets that are
 * committed before they are launched (suspects.h).
 *
 * No step is launched after gauges.launch_until_ns, nor while too many finished results wait.
 *
 * CHECKPOINTS As often as the options say, the cut that is due then anyway (or one of its own) has a
 * pass over what runs: the tokens of each request that gained some are copied into the batch. What
 * was saved of partitions that are leaving is taken out then, and goes on with their next owner; a
 * pass is made at once when one begins to leave.
 *
 * A halt ends everything: what has not begun is given up; what runs goes on for as long as the halt
 * allows and one of it will be done by then; the rest is saved and taken out with its cost, and a batch
 * with the number of the halt is cut; then the loop rests until it is told to go. It begins at rest. See
 * orders.h.
 *
 * A device that fails is the end of launching, and of nothing else: the loop says so and waits for a
 * halt, which saves and cuts what was taken in before. What was in flight is lost.
 */
#ifndef MSERVE_CONSUMER_DEVICE_LOOP_H
#define MSERVE_CONSUMER_DEVICE_LOOP_H

#include "consumer/gauges.h"
#include "consumer/mailbox.h"
#include "consumer/recorder.h"
#include "kernels/engine.h"

#include <stdint.h>

struct device_loop_options {
    struct engine_options engine;
    struct gauges *gauges;
    struct recorder *recorder; /* NULL: nothing is recorded */
    uint64_t suspect_wait_ns;  /* so long suspects wait before normal work is held back for them */
    struct mailbox *batches;   /* to the commit thread */
    uint32_t commit_rows;      /* a batch is cut at this many tasks, */
    uint64_t commit_interval_ns; /* or when its first task is so old, */
    uint64_t ledger_interval_ns; /* or, with no task at all, to book time: so often */
    uint64_t checkpoint_interval_ns;
    uint32_t results_max;           /* finished and not yet in a batch: no steps beyond it */
    uint64_t request_time_limit_ns; /* in an engine that works, in all attempts; 0: none */
    void (*on_opened)(void *context, enum err err); /* from the device thread, once */
    void (*on_failed)(void *context, enum err err); /* the device failed; it waits for a halt */
    void (*on_room)(void *context);                 /* half of the ready requests are taken */
    void *context;
};

struct device_loop;

/* Starts the thread, which opens the engine first. */
enum err device_loop_start(const struct device_loop_options *options, struct device_loop **ret);

/* Where intake posts tasks, and where the bell wakes the loop. */
struct mailbox *device_loop_mailbox(struct device_loop *loop);

/* The engine, after on_opened said ERR_OK: for what any thread may ask of it. */
const struct engine *device_loop_engine(const struct device_loop *loop);

/*
 * Control thread, in turns. device_loop_halt() returns the number of the stop. Requests that will be
 * done by `finish_until_ns` (monotonic; 0: none) are finished first; device_loop_finish_until()
 * changes that time while they are.
 */
void device_loop_go(struct device_loop *loop);
unsigned device_loop_halt(struct device_loop *loop, uint64_t finish_until_ns);
void device_loop_finish_until(struct device_loop *loop, uint64_t finish_until_ns);

/* Ends the thread after its turn; what is posted from then on lies there. NULL is allowed. */
void device_loop_stop(struct device_loop *loop);

/* Behind device_loop_stop(), when no other thread posts or rings any more. Closes the engine. */
void device_loop_free(struct device_loop *loop); /* NULL is allowed */

#endif
