/* utf8.c: a table says what may follow a first byte; runs of ASCII are passed eight at a time. */
#include "config/utf8.h"

#include <string.h>

/*
 * Table 3-7 of the Unicode standard: after a first byte, how many bytes follow, and the range of
 * the first of them (the others are 80..BF). 0 bytes for a byte that starts nothing.
 */
struct lead {
    uint8_t more;
    uint8_t low;
    uint8_t high;
};

static struct lead lead_of(uint8_t byte)
{
    if (byte >= 0xc2 && byte <= 0xdf)
        return (struct lead){1, 0x80, 0xbf};
    if (byte >= 0xe0 && byte <= 0xef)
        return (struct lead){2, byte == 0xe0 ? 0xa0 : 0x80, byte == 0xed ? 0x9f : 0xbf};
    if (byte >= 0xf0 && byte <= 0xf4)
        return (struct lead){3, byte == 0xf0 ? 0x90 : 0x80, byte == 0xf4 ? 0x8f : 0xbf};
    return (struct lead){0, 1, 0};
}

static size_t ascii_len(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *start = at;

    while (end - at >= 32) {
        uint64_t word[4];

        memcpy(word, at, sizeof(word));
        if (((word[0] | word[1] | word[2] | word[3]) & 0x8080808080808080) != 0)
            break;
        at += 32;
    }
    while (end - at >= 8) {
        uint64_t word;

        memcpy(&word, at, sizeof(word));
        if ((word & 0x8080808080808080) != 0)
            break;
        at += 8;
    }
    while (at < end && *at < 0x80)
        at++;
    return (size_t)(at - start);
}

static bool is_next(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* How many bytes of the non-ASCII character at `at` are as they should be; *ret_want is all. */
static size_t matched(const uint8_t *at, size_t left, size_t *ret_want)
{
    struct lead lead = lead_of(at[0]);
    size_t got = 1;

    *ret_want = (size_t)lead.more + 1;
    if (lead.more == 0)
        return 0;
    if (left > 1 && at[1] >= lead.low && at[1] <= lead.high) {
        got = 2;
        while (got <= lead.more && got < left && is_next(at[got]))
            got++;
    }
    return got;
}

size_t utf8_valid_len(struct slice text)
{
    const uint8_t *start = (const uint8_t *)text.data;
    const uint8_t *at = start;
    const uint8_t *end = start + text.len;

    while (at < end) {
        size_t want;

        if (*at < 0x80) {
            at += ascii_len(at, end);
            continue;
        }
        if (matched(at, (size_t)(end - at), &want) != want)
            break;
        at += want;
    }
    return (size_t)(at - start);
}

size_t utf8_bad_len(struct slice bad)
{
    size_t want;
    size_t got = matched((const uint8_t *)bad.data, bad.len, &want);

    return got > 0 ? got : 1;
}

bool utf8_is_cut(struct slice tail)
{
    size_t want;

    return tail.len > 0 && (uint8_t)tail.data[0] >= 0x80 &&
           matched((const uint8_t *)tail.data, tail.len, &want) == tail.len && tail.len < want;
}

uint32_t utf8_decode(struct slice text, size_t *ret_len)
{
    const uint8_t *at = (const uint8_t *)text.data;
    uint32_t character;
    size_t got, want;

    if (at[0] < 0x80) {
        *ret_len = 1;
        return at[0];
    }
    got = matched(at, text.len, &want);
    if (got != want) {
        *ret_len = got > 0 ? got : 1;
        return 0xfffd;
    }
    character = at[0] & (0x7fu >> want);
    for (size_t i = 1; i < want; i++)
        character = character << 6 | (at[i] & 0x3fu);
    *ret_len = want;
    return character;
}

size_t utf8_encode(uint32_t character, char out[4])
{
    if (character > 0x10ffff || (character >= 0xd800 && character <= 0xdfff))
        character = 0xfffd;
    if (character < 0x80) {
        out[0] = (char)character;
        return 1;
    }
    if (character < 0x800) {
        out[0] = (char)(0xc0 | character >> 6);
        out[1] = (char)(0x80 | (character & 0x3f));
        return 2;
    }
    if (character < 0x10000) {
        out[0] = (char)(0xe0 | character >> 12);
        out[1] = (char)(0x80 | (character >> 6 & 0x3f));
        out[2] = (char)(0x80 | (character & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | character >> 18);
    out[1] = (char)(0x80 | (character >> 12 & 0x3f));
    out[2] = (char)(0x80 | (character >> 6 & 0x3f));
    out[3] = (char)(0x80 | (character & 0x3f));
    return 4;
}

void utf8_add_clean(struct buffer *buffer, struct slice text)
{
    while (text.len > 0) {
        size_t good = utf8_valid_len(text);
        size_t bad;

        buffer_add(buffer, text.data, good);
        text = (struct slice){text.data + good, text.len - good};
        if (text.len == 0)
            break;
        bad = utf8_bad_len(text);
        buffer_add(buffer, "\xef\xbf\xbd", 3);
        text = (struct slice){text.data + bad, text.len - bad};
    }
}

/* Controls, line ends, changes of direction. */
static bool is_command(uint32_t character)
{
    static const uint32_t range[][2] = {
        {0x00, 0x1f},     {0x7f, 0x9f},     {0x61c, 0x61c},   {0x200e, 0x200f},
        {0x2028, 0x202e}, {0x2066, 0x2069}, {0xfeff, 0xfeff},
    };

    for (size_t i = 0; i < sizeof(range) / sizeof(range[0]); i++)
        if (character >= range[i][0] && character <= range[i][1])
            return true;
    return false;
}

bool utf8_is_shown(struct slice text, uint32_t *ret, size_t *ret_len)
{
    *ret = utf8_decode(text, ret_len);
    return utf8_valid_len((struct slice){text.data, *ret_len}) == *ret_len && !is_command(*ret);
}

static void add_escaped(struct buffer *buffer, uint32_t character)
{
    if (character == '\n')
        buffer_add_text(buffer, "\\n");
    else if (character == '\t')
        buffer_add_text(buffer, "\\t");
    else if (character < 0x80)
        buffer_printf(buffer, "\\x%02x", (unsigned)character);
    else
        buffer_printf(buffer, "\\u%04x", (unsigned)character);
}

void utf8_add_printable(struct buffer *buffer, struct slice text)
{
    buffer_add(buffer, "", 0); /* also of no bytes it makes a string */
    while (text.len > 0) {
        size_t len;
        uint32_t character;

        if (utf8_is_shown(text, &character, &len))
            buffer_add(buffer, text.data, len);
        else if (is_command(character))
            add_escaped(buffer, character);
        else
            for (size_t i = 0; i < len; i++)
                buffer_printf(buffer, "\\x%02x", (unsigned)(uint8_t)text.data[i]);
        text = (struct slice){text.data + len, text.len - len};
    }
}
