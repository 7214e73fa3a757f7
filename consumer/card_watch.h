/*
 * card_watch.h: a thread that asks the driver once a second how the worker's card is, shows what it
 * says as metrics, and tells once when the card is sick. A card that is falling off its bus may let it
 * wait; nobody waits for it but the end of the process.
 */
#ifndef MSERVE_CONSUMER_CARD_WATCH_H
#define MSERVE_CONSUMER_CARD_WATCH_H

#include "config/errors.h"
#include "kernels/gpu.h"

struct card_watch;

struct card_watch_options {
    const char *backend; /* these two are borrowed */
    const struct gpu_card *card;
    void (*on_sick)(void *context); /* from the thread, once */
    void *context;
};

/* Where the driver tells nothing of the card that is said in the log, and nothing is watched. */
enum err card_watch_start(const struct card_watch_options *options, struct card_watch **ret);

/* Of a sick card, in words; "" while it is well. Any thread. NULL, no watch, is well. */
const char *card_watch_reason(const struct card_watch *watch);

void card_watch_stop(struct card_watch *watch); /* NULL is allowed */

#endif
