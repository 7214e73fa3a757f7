/* worker_work.c: the share of partitions, what is wished, and which chunk is read next. */
#include "consumer/worker_inside.h"

#include <inttypes.h>
#include <stdlib.h>

#include "config/clock.h"
#include "config/log.h"
#include "sql/work.h"

/* --------------------------------------------------------------------------------- partitions ---- */

/* "0-3,7": which partitions, in a line of the log; they are in order. */
static void write_parts(const int32_t *parts, size_t count, struct buffer *ret)
{
    for (size_t from = 0, to; from < count; from = to) {
        to = from + 1;
        while (to < count && parts[to] == parts[to - 1] + 1)
            to++;
        buffer_printf(ret, "%s%d", from > 0 ? "," : "", parts[from]);
        if (to - from > 1)
            buffer_printf(ret, "-%d", parts[to - 1]);
    }
}

static void log_parts(const struct worker *worker, const char *event, const int32_t *parts,
                      size_t count)
{
    struct buffer text = {0};

    write_parts(parts, count, &text);
    log_info(event, "topic=%s count=%zu parts=%s", worker->topic, count, text.data);
    buffer_release(&text);
}

static void add_claimed(struct worker *worker, const struct lease_partition *got, uint32_t count)
{
    int32_t *parts = xcalloc(count, sizeof *parts);

    for (uint32_t i = 0; i < count; i++) {
        holdings_add_partition(worker->holdings, &got[i]);
        parts[i] = got[i].part;
    }
    log_parts(worker, "partitions.claimed", parts, count);
    free(parts);
    chooser_forget(worker->chooser);
}

static void claim(struct worker *worker, uint32_t wanted)
{
    struct lease_partition *got = xcalloc(wanted, sizeof *got);
    uint32_t count = 0;
    enum err err = lease_claim(worker->db, &worker->lease, worker->topic, wanted, got, &count);

    if (err == ERR_LOST)
        worker_lose(worker);
    if (!err && count > 0)
        add_claimed(worker, got, count);
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
    if (!err) /* else they are found astray at the next beat */
        log_parts(worker, "partitions.released", parts, count);
    holdings_forget_dropped(worker->holdings);
}

/*
 * A claim that landed without its reply, or a release that did not land, leaves partitions under our
 * name that are not held here: nobody else could ever claim them. They are released.
 */
static void release_strays(struct worker *worker, uint32_t partitions)
{
    int32_t *parts = xcalloc(partitions, sizeof *parts);
    uint32_t owned = 0;
    size_t count = 0;
    enum err err =
        lease_owned(worker->db, &worker->lease, worker->topic, parts, partitions, &owned);

    for (uint32_t i = 0; !err && i < owned; i++) {
        if (!holdings_has_part(worker->holdings, parts[i]))
            parts[count++] = parts[i];
    }
    if (count > 0) {
        log_parts(worker, "partitions.stray", parts, count);
        err = lease_release(worker->db, &worker->lease, worker->topic, parts, count);
    }
    if (err == ERR_LOST)
        worker_lose(worker);
    free(parts);
}

/* First those on their way out: one that the share would have again by now is claimed anew. */
static void take_share(struct worker *worker)
{
    uint32_t partitions;
    uint32_t share;
    uint32_t held;

    if (lease_share(worker->db, &worker->lease, worker->topic, &share, &partitions))
        return;
    release_strays(worker, partitions);
    if (worker->phase != WORKING)
        return;
    hand_back(worker, share);
    held = holdings_partitions(worker->holdings);
    if (worker->phase == WORKING && held < share)
        claim(worker, share - held);
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

/* What the log has lost is written into the index, where people and other workers see it. */
static void tell_missing(struct worker *worker)
{
    struct work_missing missing[64];
    bool marked[64];
    char job[UUID_BATCH_SIZE];
    size_t count = holdings_missing(worker->holdings, missing, sizeof missing / sizeof missing[0]);

    if (count == 0 || work_mark_missing(worker->db, &worker->lease.worker, worker->topic, missing,
                                        count, marked) != ERR_OK)
        return; /* the next beat */
    for (size_t i = 0; i < count; i++) {
        if (!marked[i])
            continue;
        holdings_told(worker->holdings, &missing[i]);
        log_warn("chunk.held", "job=%s chunk=%d part=%d", uuid_format_batch(missing[i].job, job),
                 missing[i].chunk, missing[i].part);
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
    if ((worker->phase != WORKING && worker->phase != DRAINING) || !worker_connected(worker))
        return;
    worker_renew_first(worker);
    worker_hear_operator(worker);
    if (worker->phase == DRAINING)
        ask_wishes(worker); /* what is cancelled need not be finished */
    if (worker->phase != WORKING)
        return;
    if (worker_may_bury(worker, now_ns))
        (void)lease_bury_expired(worker->db, NULL); /* what fails is logged, and tried again */
    take_share(worker);
    if (worker->phase != WORKING)
        return;
    tell_missing(worker);
    holdings_look_again(worker->holdings, now_ns);
    ask_wishes(worker);
    chooser_forget(worker->chooser);
    worker_choose(worker, now_ns);
    tell_offsets(worker);
}
