/* document_pattern.c: paths and patterns as lists of parts; only the last "**" is ever gone back to. */
#include "producer/documents/document_pattern.h"

#include <assert.h>
#include <fnmatch.h>
#include <stdint.h>
#include <string.h>

/* The parts of a path; empty ones, of two slashes in a row, are none. */
struct parts {
    char text[DOCUMENT_PATTERN_BYTES_MAX + 1];
    const char *part[DOCUMENT_PATTERN_PARTS_MAX];
    uint32_t count;
    bool rooted; /* a slash before its last part */
    bool folder; /* a slash behind it */
};

static bool split(const char *text, struct parts *ret)
{
    size_t len = strlen(text);
    char *at = ret->text, *end;

    ret->count = 0;
    ret->folder = len > 0 && text[len - 1] == '/';
    while (ret->folder && len > 0 && text[len - 1] == '/')
        len--;
    ret->rooted = memchr(text, '/', len) != NULL;
    if (len > DOCUMENT_PATTERN_BYTES_MAX)
        return false;
    memcpy(ret->text, text, len);
    ret->text[len] = '\0';
    while (*at != '\0') {
        end = strchrnul(at, '/');
        if (end > at) {
            if (ret->count == DOCUMENT_PATTERN_PARTS_MAX)
                return false;
            ret->part[ret->count++] = at;
        }
        at = *end == '\0' ? end : end + 1;
        *end = '\0';
    }
    return true;
}

static bool is_any_folders(const char *part)
{
    return strcmp(part, "**") == 0;
}

/* Whether pattern[p..] matches path[from..to). */
static bool match(const struct parts *pattern, const struct parts *path, uint32_t from, uint32_t to)
{
    uint32_t p = 0, s = from;
    uint32_t star = UINT32_MAX,
             retry = from; /* the last "**", and where it stopped taking folders */

    while (s < to) {
        if (p < pattern->count && is_any_folders(pattern->part[p])) {
            star = p++;
            retry = s;
        } else if (p < pattern->count && fnmatch(pattern->part[p], path->part[s], 0) == 0) {
            p++;
            s++;
        } else if (star != UINT32_MAX) {
            p = star + 1;
            s = ++retry;
        } else {
            return false;
        }
    }
    return p == pattern->count; /* a "**" at the end is what lies in a folder, not the folder */
}

const char *document_pattern_fault(const char *pattern)
{
    struct parts parts;

    if (!split(pattern, &parts))
        return "is too long";
    return parts.count == 0 ? "is empty" : NULL;
}

/* Whether it matches the first `count` parts of a path. */
static bool matches(const struct parts *pattern, const struct parts *path, uint32_t count)
{
    return match(pattern, path, pattern->rooted ? 0 : count - 1, count);
}

/* Whether it matches a folder above the path. */
static bool matches_above(const struct parts *pattern, const struct parts *path)
{
    for (uint32_t count = 1; count < path->count; count++)
        if (matches(pattern, path, count))
            return true;
    return false;
}

bool document_pattern_matches(const char *pattern, const char *path)
{
    struct parts of_pattern, of_path;
    bool good = split(pattern, &of_pattern);

    assert(good);
    if (!good || !split(path, &of_path) || of_path.count == 0)
        return false;
    return of_pattern.folder ? matches_above(&of_pattern, &of_path)
                             : matches(&of_pattern, &of_path, of_path.count);
}

bool document_pattern_covers(const char *pattern, const char *path)
{
    struct parts of_pattern, of_path;
    bool good = split(pattern, &of_pattern);

    assert(good);
    if (!good || !split(path, &of_path) || of_path.count == 0)
        return false;
    return matches_above(&of_pattern, &of_path) ||
           (!of_pattern.folder && matches(&of_pattern, &of_path, of_path.count));
}
