/* worker_health.c: a timer in the loop, a thread that asks Kafka, and the checks. */
#include "consumer/worker_health.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "config/buffer.h"
#include "config/clock.h"
#include "config/health_server.h"
#include "config/log.h"
#include "config/metrics.h"
#include "config/sha256.h"
#include "consumer/worker_inside.h"
#include "kernels/engine.h"

enum {
    PULSE_MS = 1000,
    ASK_MS = 5000, /* from one question to Kafka to the next */
    TRY_MS = 500,  /* the worker's end waits for it */
    TRIES = 6,
};

struct worker_health {
    struct worker *worker;
    struct health_server *server;
    uv_timer_t pulse;
    bool said_model;

    /* The control thread shows, each second. */
    atomic_uint_fast64_t pulse_ns;
    atomic_uint phase;
    atomic_bool database;          /* connected, and the last renewal landed */
    struct intake *_Atomic intake; /* NULL until there is one */

    /* The asking thread shows. */
    pthread_t asker;
    bool asking;
    pthread_mutex_t lock; /* of quit */
    pthread_cond_t told;
    bool quit;
    atomic_bool kafka;             /* it answered the last question */
    atomic_uint_fast64_t kafka_ns; /* when it last did; 0: never */

    /* The server's thread alone. */
    uint64_t moves_seen;
    uint64_t moved_ns;
};

/* -------------------------------------------------------------------------------- control thread ---- */

static void say_model(const struct worker *worker)
{
    const struct engine_model *model = engine_model(device_loop_engine(worker->device));
    char digest[2 * sizeof(model->digest) + 1];
    const struct metrics_pair pairs[] = {{"name", model->name},
                                         {"sha256", hex_encode(model->digest, 32, digest)},
                                         {"numerics", model->numerics_text}};

    metrics_info(METRIC_MODEL, pairs, sizeof(pairs) / sizeof(pairs[0]));
}

static void on_pulse(uv_timer_t *timer)
{
    struct worker_health *health = timer->data;
    struct worker *worker = health->worker;
    uint64_t now_ns = clock_mono_ns();
    uint64_t lease_ns = worker->settings->worker.lease_ms * CLOCK_NS_PER_MS;

    if (worker->intake && !health->said_model) {
        say_model(worker);
        health->said_model = true;
    }
    metrics_set(METRIC_PARTITIONS, 0, holdings_partitions(worker->holdings));
    metrics_set(METRIC_CHUNKS, 0, holdings_chunks(worker->holdings));
    atomic_store(&health->intake, worker->intake);
    atomic_store(&health->phase, (unsigned)worker->phase);
    atomic_store(&health->database, db_is_open(worker->db) && worker->steady_ns != 0 &&
                                        now_ns < worker->renewed_ns + lease_ns);
    atomic_store(&health->pulse_ns, now_ns);
}

/* --------------------------------------------------------------------------------- asking thread ---- */

/* False when the end has come. */
static bool rest(struct worker_health *health, uint64_t ms)
{
    struct timespec until;
    bool quit;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ms / 1000);
    pthread_mutex_lock(&health->lock);
    while (!health->quit && pthread_cond_timedwait(&health->told, &health->lock, &until) == 0)
        ;
    quit = health->quit;
    pthread_mutex_unlock(&health->lock);
    return !quit;
}

static void ask(struct worker_health *health, struct intake *intake)
{
    bool reached = false;

    for (int i = 0; i < TRIES && !reached && rest(health, 0); i++)
        reached = intake_reaches_kafka(intake, TRY_MS);
    if (reached)
        atomic_store(&health->kafka_ns, clock_mono_ns());
    atomic_store(&health->kafka, reached);
}

static void *ask_now_and_then(void *argument)
{
    struct worker_health *health = argument;
    struct intake *intake;

    do {
        intake = atomic_load(&health->intake);
        if (intake)
            ask(health, intake);
    } while (rest(health, intake ? ASK_MS : PULSE_MS));
    return NULL;
}

static enum err start_asking(struct worker_health *health)
{
    pthread_condattr_t monotonic;
    int failed;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&health->told, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&health->lock, NULL);
    failed = pthread_create(&health->asker, NULL, ask_now_and_then, health);
    if (failed)
        return fail(ERR_MEMORY, "the thread that asks Kafka could not be started: %s",
                    strerror(failed));
    health->asking = true;
    pthread_setname_np(health->asker, "ask-kafka");
    return ERR_OK;
}

/* -------------------------------------------------------------------------------- server's thread ---- */

static void sample(void *context, uint64_t now_ns)
{
    struct worker_health *health = context;
    struct gauges *gauges = &health->worker->gauges;
    uint64_t lease_ns = health->worker->settings->worker.lease_ms * CLOCK_NS_PER_MS;
    uint64_t until_ns = atomic_load(&gauges->launch_until_ns);
    uint64_t moves = atomic_load(&gauges->device_moves);

    if (moves != health->moves_seen || atomic_load(&health->phase) == LOADING ||
        health->moved_ns == 0) {
        health->moves_seen = moves;
        health->moved_ns = now_ns;
    }
    metrics_set(METRIC_RUNNING, 0, atomic_load(&gauges->running));
    metrics_set(METRIC_READY, 0, atomic_load(&gauges->ready_requests));
    metrics_set(METRIC_READY_BYTES, 0, (int64_t)atomic_load(&gauges->ready_bytes));
    metrics_set(METRIC_UNREAD, 0, atomic_load(&gauges->unread_lines));
    metrics_set(METRIC_BATCHES, 0, atomic_load(&gauges->batches_waiting));
    if (until_ns > 0)
        metrics_set(METRIC_LEASE_LEFT, 0, (int64_t)(until_ns + lease_ns / 6 - now_ns));
}

static uint64_t seconds_since(uint64_t then_ns, uint64_t now_ns)
{
    return now_ns > then_ns ? (now_ns - then_ns) / CLOCK_NS_PER_S : 0;
}

/* The control thread waits for PostgreSQL, for fractions of a lease; two of them, and it hangs. */
static unsigned live(void *context, uint64_t now_ns, struct health_check *check)
{
    struct worker_health *health = context;
    const struct settings_worker *settings = &health->worker->settings->worker;
    uint64_t loop_s = seconds_since(atomic_load(&health->pulse_ns), now_ns);
    uint64_t device_s = seconds_since(health->moved_ns, now_ns);

    health_say(&check[0], "loop", loop_s * 1000 < 2 * settings->lease_ms + 10 * PULSE_MS,
               "the control loop turned %lu s ago", (unsigned long)loop_s);
    health_say(&check[1], "device", device_s * 1000 < settings->hung_after_ms,
               "the device thread moved %lu s ago", (unsigned long)device_s);
    return 2;
}

static unsigned ready(void *context, uint64_t now_ns, struct health_check *check)
{
    static const char *const phases[] = {
        [LOADING] = "the model is being loaded",
        [REGISTERING] = "it is not registered in PostgreSQL yet",
        [WORKING] = "it has a lease",
        [LOSING] = "it was buried, and drops what it had under way",
        [DRAINING] = "it leaves: it takes no new work",
        [LEAVING] = "it leaves",
    };
    struct worker_health *health = context;
    unsigned phase = atomic_load(&health->phase);
    uint64_t kafka_ns = atomic_load(&health->kafka_ns);
    uint64_t loop_s = seconds_since(atomic_load(&health->pulse_ns), now_ns);
    bool database = atomic_load(&health->database) && loop_s < 5;
    const char *reason;

    health_say(&check[0], "model", phase != LOADING, "%s",
               phase != LOADING ? "it is loaded" : phases[LOADING]);
    health_say(&check[1], "lease", phase == WORKING, "%s",
               phase == LOADING ? "it registers when the model is loaded" : phases[phase]);
    health_say(&check[2], "postgresql", database, "%s",
               database      ? "the last renewal of the lease landed"
               : loop_s >= 5 ? "the control loop waits for an answer"
                             : "there is no connection on which the lease was renewed");
    health_say(&check[3], "kafka", atomic_load(&health->kafka),
               kafka_ns ? "it last answered %lu s ago" : "it has not answered yet",
               (unsigned long)seconds_since(kafka_ns, now_ns));
    if (!health->worker->card_watch)
        return 4;
    reason = card_watch_reason(health->worker->card_watch);
    health_say(&check[4], "gpu", !reason[0], "%s %s%s", health->worker->placement->card.uuid,
               reason[0] ? "is sick: " : "is well", reason);
    return 5;
}

/* --------------------------------------------------------------------------------- start and end ---- */

static void say_worker(const struct worker *worker)
{
    const struct metrics_pair pairs[] = {
        {"name", worker->name}, {"tier", worker->tier->name}, {"backend", worker->tier->backend}};

    metrics_init(METRICS_WORKER, "mserve-worker", clock_wall_ms());
    metrics_info(METRIC_WORKER, pairs, sizeof(pairs) / sizeof(pairs[0]));
    metrics_set(METRIC_SEQUENCES_MAX, 0, worker->tier->sequences_max);
}

enum err worker_health_open(struct worker *worker, struct worker_health **ret)
{
    struct worker_health *health = xcalloc(1, sizeof(*health));
    struct health_server_options options = {
        .address = worker->settings->worker.http,
        .setting = "worker.http",
        .live = live,
        .ready = ready,
        .sample = sample,
        .context = health,
    };
    enum err err;

    health->worker = worker;
    say_worker(worker);
    atomic_store(&health->pulse_ns, clock_mono_ns());
    uv_timer_init(&worker->loop, &health->pulse);
    health->pulse.data = health;
    uv_timer_start(&health->pulse, on_pulse, 0, PULSE_MS);
    *ret = health;
    err = health_server_open(&options, &health->server);
    return err || !health->server ? err : start_asking(health);
}

void worker_health_stop(struct worker_health *health)
{
    if (!health)
        return;
    health_server_close(health->server);
    if (health->asking) {
        pthread_mutex_lock(&health->lock);
        health->quit = true;
        pthread_cond_signal(&health->told);
        pthread_mutex_unlock(&health->lock);
        pthread_join(health->asker, NULL);
    }
    uv_close((uv_handle_t *)&health->pulse, NULL);
}

void worker_health_free(struct worker_health *health)
{
    free(health);
}
