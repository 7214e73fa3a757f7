/* base64.c: libcrypto's blocks; its decoder is lenient, so what it read is written again and compared. */
#include "config/base64.h"

#include <assert.h>
#include <string.h>

#include <openssl/evp.h>

enum { DATA_BYTES_MAX = 1 << 26 };

void base64_add(struct buffer *buffer, const void *data, size_t len)
{
    size_t text_len = (len + 2) / 3 * 4;

    assert(len <= DATA_BYTES_MAX);
    if (len == 0)
        return;
    EVP_EncodeBlock((unsigned char *)buffer_reserve(buffer, text_len), data, (int)len);
    buffer->len += text_len;
}

static bool is_written_so(struct slice text, const void *data, size_t len)
{
    struct buffer again = {0};
    bool same;

    base64_add(&again, data, len);
    same = again.len == text.len && memcmp(again.data, text.data, text.len) == 0;
    buffer_wipe(&again);
    return same;
}

bool base64_decode(struct slice text, void *ret_data, size_t size, size_t *ret_len)
{
    unsigned char data[BASE64_TEXT_MAX / 4 * 3];
    bool good = false;
    size_t len;
    int got;

    if (text.len > BASE64_TEXT_MAX || text.len % 4 != 0)
        return false;
    if (text.len == 0) {
        *ret_len = 0;
        return true;
    }
    got = EVP_DecodeBlock(data, (const unsigned char *)text.data, (int)text.len);
    len = got > 0 ? (size_t)got : 0;
    for (size_t i = 1; i <= 2 && len > 0 && text.data[text.len - i] == '='; i++)
        len--;
    if (len > 0 && len <= size && is_written_so(text, data, len)) {
        memcpy(ret_data, data, len);
        *ret_len = len;
        good = true;
    }
    explicit_bzero(data, sizeof(data));
    return good;
}
