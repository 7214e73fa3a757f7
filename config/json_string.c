/* json_string.c: eight bytes at a time, until one of them is not plain. */
#include "config/json_string.h"
#include "config/utf8.h"

#include <stdint.h>
#include <string.h>

#define EACH_BYTE(byte) (0x0101010101010101U * (byte))

/*
 * Bit 7 of each byte of `word` that is zero. Bytes above the first of them may be marked falsely, so
 * only the lowest mark counts.
 */
static inline uint64_t zero_bytes(uint64_t word)
{
    return (word - EACH_BYTE(1)) & ~word & EACH_BYTE(0x80);
}

/* Bit 7 of each byte that is a control character (below 0x20), with the same reservation. */
static inline uint64_t control_bytes(uint64_t word)
{
    return (word - EACH_BYTE(0x20)) & ~word & EACH_BYTE(0x80);
}

/* How many bytes come before the lowest mark, in the order of memory. */
static inline unsigned plain_bytes(uint64_t marks)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (unsigned)__builtin_ctzll(marks) / 8;
#else
    (void)marks;
    return 0; /* the callers then go on byte by byte */
#endif
}

/* The first quote, backslash or control character from `at` on, or `end`. */
static const char *skip_plain(const char *at, const char *end)
{
    while (end - at >= 8) {
        uint64_t word, marks;

        memcpy(&word, at, 8);
        marks = zero_bytes(word ^ EACH_BYTE('"')) | zero_bytes(word ^ EACH_BYTE('\\')) |
                control_bytes(word);
        if (marks != 0) {
            at += plain_bytes(marks);
            break;
        }
        at += 8;
    }
    while (at < end && *at != '"' && *at != '\\' && (unsigned char)*at >= 0x20)
        at++;
    return at;
}

/* Copies up to the first backslash or `end`; `out` has room for all of it. */
static const char *copy_plain(const char *at, const char *end, char **out)
{
    char *to = *out;

    while (end - at >= 8) {
        uint64_t word, marks;

        memcpy(&word, at, 8);
        memcpy(to, &word, 8);
        marks = zero_bytes(word ^ EACH_BYTE('\\'));
        if (marks != 0) {
            at += plain_bytes(marks);
            to += plain_bytes(marks);
            break;
        }
        at += 8;
        to += 8;
    }
    while (at < end && *at != '\\')
        *to++ = *at++;
    *out = to;
    return at;
}

static bool is_hex4(const char *at)
{
    for (int i = 0; i < 4; i++)
        if (!((at[i] >= '0' && at[i] <= '9') || ((at[i] | 0x20) >= 'a' && (at[i] | 0x20) <= 'f')))
            return false;
    return true;
}

static uint32_t hex4(const char *at)
{
    uint32_t value = 0;

    for (int i = 0; i < 4; i++) {
        char c = at[i];

        value = value << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
}

/* What the letter behind a backslash stands for; 0: it begins no known escape. */
static char short_escape(char letter)
{
    switch (letter) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case '"':
    case '\\':
    case '/':
        return letter;
    default:
        return 0;
    }
}

/* The bytes of the escape at `at`, a backslash; 0 with string->stop and why. */
static size_t escape_len(const char *at, const char *end, struct json_string *string)
{
    if (end - at >= 2 && short_escape(at[1]) != 0)
        return 2;
    if (end - at >= 6 && at[1] == 'u' && is_hex4(at + 2))
        return 6;
    string->stop = end - at < 2 ? end : at;
    string->why = end - at >= 2 && at[1] == 'u' ? "\\u is not followed by four hexadecimal digits"
                                                : "a backslash in a string begins no known escape";
    return 0;
}

bool json_string_scan(const char *at, const char *end, struct json_string *ret)
{
    *ret = (struct json_string){.why = "a control character in a string is not escaped"};
    for (;;) {
        size_t len;

        at = skip_plain(at, end);
        ret->stop = at;
        if (at == end || *at != '\\')
            return at < end && *at == '"';
        ret->escaped = true;
        len = escape_len(at, end, ret);
        if (len == 0)
            return false;
        at += len;
    }
}

/*
 * Decodes the escape at *at (behind its backslash), which is well formed, and moves *at behind it;
 * returns the bytes written to `out`, 0 for half a surrogate pair.
 */
static size_t decode_escape(const char **at, const char *end, char *out)
{
    char letter = *(*at)++;
    uint32_t unit;

    if (letter != 'u') {
        out[0] = short_escape(letter);
        return 1;
    }
    unit = hex4(*at);
    *at += 4;
    if (unit >= 0xd800 && unit <= 0xdbff && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u') {
        uint32_t low = hex4(*at + 2);

        if (low >= 0xdc00 && low <= 0xdfff) {
            *at += 6;
            return utf8_encode(0x10000 + ((unit - 0xd800) << 10 | (low - 0xdc00)), out);
        }
    }
    return unit >= 0xd800 && unit <= 0xdfff ? 0 : utf8_encode(unit, out);
}

bool json_string_decode(const char *at, struct json_string *string, char *out, size_t *ret_len)
{
    const char *end = string->stop;
    char *start = out;

    for (;;) {
        const char *escape = at = copy_plain(at, end, &out);
        size_t len;

        if (at == end)
            break;
        at++;
        len = decode_escape(&at, end, out);
        if (len == 0) {
            string->stop = escape;
            return false;
        }
        out += len;
    }
    *ret_len = (size_t)(out - start);
    return true;
}
