/*
 * failpoint.h: named places in the protocols at which a test makes a program fail.
 *
 * Only a build with -Dfailpoints=true has them. In any other the macros below are nothing, and the
 * programs hold no trace of them. Such a build is driven by the environment:
 *
 *   MSERVE_FAILPOINTS="commit.sent=kill@3;step=sleep(200)@p(0.05);acked=timeout"
 *
 * is a row of POINT=ACTION[@WHEN], of which the first that fits a hit is done. WHEN is a number (that
 * hit, from 1), a number and `+` (that hit and all later ones), or p(0.05) (each hit with this
 * probability); without it, every hit. MSERVE_FAILPOINTS_SEED chooses which hits p() means, by number
 * of the hit, so threads do not change it. MSERVE_FAILPOINTS=list prints the points. Actions:
 *
 *   kill stop abort   the process gets SIGKILL, SIGSTOP, SIGABRT
 *   sleep(MS)         the thread sleeps
 *   error             the step is not done, and whoever asked for it is told that it failed
 *   timeout           the step is done, and whoever asked for it is told that it is not known
 *
 * MSERVE_FAILPOINTS_LOG=FILE gets a line for each hit: its number in this process, pid, program,
 * point, hit, action. Counting goes on where the file ends, so the third hit is the third of all
 * processes that shared the file one after another: one that is started again is not struck again.
 *
 * failpoint.c has the table of points; a point stands there or the program ends at its first hit.
 * Any thread may hit one.
 */
#ifndef MSERVE_CONFIG_FAILPOINT_H
#define MSERVE_CONFIG_FAILPOINT_H

#include "config/errors.h"

#ifdef MSERVE_FAILPOINTS

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum failpoint_action {
    FAILPOINT_NONE,
    FAILPOINT_KILL,
    FAILPOINT_STOP,
    FAILPOINT_ABORT,
    FAILPOINT_SLEEP,
    FAILPOINT_ERROR,
    FAILPOINT_TIMEOUT,
};

/* What one hit is to do. */
struct failpoint_hit {
    const char *point;
    uint64_t number; /* from 1 */
    enum failpoint_action action;
    uint32_t sleep_ms;
};

/* Every string of a failpoint begins with this, so that a search for it finds all. */
#define FAILPOINT_PREFIX "failpoint:"

/* A place: nothing here can be told an error, so `error` and `timeout` are refused at start. */
#define FAILPOINT(name) failpoint_strike(failpoint_take(FAILPOINT_PREFIX name))

/* A place where `error` and `timeout` both mean that `what` comes out of it, else ERR_OK. */
#define FAILPOINT_ERR(name, what) failpoint_told(failpoint_take(FAILPOINT_PREFIX name), (what))

/* A step, an enum err, and `what` its caller is told: signals and sleep come when it is done. */
#define FAILPOINT_CALL(name, what, call)                                                           \
    ({                                                                                             \
        struct failpoint_hit failpoint_hit_ = failpoint_take(FAILPOINT_PREFIX name);               \
        enum err failpoint_err_ = (what);                                                          \
        failpoint_hit_.action == FAILPOINT_ERROR                                                   \
            ? failpoint_err_                                                                       \
            : failpoint_after(failpoint_hit_, (call), failpoint_err_);                             \
    })

/* Early in main(): reads the environment. ERR_USAGE, with a sentence, when it makes no sense. */
#define FAILPOINTS_START(program) failpoint_start(program)

enum err failpoint_start(const char *program);

/* For tests: what the environment would say. `seed` is of p(). Forgets hits and earlier rules. */
enum err failpoint_set(const char *rules, const char *log_path, uint64_t seed);

/* Counts a hit, writes it down, and says what it is to do. `point` has the prefix. */
struct failpoint_hit failpoint_take(const char *point);

/* Signals and sleep; nothing for the rest. */
void failpoint_strike(struct failpoint_hit hit);

/* failpoint_strike(), and `err` for error and timeout. */
enum err failpoint_told(struct failpoint_hit hit, enum err err);

/* The step came to `rc`: failpoint_strike(), and `err` in place of success for a timeout. */
enum err failpoint_after(struct failpoint_hit hit, enum err rc, enum err err);

/* A line for each point: name, programs, `told` or `place`, sentence; between tabs. */
void failpoint_list(FILE *out);

#else

#define FAILPOINT(name)                  ((void)0)
#define FAILPOINT_ERR(name, what)        ERR_OK
#define FAILPOINT_CALL(name, what, call) (call)
#define FAILPOINTS_START(program)        ERR_OK

#endif
#endif
