/*
 * suspects.h: the lane of requests that may have killed a worker: they run apart, in small sets, each set
 * marked in the database before it is launched.
 *
 * A set goes through these phases, and only in SUSPECTS_WAIT does normal work begin:
 *
 *   SUSPECTS_WAIT    suspects wait, or there are none; normal work runs
 *   SUSPECTS_EMPTY   their time has come: nothing is fed, and the engine runs empty
 *   SUSPECTS_MARK    the set is chosen; a batch that names it is on its way to the database
 *   SUSPECTS_RUN     it has landed: the set runs, and nothing else
 *
 * The choice of a set, and when, is scheduler/policy/quarantine.h. Device thread only.
 */
#ifndef MSERVE_CONSUMER_SUSPECTS_H
#define MSERVE_CONSUMER_SUSPECTS_H

#include "config/buffer.h"
#include "consumer/task.h"

#include <stdbool.h>
#include <stdint.h>

enum suspects_phase { SUSPECTS_WAIT, SUSPECTS_EMPTY, SUSPECTS_MARK, SUSPECTS_RUN };

/* {0} and wait_ns is empty. */
struct suspects {
    uint64_t wait_ns;
    enum suspects_phase phase;
    struct task **waiting; /* [count] in order of arrival */
    uint32_t count;
    uint32_t cap;
    struct task **set; /* [set_count] chosen; those before set_next were launched */
    uint32_t set_count;
    uint32_t set_next;
    uint64_t apart_ns; /* monotonic: end of the last set; 0: none yet */
    unsigned mark;     /* number of the last set that was chosen */
};

void suspects_release(struct suspects *suspects); /* and its tasks */

/* Takes the task over; `since_ns` of it is now. */
void suspects_add(struct suspects *suspects, struct task *task, uint64_t now_ns);

/* Asks for every task that is not launched; one that is not kept is the callee's from then on. */
void suspects_sift(struct suspects *suspects, bool (*keep)(void *context, struct task *task),
                   void *context);

/* What the loop finds before it feeds. */
struct suspects_view {
    bool has_normal;   /* some of it is ready, or runs */
    bool engine_empty; /* nothing is in the engine */
    bool may_mark;     /* a batch can be cut now */
    uint32_t room;     /* requests that run at once */
    unsigned marked;   /* number of the last set whose mark has landed */
};

/* What it is to do. */
enum suspects_order {
    SUSPECTS_FEED,   /* normal work */
    SUSPECTS_HOLD,   /* nothing: the engine runs empty, or the mark is on its way */
    SUSPECTS_CUT,    /* a batch with suspects_write_set() and suspects->mark; once for each set */
    SUSPECTS_LAUNCH, /* what suspects_first() gives */
    SUSPECTS_END,    /* the set is through: the next batch says so; once for each set */
};
enum suspects_order suspects_turn(struct suspects *suspects, const struct suspects_view *view,
                                  uint64_t now_ns);

/* The set as workers.running has it: [{"job": …, "line": …, "chunk": …}]. */
void suspects_write_set(const struct suspects *suspects, struct buffer *out);

/* The next of the set; NULL: all are launched. Taking it makes it the caller's. */
struct task *suspects_first(const struct suspects *suspects);
void suspects_take_first(struct suspects *suspects);

/* The worker stands still, all tasks were taken out: whatever was marked will not run. */
static inline void suspects_halt(struct suspects *suspects)
{
    suspects->phase = SUSPECTS_WAIT;
}

static inline bool suspects_is_empty(const struct suspects *suspects)
{
    return suspects->count == 0 && suspects->set_next == suspects->set_count;
}

#endif
