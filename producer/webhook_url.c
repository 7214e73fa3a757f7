/*
 * webhook_url.c: first what no URL may hold, by its bytes; then libcurl's parser, the one that will
 * send, takes it apart; then its parts are looked at and put together again.
 */
#include "producer/webhook_url.h"
#include "config/log.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>

enum { LABEL_MAX = 63 };

struct parts {
    CURLU *url;
    char *scheme;
    char *host;
    char ipv6[INET6_ADDRSTRLEN]; /* without brackets; "" where it is none */
    char *port;                  /* also where the URL does not say it */
    char *path;
    char *query; /* NULL: none */
};

static const char *const metadata_names[] = {
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "metadata.azure.internal",
    "metadata.platformequinix.com",
    "metadata.packet.net",
    "metadata.tencentyun.com",
    "instance-data",
    "instance-data.ec2.internal",
};

static void parts_release(struct parts *parts)
{
    curl_free(parts->scheme);
    curl_free(parts->host);
    curl_free(parts->port);
    curl_free(parts->path);
    curl_free(parts->query);
    curl_url_cleanup(parts->url);
}

static bool has_only_plain_bytes(const char *url)
{
    for (; *url != '\0'; url++)
        if (*url <= 0x20 || *url >= 0x7f || *url == '\\')
            return false;
    return true;
}

/* Two slashes, neither more nor less: libcurl takes one or three as well. */
static const char *after_scheme(const char *url)
{
    if (strncasecmp(url, "https://", 8) == 0)
        return url + 8;
    return strncasecmp(url, "http://", 7) == 0 ? url + 7 : NULL;
}

/* What parsers read in different ways is refused before one of them reads it. */
static enum err check_text(const char *url)
{
    const char *authority = after_scheme(url);
    size_t len;

    if (url[0] == '\0' || strnlen(url, WEBHOOK_URL_MAX + 1) > WEBHOOK_URL_MAX)
        return fail(ERR_USAGE, "A webhook's URL has 1 to %d bytes.", WEBHOOK_URL_MAX);
    if (!has_only_plain_bytes(url))
        return fail(ERR_USAGE,
                    "The webhook's URL holds a blank, a control character, a backslash or a "
                    "letter outside ASCII; write the host in punycode (xn--…) and the rest "
                    "as %%XX.");
    if (strchr(url, '#') != NULL)
        return fail(ERR_USAGE,
                    "The webhook's URL has a fragment (#…), which is never sent; leave it "
                    "out.");
    if (authority == NULL)
        return fail(ERR_USAGE, "The webhook's URL does not begin with https://.");
    len = strcspn(authority, "/?");
    if (memchr(authority, '@', len) != NULL)
        return fail(ERR_USAGE, "The webhook's URL holds a user or a password; leave them out, the "
                               "signature says who sends.");
    if (len == 0 || authority[0] == ':' || memchr(authority, '%', len) != NULL)
        return fail(ERR_USAGE, "The webhook's URL has no plain host: no name, or a %% in it.");
    return ERR_OK;
}

static enum err take_apart(const char *url, struct parts *parts)
{
    CURLUcode code;

    parts->url = curl_url();
    if (parts->url == NULL)
        return fail(ERR_MEMORY, "libcurl has no memory for a URL.");
    code = curl_url_set(parts->url, CURLUPART_URL, url, CURLU_DISALLOW_USER);
    if (!code)
        code = curl_url_get(parts->url, CURLUPART_SCHEME, &parts->scheme, 0);
    if (!code)
        code = curl_url_get(parts->url, CURLUPART_HOST, &parts->host, 0);
    if (!code)
        code = curl_url_get(parts->url, CURLUPART_PORT, &parts->port, CURLU_DEFAULT_PORT);
    if (!code)
        code = curl_url_get(parts->url, CURLUPART_PATH, &parts->path, 0);
    if (code)
        return fail(ERR_USAGE, "The webhook's URL is not one: %s.", curl_url_strerror(code));
    code = curl_url_get(parts->url, CURLUPART_QUERY, &parts->query, 0);
    if (code && code != CURLUE_NO_QUERY)
        return fail(ERR_USAGE, "The webhook's URL is not one: %s.", curl_url_strerror(code));
    return ERR_OK;
}

static void to_lower(char *text)
{
    for (; *text != '\0'; text++)
        if (*text >= 'A' && *text <= 'Z')
            *text = (char)(*text | 0x20);
}

static bool is_label(const char *label, size_t len)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-_";

    return len >= 1 && len <= LABEL_MAX && strspn(label, letters) >= len && label[0] != '-' &&
           label[len - 1] != '-';
}

/* A last label of digits, or 0x and more, makes an address of the whole for some parsers. */
static bool is_number(const char *label)
{
    if (label[0] == '0' && label[1] == 'x')
        return true;
    return label[strspn(label, "0123456789")] == '\0';
}

static enum err check_name(const char *host)
{
    const char *last = strrchr(host, '.');
    size_t len;

    if (last != NULL && last[1] == '\0')
        return fail(ERR_USAGE, "The webhook's host %s ends in a dot; leave it out.", host);
    if (is_number(last != NULL ? last + 1 : host))
        return fail(ERR_USAGE, "The webhook's host %s is neither a name nor a plain address.",
                    host);
    for (const char *at = host; at != NULL; at = at[len] == '.' ? at + len + 1 : NULL) {
        len = strcspn(at, ".");
        if (!is_label(at, len) || strlen(host) > WEBHOOK_HOST_MAX)
            return fail(ERR_USAGE,
                        "The webhook's host is no name: at most %d bytes, labels of at most %d "
                        "letters, digits, '-' and '_'.",
                        WEBHOOK_HOST_MAX, LABEL_MAX);
    }
    for (size_t i = 0; i < sizeof(metadata_names) / sizeof(metadata_names[0]); i++)
        if (strcmp(host, metadata_names[i]) == 0)
            return fail(ERR_USAGE, "The webhook's host %s is a metadata service.", host);
    return ERR_OK;
}

static enum err check_address(const struct settings_webhook *settings, const char *host,
                              const struct sockaddr *address)
{
    struct network network[SETTINGS_LIST_MAX];
    size_t count = 0;
    enum err err = webhook_networks(settings, network, &count);
    const char *denied;

    if (err)
        return err;
    denied = address_denied(address, network, count);
    if (denied != NULL)
        return fail(ERR_USAGE,
                    "The webhook's host %s is refused (%s): events go to public addresses, and to "
                    "networks that webhook.private_networks names.",
                    host, denied);
    return ERR_OK;
}

/* `localhost` and what is under it are 127.0.0.1 and ::1 by RFC 6761, whoever is asked. */
static bool is_localhost(const char *host)
{
    size_t len = strlen(host);

    return strcmp(host, "localhost") == 0 ||
           (len > 10 && strcmp(host + len - 10, ".localhost") == 0);
}

static enum err check_host(const struct settings_webhook *settings, struct parts *parts)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    struct sockaddr_in in = {.sin_family = AF_INET};
    size_t len = strlen(parts->host);
    enum err err;

    to_lower(parts->host);
    if (parts->host[0] == '[' && parts->host[len - 1] == ']') {
        parts->host[len - 1] = '\0';
        if (inet_pton(AF_INET6, parts->host + 1, &in6.sin6_addr) != 1)
            return fail(ERR_USAGE, "The webhook's host is no IPv6 address.");
        inet_ntop(AF_INET6, &in6.sin6_addr, parts->ipv6, sizeof(parts->ipv6));
        return check_address(settings, parts->ipv6, (const struct sockaddr *)&in6);
    }
    if (inet_pton(AF_INET, parts->host, &in.sin_addr) == 1)
        return check_address(settings, parts->host, (const struct sockaddr *)&in);
    err = check_name(parts->host);
    if (err || !is_localhost(parts->host))
        return err;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return check_address(settings, parts->host, (const struct sockaddr *)&in);
}

/* "hooks.example.com", or "*.example.com" for all that is under it. */
static bool is_named(const struct settings_list *list, const char *host)
{
    size_t len = strlen(host);

    for (uint32_t i = 0; i < list->count; i++) {
        const char *item = list->item[i];
        size_t tail = strlen(item) - (item[0] == '*');

        if (strcasecmp(item, host) == 0)
            return true;
        if (item[0] == '*' && item[1] == '.' && len > tail &&
            strcasecmp(item + 1, host + len - tail) == 0)
            return true;
    }
    return false;
}

static enum err check_scheme(const struct settings_webhook *settings, const struct parts *parts)
{
    const char *host = parts->ipv6[0] != '\0' ? parts->ipv6 : parts->host;

    if (strcmp(parts->scheme, "https") == 0)
        return ERR_OK;
    if (!is_named(&settings->http_hosts, host))
        return fail(ERR_USAGE,
                    "The webhook's URL is http://%s, which anybody on the way can read; write "
                    "https://, or name the host in webhook.http_hosts.",
                    host);
    return ERR_OK;
}

static enum err read_port(const char *text, uint32_t *ret)
{
    uint32_t port = 0;

    if (strlen(text) > 5 || text[strspn(text, "0123456789")] != '\0')
        port = UINT32_MAX;
    for (const char *at = text; *at != '\0' && port <= UINT16_MAX; at++)
        port = port * 10 + (uint32_t)(*at - '0');
    if (port == 0 || port > UINT16_MAX)
        return fail(ERR_SETTINGS, "webhook.ports: a port is a number from 1 to 65535.");
    *ret = port;
    return ERR_OK;
}

static enum err check_port(const struct settings_webhook *settings, const struct parts *parts)
{
    unsigned long wanted = strtoul(parts->port, NULL, 10);
    uint32_t port = 0;

    for (uint32_t i = 0; i < settings->ports.count; i++) {
        enum err err = read_port(settings->ports.item[i], &port);

        if (err || port == wanted)
            return err;
    }
    return fail(ERR_USAGE,
                "The webhook's URL goes to port %s of %s; webhook.ports does not name it.",
                parts->port, parts->host);
}

static enum err put_together(const struct parts *parts, struct buffer *ret)
{
    bool is_default = strcmp(parts->port, strcmp(parts->scheme, "http") == 0 ? "80" : "443") == 0;
    size_t start = ret->len;

    if (parts->ipv6[0] != '\0')
        buffer_printf(ret, "%s://[%s]", parts->scheme, parts->ipv6);
    else
        buffer_printf(ret, "%s://%s", parts->scheme, parts->host);
    if (!is_default)
        buffer_printf(ret, ":%s", parts->port);
    buffer_add_text(ret, parts->path);
    if (parts->query != NULL)
        buffer_printf(ret, "?%s", parts->query);
    if (ret->len - start <= WEBHOOK_URL_MAX)
        return ERR_OK;
    ret->len = start;
    return fail(ERR_USAGE, "A webhook's URL has 1 to %d bytes.", WEBHOOK_URL_MAX);
}

enum err webhook_url_check(const struct settings_webhook *settings, const char *url,
                           struct buffer *ret)
{
    struct parts parts = {0};
    enum err err = check_text(url);

    if (!err)
        err = take_apart(url, &parts);
    if (!err)
        err = check_host(settings, &parts);
    if (!err)
        err = check_scheme(settings, &parts);
    if (!err)
        err = check_port(settings, &parts);
    if (!err)
        err = put_together(&parts, ret);
    parts_release(&parts);
    return err;
}

enum err webhook_networks(const struct settings_webhook *settings,
                          struct network ret[SETTINGS_LIST_MAX], size_t *ret_count)
{
    for (uint32_t i = 0; i < settings->private_networks.count; i++) {
        const char *item = settings->private_networks.item[i];
        enum err err =
            network_parse((struct slice){item, strlen(item)}, "webhook.private_networks", &ret[i]);

        if (err)
            return err;
    }
    *ret_count = settings->private_networks.count;
    return ERR_OK;
}
