/* seal.c: the key's file, and AES-256-GCM through the EVP interface. */
#include "config/seal.h"
#include "config/base64.h"
#include "config/log.h"
#include "config/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

enum { VERSION = 1, KEY_ID_BYTES = 4, NONCE_BYTES = 12, TAG_BYTES = 16, FILE_BYTES_MAX = 256 };
enum { HEAD_BYTES = 1 + KEY_ID_BYTES, OVERHEAD_BYTES = HEAD_BYTES + NONCE_BYTES + TAG_BYTES };

struct seal {
    uint8_t key[SEAL_KEY_BYTES];
    uint8_t head[HEAD_BYTES]; /* version and name of the key: bound to all that it seals */
};

/* What fails for want of memory, or of random numbers, only. */
static void must(int ok)
{
    if (ok != 1) {
        log_error("seal.failed", "library=libcrypto");
        abort();
    }
}

static void set_key(struct seal *seal, const uint8_t *key)
{
    uint8_t digest[SHA256_BYTES];

    memcpy(seal->key, key, SEAL_KEY_BYTES);
    sha256_of((struct slice){(const char *)key, SEAL_KEY_BYTES}, digest);
    seal->head[0] = VERSION;
    memcpy(seal->head + 1, digest, KEY_ID_BYTES);
}

/* O_NONBLOCK: a pipe that lies there must not hold the program up. */
static enum err open_key(const char *path, int *ret_fd)
{
    struct stat stat;
    int fd = -1;

    if (path[0] == '\0')
        return fail(ERR_SETTINGS, "webhook.key_file names no file, so there is no key that seals "
                                  "secrets; `mserve webhook key` makes one.");
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &stat) != 0) {
        enum err err =
            fail(ERR_SETTINGS, "%s, the key that seals secrets, cannot be opened: %s.%s", path,
                 strerror(errno), errno == ENOENT ? " `mserve webhook key` makes one." : "");
        if (fd >= 0)
            close(fd);
        return err;
    }
    *ret_fd = fd;
    if (!S_ISREG(stat.st_mode))
        return fail(ERR_SETTINGS, "%s is no file; it must hold the key that seals secrets.", path);
    if ((stat.st_mode & (S_IROTH | S_IWOTH)) != 0)
        return fail(ERR_SETTINGS,
                    "%s holds a secret and may be read or written by everybody; chmod o-rw %s.",
                    path, path);
    return ERR_OK;
}

static enum err read_key(int fd, const char *path, uint8_t *ret_key)
{
    char line[FILE_BYTES_MAX];
    ssize_t got = 0;
    size_t len = 0, key_len = 0;
    enum err err = ERR_OK;

    while (len < sizeof(line) && (got = read(fd, line + len, sizeof(line) - len)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail(ERR_SETTINGS, "%s cannot be read: %s.", path, strerror(errno));
        len += (size_t)got;
    }
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
        len--;
    if (!base64_decode((struct slice){line, len}, ret_key, SEAL_KEY_BYTES, &key_len) ||
        key_len != SEAL_KEY_BYTES)
        err = fail(ERR_SETTINGS,
                   "%s must hold one line, the base64 of a key of %d bytes, and nothing else; "
                   "`mserve webhook key` makes such a file.",
                   path, SEAL_KEY_BYTES);
    explicit_bzero(line, sizeof(line));
    return err;
}

enum err seal_open(const char *path, struct seal **ret)
{
    uint8_t key[SEAL_KEY_BYTES];
    int fd = -1;
    enum err err = open_key(path, &fd);

    if (!err)
        err = read_key(fd, path, key);
    if (!err) {
        *ret = xmalloc(sizeof(**ret));
        set_key(*ret, key);
    }
    if (fd >= 0)
        close(fd);
    explicit_bzero(key, sizeof(key));
    return err;
}

void seal_close(struct seal *seal)
{
    if (seal != NULL)
        explicit_bzero(seal, sizeof(*seal));
    free(seal);
}

static bool write_all(int fd, struct slice text)
{
    while (text.len > 0) {
        ssize_t put = write(fd, text.data, text.len);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return false;
        text.data += put;
        text.len -= (size_t)put;
    }
    return fsync(fd) == 0;
}

/* The name of a new file is safe only when its folder is. */
static bool sync_folder_of(const char *path)
{
    char *copy = xstrdup(path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0)
        close(fd);
    free(copy);
    return good;
}

enum err seal_make_key(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    uint8_t key[SEAL_KEY_BYTES];
    struct buffer line = {0};
    enum err err = ERR_OK;

    if (fd < 0 && errno == EEXIST)
        return fail(
            ERR_USAGE,
            "%s is there already; without the key in it the secrets that it sealed are lost, "
            "so it is left as it is. Name another file, or move it away.",
            path);
    if (fd < 0)
        return fail(ERR_IO, "%s cannot be made: %s.", path, strerror(errno));
    must(RAND_priv_bytes(key, sizeof(key)));
    base64_add(&line, key, sizeof(key));
    buffer_add_byte(&line, '\n');
    if (!write_all(fd, buffer_slice(&line)) || !sync_folder_of(path)) {
        err = fail(ERR_IO, "%s cannot be written: %s.", path, strerror(errno));
        (void)unlink(path);
    }
    close(fd);
    explicit_bzero(key, sizeof(key));
    buffer_wipe(&line);
    return err;
}

/* A context that knows key, nonce, head and label; what follows is the text. */
static EVP_CIPHER_CTX *begin(const struct seal *seal, const uint8_t *nonce, struct slice label,
                             int encrypts)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int len;

    must(context != NULL && label.len <= INT_MAX);
    must(EVP_CipherInit_ex(context, EVP_aes_256_gcm(), NULL, seal->key, nonce, encrypts));
    must(EVP_CipherUpdate(context, NULL, &len, seal->head, HEAD_BYTES));
    if (label.len > 0)
        must(EVP_CipherUpdate(context, NULL, &len, (const uint8_t *)label.data, (int)label.len));
    return context;
}

enum err seal_put(const struct seal *seal, struct slice label, struct slice secret,
                  struct buffer *ret)
{
    uint8_t *out;
    EVP_CIPHER_CTX *context;
    int len = 0;

    if (secret.len == 0 || secret.len > SEAL_SECRET_MAX)
        return fail(ERR_LIMIT, "A secret of %zu bytes cannot be sealed; it may have 1 to %d.",
                    secret.len, SEAL_SECRET_MAX);
    out = (uint8_t *)buffer_reserve(ret, secret.len + OVERHEAD_BYTES);
    memcpy(out, seal->head, HEAD_BYTES);
    must(RAND_bytes(out + HEAD_BYTES, NONCE_BYTES));
    context = begin(seal, out + HEAD_BYTES, label, 1);
    out += HEAD_BYTES + NONCE_BYTES;
    must(EVP_CipherUpdate(context, out, &len, (const uint8_t *)secret.data, (int)secret.len));
    out += secret.len;
    must((size_t)len == secret.len && EVP_CipherFinal_ex(context, out, &len) == 1);
    must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, out));
    EVP_CIPHER_CTX_free(context);
    ret->len += secret.len + OVERHEAD_BYTES;
    return ERR_OK;
}

static enum err check_head(const struct seal *seal, struct slice sealed)
{
    if (sealed.len <= OVERHEAD_BYTES || sealed.len > SEAL_SECRET_MAX + OVERHEAD_BYTES ||
        sealed.data[0] != VERSION)
        return fail(ERR_DENIED,
                    "What should be a sealed secret is none: %zu bytes of another form.",
                    sealed.len);
    if (memcmp(sealed.data, seal->head, HEAD_BYTES) != 0)
        return fail(ERR_DENIED, "The secret was sealed with another key than that of "
                                "webhook.key_file; bring that key back, or set a new secret.");
    return ERR_OK;
}

enum err seal_take(const struct seal *seal, struct slice label, struct slice sealed,
                   struct buffer *ret)
{
    enum err err = check_head(seal, sealed);
    const uint8_t *in = (const uint8_t *)sealed.data;
    uint8_t tag[TAG_BYTES];
    EVP_CIPHER_CTX *context;
    size_t secret_len;
    uint8_t *out;
    int len = 0;

    if (err)
        return err;
    secret_len = sealed.len - OVERHEAD_BYTES;
    out = (uint8_t *)buffer_reserve(ret, secret_len);
    memcpy(tag, in + sealed.len - TAG_BYTES, TAG_BYTES);
    context = begin(seal, in + HEAD_BYTES, label, 0);
    must(EVP_CipherUpdate(context, out, &len, in + HEAD_BYTES + NONCE_BYTES, (int)secret_len));
    must((size_t)len == secret_len);
    must(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, tag));
    if (EVP_CipherFinal_ex(context, out + secret_len, &len) == 1) {
        ret->len += secret_len;
        buffer_reserve(ret, 0)[0] = '\0';
    } else {
        explicit_bzero(out,
                       secret_len); /* what was decrypted is nobody's until it is known as whole */
        err = fail(ERR_DENIED,
                   "The sealed secret was changed, or belongs to another row than the one "
                   "it stands in; set a new secret.");
    }
    EVP_CIPHER_CTX_free(context);
    return err;
}
