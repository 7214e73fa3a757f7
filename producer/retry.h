/*
 * retry.h: a new job of the lines of one that has ended which failed, expired or were cancelled.
 *
 * The lines are read back from the log, or from the file that the first job of the chain was made of,
 * and put into a file without a name, byte for byte the same each time; from there on they are
 * submitted like any file (submit.h), under a key that is made of the old job and the numbers of the
 * lines. So the same command again, killed at any moment, goes on with the same job or shows it.
 */
#ifndef MSERVE_PRODUCER_RETRY_H
#define MSERVE_PRODUCER_RETRY_H

#include "producer/cli.h"

#include <stdbool.h>

/* As typed; NULL where nothing was. */
struct retry_options {
    const char *job;
    const char *file;     /* read instead of the log */
    const char *statuses; /* "failed,expired,cancelled" */
    const char *tier;     /* these three: else as the old job */
    const char *window;
    const char *priority;
    bool wait;
    const char *output;
    bool dry_run;
    bool json;
};

/* `cli` is connected. What the job became is the return value, as of submit_run(). */
enum err retry_run(struct cli *cli, const struct retry_options *options);

#endif
