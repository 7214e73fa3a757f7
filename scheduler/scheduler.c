/* scheduler.c: one round after the other. */
#include "scheduler/scheduler.h"

#include "config/clock.h"
#include "config/failpoint.h"
#include "config/log.h"
#include "config/metrics.h"
#include "scheduler/sweep.h"
#include "sql/lease.h"
#include "sql/migrate.h"
#include "sql/queries.h"

#include <stdlib.h>
#include <string.h>

enum { FOLDING_MS_MAX = 10000, SIGHT_MS = 5000, AHEAD_MS = 600000 };

struct scheduler {
    struct scheduler_options options;
    struct db *db;
    uint64_t sighted_ns; /* when the queue was last looked at, for the metrics */
    int64_t oldest;      /* delta then; 0: none */
    uint64_t oldest_ns;  /* since when it is seen */
    uint64_t ahead_ns;   /* when partitions of the months to come were last seen to; 0: never */
};

enum err scheduler_open(const struct scheduler_options *options, struct scheduler **ret)
{
    struct scheduler *scheduler = xcalloc(1, sizeof(*scheduler));
    enum err rc;

    scheduler->options = *options;
    rc = db_open(&options->db, &scheduler->db);
    if (!rc)
        rc = migrate_check(scheduler->db);
    if (rc) {
        scheduler_close(scheduler);
        return rc;
    }
    *ret = scheduler;
    return ERR_OK;
}

void scheduler_close(struct scheduler *scheduler)
{
    if (!scheduler)
        return;
    db_close(scheduler->db);
    free(scheduler);
}

/* In whichever state an event says that a job is now. */
static void count_event(const char *event, const char *state)
{
    if (strcmp(event, "ended") == 0)
        metrics_add(METRIC_JOBS_ENDED,
                    strcmp(state, "completed") == 0 ? ENDED_COMPLETED
                    : strcmp(state, "expired") == 0 ? ENDED_EXPIRED
                                                    : ENDED_CANCELLED,
                    1);
    else if (strcmp(event, "expire") == 0)
        metrics_add(METRIC_JOBS_TIMED_OUT, TIMED_OUT_WINDOW, 1);
    else if (strcmp(event, "abandon") == 0)
        metrics_add(METRIC_JOBS_TIMED_OUT, TIMED_OUT_UPLOAD, 1);
}

static void log_event(const struct db_result *events, int row)
{
    struct slice event = db_get_slice(events, row, 0);
    struct slice state = db_get_slice(events, row, 2);
    char id[UUID_BATCH_SIZE];

    count_event(event.data, state.data);
    uuid_format_batch(db_get_uuid(events, row, 1), id);
    if (strcmp(event.data, "stuck") == 0)
        log_error("job.stuck", "job=%s why=\"its counts would not fit; see ledger_check\"", id);
    else if (strcmp(event.data, "ended") == 0)
        log_info("job.ended", "job=%s state=%s", id, state.data);
    else
        log_info("job.timed_out", "job=%s what=%s state=%s", id, event.data, state.data);
}

static bool is_event(const struct db_result *events, int row, const char *event)
{
    return row >= 0 && strcmp(db_get_slice(events, row, 0).data, event) == 0;
}

/* *ret_active is false when another scheduler is at it; *ret_more: it is to be called again. */
static enum err tick(struct scheduler *scheduler, bool *ret_active, bool *ret_more)
{
    struct db_result events = {0};
    int64_t stuck = 0;
    enum err rc;

    DB_FAILPOINTS_INSIDE(scheduler->db, "deltas.deleted", "");
    rc = FAILPOINT_CALL("fold.committed", ERR_DATABASE,
                        db_exec(scheduler->db, QUERY_SCHEDULER_TICK,
                                DB_PARAMS(db_i64((int64_t)scheduler->options.abandoned_after_ms),
                                          db_i64((int64_t)scheduler->options.deltas_max)),
                                &events));
    if (rc)
        return rc;
    *ret_active = !is_event(&events, events.rows - 1, "standby");
    *ret_more = is_event(&events, events.rows - 1, "more");
    for (int row = 0; *ret_active && row < events.rows - (int)*ret_more; row++) {
        log_event(&events, row);
        stuck += is_event(&events, row, "stuck");
    }
    metrics_set(METRIC_JOBS_STUCK, 0, stuck);
    metrics_add(METRIC_FOLDS, 0, *ret_active);
    db_result_release(&events);
    return ERR_OK;
}

/* Each a transaction of its own: what was folded stays so when a later one fails. */
static enum err tick_while_more(struct scheduler *scheduler, bool (*stop)(void), bool *ret_active)
{
    uint64_t end_ns = clock_mono_ns() + FOLDING_MS_MAX * (uint64_t)CLOCK_NS_PER_MS;
    bool more = true;
    enum err rc = ERR_OK;

    while (!rc && more && !(stop && stop()) && clock_mono_ns() < end_ns)
        rc = tick(scheduler, ret_active, &more);
    return rc;
}

/* For the metrics alone: what it cannot see now it sees the next time. */
static void take_sight(struct scheduler *scheduler, uint64_t now_ns)
{
    struct db_result sight = {0};
    int64_t oldest;

    if (now_ns - scheduler->sighted_ns < SIGHT_MS * (uint64_t)CLOCK_NS_PER_MS)
        return;
    scheduler->sighted_ns = now_ns;
    if (db_exec(scheduler->db, QUERY_SCHEDULER_SIGHTS, DB_NO_PARAMS, &sight))
        return;
    metrics_set(METRIC_JOBS, OPEN_VALIDATING, db_get_i64(&sight, 0, 0));
    metrics_set(METRIC_JOBS, OPEN_IN_PROGRESS, db_get_i64(&sight, 0, 1));
    metrics_set(METRIC_JOBS, OPEN_CANCELLING, db_get_i64(&sight, 0, 2));
    metrics_set(METRIC_DELTAS, 0, db_get_i64(&sight, 0, 3));
    oldest = db_get_i64(&sight, 0, 4);
    if (oldest != scheduler->oldest || oldest == 0)
        scheduler->oldest_ns = now_ns;
    scheduler->oldest = oldest;
    metrics_set(METRIC_DELTAS_AGE, 0, (int64_t)(now_ns - scheduler->oldest_ns));
    db_result_release(&sight);
}

/* Rows find their place without it, too; but only whole months are purged at once. */
static void see_to_months(struct scheduler *scheduler, uint64_t now_ns)
{
    struct db_result said = {0};

    if (scheduler->ahead_ns != 0 &&
        now_ns - scheduler->ahead_ns < AHEAD_MS * (uint64_t)CLOCK_NS_PER_MS)
        return;
    scheduler->ahead_ns = now_ns;
    if (db_exec(scheduler->db, QUERY_SCHEDULER_AHEAD, DB_NO_PARAMS, &said))
        return;
    if (!db_is_null(&said, 0, 0))
        log_debug("months.ahead", "msg=\"%s\"", db_get_slice(&said, 0, 0).data);
    db_result_release(&said);
}

enum err scheduler_round(struct scheduler *scheduler, bool (*stop)(void))
{
    const struct scheduler_options *options = &scheduler->options;
    struct sweep_options sweep = {options->db, options->lease_ms, options->currency};
    uint64_t swept = 0;
    bool active = false;
    enum err rc = ERR_OK;

    if (!db_is_open(scheduler->db)) {
        rc = db_reopen(scheduler->db);
        if (!rc)
            rc = migrate_check(scheduler->db);
    }
    if (!rc)
        rc = tick_while_more(scheduler, stop, &active);
    metrics_set(METRIC_ACTIVE, 0, active);
    if (!rc)
        take_sight(scheduler, clock_mono_ns());
    if (!rc && active)
        see_to_months(scheduler, clock_mono_ns());
    if (!rc && active)
        rc = lease_bury_expired(scheduler->db, NULL);
    if (!rc && active) {
        rc = sweep_run(scheduler->db, &sweep, stop, &swept);
        metrics_add(METRIC_SWEPT_ROWS, 0, swept);
        if (rc == ERR_REJECTED || rc == ERR_INTERNAL)
            rc = ERR_OK; /* logged; one chunk that cannot be swept must not stop the folding */
    }
    return rc == ERR_AGAIN ? ERR_OK : rc; /* a lock was busy: the next round */
}
