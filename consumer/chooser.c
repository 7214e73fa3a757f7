/* chooser.c: the last answer of the index, and which of it was given out. */
#include "consumer/chooser.h"

#include <stdlib.h>
#include <string.h>

#include "config/clock.h"
#include "scheduler/policy/order.h"

enum { SWEEPS_MAX = 8, ASK_AGAIN_MS = 10 };

struct chooser {
    char *topic;
    uint32_t enough;
    struct order *order;
    struct arena arena;
    struct work_chunk *chunk; /* [count] in the arena */
    size_t count;
    size_t left;
    bool *given;                       /* [count] in the arena */
    struct order_candidate *candidate; /* [count] scratch */
    uint32_t *index;                   /* [count] of each candidate */
    bool known;
    uint64_t asked_ns;
};

struct chooser *chooser_new(const char *topic, uint32_t enough)
{
    struct chooser *chooser = xcalloc(1, sizeof *chooser);

    chooser->topic = xstrdup(topic);
    chooser->enough = enough;
    chooser->order = order_new();
    return chooser;
}

void chooser_free(struct chooser *chooser)
{
    if (!chooser)
        return;
    order_free(chooser->order);
    arena_release(&chooser->arena);
    free(chooser->topic);
    free(chooser);
}

uint32_t chooser_enough(const struct chooser *chooser)
{
    return chooser->enough;
}

void chooser_forget(struct chooser *chooser)
{
    chooser->known = false;
}

static void ask(struct chooser *chooser, struct db *db, struct holdings *holdings, uint64_t now_ns)
{
    const uint32_t room = holdings_partitions(holdings);
    struct work_query query = {.topic = chooser->topic};
    int32_t *part;

    arena_clear(&chooser->arena);
    part = arena_zalloc(&chooser->arena, room, sizeof *part);
    query.parts = part;
    query.parts_count = holdings_parts(holdings, part, room);
    query.in_hand = holdings_in_hand(holdings, &query.in_hand_count);
    chooser->asked_ns = now_ns;
    chooser->known = true;
    chooser->count = 0;
    chooser->left = 0;
    if (query.parts_count == 0 ||
        work_open(db, &query, &chooser->arena, &chooser->chunk, &chooser->count))
        return;
    chooser->left = chooser->count;
    chooser->given = arena_zalloc(&chooser->arena, chooser->count + 1, sizeof(bool));
    chooser->candidate =
        arena_zalloc(&chooser->arena, chooser->count + 1, sizeof *chooser->candidate);
    chooser->index = arena_zalloc(&chooser->arena, chooser->count + 1, sizeof(uint32_t));
}

static bool is_eligible(const struct chooser *chooser, const struct work_chunk *chunk,
                        const struct holdings *holdings, bool hungry)
{
    (void)chooser;
    if (chunk->wish != WORK_RUN)
        return holdings_chunks(holdings) < SWEEPS_MAX || hungry;
    return hungry || !holdings_has_job(holdings, chunk->job);
}

static struct work_chunk *give(struct chooser *chooser, uint32_t index)
{
    chooser->given[index] = true;
    chooser->left--;
    return &chooser->chunk[index];
}

static struct work_chunk *pick(struct chooser *chooser, const struct holdings *holdings,
                               bool hungry)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < chooser->count; i++) {
        const struct work_chunk *chunk = &chooser->chunk[i];

        if (chooser->given[i] || !is_eligible(chooser, chunk, holdings, hungry))
            continue;
        if (chunk->wish != WORK_RUN)
            return give(chooser, i);
        chooser->candidate[count] = (struct order_candidate){
            .tenant = chunk->tenant,
            .job = chunk->job,
            .priority = chunk->priority,
            .chunk = chunk->chunk,
            .work = (uint64_t)chunk->work,
        };
        chooser->index[count++] = i;
    }
    if (count == 0)
        return NULL;
    return give(chooser, chooser->index[order_pick(chooser->order, chooser->candidate, count)]);
}

/* An answer that is used up is asked for anew, but not again and again while there is nothing. */
static bool is_stale(const struct chooser *chooser, bool hungry, uint64_t now_ns)
{
    if (!chooser->known)
        return true;
    return hungry && chooser->left == 0 &&
           now_ns - chooser->asked_ns >= ASK_AGAIN_MS * (uint64_t)CLOCK_NS_PER_MS &&
           chooser->count > 0;
}

struct work_chunk *chooser_next(struct chooser *chooser, struct db *db, struct holdings *holdings,
                                bool hungry, uint64_t now_ns)
{
    if (is_stale(chooser, hungry, now_ns))
        ask(chooser, db, holdings, now_ns);
    return pick(chooser, holdings, hungry);
}

int64_t chooser_lowest_offset(const struct chooser *chooser, const struct holdings *holdings,
                              int32_t part)
{
    int64_t lowest = holdings_lowest_offset(holdings, part);

    for (size_t i = 0; i < chooser->count; i++) {
        if (!chooser->given[i] && chooser->chunk[i].part == part &&
            chooser->chunk[i].first_offset < lowest)
            lowest = chooser->chunk[i].first_offset;
    }
    return lowest < INT64_MAX ? lowest : -1;
}
