/* order.c: clocks of the work given to tenants and jobs, and the one furthest behind. */
#include "scheduler/policy/order.h"

#include "config/buffer.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/*
 * What is remembered. A level is where the jobs of one tenant at one priority stand, or where all
 * tenants do: newcomers are put at its `place`. Clocks only have meaning among those of their level.
 */
enum kind { TENANT, LEVEL, JOB };

struct key {
    const char *tenant;
    enum kind kind;
    int32_t priority; /* LEVEL, JOB */
    struct uuid job;  /* JOB */
};

struct level {
    uint64_t place; /* never behind the last of those who wait; never goes back */
    uint64_t last;  /* where the one served last stood afterwards */
};

struct flow {
    struct key key;     /* its tenant is an own copy */
    uint64_t clock;     /* TENANT, JOB */
    uint64_t since;     /* the call in which it was first seen */
    struct level level; /* LEVEL */
    bool waiting;       /* has a candidate in the call that makes room */
};

struct order {
    struct flow *flows; /* sorted by key */
    uint32_t count;
    uint32_t cap;
    struct level tenants;
    uint64_t calls;
};

/* Beyond this many, flows without a candidate are forgotten: they come back as newcomers. */
enum { FLOWS_MAX = 4096 };

struct order *order_new(void)
{
    return xcalloc(1, sizeof(struct order));
}

void order_free(struct order *order)
{
    if (!order)
        return;
    for (uint32_t i = 0; i < order->count; i++)
        free((char *)order->flows[i].key.tenant);
    free(order->flows);
    free(order);
}

static int compare(const struct key *a, const struct key *b)
{
    int by_tenant = strcmp(a->tenant, b->tenant);

    if (by_tenant || a->kind != b->kind)
        return by_tenant ? by_tenant : (int)a->kind - (int)b->kind;
    if (a->kind == TENANT)
        return 0;
    if (a->priority != b->priority)
        return a->priority < b->priority ? -1 : 1;
    return a->kind == JOB ? memcmp(a->job.bytes, b->job.bytes, sizeof(a->job.bytes)) : 0;
}

/* The first flow that is not before the key. */
static uint32_t lower_bound(const struct order *order, const struct key *key)
{
    uint32_t low = 0, high = order->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (compare(&order->flows[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct flow *find(const struct order *order, const struct key *key)
{
    uint32_t at = lower_bound(order, key);

    return at < order->count && compare(&order->flows[at].key, key) == 0 ? &order->flows[at] : NULL;
}

/* Finds or makes it; the pointer is good until the next call. */
static struct flow *find_or_add(struct order *order, const struct key *key)
{
    uint32_t at = lower_bound(order, key);

    if (at < order->count && compare(&order->flows[at].key, key) == 0)
        return &order->flows[at];
    if (order->count == order->cap) {
        order->cap = order->cap ? 2 * order->cap : 16;
        order->flows = xrealloc(order->flows, order->cap, sizeof(*order->flows));
    }
    memmove(&order->flows[at + 1], &order->flows[at], (order->count - at) * sizeof(*order->flows));
    order->count++;
    order->flows[at] = (struct flow){.key = *key, .since = order->calls};
    order->flows[at].key.tenant = xstrdup(key->tenant);
    return &order->flows[at];
}

static struct key key_of(const struct order_candidate *candidate, enum kind kind)
{
    struct key key = {.tenant = candidate->tenant, .kind = kind};

    if (kind != TENANT)
        key.priority = candidate->priority;
    if (kind == JOB)
        key.job = candidate->job;
    return key;
}

static void mark_waiting(struct order *order, const struct order_candidate *candidate)
{
    for (enum kind kind = TENANT; kind <= JOB; kind++) {
        struct key key = key_of(candidate, kind);
        struct flow *flow = find(order, &key);

        if (flow)
            flow->waiting = true;
    }
}

/* Small jobs come and go: what has nothing to do any more is forgotten once there are many. */
static void make_room(struct order *order, const struct order_candidate *candidates, uint32_t count)
{
    uint32_t kept = 0;

    if (order->count < FLOWS_MAX)
        return;
    for (uint32_t i = 0; i < order->count; i++)
        order->flows[i].waiting = false;
    for (uint32_t i = 0; i < count; i++)
        mark_waiting(order, &candidates[i]);
    for (uint32_t i = 0; i < order->count; i++) {
        if (order->flows[i].waiting)
            order->flows[kept++] = order->flows[i];
        else
            free((char *)order->flows[i].key.tenant);
    }
    order->count = kept;
}

/* The candidates of one level: all of them, or those of a tenant at a priority. */
struct choice {
    const struct order_candidate *candidates;
    uint32_t count;
    enum kind kind;     /* TENANT or JOB */
    const char *tenant; /* JOB */
    int32_t priority;   /* JOB */
};

static bool belongs(const struct choice *choice, uint32_t i)
{
    const struct order_candidate *candidate = &choice->candidates[i];

    return choice->kind == TENANT || (candidate->priority == choice->priority &&
                                      strcmp(candidate->tenant, choice->tenant) == 0);
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Moves the level's place up to the last of those known that wait, or to the one served last. */
static void advance(const struct order *order, const struct choice *choice, struct level *level)
{
    uint64_t behind = UINT64_MAX;

    for (uint32_t i = 0; i < choice->count; i++) {
        struct key key = key_of(&choice->candidates[i], choice->kind);
        const struct flow *flow = belongs(choice, i) ? find(order, &key) : NULL;

        if (flow && flow->clock < behind)
            behind = flow->clock;
    }
    level->place = max_u64(level->place, behind == UINT64_MAX ? level->last : behind);
}

/* Of equal clocks the one that was seen first: newcomers do not push in. */
static bool goes_before(const struct order_candidate *a, const struct flow *a_flow,
                        const struct order_candidate *b, const struct flow *b_flow)
{
    int by_key;

    if (a_flow->clock != b_flow->clock)
        return a_flow->clock < b_flow->clock;
    if (a_flow->since != b_flow->since)
        return a_flow->since < b_flow->since;
    by_key = compare(&a_flow->key, &b_flow->key);
    return by_key ? by_key < 0 : a->chunk < b->chunk;
}

/* Puts newcomers at the level's place, and returns a candidate of the flow furthest behind. */
static uint32_t pick(struct order *order, const struct choice *choice, struct level *level)
{
    uint32_t best = choice->count;
    struct flow best_flow = {0};

    advance(order, choice, level);
    for (uint32_t i = 0; i < choice->count; i++) {
        struct key key = key_of(&choice->candidates[i], choice->kind);
        struct flow *flow;

        if (!belongs(choice, i))
            continue;
        flow = find_or_add(order, &key);
        flow->clock = max_u64(flow->clock, level->place);
        if (best == choice->count ||
            goes_before(&choice->candidates[i], flow, &choice->candidates[best], &best_flow)) {
            best = i;
            best_flow = *flow;
        }
    }
    return best;
}

static void serve(struct order *order, const struct order_candidate *candidate, enum kind kind,
                  struct level *level)
{
    struct key key = key_of(candidate, kind);
    struct flow *flow = find(order, &key);

    flow->clock += candidate->work ? candidate->work : 1;
    level->last = flow->clock;
}

static int32_t highest_priority(const struct choice *choice)
{
    int32_t highest = INT32_MIN;

    for (uint32_t i = 0; i < choice->count; i++)
        if (strcmp(choice->candidates[i].tenant, choice->tenant) == 0 &&
            choice->candidates[i].priority > highest)
            highest = choice->candidates[i].priority;
    return highest;
}

uint32_t order_pick(struct order *order, const struct order_candidate *candidates, uint32_t count)
{
    struct choice choice = {.candidates = candidates, .count = count, .kind = TENANT};
    struct level level;
    struct key key;
    uint32_t at;

    assert(count > 0);
    order->calls++;
    make_room(order, candidates, count);
    at = pick(order, &choice, &order->tenants);
    choice.kind = JOB;
    choice.tenant = candidates[at].tenant;
    choice.priority = highest_priority(&choice);

    key = (struct key){.tenant = choice.tenant, .kind = LEVEL, .priority = choice.priority};
    level = find_or_add(order, &key)->level;
    at = pick(order, &choice, &level);
    serve(order, &candidates[at], JOB, &level);
    find(order, &key)->level = level;
    serve(order, &candidates[at], TENANT, &order->tenants);
    return at;
}
