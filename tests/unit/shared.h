/*
 * shared.h: where the models, vocabularies and suites lie that tests read but the repository does not
 * own: under $MSERVE_SHARED/assets, by default ../shared beside the source tree.
 */
#ifndef MSERVE_TESTS_SHARED_H
#define MSERVE_TESTS_SHARED_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/buffer.h"

/* Path of the file or folder `name`, until the next call; NULL, with a printed reason, where it is
 * absent: then the test skips. */
static inline const char *shared_path(const char *name)
{
    static char path[4096];
    const char *root = getenv("MSERVE_SHARED");
    FILE *file;

    snprintf(path, sizeof(path), "%s/assets/%s", root != NULL ? root : MSERVE_SOURCE "/../shared",
             name);
    file = fopen(path, "r"); /* a folder can be opened too */
    if (file == NULL) {
        printf("skipped: %s is not there\n", path);
        return NULL;
    }
    fclose(file);
    return path;
}

/* The bytes of a file in the place of what `text` held; false where there is none. */
static inline bool shared_read(const char *path, struct buffer *text)
{
    FILE *in = path != NULL ? fopen(path, "rb") : NULL;
    size_t got;

    buffer_clear(text);
    if (in == NULL)
        return false;
    do {
        got = fread(buffer_reserve(text, 65536), 1, 65536, in);
        text->len += got;
    } while (got > 0);
    buffer_reserve(text, 1);
    fclose(in);
    return true;
}

#endif
