/*
 * document_pattern.h: patterns of paths, as --include and --exclude have them.
 *
 * Parts between slashes match as fnmatch(3) has it: "*" and "?" stand for no slash. A part "**" stands
 * for any number of folders, also none. A pattern without a slash is about the last part of a path,
 * wherever it lies; one with a slash is about the whole path, from its beginning. One that ends in a
 * slash means all that lies below such a folder.
 *
 * Pure functions of their arguments.
 */
#ifndef MSERVE_PRODUCER_DOCUMENT_PATTERN_H
#define MSERVE_PRODUCER_DOCUMENT_PATTERN_H

#include <stdbool.h>

enum { DOCUMENT_PATTERN_PARTS_MAX = 256, DOCUMENT_PATTERN_BYTES_MAX = 4096 };

/* Why it is no pattern, as the end of a sentence; NULL: it is one. */
const char *document_pattern_fault(const char *pattern);

/* `pattern` has no fault. A path with more than DOCUMENT_PATTERN_PARTS_MAX parts matches nothing. */
bool document_pattern_matches(const char *pattern, const char *path);

/* The same, or a folder above `path` does: what an exclusion is. */
bool document_pattern_covers(const char *pattern, const char *path);

#endif
