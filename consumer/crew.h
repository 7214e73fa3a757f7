/*
 * crew.h: several tiers on one device: a worker a tier, each a process with a guard, a row, a lease
 * and books of its own, under one process that starts them after one plan of the card's memory.
 *
 * SIGTERM, SIGINT and SIGUSR1 are passed on to all. A worker that ends with another status than 0 is
 * the end of the others too: they are told to leave, and its status is the crew's. One that left in
 * good order, because an operator wanted it, leaves the others at work.
 */
#ifndef MSERVE_CONSUMER_CREW_H
#define MSERVE_CONSUMER_CREW_H

#include "config/errors.h"
#include "config/settings.h"
#include "consumer/placement.h"

#include <stdint.h>

struct crew {
    const struct settings *settings;
    const char *name; /* --name, or NULL */
    struct placement *placement;
    const struct settings_tier *tier[SETTINGS_TIERS_MAX];
    uint64_t kv_tokens[SETTINGS_TIERS_MAX]; /* from the plan; 0: as the tier says */
    uint32_t count;
};

/*
 * Where several tiers have one card: adds up what they take of it and sets kv_tokens. The plan goes to
 * the log, a line a tier. ERR_SETTINGS, with the same lines: it does not fit.
 */
enum err crew_plan(struct crew *crew);

/*
 * The settings of one member, and its name: worker.name with the tier's behind it; its part of the
 * prices by gpu_share; a recorder file of its own; of a stated port of worker.http the one that is
 * `index` higher. Texts are of ret's arena: settings of a member are released with
 * crew_forget_settings().
 */
void crew_settings(const struct crew *crew, uint32_t index, struct settings *ret,
                   const char **ret_name);
void crew_forget_settings(struct settings *settings);

/*
 * Forks once a tier. Returns twice and more: in each child what work(context, index) returned, in the
 * parent the exit status of the program. Before any thread is made.
 */
int crew_run(const struct crew *crew, int (*work)(void *context, uint32_t index), void *context);

#endif
