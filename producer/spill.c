/*
 * spill.c: the last bytes are always in memory, those before them in the file, so that appending
 * little by little costs few writes.
 */
#include "producer/spill.h"
#include "config/buffer.h"
#include "config/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TAIL_BYTES_MIN = 64 * 1024 };

struct spill {
    const char *dir;
    const char *what;
    size_t memory_bytes;
    int fd;             /* -1: all is in memory */
    uint64_t in_file;   /* bytes of the file; the tail follows them */
    struct buffer tail; /* at most memory_bytes, or TAIL_BYTES_MIN */
};

struct spill *spill_new(const char *dir, const char *what, size_t memory_bytes)
{
    struct spill *spill = xcalloc(1, sizeof(*spill));

    spill->dir = dir;
    spill->what = what;
    spill->memory_bytes = memory_bytes > TAIL_BYTES_MIN ? memory_bytes : TAIL_BYTES_MIN;
    spill->fd = -1;
    return spill;
}

void spill_free(struct spill *spill)
{
    if (spill == NULL)
        return;
    if (spill->fd >= 0)
        close(spill->fd);
    buffer_release(&spill->tail);
    free(spill);
}

uint64_t spill_size(const struct spill *spill)
{
    return spill->in_file + spill->tail.len;
}

static enum err io_failed(const struct spill *spill, const char *verb)
{
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)
        return fail(ERR_IO,
                    "no room under %s for %s: %s. Make room, or name another folder in "
                    "submit.spool_dir",
                    spill->dir, spill->what, strerror(errno));
    return fail(ERR_IO, "cannot %s %s under %s (submit.spool_dir): %s", verb, spill->what,
                spill->dir, strerror(errno));
}

static enum err open_file(struct spill *spill)
{
    char path[4096];

    spill->fd = open(spill->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (spill->fd >= 0)
        return ERR_OK;
    if (errno != EOPNOTSUPP && errno != EISDIR) /* the file system or kernel cannot do it */
        return io_failed(spill, "keep");
    snprintf(path, sizeof(path), "%s/mserve-XXXXXX", spill->dir);
    spill->fd = mkostemp(path, O_CLOEXEC);
    if (spill->fd < 0)
        return io_failed(spill, "keep");
    unlink(path);
    return ERR_OK;
}

static enum err write_file(struct spill *spill, uint64_t at, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = pwrite(spill->fd, data, len, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return io_failed(spill, "write");
        at += (uint64_t)n;
        data += n;
        len -= (size_t)n;
    }
    return ERR_OK;
}

static enum err read_file(struct spill *spill, uint64_t at, char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = pread(spill->fd, data, len, (off_t)at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = EIO; /* somebody cut a file that has no name */
        if (n <= 0)
            return io_failed(spill, "read");
        at += (uint64_t)n;
        data += n;
        len -= (size_t)n;
    }
    return ERR_OK;
}

/* Moves the tail into the file. */
static enum err flush_tail(struct spill *spill)
{
    enum err rc = spill->fd < 0 ? open_file(spill) : ERR_OK;

    if (rc == ERR_OK)
        rc = write_file(spill, spill->in_file, spill->tail.data, spill->tail.len);
    if (rc != ERR_OK)
        return rc;
    spill->in_file += spill->tail.len;
    buffer_clear(&spill->tail);
    return ERR_OK;
}

enum err spill_append(struct spill *spill, const void *data, size_t len)
{
    enum err rc;

    if (spill->tail.len > 0 && spill->tail.len + len > spill->memory_bytes) {
        rc = flush_tail(spill);
        if (rc != ERR_OK)
            return rc;
    }
    if (len <= spill->memory_bytes) {
        buffer_add(&spill->tail, data, len);
        return ERR_OK;
    }
    rc = spill->fd < 0 ? open_file(spill) : ERR_OK;
    if (rc == ERR_OK)
        rc = write_file(spill, spill->in_file, data, len);
    if (rc == ERR_OK)
        spill->in_file += len;
    return rc;
}

/* How many of `len` bytes at `at` lie in the file. */
static size_t part_in_file(const struct spill *spill, uint64_t at, size_t len)
{
    assert(at <= spill_size(spill) && len <= spill_size(spill) - at);
    if (at >= spill->in_file)
        return 0;
    return spill->in_file - at < len ? (size_t)(spill->in_file - at) : len;
}

enum err spill_read(struct spill *spill, uint64_t at, void *ret, size_t len)
{
    size_t part = part_in_file(spill, at, len);
    enum err rc = read_file(spill, at, ret, part);

    if (rc == ERR_OK && len > part)
        memcpy((char *)ret + part, spill->tail.data + (at + part - spill->in_file), len - part);
    return rc;
}

enum err spill_write(struct spill *spill, uint64_t at, const void *data, size_t len)
{
    size_t part = part_in_file(spill, at, len);
    enum err rc = write_file(spill, at, data, part);

    if (rc == ERR_OK && len > part)
        memcpy(spill->tail.data + (at + part - spill->in_file), (const char *)data + part,
               len - part);
    return rc;
}
