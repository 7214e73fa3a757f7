/* tags.c: linear probing; a dropped entry's followers move up, so there are no tombstones. */
#include "kernels/core/tags.h"

#include <assert.h>
#include <stdlib.h>

#include "config/buffer.h"

struct tag_entry {
    uint64_t tag;
    struct sequence *sequence; /* NULL: empty */
};

void tags_init(struct tags *tags, uint32_t len_max)
{
    uint64_t size = 16;

    while (size < 2 * (uint64_t)len_max)
        size *= 2;
    assert(size <= UINT32_MAX);
    tags->entries = xcalloc(size, sizeof(*tags->entries));
    tags->mask = (uint32_t)size - 1;
}

void tags_release(struct tags *tags)
{
    free(tags->entries);
    *tags = (struct tags){0};
}

static uint32_t home(const struct tags *tags, uint64_t tag)
{
    return (uint32_t)(tag * 0x9e3779b97f4a7c15ull >> 32) & tags->mask;
}

/* Where the tag is, or the empty entry where it would go. */
static uint32_t find(const struct tags *tags, uint64_t tag)
{
    uint32_t at = home(tags, tag);

    while (tags->entries[at].sequence != NULL && tags->entries[at].tag != tag)
        at = (at + 1) & tags->mask;
    return at;
}

void tags_add(struct tags *tags, uint64_t tag, struct sequence *sequence)
{
    struct tag_entry *entry = &tags->entries[find(tags, tag)];

    assert(entry->sequence == NULL);
    *entry = (struct tag_entry){tag, sequence};
}

struct sequence *tags_find(const struct tags *tags, uint64_t tag)
{
    return tags->entries[find(tags, tag)].sequence;
}

void tags_drop(struct tags *tags, uint64_t tag)
{
    uint32_t hole = find(tags, tag);

    assert(tags->entries[hole].sequence != NULL);
    for (uint32_t at = (hole + 1) & tags->mask; tags->entries[at].sequence != NULL;
         at = (at + 1) & tags->mask) {
        const uint32_t from_home = (at - home(tags, tags->entries[at].tag)) & tags->mask;

        if (from_home >= ((at - hole) & tags->mask)) {
            tags->entries[hole] = tags->entries[at];
            hole = at;
        }
    }
    tags->entries[hole] = (struct tag_entry){0};
}
