/* scheduler_main.c: the program mserve-scheduler: rounds until SIGTERM. */
#include "config/backoff.h"
#include "config/clock.h"
#include "config/failpoint.h"
#include "config/log.h"
#include "config/options.h"
#include "config/settings.h"
#include "config/streams.h"
#include "scheduler/deliver.h"
#include "scheduler/scheduler.h"
#include "scheduler/scheduler_health.h"

#include <signal.h>
#include <time.h>

enum { RETRY_MS_MIN = 500, RETRY_MS_MAX = 10000, DELTAS_MAX = 250000 };

static const char *config_path;

static const struct option rows[] = {
    {"config", 'c', OPTION_PATH, "FILE", &config_path,
     .sentence = "The settings; without it $MSERVE_CONFIG, ./config/mserve.yaml or "
                 "/etc/mserve/mserve.yaml."},
};

static const struct options_command command = {
    .name = "mserve-scheduler",
    .summary =
        "Folds progress into jobs, ends what passed its window, buries workers that are gone, and "
        "delivers webhooks.",
    .details = "Any number may run; one at a time does the work, and all deliver webhooks. SIGTERM "
               "and SIGINT end it.",
    .row = rows,
    .row_count = sizeof(rows) / sizeof(rows[0]),
};

static sigset_t signals;
static bool stopped;

/* The signals are blocked and taken here: nothing is ever interrupted half way. */
static void pause_ms(uint64_t ms)
{
    struct timespec timeout = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};

    if (!stopped && sigtimedwait(&signals, NULL, &timeout) > 0)
        stopped = true;
}

static bool stop(void)
{
    pause_ms(0);
    return stopped;
}

static struct scheduler_options options_of(const struct settings *settings)
{
    return (struct scheduler_options){
        .db = {.dsn = settings->postgres.dsn,
               .password = settings->postgres.password,
               .application_name = "mserve-scheduler",
               .reply_timeout_ms = 25000, /* a silence in which another could do the work */
               .statement_timeout_ms = 20000,
               .lock_timeout_ms = 2000,
               .idle_in_transaction_timeout_ms = 15000},
        .interval_ms = settings->scheduler.fold_interval_ms,
        .abandoned_after_ms = settings->submit.upload_abandoned_after_ms,
        .deltas_max = DELTAS_MAX, /* 0.5 to 2 s; the time-out is 20 s */
        .lease_ms = settings->worker.lease_ms,
        .currency = settings->worker.currency,
    };
}

/* A server that is away is waited for, with longer and longer pauses; all else ends the program. */
static enum err serve(const struct scheduler_options *options, struct scheduler_health *health)
{
    struct scheduler *scheduler = NULL;
    struct backoff retry = {.min_ms = RETRY_MS_MIN, .max_ms = RETRY_MS_MAX};
    enum err rc = ERR_OK;

    while (!stop()) {
        scheduler_health_begin(health, clock_mono_ns());
        rc = scheduler ? scheduler_round(scheduler, stop) : scheduler_open(options, &scheduler);
        scheduler_health_end(health, clock_mono_ns(), rc);
        if (rc && rc != ERR_DATABASE)
            break;
        pause_ms(rc ? backoff_next(&retry) : options->interval_ms);
        if (!rc)
            backoff_reset(&retry);
    }
    scheduler_close(scheduler);
    return stopped ? ERR_OK : rc;
}

/* Deliveries beside the rounds. */
static enum err run(const struct settings *settings, struct scheduler_health *health)
{
    struct scheduler_options options = options_of(settings);
    struct deliver_options delivering = {.db = options.db, .webhook = &settings->webhook};
    struct deliver *deliver = NULL;
    enum err rc;

    delivering.db.application_name = "mserve-webhooks";
    rc = deliver_start(&delivering, &deliver);
    if (rc)
        return rc;
    scheduler_health_deliver(health, deliver);
    rc = serve(&options, health);
    scheduler_health_deliver(health, NULL);
    deliver_stop(deliver);
    return rc;
}

int main(int argc, char **argv)
{
    struct scheduler_health *health = NULL;
    struct settings *settings;
    struct options_rest rest;
    enum err rc;

    streams_open();
    log_init("mserve-scheduler", LOG_INFO, LOG_LOGFMT, true); /* until the settings say how */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    rc = options_parse(NULL, &command, argc, argv, &rest);
    if (rc || rest.served)
        return err_exit_status(rc ? rc : streams_flush());
    rc = FAILPOINTS_START("mserve-scheduler");
    if (!rc)
        rc = settings_load(config_path, &settings);
    if (rc)
        return err_exit_status(rc);
    settings_log_init(settings, "mserve-scheduler", false);
    log_info("scheduler.started", "interval_ms=%lu",
             (unsigned long)settings->scheduler.fold_interval_ms);
    rc = scheduler_health_open(settings->scheduler.http, &health);
    if (!rc)
        rc = run(settings, health);
    scheduler_health_close(health);
    log_info("scheduler.ended", "code=%s", err_name(rc));
    settings_free(settings);
    return err_exit_status(rc);
}
