/*
 * test_prefix.c: the tree of beginnings by itself: who finds what, who waits, whose rows are common,
 * and in which order blocks that nobody has are given up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/core/prefix.h"
#include "kernels/core/sequence.h"

enum { BLOCK = DEVICE_BLOCK_TOKENS, BLOCKS = 64, TABLE = 8, SEQUENCES = 8 };

static struct kv kv;
static struct groups groups;
static struct prefix prefix;
static struct sequence_pool pool;

/* A sequence with its table, as blocks.c and plan.c would drive it. */
struct rider {
    struct sequence *sequence;
    uint32_t table[TABLE];
    uint32_t len;
};

static struct rider rider[SEQUENCES];

static int set_up(void **state)
{
    (void)state;
    memset(rider, 0, sizeof(rider));
    kv_init(&kv, BLOCKS);
    groups_init(&groups);
    prefix_init(&prefix, &kv, &groups);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    prefix_release(&prefix);
    groups_release(&groups);
    kv_release(&kv);
    sequence_pool_release(&pool);
    return 0;
}

/* A letter stands for a block of ids; one id more, so that all of them count. */
static void join(uint32_t at, uint64_t group, const char *letters)
{
    struct sequence *sequence = sequence_new(&pool);
    const uint32_t len = (uint32_t)strlen(letters) * BLOCK;

    sequence_reserve(sequence, len + 1);
    for (uint32_t i = 0; i < len; i++)
        sequence->token[i] = (uint32_t)letters[i / BLOCK] * 100 + i % BLOCK;
    sequence->token[len] = 7;
    sequence->len = sequence->prompt_len = len + 1;
    sequence->group = groups_get(&groups, group, at);
    sequence->group->sequences++;
    prefix_join(&prefix, sequence);
    rider[at] = (struct rider){.sequence = sequence};
    assert_int_equal(sequence->path_len, strlen(letters));
}

/* Blocks found. */
static uint32_t take(uint32_t at)
{
    const uint32_t taken =
        prefix_take(&prefix, rider[at].sequence, rider[at].table + rider[at].len);

    rider[at].len += taken;
    rider[at].sequence->computed += taken * BLOCK;
    return taken;
}

static void compute(uint32_t at, uint32_t rows)
{
    struct rider *it = &rider[at];

    it->sequence->computed += rows;
    while (it->len * BLOCK < it->sequence->computed)
        assert_true(kv_take(&kv, &it->table[it->len++]));
    prefix_put(&prefix, it->sequence, it->table);
}

static uint32_t common(uint32_t at)
{
    return prefix_common_rows(&prefix, rider[at].sequence);
}

static bool waits(uint32_t at)
{
    return prefix_must_wait(&prefix, rider[at].sequence);
}

static void end(uint32_t at)
{
    struct group *group = rider[at].sequence->group;

    prefix_part(&prefix, rider[at].sequence);
    group->sequences--;
    groups_tidy(&groups, group);
    prefix_give_back(&prefix, rider[at].table, rider[at].len, false);
}

static uint32_t kept(enum prefix_kept which)
{
    return prefix.kept[which].len;
}

/* Blocks are found along the path and no further; the rows of what two want are common. */
static void test_a_beginning_is_found_block_by_block(void **state)
{
    (void)state;
    join(0, 1, "abcd");
    join(1, 1, "abx");
    assert_int_equal(take(0), 0);
    assert_int_equal(common(0), 2 * BLOCK);
    compute(0, 2 * BLOCK);
    assert_int_equal(common(0), 0); /* c and d are its own */
    compute(0, 2 * BLOCK);
    assert_int_equal(take(1), 2);
    assert_memory_equal(rider[0].table, rider[1].table, 2 * sizeof(uint32_t));
    assert_int_equal(kv.block[rider[0].table[1]].users, 2);
    assert_int_equal(kv.block[rider[0].table[2]].users, 1);
    assert_int_equal(common(1), 0);
    join(2, 1, "abcdz"); /* what was another's own is found as well */
    assert_int_equal(take(2), 4);
}

/* The same ids after others are others, and so are those of another group. */
static void test_ids_count_with_all_before_them(void **state)
{
    (void)state;
    join(0, 1, "abc");
    compute(0, 3 * BLOCK);
    join(1, 1, "bbc");
    join(2, 1, "b");
    join(3, 1, "acb");
    join(4, 2, "abc");
    assert_int_equal(take(1), 0);
    assert_int_equal(take(2), 0);
    assert_int_equal(take(3), 1);
    assert_int_equal(take(4), 0);
    assert_int_equal(common(1), BLOCK); /* with 2 */
    assert_int_equal(common(3), 0);
    assert_int_equal(common(4), 0);
}

/* Two must not fill one block: the second waits, until it is there or the first has gone. */
static void test_a_block_that_was_begun_is_waited_for(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        join(i, 1, "ab");
    compute(0, BLOCK + 5);
    assert_false(waits(0));
    assert_int_equal(common(0), BLOCK - 5);
    assert_int_equal(take(1), 1);
    assert_true(waits(1));
    compute(0, BLOCK - 5);
    assert_false(waits(1));
    assert_int_equal(take(1), 1);

    join(3, 1, "xy");
    join(4, 1, "xy");
    compute(3, 7);
    assert_int_equal(take(4), 0);
    assert_true(waits(4));
    end(3);
    assert_false(waits(4));
    compute(4, 2 * BLOCK);
}

/* Who was evicted has its path before it again, and finds what others still have. */
static void test_an_evicted_one_starts_over(void **state)
{
    uint32_t used, known;

    (void)state;
    join(0, 1, "abcd");
    join(1, 1, "abx");
    compute(0, 4 * BLOCK);
    assert_int_equal(take(1), 2);
    compute(1, BLOCK);
    prefix_restart(&prefix, rider[1].sequence);
    prefix_give_back(&prefix, rider[1].table, rider[1].len, false);
    prefix_ready(&prefix, rider[1].sequence, &used, &known);
    assert_int_equal(used, 2);
    assert_int_equal(known, 1); /* x is kept, and wanted by itself */
    assert_int_equal(kept(PREFIX_WANTED), 1);
    rider[1].len = 0;
    rider[1].sequence->computed = 0;
    assert_int_equal(take(1), 3);
    assert_int_equal(kept(PREFIX_WANTED), 0);
}

/* What nobody has before him goes first, the end of a path before its beginning, the oldest path
 * before the others; what somebody still wants goes when there is nothing else. */
static void test_blocks_are_given_up_from_the_end(void **state)
{
    uint32_t block, first[3], second[2];

    (void)state;
    join(0, 1, "abc");
    compute(0, 3 * BLOCK);
    memcpy(first, rider[0].table, sizeof(first));
    join(1, 2, "xy");
    compute(1, 2 * BLOCK);
    memcpy(second, rider[1].table, sizeof(second));
    end(0);
    end(1);
    assert_int_equal(kept(PREFIX_IDLE), 5);
    join(2, 2, "xyz");
    assert_int_equal(kept(PREFIX_WANTED), 2);
    for (uint32_t i = 3; i > 0; i--) {
        assert_true(prefix_reclaim(&prefix, false, &block));
        assert_int_equal(block, first[i - 1]);
    }
    assert_false(prefix_reclaim(&prefix, false, &block));
    assert_true(prefix_reclaim(&prefix, true, &block));
    assert_int_equal(block, second[1]);
    assert_int_equal(take(2), 1); /* the beginning is still there */
    assert_false(prefix_reclaim(&prefix, true, &block));
    assert_int_equal(groups.len, 1); /* of group 1 nothing is left */
}

/* A path that is wanted again, and let go again, was used last. */
static void test_the_least_recently_used_go_first(void **state)
{
    uint32_t block, first;

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        const char letters[] = {(char)('p' + i), '\0'};

        join(i, 1 + i, letters);
        compute(i, BLOCK);
        end(i);
    }
    first = rider[0].table[0];
    join(3, 1, "p");
    end(3); /* it never ran */
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(prefix_reclaim(&prefix, false, &block));
        assert_int_equal(block == first, i == 2);
    }
    assert_int_equal(prefix.len, 0);
    assert_int_equal(groups.len, 0);
}

/* Time is told group by group, once, and a group that has some to tell outlives its sequences. */
static void test_shared_time_is_told_once(void **state)
{
    struct engine_group_books told;
    uint64_t sum = 0;

    (void)state;
    for (uint32_t i = 0; i < 200; i++) {
        struct group *it = groups_get(&groups, 1000 + i % 100, i);

        groups_charge(&groups, it, i, 1000 - i);
        groups_tidy(&groups, it);
    }
    assert_int_equal(groups.len, 100);
    for (uint32_t i = 0; i < 100; i++) {
        assert_true(groups_tell(&groups, &told));
        assert_int_equal(told.shared_ns, 2 * (told.group - 1000) + 100);
        assert_int_equal(told.shared_ns + told.recompute_ns, 2000);
        sum += told.shared_ns;
    }
    assert_int_equal(sum, 199 * 200 / 2);
    assert_false(groups_tell(&groups, &told));
    assert_int_equal(groups.len, 0);
}

/* Nine of ten are at most so long, to within a bin; and what was long ago fades. */
static void test_lengths_know_their_tail(void **state)
{
    struct lengths lengths = {0};

    (void)state;
    for (uint32_t i = 1; i <= 1000; i++)
        lengths_add(&lengths, i);
    assert_true(lengths.p90 >= 900 && lengths.p90 <= 1023);
    for (uint32_t i = 0; i < 40000; i++)
        lengths_add(&lengths, 5);
    assert_int_equal(lengths.p90, 5);
    lengths = (struct lengths){0};
    for (uint32_t i = 0; i < 32; i++) {
        lengths_add(&lengths, UINT32_MAX >> i);
        assert_true(lengths.p90 >= UINT32_MAX >> ((i + 1) / 10));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_beginning_is_found_block_by_block, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_ids_count_with_all_before_them, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_block_that_was_begun_is_waited_for, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_an_evicted_one_starts_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_blocks_are_given_up_from_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_least_recently_used_go_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_shared_time_is_told_once, set_up, tear_down),
        cmocka_unit_test(test_lengths_know_their_tail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
