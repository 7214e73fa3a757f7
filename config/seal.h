/*
 * seal.h: small secrets at rest: AES-256-GCM of libcrypto with a key that lies in a file of its own.
 *
 * A sealed secret is: a byte of version (1), 4 bytes that name the key (the first of its SHA-256), 12
 * random bytes, the ciphertext, 16 bytes of tag. `label` is bound to it without being in it: what was
 * sealed for one row cannot be moved to another.
 *
 * THREADS Any. The key is read-only after seal_open().
 */
#ifndef MSERVE_CONFIG_SEAL_H
#define MSERVE_CONFIG_SEAL_H

#include "config/buffer.h"
#include "config/errors.h"

enum { SEAL_KEY_BYTES = 32, SEAL_SECRET_MAX = 4096 };

struct seal;

/*
 * Reads a key: 32 bytes in base64 on one line, in a file that people other than its owner and group
 * must not be able to read. ERR_SETTINGS, with a sentence and what to do: it is absent, readable by
 * others, or no key.
 */
enum err seal_open(const char *path, struct seal **ret);
void seal_close(struct seal *seal); /* wipes the key; NULL is allowed */

/* Writes a new key to a file that is not there yet, with mode 0600. ERR_USAGE: it is there. */
enum err seal_make_key(const char *path);

/* Adds the sealed form of `secret` to *ret. */
enum err seal_put(const struct seal *seal, struct slice label, struct slice secret,
                  struct buffer *ret);

/*
 * Adds the secret to *ret, which the caller wipes (buffer_wipe()). ERR_DENIED, with a sentence: another
 * key sealed it, or it was changed or moved.
 */
enum err seal_take(const struct seal *seal, struct slice label, struct slice sealed,
                   struct buffer *ret);

#endif
