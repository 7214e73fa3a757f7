/*
 * test_sender.c: whom a request goes to. Names lead where this program says, as a hostile name server
 * would: it answers instead of the system's getaddrinfo(). What servers answer is tested with real ones
 * (tests/flow/test_deliveries.sh).
 */
#include "scheduler/sender.h"

#include "config/clock.h"
#include "tests/unit/heard.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static atomic_int asked;    /* how often names were looked up */
static int release_pipe[2]; /* closed at its end, it lets the hanging name server answer */
static uint16_t port;       /* of the server below */
static int server_fd;

/* ---------------------------------------------------------------- a name server of our own ---- */

static const struct {
    const char *name;
    const char *address;
} names[] = {
    {"inside.test", "10.1.2.3"},   {"meta.test", "169.254.169.254"}, {"loop.test", "127.0.0.9"},
    {"allowed.test", "127.0.0.1"}, {"slow.test", "127.0.0.1"},
};

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **res)
{
    const char *found = NULL;
    struct {
        struct addrinfo info;
        struct sockaddr_in address;
    } * one;
    char byte;

    (void)hints;
    atomic_fetch_add(&asked, 1);
    for (size_t i = 0; node && i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(node, names[i].name) == 0)
            found = names[i].address;
    if (node && strcmp(node, "slow.test") == 0 && read(release_pipe[0], &byte, 1) < 0)
        return EAI_FAIL;
    if (!found)
        return EAI_NONAME;
    one = calloc(1, sizeof(*one));
    if (!one)
        return EAI_MEMORY;
    one->address.sin_family = AF_INET;
    one->address.sin_port = htons((uint16_t)(service ? atoi(service) : 0));
    inet_pton(AF_INET, found, &one->address.sin_addr);
    one->info = (struct addrinfo){.ai_family = AF_INET,
                                  .ai_socktype = SOCK_STREAM,
                                  .ai_protocol = IPPROTO_TCP,
                                  .ai_addrlen = sizeof(one->address),
                                  .ai_addr = (struct sockaddr *)&one->address};
    *res = &one->info;
    return 0;
}

void freeaddrinfo(struct addrinfo *res)
{
    free(res);
}

/* --------------------------------------------------------------------------- one conversation ---- */

struct told {
    int count;
    uint32_t status;
    char why[SENDER_WHY_SIZE];
};

static uv_loop_t loop;
static struct sender *sender;
static struct settings_webhook settings;

static void on_answered_cb(void *context, const struct sender_answer *answer)
{
    struct told *told = context;

    told->count++;
    told->status = answer->status;
    snprintf(told->why, sizeof(told->why), "%s", answer->why ? answer->why : "");
}

static void ask(const char *host, struct told *told)
{
    static char url[128];

    snprintf(url, sizeof(url), "http://%s:%u/", host, port);
    sender_send(
        sender,
        &(struct sender_request){.url = url, .header = {"webhook-id: evt_1"}, .body = SLICE("{}")},
        on_answered_cb, told);
}

static void await(const struct told *told)
{
    uint64_t end_ns = clock_mono_ns() + 20 * (uint64_t)CLOCK_NS_PER_S;

    while (told->count == 0 && clock_mono_ns() < end_ns)
        uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(told->count, 1);
}

/* Nobody has connected to the server. */
static void assert_no_visitor(void)
{
    assert_int_equal(accept4(server_fd, NULL, NULL, SOCK_NONBLOCK), -1);
}

/* ----------------------------------------------------------------------------------- the tests ---- */

/* Wherever a name leads, the address decides, and no packet goes there. */
static void test_the_address_decides_not_the_name(void **state)
{
    static const struct {
        const char *host;
        const char *why;
    } rows[] = {
        {"inside.test", "may not be sent to: private"},
        {"meta.test", "may not be sent to: "},
        {"loop.test", "may not be sent to: loopback"},
        {"nowhere.test", "resolve host"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct told told = {0};

        ask(rows[i].host, &told);
        await(&told);
        if (told.status != 0 || !strstr(told.why, rows[i].why))
            fail_msg("%s: %u %s", rows[i].host, told.status, told.why);
    }
    assert_no_visitor();
}

/* What the settings do not allow is not even looked up; the answer comes from the loop all the same. */
static void test_a_url_that_is_not_allowed_is_not_sent(void **state)
{
    struct told told = {0};
    int before = atomic_load(&asked);

    (void)state;
    heard_start();
    ask("elsewhere.example", &told);
    heard_stop();
    assert_int_equal(told.count, 0);
    await(&told);
    assert_int_equal(told.status, 0);
    assert_non_null(strstr(told.why, "URL is not allowed"));
    assert_int_equal(atomic_load(&asked), before);
}

/* A name server that hangs holds up nobody, and its own request ends at its time-out. */
static void test_a_name_server_that_hangs_holds_up_nobody(void **state)
{
    struct told slow = {0}, other = {0};

    (void)state;
    ask("slow.test", &slow);
    ask("inside.test", &other);
    await(&other);
    assert_int_equal(slow.count, 0);
    await(&slow);
    assert_int_equal(slow.status, 0);
    close(release_pipe[1]); /* the thread that still asks may end */
}

static int set_up(void **state)
{
    static const char *networks[] = {"127.0.0.1"}, *hosts[] = {"*.test"}, *ports[1];
    static char port_text[8];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);

    (void)state;
    server_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (server_fd < 0 || bind(server_fd, (struct sockaddr *)&address, len) != 0 ||
        listen(server_fd, 8) != 0 ||
        getsockname(server_fd, (struct sockaddr *)&address, &len) != 0 || pipe(release_pipe) != 0)
        return -1;
    port = ntohs(address.sin_port);
    snprintf(port_text, sizeof(port_text), "%u", port);
    ports[0] = port_text;
    settings = (struct settings_webhook){.ca_file = "",
                                         .timeout_ms = 800,
                                         .connections = 4,
                                         .http_hosts = {hosts, 1},
                                         .private_networks = {networks, 1},
                                         .ports = {ports, 1}};
    uv_loop_init(&loop);
    return sender_open(&loop, &settings, &sender) == ERR_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    sender_close(sender);
    uv_run(&loop, UV_RUN_DEFAULT);
    close(server_fd);
    return uv_loop_close(&loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_address_decides_not_the_name),
        cmocka_unit_test(test_a_url_that_is_not_allowed_is_not_sent),
        cmocka_unit_test(test_a_name_server_that_hangs_holds_up_nobody),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
