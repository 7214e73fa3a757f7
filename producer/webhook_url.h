/*
 * webhook_url.h: which URLs events may be sent to, as far as the text says: https (http to hosts that
 * the settings name), no user or password, no fragment, a port that the settings name, a host that is a
 * name or a plain address. What a name leads to is decided when it is connected to
 * (scheduler/policy/address.h); an address is judged here too, so that its user hears it early.
 *
 * Letters outside ASCII are refused: a host is written in punycode (xn--…), a path with %XX, so that
 * what is shown, what is looked up and what is sent are one text.
 */
#ifndef MSERVE_PRODUCER_WEBHOOK_URL_H
#define MSERVE_PRODUCER_WEBHOOK_URL_H

#include "config/buffer.h"
#include "config/errors.h"
#include "config/settings.h"
#include "scheduler/policy/address.h"

enum { WEBHOOK_URL_MAX = 2048, WEBHOOK_HOST_MAX = 253 };

/*
 * Checks `url` and adds its plain form to *ret: scheme and host in lower case, odd notations of
 * addresses resolved, no default port. ERR_USAGE: one sentence, which shows no more than scheme, host
 * and port. ERR_SETTINGS: a port or network in the settings is none.
 */
enum err webhook_url_check(const struct settings_webhook *settings, const char *url,
                           struct buffer *ret);

/* webhook.private_networks, for address_denied(). ERR_SETTINGS: one of them is no network. */
enum err webhook_networks(const struct settings_webhook *settings,
                          struct network ret[SETTINGS_LIST_MAX], size_t *ret_count);

#endif
