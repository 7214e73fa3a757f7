/*
 * input.c: what cannot be read twice is spooled, what is packed is unpacked on the way.
 */
#include "producer/input.h"
#include "config/buffer.h"
#include "config/log.h"
#include "producer/interrupt.h"
#include "producer/spill.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

enum {
    PIECE_BYTES = 256 * 1024,
    SPOOL_MEMORY_BYTES = 1 << 20, /* what is smaller never touches the disk */
    MAGIC_BYTES = 4,
    /* What is kept beyond line_bytes_max: a mark of byte order is no part of the line. */
    LONG_LINE_BYTES = 4,
    LONG_LINE_TIMES = 64, /* line_bytes_max: where a line is given up */
};

struct input {
    const char *path; /* for sentences */
    char *name;
    int fd;             /* the plain file, or where the spool comes from */
    struct stat before; /* of `fd` when it was opened */
    bool plain;         /* it is read where it lies */
    struct input_spool options;
    struct spill *spool; /* NULL: a plain file */
    uint64_t line_bytes; /* since the last newline, while it is spooled */
};

static enum err open_failed(const char *path)
{
    if (errno == ENOENT || errno == ENOTDIR)
        return fail(ERR_NOT_FOUND, "there is no file %s", path);
    if (errno == EACCES || errno == EPERM)
        return fail(ERR_DENIED, "%s: you are not allowed to read this file", path);
    return fail(ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
}

static enum err read_failed(const struct input *input)
{
    if (errno == EISDIR)
        return fail(ERR_INPUT, "%s is a folder, not a file", input->path);
    return fail(ERR_IO, "%s: cannot be read: %s", input->path, strerror(errno));
}

/* Fills `piece` from a stream as far as there is something; less only at its end. */
static enum err read_piece(const struct input *input, char *piece, size_t size, size_t *ret_len)
{
    size_t len = 0;

    while (len < size) {
        ssize_t n = read(input->fd, piece + len, size - len);

        if (interrupted())
            return ERR_INTERRUPTED;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return read_failed(input);
        if (n == 0)
            break;
        len += (size_t)n;
    }
    *ret_len = len;
    return ERR_OK;
}

/*
 * The rest of a line, or a piece of it. Of one that is too long the beginning is kept, and a byte
 * that keeps it from being taken for a blank line.
 */
static enum err keep_line(struct input *input, const char *text, size_t len, bool ends)
{
    uint64_t most = input->options.line_bytes_max + LONG_LINE_BYTES;
    uint64_t room = input->line_bytes < most ? most - input->line_bytes : 0;
    bool cut = room > 0 && len >= room;
    enum err rc = spill_append(input->spool, text, cut ? (size_t)room - 1 : room > 0 ? len : 0);

    if (rc == ERR_OK && cut)
        rc = spill_append(input->spool, "~", 1);
    input->line_bytes += len;
    if (rc == ERR_OK && input->line_bytes > input->options.line_bytes_max * LONG_LINE_TIMES)
        rc = fail(ERR_INPUT,
                  "%s has a line of more than %d times %" PRIu64 " bytes (submit.line_bytes_max): "
                  "this is no file of requests",
                  input->path, LONG_LINE_TIMES, input->options.line_bytes_max);
    if (rc == ERR_OK && ends) {
        rc = spill_append(input->spool, "\n", 1);
        input->line_bytes = 0;
    }
    return rc;
}

static enum err keep_lines(struct input *input, const char *at, const char *end)
{
    enum err rc = ERR_OK;

    while (rc == ERR_OK && at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((newline != NULL ? newline : end) - at);

        rc = keep_line(input, at, len, newline != NULL);
        at += len + 1;
    }
    return rc;
}

static enum err keep(struct input *input, const char *data, size_t len)
{
    enum err rc;

    if (input->line_bytes + len > input->options.line_bytes_max) {
        rc = keep_lines(input, data, data + len);
    } else { /* no line in it can be too long */
        const char *last = memrchr(data, '\n', len);

        input->line_bytes =
            last != NULL ? (size_t)(data + len - last) - 1 : input->line_bytes + len;
        rc = spill_append(input->spool, data, len);
    }
    if (rc == ERR_OK && input->options.on_progress_cb != NULL)
        input->options.on_progress_cb(input->options.data, spill_size(input->spool));
    return rc;
}

/* What the stream needs to go on: the piece that was read, and buffers. */
struct unpack {
    ZSTD_DStream *zstd;
    char *piece;
    char *plain;
    size_t len;  /* of the piece */
    size_t hint; /* 0: at the end of a frame */
};

static enum err unpack_piece(struct input *input, struct unpack *unpack)
{
    ZSTD_inBuffer in = {unpack->piece, unpack->len, 0};

    while (in.pos < in.size || unpack->hint != 0) {
        ZSTD_outBuffer out = {unpack->plain, PIECE_BYTES, 0};
        size_t before = in.pos;
        enum err rc;

        unpack->hint = ZSTD_decompressStream(unpack->zstd, &out, &in);
        if (ZSTD_isError(unpack->hint))
            return fail(ERR_INPUT, "%s: the zstd data is broken: %s", input->path,
                        ZSTD_getErrorName(unpack->hint));
        rc = keep(input, out.dst, out.pos);
        if (rc != ERR_OK)
            return rc;
        if (in.pos == before && out.pos == 0)
            break; /* it waits for the next piece */
    }
    return ERR_OK;
}

static enum err spool_zstd(struct input *input, char *piece, size_t len)
{
    struct unpack unpack = {ZSTD_createDStream(), piece, xmalloc(PIECE_BYTES), len, 0};
    enum err rc = ERR_OK;

    while (rc == ERR_OK && unpack.len > 0) {
        rc = unpack_piece(input, &unpack);
        if (rc == ERR_OK)
            rc = read_piece(input, piece, PIECE_BYTES, &unpack.len);
    }
    if (rc == ERR_OK && unpack.hint != 0)
        rc = fail(ERR_INPUT, "%s: the zstd data ends too early", input->path);
    ZSTD_freeDStream(unpack.zstd);
    free(unpack.plain);
    return rc;
}

static bool is_zstd(const char *data, size_t len)
{
    return len >= MAGIC_BYTES && memcmp(data, "\x28\xb5\x2f\xfd", MAGIC_BYTES) == 0;
}

/* Files that people have, and that are not lines of JSON: what they are, and what makes lines of them. */
static enum err refuse_foreign(const struct input *input, const char *data, size_t len)
{
    static const struct {
        const char *magic; /* MAGIC_BYTES at most, none of them 0 */
        const char *what;
        const char *remedy;
    } foreign[] = {
        {"\x1f\x8b", "packed with gzip", "zcat"},
        {"BZh", "packed with bzip2", "bzcat"},
        {"\xfd"
         "7zX",
         "packed with xz", "xzcat"},
        {"PK\x03\x04", "a zip file", "unzip -p"},
        {"\xff\xfe", "UTF-16", "iconv -f UTF-16 -t UTF-8"},
        {"\xfe\xff", "UTF-16", "iconv -f UTF-16 -t UTF-8"},
    };

    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++)
        if (len >= strlen(foreign[i].magic) &&
            memcmp(data, foreign[i].magic, strlen(foreign[i].magic)) == 0)
            return fail(ERR_INPUT, "%s is %s, not lines of JSON: %s %s | mserve-submit -",
                        input->path, foreign[i].what, foreign[i].remedy,
                        input->fd == STDIN_FILENO ? "FILE" : input->path);
    return ERR_OK;
}

enum err input_spool(struct input *input, const struct input_spool *options)
{
    char *piece;
    size_t len = 0;
    enum err rc;

    if (input->plain)
        return ERR_OK;
    piece = xmalloc(PIECE_BYTES);
    rc = read_piece(input, piece, PIECE_BYTES, &len);
    if (rc == ERR_OK)
        rc = refuse_foreign(input, piece, len);
    input->options = *options;
    input->spool = spill_new(options->dir, "the input", SPOOL_MEMORY_BYTES);
    if (rc == ERR_OK && is_zstd(piece, len)) {
        rc = spool_zstd(input, piece, len);
    } else {
        while (rc == ERR_OK && len > 0) {
            rc = keep(input, piece, len);
            if (rc == ERR_OK)
                rc = read_piece(input, piece, PIECE_BYTES, &len);
        }
    }
    free(piece);
    return rc;
}

/* Whether there is a file, and whether it can be read where it lies. */
static enum err look(struct input *input)
{
    char magic[MAGIC_BYTES];
    ssize_t n;

    if (fstat(input->fd, &input->before) != 0)
        return read_failed(input);
    if (S_ISDIR(input->before.st_mode)) {
        errno = EISDIR;
        return read_failed(input);
    }
    if (!S_ISREG(input->before.st_mode) || input->fd == STDIN_FILENO)
        return ERR_OK;
    n = pread(input->fd, magic, sizeof(magic), 0);
    if (n < 0)
        return read_failed(input);
    input->plain = !is_zstd(magic, (size_t)n);
    return refuse_foreign(input, magic, (size_t)n);
}

enum err input_open(const char *path, struct input **ret)
{
    struct input *input = xcalloc(1, sizeof(*input));
    bool standard = strcmp(path, "-") == 0;
    const char *slash = strrchr(path, '/');
    enum err rc;

    input->path = standard ? "standard input" : path;
    input->name = xstrdup(slash != NULL ? slash + 1 : path);
    input->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    rc = input->fd < 0 ? open_failed(path) : look(input);
    if (rc != ERR_OK) {
        input_close(input);
        return rc;
    }
    *ret = input;
    return ERR_OK;
}

struct input *input_new(const char *name, const char *dir)
{
    struct input *input = xcalloc(1, sizeof(*input));

    input->name = xstrdup(name);
    input->path = input->name;
    input->fd = -1;
    input->spool = spill_new(dir, "the input", SPOOL_MEMORY_BYTES);
    return input;
}

enum err input_add(struct input *input, const char *lines, size_t len)
{
    return spill_append(input->spool, lines, len);
}

void input_close(struct input *input)
{
    if (input == NULL)
        return;
    if (input->fd > STDIN_FILENO)
        close(input->fd);
    spill_free(input->spool);
    free(input->name);
    free(input);
}

uint64_t input_size(const struct input *input)
{
    return input->spool != NULL ? spill_size(input->spool) : (uint64_t)input->before.st_size;
}

const char *input_name(const struct input *input)
{
    return input->name;
}

enum err input_read(struct input *input, uint64_t at, void *ret, size_t len, size_t *ret_len)
{
    uint64_t size = input_size(input);
    size_t got = 0;

    if (at >= size)
        len = 0;
    else if (len > size - at)
        len = (size_t)(size - at);
    *ret_len = len;
    if (input->spool != NULL)
        return spill_read(input->spool, at, ret, len);
    while (got < len) {
        ssize_t n = pread(input->fd, (char *)ret + got, len - got, (off_t)(at + got));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return read_failed(input);
        if (n == 0)
            return fail(ERR_INPUT,
                        "%s became shorter while it was read; submit it again when "
                        "nobody writes to it",
                        input->path);
        got += (size_t)n;
    }
    return ERR_OK;
}

bool input_is(const struct input *input, const struct stat *file)
{
    return input->fd >= 0 && S_ISREG(file->st_mode) && file->st_dev == input->before.st_dev &&
           file->st_ino == input->before.st_ino;
}

enum err input_check_unchanged(const struct input *input)
{
    struct stat now;

    if (input->spool != NULL)
        return ERR_OK;
    if (fstat(input->fd, &now) != 0)
        return read_failed(input);
    if (now.st_size != input->before.st_size ||
        now.st_mtim.tv_sec != input->before.st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != input->before.st_mtim.tv_nsec)
        return fail(ERR_INPUT,
                    "%s was changed while it was read; submit it again when nobody "
                    "writes to it",
                    input->path);
    return ERR_OK;
}
