/* test_seal.c: what was sealed comes back whole, to its own row and its own key, or not at all. */
#include "config/seal.h"
#include "config/base64.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/heard.h"

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

static char folder[] = "/tmp/mserve-seal-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[4][256];
    static unsigned next;
    char *at = path[next++ % 4];

    snprintf(at, sizeof(path[0]), "%s/%s", folder, name);
    return at;
}

static void write_key(const char *name, const char *text, mode_t mode)
{
    FILE *file = fopen(path_of(name), "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(chmod(path_of(name), mode), 0);
}

static struct seal *seal_of(const char *name)
{
    struct seal *seal = NULL;

    if (access(path_of(name), F_OK) != 0)
        assert_int_equal(seal_make_key(path_of(name)), ERR_OK);
    assert_int_equal(seal_open(path_of(name), &seal), ERR_OK);
    return seal;
}

static enum err take(const struct seal *seal, const char *label, const struct buffer *sealed)
{
    struct buffer out = {0};
    enum err err =
        seal_take(seal, (struct slice){label, strlen(label)}, buffer_slice(sealed), &out);

    assert_true(err || strcmp(out.data, SECRET) == 0);
    assert_true(!err || out.len == 0);
    buffer_wipe(&out);
    return err;
}

static void test_a_secret_comes_back_whole(void **state)
{
    struct seal *seal = seal_of("a"), *again = seal_of("a");
    struct buffer one = {0}, two = {0};

    (void)state;
    buffer_add_text(&one, "kept");
    assert_int_equal(seal_put(seal, SLICE("row 7"), SLICE(SECRET), &one), ERR_OK);
    assert_memory_equal(one.data, "kept", 4);
    memmove(one.data, one.data + 4, one.len -= 4);
    assert_int_equal(seal_put(seal, SLICE("row 7"), SLICE(SECRET), &two), ERR_OK);
    assert_int_equal(one.len, 1 + 4 + 12 + sizeof(SECRET) - 1 + 16);
    assert_int_equal(one.data[0], 1);
    assert_memory_not_equal(one.data, two.data, one.len); /* another nonce */
    assert_null(memmem(one.data, one.len, "whsec_", 6));
    assert_int_equal(take(again, "row 7", &one), ERR_OK);
    assert_int_equal(take(again, "row 7", &two), ERR_OK);
    buffer_release(&one);
    buffer_release(&two);
    seal_close(again);
    seal_close(seal);
}

/* Each byte of it, one after another, with each of its bits. */
static void test_any_changed_bit_is_noticed(void **state)
{
    struct seal *seal = seal_of("a");
    struct buffer sealed = {0};

    (void)state;
    assert_int_equal(seal_put(seal, SLICE("row 7"), SLICE(SECRET), &sealed), ERR_OK);
    heard_start();
    for (size_t i = 0; i < sealed.len * 8; i++) {
        sealed.data[i / 8] = (char)(sealed.data[i / 8] ^ 1 << i % 8);
        assert_int_equal(take(seal, "row 7", &sealed), ERR_DENIED);
        sealed.data[i / 8] = (char)(sealed.data[i / 8] ^ 1 << i % 8);
        assert_null(strstr(heard(), "MfKQ9"));
    }
    heard_stop();
    assert_int_equal(take(seal, "row 7", &sealed), ERR_OK);
    buffer_release(&sealed);
    seal_close(seal);
}

static void test_it_stays_in_its_row_and_with_its_key(void **state)
{
    struct seal *seal = seal_of("a"), *other = seal_of("b");
    struct buffer sealed = {0};

    (void)state;
    assert_int_equal(seal_put(seal, SLICE("row 7"), SLICE(SECRET), &sealed), ERR_OK);
    heard_start();
    assert_int_equal(take(seal, "row 8", &sealed), ERR_DENIED);
    assert_non_null(strstr(heard(), "another row"));
    assert_int_equal(take(seal, "row 7 ", &sealed), ERR_DENIED);
    assert_int_equal(take(seal, "", &sealed), ERR_DENIED);
    heard();
    assert_int_equal(take(other, "row 7", &sealed), ERR_DENIED);
    assert_non_null(strstr(heard(), "another key"));
    heard_stop();
    buffer_release(&sealed);
    seal_close(other);
    seal_close(seal);
}

static void test_a_cut_or_longer_one_is_refused(void **state)
{
    struct seal *seal = seal_of("a");
    struct buffer sealed = {0};
    size_t whole;

    (void)state;
    assert_int_equal(seal_put(seal, SLICE("row 7"), SLICE(SECRET), &sealed), ERR_OK);
    whole = sealed.len;
    heard_start();
    for (sealed.len = 0; sealed.len < whole; sealed.len++)
        assert_int_equal(take(seal, "row 7", &sealed), ERR_DENIED);
    buffer_add_byte(&sealed, '\0');
    assert_int_equal(take(seal, "row 7", &sealed), ERR_DENIED);
    heard_stop();
    buffer_release(&sealed);
    seal_close(seal);
}

static void test_a_secret_has_1_to_4096_bytes(void **state)
{
    static char big[SEAL_SECRET_MAX + 1];
    struct seal *seal = seal_of("a");
    struct buffer sealed = {0}, out = {0};

    (void)state;
    memset(big, 'x', sizeof(big));
    heard_start();
    assert_int_equal(seal_put(seal, SLICE("l"), (struct slice){big, sizeof(big)}, &sealed),
                     ERR_LIMIT);
    assert_int_equal(seal_put(seal, SLICE("l"), SLICE(""), &sealed), ERR_LIMIT);
    heard_stop();
    assert_int_equal(sealed.len, 0);
    assert_int_equal(seal_put(seal, SLICE("l"), (struct slice){big, SEAL_SECRET_MAX}, &sealed),
                     ERR_OK);
    assert_int_equal(seal_take(seal, SLICE("l"), buffer_slice(&sealed), &out), ERR_OK);
    assert_int_equal(out.len, SEAL_SECRET_MAX);
    assert_memory_equal(out.data, big, SEAL_SECRET_MAX);
    buffer_wipe(&out);
    buffer_release(&sealed);
    seal_close(seal);
}

/* What a key's file looks like is also how people make one without us: openssl rand -base64 32. */
static void test_a_new_key_is_its_owners_alone_and_never_replaces_one(void **state)
{
    char line[64] = "";
    uint8_t key[SEAL_KEY_BYTES];
    struct stat stat_of;
    FILE *file;
    size_t len;

    (void)state;
    umask(0);
    assert_int_equal(seal_make_key(path_of("new")), ERR_OK);
    assert_int_equal(stat(path_of("new"), &stat_of), 0);
    assert_int_equal(stat_of.st_mode & 07777, 0600);
    file = fopen(path_of("new"), "r");
    assert_non_null(fgets(line, sizeof(line), file));
    fclose(file);
    assert_int_equal(line[strlen(line) - 1], '\n');
    assert_true(base64_decode((struct slice){line, strlen(line) - 1}, key, sizeof(key), &len));
    assert_int_equal(len, SEAL_KEY_BYTES);
    heard_start();
    assert_int_equal(seal_make_key(path_of("new")), ERR_USAGE);
    assert_non_null(strstr(heard(), "is there already"));
    assert_int_equal(seal_make_key(path_of("no/such/folder")), ERR_IO);
    heard_stop();
}

static void test_files_that_are_no_key_are_refused(void **state)
{
#define KEY "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="
    static const char *const bad[] = {"",         "\n",
                                      "short",    KEY "\n" KEY,
                                      KEY "AAAA", "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZn",
                                      " " KEY,    KEY " "};
    struct seal *seal = NULL;

    (void)state;
    write_key("good", KEY "\r\n", 0640);
    assert_int_equal(seal_open(path_of("good"), &seal), ERR_OK);
    seal_close(seal);
    seal_close(NULL);
    heard_start();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        write_key("bad", bad[i], 0600);
        if (seal_open(path_of("bad"), &seal) != ERR_SETTINGS)
            fail_msg("\"%s\" was accepted", bad[i]);
        assert_non_null(strstr(heard(), "mserve webhook key"));
    }
    write_key("open", KEY "\n", 0644);
    assert_int_equal(seal_open(path_of("open"), &seal), ERR_SETTINGS);
    assert_non_null(strstr(heard(), "chmod o-rw"));
    write_key("open", KEY "\n", 0602);
    assert_int_equal(seal_open(path_of("open"), &seal), ERR_SETTINGS);
    heard();
    assert_int_equal(seal_open(path_of("absent"), &seal), ERR_SETTINGS);
    assert_non_null(strstr(heard(), "mserve webhook key"));
    assert_int_equal(seal_open("", &seal), ERR_SETTINGS);
    assert_non_null(strstr(heard(), "webhook.key_file"));
    assert_int_equal(seal_open(folder, &seal), ERR_SETTINGS);
    assert_int_equal(mkfifo(path_of("pipe"), 0600), 0);
    assert_int_equal(seal_open(path_of("pipe"), &seal),
                     ERR_SETTINGS); /* and does not wait for it */
    heard_stop();
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    static const char *const names[] = {"a", "b", "new", "good", "bad", "open", "pipe"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(path_of(names[i]));
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_secret_comes_back_whole),
        cmocka_unit_test(test_any_changed_bit_is_noticed),
        cmocka_unit_test(test_it_stays_in_its_row_and_with_its_key),
        cmocka_unit_test(test_a_cut_or_longer_one_is_refused),
        cmocka_unit_test(test_a_secret_has_1_to_4096_bytes),
        cmocka_unit_test(test_a_new_key_is_its_owners_alone_and_never_replaces_one),
        cmocka_unit_test(test_files_that_are_no_key_are_refused),
    };

    return cmocka_run_group_tests_name("seal", tests, make_folder, remove_folder);
}
