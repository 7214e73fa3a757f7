/* worker_main.c: the program mserve-worker: its command line, and then the guard around worker_run(). */
#include <stdio.h>
#include <string.h>

#include "config/failpoint.h"
#include "config/log.h"
#include "config/options.h"
#include "config/settings.h"
#include "config/streams.h"
#include "consumer/crew.h"
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
     .sentence = "A tier to serve; without it those of worker.tiers, or the only one in the "
                 "settings. Given more than once: all of them on one device, a process each."},
    {"name", 'n', OPTION_TEXT, "NAME", &given.name,
     .sentence = "What the worker is called in tables and logs; without it worker.name, or the "
                 "host's name."},
};

static const struct options_command command = {
    .name = "mserve-worker",
    .summary = "Runs the requests of model tiers on this machine's device.",
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

static enum err add_tier(struct crew *crew, const char *name)
{
    const struct settings_tier *tier = settings_tier_find(crew->settings, name);
    char why[128];

    snprintf(why, sizeof(why), "there is no tier \"%.80s\"", name);
    if (!tier)
        return refuse_tier(crew->settings, why);
    for (uint32_t i = 0; i < crew->count; i++)
        if (crew->tier[i] == tier)
            return fail(ERR_USAGE, "tier \"%s\" is to be served twice", name);
    crew->tier[crew->count++] = tier;
    return ERR_OK;
}

static enum err find_tiers(struct crew *crew)
{
    const struct settings *settings = crew->settings;
    const struct settings_list *list = &settings->worker.tiers;
    enum err err = ERR_OK;

    for (uint32_t i = 0; i < given.tier.count && !err; i++)
        err = add_tier(crew, given.tier.item[i]);
    for (uint32_t i = 0; i < list->count && !err && given.tier.count == 0; i++)
        err = add_tier(crew, list->item[i]);
    if (err || crew->count > 0)
        return err;
    if (settings->tier_count != 1)
        return refuse_tier(settings, "--tier must say which tier to serve");
    crew->tier[crew->count++] = settings->tier;
    return ERR_OK;
}

/* The backend for which a card is chosen; tiers that want one must want the same. */
static enum err find_backend(const struct crew *crew, const char **ret)
{
    *ret = crew->tier[0]->backend;
    for (uint32_t i = 0; i < crew->count; i++) {
        const char *backend = crew->tier[i]->backend;

        if (!gpu_is_backend(backend))
            continue;
        if (gpu_is_backend(*ret) && strcmp(*ret, backend) != 0)
            return fail(ERR_SETTINGS, "tiers of one worker want different backends: %s and %s",
                        *ret, backend);
        *ret = backend;
    }
    return ERR_OK;
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

/* One tier, with the settings that are its own. */
static int serve_tier(const struct crew *crew, uint32_t index, const struct settings *settings,
                      const char *name)
{
    const struct settings_tier *tier = crew->tier[index];
    struct worker_options options = {
        .settings = settings,
        .tier = tier,
        .name = name,
        .placement = gpu_is_backend(tier->backend) ? crew->placement : NULL,
        .kv_tokens = crew->kv_tokens[index],
    };
    enum err err = recorder_open(settings->worker.recorder,
                                 recorder_slots(tier->sequences_max, settings->worker.commit_rows),
                                 &options.recorder);
    int status = err ? err_exit_status(err) : run_guarded(&options);

    recorder_close(options.recorder);
    return status;
}

static int serve_member(void *context, uint32_t index)
{
    const struct crew *crew = context;
    struct settings settings;
    const char *name;
    int status;

    crew_settings(crew, index, &settings, &name);
    status = serve_tier(crew, index, &settings, name);
    crew_forget_settings(&settings);
    return status;
}

static int serve(void)
{
    struct placement placement = {.fd = -1};
    struct crew crew = {.name = given.name, .placement = &placement};
    struct settings *settings;
    const char *backend;
    enum err err = settings_load(given.config, &settings);
    int status;

    if (err)
        return err_exit_status(err);
    settings_log_init(settings, "mserve-worker", false);
    crew.settings = settings;
    err = find_tiers(&crew);
    if (!err)
        err = find_backend(&crew, &backend);
    if (!err)
        err = placement_take(&settings->worker, backend, &placement);
    if (!err)
        err = crew_plan(&crew);
    if (err)
        status = err_exit_status(err);
    else if (crew.count == 1)
        status = serve_tier(&crew, 0, settings, given.name);
    else
        status = crew_run(&crew, serve_member, &crew);
    placement_release(&placement);
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
