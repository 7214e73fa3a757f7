/* json_write.c: JSON into a buffer; strings are copied in runs between the bytes to escape. */
#include "config/json.h"
#include "config/utf8.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Eight bytes at once: the high bit of each byte that is less than `limit` (at most 0x80). */
static uint64_t bytes_below(uint64_t word, uint64_t limit)
{
    return (word - 0x0101010101010101 * limit) & ~word & 0x8080808080808080;
}

static uint64_t bytes_equal(uint64_t word, uint64_t byte)
{
    return bytes_below(word ^ (0x0101010101010101 * byte), 1);
}

static bool needs_escape(char c)
{
    return (unsigned char)c < 0x20 || c == '"' || c == '\\';
}

/* How many bytes from `at` on can be copied as they are. */
static size_t plain_len(const char *at, const char *end)
{
    const char *start = at;

    while (end - at >= 8) {
        uint64_t word;

        memcpy(&word, at, sizeof(word));
        if ((bytes_below(word, 0x20) | bytes_equal(word, '"') | bytes_equal(word, '\\')) != 0)
            break;
        at += 8;
    }
    while (at < end && !needs_escape(*at))
        at++;
    return (size_t)(at - start);
}

/* The letter behind the backslash; 0 for a byte that is written as \u00xx. */
static char short_escape(char c)
{
    switch (c) {
    case '"':
    case '\\':
        return c;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

static void add_escape(struct buffer *buffer, char c)
{
    static const char hex[] = "0123456789abcdef";
    char letter = short_escape(c);
    char out[6] = {'\\', 'u', '0', '0', hex[(unsigned char)c >> 4], hex[c & 15]};

    if (letter != 0)
        out[1] = letter;
    buffer_add(buffer, out, letter != 0 ? 2 : 6);
}

void json_write_string(struct buffer *buffer, struct slice text)
{
    const char *at = text.data;
    const char *end = at + text.len;

    buffer_reserve(buffer, text.len + 2);
    buffer_add_byte(buffer, '"');
    while (at < end) {
        size_t run = plain_len(at, end);

        buffer_add(buffer, at, run);
        at += run;
        if (at < end)
            add_escape(buffer, *at++);
    }
    buffer_add_byte(buffer, '"');
}

void json_write_text(struct buffer *buffer, const char *text)
{
    if (text == NULL)
        json_write_null(buffer);
    else
        json_write_string(buffer, (struct slice){text, strlen(text)});
}

void json_write_string_clean(struct buffer *buffer, struct slice text)
{
    struct buffer clean = {0};

    if (utf8_valid(text)) {
        json_write_string(buffer, text);
        return;
    }
    utf8_add_clean(&clean, text);
    json_write_string(buffer, buffer_slice(&clean));
    buffer_release(&clean);
}

void json_write_next(struct buffer *buffer)
{
    char last = buffer->len > 0 ? buffer->data[buffer->len - 1] : '[';

    if (last != '[' && last != '{' && last != ':' && last != ',' && last != '\n')
        buffer_add_byte(buffer, ',');
}

void json_write_open(struct buffer *buffer, char bracket)
{
    buffer_add_byte(buffer, bracket);
}

void json_write_close(struct buffer *buffer, char bracket)
{
    buffer_add_byte(buffer, bracket);
}

void json_write_key(struct buffer *buffer, const char *key)
{
    json_write_next(buffer);
    json_write_text(buffer, key);
    buffer_add_byte(buffer, ':');
}

void json_write_u64(struct buffer *buffer, uint64_t value)
{
    buffer_add_u64(buffer, value);
}

void json_write_i64(struct buffer *buffer, int64_t value)
{
    buffer_add_i64(buffer, value);
}

void json_write_bool(struct buffer *buffer, bool value)
{
    buffer_add_text(buffer, value ? "true" : "false");
}

void json_write_null(struct buffer *buffer)
{
    buffer_add(buffer, "null", 4);
}

void json_write_raw(struct buffer *buffer, struct slice json)
{
    buffer_add(buffer, json.data, json.len);
}

void json_write_f64(struct buffer *buffer, double value)
{
    char text[40] = "null";

    for (int digits = 15; isfinite(value) && digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, value);
        if (!(strtod(text, NULL) < value) && !(strtod(text, NULL) > value))
            break;
    }
    buffer_add_text(buffer, text);
}

void json_write_f32(struct buffer *buffer, float value)
{
    char text[40] = "null";

    for (int digits = 6; isfinite(value) && digits <= 9; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, (double)value);
        if (!(strtof(text, NULL) < value) && !(strtof(text, NULL) > value))
            break;
    }
    buffer_add_text(buffer, text);
}
