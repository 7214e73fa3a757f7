/* sign.c: HMAC-SHA256 and ed25519 of libcrypto over the same bytes. */
#include "scheduler/sign.h"
#include "config/base64.h"
#include "config/log.h"
#include "config/sha256.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

enum { ED25519_SIGNATURE_BYTES = 64 };

static void must(int ok)
{
    if (ok != 1) {
        log_error("sign.failed", "library=libcrypto");
        abort();
    }
}

static void add_signed_text(struct buffer *buffer, struct slice id, int64_t unix_s,
                            struct slice body)
{
    assert(memchr(id.data, '.', id.len) == NULL);
    buffer_add(buffer, id.data, id.len);
    buffer_add_byte(buffer, '.');
    buffer_add_i64(buffer, unix_s);
    buffer_add_byte(buffer, '.');
    buffer_add(buffer, body.data, body.len);
}

static void hmac_of(const struct webhook_secret *secret, const struct buffer *text,
                    uint8_t ret_mac[SHA256_BYTES])
{
    must(HMAC(EVP_sha256(), secret->key, (int)secret->len, (const uint8_t *)text->data, text->len,
              ret_mac, NULL) != NULL);
}

static void ed25519_of(const struct webhook_secret *secret, const struct buffer *text,
                       uint8_t ret_signature[ED25519_SIGNATURE_BYTES])
{
    EVP_PKEY *pair =
        EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret->key, WEBHOOK_ED25519_BYTES);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    size_t len = ED25519_SIGNATURE_BYTES;

    must(pair != NULL && context != NULL);
    must(EVP_DigestSignInit(context, NULL, NULL, NULL, pair));
    must(EVP_DigestSign(context, ret_signature, &len, (const uint8_t *)text->data, text->len));
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(pair);
}

static void add_signature(const struct webhook_secret *secret, const struct buffer *text,
                          struct buffer *ret)
{
    uint8_t signature[ED25519_SIGNATURE_BYTES];

    if (secret->kind == WEBHOOK_HMAC) {
        hmac_of(secret, text, signature);
        buffer_add_text(ret, "v1,");
        base64_add(ret, signature, SHA256_BYTES);
    } else {
        ed25519_of(secret, text, signature);
        buffer_add_text(ret, "v1a,");
        base64_add(ret, signature, ED25519_SIGNATURE_BYTES);
    }
}

enum err sign_delivery(const struct webhook_secret *secret, size_t count, struct slice id,
                       int64_t unix_s, struct slice body, struct buffer *ret)
{
    struct buffer text = {0};

    assert(count > 0);
    add_signed_text(&text, id, unix_s, body);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buffer_add_byte(ret, ' ');
        add_signature(&secret[i], &text, ret);
    }
    buffer_release(&text);
    return ERR_OK;
}

/* "v1,<base64>"; other versions are passed over. */
static bool is_signature(struct slice word, const uint8_t mac[SHA256_BYTES])
{
    uint8_t given[SHA256_BYTES];
    size_t len;

    if (word.len < 3 || memcmp(word.data, "v1,", 3) != 0)
        return false;
    word.data += 3;
    word.len -= 3;
    return base64_decode(word, given, sizeof(given), &len) && len == sizeof(given) &&
           CRYPTO_memcmp(given, mac, sizeof(given)) == 0;
}

bool sign_matches(const struct webhook_secret *secret, struct slice id, int64_t unix_s,
                  struct slice body, struct slice header)
{
    uint8_t mac[SHA256_BYTES];
    struct buffer text = {0};
    bool found = false;

    if (secret->kind != WEBHOOK_HMAC)
        return false;
    add_signed_text(&text, id, unix_s, body);
    hmac_of(secret, &text, mac);
    while (header.len > 0) {
        const char *blank = memchr(header.data, ' ', header.len);
        size_t len = blank != NULL ? (size_t)(blank - header.data) : header.len;

        found |= is_signature((struct slice){header.data, len}, mac);
        header.data += len + (blank != NULL);
        header.len -= len + (blank != NULL);
    }
    explicit_bzero(mac, sizeof(mac));
    buffer_release(&text);
    return found;
}
