/*
 * json_string.h: where a JSON string ends, and what it says. For json.c only.
 *
 * Pure functions of their arguments; any thread.
 */
#ifndef MSERVE_CONFIG_JSON_STRING_H
#define MSERVE_CONFIG_JSON_STRING_H

#include <stdbool.h>
#include <stddef.h>

struct json_string {
    const char *stop; /* the closing quote; or the byte that cannot stand there, `end` when there is
                         no closing quote */
    bool escaped;     /* there are escapes in it */
    const char *why;  /* what is wrong with *stop */
};

/* Looks for the end of the string whose content begins at `at`; false when it is not well formed. */
bool json_string_scan(const char *at, const char *end, struct json_string *ret);

/*
 * Decodes the content of a string that was scanned into `out`, which has room for as many bytes as
 * it has. False when an escape is half of a surrogate pair: string->stop then points at it.
 */
bool json_string_decode(const char *at, struct json_string *string, char *out, size_t *ret_len);

#endif
