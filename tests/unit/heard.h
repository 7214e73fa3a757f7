/*
 * heard.h: what a test made the log say. Standard error goes into memory between heard_start() and
 * heard_stop(), so that thousands of refusals do not fill the terminal and their sentences can be
 * looked at.
 */
#ifndef MSERVE_TESTS_UNIT_HEARD_H
#define MSERVE_TESTS_UNIT_HEARD_H

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int heard_file = -1;
static int heard_stderr = -1;
static char heard_text[65536];

static inline void heard_start(void)
{
    heard_file = memfd_create("heard", MFD_CLOEXEC);
    heard_stderr = dup(STDERR_FILENO);
    if (heard_file < 0 || heard_stderr < 0 || dup2(heard_file, STDERR_FILENO) < 0)
        abort();
}

/* All that was written since the last call, at most 64 KiB of it. */
static inline const char *heard(void)
{
    ssize_t len = pread(heard_file, heard_text, sizeof(heard_text) - 1, 0);

    heard_text[len > 0 ? len : 0] = '\0';
    if (ftruncate(heard_file, 0) != 0 || lseek(heard_file, 0, SEEK_SET) != 0)
        abort();
    return heard_text;
}

static inline void heard_stop(void)
{
    dup2(heard_stderr, STDERR_FILENO);
    close(heard_stderr);
    close(heard_file);
}

#endif
