/* test_utf8.c: every character and every short sequence of bytes, against the standard's table. */
#include "config/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_every_character_survives_the_round_trip(void **state)
{
    (void)state;
    for (uint32_t c = 0; c <= 0x110000; c++) {
        bool is_character = c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
        char bytes[4];
        size_t len = utf8_encode(c, bytes), read;

        assert_true(utf8_valid((struct slice){bytes, len}));
        assert_int_equal(utf8_decode((struct slice){bytes, len}, &read), is_character ? c : 0xfffd);
        assert_int_equal(read, len);
    }
}

/* The rule again, written another way: decode as the bits say, then judge the number. */
static bool is_character(const uint8_t *at, size_t len)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t c = at[0];
    size_t want = c < 0x80 ? 1 : (c & 0xe0) == 0xc0 ? 2 : (c & 0xf0) == 0xe0 ? 3 : 4;

    if (want != len || (c & 0xc0) == 0x80 || c >= 0xf8)
        return false;
    if (len > 1)
        c &= 0x7fu >> len;
    for (size_t i = 1; i < len; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return false;
        c = c << 6 | (at[i] & 0x3f);
    }
    return c >= least[len] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
}

/*
 * All sequences of three bytes, and all starts of four: valid exactly when the rule says so. (A last
 * byte above C1 is as wrong as C1, and what follows a byte that is whole or starts nothing does not
 * matter: these are passed over.)
 */
static void test_every_three_bytes_are_judged_by_the_rule(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 1 << 24; i += (i & 0xff) == 0xc1 ? 0x3f : 1) {
        uint8_t bytes[4] = {(uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i, 0x80};
        size_t len = bytes[0] < 0x80 ? 1 : bytes[0] < 0xe0 ? 2 : bytes[0] < 0xf0 ? 3 : 4;
        struct slice text = {(const char *)bytes, len};

        if (bytes[0] < 0xc0 && (i & 0xffff) > 0xff)
            continue;
        if (utf8_valid(text) != is_character(bytes, len))
            fail_msg("%02x %02x %02x", bytes[0], bytes[1], bytes[2]);
    }
}

/* A bad byte at any place of a long run is found at that place. */
static void test_a_bad_byte_is_found_where_it_is(void **state)
{
    char text[130];

    (void)state;
    for (size_t at = 0; at < sizeof(text); at++) {
        memset(text, 'a', sizeof(text));
        text[at] = (char)0xff;
        assert_int_equal(utf8_valid_len((struct slice){text, sizeof(text)}), at);
    }
    assert_true(utf8_valid((struct slice){NULL, 0}));
}

/* A stream holds back the start of a character, and nothing else. */
static void test_a_character_cut_short_is_known(void **state)
{
    (void)state;
    assert_true(utf8_is_cut(SLICE("\xe2")));
    assert_true(utf8_is_cut(SLICE("\xe2\x82")));
    assert_true(utf8_is_cut(SLICE("\xf0\x9f\x98")));
    assert_false(utf8_is_cut(SLICE("\xe2\x82\xac")));
    assert_false(utf8_is_cut(SLICE("\xe0\x80")));
    assert_false(utf8_is_cut(SLICE("\xed\xa0")));
    assert_false(utf8_is_cut(SLICE("a")));
    assert_false(utf8_is_cut(SLICE("\x80")));
    assert_false(utf8_is_cut(SLICE("\xff")));
    assert_false(utf8_is_cut(SLICE("")));
}

static void assert_printable(struct slice text, const char *expected)
{
    struct buffer shown = {0};

    utf8_add_printable(&shown, text);
    assert_string_equal(shown.data, expected);
    buffer_release(&shown);
}

/* A file may be called anything; what is shown of it moves no cursor and fakes no second line. */
static void test_a_name_commands_no_terminal(void **state)
{
    (void)state;
    assert_printable(SLICE("documents, été 日本 \xf0\x9f\x98\x80.jsonl"),
                     "documents, été 日本 \xf0\x9f\x98\x80.jsonl");
    assert_printable(SLICE("a\nb\tc\rd"), "a\\nb\\tc\\x0dd");
    assert_printable(SLICE("\x1b[31mred\x1b[0m\x07"), "\\x1b[31mred\\x1b[0m\\x07");
    assert_printable(SLICE("\xc2\x9b"
                           "2J\x7f"),
                     "\\u009b2J\\x7f");
    assert_printable(SLICE("evil\xe2\x80\xaelnosj"), "evil\\u202elnosj");
    assert_printable(SLICE("\xe2\x80\xa8|\xef\xbb\xbf|\xe2\x81\xa6"), "\\u2028|\\ufeff|\\u2066");
    assert_printable(SLICE("\xff\xc3(\xe2\x82"), "\\xff\\xc3(\\xe2\\x82");
    assert_printable(SLICE("back\\slash"), "back\\slash");
    assert_printable(SLICE("nul\0nul"), "nul\\x00nul");
    assert_printable(SLICE(""), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_character_survives_the_round_trip),
        cmocka_unit_test(test_every_three_bytes_are_judged_by_the_rule),
        cmocka_unit_test(test_a_bad_byte_is_found_where_it_is),
        cmocka_unit_test(test_a_character_cut_short_is_known),
        cmocka_unit_test(test_a_name_commands_no_terminal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
