/*
 * documents_internal.h: between documents.c, which decides what is a document, and the three kinds of
 * sources: documents_folder.c, documents_tar.c, documents_list.c. Nobody else includes it.
 */
#ifndef MSERVE_PRODUCER_DOCUMENTS_INTERNAL_H
#define MSERVE_PRODUCER_DOCUMENTS_INTERNAL_H

#include "producer/documents/documents.h"

#include <stddef.h>

/* What comes next in a source, before it is read. Texts are valid until the next one. */
struct documents_entry {
    const char *path; /* as the source has it; NULL: none that could be read */
    int64_t modified_s;
    const char *why; /* it cannot be taken: the rest of a sentence; NULL: it can */
    bool folder;     /* a folder that cannot be read: nobody knows what is in it */
};

/* One kind of source; `data` is what its open made. */
struct documents_source {
    /* *ret_more is false at the end. ERR_INPUT, logged: the source is broken. */
    enum err (*next)(void *data, struct documents_entry *ret, bool *ret_more);
    /*
     * Adds the bytes of the current entry. ERR_LIMIT, not logged: they are more than bytes_max.
     * ERR_IO, not logged: *ret_why is the rest of a sentence. ERR_INPUT, logged: it is broken.
     */
    enum err (*read)(void *data, uint64_t bytes_max, struct buffer *ret, const char **ret_why);
    void (*close)(void *data);
};

extern const struct documents_source documents_folder, documents_tar, documents_list;

/* A tar or a list is read once, from its beginning to its end. */
struct documents_stream {
    const char *name; /* for sentences */
    int fd;
    char *piece; /* [DOCUMENTS_PIECE_BYTES] */
    size_t at, len;
};

enum { DOCUMENTS_PIECE_BYTES = 256 * 1024 };

/* The bytes at hand, or else what is read then; *ret_len is 0 at the end. False: errno says why. */
bool documents_stream_read(struct documents_stream *stream, const char **ret, size_t *ret_len);

/* `path` is borrowed. The folder's paths are read at once. */
enum err documents_folder_open(const char *path, void **ret);

/* The stream is borrowed. */
enum err documents_tar_open(struct documents_stream *stream, void **ret);
enum err documents_list_open(struct documents_stream *stream, void **ret);

/* Whether these are the first bytes of a tar, packed or not. */
bool documents_tar_is(const char *data, size_t len);

/* For a source of files: as its `read`; `fd` -1: it could not be opened, for errno. */
enum err documents_read_file(int fd, uint64_t bytes_max, struct buffer *ret, const char **ret_why);

#endif
