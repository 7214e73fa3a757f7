/* committer.c: take a batch, build it, commit it until it is known how it went. */
#include "consumer/committer.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config/backoff.h"
#include "config/clock.h"
#include "config/failpoint.h"
#include "config/log.h"
#include "config/metrics.h"
#include "consumer/batch.h"
#include "consumer/books.h"
#include "consumer/frozen.h"
#include "consumer/recorder.h"
#include "consumer/response.h"
#include "consumer/worker_metrics.h"
#include "sql/commit.h"

enum { REST_MS = 200, PAUSE_MIN_MS = 50, PAUSE_MAX_MS = 2000 };

struct committer {
    struct committer_options options;
    struct mailbox mailbox;
    pthread_t thread;
    bool started;
    atomic_bool quit;
    atomic_bool lost; /* set by control or by a commit; cleared by committer_adopt() */
    atomic_int_fast64_t landed;
    atomic_uint_fast64_t began_ns;
    atomic_uint_fast64_t booked_ns;

    pthread_mutex_t lock; /* guards `lease`, which control writes while the thread has no batch */
    struct lease lease;
    struct commit *commit;
    struct frozen frozen;
    struct response_frame frame;
    struct engine_model model;
    struct engine_books before; /* the cut of the commit before */
    uint64_t wip_ns;            /* then */
};

static bool is_lost(const struct committer *committer)
{
    return atomic_load_explicit(&committer->lost, memory_order_acquire);
}

static bool must_quit(const struct committer *committer)
{
    return atomic_load_explicit(&committer->quit, memory_order_acquire);
}

/* Its lines have ended here, with a row or without. */
static void let_go(const struct committer *committer, struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        recorder_free(committer->options.recorder, batch->task[i]->slot);
        claim_chunk_ended(batch->task[i]->chunk, 1);
    }
    batch_free(batch);
}

/* ------------------------------------------------------------------------------ one commit ---- */

static void build(struct committer *committer, const struct batch *batch)
{
    struct frozen *frozen = &committer->frozen;
    struct books_entry entry;
    int64_t gap;

    books_between(&committer->before, &batch->books, batch->saved_ns, &entry);
    committer->frame.created_s = clock_wall_ms() / 1000;
    frozen_build(frozen, batch, &entry, &committer->frame);
    gap = books_gap(&entry, committer->wip_ns, frozen->out_ns);
    if (gap != 0)
        log_error("books.gap", "gap_ns=%" PRId64 " msg=\"the engine's books do not add up\"", gap);

    pthread_mutex_lock(&committer->lock);
    frozen->batch.worker = committer->lease.worker;
    frozen->batch.token = committer->lease.token;
    frozen->batch.lease_ms = committer->lease.lease_ms;
    pthread_mutex_unlock(&committer->lock);
    if (batch->running)
        frozen->batch.running = (struct slice){batch->running, strlen(batch->running)};
    frozen->batch.ends_running = batch->ends_running;
    frozen->batch.seq = atomic_load_explicit(&committer->landed, memory_order_relaxed) + 1;
}

static void drop_fenced(struct committer *committer, const struct commit_result *result)
{
    for (uint32_t i = 0; i < result->fenced_count; i++) {
        struct claim_partition *claim = committer->frozen.claims[result->fenced[i]];

        log_warn("partition.lost",
                 "topic=%s part=%d epoch=%" PRId64
                 " msg=\"it belongs to another worker; what was under way there is dropped\"",
                 claim->topic, claim->part, claim->epoch);
        atomic_store_explicit(&claim->dropped, true, memory_order_release);
    }
    metrics_add(METRIC_FENCED, 0, result->fenced_count);
    atomic_fetch_add_explicit(&committer->options.gauges->changes, 1, memory_order_release);
    committer->options.on_fenced(committer->options.context);
}

/* Sleeps in small pieces, so that the end of the worker is not delayed by it. */
static void pause_ms(struct committer *committer, uint64_t ms)
{
    const struct timespec piece = {.tv_nsec = 10 * 1000 * 1000};

    for (uint64_t slept = 0; slept < ms && !must_quit(committer) && !is_lost(committer);
         slept += 10)
        nanosleep(&piece, NULL);
}

static enum err send(struct committer *committer, struct commit_result *ret)
{
    const struct commit_batch *batch = &committer->frozen.batch;

    if (batch->checkpoints_count == 0)
        return commit_run(committer->commit, batch, ret);
    return FAILPOINT_CALL("checkpoint", ERR_DATABASE, commit_run(committer->commit, batch, ret));
}

/* ERR_OK, ERR_LOST, or what makes every further try useless. */
static enum err commit_until_known(struct committer *committer, const struct batch *batch,
                                   struct commit_result *ret)
{
    struct backoff pause = {.min_ms = PAUSE_MIN_MS, .max_ms = PAUSE_MAX_MS};

    for (;;) {
        uint64_t sent_ns = clock_mono_ns();
        enum err err = is_lost(committer) || must_quit(committer) ? ERR_LOST : send(committer, ret);

        if (err == ERR_OK && !ret->landed_before) /* the gate renews the lease */
            gauges_extend(committer->options.gauges, sent_ns, committer->frozen.batch.lease_ms);
        if (err == ERR_AGAIN && ret->fenced_count > 0) {
            drop_fenced(committer, ret);
            build(committer, batch);
            continue;
        }
        if (err != ERR_AGAIN && err != ERR_DATABASE)
            return err;
        metrics_add(METRIC_COMMIT_RETRIES, 0, 1);
        pause_ms(committer, backoff_next(&pause));
    }
}

static void note_landed(struct committer *committer, const struct batch *batch,
                        const struct commit_result *result, uint64_t began_ns)
{
    const struct commit_batch *sent = &committer->frozen.batch;

    worker_count_commit(sent, result, clock_mono_ns() - began_ns);
    committer->before = batch->books;
    committer->wip_ns = batch_wip_ns(batch);
    atomic_store_explicit(&committer->booked_ns, batch->books.held_ns, memory_order_release);
    atomic_store_explicit(&committer->landed, sent->seq, memory_order_release);
    for (uint32_t i = 0; i < batch->again_count; i++) /* they are let go after this batch */
        recorder_booked(committer->options.recorder, batch->again[i].slot,
                        batch->again[i].recompute_ns);
    recorder_landed(committer->options.recorder, sent->seq);
    if (batch->mark != 0) { /* the set may be launched */
        atomic_store_explicit(&committer->options.gauges->marked, batch->mark,
                              memory_order_release);
        committer->options.on_taken(committer->options.context);
    }
    log_debug("commit.done",
              "seq=%" PRId64 " rows=%u inserted=%u duplicate=%u attempts=%u checkpoints=%u "
              "wall_us=%" PRIu64,
              sent->seq, sent->rows_count, result->rows_inserted, result->rows_duplicate,
              sent->attempts_count, sent->checkpoints_count, (clock_mono_ns() - began_ns) / 1000);
    if (result->rows_unstorable > 0)
        log_warn("commit.unstorable", "seq=%" PRId64 " rows=%u", sent->seq,
                 result->rows_unstorable);
}

/* On a device whose clock stands still when it is idle there may be nothing to book. */
static bool says_nothing(const struct committer *committer, const struct batch *batch)
{
    return batch->count == 0 && batch->checkpoints_count == 0 && batch->discards_count == 0 &&
           committer->frozen.batch.books.held_ns == 0 && batch->stop == 0 && !batch->running &&
           !batch->ends_running;
}

static void commit_batch(struct committer *committer, struct batch *batch)
{
    uint64_t began_ns = clock_mono_ns();
    struct commit_result result = {0};
    enum err err;

    build(committer, batch);
    if (says_nothing(committer, batch))
        return;
    err = commit_until_known(committer, batch, &result);
    if (!err) {
        note_landed(committer, batch, &result, began_ns);
        return;
    }
    if (!is_lost(committer)) {
        atomic_store_explicit(&committer->lost, true, memory_order_release);
        if (err == ERR_LOST)
            committer->options.on_lost(committer->options.context);
        else
            committer->options.on_failed(committer->options.context, err);
    }
}

/* -------------------------------------------------------------------------------- the loop ---- */

/* The books of the next identity begin where the device stood still. */
static void begin_books(struct committer *committer, const struct batch *last)
{
    assert(last->books.live_ns == 0);
    committer->before = last->books;
    committer->wip_ns = 0;
    atomic_store_explicit(&committer->booked_ns, last->books.held_ns, memory_order_release);
}

static void take_batch(struct committer *committer, struct batch *batch)
{
    unsigned stop = batch->stop;

    atomic_fetch_sub_explicit(&committer->options.gauges->batches_waiting, 1, memory_order_relaxed);
    committer->options.on_taken(committer->options.context);
    if (!is_lost(committer))
        commit_batch(committer, batch);
    if (is_lost(committer) && stop != 0)
        begin_books(committer, batch);
    let_go(committer, batch);
    if (stop != 0)
        committer->options.on_stopped(committer->options.context, stop);
}

static void *run(void *argument)
{
    struct committer *committer = argument;

    while (!must_quit(committer)) {
        struct mail_list arrived = mailbox_wait(&committer->mailbox, REST_MS);
        struct mail *mail;

        while ((mail = mail_list_next(&arrived)))
            take_batch(committer, batch_of(mail));
    }
    return NULL;
}

/* --------------------------------------------------------------------------------- outside ---- */

enum err committer_start(const struct committer_options *options, struct committer **ret)
{
    struct committer *committer = xcalloc(1, sizeof *committer);
    int failed;
    enum err err;

    committer->options = *options;
    mailbox_init(&committer->mailbox, -1);
    pthread_mutex_init(&committer->lock, NULL);
    err = commit_open(&options->db, &committer->commit);
    if (err)
        goto failed;
    failed = pthread_create(&committer->thread, NULL, run, committer);
    if (failed) {
        err = fail(ERR_MEMORY, "the commit thread could not be started: %s", strerror(failed));
        goto failed;
    }
    committer->started = true;
    pthread_setname_np(committer->thread, "commit");
    *ret = committer;
    return ERR_OK;
failed:
    committer_free(committer);
    return err;
}

struct mailbox *committer_mailbox(struct committer *committer)
{
    return &committer->mailbox;
}

void committer_set_model(struct committer *committer, const struct engine_model *model)
{
    response_fingerprint(model->numerics, committer->frame.fingerprint);
    committer->model = *model; /* the engine may be closed while the last batch is built */
    committer->frozen.model = &committer->model;
}

void committer_adopt(struct committer *committer, const struct lease *lease)
{
    pthread_mutex_lock(&committer->lock);
    committer->lease = *lease;
    pthread_mutex_unlock(&committer->lock);
    atomic_store_explicit(&committer->began_ns, committer_booked_ns(committer),
                          memory_order_release);
    atomic_store_explicit(&committer->landed, 0, memory_order_release);
    atomic_store_explicit(&committer->lost, false, memory_order_release);
}

void committer_abandon(struct committer *committer)
{
    atomic_store_explicit(&committer->lost, true, memory_order_release);
}

int64_t committer_landed(const struct committer *committer)
{
    return atomic_load_explicit(&committer->landed, memory_order_acquire);
}

uint64_t committer_began_ns(const struct committer *committer)
{
    return atomic_load_explicit(&committer->began_ns, memory_order_acquire);
}

uint64_t committer_booked_ns(const struct committer *committer)
{
    return atomic_load_explicit(&committer->booked_ns, memory_order_acquire);
}

void committer_stop(struct committer *committer)
{
    if (!committer || !committer->started)
        return;
    atomic_store_explicit(&committer->quit, true, memory_order_release);
    mailbox_ring(&committer->mailbox);
    pthread_join(committer->thread, NULL);
    committer->started = false;
}

void committer_free(struct committer *committer)
{
    struct mail_list left;
    struct mail *mail;

    if (!committer)
        return;
    left = mailbox_take(&committer->mailbox);
    while ((mail = mail_list_next(&left)))
        let_go(committer, batch_of(mail));
    commit_close(committer->commit);
    frozen_release(&committer->frozen);
    mailbox_release(&committer->mailbox);
    pthread_mutex_destroy(&committer->lock);
    free(committer);
}
