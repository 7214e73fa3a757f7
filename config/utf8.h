/*
 * utf8.h: what is UTF-8 (RFC 3629) and what is not: no overlong forms, no surrogates, nothing above
 * U+10FFFF, nothing cut short.
 *
 * Pure functions of their arguments; any thread.
 */
#ifndef MSERVE_CONFIG_UTF8_H
#define MSERVE_CONFIG_UTF8_H

#include "config/buffer.h"

#include <stdbool.h>
#include <stdint.h>

/* The number of leading bytes of `text` that are whole, valid characters; text.len if all are. */
size_t utf8_valid_len(struct slice text);

static inline bool utf8_valid(struct slice text)
{
    return utf8_valid_len(text) == text.len;
}

/*
 * For bytes that do not begin with a valid character (len >= 1): how many of them one U+FFFD stands
 * for, 1 to 3, by the Unicode rule of "maximal subparts", as browsers do it.
 */
size_t utf8_bad_len(struct slice bad);

/*
 * Whether `tail` (1 to 3 bytes, the start of a character) may become a valid character when more
 * bytes follow: what a stream holds back.
 */
bool utf8_is_cut(struct slice tail);

/*
 * The character at the start of `text`; *ret_len is its bytes. For bytes that are no character:
 * U+FFFD and what utf8_bad_len() says. `text` is not empty.
 */
uint32_t utf8_decode(struct slice text, size_t *ret_len);

/* Writes the character's 1 to 4 bytes and returns how many; surrogates and > 10FFFF give U+FFFD. */
size_t utf8_encode(uint32_t character, char out[4]);

/* Adds `text` with what is not UTF-8 replaced by U+FFFD. */
void utf8_add_clean(struct buffer *buffer, struct slice text);

/*
 * Whether the character at the start of `text` may be shown as it is; false: a terminal would obey it,
 * or it is no UTF-8. *ret and *ret_len as utf8_decode() has them.
 */
bool utf8_is_shown(struct slice text, uint32_t *ret, size_t *ret_len);

/*
 * Adds `text` as a terminal may show it, for names that others chose: line breaks, escapes, what
 * turns the direction of writing, and bytes that are no UTF-8 become "\\n", "\\x1b", "\\u202e". It is
 * for eyes, not to be read back: a backslash stays as it is.
 */
void utf8_add_printable(struct buffer *buffer, struct slice text);

#endif
