/*
 * results_file.c: where results are put: into a file that appears when it is whole, or, where that
 * cannot be, into what is there.
 */
#include "config/buffer.h"
#include "config/log.h"
#include "producer/results.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINKS_MAX = 40 };

/* Where a name leads to. */
struct target {
    char *path; /* of no link, whether something is there or not */
    bool exists;
    struct stat stat; /* if so */
};

static enum err cannot(const char *path)
{
    return fail(ERR_IO, "%s cannot be written: %s", path, strerror(errno));
}

/* What a link says, seen from where it lies; NULL: `path` is no link. */
static char *read_link(const char *path)
{
    char text[PATH_MAX];
    ssize_t len = readlink(path, text, sizeof(text) - 1);
    const char *slash = strrchr(path, '/');
    struct buffer target = {0};

    if (len < 0)
        return NULL;
    text[len] = '\0';
    if (text[0] != '/' && slash != NULL)
        buffer_add(&target, path, (size_t)(slash - path) + 1);
    buffer_add(&target, text, (size_t)len);
    return buffer_detach(&target);
}

/* Follows links by hand, because a link may well lead to a file that is yet to be made. */
static enum err find_target(const char *path, struct target *ret)
{
    char *at = xstrdup(path), *next = NULL;
    int links = 0;

    while (links <= LINKS_MAX && (next = read_link(at)) != NULL) {
        free(at);
        at = next;
        links++;
    }
    if (links > LINKS_MAX) {
        free(at);
        errno = ELOOP;
        return cannot(path);
    }
    *ret = (struct target){.path = at};
    ret->exists = stat(at, &ret->stat) == 0;
    return ERR_OK;
}

/* An empty file beside the one it will become, so that renaming it is one step; -1: errno says. */
static int open_beside(const struct target *target, char **ret_temporary)
{
    struct buffer name = {0};
    mode_t mask = umask(0);
    int fd;

    umask(mask);
    buffer_printf(&name, "%s.XXXXXX", target->path);
    fd = mkostemp(name.data, O_CLOEXEC);
    if (fd < 0) {
        buffer_release(&name);
        return -1;
    }
    fchmod(fd, target->exists ? target->stat.st_mode & 07777 : 0666 & ~mask);
    *ret_temporary = buffer_detach(&name);
    return fd;
}

/* A device or a pipe cannot be replaced by a file, nor one in a folder that is not ours. */
static enum err write_through(struct db *db, const struct uuid *job,
                              const struct results_options *options, const char *path,
                              struct results_counts *ret)
{
    FILE *out = fopen(path, "we");
    enum err rc;

    if (out == NULL)
        return cannot(path);
    rc = results_write(db, job, options, out, ret);
    if (fclose(out) != 0 && rc == ERR_OK)
        rc = cannot(path);
    return rc;
}

static enum err write_target(struct db *db, const struct uuid *job,
                             const struct results_options *options, const struct target *target,
                             struct results_counts *ret)
{
    bool replaces = !target->exists || S_ISREG(target->stat.st_mode);
    char *temporary;
    int fd = replaces ? open_beside(target, &temporary) : -1;
    FILE *out;
    enum err rc;

    if (fd < 0)
        return target->exists ? write_through(db, job, options, target->path, ret)
                              : cannot(target->path);
    out = fdopen(fd, "w");
    rc = results_write(db, job, options, out, ret);
    if ((fclose(out) != 0 || (rc == ERR_OK && rename(temporary, target->path) != 0)) &&
        rc == ERR_OK)
        rc = cannot(target->path);
    if (rc != ERR_OK)
        unlink(temporary);
    free(temporary);
    return rc;
}

/* Opens what is there, or makes and removes what would be; a pipe would wait for its reader. */
static enum err try_target(const struct target *target)
{
    char *temporary;
    int fd;

    if (target->exists && !S_ISREG(target->stat.st_mode) && !S_ISDIR(target->stat.st_mode))
        return access(target->path, W_OK) == 0 ? ERR_OK : cannot(target->path);
    if (target->exists) {
        fd = open(target->path, O_WRONLY | O_CLOEXEC);
    } else {
        fd = open_beside(target, &temporary);
        if (fd >= 0) {
            unlink(temporary);
            free(temporary);
        }
    }
    if (fd < 0)
        return cannot(target->path);
    close(fd);
    return ERR_OK;
}

enum err results_write_file(struct db *db, const struct uuid *job,
                            const struct results_options *options, const char *path,
                            struct results_counts *ret)
{
    struct target target;
    enum err rc;

    if (strcmp(path, "-") == 0)
        return results_write(db, job, options, stdout, ret);
    rc = find_target(path, &target);
    if (rc != ERR_OK)
        return rc;
    rc = try_target(&target);
    if (rc == ERR_OK)
        rc = write_target(db, job, options, &target, ret);
    free(target.path);
    return rc;
}

enum err results_try_file(const char *path)
{
    struct target target;
    enum err rc;

    if (strcmp(path, "-") == 0)
        return ERR_OK;
    rc = find_target(path, &target);
    if (rc != ERR_OK)
        return rc;
    rc = try_target(&target);
    free(target.path);
    return rc;
}
