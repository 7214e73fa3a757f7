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

struct recorder;

struct worker_options {
    const struct settings *settings;
    const struct settings_tier *tier;
    const char *name;          /* NULL or "": worker.name, else the host's */
    struct recorder *recorder; /* what it is at is written there; NULL: nowhere */
};

/*
 * Runs until SIGTERM or SIGINT, or until it cannot go on. ERR_OK after a drain in good order. A second
 * signal, and a drain that takes longer than worker.drain, end the process at once with status 12.
 */
enum err worker_run(const struct worker_options *options);

#endif
