/* worker_lease.c: from the first registration to the burial in good order. */
#include "consumer/worker_inside.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "config/clock.h"
#include "config/log.h"
#include "config/metrics.h"
#include "kernels/engine.h"

enum { BEAT_MS = 1000, RETRY_MS = 1000, CONNECT_MIN_MS = 250 };

/* Ever more seldom while it fails, but often enough that a lease is renewed well before its end. */
static void try_later(struct worker *worker)
{
    uint32_t longest_ms = (uint32_t)(worker->settings->worker.lease_ms / 6);

    worker->reconnect.min_ms = CONNECT_MIN_MS < longest_ms ? CONNECT_MIN_MS : longest_ms;
    worker->reconnect.max_ms = longest_ms;
    worker->connect_at_ns =
        clock_mono_ns() + backoff_next(&worker->reconnect) * (uint64_t)CLOCK_NS_PER_MS;
}

bool worker_connected(struct worker *worker)
{
    if (db_is_open(worker->db))
        return true;
    worker->steady_ns = 0;
    if (clock_mono_ns() < worker->connect_at_ns)
        return false;
    if (db_reopen(worker->db) != ERR_OK) {
        try_later(worker);
        return false;
    }
    backoff_reset(&worker->reconnect);
    return true;
}

void worker_begin_stop(struct worker *worker, enum phase phase)
{
    worker->phase = phase;
    worker->stop = intake_halt(worker->intake);
}

/* Buried: nothing of what is under way may be written by this worker. */
void worker_lose(struct worker *worker)
{
    char id[UUID_TEXT_SIZE];

    if (worker->phase != WORKING && worker->phase != DRAINING)
        return;
    log_warn("lease.lost",
             "worker=%s partitions=%u chunks=%u msg=\"this worker was buried; all it "
             "had under way is dropped\"",
             uuid_format(worker->lease.worker, id), holdings_partitions(worker->holdings),
             holdings_chunks(worker->holdings));
    metrics_add(METRIC_LEASE_LOST, 0, 1);
    recorder_unregister(worker->recorder);
    committer_abandon(worker->committer);
    holdings_drop_all(worker->holdings);
    worker_note_change(worker);
    if (worker->phase == WORKING)
        worker_begin_stop(worker, LOSING);
    uv_timer_stop(&worker->beat);
    uv_timer_stop(&worker->renew);
}

/* -------------------------------------------------------------------------------- registering ---- */

static uint64_t lease_ns(const struct worker *worker)
{
    return worker->settings->worker.lease_ms * CLOCK_NS_PER_MS;
}

static void extend(struct worker *worker, uint64_t sent_ns)
{
    worker->paused = false;
    if (worker->steady_ns == 0 || sent_ns - worker->renewed_ns > lease_ns(worker))
        worker->steady_ns = clock_mono_ns();
    worker->renewed_ns = sent_ns;
    gauges_extend(&worker->gauges, sent_ns, worker->settings->worker.lease_ms);
}

/* Who this worker was: in this process, else in one before it under the same guard. */
static struct uuid follows(const struct worker *worker)
{
    static const struct uuid nobody;

    return uuid_equal(worker->lease.worker, nobody) ? recorder_follows(worker->recorder)
                                                    : worker->lease.worker;
}

/* The card's name, unless the engine runs on something else in its place. */
static const char *device_name(const struct worker *worker, const struct engine_model *model)
{
    if (worker->placement && strncmp(model->numerics_text, "cuda", 4) == 0)
        return worker->placement->card.name;
    return strcmp(worker->tier->backend, "sim") == 0 ? "sim" : "cpu";
}

static enum err register_worker(struct worker *worker)
{
    const struct engine_model *model = engine_model(device_loop_engine(worker->device));
    const struct slice topic = {worker->topic, strlen(worker->topic)};
    struct lease_spec spec = {
        .name = worker->name,
        .host = worker->host,
        .pid = (int32_t)getpid(),
        .topics = &topic,
        .topics_count = 1,
        .device = device_name(worker, model),
        .model = model->name,
        .model_digest = model->digest,
        .numerics = model->numerics_text,
        .price_per_hour = worker->settings->worker.price_per_gpu_hour,
        .price_on_demand_per_hour = worker->settings->worker.price_on_demand_per_gpu_hour,
        .currency = worker->settings->worker.currency,
        .capacity = worker->settings->worker.capacity,
        .lease_ms = worker->settings->worker.lease_ms,
        .follows = follows(worker),
    };

    return lease_register(worker->db, &spec, &worker->lease);
}

static void begin_work(struct worker *worker, uint64_t sent_ns)
{
    char id[UUID_TEXT_SIZE];
    uint64_t renew_ms = worker->settings->worker.renew_ms;

    worker->moved_ns = sent_ns;
    extend(worker, sent_ns);
    committer_adopt(worker->committer, &worker->lease);
    recorder_register(worker->recorder, worker->lease.worker, worker->lease.token,
                      committer_began_ns(worker->committer));
    log_info("worker.registered", "worker=%s name=%s topic=%s",
             uuid_format(worker->lease.worker, id), worker->name, worker->topic);
    worker->phase = WORKING;
    uv_timer_start(&worker->renew, worker_on_renew, renew_ms, renew_ms);
    uv_timer_start(&worker->beat, worker_on_beat, 0, BEAT_MS);
    intake_go(worker->intake);
    device_loop_go(worker->device);
}

void worker_register(struct worker *worker)
{
    uint64_t sent_ns = clock_mono_ns();
    enum err err = worker_connected(worker) ? register_worker(worker) : ERR_DATABASE;

    if (!err)
        begin_work(worker, sent_ns);
    else if (err_may_retry(err))
        uv_timer_start(&worker->retry, worker_on_retry, backoff_jitter(RETRY_MS), 0);
    else
        worker_stop_loop(worker, err);
}

void worker_on_retry(uv_timer_t *timer)
{
    struct worker *worker = timer->data;

    if (worker->phase == REGISTERING)
        worker_register(worker);
    else if (worker->phase == DRAINING)
        worker_drain_through(worker);
}

/* ---------------------------------------------------------------------------------- the lease ---- */

/*
 * A device that hangs gets no renewal: its lease runs out, and others take over. One that is at a long
 * step does: to take its work away would only make somebody else begin the same step.
 */
static bool device_hangs(struct worker *worker, uint64_t now_ns)
{
    uint64_t moves = atomic_load_explicit(&worker->gauges.device_moves, memory_order_relaxed);
    uint64_t still_ms;

    if (moves != worker->moves_seen) {
        worker->moves_seen = moves;
        worker->moved_ns = now_ns;
        worker->stuck = false;
    }
    still_ms = (now_ns - worker->moved_ns) / CLOCK_NS_PER_MS;
    if (still_ms < worker->settings->worker.hung_after_ms)
        return false;
    if (!worker->stuck)
        log_warn("device.stuck",
                 "still_ms=%" PRIu64 " msg=\"the device has been at one step for longer "
                 "than worker.hung_after; the lease is not renewed\"",
                 still_ms);
    worker->stuck = true;
    return true;
}

static uint64_t reported_ns(struct worker *worker)
{
    uint64_t held = atomic_load_explicit(&worker->gauges.held_ns, memory_order_relaxed);
    uint64_t began = committer_began_ns(worker->committer);

    return held > began ? held - began : 0;
}

void worker_warn_of_pause(struct worker *worker, uint64_t now_ns)
{
    if (worker->paused ||
        now_ns < atomic_load_explicit(&worker->gauges.launch_until_ns, memory_order_relaxed))
        return;
    worker->paused = true;
    log_warn("lease.paused", "msg=\"the lease could not be renewed in time; no new work is "
                             "launched until it is\"");
}

static void try_again_soon(struct worker *worker)
{
    uint64_t usual_ms = uv_timer_get_repeat(&worker->renew);

    uv_timer_start(&worker->renew, worker_on_renew,
                   backoff_jitter(usual_ms < RETRY_MS ? (uint32_t)usual_ms : RETRY_MS), usual_ms);
}

static void renew(struct worker *worker)
{
    uint64_t sent_ns = clock_mono_ns();
    enum err err;

    worker_warn_of_pause(worker, sent_ns);
    if (device_hangs(worker, sent_ns))
        return;
    err = worker_connected(worker)
              ? lease_renew(worker->db, &worker->lease, committer_landed(worker->committer),
                            reported_ns(worker))
              : ERR_DATABASE;
    if (!err) {
        extend(worker, sent_ns);
        return;
    }
    if (err == ERR_LOST)
        worker_lose(worker);
    else
        try_again_soon(worker);
}

void worker_on_renew(uv_timer_t *timer)
{
    renew(timer->data);
}

void worker_renew_first(struct worker *worker)
{
    if (worker->steady_ns == 0)
        renew(worker);
}

/*
 * After an outage everybody's lease has run out, and nobody is dead for it. Who comes back first
 * waits until the others, had they come back with it, would have renewed theirs.
 */
bool worker_may_bury(const struct worker *worker, uint64_t now_ns)
{
    return worker->steady_ns != 0 && now_ns >= worker->steady_ns + lease_ns(worker) &&
           now_ns < worker->renewed_ns + lease_ns(worker);
}

/* ------------------------------------------------------------------------------------ leaving ---- */

/* The device was held up to the last cut and no longer, so nothing is left to be lost. */
static uint64_t booked_ns(const struct worker *worker)
{
    return committer_booked_ns(worker->committer) - committer_began_ns(worker->committer);
}

enum err worker_bury_self(struct worker *worker, const char *why)
{
    char id[UUID_TEXT_SIZE];
    enum err err;

    worker->connect_at_ns = 0; /* the last chance to say so */
    err = worker_connected(worker) ? lease_leave(worker->db, &worker->lease, booked_ns(worker), why)
                                   : ERR_DATABASE;

    if (!err) {
        recorder_unregister(worker->recorder);
        log_info("worker.buried", "worker=%s why=%s", uuid_format(worker->lease.worker, id), why);
    }
    return err;
}

/* It cannot go on. */
void worker_leave(struct worker *worker, const char *why, enum err end)
{
    enum err err = worker_bury_self(worker, why);

    worker_stop_loop(worker, end ? end : err);
}

/* The device stands still, and nothing is under way any more. */
void worker_after_stop(struct worker *worker)
{
    if (worker->phase == DRAINING) {
        worker_drain_through(worker);
    } else if (worker->phase == LOSING) {
        holdings_forget_dropped(worker->holdings);
        chooser_forget(worker->chooser);
        worker->phase = REGISTERING;
        if (worker->leaving.why)
            worker_stop_loop(worker, worker->leaving.end);
        else
            worker_register(worker);
    }
}
