/*
 * documents.h: the documents of a job, one after the other: the files of a folder, the members of a tar
 * file, or the files of a list.
 *
 *   DIR    all regular files below it, in byte order of their paths; links are not followed
 *   TAR    its regular files, in its order; gzip, zstd, xz and bzip2 are recognised (libarchive)
 *   LIST   a file with a path on each line; "-" reads the list from standard input
 *
 * What is kept is decided before a file is read, by its path (`include`, `exclude`: patterns as
 * fnmatch(3) with `**` for any folders; a pattern without a slash matches the last part) and its time
 * (`since`). A path becomes a custom_id, so it must be UTF-8 of at most 512 bytes, and must not come
 * twice. A document that is not UTF-8 (a byte order mark is taken off, UTF-16 with a mark is read) is
 * refused by name, unless `encoding` says what it is in.
 *
 * One thread. Memory: the largest document; the list of a folder's paths.
 */
#ifndef MSERVE_PRODUCER_DOCUMENTS_H
#define MSERVE_PRODUCER_DOCUMENTS_H

#include "config/buffer.h"
#include "config/errors.h"
#include "config/sha256.h"

#include <stdbool.h>
#include <stdint.h>

struct documents_options {
    const char *from; /* DIR, TAR or LIST */
    const char *const *include;
    uint32_t include_count; /* 0: all */
    const char *const *exclude;
    uint32_t exclude_count;
    int64_t since_s;      /* changed at or after, seconds since 1970; INT64_MIN: all */
    const char *encoding; /* of iconv(1), for documents that are not UTF-8; NULL: refuse them */
    uint64_t bytes_max;   /* of one document */
};

/* Valid until the next documents_next(). */
struct document {
    const char *path;
    struct slice text;            /* UTF-8, without a byte order mark */
    uint8_t sha256[SHA256_BYTES]; /* of its bytes as they were read */
};

struct documents;

/* ERR_USAGE, ERR_IO with a sentence: what `from` is cannot be told, or it cannot be read. */
enum err documents_open(const struct documents_options *options, struct documents **ret);
void documents_close(struct documents *documents); /* NULL is allowed */

/*
 * *ret_more is false after the last. ERR_INPUT: a document cannot be taken; logged with its path and
 * why, and documents_next() may be called again: who wants to see all of them goes on.
 */
enum err documents_next(struct documents *documents, struct document *ret, bool *ret_more);

/* Passed over so far by patterns and by time. */
uint64_t documents_passed_over(const struct documents *documents);

#endif
