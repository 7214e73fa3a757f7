/* tokenizer.c: reads a vocabulary, checks it, and says what each token prints. */
#include "kernels/text/tokenizer.h"

#include "config/log.h"
#include "kernels/model/gguf.h"
#include "kernels/text/spm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB_MAX = 1 << 20, TEXT_BYTES_MAX = 1024, ENDS_MAX = 3 };

/* tokenizer.ggml.token_type */
enum token_type {
    TYPE_NORMAL = 1,
    TYPE_UNKNOWN,
    TYPE_CONTROL,
    TYPE_USER_DEFINED,
    TYPE_UNUSED,
    TYPE_BYTE
};

struct tokenizer {
    bool spm_kind; /* else bytes */
    uint32_t vocab;
    struct slice *text;  /* [vocab] as in the file */
    struct slice *piece; /* [vocab] as printed */
    struct arena bytes;  /* of both */
    float *score;        /* [vocab] */
    uint8_t *type;       /* [vocab] enum token_type */
    struct spm spm;
    uint32_t bos;
    bool begins_with_bos;
    uint32_t ends[ENDS_MAX]; /* TOKEN_NONE where there is none */
};

static struct tokenizer *new_tokenizer(uint32_t vocab, bool spm_kind)
{
    struct tokenizer *tokenizer = xcalloc(1, sizeof(*tokenizer));

    tokenizer->spm_kind = spm_kind;
    tokenizer->vocab = vocab;
    tokenizer->text = xcalloc(vocab, sizeof(*tokenizer->text));
    tokenizer->piece = xcalloc(vocab, sizeof(*tokenizer->piece));
    tokenizer->score = xcalloc(vocab, sizeof(*tokenizer->score));
    tokenizer->type = xcalloc(vocab, sizeof(*tokenizer->type));
    tokenizer->bos = TOKEN_NONE;
    for (int i = 0; i < ENDS_MAX; i++)
        tokenizer->ends[i] = TOKEN_NONE;
    return tokenizer;
}

struct tokenizer *tokenizer_new_bytes(void)
{
    struct tokenizer *tokenizer = new_tokenizer(258, false);

    for (uint32_t i = 0; i < 256; i++) {
        char byte = (char)i;

        tokenizer->piece[i] = (struct slice){arena_copy(&tokenizer->bytes, &byte, 1), 1};
    }
    tokenizer->bos = 256;
    tokenizer->begins_with_bos = true;
    tokenizer->ends[0] = 257;
    return tokenizer;
}

void tokenizer_free(struct tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    spm_release(&tokenizer->spm);
    arena_release(&tokenizer->bytes);
    free(tokenizer->text);
    free(tokenizer->piece);
    free(tokenizer->score);
    free(tokenizer->type);
    free(tokenizer);
}

/* A missing key is an error here. */
static enum err need(const struct gguf *gguf, const char *key, enum err err)
{
    if (err == ERR_NOT_FOUND)
        return fail(ERR_MODEL, "model %s: the key %s is missing", gguf_name(gguf), key);
    return err;
}

static enum err read_kind(const struct gguf *gguf)
{
    static const char key[] = "tokenizer.ggml.model";
    struct slice kind;
    enum err err = need(gguf, key, gguf_text(gguf, key, &kind));

    if (err == ERR_OK && (kind.len != 5 || memcmp(kind.data, "llama", 5) != 0))
        return fail(ERR_MODEL,
                    "model %s: its tokenizer is of kind %.*s, which is not supported; "
                    "llama is",
                    gguf_name(gguf), (int)(kind.len < 64 ? kind.len : 64), kind.data);
    return err;
}

static enum err read_array(const struct gguf *gguf, const char *key, enum gguf_type type,
                           uint32_t len, struct gguf_array *ret)
{
    enum err err = need(gguf, key, gguf_array(gguf, key, type, ret));

    if (err == ERR_OK && ret->len != len)
        return fail(ERR_MODEL, "model %s: %s has %u entries, the vocabulary %u", gguf_name(gguf),
                    key, ret->len, len);
    return err;
}

static enum err read_texts(const struct gguf *gguf, struct gguf_array *texts,
                           struct tokenizer *tokenizer)
{
    for (uint32_t id = 0; id < tokenizer->vocab; id++) {
        struct slice text = gguf_array_next(texts);

        if (text.len > TEXT_BYTES_MAX)
            return fail(ERR_MODEL, "model %s: token %u has %zu bytes, at most %d are allowed",
                        gguf_name(gguf), id, text.len, TEXT_BYTES_MAX);
        text.data = arena_copy(&tokenizer->bytes, text.data, text.len);
        tokenizer->text[id] = text;
    }
    return ERR_OK;
}

static enum err read_types(const struct gguf *gguf, struct tokenizer *tokenizer)
{
    struct gguf_array scores, types;
    enum err err = read_array(gguf, "tokenizer.ggml.scores", GGUF_F32, tokenizer->vocab, &scores);

    if (err == ERR_OK)
        err = read_array(gguf, "tokenizer.ggml.token_type", GGUF_I32, tokenizer->vocab, &types);
    if (err)
        return err;
    for (uint32_t id = 0; id < tokenizer->vocab; id++) {
        int32_t type = gguf_array_i32(&types, id);

        tokenizer->score[id] = gguf_array_f32(&scores, id);
        if (!isfinite(tokenizer->score[id]))
            return fail(ERR_MODEL, "model %s: the score of token %u is not finite", gguf_name(gguf),
                        id);
        if (type < TYPE_NORMAL || type > TYPE_BYTE)
            return fail(ERR_MODEL, "model %s: token %u has type %d, not 1 to 6", gguf_name(gguf),
                        id, type);
        tokenizer->type[id] = (uint8_t)type;
    }
    return ERR_OK;
}

static int hex_digit(char c)
{
    const char *digits = "0123456789ABCDEF";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;

    return at != NULL ? (int)(at - digits) : -1;
}

/* "<0x0A>" is 10; -1 for anything else. */
static int byte_value(struct slice text)
{
    int high, low;

    if (text.len != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>')
        return -1;
    high = hex_digit(text.data[3]);
    low = hex_digit(text.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* U+2581 is printed as a blank. */
static struct slice with_blanks(struct arena *arena, struct slice text)
{
    char *copy = arena_alloc(arena, text.len + 1);
    size_t len = 0;

    for (size_t at = 0; at < text.len; len++) {
        bool blank = text.len - at >= 3 && memcmp(text.data + at, "\xe2\x96\x81", 3) == 0;

        copy[len] = blank ? ' ' : text.data[at];
        at += blank ? 3 : 1;
    }
    return (struct slice){copy, len};
}

/*
 * What a token prints, and whether text may be cut into it. Control tokens, bytes and the unknown
 * token are never found in text, as in SentencePiece: a document that spells </s> gets no </s>.
 */
static enum err add_token(const struct gguf *gguf, struct tokenizer *tokenizer, uint32_t id)
{
    struct slice text = tokenizer->text[id];
    int byte = byte_value(text);
    char value = (char)byte;

    switch (tokenizer->type[id]) {
    case TYPE_NORMAL:
    case TYPE_UNUSED:
        tokenizer->piece[id] = with_blanks(&tokenizer->bytes, text);
        spm_add(&tokenizer->spm, id);
        break;
    case TYPE_USER_DEFINED:
        tokenizer->piece[id] = text;
        spm_add(&tokenizer->spm, id);
        break;
    case TYPE_BYTE:
        if (byte < 0)
            return fail(ERR_MODEL, "model %s: byte token %u is not spelled <0x00> to <0xFF>",
                        gguf_name(gguf), id);
        tokenizer->spm.byte[byte] = id;
        tokenizer->piece[id] = (struct slice){arena_copy(&tokenizer->bytes, &value, 1), 1};
        break;
    default: /* prints nothing */
        break;
    }
    return ERR_OK;
}

static int longer_first(const void *a, const void *b, void *texts)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    const struct slice *text = texts;

    if (text[x].len != text[y].len)
        return text[x].len < text[y].len ? 1 : -1;
    return x < y ? -1 : 1;
}

static enum err add_user_tokens(const struct gguf *gguf, struct tokenizer *tokenizer)
{
    uint32_t *ids = xcalloc(SPM_USER_MAX, sizeof(*ids));
    uint32_t len = 0;
    enum err err = ERR_OK;

    for (uint32_t id = 0; id < tokenizer->vocab && err == ERR_OK; id++) {
        if (tokenizer->type[id] != TYPE_USER_DEFINED || tokenizer->text[id].len == 0)
            continue;
        if (len == SPM_USER_MAX)
            err = fail(ERR_MODEL, "model %s: more than %d user-defined tokens", gguf_name(gguf),
                       SPM_USER_MAX);
        else
            ids[len++] = id;
    }
    qsort_r(ids, len, sizeof(*ids), longer_first, tokenizer->text);
    for (uint32_t i = 0; i < len; i++)
        spm_add_user(&tokenizer->spm, ids[i]);
    free(ids);
    return err;
}

/* An id that stands in a key; out of the vocabulary counts as none, as in files of other makers. */
static enum err read_id(const struct gguf *gguf, const char *key, uint32_t vocab, uint32_t absent,
                        uint32_t *ret)
{
    uint32_t id;
    enum err err = gguf_u32(gguf, key, &id);

    if (err == ERR_NOT_FOUND)
        id = absent;
    else if (err)
        return err;
    *ret = id < vocab ? id : TOKEN_NONE;
    return ERR_OK;
}

static enum err read_flag(const struct gguf *gguf, const char *key, bool absent, bool *ret)
{
    enum err err = gguf_bool(gguf, key, ret);

    if (err != ERR_NOT_FOUND)
        return err;
    *ret = absent;
    return ERR_OK;
}

static enum err read_specials(const struct gguf *gguf, struct tokenizer *tokenizer)
{
    static const char *const ends[ENDS_MAX] = {"tokenizer.ggml.eos_token_id",
                                               "tokenizer.ggml.eot_token_id",
                                               "tokenizer.ggml.eom_token_id"};
    uint32_t vocab = tokenizer->vocab;
    uint32_t unknown;
    bool ends_with_eos;
    enum err err = read_id(gguf, "tokenizer.ggml.bos_token_id", vocab, 1, &tokenizer->bos);

    for (int i = 0; i < ENDS_MAX && err == ERR_OK; i++)
        err = read_id(gguf, ends[i], vocab, i == 0 ? 2 : TOKEN_NONE, &tokenizer->ends[i]);
    if (err == ERR_OK)
        err = read_id(gguf, "tokenizer.ggml.unknown_token_id", vocab, 0, &unknown);
    if (err == ERR_OK)
        err = read_flag(gguf, "tokenizer.ggml.add_bos_token", true, &tokenizer->begins_with_bos);
    if (err == ERR_OK)
        err = read_flag(gguf, "tokenizer.ggml.add_eos_token", false, &ends_with_eos);
    if (err == ERR_OK && ends_with_eos)
        err = fail(ERR_MODEL,
                   "model %s: tokenizer.ggml.add_eos_token is true: prompts that end in "
                   "an end token are not supported",
                   gguf_name(gguf));
    if (err == ERR_OK)
        err = read_flag(gguf, "tokenizer.ggml.add_space_prefix", true, &tokenizer->spm.blank_first);
    for (uint32_t byte = 0; byte < 256 && err == ERR_OK; byte++) {
        uint32_t *id = &tokenizer->spm.byte[byte];

        if (*id == TOKEN_NONE)
            *id = unknown;
        if (*id == TOKEN_NONE)
            err = fail(ERR_MODEL, "model %s: no token stands for byte 0x%02X, nor for the unknown",
                       gguf_name(gguf), byte);
    }
    return err;
}

static enum err read_vocabulary(const struct gguf *gguf, struct gguf_array *texts,
                                struct tokenizer *tokenizer)
{
    enum err err = read_texts(gguf, texts, tokenizer);

    if (err == ERR_OK)
        err = read_types(gguf, tokenizer);
    if (err)
        return err;
    spm_init(&tokenizer->spm, tokenizer->text, tokenizer->score, tokenizer->vocab);
    for (uint32_t id = 0; id < tokenizer->vocab && err == ERR_OK; id++)
        err = add_token(gguf, tokenizer, id);
    if (err == ERR_OK)
        err = add_user_tokens(gguf, tokenizer);
    return err ? err : read_specials(gguf, tokenizer);
}

enum err tokenizer_new(const struct gguf *gguf, struct tokenizer **ret)
{
    static const char key[] = "tokenizer.ggml.tokens";
    struct tokenizer *tokenizer;
    struct gguf_array texts;
    enum err err = read_kind(gguf);

    if (err == ERR_OK)
        err = need(gguf, key, gguf_array(gguf, key, GGUF_TEXT, &texts));
    if (err)
        return err;
    if (texts.len == 0 || texts.len > VOCAB_MAX)
        return fail(ERR_MODEL, "model %s: a vocabulary of %u tokens, not 1 to %d", gguf_name(gguf),
                    texts.len, VOCAB_MAX);
    tokenizer = new_tokenizer(texts.len, true);
    err = read_vocabulary(gguf, &texts, tokenizer);
    if (err)
        tokenizer_free(tokenizer);
    else
        *ret = tokenizer;
    return err;
}

void tokens_add(struct tokens *out, uint32_t id)
{
    if (out->len == out->cap) {
        out->cap = out->cap < 64 ? 64 : out->cap * 2;
        out->id = xrealloc(out->id, out->cap, sizeof(*out->id));
    }
    out->id[out->len++] = id;
}

static enum err encode_bytes(struct slice text, uint32_t tokens_max, struct tokens *out)
{
    if (text.len > tokens_max)
        return ERR_LIMIT;
    for (size_t i = 0; i < text.len; i++)
        tokens_add(out, (uint8_t)text.data[i]);
    return ERR_OK;
}

enum err tokenizer_encode(const struct tokenizer *tokenizer, struct slice text, bool begin,
                          uint32_t tokens_max, struct tokens *out)
{
    uint32_t start = out->len;
    uint32_t first = begin ? tokenizer_begin(tokenizer) : TOKEN_NONE;
    enum err err;

    if (first != TOKEN_NONE && tokens_max == 0)
        return ERR_LIMIT;
    if (first != TOKEN_NONE) {
        tokens_add(out, first);
        tokens_max--;
    }
    err = tokenizer->spm_kind ? spm_encode(&tokenizer->spm, text, tokens_max, out)
                              : encode_bytes(text, tokens_max, out);
    if (err)
        out->len = start;
    return err;
}

struct slice tokenizer_piece(const struct tokenizer *tokenizer, uint32_t id)
{
    return id < tokenizer->vocab ? tokenizer->piece[id] : (struct slice){"", 0};
}

uint32_t tokenizer_vocab(const struct tokenizer *tokenizer)
{
    return tokenizer->vocab;
}

uint32_t tokenizer_bos(const struct tokenizer *tokenizer)
{
    return tokenizer->bos;
}

uint32_t tokenizer_begin(const struct tokenizer *tokenizer)
{
    return tokenizer->begins_with_bos ? tokenizer->bos : TOKEN_NONE;
}

bool tokenizer_is_end(const struct tokenizer *tokenizer, uint32_t id)
{
    for (int i = 0; i < ENDS_MAX; i++)
        if (id == tokenizer->ends[i])
            return id != TOKEN_NONE;
    return false;
}
