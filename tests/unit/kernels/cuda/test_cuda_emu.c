/*
 * test_cuda_emu.c: the emulation of a GPU itself: mistakes of kernels are found and put into words,
 * threads run in as many orders as it says, and memory, queue, graphs and faults are as on a card.
 */
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "emu_kernels.h"
#include "gpu_rig.h"

#if defined(__SANITIZE_ADDRESS__)
#define ASAN true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ASAN true
#endif
#endif
#ifndef ASAN
#define ASAN false
#endif
#if defined(__SANITIZE_THREAD__)
#define TSAN true
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TSAN true
#endif
#endif
#ifndef TSAN
#define TSAN false
#endif

enum { THREADS = 64, BYTES = THREADS * 4 };

const struct gpu_module *mserve_gpu_module(void);

static struct rig *open_as(const char *emu)
{
    setenv("MSERVE_EMU", emu, 1);
    return rig_open_module(mserve_gpu_module());
}

/* ---- mistakes of kernels ---- */

/* What a child says that runs the trial; it must not come to its end. */
static void die_of(enum trial trial, const char *emu, char *said, size_t size)
{
    size_t len = 0;
    ssize_t got;
    int status, pipes[2];
    pid_t child;

    assert_int_equal(pipe(pipes), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char in[80];
        struct rig *rig;
        dup2(pipes[1], STDERR_FILENO);
        snprintf(in, sizeof(in), "queue=direct,%s", emu);
        rig = open_as(in);
        trial_launch(rig->gpu, trial, rig_room(rig, BYTES), rig_room(rig, BYTES));
        _exit(0);
    }
    close(pipes[1]);
    while (len + 1 < size && (got = read(pipes[0], said + len, size - 1 - len)) > 0)
        len += (size_t)got;
    said[len] = '\0';
    close(pipes[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        fail_msg("trial %d came to its end; it said: %s", (int)trial, said);
}

static void test_a_wrong_kernel_dies_with_a_sentence(void **state)
{
    static const struct {
        enum trial trial;
        const char *words;
    } rows[] = {
        {TRIAL_MISSING_WARP, "deadlock: a barrier that not all threads of the block reach"},
        {TRIAL_TWO_BARRIERS, "divergent barrier"},
        {TRIAL_HALF_A_WARP_WAITS, "divergent barrier"},
        {TRIAL_HALF_A_WARP_GIVES, "partial warp"},
        {TRIAL_NO_SUCH_LANE, "there is no lane 32"},
        {TRIAL_CROOKED_TILE, "tile_load_4 at a place that is not aligned to 16 bytes"},
        {TRIAL_CROOKED_COPY, "copy_16 at a place that is not aligned to 16 bytes"},
        {TRIAL_CROOKED_LOAD, "load_16 at a place that is not aligned to 16 bytes"},
        {TRIAL_COPY_OUTSIDE, "copy_16 outside of the 1024 bytes of shared memory"},
        {TRIAL_TILE_OUTSIDE, "tile_load_4t outside of the 1024 bytes of shared memory"},
        {TRIAL_ADD_OUTSIDE, "shared_add outside of the 1024 bytes of shared memory"},
        {TRIAL_STORE_OUTSIDE,
         ASAN ? "use-after-poison" : "wrote outside of the 1024 bytes of shared memory"},
        {TRIAL_COPY_LEFT_ALONE, "asynchronous copies that it has not waited for"},
    };
    static const char *const orders[] = {"order=fair", "order=first", "order=last", "order=random"};
    static char said[16384];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        die_of(rows[i].trial, orders[i % 4], said, sizeof(said));
        if (strstr(said, rows[i].words) == NULL)
            fail_msg("\"%s\" is not in: %s", rows[i].words, said);
    }
}

/* Where it happened: the kernel, the block, the thread, the line. */
static void test_the_sentence_names_the_place(void **state)
{
    static char said[16384];

    (void)state;
    die_of(TRIAL_NO_SUCH_LANE, "order=last", said, sizeof(said));
    assert_non_null(strstr(said, "cuda-emu: kernel "));
    assert_non_null(strstr(said, "block 0, thread 63, emu_kernels.cc:"));
}

static void test_sanitizers_see_into_kernels(void **state)
{
    static char said[65536];

    (void)state;
    if (ASAN) {
        die_of(TRIAL_LOAD_OUTSIDE, "order=fair", said, sizeof(said));
        assert_non_null(strstr(said, "use-after-poison"));
        die_of(TRIAL_STORE_OVER_THE_END, "order=fair", said, sizeof(said));
        assert_non_null(strstr(said, "heap-buffer-overflow"));
    }
    if (TSAN) {
        die_of(TRIAL_WARP_RACE, "order=fair", said, sizeof(said));
        assert_non_null(strstr(said, "data race"));
    }
}

/* ---- orders ---- */

static void run_trial(const char *emu, enum trial trial, uint32_t *out, uint32_t words)
{
    struct rig *rig = open_as(emu);
    uint32_t in[THREADS], *room = rig_room(rig, words * 4);

    for (uint32_t i = 0; i < THREADS; i++)
        in[i] = 1000 + i;
    trial_launch(rig->gpu, trial, room, rig_put(rig, in, sizeof(in)));
    rig_get(rig, out, room, words * 4);
    rig_close(rig);
}

/* First, last, fair and random warps first are four orders; a seed is another; the same is the
 * same. */
static void test_orders_differ_and_repeat(void **state)
{
    static const char *const emu[] = {"order=fair",          "order=first",
                                      "order=last",          "order=random,seed=1",
                                      "order=random,seed=2", "order=random,seed=2"};
    uint32_t ran[6][2 * THREADS];

    (void)state;
    for (uint32_t i = 0; i < 6; i++)
        run_trial(emu[i], TRIAL_ORDER, ran[i], 2 * THREADS);
    for (uint32_t i = 0; i < 5; i++)
        for (uint32_t j = 0; j < i; j++)
            assert_memory_not_equal(ran[i], ran[j], sizeof(ran[0]));
    assert_memory_equal(ran[4], ran[5], sizeof(ran[0]));
    assert_int_equal(ran[0][32], 32); /* fair: the other warp moves at the first word */
    assert_int_equal(ran[1][32], 0);  /* first: the same goes on */
    assert_int_equal(ran[2][0], 63);
}

static uint32_t wrong_words(const uint32_t *out, uint32_t base, uint32_t mask)
{
    uint32_t wrong = 0;

    for (uint32_t i = 0; i < THREADS; i++)
        wrong += out[i] != base + (i ^ mask);
    return wrong;
}

/* One warp first, or the other: whoever reads before the other wrote reads NaN. */
static void test_a_missing_barrier_shows_in_unfair_orders(void **state)
{
    uint32_t out[THREADS];

    (void)state;
    if (TSAN)
        return; /* it is reported there, and is in the trials above */
    run_trial("order=fair", TRIAL_NO_BARRIER, out, THREADS);
    assert_int_equal(wrong_words(out, 0, 32), 0);
    run_trial("order=first", TRIAL_NO_BARRIER, out, THREADS);
    assert_int_equal(out[0], UINT32_MAX);
    assert_int_equal(out[32], 0);
    run_trial("order=last", TRIAL_NO_BARRIER, out, THREADS);
    assert_int_equal(out[0], 32);
    assert_int_equal(out[32], UINT32_MAX);
}

static void test_late_copies_show_a_wait_that_is_one_short(void **state)
{
    uint32_t out[THREADS];

    (void)state;
    run_trial("copies=early", TRIAL_WAIT_ONE_SHORT, out, THREADS);
    assert_int_equal(out[5], 1000);
    run_trial("copies=late", TRIAL_WAIT_ONE_SHORT, out, THREADS);
    assert_int_equal(out[5], UINT32_MAX);
}

static void test_early_copies_show_a_buffer_that_is_still_read(void **state)
{
    uint32_t out[THREADS];

    (void)state;
    run_trial("copies=early", TRIAL_COPY_TOO_SOON, out, THREADS);
    assert_int_equal(out[5], 1000);
    run_trial("copies=late", TRIAL_COPY_TOO_SOON, out, THREADS);
    assert_int_equal(out[5], UINT32_MAX);
}

static void test_shared_memory_begins_as_nan_in_each_block(void **state)
{
    uint32_t out[THREADS];

    (void)state;
    run_trial("order=fair", TRIAL_UNSET, out, THREADS);
    for (uint32_t i = 0; i < THREADS; i++)
        assert_int_equal(out[i], UINT32_MAX);
}

/* ---- the queue ---- */

/* A kernel that waits for the host: what is enqueued has not happened when the call returns. */
static void test_what_is_enqueued_happens_later(void **state)
{
    struct rig *rig = open_as("seed=1");
    const struct gpu_module *module = rig->module;
    struct gpu_event *begin = module->event_new(rig->gpu), *end = module->event_new(rig->gpu);
    uint32_t *flag = module->take_host(rig->gpu, 4), *out = module->take(rig->gpu, BYTES);

    (void)state;
    assert_true(module->event_wait(rig->gpu, end, 0)); /* nothing was recorded */
    module->event_record(rig->gpu, begin);
    assert_true(module->event_wait(rig->gpu, begin, -1));
    trial_launch(rig->gpu, TRIAL_HOLD, out, flag);
    module->event_record(rig->gpu, end);
    assert_false(module->event_wait(rig->gpu, end, 0));
    assert_false(module->event_wait(rig->gpu, end, 5));
    __atomic_store_n(flag, 1, __ATOMIC_RELEASE);
    assert_true(module->event_wait(rig->gpu, end, -1));
    assert_true(module->event_ms(rig->gpu, begin, end) >= 5);
    assert_true(module->event_ms(rig->gpu, end, begin) <= -5);
    rig_close(rig);
}

/* More than the queue has room for, in order. */
static void test_a_full_queue_waits_and_keeps_the_order(void **state)
{
    enum { STEPS = 30000 };
    struct rig *rig = open_as("seed=1");
    uint32_t *host = rig->module->take_host(rig->gpu, (STEPS + 1) * 4);
    uint32_t *device = rig->module->take(rig->gpu, (STEPS + 1) * 4);

    (void)state;
    host[0] = 7;
    rig->module->copy(rig->gpu, device, host, 4);
    for (uint32_t i = 0; i < STEPS; i++)
        rig->module->copy(rig->gpu, device + i + 1, device + i, 4);
    rig->module->copy(rig->gpu, host, device, (STEPS + 1) * 4);
    rig_wait(rig);
    assert_int_equal(host[STEPS], 7);
    rig_close(rig);
}

/* Two sizes of blocks in turn; only the first launch of each takes memory. */
static void test_launching_allocates_nothing(void **state)
{
    struct rig *rig = open_as("queue=direct");
    uint32_t *out = rig_room(rig, BYTES);
    struct mallinfo2 before, after;

    (void)state;
    trial_launch_shape(rig->gpu, 64, 4096, out);
    before = mallinfo2();
    for (int i = 0; i < 100; i++)
        trial_launch_shape(rig->gpu, 32 + 32 * (uint32_t)(i % 2), 1024, out);
    after = mallinfo2();
    assert_true(ASAN || TSAN || before.uordblks + before.hblkhd > 0);
    assert_int_equal(after.uordblks + after.hblkhd, before.uordblks + before.hblkhd);
    rig_close(rig);
}

/* ---- graphs ---- */

static void test_a_graph_replays_what_was_recorded(void **state)
{
    struct rig *rig = open_as("seed=1");
    const struct gpu_module *module = rig->module;
    uint32_t *out = rig_room(rig, BYTES), *copy = rig_room(rig, BYTES), got[THREADS];
    struct gpu_graph *graph;

    (void)state;
    module->capture_begin(rig->gpu);
    trial_launch(rig->gpu, TRIAL_ADD_ONE, out, NULL);
    module->copy(rig->gpu, copy, out, BYTES);
    module->zero(rig->gpu, out, 4);
    graph = module->capture_end(rig->gpu);
    assert_non_null(graph);
    rig_get(rig, got, out, BYTES);
    assert_int_equal(got[0], UINT32_MAX); /* nothing has run */
    for (int i = 0; i < 3; i++)
        module->graph_launch(rig->gpu, graph);
    rig_get(rig, got, copy, BYTES);
    assert_int_equal(got[0], 1);
    assert_int_equal(got[1], 2);
    rig_get(rig, got, out, BYTES);
    assert_int_equal(got[0], 0);
    rig_close(rig);
}

static void test_what_a_graph_cannot_hold_is_a_fault(void **state)
{
    struct rig *rig = open_as("seed=1");
    uint32_t word = 0;

    (void)state;
    rig->module->capture_begin(rig->gpu);
    rig->module->event_record(rig->gpu, rig->event);
    assert_null(rig->module->capture_end(rig->gpu));
    assert_non_null(strstr(rig->module->fault(rig->gpu), "event"));
    rig_close(rig);

    rig = open_as("seed=1");
    rig->module->capture_begin(rig->gpu);
    rig->module->copy(rig->gpu, rig->module->take(rig->gpu, 4), &word, 4);
    assert_null(rig->module->capture_end(rig->gpu));
    assert_non_null(strstr(rig->module->fault(rig->gpu), "not taken"));
    rig_close(rig);
}

/* ---- faults ---- */

/* The second launch fails: the third does nothing, and nobody waits for ever. */
static void test_a_fault_is_sticky(void **state)
{
    struct rig *rig = open_as("fault_at=2");
    const struct gpu_module *module = rig->module;
    uint32_t *out = rig_room(rig, BYTES), *seen = module->take_host(rig->gpu, BYTES);
    char first[400];

    (void)state;
    trial_launch(rig->gpu, TRIAL_ADD_ONE, out, NULL);
    module->copy(rig->gpu, seen, out, BYTES);
    rig_wait(rig);
    assert_int_equal(seen[3], 0);
    seen[3] = 99;
    trial_launch(rig->gpu, TRIAL_ADD_ONE, out, NULL);
    trial_launch(rig->gpu, TRIAL_ADD_ONE, out, NULL);
    module->copy(rig->gpu, seen, out, BYTES);
    module->event_record(rig->gpu, rig->event);
    assert_true(module->event_wait(rig->gpu, rig->event, -1));
    assert_int_equal(seen[3], 99);
    snprintf(first, sizeof(first), "%s", module->fault(rig->gpu));
    assert_non_null(strstr(first, "fault_at=2"));
    module->zero(rig->gpu, seen + THREADS, 4); /* wrong too, but later */
    assert_string_equal(module->fault(rig->gpu), first);
    rig_close(rig);
}

static void test_launches_of_a_graph_fail_too(void **state)
{
    struct rig *rig = open_as("fault_at=2");
    struct gpu_graph *graph;

    (void)state;
    rig->module->capture_begin(rig->gpu);
    trial_launch(rig->gpu, TRIAL_ADD_ONE, rig->module->take(rig->gpu, BYTES), NULL);
    graph = rig->module->capture_end(rig->gpu);
    rig->module->graph_launch(rig->gpu, graph);
    rig_wait(rig);
    rig->module->graph_launch(rig->gpu, graph);
    rig->module->event_record(rig->gpu, rig->event);
    assert_true(rig->module->event_wait(rig->gpu, rig->event, -1));
    assert_non_null(rig->module->fault(rig->gpu));
    rig_close(rig);
}

static void test_a_launch_beyond_the_card_is_a_fault(void **state)
{
    static const struct {
        const char *emu;
        uint32_t threads;
        size_t shared_bytes;
        bool good;
    } rows[] = {
        {"capability=90", 64, 227 << 10, true}, {"capability=90", 64, (227 << 10) + 1, false},
        {"capability=86", 64, 99 << 10, true},  {"capability=89", 64, 100 << 10, false},
        {"capability=80", 1056, 0, false},      {"capability=80", 48, 0, false},
        {"capability=80", 64, 163 << 10, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct rig *rig = open_as(rows[i].emu);
        trial_launch_shape(rig->gpu, rows[i].threads, rows[i].shared_bytes, rig_room(rig, BYTES));
        if (rows[i].good)
            rig_wait(rig);
        else
            assert_non_null(rig->module->fault(rig->gpu));
        rig_close(rig);
    }
}

/* ---- memory ---- */

static void test_memory_runs_out_and_comes_back(void **state)
{
    struct rig *rig = open_as("memory_mib=2"), *other = open_as("memory_mib=2");
    const struct gpu_module *module = rig->module;
    void *large = module->take(rig->gpu, 1536 << 10);

    (void)state;
    assert_non_null(large);
    assert_true(module->memory_free(rig->gpu) == 512 << 10);
    assert_null(module->take(other->gpu, 1 << 20)); /* it is the same card */
    assert_null(module->take(rig->gpu, SIZE_MAX));
    assert_null(module->fault(rig->gpu));
    module->give(rig->gpu, large);
    assert_true(module->memory_free(other->gpu) == 2 << 20);
    assert_non_null(module->take(other->gpu, 1 << 20));
    rig_close(other); /* gives back what it had */
    assert_true(module->memory_free(rig->gpu) == 2 << 20);
    rig_close(rig);
}

static void test_fresh_memory_is_nan_and_the_hosts_is_zeros(void **state)
{
    struct rig *rig = open_as("seed=1");
    uint32_t got[THREADS], *device = rig->module->take(rig->gpu, BYTES);
    uint32_t *host = rig->module->take_host(rig->gpu, BYTES);

    (void)state;
    rig_get(rig, got, device, BYTES);
    for (uint32_t i = 0; i < THREADS; i++) {
        assert_int_equal(got[i], UINT32_MAX);
        assert_int_equal(host[i], 0);
    }
    assert_int_equal((uintptr_t)device % 256, 0);
    rig->module->give_host(rig->gpu, host);
    rig->module->give(rig->gpu, NULL);
    assert_null(rig->module->fault(rig->gpu));
    rig->module->give(rig->gpu, got);
    assert_non_null(rig->module->fault(rig->gpu));
    rig_close(rig);
}

static void test_copies_stay_in_their_memory(void **state)
{
    struct rig *rig = open_as("seed=1");
    uint32_t got[THREADS];
    char *device = rig->module->take(rig->gpu, BYTES);

    (void)state;
    rig->module->copy(rig->gpu, got, device + 4, BYTES);
    assert_non_null(strstr(rig->module->fault(rig->gpu), "over the end"));
    rig_close(rig);
}

/* ---- settings ---- */

static void test_settings_that_nobody_knows_are_refused(void **state)
{
    static const char *const wrong[] = {"colour=red",
                                        "seed",
                                        "seed=x",
                                        "seed=-1",
                                        "capability=75",
                                        "capability=87",
                                        "devices=65",
                                        "memory_mib=0",
                                        "order=odd",
                                        "copies=never",
                                        "queue=somewhere",
                                        "fault_at=soon",
                                        "seed=1,,x=2",
                                        "processors=0",
                                        "seed=99999999999999999999"};
    static struct gpu_about about[GPUS_MAX];
    const struct gpu_module *module = mserve_gpu_module();
    uint32_t driver;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        const char *why = NULL;
        setenv("MSERVE_EMU", wrong[i], 1);
        assert_int_equal(module->list(about, &driver, &why), 0);
        assert_non_null(why);
        assert_ptr_equal(strstr(why, "MSERVE_EMU"), why);
        assert_null(module->open(0, &why));
    }
}

static void test_there_are_as_many_cards_as_were_asked_for(void **state)
{
    static struct gpu_about about[GPUS_MAX];
    const struct gpu_module *module = mserve_gpu_module();
    const char *why = NULL;
    uint32_t driver;

    (void)state;
    setenv("MSERVE_EMU", "devices=3,capability=89,memory_mib=5,processors=11", 1);
    assert_int_equal(module->list(about, &driver, &why), 3);
    assert_string_not_equal(about[0].uuid, about[2].uuid);
    assert_string_not_equal(about[0].bus, about[2].bus);
    assert_int_equal(strlen(about[2].uuid), 40);
    assert_int_equal(about[2].capability, 89);
    assert_int_equal(about[2].memory_bytes, 5 << 20);
    assert_int_equal(about[2].processors, 11);
    assert_null(module->open(3, &why));
    assert_non_null(why);
    setenv("MSERVE_EMU", "devices=0", 1);
    why = NULL;
    assert_int_equal(module->list(about, &driver, &why), 0);
    assert_non_null(why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_wrong_kernel_dies_with_a_sentence),
        cmocka_unit_test(test_the_sentence_names_the_place),
        cmocka_unit_test(test_sanitizers_see_into_kernels),
        cmocka_unit_test(test_orders_differ_and_repeat),
        cmocka_unit_test(test_a_missing_barrier_shows_in_unfair_orders),
        cmocka_unit_test(test_late_copies_show_a_wait_that_is_one_short),
        cmocka_unit_test(test_early_copies_show_a_buffer_that_is_still_read),
        cmocka_unit_test(test_shared_memory_begins_as_nan_in_each_block),
        cmocka_unit_test(test_what_is_enqueued_happens_later),
        cmocka_unit_test(test_a_full_queue_waits_and_keeps_the_order),
        cmocka_unit_test(test_launching_allocates_nothing),
        cmocka_unit_test(test_a_graph_replays_what_was_recorded),
        cmocka_unit_test(test_what_a_graph_cannot_hold_is_a_fault),
        cmocka_unit_test(test_a_fault_is_sticky),
        cmocka_unit_test(test_launches_of_a_graph_fail_too),
        cmocka_unit_test(test_a_launch_beyond_the_card_is_a_fault),
        cmocka_unit_test(test_memory_runs_out_and_comes_back),
        cmocka_unit_test(test_fresh_memory_is_nan_and_the_hosts_is_zeros),
        cmocka_unit_test(test_copies_stay_in_their_memory),
        cmocka_unit_test(test_settings_that_nobody_knows_are_refused),
        cmocka_unit_test(test_there_are_as_many_cards_as_were_asked_for),
    };

    return cmocka_run_group_tests_name("cuda_emu", tests, NULL, NULL);
}
