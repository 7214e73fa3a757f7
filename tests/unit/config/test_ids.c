/* test_ids.c: ids, digests, times, sizes and near words: small things that everything leans on. */
#include "config/clock.h"
#include "config/nearest.h"
#include "config/sha256.h"
#include "config/units.h"
#include "config/uuid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct slice text_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static void test_ids_are_written_and_read_in_all_their_forms(void **state)
{
    static const char *const forms[] = {
        "0190f5e2-7c3a-7bcd-8123-456789abcdef", "0190F5E2-7C3A-7BCD-8123-456789ABCDEF",
        "0190f5e27c3a7bcd8123456789abcdef", "batch_0190f5e27c3a7bcd8123456789abcdef"};
    static const char *const bad[] = {"",
                                      "batch_",
                                      "batch_0190f5e2-7c3a-7bcd-8123-456789abcdef",
                                      "0190f5e27c3a-7bcd-8123-456789abcdef0000",
                                      "0190f5e2-7c3a-7bcd-8123-456789abcdeg",
                                      "0190f5e2-7c3a-7bcd-8123-456789abcde",
                                      "0190f5e2-7c3a-7bcd-81234-56789abcdef"};
    char text[UUID_TEXT_SIZE], batch[UUID_BATCH_SIZE];
    struct uuid uuid;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        assert_true(uuid_parse_batch(text_of(forms[i]), &uuid));
        assert_string_equal(uuid_format(uuid, text), forms[0]);
        assert_string_equal(uuid_format_batch(uuid, batch), forms[3]);
    }
    assert_false(uuid_parse(text_of(forms[3]), &uuid));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(uuid_parse_batch(text_of(bad[i]), &uuid));
}

/* The example of RFC 9562, appendix A.6. */
static void test_version_7_is_that_of_the_standard(void **state)
{
    static const uint8_t random[10] = {0x0c, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f};
    char text[UUID_TEXT_SIZE];

    (void)state;
    assert_string_equal(uuid_format(uuid_v7(0x017f22e279b0, random), text),
                        "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
}

static void test_new_ids_sort_by_time_and_differ(void **state)
{
    struct uuid a = uuid_new(1000), b = uuid_new(1000), c = uuid_new(clock_wall_ms());

    (void)state;
    assert_false(uuid_equal(a, b));
    assert_true(memcmp(b.bytes, c.bytes, 16) < 0);
    assert_true(clock_wall_ms() > 1700000000000);
    assert_true(clock_mono_ns() <= clock_mono_ns());
}

/* The vectors of FIPS 180-2, whole and in pieces. */
static void test_digests_are_those_of_the_standard(void **state)
{
    static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    static const char million[] =
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    uint8_t digest[SHA256_BYTES], back[SHA256_BYTES];
    char hex[SHA256_HEX_SIZE];
    char block[1000];
    struct sha256 sha;

    (void)state;
    sha256_of(SLICE("abc"), digest);
    assert_string_equal(hex_encode(digest, sizeof(digest), hex), abc);
    assert_true(hex_decode(text_of(hex), back, sizeof(back)));
    assert_memory_equal(back, digest, sizeof(digest));
    assert_false(hex_decode(text_of(hex + 1), back, sizeof(back)));

    memset(block, 'a', sizeof(block));
    sha256_init(&sha);
    for (int round = 0; round < 2; round++) { /* the second time from anew */
        for (int i = 0; i < 1000; i++)
            sha256_add(&sha, block, sizeof(block));
        sha256_end(&sha, digest);
        assert_string_equal(hex_encode(digest, sizeof(digest), hex), million);
    }
    sha256_release(&sha);
    sha256_of((struct slice){0}, digest);
    assert_string_equal(hex_encode(digest, 4, hex), "e3b0c442");
}

static void test_times_are_read_and_written(void **state)
{
    static const struct {
        const char *text;
        uint64_t ms;
        const char *written;
    } cases[] = {
        {"0s", 0, "0s"},
        {"500ms", 500, "500ms"},
        {"90s", 90000, "1m30s"},
        {"24h", 86400000, "1d"},
        {"1d12h30m", 131400000, "1d12h30m"},
        {"2w", 1209600000, "14d"},
        {"1h1ms", 3600001, "1h1ms"},
        {"007d", 604800000, "7d"},
    };
    static const char *const bad[] = {"",
                                      "s",
                                      "1",
                                      "-1s",
                                      "1.5h",
                                      "1 h",
                                      "1h 1m",
                                      "1m1h",
                                      "1s1s",
                                      "1S",
                                      "18446744073709551616ms",
                                      "99999999999999999w",
                                      "1hh",
                                      "s1"};
    struct buffer buffer = {0};
    uint64_t ms;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(duration_parse(text_of(cases[i].text), &ms));
        assert_true(ms == cases[i].ms);
        buffer_clear(&buffer);
        duration_add(&buffer, ms);
        assert_string_equal(buffer.data, cases[i].written);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(duration_parse(text_of(bad[i]), &ms));
    buffer_release(&buffer);
}

static void test_sizes_are_read_and_written(void **state)
{
    static const struct {
        const char *text;
        uint64_t bytes;
        const char *written;
    } cases[] = {
        {"0", 0, "0B"},
        {"1000", 1000, "1000B"},
        {"4MiB", 4 << 20, "4MiB"},
        {"1kB", 1000, "1000B"},
        {"2GB", 2000000000, "1953125KiB"},
        {"1024KiB", 1 << 20, "1MiB"},
        {"3TiB", 3ull << 40, "3TiB"},
    };
    static const char *const bad[] = {"",       "B",  "1K",    "1 KiB",         "1kib",
                                      "1.5MiB", "-1", "1KiB1", "99999999999TiB"};
    struct buffer buffer = {0};
    uint64_t bytes;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(bytes_parse(text_of(cases[i].text), &bytes));
        assert_true(bytes == cases[i].bytes);
        buffer_clear(&buffer);
        bytes_add(&buffer, bytes);
        assert_string_equal(buffer.data, cases[i].written);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(bytes_parse(text_of(bad[i]), &bytes));
    buffer_release(&buffer);
}

static void test_near_words_are_found(void **state)
{
    char big[100];

    (void)state;
    assert_int_equal(word_distance("", ""), 0);
    assert_int_equal(word_distance("abc", "abc"), 0);
    assert_int_equal(word_distance("abc", ""), 3);
    assert_int_equal(word_distance("kitten", "sitting"), 3);
    assert_int_equal(word_distance("teir", "tier"), 1);
    assert_true(word_is_near("teir", "tier", 1));
    assert_false(word_is_near("x", "tier", 4));
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    assert_true(word_distance(big, "x") == SIZE_MAX);
    assert_false(word_is_near(big, "x", SIZE_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids_are_written_and_read_in_all_their_forms),
        cmocka_unit_test(test_version_7_is_that_of_the_standard),
        cmocka_unit_test(test_new_ids_sort_by_time_and_differ),
        cmocka_unit_test(test_digests_are_those_of_the_standard),
        cmocka_unit_test(test_times_are_read_and_written),
        cmocka_unit_test(test_sizes_are_read_and_written),
        cmocka_unit_test(test_near_words_are_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
