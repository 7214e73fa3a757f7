/*
 * fuzz_webhook_url.c: whatever somebody types, what is accepted is plain: it begins as it must, holds
 * no user, fragment or odd byte, is its own plain form, and its host is no address that is refused.
 */
#include "producer/webhook_url.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *ports[] = {"443", "80", "8443"};
static const char *hosts[] = {"plain.example.com", "*.test.example"};
static const struct settings_webhook settings = {.ports = {ports, 3}, .http_hosts = {hosts, 2}};

static void must(bool holds)
{
    if (!holds)
        abort();
}

/* By glibc's lenient reader, which knows every odd notation: none of them may be left. */
static void check_host(const char *host, size_t len)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    struct sockaddr_in in = {.sin_family = AF_INET};
    char copy[WEBHOOK_URL_MAX + 1], again[INET_ADDRSTRLEN];

    memcpy(copy, host, len);
    copy[len] = '\0';
    if (copy[0] == '[') {
        must(copy[len - 1] == ']');
        copy[len - 1] = '\0';
        must(inet_pton(AF_INET6, copy + 1, &in6.sin6_addr) == 1);
        must(address_denied((const struct sockaddr *)&in6, NULL, 0) == NULL);
    } else if (inet_aton(copy, &in.sin_addr) != 0) {
        must(strcmp(inet_ntop(AF_INET, &in.sin_addr, again, sizeof(again)), copy) == 0);
        must(address_denied((const struct sockaddr *)&in, NULL, 0) == NULL);
    } else {
        must(copy[0] != '.' && copy[len - 1] != '.' && strstr(copy, "..") == NULL);
        must(strcmp(copy, "localhost") != 0 && strcmp(copy, "metadata.google.internal") != 0);
    }
}

static void check(const struct buffer *plain)
{
    bool is_https = strncmp(plain->data, "https://", 8) == 0;
    const char *host = plain->data + (is_https ? 8 : 7);
    size_t len = strcspn(host, "/");

    must(is_https || strncmp(plain->data, "http://", 7) == 0);
    must(plain->len <= WEBHOOK_URL_MAX && strlen(plain->data) == plain->len);
    must(host[len] == '/' && len > 0);
    must(memchr(host, '@', len) == NULL && strchr(host, '#') == NULL && strchr(host, '\\') == NULL);
    for (size_t i = 0; i < plain->len; i++)
        must(plain->data[i] > 0x20 && plain->data[i] < 0x7f);
    if (host[0] != '[' && memchr(host, ':', len) != NULL)
        len = (size_t)((const char *)memchr(host, ':', len) - host);
    else if (host[0] == '[')
        len = strcspn(host, "]") + 1;
    must(is_https || strncmp(host, "plain.example.com", len) == 0 ||
         (len > 13 && strncmp(host + len - 13, ".test.example", 13) == 0));
    check_host(host, len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buffer url = {0}, plain = {0}, again = {0};

    buffer_add(&url, data, size);
    if (url.data != NULL && webhook_url_check(&settings, url.data, &plain) == ERR_OK) {
        check(&plain);
        must(webhook_url_check(&settings, plain.data, &again) == ERR_OK);
        must(strcmp(again.data, plain.data) == 0);
    } else {
        must(plain.len == 0);
    }
    buffer_release(&url);
    buffer_release(&plain);
    buffer_release(&again);
    return 0;
}
