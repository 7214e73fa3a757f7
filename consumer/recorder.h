/*
 * recorder.h: what a worker was at, in memory that outlives it: the parent process reads it when the
 * child has died (guard.h), and a test campaign when both have, from a file.
 *
 * The child writes plain numbers as it goes, the device thread most of them: no lock, no system call, no
 * allocation. Nobody reads while it writes; a reader comes when the writer is gone, or takes numbers
 * that are each true, though not all of one moment.
 *
 * A request has a slot from when it is given to the engine until the commit with its row has landed:
 * RUNNING while it is in the engine (these a proven death accuses), ENDED from its event on (its cost is
 * lost with the worker, but it killed nobody).
 *
 * THREADS device: begin, progress, ended, moves; commit: booked, landed, free; control: register,
 * close; intake: prepare. NULL is allowed for every `struct recorder *` of the child's functions: then
 * nothing is recorded.
 */
#ifndef MSERVE_CONSUMER_RECORDER_H
#define MSERVE_CONSUMER_RECORDER_H

#include "config/errors.h"
#include "config/uuid.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { RECORDER_NONE = UINT32_MAX, RECORDER_VERSION = 1, RECORDER_OUTSIDE = -1 };
enum recorder_state { RECORDER_FREE, RECORDER_RUNNING, RECORDER_ENDED };

/* The form of the file, little-endian: the head, and `slots` of these behind it at 512. */
struct recorder_slot {
    uint8_t job[16];
    int64_t line;
    int32_t chunk;
    uint32_t attempt;      /* from 1 */
    uint32_t tokens;       /* generated so far, those of earlier attempts included */
    atomic_uint state;     /* enum recorder_state; written last, so what it says is there */
    uint64_t cost_ns;      /* in this engine so far, */
    uint64_t recompute_ns; /* and beside it, for reading again; */
    uint64_t booked_ns;    /* of the latter, in a commit that landed */
};

struct recorder_head {
    char magic[8]; /* "MSRECORD" */
    uint32_t version;
    uint32_t slots;

    uint8_t worker[16]; /* who registered last, in this child or one before it; zeros: nobody */
    int64_t token;      /* from here on each child begins with zeros */
    atomic_uint_fast64_t began_ns; /* of the device's clock: where this worker's books begin */
    uint64_t began_overhead_ns;    /* and what stood in these accounts then */
    uint64_t began_idle_ns;
    uint64_t began_recompute_ns;
    atomic_uint registered;    /* 1: worker and token are of one that is not yet buried */
    atomic_uint registrations; /* how often the child got so far */

    atomic_uint_fast64_t moves; /* grows while the device thread is alive */
    atomic_uint_fast64_t held_ns;
    atomic_uint_fast64_t overhead_ns;
    atomic_uint_fast64_t idle_ns;
    atomic_uint_fast64_t recompute_ns;
    atomic_uint_fast64_t sampled; /* tokens sampled since the engine was opened */
    atomic_int_fast64_t landed;   /* number of the last commit known to have landed */
    atomic_uint apart;            /* requests of the set that runs apart; 0: normal work */

    atomic_uint preparing; /* 1: intake is at this request */
    int32_t prepared_chunk;
    int64_t prepared_line;
    uint8_t prepared_job[16];

    atomic_int signal; /* the child's own last word: what it died of, in which thread, */
    atomic_int sender; /* and which other process had sent it; 0: none; RECORDER_OUTSIDE: one
                        * that has no number here */
    char thread[16];
};

struct recorder {
    struct recorder_head *head;
    struct recorder_slot *slot; /* [head->slots] */
    uint32_t next;              /* where a free one is looked for; the child's own */
    uint64_t size;
    int fd; /* of the file, locked; -1: there is none */
};

/*
 * `path` NULL or "": memory shared with children only; else a file, made anew, and ours alone while
 * this process or a child of it lives.
 */
enum err recorder_open(const char *path, uint32_t slots, struct recorder **ret);
void recorder_close(struct recorder *recorder); /* NULL is allowed */

/*
 * How many slots a worker needs: what is in the engine (it runs, or waits to: twice as many),
 * and what ended and waits for its commit, in the batch that is sent and in the one that is open; the
 * last step of one may end all that ran.
 */
uint32_t recorder_slots(uint32_t sequences_max, uint32_t commit_rows);

/* Before a child is made: it has done nothing yet. */
void recorder_clear(struct recorder *recorder);

/* ------------------------------------------------------------------------- the child writes ---- */

/* SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP and SIGSYS leave their number and the thread's
 * name, and then do what they always do. Where something else catches them (a sanitizer), it is left
 * alone. */
void recorder_catch_crashes(struct recorder *recorder);

void recorder_register(struct recorder *recorder, struct uuid worker, int64_t token,
                       uint64_t began_ns);
void recorder_unregister(struct recorder *recorder); /* it is buried */

/* Who registered last, also if it was a child before this one; zeros: nobody. */
struct uuid recorder_follows(const struct recorder *recorder);

/* The slot of a request that goes to the engine; RECORDER_NONE when all are taken: it goes on without
 * one. The others take RECORDER_NONE and do nothing. */
uint32_t recorder_begin(struct recorder *recorder, struct uuid job, int64_t line, int32_t chunk,
                        uint32_t attempt);
void recorder_progress(struct recorder *recorder, uint32_t slot, uint32_t tokens, uint64_t cost_ns,
                       uint64_t recompute_ns);
void recorder_ended(struct recorder *recorder, uint32_t slot, uint32_t tokens, uint64_t cost_ns,
                    uint64_t recompute_ns);
/* A commit has landed that booked so much of what this request, which runs on, has read again. */
void recorder_booked(struct recorder *recorder, uint32_t slot, uint64_t recompute_ns);
void recorder_free(struct recorder *recorder, uint32_t slot);

void recorder_prepare(struct recorder *recorder, struct uuid job, int64_t line, int32_t chunk);
void recorder_prepared(struct recorder *recorder);

/* What the device thread says of itself, each turn. */
struct recorder_device {
    uint64_t moves;
    uint64_t held_ns;
    uint64_t overhead_ns;
    uint64_t idle_ns;
    uint64_t recompute_ns;
    uint64_t sampled;
};
void recorder_device(struct recorder *recorder, const struct recorder_device *now);
void recorder_apart(struct recorder *recorder, uint32_t requests);
void recorder_landed(struct recorder *recorder, int64_t seq);

/* --------------------------------------------------------------------- the parent looks at ---- */

static inline bool recorder_is_registered(const struct recorder *recorder)
{
    return atomic_load_explicit(&recorder->head->registered, memory_order_acquire) != 0;
}

static inline uint64_t recorder_moves(const struct recorder *recorder)
{
    return atomic_load_explicit(&recorder->head->moves, memory_order_acquire);
}

/* Slots in use; the caller stops at `cap`. *ret are their numbers. */
uint32_t recorder_in_use(const struct recorder *recorder, uint32_t *ret, uint32_t cap);

#endif
