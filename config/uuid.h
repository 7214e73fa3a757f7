/*
 * uuid.h: the ids of jobs and workers: UUIDs of version 7 (RFC 9562), which sort by time of making.
 * A job's is shown as OpenAI shows it, `batch_` and 32 hexadecimal digits.
 *
 * Any thread.
 */
#ifndef MSERVE_CONFIG_UUID_H
#define MSERVE_CONFIG_UUID_H

#include "config/buffer.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct uuid {
    uint8_t bytes[16]; /* in the order of the text, which is PostgreSQL's binary form too */
};

enum { UUID_TEXT_SIZE = 37, UUID_BATCH_SIZE = 39 }; /* with the final NUL */

/* The 36 characters 8-4-4-4-12, or 32 digits alone; digits in either case. */
bool uuid_parse(struct slice text, struct uuid *ret);

/* `batch_` and 32 digits, or what uuid_parse() takes. */
bool uuid_parse_batch(struct slice text, struct uuid *ret);

/* Both write in lower case and return `out`, which is then usable as a printf argument. */
const char *uuid_format(struct uuid uuid, char out[UUID_TEXT_SIZE]);
const char *uuid_format_batch(struct uuid uuid, char out[UUID_BATCH_SIZE]);

/* Version 7 of this time and these random bits. */
struct uuid uuid_v7(uint64_t unix_ms, const uint8_t random[10]);

/* Version 7 with random bits from the kernel. */
struct uuid uuid_new(uint64_t unix_ms);

/* Bytes from the kernel's generator; never fails. */
void random_fill(void *out, size_t size);

static inline bool uuid_equal(struct uuid a, struct uuid b)
{
    return memcmp(a.bytes, b.bytes, sizeof(a.bytes)) == 0;
}

#endif
