/*
 * test_failpoint.c: the rules and the hits of config/failpoint.h, compiled here as a build with
 * -Dfailpoints=true has them.
 */
#ifndef MSERVE_FAILPOINTS
#define MSERVE_FAILPOINTS
#include "config/failpoint.c"
#endif
#include "config/failpoint.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void set(const char *text)
{
    assert_int_equal(failpoint_set(text, NULL, 1), ERR_OK);
}

static enum failpoint_action at(const char *point)
{
    char name[64];

    snprintf(name, sizeof(name), FAILPOINT_PREFIX "%s", point);
    return failpoint_take(name).action;
}

static int steps;

static enum err step(enum err rc)
{
    steps++;
    return rc;
}

static enum err told(enum err rc)
{
    return FAILPOINT_CALL("step", ERR_DEVICE, step(rc));
}

/* Without rules every step is done, and its outcome is what it was. */
static void test_without_rules_nothing_changes(void **state)
{
    (void)state;
    set(NULL);
    steps = 0;
    assert_int_equal(told(ERR_OK), ERR_OK);
    assert_int_equal(told(ERR_AGAIN), ERR_AGAIN);
    assert_int_equal(steps, 2);
    assert_int_equal(FAILPOINT_ERR("acked", ERR_DATABASE), ERR_OK);
}

/* The caller hears of an error in both cases; only after a timeout was the step done. */
static void test_error_skips_the_step_and_timeout_does_it(void **state)
{
    (void)state;
    set("step=error@1;step=timeout@2;step=timeout@3");
    steps = 0;
    assert_int_equal(told(ERR_OK), ERR_DEVICE);
    assert_int_equal(steps, 0);
    assert_int_equal(told(ERR_OK), ERR_DEVICE);
    assert_int_equal(steps, 1);
    assert_int_equal(told(ERR_AGAIN), ERR_AGAIN); /* it failed by itself: that is what is known */
    assert_int_equal(told(ERR_OK), ERR_OK);
    set("acked=error");
    assert_int_equal(FAILPOINT_ERR("acked", ERR_DATABASE), ERR_DATABASE);
    set("acked=timeout");
    assert_int_equal(FAILPOINT_ERR("acked", ERR_DATABASE), ERR_DATABASE);
}

/* @N is one hit, @N+ it and the later ones, nothing is all; each point counts alone. */
static void test_rules_choose_hits(void **state)
{
    (void)state;
    set("step=error@2;acked=kill@3+;sealed=abort");
    assert_int_equal(at("step"), FAILPOINT_NONE);
    assert_int_equal(at("acked"), FAILPOINT_NONE);
    assert_int_equal(at("step"), FAILPOINT_ERROR);
    assert_int_equal(at("step"), FAILPOINT_NONE);
    assert_int_equal(at("acked"), FAILPOINT_NONE);
    assert_int_equal(at("acked"), FAILPOINT_KILL);
    assert_int_equal(at("acked"), FAILPOINT_KILL);
    assert_int_equal(at("sealed"), FAILPOINT_ABORT);
    assert_int_equal(at("drain"), FAILPOINT_NONE);
}

static unsigned hits_of(uint64_t seed, char *ret_which, unsigned count)
{
    unsigned found = 0;

    assert_int_equal(failpoint_set("step=error@p(0.05)", NULL, seed), ERR_OK);
    for (unsigned i = 0; i < count; i++) {
        ret_which[i] = at("step") == FAILPOINT_ERROR;
        found += (unsigned)ret_which[i];
    }
    return found;
}

/* The same seed strikes the same hits, another one others, and about as many as was asked. */
static void test_chance_is_replayed_by_its_seed(void **state)
{
    static char first[10000], again[10000], other[10000];
    unsigned found = hits_of(7, first, sizeof(first));

    (void)state;
    assert_in_range(found, 400, 600);
    assert_int_equal(hits_of(7, again, sizeof(again)), found);
    assert_memory_equal(first, again, sizeof(first));
    assert_in_range(hits_of(8, other, sizeof(other)), 400, 600);
    assert_memory_not_equal(first, other, sizeof(first));
}

/* What is misspelt is refused with a sentence, not passed over. */
static void test_what_makes_no_sense_is_refused(void **state)
{
    static const char *const wrong[] = {
        "comit.sent=kill", "step",           "step=",         "step=exit",          "=kill",
        "step=sleep",      "step=sleep()",   "step=sleep(x)", "step=kill@",         "step=kill@0",
        "step=kill@x",     "step=kill@p(2)", "step=kill@p()", "step=kill@p(-1)",    "step=kill@+",
        "step=kill@1-2",   "step =kill",     "step=-",        "step=sleep(600001)",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        if (failpoint_set(wrong[i], NULL, 1) != ERR_USAGE)
            fail_msg("'%s' was taken", wrong[i]);
    set("step=kill@3;;acked=sleep(0)@p(0.5);");
    assert_int_equal(failpoint_set("step=error;step=error;step=error;step=error;step=error;"
                                   "step=error;step=error;step=error;step=error;step=error;"
                                   "step=error;step=error;step=error;step=error;step=error;"
                                   "step=error;step=error",
                                   NULL, 1),
                     ERR_USAGE);
}

/* How a child that comes to the point ends. */
static int end_of_child(const char *text, int flags)
{
    int status;
    pid_t child;

    set(text);
    child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        _exit(told(ERR_OK) == ERR_OK ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, flags), child);
    if (WIFSTOPPED(status)) {
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
    }
    return status;
}

/* The process is gone, or stands still, at once. */
static void test_signals_strike_the_process(void **state)
{
    int status;

    (void)state;
    status = end_of_child("step=kill", 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    status = end_of_child("step=abort", 0);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    status = end_of_child("step=stop", WUNTRACED);
    assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    status = end_of_child("acked=kill", 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_sleep_sleeps(void **state)
{
    struct timespec before, after;

    (void)state;
    set("step=sleep(30)@1");
    clock_gettime(CLOCK_MONOTONIC, &before);
    assert_int_equal(told(ERR_OK), ERR_OK);
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_true((after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec >=
                30000000);
}

/*
 * A program that is killed at its third hit and started again with the same environment comes to its
 * fourth: the log remembers. Lines of others, and half a line, do no harm.
 */
static void test_the_log_carries_the_count_on(void **state)
{
    char path[] = "/tmp/failpoint-XXXXXX", line[160];
    int fd = mkstemp(path);
    FILE *file;

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(failpoint_set("step=kill@3", path, 1), ERR_OK);
    assert_int_equal(at("step"), FAILPOINT_NONE);
    assert_int_equal(at("acked"), FAILPOINT_NONE);
    assert_int_equal(at("step"), FAILPOINT_NONE);
    assert_int_equal(at("step"), FAILPOINT_KILL);
    assert_int_equal(failpoint_set("step=kill@3", path, 1), ERR_OK);
    assert_int_equal(failpoint_take(FAILPOINT_PREFIX "step").number, 4);
    assert_int_equal(failpoint_take(FAILPOINT_PREFIX "acked").number, 2);
    file = fopen(path, "r");
    for (int i = 0; i < 4; i++)
        assert_non_null(fgets(line, sizeof(line), file));
    fclose(file);
    assert_non_null(strstr(line, " step 3 kill\n"));
    assert_int_equal(line[0], '4');
    unlink(path);
}

/* One program, of which the parent starts a child again that is killed: the second one is spared. */
static void test_a_child_goes_on_counting_where_the_last_was_killed(void **state)
{
    char path[] = "/tmp/failpoint-XXXXXX";
    int fd = mkstemp(path), status;

    (void)state;
    close(fd);
    setenv("MSERVE_FAILPOINTS", "step=kill@2", 1);
    setenv("MSERVE_FAILPOINTS_LOG", path, 1);
    assert_int_equal(failpoint_start("test"), ERR_OK);
    for (int child = 0; child < 2; child++) {
        pid_t pid = fork();

        if (pid == 0) {
            (void)told(ERR_OK);
            _exit(told(ERR_OK) == ERR_OK ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (child == 0)
            assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        else
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    unsetenv("MSERVE_FAILPOINTS");
    unsetenv("MSERVE_FAILPOINTS_LOG");
    unlink(path);
}

static void test_a_log_that_cannot_be_is_refused(void **state)
{
    (void)state;
    assert_int_equal(failpoint_set("step=kill@3", "/nowhere/at/all", 1), ERR_USAGE);
}

/* Tests loop over this list, so a point missing from it would never be struck. */
static void test_the_list_has_every_step_of_the_protocols(void **state)
{
    static const char *const wanted[] = {
        "job.inserted",
        "produced",
        "chunk.row",
        "sealed",
        "registered",
        "claim.sent",
        "claim.acked",
        "range.read",
        "step",
        "row.updated",
        "partitions.locked",
        "copied",
        "commit.sent",
        "acked",
        "renewal",
        "checkpoint",
        "drain",
        "burial",
        "deltas.deleted",
        "fold.committed",
        "webhook.claimed",
        "webhook.sent",
        "webhook.answered",
        "webhook.recorded",
    };
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    (void)state;
    failpoint_list(out);
    fclose(out);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        char start[64];

        snprintf(start, sizeof(start), "%s%s\tmserve-", i > 0 ? "\n" : "", wanted[i]);
        if (!strstr(text, start))
            fail_msg("%s is not in the list", wanted[i]);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_rules_nothing_changes),
        cmocka_unit_test(test_error_skips_the_step_and_timeout_does_it),
        cmocka_unit_test(test_rules_choose_hits),
        cmocka_unit_test(test_chance_is_replayed_by_its_seed),
        cmocka_unit_test(test_what_makes_no_sense_is_refused),
        cmocka_unit_test(test_signals_strike_the_process),
        cmocka_unit_test(test_sleep_sleeps),
        cmocka_unit_test(test_the_log_carries_the_count_on),
        cmocka_unit_test(test_a_child_goes_on_counting_where_the_last_was_killed),
        cmocka_unit_test(test_a_log_that_cannot_be_is_refused),
        cmocka_unit_test(test_the_list_has_every_step_of_the_protocols),
    };

    return cmocka_run_group_tests_name("failpoint", tests, NULL, NULL);
}
