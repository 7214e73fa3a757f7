/*
 * fuzz_webhook_secret.c: texts of secrets, sealed bytes and networks. What is accepted has the length
 * it must have, and is what one of ours would be written as; what was sealed by nobody never opens.
 */
#include "config/base64.h"
#include "config/seal.h"
#include "config/webhook_secret.h"
#include "scheduler/policy/address.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void check_secret(struct slice text)
{
    struct webhook_secret secret = {.len = SIZE_MAX};
    struct buffer again = {0};

    if (webhook_secret_parse(text, &secret) != ERR_OK) {
        must(secret.len == SIZE_MAX);
        return;
    }
    must(secret.kind == WEBHOOK_ED25519 ? secret.len == 32 : secret.len >= 24 && secret.len <= 64);
    base64_add(&again, secret.key, secret.len);
    if (secret.kind == WEBHOOK_HMAC)
        must(memmem(text.data, text.len, again.data, again.len) != NULL);
    buffer_release(&again);
}

static void check_network(struct slice text)
{
    struct network network;

    if (network_parse(text, "webhook.private_networks", &network) != ERR_OK)
        return;
    must(network.bits <= 128);
    for (uint32_t bit = network.bits; bit < 128; bit++)
        must((network.address[bit / 8] & 0x80 >> bit % 8) == 0);
}

static struct seal *open_seal(void)
{
    char path[] = "/tmp/mserve-fuzz-seal-XXXXXX";
    int fd = mkstemp(path);
    struct seal *seal = NULL;

    must(fd >= 0 && dprintf(fd, "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=\n") > 0);
    must(seal_open(path, &seal) == ERR_OK);
    close(fd);
    unlink(path);
    return seal;
}

/* Under a key that the input cannot know: what it says is sealed text, and what it says is a label. */
static void check_sealed(struct slice text)
{
    static struct seal *seal;
    struct buffer sealed = {0}, out = {0};

    if (seal == NULL)
        seal = open_seal();
    must(seal_take(seal, SLICE("l"), text, &out) == ERR_DENIED && out.len == 0);
    if (text.len > 0 && text.len <= SEAL_SECRET_MAX) {
        must(seal_put(seal, text, text, &sealed) == ERR_OK);
        must(seal_take(seal, text, buffer_slice(&sealed), &out) == ERR_OK);
        must(out.len == text.len && memcmp(out.data, text.data, text.len) == 0);
    }
    buffer_wipe(&out);
    buffer_release(&sealed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = {(const char *)data, size};

    check_secret(text);
    check_network(text);
    check_sealed(text);
    return 0;
}
