/* worker_work.c: the share of partitions, what is wished, and which chunk is read next. */
#include "consumer/worker_inside.h"

#include <inttypes.h>
#include <stdlib.h>

#include "config/clock.h"
#include "config/log.h"
#include "sql/work.h"

/* --------------------------------------------------------------------------------- partitions ---- */

static void claim(struct worker *worker, uint32_t wanted)
{
    struct lease_partition *got = xcalloc(wanted, sizeof *got);
    uint32_t count = 0;
    enum err err = lease_claim(worker->db, &worker->lease, worker->topic, wanted, got, &count);

    if (err == ERR_LOST)
        worker_lose(worker);
    for (uint32_t i = 0; !err && i < count; i++) {
        holdings_add_partition(worker->holdings, &got[i]);
        log_info("partition.claimed", "topic=%s part=%d epoch=%" PRId64, worker->topic, got[i].part,
                 got[i].epoch);
    }
    if (!err && count > 0)
        chooser_forget(worker->chooser);
    free(got);
}

/* What has not begun of a surplus partition is given up at once; it goes when the rest has ended. */
static void hand_back(struct worker *worker, uint32_t share)
{
    int32_t parts[64];
    bool marked;
    enum err err;
    size_t count =
        holdings_surplus(worker->holdings, share, parts, sizeof parts / sizeof parts[0], &marked);

    if (marked)
        worker_note_change(worker);
    if (count == 0)
        return;
    err = lease_release(worker->db, &worker->lease, worker->topic, parts, count);
    if (err == ERR_LOST)
        worker_lose(worker);
    for (size_t i = 0; !err && i < count; i++) /* else they are found astray at the next beat */
        log_info("partition.released", "topic=%s part=%d", worker->topic, parts[i]);
    holdings_forget_dropped(worker->holdings);
}

/*
 * A claim that landed without its reply, or a release that did not land, leaves partitions under our
 * name that are not held here: nobody else could ever claim them. They are released.
 */
static void settle(struct worker *worker, uint32_t partitions)
{
    int32_t *parts = xcalloc(partitions, sizeof *parts);
    size_t count = 0;

    for (uint32_t i = 0; i < partitions; i++) {
        if (!holdings_has_part(worker->holdings, (int32_t)i))
            parts[count++] = (int32_t)i;
    }
    log_warn("partition.stray", "topic=%s msg=\"owned by this worker and not held: released\"",
             worker->topic);
    if (lease_release(worker->db, &worker->lease, worker->topic, parts, count) == ERR_LOST)
        worker_lose(worker);
    free(parts);
}

/* First those on their way out: one that the share would have again by now is claimed anew. */
static void take_share(struct worker *worker)
{
    uint32_t partitions;
    uint32_t share;
    uint32_t owned;
    uint32_t held;

    if (lease_share(worker->db, &worker->lease, worker->topic, &share, &partitions, &owned))
        return;
    if (owned > holdings_standing(worker->holdings))
        settle(worker, partitions);
    hand_back(worker, share);
    held = holdings_partitions(worker->holdings);
    if (worker->phase == WORKING && held < share)
        claim(worker, share - held);
}

static void bury_others(struct worker *worker)
{
    uint32_t count = 0;

    if (lease_bury_expired(worker->db, &count) == ERR_OK && count > 0)
        log_info("worker.buried", "count=%u msg=\"their leases had run out\"", count);
}

/* ------------------------------------------------------------------------------------- chunks ---- */

static void ask_wishes(struct worker *worker)
{
    size_t count;
    const struct uuid *jobs = holdings_jobs(worker->holdings, &count);
    enum work_wish *wish;

    if (count == 0)
        return;
    wish = xcalloc(count, sizeof *wish);
    if (work_wishes(worker->db, jobs, count, wish) == ERR_OK &&
        holdings_set_wishes(worker->holdings, wish, count))
        worker_note_change(worker);
    free(wish);
}

void worker_choose(struct worker *worker, uint64_t now_ns)
{
    struct work_chunk *work;

    while ((work = chooser_next(worker->chooser, worker->db, worker->holdings,
                                worker_is_hungry(worker), now_ns))) {
        struct claim_chunk *chunk = holdings_take(worker->holdings, work);

        if (!chunk)
            continue;
        if (work->wish != WORK_RUN) /* learnt here first: what runs of the job is to hear of it */
            worker_note_change(worker);
        log_info("chunk.taken", "job=%s chunk=%d part=%d lines=%u", chunk->job->hex, chunk->chunk,
                 chunk->partition->part, chunk->open_at_start);
        atomic_fetch_add_explicit(&worker->gauges.unread_lines, chunk->open_at_start,
                                  memory_order_relaxed);
        intake_read_chunk(worker->intake, chunk);
    }
}

static void tell_offsets(struct worker *worker)
{
    const uint32_t room = holdings_partitions(worker->holdings);
    int32_t *part = xcalloc(room, sizeof *part);
    size_t count = holdings_parts(worker->holdings, part, room);

    for (size_t i = 0; i < count; i++) {
        int64_t offset = chooser_lowest_offset(worker->chooser, worker->holdings, part[i]);

        if (offset >= 0)
            intake_tell_offset(worker->intake, part[i], offset);
    }
    free(part);
}

/* Once a second: all that is asked of the database beside lease and commits. */
void worker_on_beat(uv_timer_t *timer)
{
    struct worker *worker = timer->data;
    uint64_t now_ns = clock_mono_ns();

    worker_warn_of_pause(worker, now_ns);
    if (worker->phase != WORKING || !worker_connected(worker))
        return;
    bury_others(worker);
    take_share(worker);
    if (worker->phase != WORKING)
        return;
    holdings_look_again(worker->holdings, now_ns);
    ask_wishes(worker);
    chooser_forget(worker->chooser);
    worker_choose(worker, now_ns);
    tell_offsets(worker);
}
