/*
 * tiers.h: which tier answers to which model name, as `mserve topics` registered them.
 *
 * Read-only after loading.
 */
#ifndef MSERVE_PRODUCER_TIERS_H
#define MSERVE_PRODUCER_TIERS_H

#include "producer/line.h"
#include "sql/db.h"

struct tier {
    const char *name;
    const char *topic;
    uint32_t partitions;
    struct line_models models; /* the names it answers to */
};

/* Everything lies in the arena. */
struct tiers {
    struct arena arena;
    struct tier *tier;
    uint32_t count;
    struct line_models all; /* the names of all tiers; its `tier` is "" */
};

enum err tiers_load(struct db *db, struct tiers *ret);
void tiers_release(struct tiers *tiers);

/* The tier of that name; ERR_INPUT with a sentence that names those there are. */
enum err tiers_find(const struct tiers *tiers, const char *name, const struct tier **ret);

/*
 * The tier that answers to a model name. ERR_NOT_FOUND, not logged: none. ERR_INPUT, with a
 * sentence: more than one, so that --tier must say which.
 */
enum err tiers_serving(const struct tiers *tiers, const char *model, const struct tier **ret);

#endif
