/* worker_main.c: the program mserve-worker: its command line, and then the guard around worker_run(). */
#include <stdio.h>
#include <string.h>

#include "config/failpoint.h"
#include "config/log.h"
#include "config/options.h"
#include "config/settings.h"
#include "config/streams.h"
#include "consumer/guard.h"
#include "consumer/recorder.h"
#include "consumer/worker.h"

static struct {
    const char *config;
    const char *name;
    struct option_list tier;
} given;

static const struct option rows[] = {
    {"config", 'c', OPTION_PATH, "FILE", &given.config,
     .sentence = "The settings; without it $MSERVE_CONFIG, ./config/mserve.yaml or "
                 "/etc/mserve/mserve.yaml."},
    {"tier", 't', OPTION_LIST, "NAME", &given.tier,
     .sentence = "The tier to serve; without it the only one in the settings."},
    {"name", 'n', OPTION_TEXT, "NAME", &given.name,
     .sentence = "What the worker is called in tables and logs; without it worker.name, or the "
                 "host's name."},
};

static const struct options_command command = {
    .name = "mserve-worker",
    .summary = "Runs the requests of a model tier on this machine's device.",
    .details = "SIGTERM and SIGINT let it leave in good order, within worker.drain; a second\n"
               "signal ends it at once.",
    .row = rows,
    .row_count = sizeof rows / sizeof rows[0],
};

/* Ends with what there is to choose from. */
static enum err refuse_tier(const struct settings *settings, const char *why)
{
    struct buffer names = {0};

    for (uint32_t i = 0; i < settings->tier_count; i++)
        buffer_printf(&names, "%s%s", i > 0 ? ", " : ": ", settings->tier[i].name);
    fail(ERR_USAGE, "%s; the settings have %s%s", why, names.len > 0 ? "these tiers" : "no tiers",
         names.len > 0 ? names.data : "");
    buffer_release(&names);
    return ERR_USAGE;
}

static enum err find_tier(const struct settings *settings, const struct settings_tier **ret)
{
    char why[128];

    if (given.tier.count > 1)
        return fail(ERR_USAGE,
                    "this version serves one tier with one worker; start another "
                    "worker for \"%s\"",
                    given.tier.item[1]);
    if (given.tier.count == 0 && settings->tier_count != 1)
        return refuse_tier(settings, "--tier must say which tier to serve");
    *ret = given.tier.count ? settings_tier_find(settings, given.tier.item[0]) : settings->tier;
    snprintf(why, sizeof(why), "there is no tier \"%.80s\"",
             given.tier.count ? given.tier.item[0] : "");
    return *ret ? ERR_OK : refuse_tier(settings, why);
}

static int work(void *context)
{
    return err_exit_status(worker_run(context));
}

/* With a guard this forks, and what is behind it happens in the parent and in each child. */
static int run_guarded(const struct worker_options *options)
{
    const struct guard_options guard = {
        .settings = options->settings,
        .recorder = options->recorder,
        .work = work,
        .context = (void *)options,
    };

    return strcmp(options->settings->worker.guard, "on") == 0 ? guard_run(&guard)
                                                              : work(guard.context);
}

static int serve(void)
{
    struct worker_options options = {.name = given.name};
    struct settings *settings;
    enum err err = settings_load(given.config, &settings);
    int status;

    if (err)
        return err_exit_status(err);
    settings_log_init(settings, "mserve-worker", false);
    options.settings = settings;
    err = find_tier(settings, &options.tier);
    if (!err)
        err =
            recorder_open(settings->worker.recorder,
                          recorder_slots(options.tier->sequences_max, settings->worker.commit_rows),
                          &options.recorder);
    status = err ? err_exit_status(err) : run_guarded(&options);
    recorder_close(options.recorder);
    settings_free(settings);
    return status;
}

int main(int argc, char **argv)
{
    struct options_rest rest;
    enum err err;

    streams_open();
    log_init("mserve-worker", LOG_INFO, LOG_LOGFMT, true); /* until the settings say how */
    err = options_parse(NULL, &command, argc, argv, &rest);
    if (err || rest.served)
        return err_exit_status(err ? err : streams_flush());
    err = FAILPOINTS_START("mserve-worker");
    return err ? err_exit_status(err) : serve();
}
