/* documents_list.c: the files that a list names, a path on each line. */
#include "config/buffer.h"
#include "config/log.h"
#include "producer/documents/documents_internal.h"
#include "producer/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct list {
    struct documents_stream *stream;
    const char *at; /* what of the stream is not a line yet */
    size_t left;
    struct buffer line;
    uint64_t number; /* of the line, from 1 */
};

enum err documents_list_open(struct documents_stream *stream, void **ret)
{
    struct list *list = xcalloc(1, sizeof(*list));

    list->stream = stream;
    *ret = list;
    return ERR_OK;
}

static void list_close(void *data)
{
    struct list *list = data;

    buffer_release(&list->line);
    free(list);
}

static enum err broken(const struct list *list, const char *why)
{
    return fail(ERR_INPUT, "%s line %" PRIu64 " %s: this is no list of paths", list->stream->name,
                list->number, why);
}

/* The next line without its newline; *ret_more is false at the end. */
static enum err read_line(struct list *list, bool *ret_more)
{
    const char *newline = NULL;

    buffer_clear(&list->line);
    buffer_add_text(&list->line, ""); /* an empty line is a text, too */
    list->number++;
    do {
        size_t len;

        if (list->left == 0 && !documents_stream_read(list->stream, &list->at, &list->left))
            return interrupted() ? ERR_INTERRUPTED
                                 : fail(ERR_INPUT, "%s: cannot be read: %s", list->stream->name,
                                        strerror(errno));
        if (list->left == 0)
            break;
        newline = memchr(list->at, '\n', list->left);
        len = newline != NULL ? (size_t)(newline - list->at) : list->left;
        if (list->line.len + len > PATH_MAX)
            return broken(list, "is longer than any path");
        buffer_add(&list->line, list->at, len);
        len += newline != NULL;
        list->at += len;
        list->left -= len;
    } while (newline == NULL);
    if (memchr(list->line.data, '\0', list->line.len) != NULL)
        return broken(list, "has a NUL byte");
    *ret_more = newline != NULL || list->line.len > 0;
    return ERR_OK;
}

static bool is_blank(const struct buffer *line)
{
    return strspn(line->data, " \t\r") == line->len;
}

static const char *why_not(const struct stat *file, int rc)
{
    if (rc != 0)
        return errno == ENOENT ? "there is no such file" : strerror(errno);
    if (S_ISDIR(file->st_mode))
        return "is a folder; a list has files";
    return S_ISREG(file->st_mode) ? NULL : "is no file";
}

static enum err list_next(void *data, struct documents_entry *ret, bool *ret_more)
{
    struct list *list = data;
    struct stat file = {0};
    enum err rc;

    do
        rc = read_line(list, ret_more);
    while (rc == ERR_OK && *ret_more && is_blank(&list->line));
    if (rc != ERR_OK || !*ret_more)
        return rc;
    ret->path = list->line.data;
    ret->why = why_not(&file, stat(ret->path, &file));
    ret->modified_s = (int64_t)file.st_mtime;
    return ERR_OK;
}

static enum err list_read(void *data, uint64_t bytes_max, struct buffer *ret, const char **ret_why)
{
    struct list *list = data;

    return documents_read_file(open(list->line.data, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK),
                               bytes_max, ret, ret_why);
}

const struct documents_source documents_list = {list_next, list_read, list_close};
