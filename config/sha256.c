/* sha256.c: the EVP interface; its calls fail for want of memory only, which ends the process. */
#include "config/sha256.h"
#include "config/log.h"

#include <stdlib.h>

#include <openssl/evp.h>

static void must(int ok)
{
    if (ok != 1) {
        log_error("sha256.failed", "library=libcrypto");
        abort();
    }
}

void sha256_init(struct sha256 *sha)
{
    sha->context = EVP_MD_CTX_new();
    must(sha->context != NULL);
    must(EVP_DigestInit_ex(sha->context, EVP_sha256(), NULL));
}

void sha256_add(struct sha256 *sha, const void *data, size_t len)
{
    must(EVP_DigestUpdate(sha->context, data, len));
}

void sha256_end(struct sha256 *sha, uint8_t ret_digest[SHA256_BYTES])
{
    must(EVP_DigestFinal_ex(sha->context, ret_digest, NULL));
    must(EVP_DigestInit_ex(sha->context, EVP_sha256(), NULL));
}

void sha256_release(struct sha256 *sha)
{
    EVP_MD_CTX_free(sha->context);
    sha->context = NULL;
}

void sha256_of(struct slice data, uint8_t ret_digest[SHA256_BYTES])
{
    must(EVP_Digest(data.len > 0 ? data.data : "", data.len, ret_digest, NULL, EVP_sha256(), NULL));
}

const char *hex_encode(const uint8_t *bytes, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * len] = '\0';
    return out;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool hex_decode(struct slice text, uint8_t *ret_bytes, size_t len)
{
    if (text.len != 2 * len)
        return false;
    for (size_t i = 0; i < len; i++) {
        int high = digit_of(text.data[2 * i]);
        int low = digit_of(text.data[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        ret_bytes[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
