/* documents_folder.c: the files below a folder; all paths first, for their order. */
#include "config/buffer.h"
#include "config/log.h"
#include "producer/documents/documents_internal.h"
#include "producer/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>

struct file {
    const char *path; /* below the folder */
    int64_t modified_s;
    int error;   /* it could not be looked at */
    bool folder; /* and is a folder */
};

struct folder {
    const char *root;
    struct file *file; /* [count], by path */
    size_t count, cap, next;
    struct arena arena;
    struct buffer path; /* of the one that is read */
};

static void add(struct folder *folder, const FTSENT *entry, int error)
{
    const char *path = entry->fts_path + strlen(folder->root);

    if (folder->count == folder->cap) {
        folder->cap = folder->cap > 0 ? folder->cap * 2 : 1024;
        folder->file = xrealloc(folder->file, folder->cap, sizeof(*folder->file));
    }
    path += strspn(path, "/");
    folder->file[folder->count++] = (struct file){
        .path = arena_copy(&folder->arena, path, strlen(path)),
        .modified_s = error == 0 ? (int64_t)entry->fts_statp->st_mtime : 0,
        .error = error,
        .folder = entry->fts_info == FTS_DNR,
    };
}

static enum err take(struct folder *folder, const FTSENT *entry)
{
    switch (entry->fts_info) {
    case FTS_F:
        add(folder, entry, 0);
        break;
    case FTS_DNR:
    case FTS_NS:
    case FTS_ERR:
        if (entry->fts_level == 0)
            return fail(entry->fts_errno == EACCES ? ERR_DENIED : ERR_IO, "%s: cannot be read: %s",
                        folder->root, strerror(entry->fts_errno));
        add(folder, entry, entry->fts_errno);
        break;
    default: /* folders on the way in and out, links, sockets */
        break;
    }
    return interrupted() ? ERR_INTERRUPTED : ERR_OK;
}

static enum err walk(struct folder *folder)
{
    char *const roots[] = {(char *)folder->root, NULL}; /* fts does not write there */
    FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, NULL);
    FTSENT *entry;
    enum err rc = ERR_OK;

    if (fts == NULL)
        return fail(ERR_IO, "%s: cannot be read: %s", folder->root, strerror(errno));
    errno = 0;
    while (rc == ERR_OK && (entry = fts_read(fts)) != NULL)
        rc = take(folder, entry);
    if (rc == ERR_OK && errno != 0)
        rc = fail(ERR_IO, "%s: cannot be read: %s", folder->root, strerror(errno));
    fts_close(fts);
    return rc;
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct file *)a)->path, ((const struct file *)b)->path);
}

static void folder_close(void *data)
{
    struct folder *folder = data;

    free(folder->file);
    arena_release(&folder->arena);
    buffer_release(&folder->path);
    free(folder);
}

enum err documents_folder_open(const char *path, void **ret)
{
    struct folder *folder = xcalloc(1, sizeof(*folder));
    enum err rc;

    folder->root = path;
    rc = walk(folder);
    if (rc != ERR_OK) {
        folder_close(folder);
        return rc;
    }
    if (folder->count > 0)
        qsort(folder->file, folder->count, sizeof(*folder->file), compare);
    *ret = folder;
    return ERR_OK;
}

static enum err folder_next(void *data, struct documents_entry *ret, bool *ret_more)
{
    struct folder *folder = data;
    const struct file *file;

    *ret_more = folder->next < folder->count;
    if (!*ret_more)
        return ERR_OK;
    file = &folder->file[folder->next++];
    *ret = (struct documents_entry){
        .path = file->path,
        .modified_s = file->modified_s,
        .why = file->error != 0 ? strerror(file->error) : NULL,
        .folder = file->folder,
    };
    return ERR_OK;
}

static enum err folder_read(void *data, uint64_t bytes_max, struct buffer *ret,
                            const char **ret_why)
{
    struct folder *folder = data;

    buffer_clear(&folder->path);
    buffer_printf(&folder->path, "%s/%s", folder->root, folder->file[folder->next - 1].path);
    /* It was a file when it was listed: what is a pipe now is not waited for. */
    return documents_read_file(
        open(folder->path.data, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK),
        bytes_max, ret, ret_why);
}

const struct documents_source documents_folder = {folder_next, folder_read, folder_close};
