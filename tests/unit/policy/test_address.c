/*
 * test_address.c: which addresses are public. The tables of address.c are held against a second
 * formulation, ranges of numbers written down from IANA's registries independently of them, on the
 * edges of each range and on many by chance.
 */
#include "scheduler/policy/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "tests/unit/heard.h"

union any {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

static union any address_of(const char *text)
{
    union any address = {0};

    if (inet_pton(AF_INET, text, &address.in.sin_addr) == 1)
        address.in.sin_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &address.in6.sin6_addr) == 1)
        address.in6.sin6_family = AF_INET6;
    else
        fail_msg("%s is no address", text);
    return address;
}

static const char *denied(const char *text)
{
    union any address = address_of(text);

    return address_denied(&address.any, NULL, 0);
}

static const char *denied_but(const char *text, const char *allowed_text)
{
    struct network allowed;
    union any address = address_of(text);

    assert_int_equal(
        network_parse((struct slice){allowed_text, strlen(allowed_text)}, "s", &allowed), ERR_OK);
    return address_denied(&address.any, &allowed, 1);
}

static void test_each_range_has_its_name(void **state)
{
    static const char *const row[][2] = {
        {"0.0.0.0", "this network"},
        {"0.255.255.255", "this network"},
        {"10.0.0.1", "private"},
        {"100.64.0.1", "shared by a provider"},
        {"127.0.0.1", "loopback"},
        {"127.255.255.255", "loopback"},
        {"169.254.1.1", "link-local"},
        {"169.254.169.254", "metadata service"},
        {"169.254.170.2", "metadata service"},
        {"168.63.129.16", "metadata service"},
        {"100.100.100.200", "metadata service"},
        {"172.16.0.1", "private"},
        {"172.31.255.255", "private"},
        {"192.0.0.8", "protocol assignment"},
        {"192.0.2.1", "documentation"},
        {"192.88.99.1", "6to4 relay"},
        {"192.168.1.1", "private"},
        {"198.19.255.255", "benchmark"},
        {"198.51.100.1", "documentation"},
        {"203.0.113.1", "documentation"},
        {"224.0.0.1", "multicast"},
        {"239.255.255.255", "multicast"},
        {"240.0.0.1", "reserved"},
        {"255.255.255.255", "broadcast"},
        {"::", "unspecified"},
        {"::1", "loopback"},
        {"::127.0.0.1", "IPv4-compatible"},
        {"::8.8.8.8", "IPv4-compatible"},
        {"::ffff:127.0.0.1", "loopback"},
        {"::ffff:10.0.0.1", "private"},
        {"::ffff:169.254.169.254", "metadata service"},
        {"::ffff:0:127.0.0.1", "reserved"}, /* IPv4-translated */
        {"64:ff9b::127.0.0.1", "loopback"},
        {"64:ff9b::10.1.1.1", "private"},
        {"64:ff9b::169.254.169.254", "metadata service"},
        {"64:ff9b:1::8.8.8.8", "local NAT64"},
        {"64:ff9b:1:a9fe:a9:fe00::", "metadata service"},
        {"64:ff9b::1:0:0", "reserved"},
        {"100::1", "discard"},
        {"100:0:0:1::1", "reserved"},
        {"2001::1", "Teredo"},
        {"2001:0:a9fe:a9fe::1", "metadata service"},
        {"2001:0:0808:0808::5601:5601", "metadata service"}, /* the client, inverted */
        {"2001:1::1", "protocol assignment"},
        {"2001:2::1", "benchmark"},
        {"2001:10::1", "ORCHID"},
        {"2001:20::1", "ORCHID"},
        {"2001:db8::1", "documentation"},
        {"2002:7f00:1::1", "6to4"},
        {"2002:a9fe:a9fe::", "metadata service"},
        {"2002:808:808::1", "6to4"},
        {"3fff::1", "documentation"},
        {"3fff:fff::1", "documentation"},
        {"4000::1", "reserved"},
        {"5f00::1", "segment routing"},
        {"fc00::1", "private"},
        {"fdff:ffff::1", "private"},
        {"fd00:ec2::254", "metadata service"},
        {"fd20:ce::254", "metadata service"},
        {"fe80::1", "link-local"},
        {"fe80::a9fe:a9fe", "metadata service"},
        {"fec0::1", "site-local"},
        {"ff02::1", "multicast"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        const char *name = denied(row[i][0]);

        if (name == NULL || strcmp(name, row[i][1]) != 0)
            fail_msg("%s is %s, not %s", row[i][0], name != NULL ? name : "allowed", row[i][1]);
    }
}

static void test_public_addresses_are_allowed(void **state)
{
    static const char *const row[] = {
        "1.1.1.1",         "8.8.8.8",          "9.255.255.255",   "11.0.0.0",
        "100.63.255.255",  "100.128.0.0",      "126.255.255.255", "128.0.0.0",
        "169.253.255.255", "169.255.0.0",      "172.15.255.255",  "172.32.0.0",
        "192.0.1.0",       "192.0.3.0",        "192.167.255.255", "192.169.0.0",
        "198.17.255.255",  "198.20.0.0",       "203.0.114.0",     "223.255.255.255",
        "168.63.129.15",   "2606:4700::1111",  "2001:4860::8888", "2001:200::1",
        "2003::1",         "2a00:1450:4001::", "3ffe::1",         "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8"};

    (void)state;
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
        if (denied(row[i]) != NULL)
            fail_msg("%s is denied: %s", row[i], denied(row[i]));
}

static void test_what_is_no_internet_address_is_denied(void **state)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    union any scoped = address_of("2606:4700::1111");
    struct network all;

    (void)state;
    assert_string_equal(address_denied((struct sockaddr *)&local, NULL, 0), "no internet address");
    assert_string_equal(address_denied(&none, NULL, 0), "no internet address");
    assert_int_equal(network_parse(SLICE("::/0"), "s", &all), ERR_OK);
    assert_null(address_denied(&scoped.any, &all, 1));
    scoped.in6.sin6_scope_id = 2;
    assert_string_equal(address_denied(&scoped.any, &all, 1), "address with a scope");
}

static void test_named_networks_are_allowed(void **state)
{
    (void)state;
    assert_null(denied_but("10.1.2.3", "10.1.0.0/16"));
    assert_non_null(denied_but("10.2.2.3", "10.1.0.0/16"));
    assert_null(denied_but("::ffff:10.1.2.3", "10.1.0.0/16"));
    assert_null(denied_but("127.0.0.1", "127.0.0.1"));
    assert_non_null(denied_but("127.0.0.2", "127.0.0.1"));
    assert_null(denied_but("fd00::1", "fd00::/8"));
    assert_non_null(denied_but("fc00::1", "fd00::/8"));
    assert_null(denied_but("fe80::1", "fe80::/10"));
    assert_null(denied_but("192.168.0.0", "0.0.0.0/0"));
    assert_null(denied_but("2002:808:808::1", "2002::/16"));
    assert_null(denied_but("8.8.8.8", "10.0.0.0/8"));
}

/* What a network does not say: the other family, IPv4 inside IPv6, and where credentials are. */
static void test_a_network_allows_no_more_than_it_says(void **state)
{
    (void)state;
    assert_non_null(denied_but("127.0.0.1", "::/0"));
    assert_non_null(denied_but("::1", "0.0.0.0/0"));
    assert_non_null(denied_but("64:ff9b::10.1.2.3", "10.1.0.0/16"));
    assert_null(denied_but("64:ff9b::10.1.2.3", "64:ff9b::/96"));
    assert_non_null(denied_but("169.254.169.254", "169.254.0.0/16"));
    assert_non_null(denied_but("169.254.169.254", "169.254.169.254/31"));
    assert_null(denied_but("169.254.169.254", "169.254.169.254/32"));
    assert_null(denied_but("::ffff:169.254.169.254", "169.254.169.254"));
    assert_non_null(denied_but("64:ff9b::169.254.169.254", "64:ff9b::/96"));
    assert_non_null(denied_but("64:ff9b::169.254.169.254", "169.254.169.254"));
    assert_non_null(denied_but("2002:a9fe:a9fe::", "2002::/16"));
    assert_non_null(denied_but("fd00:ec2::254", "fd00::/8"));
    assert_null(denied_but("fd00:ec2::254", "fd00:ec2::254/128"));
}

static void test_networks_are_read_strictly(void **state)
{
    static const char *const bad[] = {
        "",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/-1",
        "10.0.0.0/08",
        "10.0.0/8",
        "010.0.0.0/8",
        "0x0a000000/8",
        "10.0.0.0 /8",
        " 10.0.0.0/8",
        "10.1.0.0/8",
        "fd00::1/64",
        "fd00::/129",
        "fe80::1%lo",
        "fe80::%lo/10",
        "localhost",
        "10.0.0.0/8/8",
        "[::1]",
        "10.0.0.0/+8",
        "10.0.0.0/0x8",
        "0.0.0.1/0",
        "::ffff:0:0/4",
        "10.0.0.0/ 8",
        "10.0.0.0/8\n",
        "fd00:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000/8"};
    struct network network = {.bits = 7};

    (void)state;
    heard_start();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct slice text = {bad[i], strlen(bad[i])};

        if (network_parse(text, "webhook.private_networks", &network) != ERR_SETTINGS)
            fail_msg("%s was accepted", bad[i]);
        assert_non_null(strstr(heard(), "webhook.private_networks"));
    }
    assert_int_equal(network_parse((struct slice){"10.0.0.0\0/8", 11}, "s", &network),
                     ERR_SETTINGS);
    heard_stop();
    assert_int_equal(network.bits, 7);
    assert_int_equal(network_parse(SLICE("10.0.0.0/8"), "s", &network), ERR_OK);
    assert_int_equal(network.bits, 104);
    assert_int_equal(network_parse(SLICE("::/0"), "s", &network), ERR_OK);
    assert_int_equal(network.bits, 0);
    assert_int_equal(network_parse(SLICE("::ffff:10.0.0.0/104"), "s", &network), ERR_OK);
    assert_int_equal(network.bits, 104);
}

/* The second formulation: first and last address of what is not globally reachable. */
static const uint32_t closed_ipv4[][2] = {
    {0x00000000, 0x00ffffff}, {0x0a000000, 0x0affffff}, {0x64400000, 0x647fffff},
    {0x7f000000, 0x7fffffff}, {0xa83f8110, 0xa83f8110}, {0xa9fe0000, 0xa9feffff},
    {0xac100000, 0xac1fffff}, {0xc0000000, 0xc00000ff}, {0xc0000200, 0xc00002ff},
    {0xc01fc400, 0xc01fc4ff}, {0xc034c100, 0xc034c1ff}, {0xc0586300, 0xc05863ff},
    {0xc0a80000, 0xc0a8ffff}, {0xc0af3000, 0xc0af30ff}, {0xc6120000, 0xc613ffff},
    {0xc6336400, 0xc63364ff}, {0xcb007100, 0xcb0071ff}, {0xe0000000, 0xffffffff}};

/* In 2000::/3, by the first 64 bits. */
static const uint64_t closed_ipv6[][2] = {{0x2001000000000000, 0x200101ffffffffff},
                                          {0x20010db800000000, 0x20010db8ffffffff},
                                          {0x2002000000000000, 0x2002ffffffffffff},
                                          {0x2620004f80000000, 0x2620004f8000ffff},
                                          {0x3fff000000000000, 0x3fff0fffffffffff}};

static bool ipv4_is_closed(uint32_t number)
{
    for (size_t i = 0; i < sizeof(closed_ipv4) / sizeof(closed_ipv4[0]); i++)
        if (number >= closed_ipv4[i][0] && number <= closed_ipv4[i][1])
            return true;
    return false;
}

static bool ipv6_is_closed(uint64_t high, uint64_t low)
{
    if (high == 0 && low >> 32 == 0xffff)
        return ipv4_is_closed((uint32_t)low);
    if (high == 0x0064ff9b00000000 && low >> 32 == 0)
        return ipv4_is_closed((uint32_t)low);
    for (size_t i = 0; i < sizeof(closed_ipv6) / sizeof(closed_ipv6[0]); i++)
        if (high >= closed_ipv6[i][0] && high <= closed_ipv6[i][1])
            return true;
    return high < 0x2000000000000000 || high > 0x3fffffffffffffff;
}

static void must_agree_on_ipv4(uint32_t number)
{
    union any address = {.in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(number)}};

    if ((address_denied(&address.any, NULL, 0) != NULL) != ipv4_is_closed(number))
        fail_msg("%08x", number);
}

static void must_agree_on_ipv6(uint64_t high, uint64_t low)
{
    union any address = {.in6 = {.sin6_family = AF_INET6}};
    uint64_t bytes[2] = {__builtin_bswap64(high), __builtin_bswap64(low)};

    memcpy(&address.in6.sin6_addr, bytes, 16);
    if ((address_denied(&address.any, NULL, 0) != NULL) != ipv6_is_closed(high, low))
        fail_msg("%016jx %016jx", (uintmax_t)high, (uintmax_t)low);
}

static void test_both_formulations_agree_at_every_edge(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(closed_ipv4) / sizeof(closed_ipv4[0]); i++)
        for (int side = 0; side < 2; side++)
            for (uint32_t step = 0; step < 3; step++) {
                uint32_t number = closed_ipv4[i][side] + step - 1;

                must_agree_on_ipv4(number);
                must_agree_on_ipv6(0, 0xffff00000000 | number);
                must_agree_on_ipv6(0x0064ff9b00000000, number);
            }
    for (size_t i = 0; i < sizeof(closed_ipv6) / sizeof(closed_ipv6[0]); i++)
        for (int side = 0; side < 2; side++)
            for (uint64_t step = 0; step < 3; step++)
                must_agree_on_ipv6(closed_ipv6[i][side] + step - 1, side == 0 ? UINT64_MAX : 0);
    for (uint64_t first = 0; first < 65536; first++)
        must_agree_on_ipv6(first << 48, first);
}

static uint64_t next_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15;
    return (*state ^ *state >> 29) * 0xbf58476d1ce4e5b9 ^ *state >> 17;
}

static void test_both_formulations_agree_on_chance(void **state)
{
    uint64_t seed = 7;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        uint64_t high = next_random(&seed), low = next_random(&seed);

        must_agree_on_ipv4((uint32_t)(high >> 32));
        must_agree_on_ipv6((high & 0x0fffffffffffffff) | 0x2000000000000000, low);
        must_agree_on_ipv6(high, low);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_range_has_its_name),
        cmocka_unit_test(test_public_addresses_are_allowed),
        cmocka_unit_test(test_what_is_no_internet_address_is_denied),
        cmocka_unit_test(test_named_networks_are_allowed),
        cmocka_unit_test(test_a_network_allows_no_more_than_it_says),
        cmocka_unit_test(test_networks_are_read_strictly),
        cmocka_unit_test(test_both_formulations_agree_at_every_edge),
        cmocka_unit_test(test_both_formulations_agree_on_chance),
    };

    return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
