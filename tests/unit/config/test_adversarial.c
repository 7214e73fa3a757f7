/*
 * test_adversarial.c: the public test suites for JSON and UTF-8, and the big list of naughty
 * strings. They lie beside the repository, in $MSERVE_SHARED or ../shared; where they are not,
 * each test says so and is skipped.
 */
#include "config/json.h"
#include "config/utf8.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/shared.h"

#define SUITE "adversarial/JSONTestSuite-test_parsing"

static void read_or_skip(const char *name, struct buffer *text)
{
    if (!shared_read(shared_path(name), text))
        skip();
}

/* What the suite leaves open and we decided: the same key twice is refused. */
static bool is_ours_to_refuse(const char *name)
{
    return strcmp(name, "y_object_duplicated_key.json") == 0 ||
           strcmp(name, "y_object_duplicated_key_and_value.json") == 0;
}

/* Parses one file of the suite; false when the verdict is not what its name says. */
static bool verdict_is_right(const char *name, struct arena *arena)
{
    struct buffer text = {0};
    struct json_error error = {0};
    struct json *value = NULL;
    char path[512];
    bool right;
    enum err err;

    snprintf(path, sizeof(path), SUITE "/%s", name);
    assert_true(shared_read(shared_path(path), &text));
    err = json_parse(arena, buffer_slice(&text), NULL, &value, &error);
    assert_true((err == ERR_OK) == (value != NULL));
    assert_true(err == ERR_OK || (error.offset <= text.len && error.message[0] != '\0'));
    assert_true(utf8_valid((struct slice){error.message, strlen(error.message)}));
    right = name[0] == 'i' || (err == ERR_OK) == (name[0] == 'y' && !is_ours_to_refuse(name));
    if (!right)
        print_message("%s: %s\n", name, err ? error.message : "was accepted");
    arena_clear(arena);
    buffer_release(&text);
    return right;
}

/* JSONTestSuite: y_ must parse, n_ must be refused, i_ may be either but must not crash. */
static void test_the_json_test_suite_gets_its_verdicts(void **state)
{
    struct arena arena = {0};
    const char *folder = shared_path(SUITE);
    DIR *dir = folder != NULL ? opendir(folder) : NULL;
    unsigned files = 0, wrong = 0;
    struct dirent *entry;

    (void)state;
    if (dir == NULL)
        skip();
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        wrong += !verdict_is_right(entry->d_name, &arena);
        files++;
    }
    closedir(dir);
    arena_release(&arena);
    assert_int_equal(wrong, 0);
    assert_true(files >= 318);
}

/* Every naughty string is read, written and read again as the same bytes. */
static void test_naughty_strings_survive(void **state)
{
    struct buffer text = {0}, written = {0};
    struct arena arena = {0};
    struct json *list, *item, *again;
    unsigned strings = 0;

    (void)state;
    read_or_skip("adversarial/blns.json", &text);
    assert_int_equal(json_parse(&arena, buffer_slice(&text), NULL, &list, NULL), ERR_OK);
    json_each(item, list)
    {
        assert_true(json_is_string(item));
        buffer_clear(&written);
        json_write_string(&written, item->text);
        assert_int_equal(json_parse(&arena, buffer_slice(&written), NULL, &again, NULL), ERR_OK);
        assert_int_equal(again->text.len, item->text.len);
        assert_memory_equal(again->text.data, item->text.data, item->text.len);
        strings++;
    }
    assert_true(strings > 500);
    arena_release(&arena);
    buffer_release(&written);
    buffer_release(&text);
}

/* Each line of utf8tests is valid or not as it says of itself. */
static void test_utf8_lines_are_judged_as_they_say(void **state)
{
    struct buffer text = {0};
    unsigned lines = 0;

    (void)state;
    read_or_skip("adversarial/utf8tests.bin", &text);
    for (char *at = text.data, *end; (end = memchr(at, '\n', text.len)) != NULL; at = end + 1) {
        struct slice line = {at, (size_t)(end - at)};
        const char *kind = memchr(at, ':', line.len);

        if (kind != NULL) {
            if (utf8_valid(line) != (strncmp(kind, ":valid:", 7) == 0))
                fail_msg("%.*s", (int)line.len, line.data);
            lines++;
        }
        text.len -= line.len + 1;
    }
    assert_true(lines > 200);
    buffer_release(&text);
}

/* What is not UTF-8 becomes as many U+FFFD as in the reference. */
static void test_utf8_is_replaced_as_in_the_reference(void **state)
{
    struct buffer text = {0}, want = {0}, got = {0};

    (void)state;
    read_or_skip("adversarial/utf8tests.bin", &text);
    read_or_skip("adversarial/utf8.replace.ref.txt", &want);
    utf8_add_clean(&got, buffer_slice(&text));
    assert_int_equal(got.len, want.len);
    assert_memory_equal(got.data, want.data, want.len);
    buffer_release(&text);
    buffer_release(&want);
    buffer_release(&got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_json_test_suite_gets_its_verdicts),
        cmocka_unit_test(test_naughty_strings_survive),
        cmocka_unit_test(test_utf8_lines_are_judged_as_they_say),
        cmocka_unit_test(test_utf8_is_replaced_as_in_the_reference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
