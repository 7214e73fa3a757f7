/*
 * results_file.c: where results are put: into a file that appears when it is whole, or, where that
 * cannot be, into what is there.
 */
#include "config/buffer.h"
#include "config/log.h"
#include "producer/results/results.h"
#include "producer/results/results_write.h"

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

/* ------------------------------------------------------------------------------- a place to write ---- */

/* One of the two files, while it is written. */
struct place {
    struct target target; /* path NULL: standard output, or nothing */
    char *temporary;      /* what will become the target; NULL: it is written to as it is */
    FILE *out;            /* NULL: none */
    struct results_sink sink;
};

static bool is_compressed(const char *path)
{
    size_t len = strlen(path);

    return len > 4 && strcmp(path + len - 4, ".zst") == 0;
}

/* A device or a pipe cannot be replaced by a file, nor one in a folder that is not ours. */
static enum err open_target(struct place *place)
{
    const struct target *target = &place->target;
    bool replaces = !target->exists || S_ISREG(target->stat.st_mode);
    int fd = replaces ? open_beside(target, &place->temporary) : -1;

    if (fd >= 0)
        place->out = fdopen(fd, "w");
    else if (target->exists)
        place->out = fopen(target->path, "we");
    return place->out != NULL ? ERR_OK : cannot(target->path);
}

static enum err open_place(const char *path, struct place *place)
{
    enum err rc = ERR_OK;

    if (strcmp(path, "-") == 0) {
        place->out = stdout;
    } else {
        rc = find_target(path, &place->target);
        if (rc == ERR_OK)
            rc = try_target(&place->target);
        if (rc == ERR_OK)
            rc = open_target(place);
    }
    if (rc == ERR_OK)
        results_sink_init(&place->sink, place->out, is_compressed(path));
    return rc;
}

/* All of it is in the file, which does not appear yet. */
static enum err finish_place(struct place *place)
{
    enum err rc = ERR_OK;

    if (place->out == NULL)
        return ERR_OK;
    rc = results_sink_finish(&place->sink);
    if (place->out != stdout && fclose(place->out) != 0 && rc == ERR_OK)
        rc = cannot(place->target.path);
    place->out = NULL;
    return rc;
}

static enum err show_place(struct place *place)
{
    if (place->temporary == NULL)
        return ERR_OK;
    if (rename(place->temporary, place->target.path) != 0)
        return cannot(place->target.path);
    free(place->temporary);
    place->temporary = NULL;
    return ERR_OK;
}

/* What did not appear is gone. */
static void close_place(struct place *place)
{
    if (place->out != NULL && place->out != stdout)
        fclose(place->out);
    if (place->temporary != NULL)
        unlink(place->temporary);
    results_sink_release(&place->sink);
    free(place->temporary);
    free(place->target.path);
}

static bool is_same(const struct target *a, const struct target *b)
{
    if (a->path == NULL || b->path == NULL)
        return a->path == b->path;
    return strcmp(a->path, b->path) == 0 ||
           (a->exists && b->exists && S_ISREG(a->stat.st_mode) &&
            a->stat.st_dev == b->stat.st_dev && a->stat.st_ino == b->stat.st_ino);
}

static enum err write_places(struct db *db, const struct uuid *job,
                             const struct results_options *options, struct place *out,
                             struct place *errors, struct results_counts *ret)
{
    enum err rc = results_write(db, job, options, &out->sink,
                                errors->out != NULL ? &errors->sink : NULL, ret);

    if (rc == ERR_OK)
        rc = finish_place(out);
    if (rc == ERR_OK)
        rc = finish_place(errors);
    if (rc == ERR_OK)
        rc = show_place(out);
    return rc == ERR_OK ? show_place(errors) : rc;
}

/* In one sentence: what the options ask for cannot be, or is not what anybody wants. */
static enum err check_options(const struct results_options *options)
{
    if (options->latest && options->follow)
        return fail(ERR_USAGE, "--latest and --follow do not go together: a row that was written "
                               "cannot be taken back; wait for the retry, then ask for --latest");
    if (options->join && options->order == RESULTS_COMPLETION)
        return fail(ERR_USAGE, "--join and --order completion do not go together: documents are "
                               "written in input order");
    if (options->errors != NULL && options->status != RESULTS_ALL)
        return fail(ERR_USAGE, "--errors and --status do not go together: with --errors all rows "
                               "are written, each to its file");
    if (options->from_line > INT64_MAX)
        return fail(ERR_USAGE, "--from-line is larger than any line");
    return ERR_OK;
}

enum err results_write_file(struct db *db, const struct uuid *job,
                            const struct results_options *options, const char *path,
                            struct results_counts *ret)
{
    struct place out = {0}, errors = {0};
    enum err rc = check_options(options);

    if (rc == ERR_OK)
        rc = open_place(path, &out);
    if (rc == ERR_OK && options->errors != NULL)
        rc = open_place(options->errors, &errors);
    if (rc == ERR_OK && options->errors != NULL && is_same(&out.target, &errors.target))
        rc = fail(ERR_USAGE, "results and errors are both to go to %s; name two files", path);
    if (rc == ERR_OK)
        rc = write_places(db, job, options, &out, &errors, ret);
    close_place(&out);
    close_place(&errors);
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
