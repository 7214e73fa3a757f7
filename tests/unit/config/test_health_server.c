/* test_health_server.c: what clients get, what hostile ones do not, over real sockets on loopback. */
#include "config/health_server.h"
#include "config/log.h"
#include "config/metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

static struct health_server *server;
static atomic_bool is_live, is_ready;
static char reply[65536];

static unsigned live(void *context, uint64_t now_ns, struct health_check *check)
{
    assert_ptr_equal(context, &server);
    assert_true(now_ns > 0);
    health_say(&check[0], "loop", is_live, "it moved %d s ago", 3);
    return 1;
}

static unsigned ready(void *context, uint64_t now_ns, struct health_check *check)
{
    (void)context;
    (void)now_ns;
    health_say(&check[0], "model", true, "it is loaded");
    health_say(&check[1], "kafka", is_ready, "it has not answered yet");
    return 2;
}

static void sample(void *context, uint64_t now_ns)
{
    (void)context;
    (void)now_ns;
    metrics_set(METRIC_RUNNING, 0, 7);
}

static const struct health_server_options options = {
    .address = "127.0.0.1:0",
    .setting = "worker.http",
    .live = live,
    .ready = ready,
    .sample = sample,
    .context = &server,
};

static int start(void **state)
{
    (void)state;
    log_init("test", LOG_ERROR, LOG_LOGFMT, true);
    metrics_init(METRICS_WORKER, "test", 0);
    is_live = is_ready = true;
    return health_server_open(&options, &server) == ERR_OK ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    health_server_close(server);
    metrics_reset();
    return 0;
}

static int connect_to_it(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(health_server_port(server)),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    const struct timeval patience = {.tv_sec = 5};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

/* All that comes until the server closes; how many bytes. */
static size_t read_all(int fd)
{
    size_t len = 0;
    ssize_t got;

    while ((got = recv(fd, reply + len, sizeof(reply) - 1 - len, 0)) > 0)
        len += (size_t)got;
    reply[len] = '\0';
    close(fd);
    return len;
}

/* Sends a request and reads the reply; the status, 0 when there was none. */
static int ask(const char *request)
{
    int fd = connect_to_it();
    int status = 0;

    (void)send(fd, request, strlen(request), MSG_NOSIGNAL);
    if (read_all(fd) > 0)
        assert_int_equal(sscanf(reply, "HTTP/1.1 %d ", &status), 1);
    return status;
}

static int get(const char *path)
{
    char request[512];

    snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path);
    return ask(request);
}

static const char *body(void)
{
    const char *end = strstr(reply, "\r\n\r\n");

    assert_non_null(end);
    return end + 4;
}

/* Scraping: the content type names the format and its version, numbers are fresh, the end is marked. */
static void test_metrics_are_served(void **state)
{
    (void)state;
    assert_int_equal(get("/metrics"), 200);
    assert_non_null(strstr(reply, "\r\nContent-Type: application/openmetrics-text; version=1.0.0; "
                                  "charset=utf-8\r\n"));
    assert_non_null(strstr(body(), "\nmserve_requests_running 7\n"));
    assert_string_equal(reply + strlen(reply) - 6, "# EOF\n");
}

/* A probe reads the status; a person reads what it waits for, and with ?verbose all of it. */
static void test_health_has_status_and_reasons(void **state)
{
    (void)state;
    assert_int_equal(get("/readyz"), 200);
    assert_string_equal(body(), "ok\n");
    is_ready = false;
    assert_int_equal(get("/readyz"), 503);
    assert_string_equal(body(), "[-] kafka: it has not answered yet\n");
    assert_int_equal(get("/readyz?verbose"), 503);
    assert_string_equal(body(), "[+] model: it is loaded\n[-] kafka: it has not answered yet\n");
    assert_int_equal(get("/livez?verbose"), 200);
    assert_string_equal(body(), "[+] loop: it moved 3 s ago\nok\n");
    is_live = false;
    assert_int_equal(get("/livez"), 503);
    is_live = is_ready = true;
}

/* Nothing can be changed over it, and it has no other pages. */
static void test_only_get_and_head(void **state)
{
    (void)state;
    assert_int_equal(ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), 200);
    assert_string_equal(body(), "");
    assert_int_equal(ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"), 405);
    assert_non_null(strstr(reply, "\r\nAllow: GET, HEAD\r\n"));
    assert_int_equal(ask("DELETE /livez HTTP/1.1\r\nHost: x\r\n\r\n"), 405);
    assert_int_equal(get("/"), 404);
    assert_int_equal(get("/metrics/../../etc/passwd"), 404);
}

/* A request larger than the memory of a connection is refused, and the server lives on. */
static void test_large_requests_are_refused(void **state)
{
    static char large[100000];
    int fd = connect_to_it();
    ssize_t sent = 0;

    (void)state;
    memset(large, 'a', sizeof(large));
    memcpy(large, "GET /", 5);
    for (size_t at = 0; at < sizeof(large) && sent >= 0; at += (size_t)sent)
        sent = send(fd, large + at, sizeof(large) - at, MSG_NOSIGNAL);
    if (read_all(fd) > 0)
        assert_true(strncmp(reply, "HTTP/1.1 4", 10) == 0);
    assert_int_equal(get("/livez"), 200);
    assert_int_equal(ask("\x16\x03\x01 this is no HTTP\r\n\r\n") / 100 % 4, 0);
    assert_int_equal(get("/livez"), 200);
}

/* Who connects and says nothing takes a place, of which there are few; nobody gets more than those,
 * and they are free again when he goes. */
static void test_silent_clients_take_no_more_than_their_places(void **state)
{
    enum { MANY = 40 };
    int fd[MANY];
    int turned_away = 0;

    (void)state;
    for (int i = 0; i < MANY; i++) {
        fd[i] = connect_to_it();
        (void)send(fd[i], "GET /me", 7, MSG_NOSIGNAL);
    }
    for (int i = 0; i < MANY; i++)
        close(fd[i]);
    while (get("/livez") != 200 && ++turned_away < 1000)
        usleep(5000); /* it may not have seen yet that they are gone */
    assert_true(turned_away < 1000);
}

/* One who sends a byte now and then is never idle; his time is over all the same. */
static void test_slow_clients_are_cut_off(void **state)
{
    struct health_server_options hasty = options;
    struct health_server *patient = server;
    int fd, sent = 0;

    (void)state;
    hasty.connection_ms = 100;
    assert_int_equal(health_server_open(&hasty, &server), ERR_OK);
    fd = connect_to_it();
    while (sent < 1000 && send(fd, "G", 1, MSG_NOSIGNAL) == 1) {
        sent++;
        usleep(10000);
    }
    assert_in_range(sent, 1, 999); /* of 10 s */
    close(fd);
    health_server_close(server);
    server = patient;
}

/* Each daemon of a host needs its own port: the second one says whose it is, and how to go on. */
static void test_a_port_that_is_taken_is_said(void **state)
{
    struct health_server_options other = options;
    struct health_server *second;
    char address[32];

    (void)state;
    snprintf(address, sizeof(address), "127.0.0.1:%u", health_server_port(server));
    other.address = address;
    log_hush(true);
    assert_int_equal(health_server_open(&other, &second), ERR_IO);
    assert_null(second);
    other.address = "localhost:80";
    assert_int_equal(health_server_open(&other, &second), ERR_SETTINGS);
    other.address = "127.0.0.1";
    assert_int_equal(health_server_open(&other, &second), ERR_SETTINGS);
    other.address = "127.0.0.1:65536";
    assert_int_equal(health_server_open(&other, &second), ERR_SETTINGS);
    other.address = "::1:80";
    assert_int_equal(health_server_open(&other, &second), ERR_SETTINGS);
    log_hush(false);
    other.address = "";
    assert_int_equal(health_server_open(&other, &second), ERR_OK);
    assert_null(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metrics_are_served),
        cmocka_unit_test(test_health_has_status_and_reasons),
        cmocka_unit_test(test_only_get_and_head),
        cmocka_unit_test(test_large_requests_are_refused),
        cmocka_unit_test(test_silent_clients_take_no_more_than_their_places),
        cmocka_unit_test(test_slow_clients_are_cut_off),
        cmocka_unit_test(test_a_port_that_is_taken_is_said),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
