/* documents.c: which entries of a source are documents, and what is wrong with the others. */
#include "producer/documents/documents.h"
#include "config/log.h"
#include "config/utf8.h"
#include "producer/documents/document_pattern.h"
#include "producer/documents/document_text.h"
#include "producer/documents/documents_internal.h"
#include "producer/interrupt.h"
#include "producer/message.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PEEK_BYTES = 512, READ_BYTES = 64 * 1024, NAMES_MIN = 1024 };

/* The paths so far: open addressing, at most half full. */
struct names {
    const char **slot;
    size_t slots; /* a power of two */
    size_t count;
    struct arena arena;
};

struct documents {
    const struct documents_options *options;
    const struct documents_source *source;
    void *data;
    struct documents_stream stream; /* of a tar or a list */
    struct stat before;             /* of what the stream reads */
    struct document_text *text;
    struct names names;
    struct buffer bytes; /* of the current document */
    char *name;
    locale_t locale; /* in which names are UTF-8, as libarchive and fnmatch(3) want to know */
    uint64_t passed_over;
    bool broken;
};

static uint64_t hash_of(const char *text)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a: a person's own files are no attack */

    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    return hash ^ hash >> 32;
}

static const char **find_slot(const struct names *names, const char *name)
{
    size_t at = hash_of(name) & (names->slots - 1);

    while (names->slot[at] != NULL && strcmp(names->slot[at], name) != 0)
        at = (at + 1) & (names->slots - 1);
    return &names->slot[at];
}

static void grow(struct names *names)
{
    struct names more = {.slots = names->slots > 0 ? names->slots * 2 : NAMES_MIN};

    more.slot = xcalloc(more.slots, sizeof(*more.slot));
    for (size_t i = 0; i < names->slots; i++)
        if (names->slot[i] != NULL)
            *find_slot(&more, names->slot[i]) = names->slot[i];
    free(names->slot);
    names->slot = more.slot;
    names->slots = more.slots;
}

/* False: it is there already. Copies. */
static bool add_name(struct names *names, const char *name)
{
    const char **slot;

    if (names->count * 2 >= names->slots)
        grow(names);
    slot = find_slot(names, name);
    if (*slot != NULL)
        return false;
    *slot = arena_copy(&names->arena, name, strlen(name));
    names->count++;
    return true;
}

bool documents_stream_read(struct documents_stream *stream, const char **ret, size_t *ret_len)
{
    while (stream->at == stream->len) {
        ssize_t n = read(stream->fd, stream->piece, DOCUMENTS_PIECE_BYTES);

        if (n < 0 && (errno != EINTR || interrupted()))
            return false;
        if (n < 0)
            continue;
        stream->at = 0;
        stream->len = (size_t)n;
        if (n == 0)
            break;
    }
    *ret = stream->piece + stream->at;
    *ret_len = stream->len - stream->at;
    stream->at = stream->len;
    return true;
}

/* Reads enough of the stream to see what it is, and leaves it there. */
static enum err peek(struct documents_stream *stream)
{
    while (stream->len < PEEK_BYTES) {
        ssize_t n = read(stream->fd, stream->piece + stream->len, PEEK_BYTES - stream->len);

        if (interrupted())
            return ERR_INTERRUPTED;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(ERR_IO, "%s: cannot be read: %s", stream->name, strerror(errno));
        if (n == 0)
            break;
        stream->len += (size_t)n;
    }
    return ERR_OK;
}

enum err documents_read_file(int fd, uint64_t bytes_max, struct buffer *ret, const char **ret_why)
{
    enum err rc = ERR_OK;
    ssize_t n = -1;

    *ret_why = NULL;
    while (fd >= 0 && ret->len <= bytes_max && n != 0) {
        n = read(fd, buffer_reserve(ret, READ_BYTES), READ_BYTES);
        if (n < 0 && (errno != EINTR || interrupted()))
            break;
        ret->len += n > 0 ? (size_t)n : 0;
    }
    if (fd < 0 || n < 0) {
        *ret_why = errno == ENOENT ? "it is not there any more" : strerror(errno);
        rc = ERR_IO;
    } else if (ret->len > bytes_max) {
        rc = ERR_LIMIT;
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

static enum err check_patterns(const struct documents_options *options)
{
    for (uint32_t i = 0; i < options->include_count + options->exclude_count; i++) {
        bool includes = i < options->include_count;
        const char *pattern =
            includes ? options->include[i] : options->exclude[i - options->include_count];
        const char *fault = document_pattern_fault(pattern);

        if (fault != NULL)
            return fail(ERR_USAGE, "%s \"%.80s\": the pattern %s",
                        includes ? "--include" : "--exclude", pattern, fault);
    }
    return ERR_OK;
}

/* The last part of the path; of "." and the like, of where that leads. */
static char *name_of(const char *from)
{
    char *real, *name;
    const char *slash;
    size_t len = strlen(from);

    while (len > 1 && from[len - 1] == '/')
        len--;
    slash = memrchr(from, '/', len);
    if (slash != NULL && len > 1) {
        len -= (size_t)(slash + 1 - from);
        from = slash + 1;
    }
    if ((len == 1 && from[0] == '.') || (len == 2 && memcmp(from, "..", 2) == 0)) {
        real = realpath(from, NULL);
        if (real != NULL) {
            name = xstrdup(strrchr(real, '/') + 1);
            free(real);
            return name;
        }
    }
    name = xmalloc(len + 1);
    memcpy(name, from, len);
    name[len] = '\0';
    return name;
}

/* What a stream is shows in its first bytes. */
static enum err open_stream(struct documents *documents)
{
    struct documents_stream *stream = &documents->stream;
    enum err rc;

    stream->piece = xmalloc(DOCUMENTS_PIECE_BYTES);
    rc = peek(stream);
    if (rc != ERR_OK)
        return rc;
    if (documents_tar_is(stream->piece, stream->len)) {
        documents->source = &documents_tar;
        return documents_tar_open(stream, &documents->data);
    }
    if (stream->len >= 4 && memcmp(stream->piece, "PK\x03\x04", 4) == 0)
        return fail(ERR_USAGE, "%s is a zip file: unpack it, and name the folder", stream->name);
    if (memchr(stream->piece, '\0', stream->len) != NULL)
        return fail(ERR_USAGE, "%s is neither a folder, nor a tar file, nor a list of paths",
                    stream->name);
    documents->source = &documents_list;
    return documents_list_open(stream, &documents->data);
}

static enum err open_source(struct documents *documents)
{
    const char *from = documents->options->from;
    bool standard = strcmp(from, "-") == 0;
    struct documents_stream *stream = &documents->stream;

    stream->name = standard ? "standard input" : from;
    documents->name = standard ? xstrdup("-") : name_of(from);
    stream->fd = standard ? STDIN_FILENO : open(from, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (stream->fd < 0 && (errno == ENOENT || errno == ENOTDIR))
        return fail(ERR_NOT_FOUND, "there is no folder or file %s", from);
    if (stream->fd < 0 && errno == EACCES)
        return fail(ERR_DENIED, "%s: you are not allowed to read it", from);
    if (stream->fd < 0 || fstat(stream->fd, &documents->before) != 0)
        return fail(ERR_IO, "%s: cannot be opened: %s", from, strerror(errno));
    if (!S_ISDIR(documents->before.st_mode))
        return open_stream(documents);
    documents->source = &documents_folder;
    return documents_folder_open(from, &documents->data);
}

/* Names are UTF-8 from here on. Returns what was before. */
static locale_t enter(const struct documents *documents)
{
    return uselocale(documents->locale);
}

enum err documents_open(const struct documents_options *options, struct documents **ret)
{
    struct documents *documents = xcalloc(1, sizeof(*documents));
    locale_t before;
    enum err rc = check_patterns(options);

    documents->options = options;
    documents->stream.fd = -1;
    documents->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    before = enter(documents);
    if (rc == ERR_OK)
        rc = document_text_open(options->encoding, options->bytes_max, &documents->text);
    if (rc == ERR_OK)
        rc = open_source(documents);
    uselocale(before);
    if (rc != ERR_OK) {
        documents_close(documents);
        return rc;
    }
    *ret = documents;
    return ERR_OK;
}

void documents_close(struct documents *documents)
{
    if (documents == NULL)
        return;
    if (documents->data != NULL)
        documents->source->close(documents->data);
    if (documents->stream.fd > STDIN_FILENO)
        close(documents->stream.fd);
    if (documents->locale != (locale_t)0)
        freelocale(documents->locale);
    free(documents->stream.piece);
    document_text_close(documents->text);
    buffer_release(&documents->bytes);
    free(documents->names.slot);
    arena_release(&documents->names.arena);
    free(documents->name);
    free(documents);
}

static bool is_wanted(const struct documents_options *options, const struct documents_entry *entry)
{
    bool included = options->include_count == 0 || entry->folder;

    for (uint32_t i = 0; i < options->include_count && !included; i++)
        included = document_pattern_matches(options->include[i], entry->path);
    for (uint32_t i = 0; i < options->exclude_count && included; i++)
        included = !document_pattern_covers(options->exclude[i], entry->path);
    /* Of what cannot be read the time may not be known. */
    return included && (entry->why != NULL || entry->modified_s >= options->since_s);
}

static enum err refuse(const char *path, const char *why)
{
    return fail(ERR_INPUT, "%s: %s", path, why);
}

/* A name that can be a custom_id, and whose line in a log is one line. */
static enum err check_path(struct documents *documents, const char *path)
{
    size_t len = strlen(path);

    if (len == 0)
        return fail(ERR_INPUT, "a document has no name");
    if (len > MESSAGE_CUSTOM_ID_BYTES_MAX)
        return fail(ERR_INPUT, "%.80s...: the path has %zu bytes; at most %d are allowed", path,
                    len, MESSAGE_CUSTOM_ID_BYTES_MAX);
    if (!utf8_valid((struct slice){path, len}))
        return refuse(path, "the path is not UTF-8; rename it");
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)path[i] < 0x20 || path[i] == 0x7f)
            return refuse(path,
                          "the path has a control character (a line break, a tab); rename it");
    if (!add_name(&documents->names, path))
        return refuse(path, "comes twice; paths name the requests, so each may come once");
    return ERR_OK;
}

static enum err read_document(struct documents *documents, const char *path, struct document *ret)
{
    uint64_t bytes_max = documents->options->bytes_max;
    const char *why = NULL;
    enum err rc;

    buffer_clear(&documents->bytes);
    rc = documents->source->read(documents->data, bytes_max, &documents->bytes, &why);
    if (rc == ERR_INPUT) {
        documents->broken = true;
        return rc;
    }
    if (rc == ERR_LIMIT)
        return fail(ERR_INPUT,
                    "%s: has more than %" PRIu64 " bytes, the most that a document may have "
                    "(submit.document_bytes_max)",
                    path, bytes_max);
    if (rc != ERR_OK)
        return fail(ERR_INPUT, "%s: cannot be read: %s", path, why);
    ret->path = path;
    sha256_of(buffer_slice(&documents->bytes), ret->sha256);
    rc = document_text_read(documents->text, buffer_slice(&documents->bytes), &ret->text, &why);
    return rc == ERR_OK ? ERR_OK : refuse(path, why);
}

static const char *skip_here(const char *path)
{
    while (path[0] == '.' && path[1] == '/') {
        path += 2;
        path += strspn(path, "/");
    }
    return path;
}

/* The next entry that is wanted. */
static enum err find_next(struct documents *documents, struct documents_entry *ret, bool *ret_more)
{
    for (;;) {
        enum err rc = documents->source->next(documents->data, ret, ret_more);

        if (interrupted())
            return ERR_INTERRUPTED;
        documents->broken = rc == ERR_INPUT;
        if (rc != ERR_OK || !*ret_more)
            return rc;
        if (ret->path == NULL)
            return fail(ERR_INPUT, "%s: %s", documents->stream.name, ret->why);
        ret->path = skip_here(ret->path);
        if (is_wanted(documents->options, ret))
            return ERR_OK;
        documents->passed_over++;
    }
}

enum err documents_next(struct documents *documents, struct document *ret, bool *ret_more)
{
    locale_t before = enter(documents);
    struct documents_entry entry = {0};
    struct document document;
    bool more = false;
    enum err rc;

    rc = find_next(documents, &entry, &more);
    if (rc == ERR_OK && more)
        rc = check_path(documents, entry.path);
    if (rc == ERR_OK && more && entry.why != NULL)
        rc = refuse(entry.path, entry.why);
    if (rc == ERR_OK && more)
        rc = read_document(documents, entry.path, &document);
    uselocale(before);
    if (rc != ERR_OK)
        return rc;
    if (more)
        *ret = document;
    *ret_more = more;
    return ERR_OK;
}

bool documents_is_broken(const struct documents *documents)
{
    return documents->broken;
}

const char *documents_name(const struct documents *documents)
{
    return documents->name;
}

bool documents_is(const struct documents *documents, const struct stat *file)
{
    return S_ISREG(file->st_mode) && file->st_dev == documents->before.st_dev &&
           file->st_ino == documents->before.st_ino;
}

uint64_t documents_passed_over(const struct documents *documents)
{
    return documents->passed_over;
}
