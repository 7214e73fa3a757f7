/*
 * address.c: tables of networks. IPv4 addresses are judged by the first table, IPv6 addresses by the
 * second, and both have one form inside: 16 bytes, IPv4 as ::ffff:a.b.c.d.
 */
#include "scheduler/policy/address.h"
#include "config/log.h"

#include <string.h>

#include <arpa/inet.h>
#include <netinet/in.h>

enum { IPV4_AT = 12, IPV4_BITS = 96, TEXT_MAX = 64 };

#define METADATA "metadata service"

struct rule {
    uint8_t address[16];
    uint8_t bits;
    const char *name;
};

#define V4(a, b, c, d, bits, name)                                                                 \
    {                                                                                              \
        {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d}, IPV4_BITS + (bits), name           \
    }
/* The first four groups, and the last two. */
#define V6(a, b, c, d, g, h, bits, name)                                                           \
    {                                                                                              \
        {(a) >> 8, (a)&0xff, (b) >> 8, (b)&0xff, (c) >> 8, (c)&0xff, (d) >> 8, (d)&0xff,           \
         0,        0,        0,        0,        (g) >> 8, (g)&0xff, (h) >> 8, (h)&0xff},          \
            bits, name                                                                             \
    }

static const struct rule metadata[] = {
    V4(169, 254, 169, 254, 32, METADATA),              /* nearly every cloud */
    V4(169, 254, 169, 253, 32, METADATA),              /* AWS: name server */
    V4(169, 254, 169, 123, 32, METADATA),              /* AWS: time */
    V4(169, 254, 170, 2, 32, METADATA),                /* AWS: credentials of tasks */
    V4(169, 254, 170, 23, 32, METADATA),               /* AWS: credentials of pods */
    V4(169, 254, 0, 23, 32, METADATA),                 /* Tencent */
    V4(169, 254, 42, 42, 32, METADATA),                /* Scaleway */
    V4(168, 63, 129, 16, 32, METADATA),                /* Azure; looks like a public address */
    V4(100, 100, 100, 200, 32, METADATA),              /* Alibaba */
    V4(192, 0, 0, 192, 32, METADATA),                  /* Oracle, classic */
    V6(0xfd00, 0x0ec2, 0, 0, 0, 0x254, 128, METADATA), /* AWS */
    V6(0xfd00, 0x0ec2, 0, 0, 0, 0x253, 128, METADATA), /* AWS: name server */
    V6(0xfd00, 0x0ec2, 0, 0, 0, 0x123, 128, METADATA), /* AWS: time */
    V6(0xfd00, 0x0ec2, 0, 0, 0, 0x23, 128, METADATA),  /* AWS: credentials of pods */
    V6(0xfd20, 0x00ce, 0, 0, 0, 0x254, 128, METADATA), /* Google */
    V6(0xfd00, 0x00c1, 0, 0, 0xa9fe, 0xa9fe, 128, METADATA), /* Oracle */
    V6(0xfd00, 0x0042, 0, 0, 0, 0x42, 128, METADATA),        /* Scaleway */
    V6(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 1, 128, METADATA),      /* Akamai */
    V6(0xfe80, 0, 0, 0, 0xa9fe, 0xa9fe, 128, METADATA),      /* OpenStack */
};

static const struct rule denied_ipv4[] = {
    V4(0, 0, 0, 0, 8, "this network"),
    V4(10, 0, 0, 0, 8, "private"),
    V4(100, 64, 0, 0, 10, "shared by a provider"),
    V4(127, 0, 0, 0, 8, "loopback"),
    V4(169, 254, 0, 0, 16, "link-local"),
    V4(172, 16, 0, 0, 12, "private"),
    V4(192, 0, 0, 0, 24, "protocol assignment"),
    V4(192, 0, 2, 0, 24, "documentation"),
    V4(192, 31, 196, 0, 24, "protocol assignment"), /* AS112 */
    V4(192, 52, 193, 0, 24, "protocol assignment"), /* AMT */
    V4(192, 88, 99, 0, 24, "6to4 relay"),
    V4(192, 168, 0, 0, 16, "private"),
    V4(192, 175, 48, 0, 24, "protocol assignment"), /* AS112 */
    V4(198, 18, 0, 0, 15, "benchmark"),
    V4(198, 51, 100, 0, 24, "documentation"),
    V4(203, 0, 113, 0, 24, "documentation"),
    V4(224, 0, 0, 0, 4, "multicast"),
    V4(255, 255, 255, 255, 32, "broadcast"),
    V4(240, 0, 0, 0, 4, "reserved"),
};

/* What none of these says, and is not in 2000::/3, is "reserved" too. */
static const struct rule denied_ipv6[] = {
    V6(0, 0, 0, 0, 0, 0, 128, "unspecified"),
    V6(0, 0, 0, 0, 0, 1, 128, "loopback"),
    V6(0, 0, 0, 0, 0, 0, 96, "IPv4-compatible"),
    V6(0x0064, 0xff9b, 1, 0, 0, 0, 48, "local NAT64"),
    V6(0x0100, 0, 0, 0, 0, 0, 64, "discard"),
    V6(0x2001, 0, 0, 0, 0, 0, 32, "Teredo"),
    V6(0x2001, 2, 0, 0, 0, 0, 48, "benchmark"),
    V6(0x2001, 0x10, 0, 0, 0, 0, 28, "ORCHID"),
    V6(0x2001, 0x20, 0, 0, 0, 0, 28, "ORCHID"),
    V6(0x2001, 0, 0, 0, 0, 0, 23, "protocol assignment"),
    V6(0x2001, 0x0db8, 0, 0, 0, 0, 32, "documentation"),
    V6(0x2002, 0, 0, 0, 0, 0, 16, "6to4"),
    V6(0x2620, 0x004f, 0x8000, 0, 0, 0, 48, "protocol assignment"), /* AS112 */
    V6(0x3fff, 0, 0, 0, 0, 0, 20, "documentation"),
    V6(0x5f00, 0, 0, 0, 0, 0, 16, "segment routing"),
    V6(0xfc00, 0, 0, 0, 0, 0, 7, "private"),
    V6(0xfe80, 0, 0, 0, 0, 0, 10, "link-local"),
    V6(0xfec0, 0, 0, 0, 0, 0, 10, "site-local"),
    V6(0xff00, 0, 0, 0, 0, 0, 8, "multicast"),
};

/* Where IPv6 forms carry an IPv4 address; Teredo has it inverted. */
static const struct wrapped {
    struct rule in;
    uint8_t at[4];
    uint8_t flip;
} wrapped[] = {
    {V6(0, 0, 0, 0, 0, 0, 96, ""), {12, 13, 14, 15}, 0},
    {V6(0x0064, 0xff9b, 0, 0, 0, 0, 96, ""), {12, 13, 14, 15}, 0},
    {V6(0x0064, 0xff9b, 1, 0, 0, 0, 48, ""), {6, 7, 9, 10}, 0}, /* RFC 6052: behind 48 bits */
    {V6(0x0064, 0xff9b, 1, 0, 0, 0, 48, ""), {12, 13, 14, 15}, 0},
    {V6(0x2001, 0, 0, 0, 0, 0, 32, ""), {12, 13, 14, 15}, 0xff},
    {V6(0x2001, 0, 0, 0, 0, 0, 32, ""), {4, 5, 6, 7}, 0}, /* its server */
    {V6(0x2002, 0, 0, 0, 0, 0, 16, ""), {2, 3, 4, 5}, 0},
};

static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff};
static const struct rule nat64 = V6(0x0064, 0xff9b, 0, 0, 0, 0, 96, "NAT64");
static const struct rule global_unicast = V6(0x2000, 0, 0, 0, 0, 0, 3, "global unicast");

/* Whether the first `bits` bits are the same. */
static bool is_within(const uint8_t *address, const uint8_t *prefix, uint32_t bits)
{
    uint32_t whole = bits / 8, rest = bits % 8;

    if (memcmp(address, prefix, whole) != 0)
        return false;
    return rest == 0 || (address[whole] ^ prefix[whole]) >> (8 - rest) == 0;
}

static bool is_ipv4(const uint8_t *address)
{
    return is_within(address, mapped, IPV4_BITS);
}

static const char *find(const struct rule *rule, size_t count, const uint8_t *address)
{
    for (size_t i = 0; i < count; i++)
        if (is_within(address, rule[i].address, rule[i].bits))
            return rule[i].name;
    return NULL;
}

#define FIND(rules, address) find(rules, sizeof(rules) / sizeof((rules)[0]), address)

static void unwrap(const struct wrapped *form, const uint8_t *address, uint8_t *ret)
{
    memcpy(ret, mapped, IPV4_AT);
    for (int i = 0; i < 4; i++)
        ret[IPV4_AT + i] = address[form->at[i]] ^ form->flip;
}

/* Also when it hides in a form that is refused anyway: its network may be among the allowed. */
static bool is_metadata(const uint8_t *address)
{
    uint8_t inside[16];

    if (FIND(metadata, address) != NULL)
        return true;
    for (size_t i = 0; i < sizeof(wrapped) / sizeof(wrapped[0]); i++) {
        if (!is_within(address, wrapped[i].in.address, wrapped[i].in.bits))
            continue;
        unwrap(&wrapped[i], address, inside);
        if (FIND(metadata, inside) != NULL)
            return true;
    }
    return false;
}

/* ::/0 is all of IPv6 and nothing of IPv4, although that lies in it by its bytes. */
static bool is_allowed(const uint8_t *address, uint32_t bits_min, const struct network *allowed,
                       size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t bits = allowed[i].bits;

        if (bits >= bits_min && (bits >= IPV4_BITS || !is_ipv4(address)) &&
            is_within(address, allowed[i].address, bits))
            return true;
    }
    return false;
}

static const char *rule_of(const uint8_t *address)
{
    static const struct wrapped inner = {.at = {12, 13, 14, 15}};
    uint8_t inside[16];
    const char *name;

    if (is_ipv4(address))
        return FIND(denied_ipv4, address);
    if (is_within(address, nat64.address, nat64.bits)) {
        unwrap(&inner, address, inside);
        return FIND(denied_ipv4, inside);
    }
    name = FIND(denied_ipv6, address);
    if (name != NULL)
        return name;
    return is_within(address, global_unicast.address, global_unicast.bits) ? NULL : "reserved";
}

const char *address_denied(const struct sockaddr *address, const struct network *allowed,
                           size_t allowed_count)
{
    uint8_t bytes[16];

    if (address->sa_family == AF_INET) {
        memcpy(bytes, mapped, IPV4_AT);
        memcpy(bytes + IPV4_AT, &((const struct sockaddr_in *)address)->sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;

        if (in6->sin6_scope_id != 0)
            return "address with a scope";
        memcpy(bytes, &in6->sin6_addr, 16);
    } else {
        return "no internet address";
    }
    if (is_metadata(bytes))
        return is_allowed(bytes, 128, allowed, allowed_count) ? NULL : METADATA;
    if (is_allowed(bytes, 0, allowed, allowed_count))
        return NULL;
    return rule_of(bytes);
}

/* "/24" behind an address; no sign, no blanks, no leading zeros. */
static bool read_bits(const char *text, uint32_t max, uint32_t *ret)
{
    size_t len = strlen(text);
    uint32_t bits = 0;

    if (len < 1 || len > 3 || (len > 1 && text[0] == '0'))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        bits = bits * 10 + (uint32_t)(text[i] - '0');
    }
    *ret = bits;
    return bits <= max;
}

static bool read_network(char *text, struct network *ret)
{
    char *slash = strchr(text, '/');
    uint32_t width = 128;

    if (slash != NULL)
        *slash = '\0';
    memcpy(ret->address, mapped, IPV4_AT);
    if (inet_pton(AF_INET, text, ret->address + IPV4_AT) == 1)
        width = 32;
    else if (inet_pton(AF_INET6, text, ret->address) != 1)
        return false;
    ret->bits = width;
    if (slash != NULL && !read_bits(slash + 1, width, &ret->bits))
        return false;
    ret->bits += 128 - width;
    return true;
}

static bool has_bits_behind(const struct network *network)
{
    for (uint32_t bit = network->bits; bit < 128; bit++)
        if ((network->address[bit / 8] >> (7 - bit % 8) & 1) != 0)
            return true;
    return false;
}

enum err network_parse(struct slice text, const char *setting, struct network *ret)
{
    struct network network;
    char shown[2 * TEXT_MAX];
    char copy[TEXT_MAX];

    if (text.len < sizeof(copy) && memchr(text.data, '\0', text.len) == NULL) {
        memcpy(copy, text.data, text.len);
        copy[text.len] = '\0';
        log_quote(shown, sizeof(shown), copy);
        if (!read_network(copy, &network))
            return fail(ERR_SETTINGS,
                        "%s: %s is no network; write 10.1.0.0/16, fd00::/8 or one address.",
                        setting, shown);
        if (has_bits_behind(&network))
            return fail(ERR_SETTINGS,
                        "%s: %s has bits behind its prefix; write the network's first address, or "
                        "one address without a prefix.",
                        setting, shown);
        *ret = network;
        return ERR_OK;
    }
    return fail(ERR_SETTINGS,
                "%s: a network of %zu bytes; write 10.1.0.0/16, fd00::/8 or one address.", setting,
                text.len);
}
