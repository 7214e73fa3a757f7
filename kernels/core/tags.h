/*
 * tags.h: from a request's tag to its sequence, for engine_cancel(). Open addressing at most half
 * full, sized once.
 */
#ifndef MSERVE_KERNELS_CORE_TAGS_H
#define MSERVE_KERNELS_CORE_TAGS_H

#include <stdint.h>

struct sequence;

struct tags {
    struct tag_entry *entries;
    uint32_t mask;
};

/* `len_max`: entries at most. */
void tags_init(struct tags *tags, uint32_t len_max);
void tags_release(struct tags *tags);

/* The tag must not be there yet. */
void tags_add(struct tags *tags, uint64_t tag, struct sequence *sequence);
void tags_drop(struct tags *tags, uint64_t tag);

/* NULL when there is none. */
struct sequence *tags_find(const struct tags *tags, uint64_t tag);

#endif
