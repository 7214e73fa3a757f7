/*
 * sign.h: the signature of one delivery, as Standard Webhooks 1.0 wants it: of `id.timestamp.body`,
 * with each of up to two secrets, which are both valid while one takes the other's place.
 *
 * No state, no clock; any thread.
 */
#ifndef MSERVE_SCHEDULER_SIGN_H
#define MSERVE_SCHEDULER_SIGN_H

#include "config/buffer.h"
#include "config/errors.h"
#include "config/webhook_secret.h"

#include <stdint.h>

/*
 * Adds the value of `webhook-signature`: "v1,<base64> v1a,<base64>", one for each secret, in order.
 * `id` holds no '.'.
 */
enum err sign_delivery(const struct webhook_secret *secret, size_t count, struct slice id,
                       int64_t unix_s, struct slice body, struct buffer *ret);

/* Whether one of the signatures of `header` is that of an HMAC secret; in constant time. For tests. */
bool sign_matches(const struct webhook_secret *secret, struct slice id, int64_t unix_s,
                  struct slice body, struct slice header);

#endif
