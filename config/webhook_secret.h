/*
 * webhook_secret.h: the secrets of Standard Webhooks 1.0, as texts and as keys.
 *
 *   whsec_<base64 of 24 to 64 bytes>   HMAC-SHA256, signatures v1; the prefix may be left out
 *   whsk_<base64 of 32 or 64 bytes>    ed25519: its seed, or seed and public key; signatures v1a
 *   whpk_<base64 of 32 bytes>          what a receiver verifies v1a with
 *
 * Source: the specification of Standard Webhooks 1.0 (standard-webhooks.com).
 */
#ifndef MSERVE_CONFIG_WEBHOOK_SECRET_H
#define MSERVE_CONFIG_WEBHOOK_SECRET_H

#include "config/buffer.h"
#include "config/errors.h"

#include <stdint.h>

enum { WEBHOOK_KEY_MAX = 64, WEBHOOK_ED25519_BYTES = 32, WEBHOOK_SECRET_TEXT_MAX = 128 };

enum webhook_secret_kind { WEBHOOK_HMAC, WEBHOOK_ED25519 };

struct webhook_secret {
    enum webhook_secret_kind kind;
    uint8_t key[WEBHOOK_KEY_MAX]; /* of ed25519 the seed */
    size_t len;
};

/*
 * ERR_USAGE with a sentence that does not show the secret. Blanks and line ends around it are passed
 * over. The base64 is that of RFC 4648, padded: other libraries must read the same key from it.
 */
enum err webhook_secret_parse(struct slice text, struct webhook_secret *ret);

/*
 * A new one, from libcrypto's random numbers: 32 bytes for HMAC, seed and public key for ed25519. Adds
 * its text, of at most WEBHOOK_SECRET_TEXT_MAX bytes, to *ret, which the caller wipes.
 */
enum err webhook_secret_make(enum webhook_secret_kind kind, struct buffer *ret);

/* Adds the whpk_ text of an ed25519 secret. ERR_USAGE: it is an HMAC secret, which has none. */
enum err webhook_secret_public(const struct webhook_secret *secret, struct buffer *ret);

#endif
