/* test_kv.c: KV blocks, and the tags table: small structures that must never lose an entry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/core/kv.h"
#include "kernels/core/tags.h"

/* Every block is handed out once, and then there is none. */
static void test_each_block_is_given_once(void **state)
{
    bool given[100] = {false};
    struct kv kv;
    uint32_t block = 0;

    (void)state;
    kv_init(&kv, 100);
    for (int i = 0; i < 100; i++) {
        assert_true(kv_take(&kv, &block));
        assert_true(block < 100 && !given[block]);
        given[block] = true;
    }
    assert_false(kv_take(&kv, &block));
    kv_release(&kv);
}

/* A sequence's first block is the first to be used again. */
static void test_a_table_comes_back_tail_first(void **state)
{
    uint32_t table[3], again[3];
    struct kv kv;

    (void)state;
    kv_init(&kv, 10);
    for (int i = 0; i < 3; i++)
        assert_true(kv_take(&kv, &table[i]));
    for (int i = 3; i > 0; i--)
        assert_false(kv_give_back(&kv, table[i - 1], false));
    assert_int_equal(kv.free_len, 10);
    for (int i = 0; i < 3; i++)
        assert_true(kv_take(&kv, &again[i]));
    assert_memory_equal(table, again, sizeof(table));
    kv_release(&kv);
}

/* Tags come and go in any order, many with the same home; a plain array says what is there. */
static void test_tags_are_found_until_they_are_dropped(void **state)
{
    enum { TAGS = 64 };
    struct sequence *const mark = (struct sequence *)(void *)&state;
    bool there[4 * TAGS] = {false};
    uint64_t random = 5;
    uint32_t len = 0;
    struct tags tags;

    (void)state;
    tags_init(&tags, TAGS);
    for (int round = 0; round < 100000; round++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        const uint32_t number = (uint32_t)(random >> 40) % (4 * TAGS);
        const uint64_t tag = (uint64_t)number << (number % 48); /* 0 is a tag too */

        if (number > 0 && number % 2 == 0)
            continue; /* shifted, it could equal another */
        assert_ptr_equal(tags_find(&tags, tag), there[number] ? mark : NULL);
        if (there[number]) {
            tags_drop(&tags, tag);
            len--;
        } else if (len < TAGS) {
            tags_add(&tags, tag, mark);
            len++;
        } else {
            continue;
        }
        there[number] = !there[number];
    }
    tags_release(&tags);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_block_is_given_once),
        cmocka_unit_test(test_a_table_comes_back_tail_first),
        cmocka_unit_test(test_tags_are_found_until_they_are_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
