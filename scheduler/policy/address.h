/*
 * address.h: which addresses a delivery may be sent to. Everything that is not a public unicast address
 * is refused, unless the settings name its network: private, loopback, link-local and metadata
 * addresses, documentation, benchmarks, multicast, what nobody was given yet, and IPv6 forms that carry
 * an IPv4 address. Of these a mapped one (::ffff:a.b.c.d) and one of NAT64 (64:ff9b::/96) are judged by
 * the IPv4 address in them; 6to4, Teredo and the others are refused whole.
 *
 * Sources: IANA's special-purpose address registries (RFC 6890 and its updates).
 * No socket, no name server: it is asked with the address that is about to be connected to.
 */
#ifndef MSERVE_POLICY_ADDRESS_H
#define MSERVE_POLICY_ADDRESS_H

#include "config/buffer.h"
#include "config/errors.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct network {
    uint8_t address[16]; /* IPv4 as ::ffff:a.b.c.d */
    uint32_t bits;       /* 0 to 128, of these 16 bytes */
};

/*
 * "10.1.0.0/16", "fd00::/8", "127.0.0.1". ERR_SETTINGS with a sentence that names `setting`: it is none
 * of these, or bits are set behind the prefix (10.1.2.3/16), which says two things at once.
 */
enum err network_parse(struct slice text, const char *setting, struct network *ret);

/*
 * NULL: it may be connected to. Else the name of the rule that forbids it, for a sentence: "loopback",
 * "metadata service". `allowed` are networks that are allowed although they are not public. Three
 * things they do not do: a metadata service, also one that is wrapped in an IPv6 form, is allowed only
 * by its own address without a prefix (or /32, /128); an IPv6 network allows no IPv4 address; an IPv4
 * network allows nothing that is wrapped in IPv6 other than as ::ffff:a.b.c.d. An address with a scope
 * (fe80::1%eth0) is never allowed. The port is not looked at.
 */
const char *address_denied(const struct sockaddr *address, const struct network *allowed,
                           size_t allowed_count);

#endif
