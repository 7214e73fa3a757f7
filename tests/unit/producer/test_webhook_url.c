/* test_webhook_url.c: URLs that people write, and those that somebody writes who wants to get in. */
#include "producer/webhook_url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/heard.h"

static const char *ports[] = {"443", "80", "8443"};
static const char *hosts[] = {"plain.example.com", "10.1.2.3", "*.test.example", "::1"};
static const char *networks[] = {"10.1.0.0/16"};

static const struct settings_webhook usual = {.ports = {ports, 2}};
static const struct settings_webhook open_hearted = {
    .ports = {ports, 3}, .http_hosts = {hosts, 4}, .private_networks = {networks, 1}};

static enum err check(const struct settings_webhook *settings, const char *url,
                      const char *expected)
{
    struct buffer plain = {0}, again = {0};
    enum err err = webhook_url_check(settings, url, &plain);

    if (!err && expected != NULL)
        assert_string_equal(plain.data, expected);
    if (!err) { /* the plain form is its own plain form */
        assert_int_equal(webhook_url_check(settings, plain.data, &again), ERR_OK);
        assert_string_equal(again.data, plain.data);
    }
    assert_true(!err || plain.len == 0);
    buffer_release(&plain);
    buffer_release(&again);
    return err;
}

static void test_good_urls_get_a_plain_form(void **state)
{
    static const char *const row[][2] = {
        {"https://hooks.example.com/x?y=z", "https://hooks.example.com/x?y=z"},
        {"https://hooks.example.com", "https://hooks.example.com/"},
        {"HTTPS://Hooks.Example.COM/Path", "https://hooks.example.com/Path"},
        {"https://hooks.example.com:443/", "https://hooks.example.com/"},
        {"https://hooks.example.com:0443/", "https://hooks.example.com/"},
        {"https://hooks.example.com:/", "https://hooks.example.com/"},
        {"https://hooks.example.com:80/", "https://hooks.example.com:80/"},
        {"https://hooks.example.com/?", "https://hooks.example.com/?"},
        {"https://hooks.example.com/a/../b/./c", "https://hooks.example.com/b/c"},
        {"https://hooks.example.com/@user:pass", "https://hooks.example.com/@user:pass"},
        {"https://hooks.example.com?a@b", "https://hooks.example.com/?a@b"},
        {"https://xn--bcher-kva.example/%C3%A9", "https://xn--bcher-kva.example/%C3%A9"},
        {"https://my_service/", "https://my_service/"},
        {"https://8.8.8.8/", "https://8.8.8.8/"},
        {"https://134744072/", "https://8.8.8.8/"},
        {"https://0x8.8.2056/", "https://8.8.8.8/"},
        {"https://010.8.8.8/", "https://8.8.8.8/"},
        {"https://[2606:4700:0:0::1111]/", "https://[2606:4700::1111]/"},
        {"https://[2606:4700::1111]:443/a", "https://[2606:4700::1111]/a"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++)
        if (check(&usual, row[i][0], row[i][1]) != ERR_OK)
            fail_msg("%s was refused", row[i][0]);
}

static void test_hostile_urls_are_refused(void **state)
{
    static const char *const bad[] = {
        "", "https", "https:", "https:/", "https://", "https:///", "https:///x/", "https:/x/",
        "https:////x/", "//x/", "x/", "/etc/passwd", "https:\\\\x\\", "https://x\\@y/",
        /* other schemes */
        "http://x/", "ftp://x/", "file:///etc/passwd", "gopher://x/", "dict://x:443/", "ldap://x/",
        "javascript:alert(1)", "httpss://x/", "https2://x/", "httpx://x", "data:,x",
        "unix:///run/x", "smb://x/", "telnet://x", " https://x/", "https ://x/", "jar:https://x!/",
        "http+unix://x/",
        /* users, fragments, letters */
        "https://user@x/", "https://user:pass@x/", "https://@x/", "https://:@x/", "https://a@b@x/",
        "https://x/#f", "https://x#", "https://x/?#", "https://x/a b", "https://x/\r\nHost: y",
        "https://x/\t", "https://x\n/", "https://x/\x7f", "https://x/\x01",
        "https://b\xc3\xbc"
        "cher.example/",
        "https://x/\xc3\xa9", "https://\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1/",
        "https://127\xe3\x80\x82"
        "0\xe3\x80\x82"
        "0\xe3\x80\x82"
        "1/",
        /* hosts that are none */
        "https://:443/", "https://?x", "https://.x/", "https://x./", "https://x../",
        "https://x..y/", "https://-x/", "https://x-/", "https://x%2ey/", "https://127%2e0.0.1/",
        "https://x%00.y/", "https://%31%32%37.0.0.1/", "https://x,y/", "https://x;y/",
        "https://x'y/", "https://*/", "https://{x,y}/", "https://x[1-3]/", "https://x$y/",
        "https://(x)/", "https://x|y/",
        /* IPv4, plain and odd */
        "https://127.0.0.1/", "https://127.1/", "https://127.0.1/", "https://2130706433/",
        "https://017700000001/", "https://0x7f000001/", "https://0x7f.0.0.1/",
        "https://0177.0.0.1/", "https://0X7F.1/", "https://0/", "https://0.0.0.0/",
        "https://00000000000/", "https://1.0x/", "https://127.0.0.1./", "https://127.1./",
        "https://256.1.1.1/", "https://1.2.3.4.5/", "https://4294967296/", "https://08.1.1.1/",
        "https://0x/", "https://x.0x7f/", "https://x.1/", "https://10.0.0.1/",
        "https://192.168.0.1/", "https://172.16.0.1/", "https://100.64.0.1/",
        "https://169.254.169.254/latest/meta-data/", "https://2852039166/", "https://0xa9fea9fe/",
        "https://0251.0376.0251.0376/", "https://168.63.129.16/", "https://100.100.100.200/",
        "https://224.0.0.1/", "https://255.255.255.255/", "https://198.18.0.1/",
        "https://192.0.2.1/",
        /* IPv6 */
        "https://[::]/", "https://[::1]/", "https://[0:0:0:0:0:0:0:1]/", "https://::1/",
        "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://[::ffff:a9fe:a9fe]/",
        "https://[::127.0.0.1]/", "https://[64:ff9b::a9fe:a9fe]/", "https://[64:ff9b::10.0.0.1]/",
        "https://[64:ff9b:1::1]/", "https://[2002:7f00:1::]/", "https://[2001::1]/",
        "https://[fd00:ec2::254]/", "https://[fe80::1]/", "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/", "https://[fc00::1]/", "https://[ff02::1]/", "https://[fec0::1]/",
        "https://[::1", "https://::1]/", "https://[::1]x/", "https://[]/", "https://[v1.x]/",
        "https://[2606:4700::1111]]/", "https://[[2606:4700::1111]/", "https://[1:2:3]/",
        /* names of what must not be reached */
        "https://localhost/", "https://LOCALHOST/", "https://localhost./", "https://a.localhost/",
        "https://metadata.google.internal/", "https://Metadata.Google.Internal/computeMetadata/v1/",
        "https://metadata/", "https://instance-data/latest/", "https://metadata.azure.internal/",
        "https://metadata.google.internal./",
        /* ports */
        "https://x:22/", "https://x:0/", "https://x:65536/", "https://x:-443/", "https://x:+443/",
        "https://x:443x/", "https://x:443:443/", "https://x:8443/", "https://x:0x1bb/",
        "https://x:99999999999999999999/", "https://x:4294967739/"};

    (void)state;
    assert_true(sizeof(bad) / sizeof(bad[0]) >= 150);
    heard_start();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *said;

        if (check(&usual, bad[i], NULL) != ERR_USAGE)
            fail_msg("%s was accepted", bad[i]);
        said = heard();
        assert_non_null(strstr(said, "code=USAGE"));
        assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1); /* one sentence */
    }
    heard_stop();
}

/* Paths hold tokens, users hold passwords: neither reaches a log. */
static void test_a_refusal_shows_no_secret(void **state)
{
    static const char *const bad[] = {"https://user:hunter2@x/",
                                      "https://hunter2@x/",
                                      "https://127.0.0.1/hunter2",
                                      "https://x/hunter2#",
                                      "https://x:22/hunter2",
                                      "http://x/hunter2",
                                      "https://x./?t=hunter2",
                                      "https://metadata/?hunter2",
                                      "https://x/hunter2 ",
                                      "https://[::1]/hunter2",
                                      "ftp://hunter2@x/hunter2",
                                      "https://a..b/hunter2",
                                      "https://x:99999/?hunter2",
                                      "https://[::1/hunter2",
                                      "https://x%/hunter2",
                                      "https://1.0x/hunter2",
                                      "hunter2",
                                      "https://-x-/hunter2"};

    (void)state;
    heard_start();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(check(&usual, bad[i], NULL), ERR_USAGE);
        if (strstr(heard(), "hunter2") != NULL)
            fail_msg("%s was shown", bad[i]);
    }
    heard_stop();
}

static void test_long_ones_are_refused(void **state)
{
    struct buffer url = {0};

    (void)state;
    buffer_add_text(&url, "https://x/");
    while (url.len < WEBHOOK_URL_MAX)
        buffer_add_byte(&url, 'a');
    assert_int_equal(check(&usual, url.data, url.data), ERR_OK);
    buffer_add_byte(&url, 'a');
    heard_start();
    assert_int_equal(check(&usual, url.data, NULL), ERR_USAGE);
    buffer_clear(&url); /* a query without a path gets one, and is then too long */
    buffer_add_text(&url, "https://x?");
    while (url.len < WEBHOOK_URL_MAX)
        buffer_add_byte(&url, 'a');
    assert_int_equal(check(&usual, url.data, NULL), ERR_USAGE);
    heard();
    buffer_clear(&url);
    buffer_add_text(&url, "https://");
    for (int i = 0; i < 64; i++)
        buffer_add_byte(&url, 'a');
    buffer_add_text(&url, ".example/");
    assert_int_equal(check(&usual, url.data, NULL), ERR_USAGE);
    buffer_clear(&url);
    buffer_add_text(&url, "https://");
    while (url.len < 8 + WEBHOOK_HOST_MAX)
        buffer_add_text(&url, "a.");
    buffer_add_text(&url, "a/");
    assert_int_equal(check(&usual, url.data, NULL), ERR_USAGE);
    heard_stop();
    buffer_release(&url);
}

/* What the settings name, and no more. */
static void test_settings_open_hosts_ports_and_networks(void **state)
{
    static const char *const good[] = {
        "http://plain.example.com/", "http://Plain.Example.Com:8443/",
        "http://10.1.2.3/",          "http://a.test.example/",
        "http://a.b.test.example/",  "https://10.1.255.255/",
        "https://x:8443/",           "https://167838211/",
        "http://0xa.1.2.3/",
    };
    static const char *const bad[] = {
        "http://test.example/",
        "http://atest.example/",
        "http://plain.example.com.evil.example/",
        "http://10.1.2.4/",
        "https://10.2.0.0/",
        "https://127.0.0.1/",
        "http://[::1]/",
        "http://evil.example/",
        "http://plain.example.com:8080/",
        "https://localhost/",
        "http://.test.example/",
        "http://a.test.example./",
        "http://plain.example.com@evil.example/",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        if (check(&open_hearted, good[i], NULL) != ERR_OK)
            fail_msg("%s was refused", good[i]);
    heard_start();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (check(&open_hearted, bad[i], NULL) != ERR_USAGE)
            fail_msg("%s was accepted", bad[i]);
    heard_stop();
}

static void test_loopback_is_reached_where_the_settings_name_it(void **state)
{
    static const char *loopback[] = {"127.0.0.0/8", "::1"};
    static const char *names[] = {"localhost", "127.0.0.1", "::1"};
    const struct settings_webhook settings = {
        .ports = {ports, 3}, .http_hosts = {names, 3}, .private_networks = {loopback, 2}};

    (void)state;
    assert_int_equal(check(&settings, "http://localhost:8443/", NULL), ERR_OK);
    assert_int_equal(check(&settings, "http://127.0.0.1:8443/", NULL), ERR_OK);
    assert_int_equal(check(&settings, "http://[::1]:8443/", "http://[::1]:8443/"), ERR_OK);
    assert_int_equal(check(&settings, "https://localhost/", NULL), ERR_OK);
}

static void test_wrong_settings_are_said(void **state)
{
    static const char *const bad_port[] = {"0", "65536", "", "4x", "-1", "999999", "https"};
    struct settings_webhook settings = {.ports = {ports, 1}};
    static const char *wrong[1];

    (void)state;
    heard_start();
    for (size_t i = 0; i < sizeof(bad_port) / sizeof(bad_port[0]); i++) {
        wrong[0] = bad_port[i];
        settings.ports = (struct settings_list){wrong, 1};
        assert_int_equal(check(&settings, "https://x/", NULL), ERR_SETTINGS);
        assert_non_null(strstr(heard(), "webhook.ports"));
    }
    wrong[0] = "10.0.0.1/8";
    settings = (struct settings_webhook){.ports = {ports, 1}, .private_networks = {wrong, 1}};
    assert_int_equal(check(&settings, "https://8.8.8.8/", NULL), ERR_SETTINGS);
    assert_non_null(strstr(heard(), "webhook.private_networks"));
    heard_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_urls_get_a_plain_form),
        cmocka_unit_test(test_hostile_urls_are_refused),
        cmocka_unit_test(test_a_refusal_shows_no_secret),
        cmocka_unit_test(test_long_ones_are_refused),
        cmocka_unit_test(test_settings_open_hosts_ports_and_networks),
        cmocka_unit_test(test_loopback_is_reached_where_the_settings_name_it),
        cmocka_unit_test(test_wrong_settings_are_said),
    };

    return cmocka_run_group_tests_name("webhook_url", tests, NULL, NULL);
}
