/*
 * document_split_places.c: a place is judged by what stands before it and by the one character after
 * it, so that each is looked at alone and a text needs no parsing.
 */
#include "producer/documents/document_split_places.h"

#include "config/utf8.h"

#include <stdbool.h>
#include <string.h>

/* A full stop may be followed by so many quotes and brackets before the blank. */
enum { CLOSERS_MAX = 4 };

static bool is_inside(struct slice text, size_t at)
{
    return ((unsigned char)text.data[at] & 0xc0) == 0x80;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f';
}

/* The character that ends before `*at`, which moves to its beginning; 0 where the text begins. */
static uint32_t step_back(struct slice text, size_t *at)
{
    size_t start = *at, len;

    if (start == 0)
        return 0;
    start--;
    while (start > 0 && *at - start < 4 && is_inside(text, start))
        start--;
    len = *at - start;
    *at = start;
    return utf8_decode((struct slice){text.data + start, len}, &len);
}

/* Marks that end a sentence with a blank behind them. */
static bool is_stop(uint32_t c)
{
    return c == '.' || c == '!' || c == '?' || c == 0x2026 /* … */ || c == 0x061f || c == 0x06d4 ||
           c == 0x0964 || c == 0x0965 /* Hindi */ || c == 0x037e /* Greek */;
}

/* Marks that end one without: ideographic, full-width and half-width. */
static bool is_wide_stop(uint32_t c)
{
    return c == 0x3002 || c == 0xff01 || c == 0xff1f || c == 0xff0e || c == 0xff61;
}

static bool is_closer(uint32_t c)
{
    return c == '"' || c == '\'' || c == ')' || c == ']' || c == 0xbb || c == 0x2019 ||
           c == 0x201d || c == 0x300d || c == 0x300f || c == 0xff09;
}

static bool is_mark(struct slice text, size_t at, bool (*is)(uint32_t))
{
    size_t len;

    return at < text.len && is(utf8_decode((struct slice){text.data + at, text.len - at}, &len));
}

/* The mark before `at`, over quotes and brackets. */
static uint32_t mark_before(struct slice text, size_t at)
{
    uint32_t c = step_back(text, &at);

    for (int i = 0; i < CLOSERS_MAX && is_closer(c); i++)
        c = step_back(text, &at);
    return c;
}

/* `at` follows a line end: was there nothing on that line? */
static bool ends_blank_line(struct slice text, size_t at)
{
    at--; /* the line end itself */
    while (at > 0 && is_blank(text.data[at - 1]) && text.data[at - 1] != '\n')
        at--;
    return at == 0 || text.data[at - 1] == '\n';
}

/* A small letter goes on with the sentence: "approx. 5", "e.g. this". */
static bool goes_on(char next)
{
    return next >= 'a' && next <= 'z';
}

static enum place place_after_blanks(struct slice text, size_t at)
{
    size_t end = at;

    while (end > 0 && is_blank(text.data[end - 1]))
        end--;
    return !goes_on(text.data[at]) && is_stop(mark_before(text, end)) ? PLACE_SENTENCE : PLACE_WORD;
}

enum place place_at(struct slice text, size_t at)
{
    uint32_t mark;
    char last;

    if (at == 0 || at >= text.len)
        return PLACE_PARAGRAPH;
    last = text.data[at - 1];
    if (is_inside(text, at) || (last == '\r' && text.data[at] == '\n'))
        return PLACE_NONE;
    if (last == '\n')
        return ends_blank_line(text, at) ? PLACE_PARAGRAPH : PLACE_LINE;
    if (last == '\r' || last == '\f')
        return PLACE_LINE;
    if (is_blank(last))
        return is_blank(text.data[at]) ? PLACE_CHARACTER : place_after_blanks(text, at);
    if ((unsigned char)last < 0x80 && !is_closer((unsigned char)last))
        return PLACE_CHARACTER;
    mark = mark_before(text, at);
    return is_wide_stop(mark) && !is_mark(text, at, is_closer) && !is_mark(text, at, is_wide_stop)
               ? PLACE_SENTENCE
               : PLACE_CHARACTER;
}

size_t place_last(struct slice text, size_t low, size_t high)
{
    enum place best = PLACE_NONE;
    size_t ret = high;

    for (size_t at = high; at > low && best != PLACE_PARAGRAPH; at--) {
        enum place place = place_at(text, at);

        if (place > best) {
            best = place;
            ret = at;
        }
    }
    return ret;
}

size_t place_first(struct slice text, size_t low, size_t high)
{
    enum place best = PLACE_NONE;
    size_t ret = low;

    for (size_t at = low; at < high && best != PLACE_PARAGRAPH; at++) {
        enum place place = place_at(text, at);

        if (place > best) {
            best = place;
            ret = at;
        }
    }
    return ret;
}
