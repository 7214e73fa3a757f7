/*
 * placement.h: which GPU a worker has. Two workers of a machine never have one by accident: each holds
 * a lock on a file of the card's name, for as long as one of its processes lives.
 *
 * The file says in a line who has the card ("taken PID"), or since when it is sick and of what
 * ("sick MS REASON", milliseconds since 1970). A sick card is left alone for worker.gpu_rest; whoever
 * has reset it removes the file.
 */
#ifndef MSERVE_CONSUMER_PLACEMENT_H
#define MSERVE_CONSUMER_PLACEMENT_H

#include "config/errors.h"
#include "config/settings.h"
#include "kernels/gpu.h"

#include <stdbool.h>
#include <stdint.h>

struct placement {
    bool has_card; /* false: the backend wants none, or there is none */
    struct gpu_card card;
    uint32_t index;
    int fd;                 /* the lock */
    char why[GPU_WHY_SIZE]; /* there is none: why */
};

/*
 * Chooses and locks the card that worker.gpu means, else the first that is free and well. Before any
 * thread is made. ERR_SETTINGS, ERR_DEVICE, logged with the list of cards: no such card, none free.
 * Where there is no card at all it is ERR_OK, and the engine says what runs instead.
 */
enum err placement_take(const struct settings_worker *settings, const char *backend,
                        struct placement *ret);

/* From any process that inherited it. Best effort: a card that could not be marked is warned of. */
void placement_mark_sick(const struct placement *placement, const char *reason, uint64_t now_ms);

/* Of this process; others keep the card. An empty one is allowed. */
void placement_release(struct placement *placement);

/* ------------------------------------------------------------- the decisions, for tests as well ---- */

/*
 * The number of the card that `wish` means: a number, a UUID or the beginning of one, with or without
 * "GPU-". False: none or several do.
 */
bool placement_find(const struct gpu_cards *cards, const char *wish, uint32_t *ret);

/* The same, of a list that is known, and at a given time. */
enum err placement_choose(const struct settings_worker *settings, const struct gpu_cards *cards,
                          uint64_t now_ms, struct placement *ret);

/*
 * Runs work(context) in a process of its own and waits; `shared` bytes at `context` are the same for
 * both. False: it did not end by returning.
 */
bool placement_apart(void (*work)(void *context), void *context);

/* Memory that placement_apart() shows to both, zeros; NULL: there is none. */
void *placement_shared(size_t bytes);
void placement_unshare(void *at, size_t bytes);

#endif
