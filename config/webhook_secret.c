/* webhook_secret.c: prefixes, base64, lengths; ed25519 by libcrypto's raw keys. */
#include "config/webhook_secret.h"
#include "config/base64.h"
#include "config/log.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/rand.h>

enum { HMAC_BYTES_MIN = 24, HMAC_BYTES_NEW = 32, SEED_BYTES = 32, PAIR_BYTES = 64 };

static void must(int ok)
{
    if (ok != 1) {
        log_error("webhook_secret.failed", "library=libcrypto");
        abort();
    }
}

static struct slice without_blanks(struct slice text)
{
    while (text.len > 0 && strchr(" \t\r\n", text.data[0]) != NULL && text.data[0] != '\0') {
        text.data++;
        text.len--;
    }
    while (text.len > 0 && strchr(" \t\r\n", text.data[text.len - 1]) != NULL &&
           text.data[text.len - 1] != '\0')
        text.len--;
    return text;
}

static bool cut_prefix(struct slice *text, const char *prefix)
{
    size_t len = strlen(prefix);

    if (text->len < len || memcmp(text->data, prefix, len) != 0)
        return false;
    text->data += len;
    text->len -= len;
    return true;
}

static void public_of(const uint8_t *seed, uint8_t *ret_public)
{
    EVP_PKEY *pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, SEED_BYTES);
    size_t len = WEBHOOK_ED25519_BYTES;

    must(pair != NULL);
    must(EVP_PKEY_get_raw_public_key(pair, ret_public, &len));
    EVP_PKEY_free(pair);
}

/* Of seed and public key the second must follow from the first, or receivers would refuse all. */
static enum err take_pair(const uint8_t *key, size_t len, struct webhook_secret *ret)
{
    uint8_t public[WEBHOOK_ED25519_BYTES];

    if (len != SEED_BYTES && len != PAIR_BYTES)
        return fail(ERR_USAGE,
                    "A whsk_ secret holds 32 bytes (the seed) or 64 (seed and public key) in "
                    "base64, not %zu.",
                    len);
    public_of(key, public);
    if (len == PAIR_BYTES && memcmp(public, key + SEED_BYTES, sizeof(public)) != 0)
        return fail(ERR_USAGE,
                    "The two halves of the whsk_ secret do not belong together: the second "
                    "is not the public key of the first.");
    *ret = (struct webhook_secret){.kind = WEBHOOK_ED25519, .len = SEED_BYTES};
    memcpy(ret->key, key, SEED_BYTES);
    return ERR_OK;
}

static enum err take_hmac(const uint8_t *key, size_t len, struct webhook_secret *ret)
{
    if (len < HMAC_BYTES_MIN)
        return fail(ERR_USAGE, "A whsec_ secret holds 24 to 64 bytes in base64, not %zu.", len);
    *ret = (struct webhook_secret){.kind = WEBHOOK_HMAC, .len = len};
    memcpy(ret->key, key, len);
    return ERR_OK;
}

enum err webhook_secret_parse(struct slice text, struct webhook_secret *ret)
{
    uint8_t key[WEBHOOK_KEY_MAX];
    enum err err;
    bool is_pair;
    size_t len;

    text = without_blanks(text);
    if (cut_prefix(&text, "whpk_"))
        return fail(ERR_USAGE, "A whpk_ key is the receiver's, which verifies with it; to sign, a "
                               "whsec_ or whsk_ secret is needed.");
    is_pair = cut_prefix(&text, "whsk_");
    if (!is_pair)
        (void)cut_prefix(&text, "whsec_");
    if (!base64_decode(text, key, sizeof(key), &len))
        return fail(ERR_USAGE, "The secret is not whsec_ or whsk_ followed by at most 64 bytes in "
                               "base64 (A-Z a-z 0-9 + / and the = at the end).");
    err = is_pair ? take_pair(key, len, ret) : take_hmac(key, len, ret);
    explicit_bzero(key, sizeof(key));
    return err;
}

enum err webhook_secret_make(enum webhook_secret_kind kind, struct buffer *ret)
{
    uint8_t key[PAIR_BYTES];

    must(RAND_priv_bytes(key, kind == WEBHOOK_HMAC ? HMAC_BYTES_NEW : SEED_BYTES));
    if (kind == WEBHOOK_ED25519)
        public_of(key, key + SEED_BYTES);
    buffer_reserve(ret,
                   WEBHOOK_SECRET_TEXT_MAX); /* a buffer that moved would leave a copy behind */
    buffer_add_text(ret, kind == WEBHOOK_HMAC ? "whsec_" : "whsk_");
    base64_add(ret, key, kind == WEBHOOK_HMAC ? HMAC_BYTES_NEW : PAIR_BYTES);
    explicit_bzero(key, sizeof(key));
    return ERR_OK;
}

enum err webhook_secret_public(const struct webhook_secret *secret, struct buffer *ret)
{
    uint8_t public[WEBHOOK_ED25519_BYTES];

    if (secret->kind != WEBHOOK_ED25519)
        return fail(ERR_USAGE, "A whsec_ secret has no public key: the receiver verifies with the "
                               "secret itself.");
    public_of(secret->key, public);
    buffer_add_text(ret, "whpk_");
    base64_add(ret, public, sizeof(public));
    return ERR_OK;
}
