/* deliver_clerk.c: the thread that records what ended and claims what is due, round after round. */
#include "scheduler/deliver_internal.h"

#include "config/clock.h"
#include "config/failpoint.h"
#include "config/log.h"
#include "config/metrics.h"
#include "config/uuid.h"
#include "sql/migrate.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    CLAIM_MAX = 256,
    POLL_MS = 1000, /* for what came due by time, or unheard */
    SIGHT_MS = 5000,
    DROP_MAX = 5000, /* deliveries of disabled endpoints, a round */
    DRAIN_MS = 5000,
    ABANDON_MS = 1000,
    RETRY_MS_MIN = 500,
    RETRY_MS_MAX = 10000,
};

static uint64_t ns_of(uint64_t ms)
{
    return ms * CLOCK_NS_PER_MS;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Longer than an attempt may take, with time to record it. */
static uint64_t lease_ms(const struct deliver *deliver)
{
    return deliver->options.webhook->timeout_ms * 3 / 2 + 1000;
}

/* ----------------------------------------------------------------------------- what has ended ---- */

static void take_ended(struct deliver *deliver)
{
    struct clerk *clerk = &deliver->clerk;
    struct parcels taken;

    pthread_mutex_lock(&deliver->lock);
    taken = deliver->ended;
    deliver->ended = (struct parcels){0};
    pthread_mutex_unlock(&deliver->lock);
    while (taken.first) {
        struct parcel *parcel = taken.first;
        uint64_t random;

        parcels_take_out(&taken, parcel);
        clerk->out--;
        clerk->out_failing -= parcel->delivery.failures > 0;
        random_fill(&random, sizeof(random));
        parcel_judge(parcel, &deliver->schedule, deliver->options.webhook->disable_after_ms,
                     random);
        parcels_add(&clerk->ended, parcel);
    }
}

static unsigned metric_of(enum delivery_result result)
{
    static const unsigned values[] = {
        [DELIVERY_DELIVERED] = ATTEMPT_DELIVERED,
        [DELIVERY_RETRIED] = ATTEMPT_RETRIED,
        [DELIVERY_FAILED] = ATTEMPT_FAILED,
        [DELIVERY_DISABLED] = ATTEMPT_DISABLED,
    };

    return values[result];
}

/* It is in the tables now. */
static void tell_recorded(const struct parcel *parcel)
{
    char endpoint[UUID_TEXT_SIZE], quoted[2 * SENDER_WHY_SIZE];

    if (parcel->is_released)
        return;
    metrics_add(METRIC_WEBHOOK_ATTEMPTS, metric_of(parcel->decision.result), 1);
    if (parcel->decision.result != DELIVERY_DELIVERED)
        log_info("webhook.not_delivered",
                 "endpoint=%s event=%s attempt=%u outcome=%s status=%u retry_ms=%lu why=%s",
                 uuid_format(parcel->delivery.endpoint, endpoint), parcel->id,
                 parcel->delivery.attempts + 1, delivery_result_name(parcel->decision.result),
                 parcel->status, (unsigned long)parcel->decision.retry_ms,
                 log_quote(quoted, sizeof(quoted), parcel->why));
}

static enum err record_some(struct clerk *clerk, uint64_t now_ns)
{
    uint32_t room = clerk->ended.count < OUTBOX_RECORD_MAX ? clerk->ended.count : OUTBOX_RECORD_MAX;
    struct outbox_outcome *outcomes = xcalloc(room, sizeof(*outcomes));
    uint32_t count = 0, disabled;
    enum err rc;

    for (const struct parcel *at = clerk->ended.first; count < room; at = at->next)
        outcomes[count++] = parcel_outcome(at, now_ns);
    rc = FAILPOINT_CALL("webhook.recorded", ERR_DATABASE,
                        outbox_record(clerk->db, outcomes, count, &count, &disabled));
    free(outcomes);
    while (!rc && count-- > 0) {
        struct parcel *parcel = clerk->ended.first;

        tell_recorded(parcel);
        parcels_take_out(&clerk->ended, parcel);
        parcel_free(parcel);
    }
    return rc;
}

static enum err record(struct clerk *clerk)
{
    enum err rc = ERR_OK;

    if (clerk->ended.count > 0) /* there is room at its endpoint for the next */
        clerk->claim_ns = earlier(clerk->claim_ns, clerk->claim_not_before_ns);
    while (!rc && clerk->ended.count > 0)
        rc = record_some(clerk, clock_mono_ns());
    return rc;
}

/* --------------------------------------------------------------------------------- what is due ---- */

static uint32_t room_of(const struct deliver *deliver)
{
    uint32_t connections = deliver->options.webhook->connections;
    uint32_t room = connections > deliver->clerk.out ? connections - deliver->clerk.out : 0;

    return room < CLAIM_MAX ? room : CLAIM_MAX;
}

static void hand_over(struct deliver *deliver, const struct outbox_delivery *deliveries,
                      uint32_t count)
{
    struct clerk *clerk = &deliver->clerk;

    pthread_mutex_lock(&deliver->lock);
    for (uint32_t i = 0; i < count; i++) {
        struct parcel *parcel = parcel_new(&deliveries[i], deliver->seal);

        clerk->out++;
        clerk->out_failing += deliveries[i].failures > 0;
        parcels_add(parcel->is_released ? &deliver->ended : &deliver->to_send, parcel);
    }
    pthread_mutex_unlock(&deliver->lock);
    if (count > 0) {
        clerk->after = deliveries[count - 1].endpoint;
        uv_async_send(&deliver->wake_post);
    }
}

/*
 * Endpoints that fail get at most half of all connections: they are the slow ones. A claim that finds
 * less than it asked for has looked at every endpoint; the next one is no sooner than twice the time
 * that this took, so that however many there are, claims keep the server busy for a third of its time.
 */
static enum err claim(struct deliver *deliver)
{
    struct clerk *clerk = &deliver->clerk;
    uint64_t began_ns = clock_mono_ns(), ended_ns;
    struct outbox_claim claim = {
        .limit = room_of(deliver),
        .lease_ms = lease_ms(deliver),
        .after = clerk->after,
        .break_after = DELIVERY_BREAK_AFTER,
        .failing = 2 * clerk->out_failing <= deliver->options.webhook->connections,
    };
    struct outbox_delivery *deliveries;
    struct arena arena = {0};
    uint32_t count = 0;
    enum err rc = FAILPOINT_CALL("webhook.claimed", ERR_DATABASE,
                                 outbox_claim(clerk->db, &claim, &arena, &deliveries, &count));

    ended_ns = clock_mono_ns();
    if (!rc)
        hand_over(deliver, deliveries, count);
    arena_release(&arena);
    clerk->claim_not_before_ns = ended_ns + 2 * (ended_ns - began_ns);
    clerk->claim_ns = ended_ns + ns_of(POLL_MS);
    if (count >= claim.limit)
        clerk->claim_ns = clerk->claim_not_before_ns = ended_ns;
    return rc;
}

/* For the metrics; and what disabled endpoints were owed goes, a piece at a time. */
static enum err take_sight(struct clerk *clerk)
{
    struct outbox_sight sight;
    uint64_t dropped = 0;
    enum err rc = outbox_drop(clerk->db, DROP_MAX, &dropped);

    metrics_add(METRIC_WEBHOOK_DROPPED, 0, dropped);
    if (!rc && dropped < DROP_MAX) {
        rc = outbox_look(clerk->db, &sight);
        clerk->sight_ns = clock_mono_ns() + ns_of(SIGHT_MS);
    }
    if (rc || dropped >= DROP_MAX)
        return rc;
    metrics_set(METRIC_WEBHOOK_PENDING, 0, (int64_t)sight.pending);
    metrics_set(METRIC_WEBHOOK_OLDEST, 0, (int64_t)ns_of(sight.oldest_ms));
    metrics_set(METRIC_WEBHOOK_ENDPOINTS, WEBHOOK_RESTING, (int64_t)sight.resting);
    metrics_set(METRIC_WEBHOOK_ENDPOINTS, WEBHOOK_DISABLED, (int64_t)sight.disabled);
    return ERR_OK;
}

/* ----------------------------------------------------------------------------------- the round ---- */

static enum err connect_again(struct deliver *deliver)
{
    struct clerk *clerk = &deliver->clerk;
    enum err rc;

    if (clerk->db && db_is_open(clerk->db))
        return ERR_OK;
    rc = clerk->db ? db_reopen(clerk->db) : db_open(&deliver->options.db, &clerk->db);
    if (!rc)
        rc = migrate_check(clerk->db);
    return rc ? rc : db_listen(clerk->db, "mserve_webhooks");
}

static bool is_draining(const struct clerk *clerk)
{
    return clerk->drain_until_ns != 0;
}

/* Whether somebody wrote an event. What goes wrong here the next statement sees. */
static void hear(struct clerk *clerk, uint32_t timeout_ms)
{
    bool heard = false;

    if (!db_wait_notice(clerk->db, timeout_ms, &heard) && heard)
        clerk->claim_ns = earlier(clerk->claim_ns, clerk->claim_not_before_ns);
}

static enum err make_round(struct deliver *deliver)
{
    struct clerk *clerk = &deliver->clerk;
    enum err rc;

    take_ended(deliver);
    rc = connect_again(deliver);
    if (!rc)
        rc = record(clerk);
    if (!rc)
        hear(clerk, 0); /* what came with the answers to queries */
    if (!rc && !is_draining(clerk) && room_of(deliver) > 0 && clock_mono_ns() >= clerk->claim_ns)
        rc = claim(deliver);
    if (!rc && !is_draining(clerk) && clock_mono_ns() >= clerk->sight_ns)
        rc = take_sight(clerk);
    return rc == ERR_AGAIN ? ERR_OK : rc; /* a lock was busy: the next round */
}

static void show(struct deliver *deliver, enum err rc)
{
    uint64_t now_ns = clock_mono_ns();

    metrics_set(METRIC_WEBHOOK_SENDING, 0, deliver->clerk.out);
    metrics_set(METRIC_WEBHOOK_UNRECORDED, 0, deliver->clerk.ended.count);
    if (!rc)
        atomic_store(&deliver->good_ns, now_ns);
    atomic_store(&deliver->last, (int)rc);
    atomic_store(&deliver->moved_ns, now_ns);
}

/* Until a parcel comes back, or it is time; 0: there is work now. */
static uint64_t pause_ns(const struct deliver *deliver, uint64_t now_ns)
{
    const struct clerk *clerk = &deliver->clerk;
    uint64_t until_ns = earlier(clerk->sight_ns, now_ns + ns_of(POLL_MS));

    if (is_draining(clerk))
        until_ns = clerk->drain_until_ns;
    else if (room_of(deliver) > 0)
        until_ns = earlier(until_ns, clerk->claim_ns);
    return until_ns > now_ns ? until_ns - now_ns : 0;
}

static void wait_for_work(struct deliver *deliver, uint64_t pause)
{
    struct clerk *clerk = &deliver->clerk;
    struct pollfd fds[] = {
        {.fd = deliver->wake_clerk, .events = POLLIN},
        {.fd = clerk->db ? db_socket(clerk->db) : -1, .events = POLLIN}, /* -1 is passed over */
    };
    struct timespec timeout = {(time_t)(pause / CLOCK_NS_PER_S), (long)(pause % CLOCK_NS_PER_S)};
    uint64_t count;

    if (ppoll(fds, 2, &timeout, NULL) <= 0)
        return;
    if (fds[0].revents && read(deliver->wake_clerk, &count, sizeof(count)) < 0)
        log_debug("webhook.wake", "why=\"nothing there\"");
    if (fds[1].revents)
        hear(clerk, 1);
}

/* What is under way may take a moment yet; then the loop is told to let go. */
static bool is_done(struct deliver *deliver, uint64_t now_ns)
{
    struct clerk *clerk = &deliver->clerk;

    if (!is_draining(clerk)) {
        if (!atomic_load(&deliver->is_stopping))
            return false;
        clerk->drain_until_ns = now_ns + ns_of(DRAIN_MS);
    }
    if (clerk->out == 0)
        return true;
    if (now_ns < clerk->drain_until_ns)
        return false;
    if (atomic_load(&deliver->is_abandoned))
        return true;
    atomic_store(&deliver->is_abandoned, true);
    uv_async_send(&deliver->wake_post);
    clerk->drain_until_ns = now_ns + ns_of(ABANDON_MS);
    return false;
}

void *clerk_run(void *arg)
{
    struct deliver *deliver = arg;
    struct clerk *clerk = &deliver->clerk;
    enum err rc = ERR_OK;

    clerk->retry = (struct backoff){.min_ms = RETRY_MS_MIN, .max_ms = RETRY_MS_MAX};
    while (!is_done(deliver, clock_mono_ns())) {
        atomic_store(&deliver->moved_ns, clock_mono_ns());
        rc = make_round(deliver);
        show(deliver, rc);
        if (!rc)
            backoff_reset(&clerk->retry);
        wait_for_work(deliver,
                      rc ? ns_of(backoff_next(&clerk->retry)) : pause_ns(deliver, clock_mono_ns()));
    }
    make_round(deliver); /* what came last; where the server is away, leases end by themselves */
    db_close(clerk->db);
    clerk->db = NULL;
    return NULL;
}
