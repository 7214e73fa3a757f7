/* holdings.c: three short arrays and a list of chunks. */
#include "consumer/holdings.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct hold {
    struct claim_partition *claim;
    uint32_t under_way; /* chunks */
};

struct held_job {
    struct claim_job *claim;
    uint32_t under_way; /* chunks */
};

struct aside {
    struct work_missing what;
    bool missing; /* the log does not hold it, and the index was not told */
    uint64_t until_ns;
};

struct holdings {
    char *topic;
    struct mailbox *home;
    struct hold *hold;
    struct held_job *job;
    struct claim_chunk **chunk;
    struct aside *aside;
    uint32_t hold_count, job_count, chunk_count, aside_count;
    struct work_in_hand *names; /* scratch of holdings_in_hand() */
    struct uuid *ids;           /* scratch of holdings_jobs() */
};

struct holdings *holdings_new(const char *topic, struct mailbox *home)
{
    struct holdings *holdings = xcalloc(1, sizeof *holdings);

    holdings->topic = xstrdup(topic);
    holdings->home = home;
    return holdings;
}

void holdings_free(struct holdings *holdings)
{
    if (!holdings)
        return;
    for (uint32_t i = 0; i < holdings->chunk_count; i++)
        claim_chunk_release(holdings->chunk[i]);
    for (uint32_t i = 0; i < holdings->job_count; i++)
        claim_job_release(holdings->job[i].claim);
    for (uint32_t i = 0; i < holdings->hold_count; i++)
        claim_partition_release(holdings->hold[i].claim);
    free(holdings->hold);
    free(holdings->job);
    free(holdings->chunk);
    free(holdings->aside);
    free(holdings->names);
    free(holdings->ids);
    free(holdings->topic);
    free(holdings);
}

/* ------------------------------------------------------------------------------ partitions ---- */

static bool is_dropped(const struct hold *hold)
{
    return atomic_load_explicit(&hold->claim->dropped, memory_order_acquire);
}

static bool is_leaving(const struct hold *hold)
{
    return is_dropped(hold) || atomic_load_explicit(&hold->claim->leaving, memory_order_acquire);
}

static void drop(struct hold *hold)
{
    atomic_store_explicit(&hold->claim->dropped, true, memory_order_release);
}

/* The same partition may stand here twice, dropped and claimed anew; the live one is meant. */
static struct hold *find_hold(struct holdings *holdings, int32_t part)
{
    for (uint32_t i = 0; i < holdings->hold_count; i++) {
        struct hold *hold = &holdings->hold[i];

        if (hold->claim->part == part && !is_dropped(hold))
            return hold;
    }
    return NULL;
}

void holdings_add_partition(struct holdings *holdings, const struct lease_partition *partition)
{
    struct hold *hold;

    holdings->hold = xrealloc(holdings->hold, holdings->hold_count + 1, sizeof *holdings->hold);
    hold = &holdings->hold[holdings->hold_count++];
    *hold = (struct hold){.claim = claim_partition_new(holdings->topic, partition->part,
                                                       partition->epoch, partition->token)};
}

uint32_t holdings_partitions(const struct holdings *holdings)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < holdings->hold_count; i++) {
        if (!is_leaving(&holdings->hold[i]))
            count++;
    }
    return count;
}

size_t holdings_parts(const struct holdings *holdings, int32_t *ret, size_t cap)
{
    size_t count = 0;

    for (uint32_t i = 0; i < holdings->hold_count; i++) {
        if (!is_leaving(&holdings->hold[i]) && count < cap)
            ret[count++] = holdings->hold[i].claim->part;
    }
    return count;
}

bool holdings_has_part(const struct holdings *holdings, int32_t part)
{
    for (uint32_t i = 0; i < holdings->hold_count; i++) {
        if (holdings->hold[i].claim->part == part && !is_dropped(&holdings->hold[i]))
            return true;
    }
    return false;
}

void holdings_drop_all(struct holdings *holdings)
{
    for (uint32_t i = 0; i < holdings->hold_count; i++)
        drop(&holdings->hold[i]);
    holdings->aside_count = 0;
}

static void forget_aside(struct holdings *holdings, int32_t part)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < holdings->aside_count; i++) {
        if (holdings->aside[i].what.part != part)
            holdings->aside[kept++] = holdings->aside[i];
    }
    holdings->aside_count = kept;
}

void holdings_forget_dropped(struct holdings *holdings)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < holdings->hold_count; i++) {
        struct hold *hold = &holdings->hold[i];

        if (!is_dropped(hold) || hold->under_way > 0) {
            holdings->hold[kept++] = *hold;
            continue;
        }
        forget_aside(holdings, hold->claim->part);
        claim_partition_release(hold->claim);
    }
    holdings->hold_count = kept;
}

/* True when there was one to mark. */
static bool mark_leaving(struct holdings *holdings, uint32_t share, bool only_idle)
{
    bool marked = false;

    for (uint32_t i = 0; i < holdings->hold_count && holdings_partitions(holdings) > share; i++) {
        struct hold *hold = &holdings->hold[i];

        if (is_leaving(hold) || (only_idle && hold->under_way > 0))
            continue;
        atomic_store_explicit(&hold->claim->leaving, true, memory_order_release);
        marked = true;
    }
    return marked;
}

size_t holdings_surplus(struct holdings *holdings, uint32_t share, int32_t *ret, size_t cap,
                        bool *ret_marked)
{
    size_t count = 0;

    *ret_marked = mark_leaving(holdings, share, true);
    *ret_marked |= mark_leaving(holdings, share, false);
    for (uint32_t i = 0; i < holdings->hold_count && count < cap; i++) {
        struct hold *hold = &holdings->hold[i];

        if (!is_leaving(hold) || is_dropped(hold) || hold->under_way > 0)
            continue;
        drop(hold);
        ret[count++] = hold->claim->part;
    }
    return count;
}

/* ------------------------------------------------------------------------------------ jobs ---- */

static struct held_job *find_job(const struct holdings *holdings, struct uuid id)
{
    for (uint32_t i = 0; i < holdings->job_count; i++) {
        if (uuid_equal(holdings->job[i].claim->id, id))
            return &holdings->job[i];
    }
    return NULL;
}

static struct held_job *add_job(struct holdings *holdings, struct uuid id, enum endpoint endpoint)
{
    struct held_job *job;

    holdings->job = xrealloc(holdings->job, holdings->job_count + 1, sizeof *holdings->job);
    job = &holdings->job[holdings->job_count++];
    *job = (struct held_job){.claim = claim_job_new(id, endpoint)};
    return job;
}

static void remove_job(struct holdings *holdings, struct held_job *job)
{
    claim_job_release(job->claim);
    *job = holdings->job[--holdings->job_count];
}

bool holdings_has_job(const struct holdings *holdings, struct uuid id)
{
    return find_job(holdings, id) != NULL;
}

const struct uuid *holdings_jobs(struct holdings *holdings, size_t *ret_count)
{
    holdings->ids = xrealloc(holdings->ids, holdings->job_count + 1, sizeof *holdings->ids);
    for (uint32_t i = 0; i < holdings->job_count; i++)
        holdings->ids[i] = holdings->job[i].claim->id;
    *ret_count = holdings->job_count;
    return holdings->ids;
}

static enum wish wish_of(enum work_wish wish)
{
    return wish == WORK_CANCEL ? WISH_CANCEL : wish == WORK_EXPIRE ? WISH_EXPIRE : WISH_RUN;
}

/* True when it is held from now on. What ends anyway is not held. */
static bool set_held(struct claim_job *job, bool held)
{
    return !atomic_exchange_explicit(&job->held, held, memory_order_acq_rel) && held;
}

bool holdings_set_wishes(struct holdings *holdings, const enum work_wish *wish, size_t count)
{
    bool changed = false;

    assert(count == holdings->job_count);
    for (size_t i = 0; i < count; i++) {
        struct claim_job *job = holdings->job[i].claim;
        enum wish now = wish_of(wish[i]);

        changed = set_held(job, wish[i] == WORK_HOLD) || changed;
        if (now == WISH_RUN || claim_job_wish(job) != WISH_RUN)
            continue; /* a wish is never taken back, and the first one counts */
        atomic_store_explicit(&job->wish, now, memory_order_release);
        changed = true;
    }
    return changed;
}

/* ---------------------------------------------------------------------------------- chunks ---- */

static bool is_chunk(const struct work_missing *what, struct uuid job, int32_t chunk)
{
    return what->chunk == chunk && uuid_equal(what->job, job);
}

static bool is_in_hand(const struct holdings *holdings, struct uuid job, int32_t chunk)
{
    for (uint32_t i = 0; i < holdings->chunk_count; i++) {
        if (holdings->chunk[i]->chunk == chunk && uuid_equal(holdings->chunk[i]->job->id, job))
            return true;
    }
    for (uint32_t i = 0; i < holdings->aside_count; i++) {
        if (is_chunk(&holdings->aside[i].what, job, chunk))
            return true;
    }
    return false;
}

static struct claim_chunk *new_chunk(struct holdings *holdings, struct hold *hold,
                                     struct held_job *job, const struct work_chunk *work)
{
    struct claim_chunk *chunk = claim_chunk_new(hold->claim, job->claim, holdings->home);

    _Static_assert(sizeof chunk->done == WORK_MAP_BYTES, "one map of lines");
    chunk->chunk = work->chunk;
    chunk->first_line = work->first_line;
    chunk->lines = work->lines;
    chunk->first_offset = work->first_offset;
    chunk->last_offset = work->last_offset;
    chunk->bytes = (uint64_t)work->bytes;
    chunk->suspect = work->suspect;
    memcpy(chunk->done, work->done_map, sizeof chunk->done);
    chunk->open_at_start = work->lines - work->done_count;
    atomic_store_explicit(&chunk->open_lines, chunk->open_at_start + 1, memory_order_relaxed);
    return chunk;
}

struct claim_chunk *holdings_take(struct holdings *holdings, const struct work_chunk *work)
{
    struct hold *hold = find_hold(holdings, work->part);
    struct held_job *job = find_job(holdings, work->job);
    struct slice url = {work->endpoint, strlen(work->endpoint)};
    enum endpoint endpoint;
    enum wish wish = wish_of(work->wish);

    if (!hold || is_leaving(hold) || is_in_hand(holdings, work->job, work->chunk) ||
        !endpoint_find(url, &endpoint))
        return NULL;
    if (!job)
        job = add_job(holdings, work->job, endpoint);
    if (wish != WISH_RUN && claim_job_wish(job->claim) == WISH_RUN)
        atomic_store_explicit(&job->claim->wish, wish, memory_order_release);
    set_held(job->claim, false); /* else the index would not have told of it */
    holdings->chunk =
        xrealloc(holdings->chunk, holdings->chunk_count + 1, sizeof(struct claim_chunk *));
    hold->under_way++;
    job->under_way++;
    return holdings->chunk[holdings->chunk_count++] = new_chunk(holdings, hold, job, work);
}

static struct work_missing what_is(const struct claim_chunk *chunk)
{
    return (struct work_missing){
        .job = chunk->job->id,
        .chunk = chunk->chunk,
        .part = chunk->partition->part,
        .epoch = chunk->partition->epoch,
        .token = chunk->partition->token,
        .first_offset = chunk->first_offset,
        .last_offset = chunk->last_offset,
    };
}

/* The log does not hold it, and the index was not told. */
static bool is_untold(const struct claim_chunk *chunk)
{
    return atomic_load_explicit(&chunk->missing, memory_order_acquire) && !chunk->marked;
}

static void set_aside(struct holdings *holdings, const struct claim_chunk *chunk, uint64_t until_ns)
{
    holdings->aside = xrealloc(holdings->aside, holdings->aside_count + 1, sizeof *holdings->aside);
    holdings->aside[holdings->aside_count++] = (struct aside){
        .what = what_is(chunk),
        .missing = is_untold(chunk),
        .until_ns = until_ns,
    };
}

static void count_home(struct holdings *holdings, const struct claim_chunk *chunk)
{
    struct held_job *job = find_job(holdings, chunk->job->id);

    for (uint32_t i = 0; i < holdings->hold_count; i++) {
        if (holdings->hold[i].claim == chunk->partition)
            holdings->hold[i].under_way--;
    }
    assert(job);
    if (--job->under_way == 0)
        remove_job(holdings, job);
}

void holdings_home(struct holdings *holdings, struct claim_chunk *chunk, uint64_t until_ns)
{
    uint32_t at = 0;

    while (at < holdings->chunk_count && holdings->chunk[at] != chunk)
        at++;
    assert(at < holdings->chunk_count);
    holdings->chunk[at] = holdings->chunk[--holdings->chunk_count];
    if (atomic_load_explicit(&chunk->incomplete, memory_order_acquire) && !chunk->marked &&
        !claim_chunk_is_leaving(chunk))
        set_aside(holdings, chunk, until_ns);
    count_home(holdings, chunk);
    claim_chunk_release(chunk);
}

void holdings_look_again(struct holdings *holdings, uint64_t now_ns)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < holdings->aside_count; i++) {
        if (now_ns < holdings->aside[i].until_ns)
            holdings->aside[kept++] = holdings->aside[i];
    }
    holdings->aside_count = kept;
}

size_t holdings_missing(const struct holdings *holdings, struct work_missing *ret, size_t cap)
{
    size_t count = 0;

    for (uint32_t i = 0; i < holdings->chunk_count && count < cap; i++) {
        if (is_untold(holdings->chunk[i]) && !claim_chunk_is_dropped(holdings->chunk[i]))
            ret[count++] = what_is(holdings->chunk[i]);
    }
    for (uint32_t i = 0; i < holdings->aside_count && count < cap; i++) {
        if (holdings->aside[i].missing)
            ret[count++] = holdings->aside[i].what;
    }
    return count;
}

void holdings_told(struct holdings *holdings, const struct work_missing *missing)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < holdings->chunk_count; i++) {
        struct claim_chunk *chunk = holdings->chunk[i];

        if (chunk->chunk == missing->chunk && uuid_equal(chunk->job->id, missing->job))
            chunk->marked = true;
    }
    for (uint32_t i = 0; i < holdings->aside_count; i++) {
        if (!is_chunk(&holdings->aside[i].what, missing->job, missing->chunk))
            holdings->aside[kept++] = holdings->aside[i];
    }
    holdings->aside_count = kept;
}

uint32_t holdings_chunks(const struct holdings *holdings)
{
    return holdings->chunk_count;
}

const struct work_in_hand *holdings_in_hand(struct holdings *holdings, size_t *ret_count)
{
    size_t count = 0;

    holdings->names = xrealloc(holdings->names, holdings->chunk_count + holdings->aside_count + 1,
                               sizeof *holdings->names);
    for (uint32_t i = 0; i < holdings->chunk_count; i++)
        holdings->names[count++] = (struct work_in_hand){.job = holdings->chunk[i]->job->id,
                                                         .chunk = holdings->chunk[i]->chunk};
    for (uint32_t i = 0; i < holdings->aside_count; i++)
        holdings->names[count++] = (struct work_in_hand){.job = holdings->aside[i].what.job,
                                                         .chunk = holdings->aside[i].what.chunk};
    *ret_count = count;
    return holdings->names;
}

int64_t holdings_lowest_offset(const struct holdings *holdings, int32_t part)
{
    int64_t lowest = INT64_MAX;

    for (uint32_t i = 0; i < holdings->chunk_count; i++) {
        const struct claim_chunk *chunk = holdings->chunk[i];

        if (chunk->partition->part == part && chunk->first_offset < lowest)
            lowest = chunk->first_offset;
    }
    for (uint32_t i = 0; i < holdings->aside_count; i++) {
        const struct work_missing *what = &holdings->aside[i].what;

        if (what->part == part && what->first_offset < lowest)
            lowest = what->first_offset;
    }
    return lowest;
}
