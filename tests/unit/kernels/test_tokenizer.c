/* test_tokenizer.c: ids as llama.cpp gives them, text back as it went in, and no forged tokens. */
#include "kernels/text/tokenizer.h"

#include "goldens.h"
#include "heard.h"
#include "kernels/model/gguf.h"
#include "tiny_gguf.h"
#include "tests/unit/shared.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { ANY = 1 << 20 };

static struct tokenizer *open_file(const char *path)
{
    struct tokenizer *tokenizer;
    struct gguf *gguf;

    assert_int_equal(gguf_open(path, &gguf), ERR_OK);
    assert_int_equal(tokenizer_new(gguf, &tokenizer), ERR_OK);
    gguf_close(gguf);
    return tokenizer;
}

/* Takes the file that `writer` holds. */
static enum err open_written(struct gguf_writer *writer, struct tokenizer **ret)
{
    struct buffer file = writer_finish(writer);
    struct gguf *gguf;
    enum err err;

    assert_int_equal(gguf_parse("written", file.data, file.len, &gguf), ERR_OK);
    err = tokenizer_new(gguf, ret);
    gguf_close(gguf);
    buffer_release(&file);
    return err;
}

static struct tokenizer *open_tiny(uint32_t vocab, uint64_t seed)
{
    struct gguf_writer writer = {0};
    struct tokenizer *tokenizer;

    tiny_vocabulary(&writer, vocab, seed);
    assert_int_equal(open_written(&writer, &tokenizer), ERR_OK);
    return tokenizer;
}

static void print_text(const struct tokenizer *tokenizer, const struct tokens *tokens,
                       struct buffer *out)
{
    buffer_clear(out);
    for (uint32_t i = 0; i < tokens->len; i++) {
        struct slice piece = tokenizer_piece(tokenizer, tokens->id[i]);

        buffer_add(out, piece.data, piece.len);
    }
}

/* 46 texts with their ids, which the makers of llama.cpp test their own tokenizer with. */
static void test_the_46_published_cases(void **state)
{
    const char *path = shared_path("vocab/ggml-vocab-phi-3.gguf");
    const char *separator = "\n__ggml_vocab_test__\n";
    struct arena arena = {0};
    struct tokens tokens = {0};
    struct tokenizer *tokenizer;
    const char *text, *ids;
    int cases = 0;

    (void)state;
    if (path == NULL)
        skip();
    tokenizer = open_file(path);
    text = read_whole(&arena, shared_path("vocab/ggml-vocab-phi-3.gguf.inp")).data;
    ids = read_whole(&arena, shared_path("vocab/ggml-vocab-phi-3.gguf.out")).data;
    for (; *ids != '\0'; cases++) {
        const char *end = strstr(text, separator);
        size_t len = end != NULL ? (size_t)(end - text) : strlen(text);
        char *next;

        tokens.len = 0;
        assert_int_equal(
            tokenizer_encode(tokenizer, (struct slice){text, len}, false, ANY, &tokens), ERR_OK);
        for (uint32_t i = 0; i < tokens.len; i++, ids = next) {
            uint32_t want = (uint32_t)strtoul(ids, &next, 10);

            if (tokens.id[i] != want)
                fail_msg("case %d, token %u is %u, not %u", cases, i, tokens.id[i], want);
        }
        ids += strspn(ids, " ");
        assert_int_equal(*ids, '\n');
        ids++;
        text = end != NULL ? end + strlen(separator) : text + len;
    }
    assert_int_equal(cases, 46);
    free(tokens.id);
    tokenizer_free(tokenizer);
    arena_release(&arena);
}

static void test_the_prompts_of_the_reference_results(void **state)
{
    struct goldens *goldens = goldens_open();
    struct tokens tokens = {0};
    struct tokenizer *tokenizer;

    (void)state;
    if (goldens == NULL)
        skip();
    tokenizer = open_file(goldens->model);
    assert_int_equal(goldens->len, 12);
    for (uint32_t i = 0; i < goldens->len; i++) {
        const struct golden *golden = &goldens->golden[i];

        tokens.len = 0;
        assert_int_equal(tokenizer_encode(tokenizer, golden->prompt, true, ANY, &tokens), ERR_OK);
        assert_int_equal(tokens.len, golden->ids_len);
        assert_memory_equal(tokens.id, golden->ids, tokens.len * sizeof(*tokens.id));
    }
    assert_int_equal(tokenizer_bos(tokenizer), 1);
    assert_true(tokenizer_is_end(tokenizer, 2));
    assert_false(tokenizer_is_end(tokenizer, 1));
    assert_false(tokenizer_is_end(tokenizer, TOKEN_NONE));
    free(tokens.id);
    tokenizer_free(tokenizer);
    goldens_close(goldens);
}

/* Words of the tiny vocabulary's letters, with other characters, broken UTF-8 and NULs between. */
static void random_text(uint64_t *random, struct buffer *out)
{
    static const char *const parts[] = {"a",  "e", "h",        "i",    "n",       "o", "r",
                                        "s",  "t", " ",        "  ",   "\n",      "z", "é",
                                        "世", "🇺", "\xf0\x9f", "\x80", "\xe2\x96"};
    uint32_t len = 1 + (uint32_t)(*random >> 33) % 60;

    buffer_clear(out);
    for (uint32_t i = 0; i < len; i++) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        if (*random >> 58 == 0)
            buffer_add_byte(out, 0);
        else
            buffer_add_text(
                out,
                parts[(*random >> 33) % 64 < 52 ? (*random >> 40) % 11 : (*random >> 40) % 19]);
    }
}

/* The words of a tiny vocabulary, as its file has them. */
struct words {
    struct slice text[400];
    float score[400];
    uint32_t len;
};

static uint32_t find_word(const struct words *words, const char *text, size_t len)
{
    for (uint32_t id = 259; id < words->len; id++)
        if (words->text[id].len == len && memcmp(words->text[id].data, text, len) == 0)
            return id;
    return TOKEN_NONE;
}

/* The definition, without heap or runs: join the best pair of the whole text until there is none.
 * cut[i] is where part i begins. */
static void encode_slowly(const struct words *words, const char *text, struct tokens *out)
{
    uint32_t cut[256], parts = 0, best;

    for (uint32_t at = 0; text[at] != '\0'; at += text[at] == '\xe2' ? 3 : 1)
        cut[parts++] = at;
    cut[parts] = (uint32_t)strlen(text);
    do {
        float best_score = -INFINITY;

        best = TOKEN_NONE;
        for (uint32_t i = 0; i + 1 < parts; i++) {
            uint32_t id = find_word(words, text + cut[i], cut[i + 2] - cut[i]);

            if (id != TOKEN_NONE && words->score[id] > best_score) {
                best = i;
                best_score = words->score[id];
            }
        }
        if (best != TOKEN_NONE)
            memmove(&cut[best + 1], &cut[best + 2], (parts-- - best - 1) * sizeof(cut[0]));
    } while (best != TOKEN_NONE);
    for (uint32_t i = 0; i < parts; i++)
        tokens_add(out, find_word(words, text + cut[i], cut[i + 1] - cut[i]));
}

/* Forty random letters and blanks: `plain`, and with U+2581 for blanks and before all, `spelled`. */
static void random_words(uint64_t *random, char *plain, char *spelled)
{
    strcpy(spelled, "\u2581");
    for (uint32_t i = 0; i < 40; i++) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        plain[i] = " aehinorst"[(*random >> 33) % 10];
        if (plain[i] == ' ')
            strcat(spelled, "\u2581");
        else
            memcpy(spelled + strlen(spelled), (char[]){plain[i], 0}, 2);
    }
}

static void compare_encoders(const struct tokenizer *tokenizer, const struct words *words,
                             uint64_t seed)
{
    struct tokens fast = {0}, slow = {0};
    char plain[40], spelled[160];

    for (int round = 0; round < 20; round++) {
        random_words(&seed, plain, spelled);
        fast.len = slow.len = 0;
        encode_slowly(words, spelled, &slow);
        assert_int_equal(tokenizer_encode(tokenizer, (struct slice){plain, 40}, false, ANY, &fast),
                         ERR_OK);
        assert_int_equal(fast.len, slow.len);
        assert_memory_equal(fast.id, slow.id, fast.len * sizeof(*fast.id));
    }
    free(fast.id);
    free(slow.id);
}

/* Merge order against the plain definition, on vocabularies full of ties and chains. */
static void test_merges_follow_the_definition(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct gguf_writer writer = {0};
        struct words words = {.len = 360};
        struct gguf_array texts, scores;
        struct tokenizer *tokenizer;
        struct buffer file;
        struct gguf *gguf;

        tiny_vocabulary(&writer, words.len, seed);
        file = writer_finish(&writer);
        assert_int_equal(gguf_parse("tiny", file.data, file.len, &gguf), ERR_OK);
        assert_int_equal(tokenizer_new(gguf, &tokenizer), ERR_OK);
        gguf_array(gguf, "tokenizer.ggml.tokens", GGUF_TEXT, &texts);
        gguf_array(gguf, "tokenizer.ggml.scores", GGUF_F32, &scores);
        for (uint32_t id = 0; id < words.len; id++) {
            words.text[id] = gguf_array_next(&texts);
            words.score[id] = gguf_array_f32(&scores, id);
        }
        compare_encoders(tokenizer, &words, seed);
        tokenizer_free(tokenizer);
        gguf_close(gguf);
        buffer_release(&file);
    }
}

/* Whatever the bytes, the pieces give them back after the blank that text begins with. */
static void test_text_comes_back_as_it_went_in(void **state)
{
    struct tokenizer *tokenizer = open_tiny(400, 3);
    struct buffer text = {0}, back = {0};
    struct tokens tokens = {0};
    uint64_t random = 5;

    (void)state;
    for (int i = 0; i < 2000; i++) {
        random_text(&random, &text);
        tokens.len = 0;
        assert_int_equal(tokenizer_encode(tokenizer, buffer_slice(&text), false, ANY, &tokens),
                         ERR_OK);
        print_text(tokenizer, &tokens, &back);
        assert_int_equal(back.len, text.len + 1);
        assert_int_equal(back.data[0], ' ');
        assert_memory_equal(back.data + 1, text.data, text.len);
    }
    buffer_release(&text);
    buffer_release(&back);
    free(tokens.id);
    tokenizer_free(tokenizer);
}

static void test_empty_text_is_the_begin_token_alone(void **state)
{
    struct tokenizer *tokenizer = open_tiny(300, 1);
    struct tokens tokens = {0};

    (void)state;
    assert_int_equal(tokenizer_encode(tokenizer, SLICE(""), false, ANY, &tokens), ERR_OK);
    assert_int_equal(tokens.len, 0);
    assert_int_equal(tokenizer_encode(tokenizer, SLICE(""), true, ANY, &tokens), ERR_OK);
    assert_int_equal(tokens.len, 1);
    assert_int_equal(tokens.id[0], 1);
    free(tokens.id);
    tokenizer_free(tokenizer);
}

/* A document that spells <s>, </s> or <0x41> gets characters, even where merges lead there. */
static void test_a_document_cannot_forge_a_special_token(void **state)
{
    static const char *const words[] = {"<unk>", "<s>", "</s>", "<", "s>", "/", "</", ">", "s"};
    static const int32_t types[] = {2, 3, 3, 1, 1, 1, 1, 1, 1};
    enum { WORDS = 9 };
    struct gguf_writer writer = {0};
    struct tokenizer *tokenizer;
    struct tokens tokens = {0};

    (void)state;
    writer_text(&writer, "tokenizer.ggml.model", "llama");
    writer_array(&writer, "tokenizer.ggml.tokens", GGUF_TEXT, WORDS);
    for (int i = 0; i < WORDS; i++)
        writer_add_text(&writer.keys, words[i], strlen(words[i]));
    writer_array(&writer, "tokenizer.ggml.scores", GGUF_F32, WORDS);
    for (int i = 0; i < WORDS; i++)
        buffer_add(&writer.keys, &(float){0.0f}, 4);
    writer_array(&writer, "tokenizer.ggml.token_type", GGUF_I32, WORDS);
    buffer_add(&writer.keys, types, sizeof(types));
    writer_bool(&writer, "tokenizer.ggml.add_space_prefix", false);
    assert_int_equal(open_written(&writer, &tokenizer), ERR_OK);

    assert_int_equal(tokenizer_encode(tokenizer, SLICE("<s></s>"), false, ANY, &tokens), ERR_OK);
    for (uint32_t i = 0; i < tokens.len; i++)
        assert_true(tokens.id[i] >= 3);
    assert_int_equal(tokens.len, 4); /* < s> </ s> */
    assert_int_equal(tokenizer_piece(tokenizer, 1).len, 0);
    free(tokens.id);
    tokenizer_free(tokenizer);
}

/* User-defined tokens are cut out of raw text first, the longest before all, and text after one
 * begins with a blank again, as llama.cpp has it. */
static void test_user_defined_tokens_are_found_first(void **state)
{
    static const char *const words[] = {"<unk>", "<s>", "</s>", "<tag>", "<tag>!", "x", "\u2581"};
    static const int32_t types[] = {2, 3, 3, 4, 4, 1, 1};
    static const uint32_t want[] = {6, 5, 4, 3, 6, 5, 3};
    enum { WORDS = 7 };
    struct gguf_writer writer = {0};
    struct tokenizer *tokenizer;
    struct tokens tokens = {0};

    (void)state;
    writer_text(&writer, "tokenizer.ggml.model", "llama");
    writer_array(&writer, "tokenizer.ggml.tokens", GGUF_TEXT, WORDS);
    for (int i = 0; i < WORDS; i++)
        writer_add_text(&writer.keys, words[i], strlen(words[i]));
    writer_array(&writer, "tokenizer.ggml.scores", GGUF_F32, WORDS);
    for (int i = 0; i < WORDS; i++)
        buffer_add(&writer.keys, &(float){0.0f}, 4);
    writer_array(&writer, "tokenizer.ggml.token_type", GGUF_I32, WORDS);
    buffer_add(&writer.keys, types, sizeof(types));
    assert_int_equal(open_written(&writer, &tokenizer), ERR_OK);
    assert_int_equal(tokenizer_encode(tokenizer, SLICE("x<tag>!<tag>x<tag>"), false, ANY, &tokens),
                     ERR_OK);
    assert_int_equal(tokens.len, sizeof(want) / sizeof(want[0]));
    assert_memory_equal(tokens.id, want, sizeof(want));
    free(tokens.id);
    tokenizer_free(tokenizer);
}

static void test_more_tokens_than_wanted_is_a_limit(void **state)
{
    struct tokenizer *tokenizer = open_tiny(300, 2);
    struct tokens tokens = {0}, all = {0};
    struct slice text = SLICE("zebra zebra zebra");

    (void)state;
    assert_int_equal(tokenizer_encode(tokenizer, text, true, ANY, &all), ERR_OK);
    assert_int_equal(tokenizer_encode(tokenizer, text, true, all.len, &tokens), ERR_OK);
    for (uint32_t most = 0; most < all.len; most++) {
        assert_int_equal(tokenizer_encode(tokenizer, text, true, most, &tokens), ERR_LIMIT);
        assert_int_equal(tokens.len, all.len);
    }
    free(tokens.id);
    free(all.id);
    tokenizer_free(tokenizer);
}

static void test_bytes_are_tokens_for_the_simulated_device(void **state)
{
    struct tokenizer *tokenizer = tokenizer_new_bytes();
    struct tokens tokens = {0};

    (void)state;
    assert_int_equal(tokenizer_vocab(tokenizer), 258);
    assert_int_equal(tokenizer_encode(tokenizer, SLICE("a\xff"), true, 3, &tokens), ERR_OK);
    assert_int_equal(tokens.len, 3);
    assert_int_equal(tokens.id[0], 256);
    assert_int_equal(tokens.id[2], 0xff);
    assert_memory_equal(tokenizer_piece(tokenizer, 0xff).data, "\xff", 1);
    assert_int_equal(tokenizer_piece(tokenizer, 256).len, 0);
    assert_int_equal(tokenizer_encode(tokenizer, SLICE("abc"), true, 3, &tokens), ERR_LIMIT);
    assert_true(tokenizer_is_end(tokenizer, 257));
    free(tokens.id);
    tokenizer_free(tokenizer);
}

/* A vocabulary with one thing wrong, and the sentence that says so. */
static void test_hostile_vocabularies_are_refused_by_name(void **state)
{
    enum wrong {
        KIND,
        NO_TOKENS,
        FEW_SCORES,
        NAN_SCORE,
        BAD_TYPE,
        BAD_BYTE,
        LONG,
        NO_BYTES,
        ADD_EOS,
        COUNT
    };
    static const char *const sentence[COUNT] = {
        "of kind bert",  "tokens is missing",        "scores has 3 entries, the vocabulary 4",
        "is not finite", "token 2 has type 9",       "byte token 3 is not spelled",
        "2000 bytes",    "no token stands for byte", "prompts that end in an end token",
    };

    (void)state;
    for (int wrong = 0; wrong < COUNT; wrong++) {
        struct gguf_writer writer = {0};
        struct tokenizer *tokenizer;
        char longest[2001] = {0};
        const char *said;

        memset(longest, 'x', 2000);
        writer_text(&writer, "tokenizer.ggml.model", wrong == KIND ? "bert" : "llama");
        writer_u32(&writer, "tokenizer.ggml.unknown_token_id", 99);
        if (wrong == ADD_EOS)
            writer_bool(&writer, "tokenizer.ggml.add_eos_token", true);
        if (wrong != NO_TOKENS) {
            writer_array(&writer, "tokenizer.ggml.tokens", GGUF_TEXT, 4);
            for (int i = 0; i < 4; i++)
                writer_add_text(&writer.keys, wrong == LONG ? longest : "<0xG1>",
                                wrong == LONG ? 2000 : 6);
        }
        writer_array(&writer, "tokenizer.ggml.scores", GGUF_F32, wrong == FEW_SCORES ? 3 : 4);
        for (int i = 0; i < (wrong == FEW_SCORES ? 3 : 4); i++)
            buffer_add(&writer.keys, &(float){wrong == NAN_SCORE ? NAN : 1.0f}, 4);
        writer_array(&writer, "tokenizer.ggml.token_type", GGUF_I32, 4);
        for (int i = 0; i < 4; i++)
            buffer_add(&writer.keys,
                       &(int32_t){wrong == BAD_TYPE && i == 2   ? 9
                                  : wrong == BAD_BYTE && i == 3 ? 6
                                                                : 1},
                       4);
        heard_start();
        assert_int_equal(open_written(&writer, &tokenizer), ERR_MODEL);
        said = heard();
        heard_stop();
        if (strstr(said, sentence[wrong]) == NULL)
            fail_msg("said %s instead of %s", said, sentence[wrong]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_46_published_cases),
        cmocka_unit_test(test_the_prompts_of_the_reference_results),
        cmocka_unit_test(test_merges_follow_the_definition),
        cmocka_unit_test(test_text_comes_back_as_it_went_in),
        cmocka_unit_test(test_empty_text_is_the_begin_token_alone),
        cmocka_unit_test(test_a_document_cannot_forge_a_special_token),
        cmocka_unit_test(test_user_defined_tokens_are_found_first),
        cmocka_unit_test(test_more_tokens_than_wanted_is_a_limit),
        cmocka_unit_test(test_bytes_are_tokens_for_the_simulated_device),
        cmocka_unit_test(test_hostile_vocabularies_are_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
