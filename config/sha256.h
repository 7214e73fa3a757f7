/*
 * sha256.h: SHA-256 by libcrypto, whole or in pieces, and hexadecimal digits.
 *
 * A struct sha256 is used by one thread at a time.
 */
#ifndef MSERVE_CONFIG_SHA256_H
#define MSERVE_CONFIG_SHA256_H

#include "config/buffer.h"

#include <stdbool.h>
#include <stdint.h>

enum { SHA256_BYTES = 32, SHA256_HEX_SIZE = 65 };

struct sha256 {
    void *context;
};

void sha256_init(struct sha256 *sha);
void sha256_add(struct sha256 *sha, const void *data, size_t len);

/* The digest of all that was added; what is added next begins anew. */
void sha256_end(struct sha256 *sha, uint8_t ret_digest[SHA256_BYTES]);
void sha256_release(struct sha256 *sha);

void sha256_of(struct slice data, uint8_t ret_digest[SHA256_BYTES]);

/* 2 * len digits in lower case and a NUL; returns `out`. */
const char *hex_encode(const uint8_t *bytes, size_t len, char *out);

/* False unless `text` is exactly 2 * len hexadecimal digits, in either case. */
bool hex_decode(struct slice text, uint8_t *ret_bytes, size_t len);

#endif
