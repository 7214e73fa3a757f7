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
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

enum {
    PIECE_BYTES = 256 * 1024,
    SPOOL_MEMORY_BYTES = 1 << 20, /* what is smaller never touches the disk */
    MAGIC_BYTES = 4,
};

struct input {
    const char *path; /* for sentences */
    char *name;
    int fd;              /* the plain file, or where the spool came from */
    struct stat before;  /* of a plain file */
    struct spill *spool; /* NULL: a plain file */
    input_progress_fn *on_progress_cb;
    void *data;
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

static enum err keep(struct input *input, const void *data, size_t len)
{
    enum err rc = spill_append(input->spool, data, len);

    if (rc == ERR_OK && input->on_progress_cb != NULL)
        input->on_progress_cb(input->data, spill_size(input->spool));
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

static enum err spool(struct input *input, const char *dir)
{
    char *piece = xmalloc(PIECE_BYTES);
    size_t len = 0;
    enum err rc = read_piece(input, piece, PIECE_BYTES, &len);

    input->spool = spill_new(dir, "the input", SPOOL_MEMORY_BYTES);
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

/* Whether the file can be read where it lies. */
static enum err look(struct input *input, bool *ret_plain)
{
    char magic[MAGIC_BYTES];
    ssize_t n;

    if (fstat(input->fd, &input->before) != 0)
        return read_failed(input);
    *ret_plain = false;
    if (S_ISDIR(input->before.st_mode)) {
        errno = EISDIR;
        return read_failed(input);
    }
    if (!S_ISREG(input->before.st_mode) || input->fd == STDIN_FILENO)
        return ERR_OK;
    n = pread(input->fd, magic, sizeof(magic), 0);
    if (n < 0)
        return read_failed(input);
    *ret_plain = !is_zstd(magic, (size_t)n);
    return ERR_OK;
}

enum err input_open(const char *path, const char *spool_dir, input_progress_fn *on_progress_cb,
                    void *data, struct input **ret)
{
    struct input *input = xcalloc(1, sizeof(*input));
    bool standard = strcmp(path, "-") == 0;
    const char *slash = strrchr(path, '/');
    bool plain = false;
    enum err rc;

    input->path = standard ? "standard input" : path;
    input->name = xstrdup(slash != NULL ? slash + 1 : path);
    input->on_progress_cb = on_progress_cb;
    input->data = data;
    input->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    rc = input->fd < 0 ? open_failed(path) : look(input, &plain);
    if (rc == ERR_OK && !plain)
        rc = spool(input, spool_dir);
    if (rc != ERR_OK) {
        input_close(input);
        return rc;
    }
    *ret = input;
    return ERR_OK;
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
