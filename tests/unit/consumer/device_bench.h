/*
 * device_bench.h: the device loop on a simulated device, with a mailbox in place of the commit thread; the
 * books of each batch are checked as it is taken. Include after cmocka.
 */
#ifndef MSERVE_TESTS_UNIT_CONSUMER_DEVICE_BENCH_H
#define MSERVE_TESTS_UNIT_CONSUMER_DEVICE_BENCH_H

#include <stdlib.h>
#include <unistd.h>

#include "config/clock.h"
#include "consumer/batch.h"
#include "consumer/books.h"
#include "consumer/device_loop.h"
#include "tests/unit/consumer/made.h"

enum { INTERVAL_NS = 5 * 1000 * 1000 };

struct bench {
    struct gauges gauges;
    struct mailbox batches;
    struct device_loop *loop;
    atomic_int opened; /* 1 + enum err */
    struct engine_books before;
    uint64_t wip_ns;
    uint64_t shared_ns, recompute_ns, sampled; /* of all batches */
    uint64_t save_every_ns;                    /* set before it is opened; 0: never */
    uint64_t limit_ns;                         /* likewise: of a request's time; 0: none */
    struct recorder *recorder;                 /* likewise; NULL: none */
    const char *model_path;                    /* likewise; NULL: the simulated device */
    uint32_t fail_token; /* likewise: of it the device may fail; 0: it may not */
    atomic_uint failures;
};

static inline void on_opened(void *context, enum err err)
{
    atomic_store(&((struct bench *)context)->opened, 1 + (int)err);
}

static inline void on_failed(void *context, enum err err)
{
    struct bench *bench = context;

    if (bench->fail_token == 0 || err != ERR_DEVICE)
        abort();
    atomic_fetch_add(&bench->failures, 1);
}

static inline void on_room(void *context)
{
    (void)context;
}

static inline void bench_open(struct bench *bench, double pace, uint32_t sequences_max,
                              uint64_t commit_interval_ns)
{
    struct device_loop_options options = {
        .engine = {.backend = "sim",
                   .sequences_max = sequences_max,
                   .waiting_max = 4,
                   .rows_max = 64,
                   .context_max = 1024,
                   .sim = {.load_ns = 1000,
                           .fixed_ns = 1000000,
                           .row_ns = 1001,
                           .kv_ns = 107,
                           .head_ns = 13,
                           .fail_token = bench->fail_token,
                           .pace = pace}},
        .gauges = &bench->gauges,
        .batches = &bench->batches,
        .commit_rows = 8,
        .commit_interval_ns = commit_interval_ns,
        .checkpoint_interval_ns =
            bench->save_every_ns > 0 ? bench->save_every_ns : 3600 * (uint64_t)CLOCK_NS_PER_S,
        .ledger_interval_ns = 3600 * (uint64_t)CLOCK_NS_PER_S,
        .results_max = 64,
        .request_time_limit_ns = bench->limit_ns,
        .recorder = bench->recorder,
        .on_opened = on_opened,
        .on_failed = on_failed,
        .on_room = on_room,
        .context = bench,
    };

    if (bench->model_path) {
        options.engine.backend = "cpu";
        options.engine.model_path = bench->model_path;
        options.engine.threads = 1;
    }
    *bench = (struct bench){.save_every_ns = bench->save_every_ns,
                            .limit_ns = bench->limit_ns,
                            .recorder = bench->recorder,
                            .fail_token = bench->fail_token};
    atomic_store(&bench->gauges.launch_until_ns, UINT64_MAX);
    mailbox_init(&bench->batches, -1);
    assert_int_equal(device_loop_start(&options, &bench->loop), ERR_OK);
    while (atomic_load(&bench->opened) == 0)
        usleep(1000);
    assert_int_equal(atomic_load(&bench->opened), 1);
    device_loop_go(bench->loop);
}

static inline void bench_close(struct bench *bench)
{
    device_loop_stop(bench->loop);
    device_loop_free(bench->loop);
    mailbox_release(&bench->batches);
}

static inline void post(struct bench *bench, struct task *task)
{
    atomic_fetch_add(&bench->gauges.ready_requests, 1);
    atomic_fetch_add(&bench->gauges.ready_bytes, task->bytes);
    mailbox_post(device_loop_mailbox(bench->loop), &task->mail);
}

static inline void assert_books(struct bench *bench, const struct batch *batch)
{
    struct books_entry entry;
    uint64_t out = 0;
    uint64_t wip = 0, shared = 0, recompute = 0;

    for (uint32_t i = 0; i < batch->count; i++)
        out += batch->task[i]->cost.ns - batch->task[i]->saved_ns;
    for (uint32_t i = 0; i < batch->checkpoints_count; i++)
        out += batch->checkpoint[i].gpu_ns;
    for (uint32_t i = 0; i < batch->jobs_count; i++) {
        wip += batch->job[i].wip_ns;
        shared += batch->job[i].shared_ns;
        recompute += batch->job[i].recompute_ns;
    }
    books_between(&bench->before, &batch->books, batch->saved_ns, &entry);
    assert_int_equal(books_gap(&entry, bench->wip_ns, out), 0);
    assert_int_equal(wip, entry.wip_ns);
    assert_int_equal(shared, entry.shared_ns); /* jobs have all of it */
    assert_int_equal(recompute, entry.recompute_ns);
    bench->shared_ns += shared;
    bench->recompute_ns += recompute;
    bench->sampled += batch->sampled;
    bench->before = batch->books;
    bench->wip_ns = entry.wip_ns;
}

/* The next batch, its books checked; fails after ten seconds. */
static inline struct batch *next_batch(struct bench *bench)
{
    static struct mail_list waiting;
    struct mail *mail = mail_list_next(&waiting);

    for (int i = 0; !mail && i < 100; i++) {
        waiting = mailbox_wait(&bench->batches, 100);
        mail = mail_list_next(&waiting);
    }
    assert_non_null(mail);
    atomic_fetch_sub(&bench->gauges.batches_waiting, 1);
    assert_books(bench, batch_of(mail));
    return batch_of(mail);
}

/* Until so many run, and have for a while: the device takes one step at least in each of its moves. */
static inline void let_run(struct bench *bench, uint32_t requests)
{
    uint64_t from;

    while (atomic_load(&bench->gauges.running) < requests)
        usleep(1000);
    from = atomic_load(&bench->gauges.device_moves);
    while (atomic_load(&bench->gauges.device_moves) < from + 10)
        usleep(1000);
}

#endif
