/*
 * device_inside.h: the device thread's state, shared by the files of its loop: device_loop.c (turns, start
 * and end), device_feed.c (what goes into the engine) and device_cut.c (what comes out of it).
 *
 * Device thread only, but for what its fields say. `now_ns` is the time at which the turn began.
 */
#ifndef MSERVE_CONSUMER_DEVICE_INSIDE_H
#define MSERVE_CONSUMER_DEVICE_INSIDE_H

#include "consumer/device_loop.h"
#include "consumer/lanes.h"
#include "consumer/orders.h"
#include "consumer/pace.h"
#include "consumer/running.h"
#include "consumer/suspects.h"

enum { LOOK_AT_LIMITS_NS = 100 * 1000 * 1000 };

struct device_loop {
    struct device_loop_options options;
    struct mailbox mailbox;
    pthread_t thread;
    bool started;
    atomic_bool quit;
    struct orders orders;
    atomic_uint_fast64_t finish_until_ns; /* of a stop; control writes */
    unsigned answered;                    /* the last stop whose batch was cut */
    unsigned finishing;                   /* the stop before which requests are being finished */
    struct engine *engine;
    bool failed; /* nothing is launched any more; the next stop saves what was taken in */

    struct mail_list inbox;      /* arrived and not yet looked at */
    struct lanes lanes;          /* of ready tasks */
    struct running running;      /* in the engine */
    struct suspects suspects;    /* ready, but they run apart */
    struct recorder_device told; /* to the recorder */
    uint64_t told_ns;            /* monotonic: when it was last told of the requests */
    uint64_t turned_ns;          /* monotonic: begin of the last turn */
    uint64_t worked_ns; /* time in which steps might be launched: that of the time limits */
    bool works;         /* the last turn was such a time */
    struct batch *open;
    unsigned changes_seen;
    uint64_t limits_seen_ns;
    uint64_t fits_seen_ns;
    struct pace pace;
    uint64_t cut_ns;   /* monotonic: when the last batch was cut, */
    uint64_t cuts;     /* and how many there were */
    uint64_t saved_ns; /* monotonic: when the last pass for checkpoints was, or nothing ran */
    bool hand_over;    /* a partition began to leave of which something runs */
    bool idle;         /* the engine had nothing to do in the last turn */
};

/* device_feed.c */

/* Looks at what arrived. At a stop at all of it; else it waits while too many results do. */
void device_receive(struct device_loop *loop, uint64_t now_ns);
void device_receive_all(struct device_loop *loop, uint64_t now_ns);

/* Into the open batch. */
void device_end_task(struct device_loop *loop, struct task *task, uint64_t now_ns);

/* Normal work, or the set whose turn it is to run apart. *ret_holds: neither is to be fed now. */
enum err device_feed_some(struct device_loop *loop, uint64_t now_ns, bool *ret_holds);

/* What has not begun and nobody wants; `stopping`: all of it. */
void device_withdraw_ready(struct device_loop *loop, bool stopping, uint64_t now_ns);
/* The same of all, and what runs for too long. */
void device_withdraw_unwanted(struct device_loop *loop, uint64_t now_ns);

/* device_cut.c */

/* What has ended, into the open batch. */
void device_collect(struct device_loop *loop, uint64_t now_ns);
/* Takes in what is in flight, so that tokens, costs and books are of one moment. */
enum err device_settle(struct device_loop *loop, uint64_t now_ns);

/* Saves what runs, takes out what is to go on elsewhere; nothing is in flight. */
void device_save_and_hand_over(struct device_loop *loop, bool all, uint64_t now_ns);

/* The open batch goes to the commit thread; `stop`: the stop that it answers, or 0. */
void device_cut(struct device_loop *loop, unsigned stop, uint64_t now_ns);
enum err device_cut_when_due(struct device_loop *loop, uint64_t now_ns);

#endif
