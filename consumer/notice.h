/*
 * notice.h: looks for notices that this machine goes away, where worker.notices says: the metadata
 * services of the clouds, and a file.
 *
 * A service that was never heard of is said to be absent, once and quietly, and asked less often; one
 * that answered before and does not any more is warned of, once, and asked as before.
 *
 * THREADS The loop's. on_notice is called each time that a notice is seen, so as a rule many times.
 */
#ifndef MSERVE_CONSUMER_NOTICE_H
#define MSERVE_CONSUMER_NOTICE_H

#include <uv.h>

#include "config/errors.h"
#include "config/settings.h"
#include "consumer/notice_parse.h"

struct notices_options {
    const struct settings_worker *settings; /* borrowed, as is the loop */
    uv_loop_t *loop;
    void (*on_notice)(void *context, const char *source, const struct notice *notice);
    void *context;
};

struct notices;

/* Begins when the loop runs. */
enum err notices_open(const struct notices_options *options, struct notices **ret);

/*
 * This machine may go now: tells those who wait for it (azure), and waits up to two seconds for
 * their answer. Nothing where no notice was seen.
 */
void notices_acknowledge(struct notices *notices);

/* The loop must run once more to free all. NULL is allowed. */
void notices_close(struct notices *notices);

#endif
