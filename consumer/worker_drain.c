/*
 * worker_drain.c: leaving. Whoever asks a worker to go (a signal, the cloud, a file, an operator) asks
 * for the same: be gone by T.
 *
 *     asked     nothing new is chosen or read, the row says that it leaves, by when and why
 *     halted    intake has let go of what it had not read; what runs and fits goes on:
 *               those that will be done by T - worker.drain_margin, worker.drain_finish at most
 *     stopped   the device stands still; the rest was taken out, the last batch is cut
 *     through   the last batch is committed
 *     gone      the books are closed and the partitions free; the program ends with status 0
 *
 * A second wish with an earlier T moves T. A second signal, and a device that failed or is sick, end the
 * finishing at once. What is not
 * done at T (and never before worker.drain_margin has passed) ends with status 12: the burial does
 * the rest.
 */
#include "consumer/worker_inside.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "config/clock.h"
#include "config/failpoint.h"
#include "config/log.h"

/* A signal sent to the whole group comes twice, from its sender and from the parent: it is one. */
#define SAME_SIGNAL_NS (500 * (uint64_t)CLOCK_NS_PER_MS)

/* Two accounts of one time, taken on two clocks, differ by less. */
#define SAME_TIME_NS ((uint64_t)CLOCK_NS_PER_S)

enum { LEAVE_AGAIN_MS = 200 };

static const char *const why_names[] = {
    [DRAIN_NOT] = "none",          [DRAIN_SIGNAL] = "signal",
    [DRAIN_OPERATOR] = "operator", [DRAIN_PREEMPTED] = "preempted",
    [DRAIN_FAILED] = "failed",     [DRAIN_SICK] = "sick",
};

/* ------------------------------------------------------------------------------------ signals ---- */

static struct worker *the_worker; /* the one that signals are for */
static atomic_uint signals_seen;
static atomic_int signal_last;
static atomic_uint_fast64_t signal_last_ns;
static atomic_uint_fast64_t alarm_ns; /* when the alarm rings; 0: it is not set */

static void say_and_exit(const char *line, size_t len)
{
    if (write(STDERR_FILENO, line, len) < 0)
        _exit(err_exit_status(ERR_INTERRUPTED));
    _exit(err_exit_status(ERR_INTERRUPTED));
}

#define SAY_AND_EXIT(literal) say_and_exit(literal, sizeof(literal) - 1)

/* From control and from the signals; the earlier time stands. */
static void set_alarm(uint64_t at_ns, uint64_t now_ns)
{
    uint64_t known_ns = atomic_load(&alarm_ns);
    uint64_t left_s = at_ns > now_ns ? (at_ns - now_ns + CLOCK_NS_PER_S - 1) / CLOCK_NS_PER_S : 0;

    if (known_ns != 0 && known_ns <= at_ns)
        return;
    atomic_store(&alarm_ns, at_ns);
    alarm(left_s > 0 ? (unsigned)left_s : 1);
}

static uint64_t margin_ns(const struct worker *worker)
{
    return worker->settings->worker.drain_margin_ms * CLOCK_NS_PER_MS;
}

static uint64_t usual_ns(const struct worker *worker)
{
    return worker->settings->worker.drain_ms * CLOCK_NS_PER_MS;
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static bool is_repeated(int number, uint64_t now_ns)
{
    int last = atomic_exchange(&signal_last, number);
    uint64_t last_ns = atomic_exchange(&signal_last_ns, now_ns);

    return last == number && now_ns - last_ns < SAME_SIGNAL_NS;
}

/* The first one begins the drain and sets the alarm; nothing here may wait for anything. */
static void on_stop_signal(uint64_t now_ns)
{
    switch (atomic_fetch_add(&signals_seen, 1)) {
    case 0:
        set_alarm(now_ns + later(usual_ns(the_worker), margin_ns(the_worker)), now_ns);
        worker_tell(the_worker, NOTE_SIGNAL);
        break;
    case 1:
        worker_tell(the_worker, NOTE_SIGNAL_AGAIN);
        break;
    default:
        SAY_AND_EXIT("level=warn event=drain.cut msg=\"third signal: leaving at once; the rest is "
                     "left to the burial\"\n");
    }
}

static void on_signal(int number)
{
    uint64_t now_ns = clock_mono_ns();
    int saved = errno;

    if (number == SIGALRM)
        SAY_AND_EXIT("level=error event=drain.late msg=\"the drain took longer than there was "
                     "time; the rest is left to the burial\"\n");
    if (number == SIGUSR1)
        worker_tell(the_worker, NOTE_OPERATOR);
    else if (!is_repeated(number, now_ns))
        on_stop_signal(now_ns);
    errno = saved;
}

void worker_catch_signals(struct worker *worker)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

    the_worker = worker;
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

void worker_ignore_signals(void)
{
    signal(SIGTERM, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
}

/* -------------------------------------------------------------------------------- what is said ---- */

static uint64_t ms_between(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (to_ns - from_ns) / CLOCK_NS_PER_MS : 0;
}

static uint64_t finish_until_ns(const struct worker *worker)
{
    const struct worker_leaving *leaving = &worker->leaving;
    uint64_t at_most_ns =
        leaving->asked_ns + worker->settings->worker.drain_finish_ms * CLOCK_NS_PER_MS;
    uint64_t until_ns = leaving->by_ns > margin_ns(worker) ? leaving->by_ns - margin_ns(worker) : 0;

    if (leaving->at_once)
        return 0;
    return until_ns < at_most_ns ? until_ns : at_most_ns;
}

static void log_begin(const struct worker *worker, uint64_t now_ns)
{
    const struct gauges *gauges = &worker->gauges;

    log_info("drain.begin",
             "why=%s within_ms=%" PRIu64 " finish_ms=%" PRIu64
             " phase=%d chunks=%u running=%u ready=%u unread=%u",
             why_names[worker->leaving.why], ms_between(now_ns, worker->leaving.by_ns),
             ms_between(now_ns, finish_until_ns(worker)), (int)worker->phase,
             worker->holdings ? holdings_chunks(worker->holdings) : 0,
             atomic_load_explicit(&gauges->running, memory_order_relaxed),
             atomic_load_explicit(&gauges->ready_requests, memory_order_relaxed),
             atomic_load_explicit(&gauges->unread_lines, memory_order_relaxed));
}

/* What was finished, what is for others, and how long each part took. */
static void log_done(const struct worker *worker)
{
    const struct worker_leaving *leaving = &worker->leaving;
    const struct gauges *gauges = &worker->gauges;
    uint64_t stopped_ns = atomic_load_explicit(&gauges->stopped_ns, memory_order_relaxed);
    uint64_t now_ns = clock_mono_ns();

    log_info("drain.done",
             "why=%s finished=%u kept=%u halt_ms=%" PRIu64 " finish_ms=%" PRIu64
             " commit_ms=%" PRIu64 " leave_ms=%" PRIu64 " total_ms=%" PRIu64 " left_ms=%" PRIu64,
             why_names[leaving->why],
             atomic_load_explicit(&gauges->stop_finished, memory_order_relaxed),
             atomic_load_explicit(&gauges->stop_kept, memory_order_relaxed),
             ms_between(leaving->asked_ns, leaving->halted_ns),
             ms_between(leaving->halted_ns, stopped_ns),
             ms_between(stopped_ns, leaving->through_ns), ms_between(leaving->through_ns, now_ns),
             ms_between(leaving->asked_ns, now_ns), ms_between(now_ns, leaving->by_ns));
}

/* Best effort: who reads the row only wants to know. Of a sick card, which one, and of what. */
static void say_so(struct worker *worker, uint64_t now_ns)
{
    const char *why = why_names[worker->leaving.why];
    char text[320];

    if (worker->leaving.why == DRAIN_SICK && worker->placement) {
        snprintf(text, sizeof(text), "%s: %s: %s", why, worker->placement->card.uuid,
                 card_watch_reason(worker->card_watch));
        why = text;
    }
    if (worker_connected(worker))
        (void)FAILPOINT_CALL("drain", ERR_DATABASE,
                             lease_drain(worker->db, &worker->lease,
                                         ms_between(now_ns, worker->leaving.by_ns), why));
}

/* ------------------------------------------------------------------------------------ the drain ---- */

/* The load cannot be broken off, and nothing is held yet, not even a row: nobody has to wait for it. */
static void leave_in_mid_load(const struct worker *worker)
{
    log_info("drain.done", "why=%s msg=\"the model was being loaded; nothing was held\"",
             why_names[worker->leaving.why]);
    _exit(err_exit_status(worker->leaving.end));
}

static void begin(struct worker *worker, uint64_t now_ns)
{
    switch (worker->phase) {
    case LOADING:
        leave_in_mid_load(worker);
        break;
    case REGISTERING:
        log_info("drain.done", "why=%s msg=\"it had no lease; nothing was held\"",
                 why_names[worker->leaving.why]);
        worker_stop_loop(worker, worker->leaving.end);
        break;
    case WORKING:
        worker_begin_stop(worker, DRAINING);
        say_so(worker, now_ns);
        break;
    case LOSING: /* when its stop is answered */
    case DRAINING:
    case LEAVING:
        break;
    }
}

/* The device is told at once when it finishes already; else when intake has answered. */
static void move_end(struct worker *worker)
{
    if (worker->phase == DRAINING && worker->leaving.halted_ns != 0)
        device_loop_finish_until(worker->device, finish_until_ns(worker));
}

void worker_drain_by(struct worker *worker, uint64_t deadline_ns, enum drain_why why)
{
    struct worker_leaving *leaving = &worker->leaving;
    uint64_t now_ns = clock_mono_ns();
    bool first = leaving->why == DRAIN_NOT;

    if (!first && deadline_ns + SAME_TIME_NS > leaving->by_ns)
        return;
    leaving->why = why;
    leaving->by_ns = deadline_ns;
    if (first)
        leaving->asked_ns = now_ns;
    set_alarm(later(deadline_ns, now_ns + margin_ns(worker)), now_ns);
    log_begin(worker, now_ns);
    if (first) {
        begin(worker, now_ns);
        return;
    }
    move_end(worker);
    if (worker->phase == DRAINING)
        say_so(worker, now_ns);
}

void worker_drain_within(struct worker *worker, uint64_t left_ms, enum drain_why why)
{
    uint64_t left_ns = left_ms == WORKER_NOT_TOLD ? usual_ns(worker) : left_ms * CLOCK_NS_PER_MS;

    worker_drain_by(worker, clock_mono_ns() + left_ns, why);
}

void worker_drain_at_once(struct worker *worker)
{
    worker->leaving.at_once = true;
    log_info("drain.hurried", "msg=\"second signal: nothing more is finished\"");
    move_end(worker);
}

void worker_drain_off_device(struct worker *worker, enum drain_why why)
{
    worker->leaving.end = ERR_DEVICE;
    worker->leaving.at_once = true;
    worker_drain_within(worker, WORKER_NOT_TOLD, why);
    move_end(worker);
}

void worker_leave_sick_card(struct worker *worker)
{
    if (worker->placement)
        placement_mark_sick(worker->placement, card_watch_reason(worker->card_watch),
                            clock_wall_ms());
    worker_drain_off_device(worker, DRAIN_SICK);
}

void worker_drain_halted(struct worker *worker)
{
    uint64_t until_ns = worker->phase == DRAINING ? finish_until_ns(worker) : 0;

    worker->leaving.halted_ns = clock_mono_ns();
    device_loop_halt(worker->device, until_ns);
}

/* Everything is committed; while the database is away, the burial in good order is tried again. */
void worker_drain_through(struct worker *worker)
{
    enum err err;

    if (worker->leaving.through_ns == 0)
        worker->leaving.through_ns = clock_mono_ns();
    err = worker_bury_self(worker, "drained");
    if (err && err_may_retry(err) && clock_mono_ns() < worker->leaving.by_ns) {
        uv_timer_start(&worker->retry, worker_on_retry, LEAVE_AGAIN_MS, 0);
        return;
    }
    notices_acknowledge(worker->notices);
    log_done(worker);
    worker_stop_loop(worker, err ? err : worker->leaving.end);
}

/* ---------------------------------------------------------------------------- who asks for it ---- */

void worker_on_notice(void *context, const char *source, const struct notice *notice)
{
    struct worker *worker = context;
    uint64_t usual_ms = worker->settings->worker.drain_ms;
    uint64_t left_ms = notice_left_ms(notice, clock_wall_ms(), usual_ms);

    if (worker->leaving.why == DRAIN_NOT)
        log_warn("notice.given", "source=%s what=%s timed=%s left_ms=%" PRIu64, source,
                 notice->what, notice->timed ? "yes" : "no", left_ms);
    /* Untimed, it says the same each time it is asked; that is no new time. */
    if (notice->timed || worker->leaving.why != DRAIN_PREEMPTED)
        worker_drain_within(worker, left_ms, DRAIN_PREEMPTED);
}

/* `mserve worker drain`: once a second. */
void worker_hear_operator(struct worker *worker)
{
    uint64_t left_ms;

    if (lease_wish(worker->db, &worker->lease, &left_ms) == ERR_OK)
        worker_drain_within(worker, left_ms, DRAIN_OPERATOR);
}
