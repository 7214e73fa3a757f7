/* group.c: a table of groups, a list of those with time to tell, and a histogram of lengths. */
#include "kernels/core/group.h"

#include <stdlib.h>
#include <string.h>

#include "config/buffer.h"

enum { HEADS_MIN = 64, LENGTHS_FADE = 4096 };

/* 0 .. 7 have a bin each; from there on the two bits below the highest choose within an octave. */
static uint32_t bin_of(uint32_t tokens)
{
    const uint32_t top = 31 - (uint32_t)__builtin_clz(tokens | 1);

    return tokens < 8 ? tokens : 4 * (top - 1) + (tokens >> (top - 2) & 3);
}

static uint32_t end_of(uint32_t bin)
{
    return bin < 8 ? bin : ((4 + bin % 4 + 1) << (bin / 4 - 1)) - 1;
}

void lengths_add(struct lengths *lengths, uint32_t tokens)
{
    uint32_t above, bin = LENGTHS_BINS;

    if (lengths->count >= LENGTHS_FADE) {
        lengths->count = 0;
        for (uint32_t i = 0; i < LENGTHS_BINS; i++)
            lengths->count += lengths->bin[i] = lengths->bin[i] / 2;
    }
    lengths->count++;
    lengths->bin[bin_of(tokens)]++;
    above = lengths->count / 10;
    while (lengths->bin[--bin] <= above)
        above -= lengths->bin[bin];
    lengths->p90 = end_of(bin);
}

void groups_init(struct groups *groups)
{
    *groups = (struct groups){.mask = HEADS_MIN - 1};
    groups->head = xcalloc(HEADS_MIN, sizeof(struct group *));
}

void groups_release(struct groups *groups)
{
    for (uint32_t i = 0; groups->head != NULL && i <= groups->mask; i++)
        for (struct group *group = groups->head[i], *next; group != NULL; group = next) {
            next = group->next;
            free(group);
        }
    free(groups->head);
    *groups = (struct groups){0};
}

static struct group **head_of(const struct groups *groups, uint64_t id)
{
    return &groups->head[(id * 0x9e3779b97f4a7c15u >> 32) & groups->mask];
}

static void grow(struct groups *groups)
{
    struct groups more = {.mask = 2 * groups->mask + 1};

    more.head = xcalloc((size_t)more.mask + 1, sizeof(struct group *));
    for (uint32_t i = 0; i <= groups->mask; i++)
        for (struct group *group = groups->head[i], *next; group != NULL; group = next) {
            struct group **head = head_of(&more, group->id);

            next = group->next;
            group->next = *head;
            *head = group;
        }
    free(groups->head);
    groups->head = more.head;
    groups->mask = more.mask;
}

struct group *groups_get(struct groups *groups, uint64_t id, uint64_t order)
{
    struct group **head = head_of(groups, id), *group = *head;

    while (group != NULL && group->id != id)
        group = group->next;
    if (group != NULL)
        return group;
    if (groups->len > groups->mask) {
        grow(groups);
        head = head_of(groups, id);
    }
    group = xcalloc(1, sizeof(*group));
    group->id = id;
    group->order = order;
    group->next = *head;
    *head = group;
    groups->len++;
    return group;
}

void groups_tidy(struct groups *groups, struct group *group)
{
    struct group **at = head_of(groups, group->id);

    if (group->sequences > 0 || group->nodes > 0 || group->untold)
        return;
    while (*at != group)
        at = &(*at)->next;
    *at = group->next;
    groups->len--;
    free(group);
}

void groups_charge(struct groups *groups, struct group *group, uint64_t shared_ns,
                   uint64_t recompute_ns)
{
    group->shared_ns += shared_ns;
    group->recompute_ns += recompute_ns;
    if (group->untold || group->shared_ns + group->recompute_ns == 0)
        return;
    group->untold = true;
    group->next_untold = NULL;
    *(groups->untold != NULL ? &groups->untold_last->next_untold : &groups->untold) = group;
    groups->untold_last = group;
}

bool groups_tell(struct groups *groups, struct engine_group_books *ret)
{
    struct group *group = groups->untold;

    if (group == NULL)
        return false;
    groups->untold = group->next_untold;
    *ret = (struct engine_group_books){group->id, group->shared_ns, group->recompute_ns};
    group->shared_ns = group->recompute_ns = 0;
    group->untold = false;
    groups_tidy(groups, group);
    return true;
}
