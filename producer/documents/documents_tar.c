/*
 * documents_tar.c: the files of a tar, by libarchive. It is trusted with the format and with nothing
 * else: what it says of sizes is checked, and its paths are names.
 */
#include "config/buffer.h"
#include "config/log.h"
#include "producer/documents/documents_internal.h"
#include "producer/interrupt.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 512, SUM_AT = 148, SUM_BYTES = 8, READ_BYTES = 64 * 1024 };

struct tar {
    struct documents_stream *stream;
    struct archive *archive;
    struct archive_entry *entry;
    uint64_t number; /* of the entry, from 1 */
    char why[80];
};

/* A header's checksum is the sum of its bytes, its own taken as blanks; written in octal. */
static bool is_header(const unsigned char *block)
{
    unsigned long sum = 0, said = 0;
    bool zero = true;
    int at = SUM_AT;

    for (int i = 0; i < BLOCK_BYTES; i++) {
        sum += i >= SUM_AT && i < SUM_AT + SUM_BYTES ? ' ' : block[i];
        zero = zero && block[i] == 0;
    }
    while (at < SUM_AT + SUM_BYTES && block[at] == ' ')
        at++;
    while (at < SUM_AT + SUM_BYTES && block[at] >= '0' && block[at] <= '7')
        said = said * 8 + block[at++] - '0';
    return zero || sum == said;
}

bool documents_tar_is(const char *data, size_t len)
{
    static const struct {
        const char *bytes;
        size_t len;
    } packed[] = {{"\x1f\x8b", 2},
                  {"\x28\xb5\x2f\xfd", 4},
                  {"\xfd"
                   "7zXZ",
                   6},
                  {"BZh", 3}};

    for (size_t i = 0; i < sizeof(packed) / sizeof(packed[0]); i++)
        if (len >= packed[i].len && memcmp(data, packed[i].bytes, packed[i].len) == 0)
            return true;
    return len >= BLOCK_BYTES && is_header((const unsigned char *)data);
}

static la_ssize_t on_read_cb(struct archive *archive, void *data, const void **ret)
{
    struct tar *tar = data;
    const char *piece;
    size_t len;

    if (!documents_stream_read(tar->stream, &piece, &len)) {
        archive_set_error(archive, errno, "%s", strerror(errno));
        return -1;
    }
    *ret = piece;
    return (la_ssize_t)len;
}

static enum err broken(const struct tar *tar)
{
    const char *why = archive_error_string(tar->archive);

    if (interrupted())
        return ERR_INTERRUPTED;
    return fail(ERR_INPUT, "%s is a broken tar file, or was cut off: %s", tar->stream->name,
                why != NULL ? why : "no more is known");
}

static void tar_close(void *data)
{
    struct tar *tar = data;

    archive_read_free(tar->archive);
    free(tar);
}

enum err documents_tar_open(struct documents_stream *stream, void **ret)
{
    struct tar *tar = xcalloc(1, sizeof(*tar));
    enum err rc;

    tar->stream = stream;
    tar->archive = archive_read_new();
    /* `cat one.tar two.tar` has the files of both. */
    if (tar->archive == NULL || archive_read_support_filter_gzip(tar->archive) != ARCHIVE_OK ||
        archive_read_support_filter_zstd(tar->archive) != ARCHIVE_OK ||
        archive_read_support_filter_xz(tar->archive) != ARCHIVE_OK ||
        archive_read_support_filter_bzip2(tar->archive) != ARCHIVE_OK ||
        archive_read_support_format_tar(tar->archive) != ARCHIVE_OK ||
        archive_read_set_options(tar->archive, "hdrcharset=UTF-8,tar:read_concatenated_archives") !=
            ARCHIVE_OK) {
        rc = fail(ERR_INTERNAL, "libarchive cannot read tar files here: %s",
                  tar->archive != NULL ? archive_error_string(tar->archive) : "no memory");
        tar_close(tar);
        return rc;
    }
    if (archive_read_open(tar->archive, tar, NULL, on_read_cb, NULL) != ARCHIVE_OK) {
        rc = broken(tar);
        tar_close(tar);
        return rc;
    }
    *ret = tar;
    return ERR_OK;
}

/* A tar ends with blocks of zeros: one that just stops was cut between two of its files. */
static enum err check_end(const struct tar *tar)
{
    if (archive_filter_bytes(tar->archive, 0) > archive_read_header_position(tar->archive))
        return ERR_OK;
    return fail(ERR_INPUT,
                "%s was cut off: a tar file ends with an empty block, and this one does not",
                tar->stream->name);
}

static void fill(struct tar *tar, struct documents_entry *ret)
{
    ret->path = archive_entry_pathname(tar->entry);
    ret->modified_s = (int64_t)archive_entry_mtime(tar->entry);
    if (ret->path == NULL) {
        snprintf(tar->why, sizeof(tar->why), "the name of its member %" PRIu64 " is not UTF-8",
                 tar->number);
        ret->why = tar->why;
    } else if (archive_entry_hardlink(tar->entry) != NULL) {
        ret->why = "is a hard link to another file of the tar; make it with --hard-dereference";
    }
}

static enum err tar_next(void *data, struct documents_entry *ret, bool *ret_more)
{
    struct tar *tar = data;
    int rc;

    for (;;) {
        rc = archive_read_next_header(tar->archive, &tar->entry);
        tar->number++;
        if (rc == ARCHIVE_EOF) {
            *ret_more = false;
            return check_end(tar);
        }
        if (rc != ARCHIVE_OK && rc != ARCHIVE_WARN)
            return broken(tar);
        if (archive_entry_hardlink(tar->entry) != NULL ||
            archive_entry_filetype(tar->entry) == AE_IFREG)
            break;
        if (interrupted())
            return ERR_INTERRUPTED;
    }
    *ret = (struct documents_entry){0};
    fill(tar, ret);
    *ret_more = true;
    return ERR_OK;
}

static enum err tar_read(void *data, uint64_t bytes_max, struct buffer *ret, const char **ret_why)
{
    struct tar *tar = data;
    la_ssize_t n;

    *ret_why = NULL;
    /* Of a sparse file this is what it would unpack to. */
    if (archive_entry_size_is_set(tar->entry) &&
        (archive_entry_size(tar->entry) < 0 ||
         (uint64_t)archive_entry_size(tar->entry) > bytes_max))
        return ERR_LIMIT;
    do {
        n = archive_read_data(tar->archive, buffer_reserve(ret, READ_BYTES), READ_BYTES);
        if (n < 0)
            return broken(tar);
        ret->len += (size_t)n;
        if (ret->len > bytes_max)
            return ERR_LIMIT;
    } while (n > 0);
    return ERR_OK;
}

const struct documents_source documents_tar = {tar_next, tar_read, tar_close};
