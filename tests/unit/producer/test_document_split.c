/*
 * test_document_split.c: whatever the text, its parts hold every byte in order, none has more tokens
 * than asked for, and cuts lie where people would put them.
 */
#include "config/utf8.h"
#include "kernels/model/gguf.h"
#include "kernels/text/tokenizer.h"
#include "producer/documents/document_split.h"
#include "producer/documents/document_split_places.h"
#include "tests/unit/shared.h"

#include <archive.h>
#include <archive_entry.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static const char demo_model[] = MSERVE_SOURCE "/deploy/demo/mserve-demo-lang.gguf";

static struct document_splitter *open_splitter(uint32_t tokens_max, uint32_t overlap,
                                               const char *model)
{
    struct document_split_options options = {tokens_max, overlap, model};
    struct document_splitter *splitter = NULL;

    assert_int_equal(document_splitter_open(&options, &splitter), ERR_OK);
    return splitter;
}

static struct tokenizer *open_tokenizer(void)
{
    struct tokenizer *tokenizer;
    struct gguf *gguf;

    assert_int_equal(gguf_open(demo_model, &gguf), ERR_OK);
    assert_int_equal(tokenizer_new(gguf, &tokenizer), ERR_OK);
    gguf_close(gguf);
    return tokenizer;
}

/* Tokens of a text by the tokenizer, or by the sentence in document_split.h. */
static uint64_t count(const struct tokenizer *tokenizer, struct slice text)
{
    struct tokens tokens = {0};
    uint64_t ascii = 0, other = 0;

    if (tokenizer != NULL) {
        assert_int_equal(tokenizer_encode(tokenizer, text, false, UINT32_MAX, &tokens), ERR_OK);
        free(tokens.id);
        return tokens.len;
    }
    for (size_t at = 0; at < text.len;) {
        size_t len;

        utf8_decode((struct slice){text.data + at, text.len - at}, &len);
        ascii += len == 1;
        other += len > 1;
        at += len;
    }
    return (ascii + 3 * other + 2) / 3;
}

/* What is promised of every split; *ret_parts and *ret_shared: how many parts, and tokens twice. */
struct seen {
    uint64_t texts, parts, overlaps, shared_tokens, cuts[PLACE_PARAGRAPH + 1];
};

static void check_split(struct document_splitter *splitter, const struct tokenizer *tokenizer,
                        uint32_t tokens_max, uint32_t overlap, struct slice text, struct seen *seen)
{
    const struct document_cut *cut;
    uint32_t parts;

    assert_int_equal(document_split(splitter, text, &cut, &parts), ERR_OK);
    assert_true(parts >= 1);
    assert_int_equal(cut[0].begin, 0);
    assert_int_equal(cut[parts - 1].end, text.len);
    seen->texts++;
    seen->parts += parts;
    for (uint32_t i = 0; i < parts; i++) {
        struct slice part = {text.data + cut[i].begin, cut[i].end - cut[i].begin};
        struct slice both;

        assert_true(cut[i].end > cut[i].begin || text.len == 0);
        assert_true(utf8_valid(part));
        assert_true(count(tokenizer, part) <= tokens_max);
        if (i == 0)
            continue;
        /* No byte is left out, each part goes on, and no more is in two parts than was asked for. */
        assert_true(cut[i].begin <= cut[i - 1].end && cut[i].begin > cut[i - 1].begin);
        assert_true(cut[i].end > cut[i - 1].end);
        if (i >= 2 && overlap == 0)
            assert_true(cut[i].begin >= cut[i - 2].end);
        both = (struct slice){text.data + cut[i].begin, cut[i - 1].end - cut[i].begin};
        if (overlap == 0)
            assert_int_equal(both.len, 0);
        if (overlap > 0 && both.len > 0) {
            uint64_t tokens = count(tokenizer, both);

            assert_true(tokens <= (uint64_t)overlap + 2 + overlap / 2);
            seen->overlaps++;
            seen->shared_tokens += tokens;
        }
        seen->cuts[place_at(text, cut[i - 1].end)]++;
    }
}

enum { SIZES = 3 };
static const uint32_t sizes[SIZES][2] = {{16, 7}, {200, 0}, {900, 120}};

/* A text at three sizes, with the tokenizer and with the estimate. */
static void check_text(struct slice text, struct seen *seen)
{
    static struct document_splitter *splitter[SIZES][2];
    static struct tokenizer *tokenizer;

    if (text.data == NULL) { /* the end */
        for (int i = 0; i < SIZES * 2; i++) {
            document_splitter_close(splitter[i / 2][i % 2]);
            splitter[i / 2][i % 2] = NULL;
        }
        tokenizer_free(tokenizer);
        tokenizer = NULL;
        return;
    }
    if (tokenizer == NULL)
        tokenizer = open_tokenizer();
    for (int i = 0; i < SIZES * 2; i++) {
        struct document_splitter **one = &splitter[i / 2][i % 2];
        const uint32_t *size = sizes[i / 2];

        if (*one == NULL)
            *one = open_splitter(size[0], size[1], i % 2 == 0 ? demo_model : NULL);
        assert_int_equal(document_splitter_counts(*one), i % 2 == 0);
        check_split(*one, i % 2 == 0 ? tokenizer : NULL, size[0], size[1], text,
                    seen != NULL ? &seen[i] : &(struct seen){0});
    }
}

static int release(void **state)
{
    (void)state;
    check_text((struct slice){NULL, 0}, NULL);
    return 0;
}

/* Every `step`th document of a tar file. */
static void check_tar(const char *name, int step, struct seen *seen)
{
    const char *path = shared_path(name);
    struct archive *tar = archive_read_new();
    struct archive_entry *entry;
    struct buffer raw = {0}, text = {0};
    int number = 0;

    if (path == NULL)
        skip();
    archive_read_support_format_tar(tar);
    assert_int_equal(archive_read_open_filename(tar, path, 65536), ARCHIVE_OK);
    while (archive_read_next_header(tar, &entry) == ARCHIVE_OK) {
        size_t size = (size_t)archive_entry_size(entry);

        if (size == 0 || number++ % step != 0)
            continue;
        buffer_clear(&raw);
        assert_int_equal(archive_read_data(tar, buffer_reserve(&raw, size), size), size);
        raw.len = size;
        buffer_clear(&text);
        utf8_add_clean(&text, buffer_slice(&raw));
        check_text(buffer_slice(&text), seen);
    }
    assert_true(number > 100);
    archive_read_free(tar);
    buffer_release(&raw);
    buffer_release(&text);
}

static void test_parts_of_peps_are_whole_and_in_bounds(void **state)
{
    struct seen seen[SIZES * 2] = {0};

    (void)state;
    check_tar("corpus/peps-0001-0699.tar", 23, seen);
    /* Long parts of prose end at paragraphs, and overlaps come to about what was asked for. */
    for (int i = 4; i < 6; i++) {
        uint64_t cuts = seen[i].parts - seen[i].texts;

        assert_true(cuts > 50);
        assert_true(seen[i].cuts[PLACE_PARAGRAPH] * 10 >= cuts * 8);
        assert_true(seen[i].overlaps * 10 >= cuts * 9);
        assert_in_range(seen[i].shared_tokens / seen[i].overlaps, 120 / 2, 120 + 2);
    }
}

static void test_parts_of_eips_are_whole_and_in_bounds(void **state)
{
    (void)state;
    check_tar("corpus/eips-below-7000.tar", 29, NULL);
}

/* A third of Pride and Prejudice: lines of 70 characters, CR LF. */
static void test_parts_of_a_novel_end_at_paragraphs(void **state)
{
    struct seen seen[SIZES * 2] = {0};
    struct buffer text = {0};
    struct slice novel;

    (void)state;
    if (!shared_read(shared_path("corpus/gutenberg-1342-0.txt"), &text))
        skip();
    novel = buffer_slice(&text);
    novel.len = utf8_valid_len((struct slice){novel.data, novel.len / 3});
    check_text(novel, seen);
    assert_true(seen[4].parts > 50);
    assert_true(seen[4].cuts[PLACE_PARAGRAPH] * 10 >= (seen[4].parts - 1) * 7);
    buffer_release(&text);
}

/* Chinese has no blanks: its sentences end at 。 */
static void test_parts_of_chinese_end_at_sentences(void **state)
{
    struct document_splitter *splitter = open_splitter(200, 0, NULL);
    struct seen seen = {0};
    struct buffer file = {0}, text = {0};

    (void)state;
    if (!shared_read(shared_path("corpus/xquad.zh.json"), &file))
        skip();
    for (char *at = file.data; (at = strstr(at, "\\u")) != NULL; at += 2) { /* all but ASCII */
        char utf8[4];

        buffer_add(&text, utf8, utf8_encode((uint32_t)strtoul(at + 2, NULL, 16), utf8));
    }
    assert_true(text.len > 100000);
    check_split(splitter, NULL, 200, 0, buffer_slice(&text), &seen);
    assert_true(seen.parts > 200);
    assert_true(seen.cuts[PLACE_SENTENCE] * 10 >= (seen.parts - 1) * 8);
    text.len = utf8_valid_len((struct slice){text.data, 30000});
    check_text(buffer_slice(&text), NULL);
    document_splitter_close(splitter);
    buffer_release(&file);
    buffer_release(&text);
}

static void test_naughty_strings_are_cut_too(void **state)
{
    struct buffer file = {0}, text = {0};

    (void)state;
    if (!shared_read(shared_path("adversarial/blns.txt"), &file))
        skip();
    utf8_add_clean(&text, buffer_slice(&file));
    check_text(buffer_slice(&text), NULL);
    buffer_release(&file);
    buffer_release(&text);
}

static uint32_t next_random(uint32_t *random)
{
    *random = *random * 1664525 + 1013904223;
    return *random >> 8;
}

/* Bytes of all kinds, made UTF-8; blanks and line ends are frequent, and so are runs of one byte. */
static void test_random_texts_are_cut_too(void **state)
{
    static const char frequent[] = " \n\r\t.a";
    struct buffer raw = {0}, text = {0};
    uint32_t random = 7;

    (void)state;
    for (int round = 0; round < 150; round++) {
        uint32_t len = next_random(&random) % 700;

        buffer_clear(&raw);
        for (uint32_t i = 0; i < len; i++) {
            uint32_t kind = next_random(&random) % 8, run = next_random(&random) % 40;

            if (kind < 4)
                buffer_add_byte(&raw, (char)next_random(&random));
            else if (kind < 7)
                buffer_add_byte(&raw, frequent[next_random(&random) % (sizeof(frequent) - 1)]);
            else
                for (uint32_t j = 0; run < 8 && j < run; j++)
                    buffer_add_byte(&raw, frequent[run % (sizeof(frequent) - 1)]);
        }
        buffer_clear(&text);
        utf8_add_clean(&text, buffer_slice(&raw));
        check_text(text.len > 0 ? buffer_slice(&text) : SLICE(""), NULL);
    }
    buffer_release(&raw);
    buffer_release(&text);
}

struct place_case {
    const char *text; /* | stands where the place is */
    enum place place;
};

static void test_places_are_judged_by_what_stands_around_them(void **state)
{
    static const struct place_case cases[] = {
        {"|one", PLACE_PARAGRAPH},
        {"one|", PLACE_PARAGRAPH},
        {"one\n\n|two", PLACE_PARAGRAPH},
        {"one\r\n\r\n|two", PLACE_PARAGRAPH},
        {"one\n \t\n|two", PLACE_PARAGRAPH},
        {"one\n|two", PLACE_LINE},
        {"one\n|\ntwo", PLACE_LINE},
        {"one\r|\ntwo", PLACE_NONE},
        {"one\r|two", PLACE_LINE},
        {"One. |Two", PLACE_SENTENCE},
        {"One.  |Two", PLACE_SENTENCE},
        {"One. | Two", PLACE_CHARACTER},
        {"(One?\") |Two", PLACE_SENTENCE},
        {"e.g. |this", PLACE_WORD},
        {"one, |Two", PLACE_WORD},
        {"one.|Two", PLACE_CHARACTER},
        {"o|ne", PLACE_CHARACTER},
        {"\xe4\xb8\x80\xe3\x80\x82|\xe4\xba\x8c", PLACE_SENTENCE},
        {"\xe4\xb8\x80\xe3\x80\x82\xe2\x80\x9d|\xe4\xba\x8c", PLACE_SENTENCE},
        {"\xe4\xb8\x80\xe3\x80\x82|\xe2\x80\x9d\xe4\xba\x8c", PLACE_CHARACTER},
        {"\xe4\xb8\x80|\xe4\xba\x8c", PLACE_CHARACTER},
        {"\xe4|\xb8\x80", PLACE_NONE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *mark = strchr(cases[i].text, '|');
        size_t at = (size_t)(mark - cases[i].text);
        struct buffer text = {0};

        buffer_add(&text, cases[i].text, at);
        buffer_add_text(&text, mark + 1);
        if (place_at(buffer_slice(&text), at) != cases[i].place)
            fail_msg("%s: %d", cases[i].text, place_at(buffer_slice(&text), at));
        buffer_release(&text);
    }
}

/* A heading alone is no part, though a paragraph ends behind it. */
static void test_a_part_is_at_least_half_full(void **state)
{
    struct document_splitter *splitter = open_splitter(40, 0, NULL);
    const struct document_cut *cut;
    struct buffer text = {0};
    uint32_t parts;

    (void)state;
    buffer_add_text(&text, "Heading\n\n");
    for (int i = 0; i < 50; i++)
        buffer_add_text(&text, "word after word ");
    assert_int_equal(document_split(splitter, buffer_slice(&text), &cut, &parts), ERR_OK);
    assert_true(parts > 5);
    assert_true(cut[0].end >= 60);
    assert_int_equal(text.data[cut[0].end - 1], ' ');
    document_splitter_close(splitter);
    buffer_release(&text);
}

static void test_what_is_short_or_not_to_be_cut_is_one_part(void **state)
{
    struct document_splitter *never = open_splitter(0, 0, demo_model);
    struct document_splitter *splitter = open_splitter(16, 0, NULL);
    const struct document_cut *cut;
    struct buffer text = {0};
    uint32_t parts;

    (void)state;
    for (int i = 0; i < 1000; i++)
        buffer_add_text(&text, "word ");
    assert_int_equal(document_split(never, buffer_slice(&text), &cut, &parts), ERR_OK);
    assert_int_equal(parts, 1);
    assert_int_equal(cut[0].end, text.len);
    assert_int_equal(document_split(splitter, SLICE(""), &cut, &parts), ERR_OK);
    assert_int_equal(parts, 1);
    assert_int_equal(cut[0].end, 0);
    assert_int_equal(document_split(splitter, (struct slice){text.data, 48}, &cut, &parts), ERR_OK);
    assert_int_equal(parts, 1);
    document_splitter_close(never);
    document_splitter_close(splitter);
    buffer_release(&text);
}

static void test_sizes_that_make_no_sense_are_refused(void **state)
{
    static const struct document_split_options wrong[] = {
        {15, 0, NULL}, {0, 5, NULL}, {100, 50, NULL}, {16, 8, NULL}, {100, UINT32_MAX, NULL}};
    struct document_splitter *splitter;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(document_splitter_open(&wrong[i], &splitter), ERR_USAGE);
    splitter = open_splitter(100, 49, "/nowhere/model.gguf"); /* not at hand: estimated */
    assert_false(document_splitter_counts(splitter));
    document_splitter_close(splitter);
    assert_int_equal(
        document_splitter_open(
            &(struct document_split_options){100, 0, MSERVE_SOURCE "/meson.build"}, &splitter),
        ERR_MODEL);
}

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Eight times the text takes nowhere near sixty-four times as long, also without any good place. */
static void test_the_work_grows_as_the_text_does(void **state)
{
    static const char *const texts[] = {"word after word. ", "x", " ", "\n", "\xf0\x9f\x98\x80"};
    struct document_splitter *splitter = open_splitter(100, 40, demo_model);

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const struct document_cut *cut;
        struct buffer text = {0};
        double took[2];
        uint32_t parts;

        for (int turn = 0; turn < 2; turn++) {
            while (text.len < (turn == 0 ? 10000u : 80000u))
                buffer_add_text(&text, texts[i]);
            took[turn] = seconds();
            assert_int_equal(document_split(splitter, buffer_slice(&text), &cut, &parts), ERR_OK);
            took[turn] = seconds() - took[turn];
        }
        assert_true(took[1] < 0.5 + 32 * took[0]);
        buffer_release(&text);
    }
    document_splitter_close(splitter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_of_peps_are_whole_and_in_bounds),
        cmocka_unit_test(test_parts_of_eips_are_whole_and_in_bounds),
        cmocka_unit_test(test_parts_of_a_novel_end_at_paragraphs),
        cmocka_unit_test(test_parts_of_chinese_end_at_sentences),
        cmocka_unit_test(test_naughty_strings_are_cut_too),
        cmocka_unit_test(test_random_texts_are_cut_too),
        cmocka_unit_test(test_places_are_judged_by_what_stands_around_them),
        cmocka_unit_test(test_a_part_is_at_least_half_full),
        cmocka_unit_test(test_what_is_short_or_not_to_be_cut_is_one_part),
        cmocka_unit_test(test_sizes_that_make_no_sense_are_refused),
        cmocka_unit_test(test_the_work_grows_as_the_text_does),
    };

    return cmocka_run_group_tests_name("document_split", tests, NULL, release);
}
