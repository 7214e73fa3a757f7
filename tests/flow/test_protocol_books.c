/*
 * test_protocol_books.c: the bill adds up to the nanosecond after every step of a random walk, and a
 * nanosecond too many is seen wherever it is put.
 */
#include "tests/flow/pg.h"
#include "tests/flow/proof.h"
#include "tests/flow/scene.h"
#include "tests/flow/walk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct db *db;

/* MSERVE_WALK_SEED walks elsewhere, MSERVE_WALK_STEPS further. */
static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

/* Other walks may meet less: what they must have met is said of the one that is always walked. */
static bool is_elsewhere(void)
{
    return getenv("MSERVE_WALK_SEED") || getenv("MSERVE_WALK_STEPS");
}

/* A seed is one walk, so these do not change from run to run. */
static void print_seen(const struct walk_seen *seen)
{
    print_message(
        "landed %u, before %u, fenced %u, lost %u, duplicates %u, buried %u, failovers %u; "
        "checkpoints %u, taken over %u, discarded %u, late %u\n",
        seen->landed, seen->landed_before, seen->fenced, seen->lost, seen->duplicates, seen->buried,
        seen->failovers, seen->saved, seen->taken_over, seen->discarded, seen->late);
}

static void test_a_random_walk_is_as_predicted(void **state)
{
    struct walk_options options = {.seed = from_environment("MSERVE_WALK_SEED", 1),
                                   .steps = (uint32_t)from_environment("MSERVE_WALK_STEPS", 400)};
    struct walk_seen seen;

    (void)state;
    assert_string_equal(walk_run(db, &options, &seen), "");
    print_seen(&seen);
    if (is_elsewhere())
        return;
    assert_true(seen.landed > 50 && seen.landed_before > 5 && seen.fenced > 3);
    assert_true(seen.lost > 5 && seen.duplicates > 20 && seen.buried > 5);
    assert_true(seen.saved > 100 && seen.taken_over > 20 && seen.discarded > 5 && seen.late > 10);
}

static void test_a_random_walk_through_failovers_is_as_predicted(void **state)
{
    struct walk_options options = {.seed = from_environment("MSERVE_WALK_SEED", 5),
                                   .steps = (uint32_t)from_environment("MSERVE_WALK_STEPS", 250),
                                   .failovers = true};
    struct walk_seen seen;

    (void)state;
    assert_string_equal(walk_run(db, &options, &seen), "");
    print_seen(&seen);
    if (is_elsewhere())
        return;
    assert_true(seen.failovers > 3 && seen.landed > 30 && seen.lost > 5 && seen.fenced > 0);
    assert_true(seen.saved > 30 && seen.taken_over > 3 && seen.discarded > 0);
}

/* What each does to the books of one row that the walk left; all of it is seen. */
static const char *const plants[] = {
    "results set gpu_ns = gpu_ns + 1 where gpu_ns > 0",
    "results set gpu_ns = gpu_ns - 1 where gpu_ns > 0",
    "worker_ledger set held_ns = held_ns + 1 where true",
    "worker_ledger set rows_ns = rows_ns + 1 where true",
    "worker_ledger set taken_over_ns = taken_over_ns + 1 where true",
    "worker_ledger set handed_over_ns = handed_over_ns + 1 where true",
    "worker_ledger set wip_ns = wip_ns + 1 where true",
    "worker_ledger set shared_ns = shared_ns + 1 where true",
    "worker_ledger set recompute_ns = recompute_ns + 1 where true",
    "worker_ledger set overhead_ns = overhead_ns + 1 where true",
    "worker_ledger set idle_ns = idle_ns - 1 where true",
    "worker_ledger set lost_ns = lost_ns + 1 where true",
    "checkpoints set gpu_ns = gpu_ns + 1 where true",
    "attempts set gpu_ns = gpu_ns + 1 where true",
    "jobs set lost_ns = lost_ns - 1 where lost_ns > 0",
    "workers set booked_ns = booked_ns - 1 where booked_ns > 0",
    "workers set wip_ns = wip_ns + 1 where true",
    "workers set ledger_seq = ledger_seq + 1 where true",
    "jobs set rows_ns = rows_ns + 1 where true",
    "jobs set shared_ns = shared_ns + 1 where true",
    "jobs set recompute_ns = recompute_ns - 1 where true",
    "jobs set output_tokens = output_tokens + 1 where true",
    "jobs set completed = completed - 1 where completed > 0",
    "jobs set failed = failed - 1, cancelled = cancelled + 1 where failed > 0",
    "chunks set done_count = done_count - 1 where done_count > 0",
    "chunks set done_map = ~done_map where done_count * 2 <> lines",
};

/* Plants it in one row, asks the view, and takes it back. */
static bool is_seen(const char *plant)
{
    char statement[256];
    int table = (int)strcspn(plant, " "), where = (int)(strstr(plant, " where ") - plant);
    bool seen;

    snprintf(statement, sizeof(statement),
             "begin; update mserve.%.*s and ctid = (select min(ctid) from mserve.%.*s%s)",
             (int)strlen(plant), plant, table, plant, plant + where);
    pg_do(db, statement);
    seen =
        pg_number(db, "select (unexplained_ns <> 0 or jobs_unexplained_ns <> 0 or jobs_differ > 0 "
                      "or bitmaps_differ > 0 or workers_differ > 0 or checkpoints_unexplained_ns "
                      "<> 0 or checkpoints_differ > 0 or attempts_differ > 0)::integer "
                      "from mserve.ledger_check") == 1;
    pg_do(db, "rollback");
    return seen;
}

/* After the walk: ledger_check finds one nanosecond, token, row or bit, wherever it is put. */
static void test_a_planted_nanosecond_is_seen(void **state)
{
    (void)state;
    pg_do(db, "select * from mserve.tick(3600000)");
    proof_assert(db);
    for (size_t i = 0; i < sizeof(plants) / sizeof(plants[0]); i++)
        if (!is_seen(plants[i]) && !is_elsewhere()) /* elsewhere there may be no such row */
            fail_msg("nobody sees: %s", plants[i]);
    proof_assert(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_random_walk_is_as_predicted),
        cmocka_unit_test(test_a_random_walk_through_failovers_is_as_predicted),
        cmocka_unit_test(test_a_planted_nanosecond_is_seen),
    };
    int failed;

    db = scene_open("protocol_books");
    failed = cmocka_run_group_tests_name("protocol_books", tests, NULL, NULL);
    scene_close(db);
    return failed;
}
