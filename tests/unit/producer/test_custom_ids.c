/* test_custom_ids.c: every duplicate is found, and nothing else. */
#include "producer/custom_ids.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct custom_id_key key = {0x0706050403020100, 0x0f0e0d0c0b0a0908};

static void assert_hash(struct slice text, const char *want_hex)
{
    struct custom_id_hash hash = custom_id_hash(&key, text);
    char hex[33];

    for (int i = 0; i < 16; i++)
        sprintf(hex + i * 2, "%02x", (unsigned)((i < 8 ? hash.a : hash.b) >> (8 * (i % 8)) & 0xff));
    assert_string_equal(hex, want_hex);
}

/* The first vectors of the reference: keys 00 01 .. 0f, texts of 0, 1, 8 bytes 00 01 .. */
static void test_the_hash_is_siphash(void **state)
{
    (void)state;
    assert_hash((struct slice){"", 0}, "a3817f04ba25a8e66df67214c7550293");
    assert_hash((struct slice){"\0", 1}, "da87c1d86b99af44347659119b22fc45");
}

struct found {
    uint64_t *first; /* by request; its own number where it is no duplicate */
    uint64_t count;
};

static enum err on_duplicate_cb(void *data, uint64_t request, uint64_t first)
{
    struct found *found = data;

    assert_int_equal(found->first[request], request); /* said once */
    found->first[request] = first;
    found->count++;
    return ERR_OK;
}

/* Ids made of few or many different numbers, against the plainest finder there is. */
static void check(uint32_t count, uint32_t different)
{
    struct custom_ids *ids = custom_ids_new("/tmp");
    struct found found = {calloc(count, sizeof(uint64_t)), 0};
    int64_t *seen = malloc(different * sizeof(int64_t)); /* naive: first request of each number */
    uint32_t *number = malloc(count * sizeof(uint32_t));
    uint32_t random = count;
    uint64_t duplicates = 0;

    memset(seen, 0xff, different * sizeof(int64_t));
    for (uint32_t i = 0; i < count; i++) {
        char id[32];
        int len;

        random = random * 1664525 + 1013904223;
        number[i] = (random >> 8) % different;
        len = snprintf(id, sizeof(id), "request-%u", number[i]);
        found.first[i] = i;
        assert_int_equal(
            custom_ids_add(ids, custom_id_hash(&key, (struct slice){id, (size_t)len}), i), ERR_OK);
    }
    assert_int_equal(custom_ids_duplicates(ids, on_duplicate_cb, &found), ERR_OK);
    for (uint32_t i = 0; i < count; i++) {
        if (seen[number[i]] < 0)
            seen[number[i]] = i;
        else
            duplicates++;
        assert_int_equal(found.first[i], seen[number[i]]);
    }
    assert_int_equal(found.count, duplicates);
    custom_ids_free(ids);
    free(found.first);
    free(seen);
    free(number);
}

static void test_duplicates_are_those_of_a_naive_finder(void **state)
{
    (void)state;
    check(1, 1);
    check(100, 1);
    check(1000, 1000000);
    check(20000, 1000);
    check(900000, 16000000); /* every bucket has pages in the spill */
}

/* Thousands of requests that all have one id fall into one bucket. */
static void test_one_bucket_may_hold_everything(void **state)
{
    (void)state;
    check(50000, 1);
}

static enum err on_stop_cb(void *data, uint64_t request, uint64_t first)
{
    (void)request;
    (void)first;
    (*(int *)data)++;
    return ERR_IO;
}

static void test_an_error_of_the_callback_ends_the_search(void **state)
{
    struct custom_ids *ids = custom_ids_new("/tmp");
    struct custom_id_hash hash = {1, 2};
    int calls = 0;

    (void)state;
    for (uint64_t i = 0; i < 3; i++)
        custom_ids_add(ids, hash, i);
    assert_int_equal(custom_ids_duplicates(ids, on_stop_cb, &calls), ERR_IO);
    assert_int_equal(calls, 1);
    custom_ids_free(ids);
    custom_ids_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_hash_is_siphash),
        cmocka_unit_test(test_duplicates_are_those_of_a_naive_finder),
        cmocka_unit_test(test_one_bucket_may_hold_everything),
        cmocka_unit_test(test_an_error_of_the_callback_ends_the_search),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
