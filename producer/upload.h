/*
 * upload.h: brings a validated input into the log and its index, and seals the job: from there on
 * it is accepted.
 *
 * Every step may be repeated by anybody who has the same input: chunks that the index has are
 * passed over. So a submitter that was killed is helped by running the same command again, two of
 * them side by side do each other no harm, and a sealed job whose messages Kafka has lost gets just
 * those chunks anew.
 */
#ifndef MSERVE_PRODUCER_UPLOAD_H
#define MSERVE_PRODUCER_UPLOAD_H

#include "config/settings.h"
#include "producer/input.h"
#include "producer/progress.h"
#include "producer/publish.h"
#include "producer/scan.h"
#include "sql/job.h"

struct upload_options {
    const struct settings *settings;
    struct db *db;
    const struct job *job;
    struct input *input;
    const struct scan *scan;
    struct progress *progress;
    /* Connected to the topic of `job`, or NULL: one is made when needed. */
    struct publisher *publisher;
};

/*
 * ERR_LOST, not logged: the job was sealed by another submitter or has ended, look at it.
 * ERR_INTERRUPTED, not logged: by a signal. ERR_BROKER, ERR_DATABASE: the server did not come back
 * within submit.outage_max; what was confirmed stays. Else the errors of db.h, publish.h and input.h.
 * *ret_sent, set in every case: requests that this call wrote into the index.
 */
enum err upload_run(const struct upload_options *options, uint64_t *ret_sent);

#endif
