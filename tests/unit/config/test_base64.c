/* test_base64.c: the vectors of RFC 4648, and that nothing is read which would not be written so. */
#include "config/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_the_vectors_of_the_standard(void **state)
{
    static const char *const vector[][2] = {{"f", "Zg=="},         {"fo", "Zm8="},
                                            {"foo", "Zm9v"},       {"foob", "Zm9vYg=="},
                                            {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
    struct buffer text = {0};
    char data[8];
    size_t len;

    (void)state;
    for (size_t i = 0; i < sizeof(vector) / sizeof(vector[0]); i++) {
        buffer_clear(&text);
        base64_add(&text, vector[i][0], strlen(vector[i][0]));
        assert_string_equal(text.data, vector[i][1]);
        assert_true(base64_decode(buffer_slice(&text), data, sizeof(data), &len));
        assert_int_equal(len, strlen(vector[i][0]));
        assert_memory_equal(data, vector[i][0], len);
    }
    buffer_release(&text);
    assert_true(base64_decode(SLICE(""), data, sizeof(data), &len));
    assert_int_equal(len, 0);
}

/* Blanks, another alphabet, padding that is absent, too much or inside, bits that would be lost. */
static void test_what_would_not_be_written_so_is_refused(void **state)
{
    static const char *const bad[] = {
        "Zg",   "Zg=",   "Zg===", "Z===",   "====",     "Zh==",
        "Zm9=", " Zg==", "Zg== ", "Zg==\n", "Z g=",     "Zm9vYg==Zm9v",
        "Zm-_", "Zm9v=", "=m9v",  "Zm=v",   "Zg==Zg==", "\xc3\xa9\xc3\xa9"};
    char data[64];
    size_t len = 7;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (base64_decode((struct slice){bad[i], strlen(bad[i])}, data, sizeof(data), &len))
            fail_msg("\"%s\" was accepted", bad[i]);
    assert_false(base64_decode((struct slice){"Zg=\0", 4}, data, sizeof(data), &len));
    assert_int_equal(len, 7);
}

static void test_no_more_is_written_than_there_is_room(void **state)
{
    static char long_text[BASE64_TEXT_MAX + 4];
    char data[3] = "ab";
    size_t len;

    (void)state;
    assert_false(base64_decode(SLICE("Zm9v"), data, 2, &len));
    assert_string_equal(data, "ab");
    memset(long_text, 'A', sizeof(long_text));
    assert_false(base64_decode((struct slice){long_text, sizeof(long_text)}, data, SIZE_MAX, &len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_vectors_of_the_standard),
        cmocka_unit_test(test_what_would_not_be_written_so_is_refused),
        cmocka_unit_test(test_no_more_is_written_than_there_is_room),
    };

    return cmocka_run_group_tests_name("base64", tests, NULL, NULL);
}
