/*
 * worker.h: one worker: a device, its threads, and the control loop that leases, claims, chooses and
 * leaves.
 *
 * THREADS, each the only owner of what it works on; between them mailboxes and gauges:
 *   control   this one, a libuv loop: registers, renews the lease, claims and hands back partitions,
 *             buries others, asks for wishes, chooses chunks, drains           (worker.c)
 *   intake    reads the chosen ranges of the log and makes tasks               (intake.h)
 *   device    runs them                                                        (device_loop.h)
 *   commit    writes rows and books                                            (committer.h)
 */
#ifndef MSERVE_CONSUMER_WORKER_H
#define MSERVE_CONSUMER_WORKER_H

#include "config/errors.h"
#include "config/settings.h"
#include "consumer/placement.h"
#include "kernels/engine.h"

struct recorder;

struct worker_options {
    const struct settings *settings;
    const struct settings_tier *tier;
    const char *name;                  /* NULL or "": worker.name, else the host's */
    struct recorder *recorder;         /* what it is at is written there; NULL: nowhere */
    const struct placement *placement; /* its GPU; NULL: it has none */
    uint64_t kv_tokens;                /* of a plan for several tiers; 0: the tier's */
};

/* What the engine of a tier is opened with; `gpu` and texts of the settings are borrowed. */
struct engine_options worker_engine_options(const struct settings *settings,
                                            const struct settings_tier *tier, const char *gpu,
                                            uint64_t kv_tokens);

/*
 * Runs until SIGTERM or SIGINT, or until it cannot go on. ERR_OK after a drain in good order. A second
 * signal, and a drain that takes longer than worker.drain, end the process at once with status 12.
 */
enum err worker_run(const struct worker_options *options);

#endif
