/* guard.c: fork, wait, bury, pause, and again. */
#include "consumer/guard.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "config/buffer.h"
#include "config/clock.h"
#include "config/log.h"
#include "consumer/database.h"
#include "consumer/guard_memory.h"

enum { TICK_MS = 100, TRY_AGAIN_MS = 1000 };

struct guard {
    const struct guard_options *options;
    sigset_t waited; /* blocked in this process, and taken one by one */
    sigset_t before; /* what the child gets */
    pid_t child;
    bool stopped;     /* by SIGSTOP: it does not hang */
    bool killed;      /* by us */
    bool told;        /* to leave */
    uint32_t deaths;  /* in a row, without much work between them */
    uint32_t unborn;  /* of these, before it had registered */
    uint64_t born_ns; /* monotonic */
    struct guard_kills kills;
    struct guard_watch watch;
};

static const struct settings_worker *settings_of(const struct guard *guard)
{
    return &guard->options->settings->worker;
}

/* ---------------------------------------------------------------------------------- the child ---- */

static void take_signals(struct guard *guard)
{
    sigemptyset(&guard->waited);
    sigaddset(&guard->waited, SIGCHLD);
    sigaddset(&guard->waited, SIGTERM);
    sigaddset(&guard->waited, SIGINT);
    sigaddset(&guard->waited, SIGUSR1);
    sigprocmask(SIG_BLOCK, &guard->waited, &guard->before);
    signal(SIGPIPE, SIG_IGN);
}

/* When the guard is gone already, its signal will not come. */
static int work(const struct guard *guard, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    sigprocmask(SIG_SETMASK, &guard->before, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (getppid() != parent)
        return err_exit_status(ERR_INTERRUPTED);
    recorder_catch_crashes(guard->options->recorder);
    return guard->options->work(guard->options->context);
}

/* 0 in the child, as fork() has it; -1: there is none. */
static pid_t make_child(struct guard *guard)
{
    recorder_clear(guard->options->recorder);
    guard->killed = guard->stopped = false;
    guard->watch = (struct guard_watch){0};
    guard->kills.before = guard->kills.recent = guard_oom_kills();
    guard->kills.recent_ms = 0;
    guard->born_ns = clock_mono_ns();
    guard->child = fork();
    if (guard->child < 0)
        fail(ERR_MEMORY, "no process could be made for the worker: %s", strerror(errno));
    return guard->child;
}

/* ------------------------------------------------------------------------------------ waiting ---- */

/* The next signal, SIGCHLD included; 0: the time is over. What asks the worker to go is passed on. */
static int next_signal(struct guard *guard, uint64_t timeout_ms)
{
    struct timespec timeout = {(time_t)(timeout_ms / 1000), (long)(timeout_ms % 1000) * 1000000};
    int number = sigtimedwait(&guard->waited, NULL, &timeout);

    if (number < 0)
        return 0;
    if (number != SIGCHLD) {
        guard->told = true;
        if (guard->child > 0)
            kill(guard->child, number);
    }
    return number;
}

/* True when the child is no more; *ret is its last word. */
static bool has_ended(struct guard *guard, int *ret)
{
    int status;

    while (waitpid(guard->child, &status, WNOHANG | WUNTRACED | WCONTINUED) == guard->child) {
        if (WIFSTOPPED(status) || WIFCONTINUED(status)) {
            guard->stopped = WIFSTOPPED(status);
            continue;
        }
        *ret = status;
        return true;
    }
    return false;
}

/* A tick that came late, on a machine that slept or was busy, counts as one. */
static void look_for_hang(struct guard *guard, uint64_t passed_ms)
{
    const struct recorder *recorder = guard->options->recorder;
    const uint64_t hung_after_ms = settings_of(guard)->hung_after_ms;

    if (guard->killed || guard->stopped || !recorder_is_registered(recorder)) {
        guard->watch.still_ms = 0;
        return;
    }
    if (!guard_is_hung(&guard->watch, recorder_moves(recorder),
                       passed_ms < 2 * TICK_MS ? passed_ms : 2 * TICK_MS, hung_after_ms))
        return;
    log_error("guard.hung",
              "pid=%d still_ms=%" PRIu64
              " msg=\"the device has been at one step for longer than worker.hung_after; the "
              "worker is killed\"",
              (int)guard->child, guard->watch.still_ms);
    guard->killed = true;
    kill(guard->child, SIGKILL);
}

static int wait_for_end(struct guard *guard)
{
    uint64_t before_ns = clock_mono_ns();
    int status;

    while (!has_ended(guard, &status)) {
        uint64_t now_ns, passed_ms;

        next_signal(guard, TICK_MS);
        now_ns = clock_mono_ns();
        passed_ms = (now_ns - before_ns) / CLOCK_NS_PER_MS;
        look_for_hang(guard, passed_ms);
        guard_age_kills(&guard->kills, passed_ms, guard_oom_kills);
        before_ns = now_ns;
    }
    guard->child = 0;
    return status;
}

/* ------------------------------------------------------------------------------------ burying ---- */

static enum err bury_once(const struct guard *guard, const struct burial *burial, bool *ret)
{
    struct db_options options = database_options(guard->options->settings, "mserve-worker guard");
    struct db *db;
    enum err err = db_open(&options, &db);

    if (err)
        return err;
    err = quarantine_bury(db, burial, ret);
    db_close(db);
    return err;
}

/* While the database is away no other child could work, so this one's burial is waited for. */
static void bury(struct guard *guard, const struct burial *burial)
{
    char id[UUID_TEXT_SIZE];
    bool buried = false;
    enum err err = bury_once(guard, burial, &buried);

    while ((err == ERR_AGAIN || err == ERR_DATABASE) && !guard->told) {
        next_signal(guard, TRY_AGAIN_MS);
        err = bury_once(guard, burial, &buried);
    }
    if (err)
        log_warn("guard.burial",
                 "worker=%s code=%s msg=\"this worker could not be buried; others "
                 "do it when its lease has run out, and know less\"",
                 uuid_format(burial->worker, id), err_name(err));
    else
        log_info("worker.buried", "worker=%s why=%s open=%zu first=%s",
                 uuid_format(burial->worker, id), burial->why, burial->count,
                 buried ? "yes" : "no");
}

static void bury_what_is_left(struct guard *guard, const struct guard_death *death)
{
    const struct recorder *recorder = guard->options->recorder;
    const uint32_t cap = recorder->head->slots + 1;
    struct burial_request *requests;
    struct burial burial;

    if (!recorder_is_registered(recorder))
        return;
    requests = xcalloc(cap, sizeof *requests);
    guard_describe(recorder, death, requests, cap, &burial);
    bury(guard, &burial);
    free(requests);
}

/* ------------------------------------------------------------------------------------ one life ---- */

static struct guard_death see_end(struct guard *guard, int status)
{
    const struct recorder_head *head = guard->options->recorder->head;
    struct guard_death death =
        guard_judge(status, guard->killed, guard_oom_kills() - guard->kills.before,
                    atomic_load_explicit(&head->sender, memory_order_relaxed));

    if (death.end == GUARD_LEFT)
        log_info("guard.left", "status=%d", death.status);
    else
        log_error("guard.died", "how=%s signal=%d thread=%.16s proven=%s", guard_ended(death.end),
                  death.signal, head->thread[0] ? head->thread : "?",
                  guard_is_proof(death.end) ? "yes" : "no");
    return death;
}

static void count_death(struct guard *guard)
{
    const struct recorder_head *head = guard->options->recorder->head;
    const uint64_t lived_ms = (clock_mono_ns() - guard->born_ns) / CLOCK_NS_PER_MS;
    bool registered = atomic_load_explicit(&head->registrations, memory_order_relaxed) > 0;

    guard->unborn = registered ? 0 : guard->unborn + 1;
    guard->deaths =
        registered && lived_ms > settings_of(guard)->restart_max_ms ? 1 : guard->deaths + 1;
}

static void rest(struct guard *guard)
{
    uint64_t pause_ms = guard_pause_ms(guard->deaths, settings_of(guard)->restart_max_ms);
    uint64_t until_ns = clock_mono_ns() + pause_ms * CLOCK_NS_PER_MS;

    log_info("guard.restart", "deaths=%u pause_ms=%" PRIu64, guard->deaths, pause_ms);
    for (uint64_t now_ns = clock_mono_ns(); now_ns < until_ns && !guard->told;
         now_ns = clock_mono_ns())
        next_signal(guard, (until_ns - now_ns) / CLOCK_NS_PER_MS + 1);
}

/* True: another child is to be made; else *ret is the status to end with. */
static bool goes_on(struct guard *guard, const struct guard_death *death, int *ret)
{
    if (death->end == GUARD_LEFT) {
        *ret = death->status;
        return false;
    }
    count_death(guard);
    if (guard->unborn >= GUARD_TRIES_MAX) {
        fail(ERR_CRASHES,
             "the worker died %d times in a row before it had registered; see the "
             "lines above for how",
             GUARD_TRIES_MAX);
        *ret = err_exit_status(ERR_CRASHES);
        return false;
    }
    if (!guard->told)
        rest(guard);
    *ret = err_exit_status(ERR_INTERRUPTED);
    return !guard->told;
}

int guard_run(const struct guard_options *options)
{
    struct guard guard = {.options = options};
    const pid_t parent = getpid();
    struct guard_death death;
    int status;

    take_signals(&guard);
    do {
        pid_t child = make_child(&guard);

        if (child < 0)
            return err_exit_status(ERR_MEMORY);
        if (child == 0)
            return work(&guard, parent);
        death = see_end(&guard, wait_for_end(&guard));
        bury_what_is_left(&guard, &death);
    } while (goes_on(&guard, &death, &status));
    return status;
}
