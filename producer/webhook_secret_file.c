/* webhook_secret_file.c: what is there is taken as it is, and never replaced. */
#include "producer/webhook_secret_file.h"
#include "config/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 1024 };

static enum err read_secret(int fd, const char *path, struct buffer *ret)
{
    char *at = buffer_reserve(ret, FILE_BYTES_MAX);
    struct stat is;
    ssize_t count;

    if (fstat(fd, &is) != 0)
        return fail(ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(is.st_mode))
        return fail(ERR_USAGE, "--secret-file %s is no file", path);
    if ((is.st_mode & S_IRWXO) != 0)
        return fail(ERR_SETTINGS,
                    "everybody on this machine may read the secret in %s: chmod 600 it", path);
    count = read(fd, at, FILE_BYTES_MAX);
    if (count < 0)
        return fail(ERR_IO, "%s: %s", path, strerror(errno));
    while (count > 0 && (at[count - 1] == '\n' || at[count - 1] == '\r' || at[count - 1] == ' '))
        count--;
    ret->len += (size_t)count;
    at[count] = '\0';
    return ERR_OK;
}

static enum err check_kind(struct slice text, enum webhook_secret_kind kind, const char *path)
{
    struct webhook_secret secret;
    enum err rc = webhook_secret_parse(text, &secret);

    if (rc == ERR_OK && secret.kind != kind)
        rc = fail(ERR_USAGE, "the secret in %s is %s; %s", path,
                  secret.kind == WEBHOOK_ED25519 ? "an ed25519 key (whsk_)" : "no ed25519 key",
                  secret.kind == WEBHOOK_ED25519 ? "add --ed25519" : "leave out --ed25519");
    explicit_bzero(&secret, sizeof(secret));
    return rc;
}

static enum err make(const char *path, enum webhook_secret_kind kind, struct buffer *ret)
{
    size_t before = ret->len;
    enum err rc = webhook_secret_make(kind, ret);
    int fd;

    if (rc != ERR_OK)
        return rc;
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(ERR_IO, "%s: %s", path, strerror(errno));
    buffer_add_byte(ret, '\n');
    if (write(fd, ret->data + before, ret->len - before) != (ssize_t)(ret->len - before) ||
        fsync(fd) != 0)
        rc = fail(ERR_IO, "%s: %s", path, strerror(errno));
    ret->data[--ret->len] = '\0';
    if (close(fd) != 0 && rc == ERR_OK)
        rc = fail(ERR_IO, "%s: %s", path, strerror(errno));
    if (rc != ERR_OK)
        unlink(path);
    return rc;
}

enum err webhook_secret_file_take(const char *path, enum webhook_secret_kind kind,
                                  struct buffer *ret, bool *ret_made)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    enum err rc;

    *ret_made = fd < 0 && errno == ENOENT;
    if (*ret_made)
        return make(path, kind, ret);
    if (fd < 0)
        return fail(errno == EACCES ? ERR_DENIED : ERR_IO, "%s: %s", path, strerror(errno));
    rc = read_secret(fd, path, ret);
    close(fd);
    return rc == ERR_OK ? check_kind(buffer_slice(ret), kind, path) : rc;
}
