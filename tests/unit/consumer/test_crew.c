/* test_crew.c: what each member of a crew has of its own, and what becomes of them together. */
#include "consumer/crew.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct settings_tier fast = {.name = "fast", .backend = "sim", .gpu_share = 1};
static struct settings_tier balanced = {.name = "balanced", .backend = "sim", .gpu_share = 3};
static struct placement nowhere = {.fd = -1};

static struct settings all = {
    .worker = {.name = "w7",
               .http = "0.0.0.0:9400",
               .recorder = "/run/black-box",
               .price_per_gpu_hour = 4,
               .price_on_demand_per_gpu_hour = 8},
};

static struct crew crew_of_two(void)
{
    return (struct crew){
        .settings = &all, .placement = &nowhere, .tier = {&fast, &balanced}, .count = 2};
}

/* Names, files and ports differ, and the prices add up to that of the one device. */
static void test_members_have_their_own_and_pay_together(void **state)
{
    struct crew crew = crew_of_two();
    struct settings member[2];
    const char *name[2];

    (void)state;
    for (uint32_t i = 0; i < 2; i++)
        crew_settings(&crew, i, &member[i], &name[i]);
    assert_string_equal(name[0], "w7.fast");
    assert_string_equal(name[1], "w7.balanced");
    assert_string_equal(member[0].worker.http, "0.0.0.0:9400");
    assert_string_equal(member[1].worker.http, "0.0.0.0:9401");
    assert_string_equal(member[1].worker.recorder, "/run/black-box.balanced");
    assert_true(member[0].worker.price_per_gpu_hour == 1);
    assert_true(member[1].worker.price_per_gpu_hour == 3);
    assert_true(member[1].worker.price_on_demand_per_gpu_hour == 6);
    for (uint32_t i = 0; i < 2; i++)
        crew_forget_settings(&member[i]);
    assert_string_equal(all.worker.http, "0.0.0.0:9400");
}

/* A port that is to be free is free for each; --name goes before the setting. */
static void test_what_was_not_stated_is_not_made_up(void **state)
{
    struct crew crew = crew_of_two();
    struct settings some = all, member;
    const char *name;

    (void)state;
    some.worker.http = "127.0.0.1:0";
    some.worker.recorder = "";
    crew.settings = &some;
    crew.name = "given";
    crew_settings(&crew, 1, &member, &name);
    assert_string_equal(name, "given.balanced");
    assert_string_equal(member.worker.http, "127.0.0.1:0");
    assert_string_equal(member.worker.recorder, "");
    crew_forget_settings(&member);
}

/* Without a card nothing is to be planned. */
static void test_no_card_is_no_plan(void **state)
{
    struct crew crew = crew_of_two();

    (void)state;
    assert_int_equal(crew_plan(&crew), ERR_OK);
    assert_int_equal(crew.kv_tokens[0], 0);
}

/* In the children: one ends as the table says, the other waits to be told. */
static int end_as_told(void *context, uint32_t index)
{
    const int *status = context;

    if (status[index] < 0)
        pause();
    return status[index];
}

/* Runs a crew in a process of its own, since crew_run() returns in its children too. */
struct run {
    int status[2];
    int ended;
};

static void run_crew(void *context)
{
    struct run *run = context;
    struct crew crew = crew_of_two();
    const pid_t above = getpid();
    int status = crew_run(&crew, end_as_told, run->status);

    if (getpid() != above)
        _exit(status);
    run->ended = status;
}

static int status_of(int first, int second)
{
    struct run *run = placement_shared(sizeof(*run));
    int ended;

    assert_non_null(run);
    *run = (struct run){{first, second}, -1};
    assert_true(placement_apart(run_crew, run));
    ended = run->ended;
    placement_unshare(run, sizeof(*run));
    return ended;
}

/* All well is 0; one that fails takes the others along, and its status is the crew's. */
static void test_one_that_fails_is_the_end_of_all(void **state)
{
    (void)state;
    assert_int_equal(status_of(0, 0), 0);
    assert_int_equal(status_of(0, 11), 11);
    assert_int_equal(status_of(11, -1), 11); /* the second would wait for ever */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members_have_their_own_and_pay_together),
        cmocka_unit_test(test_what_was_not_stated_is_not_made_up),
        cmocka_unit_test(test_no_card_is_no_plan),
        cmocka_unit_test(test_one_that_fails_is_the_end_of_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
