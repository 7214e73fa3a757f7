/* uuid.c: hexadecimal digits to 16 bytes and back. */
#include "config/uuid.h"
#include "config/log.h"
#include "config/sha256.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

bool uuid_parse(struct slice text, struct uuid *ret)
{
    char digits[32];
    size_t count = 0;

    if (text.len != 36 && text.len != 32)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        bool dash = text.len == 36 && (i == 8 || i == 13 || i == 18 || i == 23);

        if (dash != (text.data[i] == '-'))
            return false;
        if (!dash)
            digits[count++] = text.data[i];
    }
    return hex_decode((struct slice){digits, count}, ret->bytes, sizeof(ret->bytes));
}

bool uuid_parse_batch(struct slice text, struct uuid *ret)
{
    if (text.len == 38 && memcmp(text.data, "batch_", 6) == 0)
        text = (struct slice){text.data + 6, 32};
    return uuid_parse(text, ret);
}

const char *uuid_format(struct uuid uuid, char out[UUID_TEXT_SIZE])
{
    static const uint8_t groups[] = {4, 2, 2, 2, 6}; /* bytes between the dashes */
    const uint8_t *from = uuid.bytes;
    char *to = out;

    for (size_t i = 0; i < sizeof(groups); i++) {
        hex_encode(from, groups[i], to);
        from += groups[i];
        to += groups[i] * 2;
        *to++ = i + 1 < sizeof(groups) ? '-' : '\0';
    }
    return out;
}

const char *uuid_format_batch(struct uuid uuid, char out[UUID_BATCH_SIZE])
{
    memcpy(out, "batch_", 6);
    hex_encode(uuid.bytes, sizeof(uuid.bytes), out + 6);
    return out;
}

struct uuid uuid_v7(uint64_t unix_ms, const uint8_t random[10])
{
    struct uuid uuid;

    for (int i = 0; i < 6; i++)
        uuid.bytes[i] = (uint8_t)(unix_ms >> (40 - 8 * i));
    memcpy(uuid.bytes + 6, random, 10);
    uuid.bytes[6] = (uint8_t)(0x70 | (uuid.bytes[6] & 0x0f)); /* version */
    uuid.bytes[8] = (uint8_t)(0x80 | (uuid.bytes[8] & 0x3f)); /* variant */
    return uuid;
}

struct uuid uuid_new(uint64_t unix_ms)
{
    uint8_t random[10];

    random_fill(random, sizeof(random));
    return uuid_v7(unix_ms, random);
}

void random_fill(void *out, size_t size)
{
    uint8_t *at = out;

    while (size > 0) {
        ssize_t got = getrandom(at, size, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            log_error("random.failed", "errno=%d", errno);
            abort(); /* only a kernel older than 3.17 gets here */
        }
        at += got;
        size -= (size_t)got;
    }
}
