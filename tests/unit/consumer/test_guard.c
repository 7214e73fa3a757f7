/* test_guard.c: what an end of a worker means, whom it accuses, and how long to wait. */
#include "consumer/guard.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { SLOTS = 8 };

static struct uuid uuid_of(uint8_t last)
{
    return (struct uuid){.bytes = {[15] = last}};
}

static enum guard_end end_of(int wait_status, bool killed, uint64_t oom, int sender)
{
    return guard_judge(wait_status, killed, oom, sender).end;
}

/* ------------------------------------------------------------------------------------- the end ---- */

/* A status as waitpid() gives it is the number of the signal, or the exit status in the next byte. */
static void test_an_end_says_what_it_proves(void **state)
{
    (void)state;
    assert_int_equal(end_of(7 << 8, false, 0, 0), GUARD_LEFT);
    assert_int_equal(guard_judge(7 << 8, false, 0, 0).status, 7);
    assert_int_equal(end_of(SIGSEGV, false, 0, 0), GUARD_CRASHED);
    assert_int_equal(end_of(SIGABRT, false, 5, 0), GUARD_CRASHED);
    assert_int_equal(end_of(SIGSEGV, false, 0, 4711), GUARD_KILLED);
    assert_int_equal(end_of(SIGKILL, false, 0, 0), GUARD_KILLED);
    assert_int_equal(end_of(SIGKILL, false, 1, 0), GUARD_OUT_OF_MEMORY);
    assert_int_equal(end_of(SIGKILL, true, 1, 0), GUARD_HUNG);
    assert_int_equal(end_of(SIGTERM, true, 1, 0), GUARD_KILLED);
}

static void test_only_what_was_seen_is_a_proof(void **state)
{
    (void)state;
    assert_true(guard_is_proof(GUARD_CRASHED) && guard_is_proof(GUARD_HUNG) &&
                guard_is_proof(GUARD_OUT_OF_MEMORY));
    assert_false(guard_is_proof(GUARD_KILLED) || guard_is_proof(GUARD_LEFT));
}

/* -------------------------------------------------------------------------------- the accused ---- */

/* Three requests run, a fourth waits for its commit. */
static struct recorder *busy_recorder(void)
{
    struct recorder *recorder;

    assert_int_equal(recorder_open(NULL, SLOTS, &recorder), ERR_OK);
    recorder_register(recorder, uuid_of(9), 77, 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(recorder_begin(recorder, uuid_of(1), 10 + i, 0, 1), i);
    recorder_progress(recorder, 1, 5, 500, 50);
    recorder_booked(recorder, 1, 20);
    recorder_ended(recorder, 3, 7, 700, 70);
    recorder_device(recorder, &(struct recorder_device){3, 9000, 100, 200, 120, 12});
    return recorder;
}

static struct burial describe(const struct recorder *recorder, enum guard_end end,
                              struct burial_request *requests)
{
    struct guard_death death = {.end = end, .signal = end == GUARD_CRASHED ? SIGSEGV : SIGKILL};
    struct burial burial;

    guard_describe(recorder, &death, requests, SLOTS + 1, &burial);
    return burial;
}

static uint32_t accused(const struct burial *burial)
{
    uint32_t count = 0;

    for (size_t i = 0; i < burial->count; i++)
        count += burial->requests[i].accused;
    return count;
}

/* What ran is accused; what had ended is only told of. */
static void test_a_crash_accuses_what_ran(void **state)
{
    struct recorder *recorder = busy_recorder();
    struct burial_request requests[SLOTS + 1];
    struct burial burial = describe(recorder, GUARD_CRASHED, requests);

    (void)state;
    assert_int_equal(burial.count, 4);
    assert_int_equal(accused(&burial), 3);
    assert_false(requests[3].accused);
    assert_int_equal(requests[1].tokens, 5);
    assert_int_equal(requests[1].recompute_ns, 50);
    assert_int_equal(requests[1].booked_ns, 20);
    assert_int_equal(requests[3].cost_ns, 700);
    assert_int_equal(requests[3].recompute_ns, 70);
    assert_int_equal(burial.recompute_ns, 120);
    assert_int_equal(burial.charge.cap, 1);
    assert_int_equal(burial.charge.deaths_alone, 0);
    assert_int_equal(burial.held_ns, 9000);
    assert_int_equal(burial.token, 77);
    assert_string_equal(burial.ended, "crashed");
    recorder_close(recorder);
}

static void test_a_kill_accuses_nobody(void **state)
{
    struct recorder *recorder = busy_recorder();
    struct burial_request requests[SLOTS + 1];
    struct burial burial = describe(recorder, GUARD_KILLED, requests);

    (void)state;
    assert_int_equal(burial.count, 4);
    assert_int_equal(accused(&burial), 0);
    assert_false(burial.proven);
    recorder_close(recorder);
}

/* A set of one that ran apart is one death more against it. */
static void test_a_death_alone_counts(void **state)
{
    struct recorder *recorder;
    struct burial_request requests[SLOTS + 1];
    struct burial burial;

    (void)state;
    assert_int_equal(recorder_open(NULL, SLOTS, &recorder), ERR_OK);
    recorder_begin(recorder, uuid_of(1), 3, 0, 2);
    recorder_apart(recorder, 1);
    burial = describe(recorder, GUARD_HUNG, requests);
    assert_true(burial.apart);
    assert_int_equal(burial.charge.deaths_alone, 1);
    recorder_close(recorder);
}

/* The commit thread's own crash is no request's fault, and intake's is that of what it was reading. */
static void test_the_thread_says_whose_fault_it_is(void **state)
{
    struct recorder *recorder = busy_recorder();
    struct burial_request requests[SLOTS + 1];
    struct burial burial;

    (void)state;
    strcpy(recorder->head->thread, "commit");
    burial = describe(recorder, GUARD_CRASHED, requests);
    assert_int_equal(accused(&burial), 0);
    strcpy(recorder->head->thread, "intake");
    burial = describe(recorder, GUARD_CRASHED, requests);
    assert_int_equal(accused(&burial), 0);
    recorder_prepare(recorder, uuid_of(2), 99, 4);
    burial = describe(recorder, GUARD_CRASHED, requests);
    assert_int_equal(accused(&burial), 1);
    assert_int_equal(requests[4].line, 99);
    assert_int_equal(burial.charge.deaths_alone, 1);
    strcpy(recorder->head->thread, "device");
    burial = describe(recorder, GUARD_CRASHED, requests);
    assert_int_equal(accused(&burial), 3);
    recorder_close(recorder);
}

/* ------------------------------------------------------------------------------------ the time ---- */

static void test_pauses_grow_up_to_the_limit(void **state)
{
    (void)state;
    assert_int_equal(guard_pause_ms(1, 60000), GUARD_PAUSE_MIN_MS);
    assert_int_equal(guard_pause_ms(3, 60000), 4 * GUARD_PAUSE_MIN_MS);
    assert_int_equal(guard_pause_ms(1000, 60000), 60000);
    assert_int_equal(guard_pause_ms(1, 10), 10);
}

/* A model that loads has not moved yet; one step that takes long is no hang until its time is over. */
static void test_a_device_hangs_when_it_stands_still(void **state)
{
    struct guard_watch watch = {0};

    (void)state;
    for (int i = 0; i < 100; i++)
        assert_false(guard_is_hung(&watch, 0, 100, 1000));
    assert_false(guard_is_hung(&watch, 1, 100, 1000));
    for (int i = 0; i < 9; i++)
        assert_false(guard_is_hung(&watch, 1, 100, 1000));
    assert_false(guard_is_hung(&watch, 2, 100, 1000));
    for (int i = 0; i < 9; i++)
        assert_false(guard_is_hung(&watch, 2, 100, 1000));
    assert_true(guard_is_hung(&watch, 2, 100, 1000));
}

static uint64_t kernel_counts;

static uint64_t count_kills(void)
{
    return kernel_counts;
}

/*
 * A neighbour in the cgroup was killed for want of memory, and the worker lived on for a day: when
 * somebody kills it then, that is no want of memory.
 */
static void test_an_old_kill_proves_nothing(void **state)
{
    struct guard_kills kills = {0};

    (void)state;
    kernel_counts = 1;
    guard_age_kills(&kills, GUARD_KILLS_MS - 1, count_kills);
    assert_int_equal(kernel_counts - kills.before, 1);
    guard_age_kills(&kills, 1, count_kills);
    guard_age_kills(&kills, GUARD_KILLS_MS - 1, count_kills);
    assert_int_equal(kernel_counts - kills.before, 1); /* it may take half a minute to die */
    guard_age_kills(&kills, 1, count_kills);
    assert_int_equal(kernel_counts - kills.before, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_end_says_what_it_proves),
        cmocka_unit_test(test_only_what_was_seen_is_a_proof),
        cmocka_unit_test(test_a_crash_accuses_what_ran),
        cmocka_unit_test(test_a_kill_accuses_nobody),
        cmocka_unit_test(test_a_death_alone_counts),
        cmocka_unit_test(test_the_thread_says_whose_fault_it_is),
        cmocka_unit_test(test_pauses_grow_up_to_the_limit),
        cmocka_unit_test(test_a_device_hangs_when_it_stands_still),
        cmocka_unit_test(test_an_old_kill_proves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
