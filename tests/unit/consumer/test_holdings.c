/* test_holdings.c: what a worker holds: shares, chunks under way, chunks set aside, and wishes. */
#include "consumer/holdings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/consumer/made.h"

static struct holdings *held(struct mailbox *home, int32_t partitions)
{
    struct holdings *holdings;

    mailbox_init(home, -1);
    holdings = holdings_new("t", home);
    for (int32_t part = 0; part < partitions; part++)
        holdings_add_partition(holdings,
                               &(struct lease_partition){.part = part, .epoch = 1, .token = part});
    return holdings;
}

static void let_go(struct holdings *holdings, struct mailbox *home)
{
    mailbox_take(home);
    holdings_free(holdings);
    mailbox_release(home);
}

static struct work_chunk chunk_in(int32_t part, int32_t chunk)
{
    return (struct work_chunk){.job = made_uuid(1),
                               .chunk = chunk,
                               .part = part,
                               .lines = 16,
                               .first_offset = 100 * chunk,
                               .last_offset = 100 * chunk + 15,
                               .tenant = "default",
                               .endpoint = "/v1/completions"};
}

/* All its lines have ended; what the reader left is said by `incomplete`. */
static void come_home(struct holdings *holdings, struct mailbox *home, struct claim_chunk *chunk,
                      bool incomplete)
{
    struct mail_list arrived;

    atomic_store(&chunk->incomplete, incomplete);
    claim_chunk_ended(chunk, 17);
    arrived = mailbox_take(home);
    assert_ptr_equal(mail_list_next(&arrived), chunk);
    holdings_home(holdings, chunk, 1000);
}

static void test_a_chunk_is_taken_once(void **state)
{
    struct mailbox home;
    struct holdings *holdings = held(&home, 2);
    struct work_chunk work = chunk_in(1, 5);
    struct claim_chunk *chunk = holdings_take(holdings, &work);

    (void)state;
    assert_non_null(chunk);
    assert_null(holdings_take(holdings, &work));
    assert_true(holdings_has_job(holdings, made_uuid(1)));
    assert_int_equal(holdings_lowest_offset(holdings, 1), 500);
    come_home(holdings, &home, chunk, false);
    assert_false(holdings_has_job(holdings, made_uuid(1)));
    assert_int_equal(holdings_chunks(holdings), 0);
    let_go(holdings, &home);
}

/* Idle partitions go at once; one with work goes when its chunks are home, and gives up the rest. */
static void test_the_surplus_goes_idle_ones_first(void **state)
{
    struct mailbox home;
    struct holdings *holdings = held(&home, 3);
    struct work_chunk work = chunk_in(0, 0);
    struct work_chunk other = chunk_in(0, 1);
    struct claim_chunk *chunk = holdings_take(holdings, &work);
    int32_t parts[4];
    bool marked;

    (void)state;
    assert_int_equal(holdings_surplus(holdings, 1, parts, 4, &marked), 2);
    assert_true(marked);
    holdings_forget_dropped(holdings);
    assert_false(claim_chunk_is_leaving(chunk));

    assert_int_equal(holdings_surplus(holdings, 0, parts, 4, &marked), 0);
    assert_true(marked && claim_chunk_is_leaving(chunk) && !claim_chunk_is_dropped(chunk));
    assert_null(holdings_take(holdings, &other));
    come_home(holdings, &home, chunk, true);
    assert_int_equal(holdings_surplus(holdings, 0, parts, 4, &marked), 1);
    assert_int_equal(parts[0], 0);
    let_go(holdings, &home);
}

/* The share grew again while a partition was on its way out: it is released all the same, so that it
 * can be claimed anew. Otherwise nobody would ever work on it. */
static void test_a_leaving_partition_is_released_also_when_the_share_grew(void **state)
{
    struct mailbox home;
    struct holdings *holdings = held(&home, 2);
    struct work_chunk work[2] = {chunk_in(0, 0), chunk_in(1, 1)};
    struct claim_chunk *chunk[2];
    int32_t parts[4];
    bool marked;

    (void)state;
    for (int i = 0; i < 2; i++)
        chunk[i] = holdings_take(holdings, &work[i]);
    assert_int_equal(holdings_surplus(holdings, 1, parts, 4, &marked), 0);
    assert_true(marked);
    for (int i = 0; i < 2; i++)
        come_home(holdings, &home, chunk[i], false);
    assert_int_equal(holdings_partitions(holdings), 1);
    assert_int_equal(holdings_surplus(holdings, 2, parts, 4, &marked), 1);
    assert_false(marked);
    let_go(holdings, &home);
}

/* A chunk that the log does not hold is left alone for a while, and is not asked for meanwhile. */
static void test_an_incomplete_chunk_is_set_aside_for_a_while(void **state)
{
    struct mailbox home;
    struct holdings *holdings = held(&home, 1);
    struct work_chunk work = chunk_in(0, 3);
    size_t count;

    (void)state;
    come_home(holdings, &home, holdings_take(holdings, &work), true);
    assert_null(holdings_take(holdings, &work));
    assert_int_equal(holdings_in_hand(holdings, &count)->chunk, 3);
    assert_int_equal(count, 1);
    holdings_look_again(holdings, 999);
    assert_null(holdings_take(holdings, &work));
    holdings_look_again(holdings, 1000);
    assert_non_null(holdings_take(holdings, &work));
    let_go(holdings, &home);
}

/* What the log has lost is told of until the index knows, under way and set aside; from then on the
 * index says when it may be taken again. */
static void test_a_missing_chunk_is_told_of_once(void **state)
{
    struct mailbox home;
    struct holdings *holdings = held(&home, 2);
    struct work_chunk work[2] = {chunk_in(0, 3), chunk_in(1, 5)};
    struct claim_chunk *chunk[2];
    struct work_missing missing[4];
    size_t count;

    (void)state;
    for (int i = 0; i < 2; i++) {
        chunk[i] = holdings_take(holdings, &work[i]);
        atomic_store(&chunk[i]->missing, true);
    }
    assert_int_equal(holdings_missing(holdings, missing, 4), 2);
    assert_int_equal(holdings_missing(holdings, missing, 1), 1);
    assert_int_equal(missing[0].chunk, 3);
    assert_int_equal(missing[0].epoch, chunk[0]->partition->epoch);
    assert_int_equal(missing[0].first_offset, work[0].first_offset);
    assert_int_equal(missing[0].last_offset, work[0].last_offset);

    holdings_told(holdings, &missing[0]);
    come_home(holdings, &home, chunk[0], true);
    assert_int_equal(holdings_in_hand(holdings, &count)->chunk, 5);
    assert_int_equal(count, 1);

    come_home(holdings, &home, chunk[1], true);
    assert_int_equal(holdings_missing(holdings, missing, 4), 1);
    assert_int_equal(missing[0].chunk, 5);
    assert_null(holdings_take(holdings, &work[1]));
    holdings_told(holdings, &missing[0]);
    assert_int_equal(holdings_missing(holdings, missing, 4), 0);
    assert_non_null(holdings_take(holdings, &work[1]));
    let_go(holdings, &home);
}

/* Nothing is said of a chunk whose partition is somebody else's by now. */
static void test_a_missing_chunk_of_a_lost_partition_is_not_told_of(void **state)
{
    struct mailbox home;
    struct holdings *holdings = held(&home, 1);
    struct work_chunk work = chunk_in(0, 3);
    struct claim_chunk *chunk = holdings_take(holdings, &work);
    struct work_missing missing;

    (void)state;
    atomic_store(&chunk->missing, true);
    holdings_drop_all(holdings);
    assert_int_equal(holdings_missing(holdings, &missing, 1), 0);
    come_home(holdings, &home, chunk, true);
    assert_int_equal(holdings_missing(holdings, &missing, 1), 0);
    let_go(holdings, &home);
}

static void test_a_wish_is_noted_once_and_never_taken_back(void **state)
{
    struct mailbox home;
    struct holdings *holdings = held(&home, 1);
    struct work_chunk work = chunk_in(0, 0);
    struct claim_chunk *chunk = holdings_take(holdings, &work);
    size_t count;

    (void)state;
    holdings_jobs(holdings, &count);
    assert_int_equal(count, 1);
    assert_false(holdings_set_wishes(holdings, &(enum work_wish){WORK_RUN}, 1));
    assert_true(holdings_set_wishes(holdings, &(enum work_wish){WORK_EXPIRE}, 1));
    assert_false(holdings_set_wishes(holdings, &(enum work_wish){WORK_CANCEL}, 1));
    assert_int_equal(claim_job_wish(chunk->job), WISH_EXPIRE);
    let_go(holdings, &home);
}

/*
 * A paused job is like a partition on its way out: its chunk comes home, and is not set aside. It runs
 * again as soon as the index gives of it, or says so; one that is to end is not held.
 */
static void test_a_hold_comes_and_goes(void **state)
{
    struct mailbox home;
    struct holdings *holdings = held(&home, 1);
    struct work_chunk work[2] = {chunk_in(0, 0), chunk_in(0, 1)};
    struct claim_chunk *chunk = holdings_take(holdings, &work[0]);
    size_t count;

    (void)state;
    holdings_jobs(holdings, &count);
    assert_true(holdings_set_wishes(holdings, &(enum work_wish){WORK_HOLD}, 1));
    assert_true(claim_chunk_is_leaving(chunk) && !claim_chunk_is_dropped(chunk));
    assert_int_equal(claim_job_wish(chunk->job), WISH_RUN);
    assert_false(holdings_set_wishes(holdings, &(enum work_wish){WORK_HOLD}, 1));
    assert_false(holdings_set_wishes(holdings, &(enum work_wish){WORK_RUN}, 1));
    assert_false(claim_chunk_is_leaving(chunk));

    assert_true(holdings_set_wishes(holdings, &(enum work_wish){WORK_HOLD}, 1));
    assert_non_null(holdings_take(holdings, &work[1]));
    assert_false(claim_chunk_is_leaving(chunk));

    assert_true(holdings_set_wishes(holdings, &(enum work_wish){WORK_HOLD}, 1));
    assert_true(holdings_set_wishes(holdings, &(enum work_wish){WORK_CANCEL}, 1));
    assert_false(claim_chunk_is_leaving(chunk));
    assert_int_equal(claim_job_wish(chunk->job), WISH_CANCEL);
    let_go(holdings, &home);
}

/* A partition that was lost and claimed again stands there twice; chunks are taken of the new one. */
static void test_a_partition_claimed_again_is_another(void **state)
{
    struct mailbox home;
    struct holdings *holdings = held(&home, 1);
    struct work_chunk work[2] = {chunk_in(0, 0), chunk_in(0, 1)};
    struct claim_chunk *old = holdings_take(holdings, &work[0]);
    struct claim_chunk *new;

    (void)state;
    holdings_drop_all(holdings);
    holdings_forget_dropped(holdings);
    holdings_add_partition(holdings, &(struct lease_partition){.part = 0, .epoch = 2});
    new = holdings_take(holdings, &work[1]);
    assert_true(claim_chunk_is_dropped(old));
    assert_false(claim_chunk_is_dropped(new));
    assert_int_equal(new->partition->epoch, 2);
    come_home(holdings, &home, old, true);
    holdings_forget_dropped(holdings);
    assert_int_equal(holdings_partitions(holdings), 1);
    let_go(holdings, &home);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_chunk_is_taken_once),
        cmocka_unit_test(test_the_surplus_goes_idle_ones_first),
        cmocka_unit_test(test_a_leaving_partition_is_released_also_when_the_share_grew),
        cmocka_unit_test(test_an_incomplete_chunk_is_set_aside_for_a_while),
        cmocka_unit_test(test_a_missing_chunk_is_told_of_once),
        cmocka_unit_test(test_a_missing_chunk_of_a_lost_partition_is_not_told_of),
        cmocka_unit_test(test_a_wish_is_noted_once_and_never_taken_back),
        cmocka_unit_test(test_a_hold_comes_and_goes),
        cmocka_unit_test(test_a_partition_claimed_again_is_another),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
