/* test_recorder.c: what a child writes, its parent reads when it is dead. */
#include "consumer/recorder.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct uuid uuid_of(uint8_t last)
{
    return (struct uuid){.bytes = {[15] = last}};
}

static struct recorder *open_one(uint32_t slots)
{
    struct recorder *recorder;

    assert_int_equal(recorder_open("", slots, &recorder), ERR_OK);
    return recorder;
}

/* A slot belongs to a request until its commit; then to the next. */
static void test_slots_are_taken_and_given_back(void **state)
{
    struct recorder *recorder = open_one(2);
    uint32_t in_use[2];

    (void)state;
    assert_int_equal(recorder_begin(recorder, uuid_of(1), 1, 0, 1), 0);
    assert_int_equal(recorder_begin(recorder, uuid_of(1), 2, 0, 1), 1);
    assert_int_equal(recorder_begin(recorder, uuid_of(1), 3, 0, 1), RECORDER_NONE);
    recorder_ended(recorder, 0, 4, 400, 40);
    assert_int_equal(recorder_in_use(recorder, in_use, 2), 2);
    recorder_free(recorder, 0);
    assert_int_equal(recorder_in_use(recorder, in_use, 2), 1);
    assert_int_equal(in_use[0], 1);
    assert_int_equal(recorder_begin(recorder, uuid_of(1), 3, 0, 1), 0);
    assert_int_equal(recorder->slot[0].tokens, 0);
    recorder_close(recorder);
}

/* A worker without a recorder goes on without one. */
static void test_nothing_is_recorded_without_one(void **state)
{
    (void)state;
    assert_int_equal(recorder_begin(NULL, uuid_of(1), 1, 0, 1), RECORDER_NONE);
    recorder_progress(NULL, 0, 1, 1, 1);
    recorder_ended(NULL, RECORDER_NONE, 1, 1, 1);
    recorder_booked(NULL, 0, 1);
    recorder_free(NULL, RECORDER_NONE);
    recorder_register(NULL, uuid_of(1), 1, 0);
    recorder_device(NULL, &(struct recorder_device){0});
}

/* Ends the child of a test: no core, no report of a sanitizer. */
static pid_t fork_quietly(void)
{
    pid_t child = fork();

    if (child == 0) {
        struct rlimit none = {0};

        setrlimit(RLIMIT_CORE, &none);
        prctl(PR_SET_NAME, "device");
    }
    return child;
}

/* The numbers are there after the process is not, and so is its last word. */
static void test_a_dead_child_has_left_its_numbers(void **state)
{
    struct recorder *recorder = open_one(4);
    int status;
    pid_t child = fork_quietly();

    (void)state;
    if (child == 0) {
        recorder_catch_crashes(recorder);
        recorder_register(recorder, uuid_of(5), 42, 0);
        recorder_progress(recorder, recorder_begin(recorder, uuid_of(1), 7, 3, 2), 11, 1100, 110);
        recorder_device(recorder, &(struct recorder_device){.moves = 9, .sampled = 11});
        abort();
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_int_equal(recorder->head->signal, SIGABRT);
    assert_int_equal(recorder->head->sender, 0);
    assert_string_equal(recorder->head->thread, "device");
    assert_true(recorder_is_registered(recorder));
    assert_int_equal(recorder_moves(recorder), 9);
    assert_int_equal(recorder->slot[0].line, 7);
    assert_int_equal(recorder->slot[0].tokens, 11);
    assert_int_equal(recorder->slot[0].attempt, 2);
    recorder_clear(recorder);
    assert_false(recorder_is_registered(recorder));
    assert_true(uuid_equal(recorder_follows(recorder), uuid_of(5))); /* the next one follows it */
    assert_int_equal(recorder->slot[0].state, RECORDER_FREE);
    recorder_close(recorder);
}

/* A signal that somebody else sent is told apart from one of its own. */
static void test_who_sent_a_signal_is_noted(void **state)
{
    struct recorder *recorder = open_one(1);
    int status, ready[2];
    char byte;
    pid_t child;

    (void)state;
    assert_int_equal(pipe(ready), 0);
    child = fork_quietly();
    if (child == 0) {
        recorder_catch_crashes(recorder);
        if (write(ready[1], "x", 1) == 1)
            for (;;)
                pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    kill(child, SIGABRT);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(recorder->head->sender, getpid());
    close(ready[0]);
    close(ready[1]);
    recorder_close(recorder);
}

/*
 * One that comes from outside of a container shows no sender there: it is somebody else's all the same.
 * As a kernel would hand it over; a process can only queue it so.
 */
static void test_a_signal_from_outside_is_nobodys_crash(void **state)
{
    static const int deadly[] = {SIGSEGV, SIGABRT, SIGTRAP, SIGSYS};

    (void)state;
    for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++) {
        struct recorder *recorder = open_one(1);
        siginfo_t info = {.si_code = SI_QUEUE};
        pid_t child = fork_quietly();
        int status;

        if (child == 0) {
            signal(deadly[i], SIG_DFL); /* cmocka catches some */
            recorder_catch_crashes(recorder);
            recorder_register(recorder, uuid_of(1), 1, 0);
            for (;;)
                pause();
        }
        while (!recorder_is_registered(recorder))
            usleep(1000);
        assert_int_equal(syscall(SYS_rt_sigqueueinfo, child, deadly[i], &info), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(WTERMSIG(status), deadly[i]);
        assert_int_equal(recorder->head->signal, deadly[i]);
        assert_int_equal(recorder->head->sender, RECORDER_OUTSIDE);
        recorder_close(recorder);
    }
}

/* In a file it outlives everybody. */
static void test_a_file_can_be_read_by_others(void **state)
{
    char path[] = "/tmp/mserve-recorder-XXXXXX", head[12];
    struct recorder *recorder;
    int fd = mkstemp(path);
    FILE *file;

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(recorder_open(path, 3, &recorder), ERR_OK);
    recorder_begin(recorder, uuid_of(1), 1, 0, 1);
    recorder_close(recorder);
    file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(head, 1, sizeof head, file), sizeof head);
    assert_memory_equal(head, "MSRECORD\1\0\0\0", sizeof head);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    assert_int_equal(ftell(file), 512 + 3 * sizeof(struct recorder_slot));
    fclose(file);
    unlink(path);
}

/* Two workers of a host with the same settings: the second one is refused, and the first keeps its own. */
static void test_a_file_has_one_worker(void **state)
{
    char path[] = "/tmp/mserve-recorder-XXXXXX";
    struct recorder *first, *second;
    int fd = mkstemp(path);

    (void)state;
    close(fd);
    assert_int_equal(recorder_open(path, 3, &first), ERR_OK);
    recorder_register(first, uuid_of(5), 42, 0);
    assert_int_equal(recorder_open(path, 3, &second), ERR_IO);
    assert_int_equal(first->head->token, 42);
    recorder_close(first);
    assert_int_equal(recorder_open(path, 3, &second), ERR_OK);
    assert_false(recorder_is_registered(second));
    recorder_close(second);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots_are_taken_and_given_back),
        cmocka_unit_test(test_nothing_is_recorded_without_one),
        cmocka_unit_test(test_a_dead_child_has_left_its_numbers),
        cmocka_unit_test(test_who_sent_a_signal_is_noted),
        cmocka_unit_test(test_a_signal_from_outside_is_nobodys_crash),
        cmocka_unit_test(test_a_file_can_be_read_by_others),
        cmocka_unit_test(test_a_file_has_one_worker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
