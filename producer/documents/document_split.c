/*
 * document_split.c: the whole text is turned into tokens once, and where each of them ends says about
 * how far a part may reach. A part begins elsewhere than the text, so its own tokens may be others:
 * each is counted in whole before it is taken, and cut shorter until it fits. So the work is that of
 * reading each byte about twice, however long the text.
 */
#include "producer/documents/document_split.h"

#include "config/log.h"
#include "config/utf8.h"
#include "kernels/model/gguf.h"
#include "kernels/text/tokenizer.h"
#include "producer/documents/document_split_places.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    TOKENS_MIN = 16, /* one character takes up to 4, and a blank of the tokenizer's own */
    TEXT_BYTES_MAX = 1 << 30,
    TRIES_MAX = 8, /* then a part is halved: it is counted a few times, whatever the text is */
    THIRDS = 3,    /* of a token: a byte of ASCII has one in an estimate, another character all */
};

struct document_splitter {
    uint32_t tokens_max;
    uint32_t overlap;
    struct tokenizer *tokenizer; /* NULL: tokens are estimated */
    struct tokens tokens;        /* of the whole text, */
    struct tokens part;          /* of the part that is counted */
    uint32_t *end;               /* where each token of the whole text ends */
    size_t end_cap;
    struct document_cut *cut;
    uint32_t cut_count, cut_cap;
};

static enum err load_vocabulary(const char *path, struct document_splitter *splitter)
{
    struct gguf *gguf;
    enum err rc = gguf_open(path, &gguf); /* maps it: weights are not read */

    if (rc != ERR_OK)
        return rc;
    rc = tokenizer_new(gguf, &splitter->tokenizer);
    gguf_close(gguf);
    return rc;
}

enum err document_splitter_open(const struct document_split_options *options,
                                struct document_splitter **ret)
{
    struct document_splitter *splitter;
    enum err rc = ERR_OK;

    if (options->tokens_max > 0 && options->tokens_max < TOKENS_MIN)
        return fail(ERR_USAGE, "--split-tokens is %u but must be at least %d", options->tokens_max,
                    TOKENS_MIN);
    if (options->tokens_max == 0 && options->overlap > 0)
        return fail(ERR_USAGE, "--overlap needs --split-tokens: whole documents do not overlap");
    if (options->overlap > 0 && options->overlap >= (options->tokens_max + 1) / 2)
        return fail(ERR_USAGE, "--overlap is %u but must be less than half of --split-tokens, %u",
                    options->overlap, options->tokens_max);
    splitter = xcalloc(1, sizeof(*splitter));
    splitter->tokens_max = options->tokens_max;
    splitter->overlap = options->overlap;
    if (options->tokens_max > 0 && options->model != NULL && options->model[0] != '\0' &&
        access(options->model, R_OK) == 0)
        rc = load_vocabulary(options->model, splitter);
    if (rc != ERR_OK)
        document_splitter_close(splitter);
    else
        *ret = splitter;
    return rc;
}

void document_splitter_close(struct document_splitter *splitter)
{
    if (splitter == NULL)
        return;
    tokenizer_free(splitter->tokenizer);
    free(splitter->tokens.id);
    free(splitter->part.id);
    free(splitter->end);
    free(splitter->cut);
    free(splitter);
}

bool document_splitter_counts(const struct document_splitter *splitter)
{
    return splitter->tokenizer != NULL;
}

/* In thirds of a token, of the character (or the rest of one) that begins with this byte. */
static uint64_t thirds(char byte)
{
    unsigned char c = (unsigned char)byte;

    return c < 0x80 ? 1 : (c & 0xc0) == 0x80 ? 0 : THIRDS;
}

static uint64_t estimate(struct slice text)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < text.len; i++)
        sum += thirds(text.data[i]);
    return (sum + THIRDS - 1) / THIRDS;
}

/* The tokens of a part, counted as what it is: a text of its own. */
static uint64_t count_tokens(struct document_splitter *splitter, struct slice part)
{
    if (splitter->tokenizer == NULL)
        return estimate(part);
    splitter->part.len = 0;
    if (tokenizer_encode(splitter->tokenizer, part, false, UINT32_MAX, &splitter->part) != ERR_OK)
        return UINT64_MAX; /* TEXT_BYTES_MAX is far below what it takes */
    return splitter->part.len;
}

/* The bytes of the text at `at` that a token prints: U+2581 there is a blank in the token. */
static size_t printed_len(struct slice text, size_t at, struct slice piece)
{
    size_t start = at;

    if (piece.len == 0) /* the unknown token stands for a byte */
        return at < text.len ? 1 : 0;
    for (size_t i = 0; i < piece.len && at < text.len; i++) {
        bool drawn = piece.data[i] == ' ' && text.len - at >= 3 &&
                     memcmp(text.data + at, "\xe2\x96\x81", 3) == 0;

        if (i == 0 && piece.data[i] == ' ' && text.data[at] != ' ' && !drawn)
            continue; /* the blank that the tokenizer begins every text with */
        at += drawn ? 3 : 1;
    }
    return at - start;
}

/* Where the tokens of the whole text end. They guide only: what they promise is counted again. */
static enum err find_tokens(struct document_splitter *splitter, struct slice text)
{
    struct tokens *tokens = &splitter->tokens;
    size_t at = 0;
    enum err rc;

    tokens->len = 0;
    if (splitter->tokenizer == NULL)
        return ERR_OK;
    rc = tokenizer_encode(splitter->tokenizer, text, false, UINT32_MAX, tokens);
    if (rc != ERR_OK)
        return fail(ERR_LIMIT, "a document of %zu bytes is too long to be split", text.len);
    if (splitter->end_cap < tokens->len) {
        splitter->end_cap = tokens->cap;
        splitter->end = xrealloc(splitter->end, splitter->end_cap, sizeof(*splitter->end));
    }
    for (uint32_t i = 0; i < tokens->len; i++) {
        at += printed_len(text, at, tokenizer_piece(splitter->tokenizer, tokens->id[i]));
        splitter->end[i] = (uint32_t)at;
    }
    if (tokens->len > 0)
        splitter->end[tokens->len - 1] = (uint32_t)text.len;
    return ERR_OK;
}

/* The first token that ends behind `at`; tokens.len where none does. */
static uint32_t token_at(const struct document_splitter *splitter, size_t at)
{
    uint32_t low = 0, high = splitter->tokens.len;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (splitter->end[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* How far so many tokens reach from `begin`, about; at least one character, at most the text. */
static size_t reach(const struct document_splitter *splitter, struct slice text, size_t begin,
                    uint32_t tokens)
{
    size_t at = begin;

    if (splitter->tokenizer != NULL) {
        uint32_t first = token_at(splitter, begin);

        if (splitter->tokens.len - first <= tokens)
            return text.len;
        at = splitter->end[first + tokens - 1];
    } else {
        uint64_t room = (uint64_t)tokens * THIRDS;

        while (at < text.len && thirds(text.data[at]) <= room)
            room -= thirds(text.data[at++]);
    }
    while (at > begin && place_at(text, at) == PLACE_NONE)
        at--;
    if (at > begin)
        return at;
    for (at = begin + 1; at < text.len && place_at(text, at) == PLACE_NONE; at++)
        ;
    return at;
}

/* The same backwards: where the last so many tokens before `end` begin, but not before `low`. */
static size_t reach_back(const struct document_splitter *splitter, struct slice text, size_t low,
                         size_t end, uint32_t tokens)
{
    size_t at = end;

    if (splitter->tokenizer != NULL) {
        uint32_t last = token_at(splitter, end - 1);

        at = last >= tokens ? splitter->end[last - tokens] : low;
    } else {
        uint64_t room = (uint64_t)tokens * THIRDS;

        while (at > low && thirds(text.data[at - 1]) <= room)
            room -= thirds(text.data[--at]);
    }
    at = at > low ? at : low;
    while (at < end && place_at(text, at) == PLACE_NONE)
        at++;
    return at;
}

/*
 * Where the part from `begin` ends: at the best place in the second half of what fits, so that a
 * heading alone is no part; behind `done`, where the last one ended. 0: nothing behind it fits.
 */
static size_t find_end(struct document_splitter *splitter, struct slice text, size_t begin,
                       size_t done)
{
    uint32_t tokens = splitter->tokens_max;

    for (int tries = 0;; tries++) {
        size_t high = reach(splitter, text, begin, tokens);
        size_t low = reach(splitter, text, begin, tokens > 1 ? tokens / 2 : 1);
        size_t end;
        uint64_t count;

        if (high <= done)
            return 0;
        low = low > done ? low : done;
        end = high == text.len || low >= high ? high : place_last(text, low, high);
        count = count_tokens(splitter, (struct slice){text.data + begin, end - begin});
        if (count <= splitter->tokens_max)
            return end;
        if (tokens == 1)
            return 0;
        count = tries < TRIES_MAX ? (count - splitter->tokens_max) << tries : tokens;
        tokens = count < tokens ? tokens - (uint32_t)count : tokens / 2;
    }
}

/* Where the next part begins: before the end of this one, so that about `overlap` tokens are in both. */
static size_t find_begin(const struct document_splitter *splitter, struct slice text,
                         struct document_cut last)
{
    size_t low, high;

    if (splitter->overlap == 0)
        return last.end;
    low = reach_back(splitter, text, last.begin + 1, last.end, splitter->overlap);
    high = reach_back(splitter, text, low, last.end, (splitter->overlap + 1) / 2);
    return low < high ? place_first(text, low, high) : low;
}

static void add_cut(struct document_splitter *splitter, size_t begin, size_t end)
{
    if (splitter->cut_count == splitter->cut_cap) {
        splitter->cut_cap = splitter->cut_cap < 16 ? 16 : splitter->cut_cap * 2;
        splitter->cut = xrealloc(splitter->cut, splitter->cut_cap, sizeof(*splitter->cut));
    }
    splitter->cut[splitter->cut_count++] = (struct document_cut){begin, end};
}

static enum err cut_all(struct document_splitter *splitter, struct slice text)
{
    struct document_cut cut = {0, 0};
    enum err rc = find_tokens(splitter, text);

    while (rc == ERR_OK && cut.end < text.len) {
        size_t begin = cut.end > 0 ? find_begin(splitter, text, cut) : 0;
        size_t end = find_end(splitter, text, begin, cut.end);

        if (end == 0 && begin < cut.end) { /* the overlap leaves no room for more */
            begin = cut.end;
            end = find_end(splitter, text, begin, cut.end);
        }
        if (end == 0)
            return fail(ERR_LIMIT, "the character at byte %zu alone has more than %u tokens", begin,
                        splitter->tokens_max);
        cut = (struct document_cut){begin, end};
        add_cut(splitter, cut.begin, cut.end);
    }
    return rc;
}

enum err document_split(struct document_splitter *splitter, struct slice text,
                        const struct document_cut **ret, uint32_t *ret_count)
{
    enum err rc = ERR_OK;

    splitter->cut_count = 0;
    if (splitter->tokens_max > 0 && text.len > TEXT_BYTES_MAX)
        return fail(ERR_LIMIT, "a document of %zu bytes is too long to be split", text.len);
    /* A token has a byte at least, but for blanks before the text and after user-defined tokens. */
    if (splitter->tokens_max == 0 || text.len < splitter->tokens_max / 2)
        add_cut(splitter, 0, text.len);
    else
        rc = cut_all(splitter, text);
    if (rc != ERR_OK)
        return rc;
    *ret = splitter->cut;
    *ret_count = splitter->cut_count;
    return ERR_OK;
}
