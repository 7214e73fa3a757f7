/*
 * documents.h: the documents of a job, one after the other: the files of a folder, the members of a tar
 * file, or the files of a list.
 *
 *   DIR    all regular files below it, in byte order of their paths; links are not followed
 *   TAR    its regular files, in its order; gzip, zstd, xz and bzip2 are recognised (libarchive). Its
 *          paths are names and nothing else: nothing is written to disk
 *   LIST   a file with a path on each line, of a file or a link to one; blank lines are passed over
 * "-" reads a tar or a list from standard input, and pipes have either too.
 *
 * What is kept is decided before a file is read, by its path (document_pattern.h) and its time
 * (`since`). A path becomes a custom_id, so it must be UTF-8 of at most 512 bytes without control
 * characters, and must not come twice; "./" before it is taken off. Text is UTF-8 without NUL bytes: a
 * byte order mark is taken off, UTF-16 and UTF-32 with a mark are read. What else is not UTF-8 is
 * refused by name, unless `encoding` says what it is in. Where ASCII is not itself in `encoding` (as in
 * UTF-16 or ISO-2022-JP), all documents without a mark are taken to be in it.
 *
 * One thread. Memory: the largest document, and the paths.
 */
#ifndef MSERVE_PRODUCER_DOCUMENTS_H
#define MSERVE_PRODUCER_DOCUMENTS_H

#include "config/buffer.h"
#include "config/errors.h"
#include "config/sha256.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct documents_options {
    const char *from; /* DIR, TAR or LIST */
    const char *const *include;
    uint32_t include_count; /* 0: all */
    const char *const *exclude;
    uint32_t exclude_count;
    int64_t since_s;      /* changed at or after, seconds since 1970; INT64_MIN: all */
    const char *encoding; /* of iconv(1), for documents that are not UTF-8; NULL: refuse them */
    uint64_t bytes_max;   /* of one document, as it lies there and as UTF-8 */
};

/* Valid until the next documents_next(). */
struct document {
    const char *path;
    struct slice text;            /* UTF-8, without a byte order mark */
    uint8_t sha256[SHA256_BYTES]; /* of its bytes as they were read */
};

struct documents;

/*
 * ERR_USAGE (what `from` is cannot be told; an encoding nobody knows; a pattern that is none),
 * ERR_NOT_FOUND, ERR_DENIED, ERR_IO, with a sentence. `options` and what it names are borrowed.
 */
enum err documents_open(const struct documents_options *options, struct documents **ret);
void documents_close(struct documents *documents); /* NULL is allowed */

/*
 * *ret_more is false after the last. ERR_INPUT: a document cannot be taken; logged with its path and
 * why, and documents_next() may be called again, unless documents_is_broken(): who wants to see all of
 * them goes on. ERR_INTERRUPTED, not logged.
 */
enum err documents_next(struct documents *documents, struct document *ret, bool *ret_more);

/* After ERR_INPUT: it is the tar or the list that cannot be read on, not one of its documents. */
bool documents_is_broken(const struct documents *documents);

/* Of the folder, the tar or the list, without the folders above it; "-" of standard input. */
const char *documents_name(const struct documents *documents);

/* True when that is the tar or the list itself: writing there would destroy it. */
bool documents_is(const struct documents *documents, const struct stat *file);

/* Passed over so far by patterns and by time. */
uint64_t documents_passed_over(const struct documents *documents);

#endif
