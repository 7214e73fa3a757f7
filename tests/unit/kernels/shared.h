/*
 * shared.h: where the models and vocabularies lie that tests read but the repository does not own.
 */
#ifndef MSERVE_TESTS_KERNELS_SHARED_H
#define MSERVE_TESTS_KERNELS_SHARED_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Path of `name` under $MSERVE_SHARED/assets; NULL, with a printed reason, where it is absent. */
static inline const char *shared_path(const char *name)
{
    static char path[4096];
    const char *root = getenv("MSERVE_SHARED");

    snprintf(path, sizeof(path), "%s/assets/%s", root != NULL ? root : MSERVE_SHARED_DEFAULT, name);
    if (access(path, R_OK) == 0)
        return path;
    printf("skipped: %s is not there\n", path);
    return NULL;
}

#endif
