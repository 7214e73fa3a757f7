/* scheduler_health.c: a few atomics between the loop and the server's thread. */
#include "scheduler/scheduler_health.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "config/buffer.h"
#include "config/clock.h"
#include "config/health_server.h"
#include "config/metrics.h"
#include "scheduler/deliver.h"

/* The time-outs of its connection end a round that hangs after 120 s; it connects and goes on. */
enum { LIVE_S_MAX = 300, READY_S_MAX = 60 };

struct scheduler_health {
    struct health_server *server;
    uint64_t began_ns;             /* of the round; the loop's own */
    atomic_uint_fast64_t moved_ns; /* a round began or ended */
    atomic_uint_fast64_t good_ns;  /* a round ended well; 0: none yet */
    atomic_int last;               /* enum err of the last round */
    pthread_mutex_t lock;          /* of deliver: it is not ended while it is looked at */
    const struct deliver *deliver; /* NULL: nothing is delivered */
};

static unsigned long seconds_since(uint64_t then_ns, uint64_t now_ns)
{
    return now_ns > then_ns ? (unsigned long)((now_ns - then_ns) / CLOCK_NS_PER_S) : 0;
}

static bool look_at_deliveries(struct scheduler_health *health, struct deliver_health *ret)
{
    bool has_any;

    pthread_mutex_lock(&health->lock);
    has_any = health->deliver != NULL;
    if (has_any)
        deliver_look(health->deliver, ret);
    pthread_mutex_unlock(&health->lock);
    return has_any;
}

static unsigned live(void *context, uint64_t now_ns, struct health_check *check)
{
    struct scheduler_health *health = context;
    unsigned long still_s = seconds_since(atomic_load(&health->moved_ns), now_ns);
    struct deliver_health deliveries;

    health_say(&check[0], "loop", still_s < LIVE_S_MAX, "it moved %lu s ago", still_s);
    if (!look_at_deliveries(health, &deliveries))
        return 1;
    still_s = seconds_since(deliveries.moved_ns, now_ns);
    health_say(&check[1], "webhooks", still_s < LIVE_S_MAX, "they moved %lu s ago", still_s);
    return 2;
}

/* Ready means that what is due can be claimed; whether endpoints take it is for the metrics. */
static unsigned webhooks_ready(const struct deliver_health *deliveries, uint64_t now_ns,
                               struct health_check *check)
{
    unsigned long good_s = seconds_since(deliveries->good_ns, now_ns);

    if (deliveries->last)
        health_say(check, "webhooks", false, "%s; it is tried again", err_phrase(deliveries->last));
    else if (deliveries->good_ns == 0)
        health_say(check, "webhooks", false, "nothing was claimed yet");
    else
        health_say(check, "webhooks", good_s < READY_S_MAX,
                   "the outbox was last looked at %lu s ago", good_s);
    return 1;
}

static unsigned ready(void *context, uint64_t now_ns, struct health_check *check)
{
    struct scheduler_health *health = context;
    struct deliver_health deliveries;
    uint64_t good_ns = atomic_load(&health->good_ns);
    unsigned long good_s = seconds_since(good_ns, now_ns);
    enum err last = (enum err)atomic_load(&health->last);

    if (last)
        health_say(&check[0], "postgresql", false, "%s; it is tried again", err_phrase(last));
    else if (good_ns == 0)
        health_say(&check[0], "postgresql", false, "the first round has not ended yet");
    else
        health_say(&check[0], "postgresql", good_s < READY_S_MAX,
                   "the last round that went well ended %lu s ago", good_s);
    if (look_at_deliveries(health, &deliveries))
        return 1 + webhooks_ready(&deliveries, now_ns, &check[1]);
    return 1;
}

static void sample(void *context, uint64_t now_ns)
{
    (void)context;
    (void)now_ns;
}

enum err scheduler_health_open(const char *http, struct scheduler_health **ret)
{
    struct scheduler_health *health = xcalloc(1, sizeof(*health));
    struct health_server_options options = {
        .address = http,
        .setting = "scheduler.http",
        .live = live,
        .ready = ready,
        .sample = sample,
        .context = health,
    };
    enum err rc;

    metrics_init(METRICS_SCHEDULER, "mserve-scheduler", clock_wall_ms());
    atomic_store(&health->moved_ns, clock_mono_ns());
    pthread_mutex_init(&health->lock, NULL);
    rc = health_server_open(&options, &health->server);
    if (rc) {
        free(health);
        return rc;
    }
    *ret = health;
    return ERR_OK;
}

void scheduler_health_close(struct scheduler_health *health)
{
    if (!health)
        return;
    health_server_close(health->server);
    pthread_mutex_destroy(&health->lock);
    free(health);
}

void scheduler_health_deliver(struct scheduler_health *health, const struct deliver *deliver)
{
    pthread_mutex_lock(&health->lock);
    health->deliver = deliver;
    pthread_mutex_unlock(&health->lock);
}

void scheduler_health_begin(struct scheduler_health *health, uint64_t now_ns)
{
    health->began_ns = now_ns;
    atomic_store(&health->moved_ns, now_ns);
}

void scheduler_health_end(struct scheduler_health *health, uint64_t now_ns, enum err err)
{
    metrics_observe(METRIC_ROUND_DURATION, now_ns - health->began_ns);
    if (err) {
        metrics_add(METRIC_ROUND_FAILURES, 0, 1);
        metrics_set(METRIC_ACTIVE, 0, 0);
    } else {
        atomic_store(&health->good_ns, now_ns);
    }
    atomic_store(&health->last, (int)err);
    atomic_store(&health->moved_ns, now_ns);
}
