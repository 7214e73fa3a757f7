/*
 * worker_inside.h: the control thread's state, shared by the files of the control loop: worker.c
 * (start, end, what the other threads tell), worker_lease.c (registering, renewing, losing),
 * worker_work.c (partitions, wishes, chunks) and worker_drain.c (signals, notices, leaving).
 *
 * The worker's life is a row of phases:
 *
 *   LOADING      the device thread opens the model
 *   REGISTERING  the worker has no row yet, or none any more; tried each second
 *   WORKING      it has a lease
 *   LOSING       it was buried: everything under way is thrown away, then REGISTERING
 *   DRAINING     it leaves: what fits is finished and committed, the rest is given up, then LEAVING
 *   LEAVING      the loop ends
 */
#ifndef MSERVE_CONSUMER_WORKER_INSIDE_H
#define MSERVE_CONSUMER_WORKER_INSIDE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "config/backoff.h"
#include "config/settings.h"
#include "consumer/card_watch.h"
#include "consumer/chooser.h"
#include "consumer/committer.h"
#include "consumer/device_loop.h"
#include "consumer/gauges.h"
#include "consumer/holdings.h"
#include "consumer/intake.h"
#include "consumer/mailbox.h"
#include "consumer/notice.h"
#include "consumer/placement.h"
#include "consumer/recorder.h"
#include "consumer/worker_health.h"
#include "sql/db.h"
#include "sql/lease.h"

enum phase { LOADING, REGISTERING, WORKING, LOSING, DRAINING, LEAVING };

/* What the other threads tell, as bits: each is true until it is looked at. */
enum note {
    NOTE_OPENED = 1 << 0,
    NOTE_NOT_OPENED = 1 << 1,
    NOTE_DEVICE_FAILED = 1 << 2,
    NOTE_HALTED = 1 << 3,  /* intake reads no more */
    NOTE_THROUGH = 1 << 4, /* the batch of the device's stop is committed or thrown away */
    NOTE_LOST = 1 << 5,
    NOTE_COMMIT_FAILED = 1 << 6,
    NOTE_HUNGRY = 1 << 7, /* more chunks may be chosen */
    NOTE_FENCED = 1 << 8, /* a partition was lost */
    NOTE_SIGNAL = 1 << 9,
    NOTE_SIGNAL_AGAIN = 1 << 10,
    NOTE_OPERATOR = 1 << 11, /* SIGUSR1 */
    NOTE_SICK = 1 << 12,     /* the card is */
};

/* Who wants the worker to leave; its row has the names. */
enum drain_why {
    DRAIN_NOT,
    DRAIN_SIGNAL,
    DRAIN_OPERATOR,
    DRAIN_PREEMPTED,
    DRAIN_FAILED, /* its device did */
    DRAIN_SICK,   /* its device is */
};

#define WORKER_NOT_TOLD UINT64_MAX

/* The way out; times are monotonic, 0: not yet. See worker_drain.c. */
struct worker_leaving {
    enum drain_why why; /* DRAIN_NOT: it stays */
    bool at_once;       /* nothing more is finished */
    enum err end;       /* with it the worker ends, when all went well on the way out */
    uint64_t asked_ns;  /* for the first time */
    uint64_t by_ns;     /* when it is to be gone */
    uint64_t halted_ns;
    uint64_t through_ns;
};

struct worker {
    const struct settings *settings;
    const struct settings_tier *tier;
    struct recorder *recorder;         /* borrowed; NULL: nothing is recorded */
    const struct placement *placement; /* likewise; NULL: it has no GPU */
    uint64_t kv_tokens;
    char name[256];
    char host[256];
    char topic[256];
    char group[256];
    char commit_name[300]; /* of the commit thread's connection, as PostgreSQL shows it */

    enum phase phase;
    enum err end; /* what worker_run() returns */
    struct gauges gauges;
    atomic_uint notes;
    unsigned stop;       /* the order to stand still whose answers are waited for (orders.h) */
    atomic_uint halted;  /* the stop that intake answered last */
    atomic_uint through; /* the stop that the commit thread answered last */
    atomic_int opened;   /* enum err of the engine's opening */
    atomic_int failure;  /* enum err of the commit that cannot be */

    uv_loop_t loop;
    uv_async_t wake;
    uv_timer_t beat;
    uv_timer_t renew;
    uv_timer_t retry;
    uv_poll_t homecoming;
    int home_fd;
    struct mailbox home;

    struct db *db;
    struct backoff reconnect;
    uint64_t connect_at_ns; /* not before */
    struct lease lease;
    uint64_t moves_seen; /* the device's count of turns at the last renewal, */
    uint64_t moved_ns;   /* and when it was last seen to differ */
    uint64_t renewed_ns; /* when the last renewal that landed was sent */
    uint64_t steady_ns;  /* since when renewals landed without a gap, on one connection; 0: not */
    bool stuck;          /* the device hangs; said once */
    struct worker_leaving leaving;
    struct notices *notices;
    bool paused; /* the lease is about to run out; said once */
    struct holdings *holdings;
    struct chooser *chooser;
    struct committer *committer;
    struct device_loop *device;
    struct intake *intake;
    struct worker_health *health;
    struct card_watch *card_watch; /* NULL: there is no card to watch */
};

/* worker.c */

/* A wish or a loss was noted: device and intake look at what they have. */
void worker_note_change(struct worker *worker);
/* Fewer requests wait than are enough. */
bool worker_is_hungry(struct worker *worker);
void worker_stop_loop(struct worker *worker, enum err err);
/* From any thread, and from a signal's handler. */
void worker_tell(struct worker *worker, unsigned note);

/* worker_lease.c */
bool worker_connected(struct worker *worker); /* connects anew where it must */
void worker_register(struct worker *worker);
void worker_lose(struct worker *worker);
/* Renews when the connection is new: before anything else is done on it. */
void worker_renew_first(struct worker *worker);
/* It has been in touch with the database for a whole lease, so others could have been too. */
bool worker_may_bury(const struct worker *worker, uint64_t now_ns);
void worker_warn_of_pause(struct worker *worker, uint64_t now_ns);
void worker_begin_stop(struct worker *worker, enum phase phase);
enum err worker_bury_self(struct worker *worker, const char *why);
void worker_leave(struct worker *worker, const char *why, enum err end);
void worker_after_stop(struct worker *worker); /* the device stands still, nothing is under way */

/* worker_drain.c */

/*
 * Everything that asks a worker to go comes here: it is to be gone by `deadline_ns` (monotonic).
 * A later call counts when its time is earlier.
 */
void worker_drain_by(struct worker *worker, uint64_t deadline_ns, enum drain_why why);
/* The same from now on; WORKER_NOT_TOLD: worker.drain. */
void worker_drain_within(struct worker *worker, uint64_t left_ms, enum drain_why why);
void worker_drain_at_once(struct worker *worker); /* checkpoint and commit only */
/*
 * The device is not to be worked with any more: checkpoint and commit what it has given, and end with
 * ERR_DEVICE, also where the worker was about to leave anyway.
 */
void worker_drain_off_device(struct worker *worker, enum drain_why why);
/* The same for a card that is sick, which is marked for whoever comes next. */
void worker_leave_sick_card(struct worker *worker);
void worker_drain_halted(struct worker *worker);  /* intake stands still */
void worker_drain_through(struct worker *worker); /* the last batch is committed */
void worker_catch_signals(struct worker *worker);
void worker_ignore_signals(void); /* nobody is there any more whom they could be told */
void worker_on_notice(void *context, const char *source, const struct notice *notice);
void worker_hear_operator(struct worker *worker);

/* worker_work.c */
void worker_choose(struct worker *worker, uint64_t now_ns);

/* Timers of the loop. */
void worker_on_retry(uv_timer_t *timer);
void worker_on_renew(uv_timer_t *timer);
void worker_on_beat(uv_timer_t *timer);

#endif
