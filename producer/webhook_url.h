/*
 * webhook_url.h: which URLs events may be sent to, as far as the text says: https (http to hosts that
 * the settings name), no user or password, no fragment, a port that the settings name, a host that is a
 * name or a plain address. What the name leads to is decided when it is connected to
 * (scheduler/policy/address.h).
 */
#ifndef MSERVE_PRODUCER_WEBHOOK_URL_H
#define MSERVE_PRODUCER_WEBHOOK_URL_H

#include "config/buffer.h"
#include "config/errors.h"
#include "config/settings.h"

enum { WEBHOOK_URL_MAX = 2048 };

/*
 * Checks `url` and adds its plain form to *ret (as libcurl writes it: host in lower case, odd notations
 * of addresses resolved). ERR_USAGE: one sentence, which shows no more than scheme and host.
 */
enum err webhook_url_check(const struct settings_webhook *settings, const char *url,
                           struct buffer *ret);

#endif
