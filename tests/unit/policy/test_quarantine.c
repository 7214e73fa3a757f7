/*
 * test_quarantine.c: the decisions of quarantine.h, alone and in a model of workers that die: whatever
 * happens, a poison is found within so many deaths, and nobody else ever is.
 */
#include "scheduler/policy/quarantine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { REQUESTS_MAX = 64 };

static const struct quarantine_limits limits = {.deaths_alone = 3, .vanished = 5, .hosts = 3};

/* What the database keeps, and who really is a poison. */
struct world {
    uint32_t count;
    struct quarantine_evidence known[REQUESTS_MAX];
    bool poison[REQUESTS_MAX];
    bool done[REQUESTS_MAX];
    uint32_t deaths;
};

static uint32_t log2_of(uint32_t n)
{
    uint32_t log = 0;

    while (n >>= 1)
        log++;
    return log;
}

/* ------------------------------------------------------------------------------ what they say ---- */

/* Of nobody who is not accused anything is held. */
static void test_nothing_known_is_free(void **state)
{
    const struct quarantine_evidence none = {0};
    uint32_t cap = 7;

    (void)state;
    assert_int_equal(quarantine_judge(&none, &limits, &cap), QUARANTINE_FREE);
}

/* Half of those that were open, and never less than one. */
static void test_a_death_halves_the_cap(void **state)
{
    (void)state;
    assert_int_equal(quarantine_charge(32, false).cap, 16);
    assert_int_equal(quarantine_charge(33, false).cap, 16);
    assert_int_equal(quarantine_charge(3, true).cap, 1);
    assert_int_equal(quarantine_charge(1, false).cap, 1);
    assert_int_equal(quarantine_charge(1, false).deaths_alone, 0);
    assert_int_equal(quarantine_charge(2, true).deaths_alone, 0);
    assert_int_equal(quarantine_charge(1, true).deaths_alone, 1);
}

static void test_a_cap_never_grows(void **state)
{
    struct quarantine_evidence known = {0};

    (void)state;
    quarantine_accuse(&known, quarantine_charge(8, false));
    quarantine_accuse(&known, quarantine_charge(64, false));
    assert_int_equal(known.cap, 4);
}

/* Hosts go all the time: one alone, or many workers of one host, say nothing. */
static void test_vanished_hosts_accuse_nobody_until_they_are_many(void **state)
{
    struct quarantine_evidence known = {.vanished = 4, .vanished_hosts = 4};
    uint32_t cap = 0;

    (void)state;
    assert_int_equal(quarantine_judge(&known, &limits, &cap), QUARANTINE_FREE);
    known = (struct quarantine_evidence){.vanished = 50, .vanished_hosts = 2};
    assert_int_equal(quarantine_judge(&known, &limits, &cap), QUARANTINE_FREE);
    known = (struct quarantine_evidence){.vanished = 5, .vanished_hosts = 3};
    assert_int_equal(quarantine_judge(&known, &limits, &cap), QUARANTINE_APART);
    assert_int_equal(cap, 1);
    known.vanished_alone = 5;
    known.vanished_alone_hosts = 3;
    assert_int_equal(quarantine_judge(&known, &limits, &cap), QUARANTINE_GUILTY);
}

/* One cap class runs together: whoever waits longest says which. */
static void test_a_set_is_of_one_cap(void **state)
{
    const struct quarantine_waiting waiting[] = {{4, 30}, {2, 10}, {4, 40}, {2, 50}, {2, 60}};
    uint32_t pick[8];

    (void)state;
    assert_int_equal(quarantine_pick(waiting, 5, 8, pick), 2);
    assert_int_equal(pick[0], 1);
    assert_int_equal(pick[1], 3);
    assert_int_equal(quarantine_pick(waiting, 1, 8, pick), 1);
    assert_int_equal(quarantine_pick(waiting, 5, 1, pick), 1);
    assert_int_equal(quarantine_pick(waiting, 0, 8, pick), 0);
}

/* At once where nothing else is to be done; else when the wait is over, and again only a wait later. */
static void test_normal_work_has_its_turn_between_sets(void **state)
{
    (void)state;
    assert_true(quarantine_is_time(100, 0, 50, false, 100));
    assert_false(quarantine_is_time(100, 0, 50, true, 149));
    assert_true(quarantine_is_time(100, 0, 50, true, 150));
    assert_false(quarantine_is_time(100, 200, 50, true, 249));
    assert_true(quarantine_is_time(100, 200, 50, true, 250));
    assert_true(quarantine_is_time(100, 200, 0, true, 200));
}

/* --------------------------------------------------------------------- one worker at a time ---- */

/* The open requests of a worker that died of one of them. */
static void die(struct world *world, const uint32_t *open, uint32_t count, bool apart)
{
    struct quarantine_charge charge = quarantine_charge(count, apart);

    world->deaths++;
    for (uint32_t i = 0; i < count; i++)
        quarantine_accuse(&world->known[open[i]], charge);
}

static bool kills(const struct world *world, const uint32_t *open, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (world->poison[open[i]])
            return true;
    return false;
}

static void finish(struct world *world, const uint32_t *open, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        world->done[open[i]] = true;
        memset(&world->known[open[i]], 0, sizeof world->known[open[i]]);
    }
}

/* Normal work first, then a set: what a worker without anything else to do would run. */
static uint32_t choose(const struct world *world, uint32_t *open, bool *ret_apart, uint32_t *guilty)
{
    struct quarantine_waiting waiting[REQUESTS_MAX];
    uint32_t suspect[REQUESTS_MAX], pick[REQUESTS_MAX], free_count = 0, count = 0;

    *guilty = UINT32_MAX;
    for (uint32_t i = 0; i < world->count; i++) {
        uint32_t cap = 0;
        enum quarantine_verdict verdict =
            world->done[i] ? QUARANTINE_FREE : quarantine_judge(&world->known[i], &limits, &cap);

        if (world->done[i])
            continue;
        if (verdict == QUARANTINE_GUILTY)
            *guilty = i;
        else if (verdict == QUARANTINE_FREE)
            open[free_count++] = i;
        else {
            suspect[count] = i;
            waiting[count++] = (struct quarantine_waiting){cap, 0};
        }
    }
    *ret_apart = free_count == 0;
    if (free_count > 0)
        return free_count;
    count = quarantine_pick(waiting, count, REQUESTS_MAX, pick);
    for (uint32_t i = 0; i < count; i++)
        open[i] = suspect[pick[i]];
    return count;
}

/* Until every request has its row; how many verdicts fell on the innocent. */
static uint32_t run(struct world *world)
{
    uint32_t open[REQUESTS_MAX], wrong = 0, guilty, count;
    bool apart;

    while ((count = choose(world, open, &apart, &guilty)) > 0 || guilty != UINT32_MAX) {
        assert_true(world->deaths < 1000);
        if (guilty != UINT32_MAX) {
            wrong += !world->poison[guilty];
            finish(world, &guilty, 1);
        } else if (kills(world, open, count)) {
            die(world, open, count, apart);
        } else {
            finish(world, open, count);
        }
    }
    return wrong;
}

/* The promise, for every number of open requests and every place of the poison. */
static void test_a_poison_kills_few_workers(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= REQUESTS_MAX; n++)
        for (uint32_t place = 0; place < n; place++) {
            struct world world = {.count = n};

            world.poison[place] = true;
            assert_int_equal(run(&world), 0);
            assert_true(world.deaths <= 2 + log2_of(n) + 3);
            assert_true(world.deaths >= 3);
        }
}

/* Two of them kill no more than each would alone. */
static void test_two_poisons_kill_no_more_than_each_alone(void **state)
{
    (void)state;
    for (uint32_t n = 2; n <= REQUESTS_MAX; n++)
        for (uint32_t one = 0; one < n; one++)
            for (uint32_t two = one + 1; two < n; two++) {
                struct world world = {.count = n};

                world.poison[one] = world.poison[two] = true;
                assert_int_equal(run(&world), 0);
                assert_true(world.deaths <= 2 * (2 + log2_of(n) + 3));
            }
}

/* ------------------------------------------------------------------------------- anything at all ---- */

static uint64_t dice;

static uint32_t roll(uint32_t sides)
{
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(dice >> 33) % sides;
}

/* A few of what waits, as a worker may have it that holds some of the partitions. */
static uint32_t any_of(uint32_t *open, uint32_t count)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < count; i++)
        if (roll(4) > 0)
            open[kept++] = open[i];
    return kept > 0 ? kept : (count > 0);
}

/* A worker that vanishes tells nobody why; what was open there is noted. */
static void vanish(struct world *world, const uint32_t *open, uint32_t count, bool apart)
{
    uint32_t host = 1 + roll(2); /* of two hosts, one below the limit */

    for (uint32_t i = 0; i < count; i++) {
        struct quarantine_evidence *known = &world->known[open[i]];

        known->vanished++;
        known->vanished_hosts = host > known->vanished_hosts ? host : known->vanished_hosts;
        known->vanished_alone += apart && count == 1;
        known->vanished_alone_hosts = known->vanished_hosts;
    }
}

/*
 * Workers with any part of the work, drains, hosts that vanish again and again, deaths that are
 * proven: verdicts fall on poisons alone, all of them, and each within its deaths.
 */
static void live(struct world *world)
{
    uint32_t open[REQUESTS_MAX], guilty, count;
    bool apart;

    while ((count = choose(world, open, &apart, &guilty)) > 0 || guilty != UINT32_MAX) {
        assert_true(world->deaths < 1000);
        if (guilty != UINT32_MAX) {
            assert_true(world->poison[guilty]);
            finish(world, &guilty, 1);
            continue;
        }
        count = any_of(open, count);
        switch (roll(6)) {
        case 0: /* it leaves with notice: nothing is held against anybody */
            break;
        case 1:
            vanish(world, open, count, apart);
            break;
        case 2: /* some finish first */
            if (!kills(world, open, (count + 1) / 2)) {
                finish(world, open, (count + 1) / 2);
                break;
            }
            __attribute__((fallthrough));
        default:
            if (kills(world, open, count))
                die(world, open, count, apart);
            else
                finish(world, open, count);
        }
    }
}

static void test_only_poisons_are_found_guilty(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct world world = {.count = 1 + (uint32_t)seed % REQUESTS_MAX};
        uint32_t poisons = 0;

        dice = seed;
        for (uint32_t i = 0; i < world.count; i++)
            if (roll(16) == 0) {
                world.poison[i] = true;
                poisons++;
            }
        live(&world);
        assert_true(world.deaths <= poisons * (2 + log2_of(world.count) + 3));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_known_is_free),
        cmocka_unit_test(test_a_death_halves_the_cap),
        cmocka_unit_test(test_a_cap_never_grows),
        cmocka_unit_test(test_vanished_hosts_accuse_nobody_until_they_are_many),
        cmocka_unit_test(test_a_set_is_of_one_cap),
        cmocka_unit_test(test_normal_work_has_its_turn_between_sets),
        cmocka_unit_test(test_a_poison_kills_few_workers),
        cmocka_unit_test(test_two_poisons_kill_no_more_than_each_alone),
        cmocka_unit_test(test_only_poisons_are_found_guilty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
