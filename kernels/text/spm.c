/*
 * spm.c: a heap of candidate pairs makes merging n log n. Most texts never need a large one: where no
 * token of the vocabulary spans the junction of two characters, what stands left and right of it
 * cannot influence each other, so each run between such junctions is merged on its own.
 */
#include "kernels/text/spm.h"

#include <stdlib.h>
#include <string.h>

/* A run of characters that is one token so far. */
struct symbol {
    uint32_t start; /* in the run's text */
    uint32_t len;   /* 0: merged into its left neighbour */
    uint32_t prev;
    uint32_t next;
};

/* A pair that would make a token. Stale when its symbols have changed since: `len` tells. */
struct pair {
    uint64_t rank; /* score, then the complement of the left symbol: the highest goes first */
    uint32_t left;
    uint32_t len;
};

struct encoder {
    const struct spm *spm;
    uint32_t tokens_max;
    struct tokens *out;
    uint32_t out_start;
    struct buffer text; /* of the run */
    struct symbol *symbol;
    uint32_t symbols_len, symbols_cap;
    struct pair *heap;
    uint32_t heap_len, heap_cap;
};

static const char blank[] = "\xe2\x96\x81"; /* U+2581 */

static uint32_t hash(const char *text, uint32_t len)
{
    uint64_t h = len;

    for (; len >= 8; text += 8, len -= 8) {
        uint64_t word;

        memcpy(&word, text, 8);
        h = (h ^ word) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    for (; len > 0; text++, len--)
        h = (h ^ (uint8_t)*text) * 0x100000001B3u;
    h *= 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> 32);
}

/* Where `text` stands in the table, or the free place where it would. */
static uint32_t *find(const struct spm *spm, const char *text, uint32_t len)
{
    uint32_t at = hash(text, len) & spm->slot_mask;

    for (; spm->slot[at] != 0; at = (at + 1) & spm->slot_mask) {
        const struct slice *other = &spm->text[spm->slot[at] - 1];

        if (other->len == len && memcmp(other->data, text, len) == 0)
            break;
    }
    return &spm->slot[at];
}

static uint32_t lookup(const struct spm *spm, const char *text, uint32_t len)
{
    return len <= spm->longest ? *find(spm, text, len) - 1 : TOKEN_NONE;
}

/* Bytes of the character at `text`; 1 where none is whole. */
static uint32_t character(const char *text, size_t left)
{
    static const uint8_t length[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
    uint32_t len = length[(uint8_t)*text >> 4];

    for (uint32_t i = 1; i < len; i++)
        if (i >= left || ((uint8_t)text[i] & 0xc0) != 0x80)
            return 1;
    return len;
}

static bool joins(const struct spm *spm, char a, char b)
{
    return (spm->joins[(uint8_t)a][(uint8_t)b / 8] >> ((uint8_t)b % 8) & 1) != 0;
}

void spm_init(struct spm *spm, const struct slice *text, const float *score, uint32_t vocab)
{
    uint32_t size = 64;

    while (size < vocab * 2)
        size *= 2;
    *spm = (struct spm){.text = text, .score = score, .vocab = vocab, .slot_mask = size - 1};
    spm->slot = xcalloc(size, sizeof(*spm->slot));
    memset(spm->byte, 0xff, sizeof(spm->byte));
}

void spm_release(struct spm *spm)
{
    free(spm->slot);
    free(spm->user);
    *spm = (struct spm){0};
}

void spm_add(struct spm *spm, uint32_t id)
{
    struct slice text = spm->text[id];
    size_t at;

    if (text.len == 0)
        return;
    *find(spm, text.data, (uint32_t)text.len) = id + 1;
    if (text.len > spm->longest)
        spm->longest = (uint32_t)text.len;
    for (at = character(text.data, text.len); at < text.len;
         at += character(text.data + at, text.len - at)) {
        uint8_t b = (uint8_t)text.data[at];

        spm->joins[(uint8_t)text.data[at - 1]][b / 8] |= (uint8_t)(1u << b % 8);
    }
}

void spm_add_user(struct spm *spm, uint32_t id)
{
    spm->user = xrealloc(spm->user, spm->user_len + 1, sizeof(*spm->user));
    spm->user[spm->user_len++] = id;
}

static enum err emit(struct encoder *encoder, uint32_t id)
{
    if (encoder->out->len - encoder->out_start >= encoder->tokens_max)
        return ERR_LIMIT;
    tokens_add(encoder->out, id);
    return ERR_OK;
}

/* Scores in the order of unsigned integers; -0 counts as 0. */
static uint64_t rank_of(float score, uint32_t left)
{
    uint32_t bits;
    float plain = score + 0.0f;

    memcpy(&bits, &plain, sizeof(bits));
    bits = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
    return (uint64_t)bits << 32 | (UINT32_MAX - left);
}

static void push(struct encoder *encoder, struct pair pair)
{
    uint32_t at = encoder->heap_len++;

    if (at == encoder->heap_cap) {
        encoder->heap_cap = at < 64 ? 64 : at * 2;
        encoder->heap = xrealloc(encoder->heap, encoder->heap_cap, sizeof(*encoder->heap));
    }
    for (; at > 0 && encoder->heap[(at - 1) / 2].rank < pair.rank; at = (at - 1) / 2)
        encoder->heap[at] = encoder->heap[(at - 1) / 2];
    encoder->heap[at] = pair;
}

static struct pair pop(struct encoder *encoder)
{
    struct pair *heap = encoder->heap;
    struct pair top = heap[0];
    struct pair last = heap[--encoder->heap_len];
    uint32_t at = 0;

    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child >= encoder->heap_len)
            break;
        if (child + 1 < encoder->heap_len && heap[child + 1].rank > heap[child].rank)
            child++;
        if (heap[child].rank <= last.rank)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

/* Puts the pair of `left` and its right neighbour on the heap if it makes a token. */
static void consider(struct encoder *encoder, uint32_t left)
{
    const struct symbol *symbol = &encoder->symbol[left];
    uint32_t len, id;

    if (symbol->next == encoder->symbols_len)
        return;
    len = symbol->len + encoder->symbol[symbol->next].len;
    id = lookup(encoder->spm, encoder->text.data + symbol->start, len);
    if (id != TOKEN_NONE)
        push(encoder, (struct pair){rank_of(encoder->spm->score[id], left), left, len});
}

static void merge(struct encoder *encoder)
{
    for (uint32_t i = 0; i + 1 < encoder->symbols_len; i++)
        consider(encoder, i);
    while (encoder->heap_len > 0) {
        struct pair pair = pop(encoder);
        struct symbol *left = &encoder->symbol[pair.left];
        struct symbol *right;

        if (left->len == 0 || left->next == encoder->symbols_len)
            continue;
        right = &encoder->symbol[left->next];
        if (left->len + right->len != pair.len)
            continue;
        left->len = pair.len;
        right->len = 0;
        left->next = right->next;
        if (left->next < encoder->symbols_len)
            encoder->symbol[left->next].prev = pair.left;
        if (left->prev != UINT32_MAX)
            consider(encoder, left->prev);
        consider(encoder, pair.left);
    }
}

/* Merges the run that was gathered, writes its ids, and begins the next. */
static enum err finish_run(struct encoder *encoder)
{
    enum err err = ERR_OK;

    merge(encoder);
    for (uint32_t i = 0; i < encoder->symbols_len && err == ERR_OK; i = encoder->symbol[i].next) {
        const struct symbol *symbol = &encoder->symbol[i];
        const char *text = encoder->text.data + symbol->start;
        uint32_t id = lookup(encoder->spm, text, symbol->len);

        if (id != TOKEN_NONE)
            err = emit(encoder, id);
        for (uint32_t b = 0; id == TOKEN_NONE && b < symbol->len && err == ERR_OK; b++)
            err = emit(encoder, encoder->spm->byte[(uint8_t)text[b]]);
    }
    encoder->symbols_len = 0;
    buffer_clear(&encoder->text);
    return err;
}

/* Adds one character to the run, after ending it where no token spans the junction. */
static enum err add_character(struct encoder *encoder, const char *text, uint32_t len)
{
    uint32_t at = encoder->symbols_len;
    enum err err = ERR_OK;

    if (at > 0 && !joins(encoder->spm, encoder->text.data[encoder->text.len - 1], text[0])) {
        err = finish_run(encoder);
        at = 0;
    }
    if (at == encoder->symbols_cap) {
        encoder->symbols_cap = at < 64 ? 64 : at * 2;
        encoder->symbol = xrealloc(encoder->symbol, encoder->symbols_cap, sizeof(*encoder->symbol));
    }
    encoder->symbol[at] =
        (struct symbol){(uint32_t)encoder->text.len, len, at > 0 ? at - 1 : UINT32_MAX, at + 1};
    encoder->symbols_len = at + 1;
    buffer_add(&encoder->text, text, len);
    return err;
}

/* Text without user-defined tokens. */
static enum err encode_plain(struct encoder *encoder, struct slice text)
{
    enum err err = ERR_OK;

    if (text.len == 0)
        return ERR_OK;
    if (encoder->spm->blank_first)
        err = add_character(encoder, blank, 3);
    for (size_t at = 0; at < text.len && err == ERR_OK;) {
        uint32_t len = character(text.data + at, text.len - at);

        if (text.data[at] == ' ')
            err = add_character(encoder, blank, 3);
        else
            err = add_character(encoder, text.data + at, len);
        at += len;
    }
    return err ? err : finish_run(encoder);
}

/* Cuts out user-defined tokens, the longer ones of the whole text before the shorter ones. */
static enum err encode_from(struct encoder *encoder, struct slice text, uint32_t user)
{
    const struct spm *spm = encoder->spm;
    enum err err;

    for (; user < spm->user_len; user++) {
        struct slice token = spm->text[spm->user[user]];
        const char *at;

        while ((at = memmem(text.data, text.len, token.data, token.len)) != NULL) {
            struct slice left = {text.data, (size_t)(at - text.data)};

            err = encode_from(encoder, left, user + 1);
            if (err == ERR_OK)
                err = emit(encoder, spm->user[user]);
            if (err)
                return err;
            text = (struct slice){at + token.len, text.len - left.len - token.len};
        }
    }
    return encode_plain(encoder, text);
}

enum err spm_encode(const struct spm *spm, struct slice text, uint32_t tokens_max,
                    struct tokens *out)
{
    struct encoder encoder = {
        .spm = spm, .tokens_max = tokens_max, .out = out, .out_start = out->len};
    enum err err;

    /* A token covers at most `longest` bytes; runs are counted in 32 bits. */
    if (text.len > UINT32_MAX / 4 || text.len / (spm->longest > 0 ? spm->longest : 1) > tokens_max)
        return ERR_LIMIT;
    err = encode_from(&encoder, text, 0);
    buffer_release(&encoder.text);
    free(encoder.symbol);
    free(encoder.heap);
    return err;
}
