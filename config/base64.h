/*
 * base64.h: base64 of RFC 4648 section 4, with padding, by libcrypto. What is read must be what would
 * be written: no blanks, no other alphabet, no bits that are lost.
 */
#ifndef MSERVE_CONFIG_BASE64_H
#define MSERVE_CONFIG_BASE64_H

#include "config/buffer.h"

#include <stdbool.h>

enum { BASE64_TEXT_MAX = 8192 };

/* `len` is at most 64 MiB. */
void base64_add(struct buffer *buffer, const void *data, size_t len);

/* False: no base64, longer than BASE64_TEXT_MAX, or of more than `size` bytes. */
bool base64_decode(struct slice text, void *ret_data, size_t size, size_t *ret_len);

#endif
