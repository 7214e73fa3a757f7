/* test_documents.c: folders, tars and lists as people have them, and as nobody should. */
#include "producer/documents/documents.h"

#include "config/log.h"
#include "producer/documents/document_pattern.h"
#include "producer/documents/document_since.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];

static int enter(void **state)
{
    (void)state;
    setenv("TZ", "Europe/Berlin", 1);
    tzset();
    strcpy(root, "/tmp/mserve-documents-XXXXXX");
    return mkdtemp(root) == NULL ? -1 : chdir(root);
}

static int leave(void **state)
{
    char command[256];

    (void)state;
    snprintf(command, sizeof(command), "chmod -R u+rwx %s && rm -r %s", root, root);
    return chdir("/") != 0 || system(command) != 0 ? -1 : 0;
}

static void write_bytes(const char *name, const void *data, size_t len)
{
    FILE *file;

    for (const char *slash = strchr(name, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        char folder[1024];

        snprintf(folder, sizeof(folder), "%.*s", (int)(slash - name), name);
        mkdir(folder, 0700);
    }
    file = fopen(name, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void write_text(const char *name, const char *text)
{
    write_bytes(name, text, strlen(text));
}

static struct documents_options options_of(const char *from)
{
    return (struct documents_options){.from = from, .since_s = INT64_MIN, .bytes_max = 1 << 20};
}

static char said[1024];

/* All of it as a text: "path=text|", and "!sentence|" for what is refused. */
static char *read_all(const struct documents_options *options)
{
    struct documents *documents;
    struct buffer all = {0};
    struct document document;
    bool more = true;
    enum err rc;

    said[0] = '\0';
    log_catch(said, sizeof(said));
    rc = documents_open(options, &documents);
    if (rc != ERR_OK) {
        buffer_printf(&all, "%s %s", err_name(rc), said);
        log_catch(NULL, 0);
        return buffer_detach(&all);
    }
    while (more) {
        said[0] = '\0';
        rc = documents_next(documents, &document, &more);
        if (rc == ERR_OK && more)
            buffer_printf(&all, "%s=%.*s|", document.path, (int)document.text.len,
                          document.text.data);
        else if (rc != ERR_OK)
            buffer_printf(&all, "!%s|", said);
        if (rc != ERR_OK && documents_is_broken(documents)) {
            buffer_add_text(&all, "BROKEN");
            break;
        }
    }
    log_catch(NULL, 0);
    buffer_printf(&all, " -%d", (int)documents_passed_over(documents));
    documents_close(documents);
    return buffer_detach(&all);
}

static void expect(const struct documents_options *options, const char *want)
{
    char *all = read_all(options);

    assert_string_equal(all, want);
    free(all);
}

static void expect_part(const struct documents_options *options, const char *want)
{
    char *all = read_all(options);

    if (strstr(all, want) == NULL)
        fail_msg("\"%s\" has no \"%s\"", all, want);
    free(all);
}

/* Byte order over whole paths, whatever order the disk has; what is no file is not looked at. */
static void test_a_folder_is_read_in_byte_order(void **state)
{
    struct documents_options options = options_of("in");

    (void)state;
    write_text("in/b.txt", "B");
    write_text("in/a/z.txt", "Z");
    write_text("in/a.txt", "A");
    write_text("in/a/deep/er/x", "");
    write_text("in/\xc3\xa9 \xe4\xb8\xad.txt", "E");
    write_text("outside.txt", "O");
    assert_int_equal(symlink("../outside.txt", "in/link.txt"), 0);
    assert_int_equal(symlink("..", "in/up"), 0);
    assert_int_equal(mkfifo("in/pipe", 0600), 0);
    expect(&options, "a.txt=A|a/deep/er/x=|a/z.txt=Z|b.txt=B|\xc3\xa9 \xe4\xb8\xad.txt=E| -0");
    options.from = "in/";
    expect_part(&options, "a.txt=A|a/deep/er/x=|a/z.txt=Z|");
    options.from = "./in/a/..";
    expect_part(&options, "a.txt=A|a/deep/er/x=|");
}

/* What cannot be a custom_id, and what cannot be read, is told of by name; the rest goes on. */
static void test_what_cannot_be_taken_is_named(void **state)
{
    struct documents_options options = options_of("bad");
    char name[700];

    (void)state;
    write_text("bad/a\nb", "x");
    write_text("bad/c\xff", "x");
    snprintf(name, sizeof(name), "bad/%0200d/%0200d/%0150d", 1, 2, 3);
    write_text(name, "x");
    write_text("bad/good", "x");
    write_bytes("bad/nul", "a\0b", 3);
    write_text("bad/latin", "caf\xe9");
    write_text("bad/closed/a", "x");
    if (geteuid() != 0)
        assert_int_equal(chmod("bad/closed", 0), 0);
    options.bytes_max = 5;
    write_text("bad/large", "123456");
    expect_part(&options, "!a\nb: the path has a control character");
    expect_part(&options, "!c\xff: the path is not UTF-8; rename it|");
    expect_part(&options, "0000...: the path has 552 bytes; at most 512 are allowed|");
    expect_part(&options, "|good=x|");
    expect_part(&options, "!nul: is no text: byte 2 is NUL|");
    expect_part(&options, "!latin: is not UTF-8: byte 4 is 0xe9; say what it is with --encoding");
    expect_part(&options, "!large: has more than 5 bytes");
    if (geteuid() != 0)
        expect_part(&options, "!closed: Permission denied|");
}

static void test_patterns(void **state)
{
    static const struct {
        const char *pattern, *path;
        bool matches, covers;
    } cases[] = {
        {"*.txt", "a.txt", true, true},
        {"*.txt", "x/y/a.txt", true, true},
        {"*.txt", "a.md", false, false},
        {"x/*.txt", "x/a.txt", true, true},
        {"x/*.txt", "x/y/a.txt", false, false},
        {"x/*", "x/y/a.txt", false, true},
        {"/a.txt", "a.txt", true, true},
        {"/a.txt", "x/a.txt", false, false},
        {"x/**", "x/y/a.txt", true, true},
        {"x/**", "x", false, false},
        {"**", "x/y", true, true},
        {"**/y/*.txt", "y/a.txt", true, true},
        {"**/y/*.txt", "x/x/y/a.txt", true, true},
        {"x/**/y/**/z", "x/1/y/2/y/3/z", true, true},
        {"x/**/y/**/z", "x/1/2/3/z", false, false},
        {"**/a/b", "a/a/b", true, true},
        {"build", "build/x/a.txt", false, true},
        {"build", "x/build/a.txt", false, true},
        {"build", "rebuild/a.txt", false, false},
        {"build/", "build/x/a.txt", true, true},
        {"build/", "build", false, false},
        {"[ab]?", "x/b1", true, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_null(document_pattern_fault(cases[i].pattern));
        if (document_pattern_matches(cases[i].pattern, cases[i].path) != cases[i].matches ||
            document_pattern_covers(cases[i].pattern, cases[i].path) != cases[i].covers)
            fail_msg("%s and %s", cases[i].pattern, cases[i].path);
    }
    assert_non_null(document_pattern_fault(""));
    assert_non_null(document_pattern_fault("//"));
}

/* A file that is not wanted is not read, so it is not refused either. */
static void test_only_what_is_wanted_is_read(void **state)
{
    static const char *const include[] = {"*.txt", "?.md"}, *const exclude[] = {"old"};
    const struct timespec times[2] = {{1000, 0}, {1000, 0}};
    struct documents_options options = options_of("want");

    (void)state;
    write_text("want/a.txt", "A");
    write_text("want/old/b.txt", "B");
    write_text("want/\xc3\xa9.md", "E");
    write_text("want/x.bin", "\xff");
    write_text("want/late.txt", "L");
    assert_int_equal(utimensat(AT_FDCWD, "want/a.txt", times, 0), 0);
    options.include = include;
    options.include_count = 2;
    options.exclude = exclude;
    options.exclude_count = 1;
    expect(&options, "a.txt=A|late.txt=L|\xc3\xa9.md=E| -2");
    options.since_s = 1001;
    expect(&options, "late.txt=L|\xc3\xa9.md=E| -3");
    options.since_s = 1000;
    expect(&options, "a.txt=A|late.txt=L|\xc3\xa9.md=E| -2");
}

static void test_encodings(void **state)
{
    struct documents_options options = options_of("text");

    (void)state;
    write_text("text/1bom", "\xef\xbb\xbfh\xc3\xa9");
    write_bytes("text/2utf16", "\xff\xfeh\0\xe9\0", 6);
    write_bytes("text/3utf16be", "\xfe\xff\0h\0\xe9", 6);
    write_bytes("text/4utf32", "\xff\xfe\0\0h\0\0\0", 8);
    write_bytes("text/5empty16", "\xff\xfe", 2);
    write_text("text/6latin", "h\xe9");
    write_text("text/7utf8", "h\xc3\xa9");
    write_bytes("text/8cut16", "\xff\xfeh\0\xe9", 5);
    expect(&options, "1bom=h\xc3\xa9|2utf16=h\xc3\xa9|3utf16be=h\xc3\xa9|4utf32=h|5empty16=|"
                     "!6latin: is not UTF-8: byte 2 is 0xe9; say what it is with --encoding, like "
                     "--encoding ISO-8859-1|7utf8=h\xc3\xa9|"
                     "!8cut16: is not UTF-16LE: byte 3 means nothing in it| -0");
    options.encoding = "ISO-8859-1";
    expect_part(&options, "|6latin=h\xc3\xa9|7utf8=h\xc3\xa9|");
    options.encoding = "Shift_JIS";
    expect_part(&options, "!6latin: is not Shift_JIS: byte 2 means nothing in it|");
    options.encoding = "klingon";
    expect_part(&options, "USAGE --encoding is \"klingon\", which is no encoding");
    options.encoding = "ASCII//TRANSLIT";
    expect_part(&options, "USAGE ");
}

/* ISO-2022-JP and UTF-16 without a mark look like UTF-8 and are not. */
static void test_an_encoding_without_ascii_is_for_all(void **state)
{
    struct documents_options options = options_of("jp");

    (void)state;
    write_text("jp/a", "\x1b$B$\"\x1b(B");
    write_text("jp/b", "\xef\xbb\xbfx");
    options.encoding = "ISO-2022-JP";
    expect(&options, "a=\xe3\x81\x82|b=x| -0");
    write_bytes("jp/a", "a\0b\0", 4);
    options.encoding = "UTF-16LE";
    expect(&options, "a=ab|b=x| -0");
}

/* -- tars -- */

struct member {
    const char *name, *text;
    const char *hardlink;
    mode_t type; /* 0: a file */
};

static void make_tar(const char *name, int filter, bool pax, const struct member *members,
                     size_t count)
{
    struct archive *archive = archive_write_new();

    assert_int_equal(archive_write_add_filter(archive, filter), ARCHIVE_OK);
    if (pax)
        archive_write_set_format_pax_restricted(archive);
    else
        archive_write_set_format_gnutar(archive);
    archive_write_set_options(archive, "hdrcharset=BINARY");
    archive_write_set_bytes_in_last_block(archive, 1);
    assert_int_equal(archive_write_open_filename(archive, name), ARCHIVE_OK);
    for (size_t i = 0; i < count; i++) {
        struct archive_entry *entry = archive_entry_new();
        size_t len = members[i].text != NULL ? strlen(members[i].text) : 0;

        archive_entry_set_pathname(entry, members[i].name);
        archive_entry_set_filetype(entry, members[i].type != 0 ? members[i].type : AE_IFREG);
        archive_entry_set_perm(entry, 0644);
        archive_entry_set_mtime(entry, 1000 + (time_t)i, 0);
        archive_entry_set_size(entry, (la_int64_t)len);
        if (members[i].hardlink != NULL)
            archive_entry_set_hardlink(entry, members[i].hardlink);
        if (members[i].type == AE_IFLNK)
            archive_entry_set_symlink(entry, "/etc/passwd");
        assert_true(archive_write_header(archive, entry) >= ARCHIVE_WARN);
        assert_int_equal(archive_write_data(archive, members[i].text, len), len);
        archive_entry_free(entry);
    }
    assert_int_equal(archive_write_close(archive), ARCHIVE_OK);
    archive_write_free(archive);
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Whatever it is packed with, and however its names are written. */
static void test_tars_are_read_in_their_order(void **state)
{
    static const struct member members[] = {
        {"./b.txt", "B", NULL, 0},      {"folder/", NULL, NULL, AE_IFDIR},
        {"link", NULL, NULL, AE_IFLNK}, {"folder/\xc3\xa9 \xe4\xb8\xad.txt", "E", NULL, 0},
        {"a.txt", "A", NULL, 0},
    };
    static const int filters[] = {ARCHIVE_FILTER_NONE, ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_ZSTD,
                                  ARCHIVE_FILTER_XZ, ARCHIVE_FILTER_BZIP2};
    struct documents_options options = options_of("docs.tar.any");

    (void)state;
    for (size_t i = 0; i < COUNT(filters); i++) {
        for (int pax = 0; pax < 2; pax++) {
            make_tar("docs.tar.any", filters[i], pax == 1, members, COUNT(members));
            options.since_s = INT64_MIN;
            expect(&options, "b.txt=B|folder/\xc3\xa9 \xe4\xb8\xad.txt=E|a.txt=A| -0");
            options.since_s = 1004;
            expect(&options, "a.txt=A| -2");
        }
    }
    make_tar("docs.tar.any", ARCHIVE_FILTER_NONE, false, members, 0);
    expect(&options, " -0");
}

/* Paths in a tar are names: nothing is written, wherever they point. */
static void test_hostile_names_are_names(void **state)
{
    static const struct member members[] = {
        {"../../tmp/mserve-escaped", "1", NULL, 0},
        {"/etc/mserve-escaped", "2", NULL, 0},
        {"a", "3", NULL, 0},
        {"a", "4", NULL, 0},
        {"./a", "5", NULL, 0},
        {"new\nline", "6", NULL, 0},
        {"hard", NULL, "a", 0},
        {"bad\xff", "7", NULL, 0},
    };
    struct documents_options options = options_of("hostile.tar");

    (void)state;
    make_tar("hostile.tar", ARCHIVE_FILTER_NONE, false, members, COUNT(members));
    expect(&options,
           "../../tmp/mserve-escaped=1|/etc/mserve-escaped=2|a=3|"
           "!a: comes twice; paths name the requests, so each may come once|"
           "!a: comes twice; paths name the requests, so each may come once|"
           "!new\nline: the path has a control character (a line break, a tab); rename it|"
           "!hard: is a hard link to another file of the tar; make it with --hard-dereference|"
           "!hostile.tar: the name of its member 8 is not UTF-8| -0");
    assert_int_not_equal(access("/tmp/mserve-escaped", F_OK), 0);
    assert_int_not_equal(access("/etc/mserve-escaped", F_OK), 0);
}

static char *slurp(const char *name, size_t *ret_len)
{
    FILE *file = fopen(name, "r");
    char *data = malloc(1 << 20);

    assert_non_null(file);
    *ret_len = fread(data, 1, 1 << 20, file);
    fclose(file);
    return data;
}

/* Wherever it was cut, this is one error, and never fewer documents. */
static void test_a_tar_that_was_cut_is_one_error(void **state)
{
    static const struct member members[] = {{"a", "A", NULL, 0}, {"b", "B", NULL, 0}};
    static const int filters[] = {ARCHIVE_FILTER_NONE, ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_ZSTD};
    struct documents_options options = options_of("cut.tar");

    (void)state;
    for (size_t i = 0; i < COUNT(filters); i++) {
        size_t len, step;
        char *data;

        make_tar("whole.tar", filters[i], false, members, COUNT(members));
        data = slurp("whole.tar", &len);
        step = i == 0 ? 256 : 7;
        for (size_t cut = i == 0 ? 512 : 8; cut < len - (i == 0 ? 1024 : 0); cut += step) {
            char *all;

            write_bytes("cut.tar", data, cut);
            all = read_all(&options);
            if (strncmp(all, "INPUT cut.tar ", 14) != 0 && strstr(all, "BROKEN -0") == NULL)
                fail_msg("filter %zu, %zu of %zu bytes: %s", i, cut, len, all);
            free(all);
        }
        write_bytes("cut.tar", data, len);
        expect(&options, "a=A|b=B| -0");
        free(data);
    }
}

/* Two tars in one file are all of their documents, and a cut second one is an error. */
static void test_tars_in_a_row(void **state)
{
    static const struct member one[] = {{"a", "A", NULL, 0}},
                               two[] = {{"b", "B", NULL, 0}, {"c", "C", NULL, 0}};
    struct documents_options options = options_of("row.tar");
    struct buffer row = {0};
    size_t len[2];
    char *data[2];

    (void)state;
    make_tar("one.tar", ARCHIVE_FILTER_NONE, false, one, COUNT(one));
    make_tar("two.tar", ARCHIVE_FILTER_NONE, false, two, COUNT(two));
    data[0] = slurp("one.tar", &len[0]);
    data[1] = slurp("two.tar", &len[1]);
    buffer_add(&row, data[0], len[0]);
    buffer_add(&row, data[1], len[1]);
    write_bytes("row.tar", row.data, row.len);
    expect(&options, "a=A|b=B|c=C| -0");
    write_bytes("row.tar", row.data, len[0] + 1024); /* behind b */
    expect_part(&options, "a=A|b=B|!row.tar was cut off");
    free(data[0]);
    free(data[1]);
    buffer_release(&row);
}

static void set_octal(char *field, int digits, unsigned long long value)
{
    snprintf(field, (size_t)digits + 1, "%0*llo", digits, value);
}

static void set_sum(char *block)
{
    unsigned sum = 0;

    memset(block + 148, ' ', 8);
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)block[i];
    snprintf(block + 148, 8, "%06o", sum);
}

/* A header may say any size: nothing is reserved for it. */
static void test_sizes_that_a_header_claims_are_checked(void **state)
{
    static const struct member members[] = {{"a", "A", NULL, 0}};
    struct documents_options options = options_of("size.tar");
    size_t len;
    char *data;

    (void)state;
    make_tar("size.tar", ARCHIVE_FILTER_NONE, false, members, 1);
    data = slurp("size.tar", &len);
    set_octal(data + 124, 11, 077777777777ULL);
    set_sum(data);
    write_bytes("size.tar", data, len);
    expect_part(&options, "!a: has more than 1048576 bytes, the most that a document may have");
    expect_part(&options, "BROKEN");
    memcpy(data + 124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12); /* -1 */
    set_sum(data);
    write_bytes("size.tar", data, len);
    expect_part(&options, "BROKEN");
    data[0] ^= 1; /* the sum is wrong */
    write_bytes("size.tar", data, len);
    expect_part(&options,
                "USAGE size.tar is neither a folder, nor a tar file, nor a list of paths");
    free(data);
}

/* -- lists -- */

static void test_a_list_names_files(void **state)
{
    struct documents_options options = options_of("list");

    (void)state;
    write_text("one", "1");
    write_text("sub/two", "2");
    if (access("to-one", F_OK) != 0)
        assert_int_equal(symlink("one", "to-one"), 0);
    write_text("list", "sub/two\n\n./one\none\nsub\nnone\nto-one\n  \nlast");
    expect(&options,
           "sub/two=2|one=1|!one: comes twice; paths name the requests, so each may come once|"
           "!sub: is a folder; a list has files|!none: there is no such file|to-one=1|"
           "!last: there is no such file| -0");
    write_bytes("list", "a\nb\0c\n", 6);
    expect_part(&options, "USAGE list is neither");
    write_text("list", "");
    expect(&options, " -0");
    write_text("list", "PK\x03\x04");
    expect_part(&options, "USAGE list is a zip file");
    options.from = "nowhere";
    expect_part(&options, "NOT_FOUND there is no folder or file nowhere");
}

static void test_sources_have_names(void **state)
{
    static const struct {
        const char *from, *name;
    } cases[] = {{"in", "in"}, {"in/", "in"}, {"./in/a//", "a"}, {"list", "list"}};
    struct documents *documents;
    char here[sizeof(root)];

    (void)state;
    write_text("in/a/z.txt", "Z");
    write_text("list", "");
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct documents_options options = options_of(cases[i].from);

        assert_int_equal(documents_open(&options, &documents), ERR_OK);
        assert_string_equal(documents_name(documents), cases[i].name);
        documents_close(documents);
    }
    strcpy(here, strrchr(root, '/') + 1);
    assert_int_equal(
        documents_open(&(struct documents_options){.from = ".", .bytes_max = 1}, &documents),
        ERR_OK);
    assert_string_equal(documents_name(documents), here);
    documents_close(documents);
}

static void test_since_when(void **state)
{
    static const struct {
        const char *text;
        int64_t s; /* -1: none */
    } cases[] = {
        {"24h", 1000000000 - 86400},
        {"1d12h", 1000000000 - 129600},
        {"@1234", 1234},
        {"@-5", -1},
        {"@", -1},
        {"2026-11-21", 1795215600}, /* midnight in Berlin */
        {"2026-07-01 12:30", 1782901800},
        {"2026-11-21T03:00:05Z", 1795230005},
        {"2026-11-21T03:00+01:00", 1795226400},
        {"2026-02-30", -1},
        {"2026-11-21T", -1},
        {"yesterday", -1},
        {"", -1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t s = -1;

        if (document_since_parse(cases[i].text, 1000000000, &s) != (cases[i].s >= 0) ||
            s != cases[i].s)
            fail_msg("%s is %lld", cases[i].text, (long long)s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_folder_is_read_in_byte_order),
        cmocka_unit_test(test_what_cannot_be_taken_is_named),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_only_what_is_wanted_is_read),
        cmocka_unit_test(test_encodings),
        cmocka_unit_test(test_an_encoding_without_ascii_is_for_all),
        cmocka_unit_test(test_tars_are_read_in_their_order),
        cmocka_unit_test(test_hostile_names_are_names),
        cmocka_unit_test(test_a_tar_that_was_cut_is_one_error),
        cmocka_unit_test(test_tars_in_a_row),
        cmocka_unit_test(test_sizes_that_a_header_claims_are_checked),
        cmocka_unit_test(test_a_list_names_files),
        cmocka_unit_test(test_sources_have_names),
        cmocka_unit_test(test_since_when),
    };

    return cmocka_run_group_tests(tests, enter, leave);
}
