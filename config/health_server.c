/*
 * health_server.c: libmicrohttpd's thread answers, and a second one, the keeper, ends connections that
 * take too long: the library's own time-out begins anew with each byte. One lock is between the two.
 */
#include "config/health_server.h"

#include <microhttpd.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config/buffer.h"
#include "config/clock.h"
#include "config/log.h"
#include "config/metrics.h"

enum {
    CONNECTIONS_MAX = 16,
    CONNECTION_BYTES_MAX = 8192,
    CONNECTION_MS = 10000,
    TURN_MS = 1000,
};

struct connection {
    bool open;
    int fd;
    uint64_t until_ns; /* monotonic */
};

struct health_server {
    struct health_server_options options;
    struct MHD_Daemon *daemon;
    pthread_t keeper;
    bool kept;
    int quit_fd; /* readable: the keeper is to end */
    uint16_t port;
    pthread_mutex_t lock; /* of the connections, and of the calls of the options */
    struct connection connection[CONNECTIONS_MAX];
};

void health_say(struct health_check *check, const char *name, bool good, const char *format, ...)
{
    va_list args;

    check->name = name;
    check->good = good;
    va_start(args, format);
    vsnprintf(check->text, sizeof(check->text), format, args);
    va_end(args);
}

/* -------------------------------------------------------------------------------------- answers ---- */

struct answer {
    unsigned status;
    const char *type;
    struct buffer body;
};

static void write_checks(const struct health_check *check, unsigned count, bool verbose,
                         struct answer *answer)
{
    bool good = true;

    for (unsigned i = 0; i < count; i++)
        good = good && check[i].good;
    for (unsigned i = 0; i < count; i++)
        if (verbose || !check[i].good)
            buffer_printf(&answer->body, "[%c] %s: %s\n", check[i].good ? '+' : '-', check[i].name,
                          check[i].text);
    if (good)
        buffer_add_text(&answer->body, "ok\n");
    answer->status = good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
}

static void answer_path(struct health_server *server, struct MHD_Connection *connection,
                        const char *path, struct answer *answer)
{
    const struct health_server_options *options = &server->options;
    bool verbose = MHD_lookup_connection_value_n(connection, MHD_GET_ARGUMENT_KIND, "verbose", 7,
                                                 NULL, NULL) == MHD_YES;
    struct health_check check[HEALTH_CHECKS_MAX];
    uint64_t now_ns = clock_mono_ns();

    pthread_mutex_lock(&server->lock);
    options->sample(options->context, now_ns);
    if (strcmp(path, "/metrics") == 0) {
        metrics_sample_process();
        metrics_render(&answer->body);
        answer->type = METRICS_CONTENT_TYPE;
    } else if (strcmp(path, "/livez") == 0) {
        write_checks(check, options->live(options->context, now_ns, check), verbose, answer);
    } else if (strcmp(path, "/readyz") == 0) {
        write_checks(check, options->ready(options->context, now_ns, check), verbose, answer);
    } else {
        answer->status = MHD_HTTP_NOT_FOUND;
        buffer_add_text(&answer->body, "there is /metrics, /livez and /readyz\n");
    }
    pthread_mutex_unlock(&server->lock);
}

/* One answer a connection: whoever wants another one waits for its turn with everybody else. */
static enum MHD_Result send_answer(struct MHD_Connection *connection, struct answer *answer)
{
    size_t len = answer->body.len;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(len, buffer_detach(&answer->body), MHD_RESPMEM_MUST_FREE);
    enum MHD_Result sent;

    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (answer->status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    sent = MHD_queue_response(connection, answer->status, response);
    MHD_destroy_response(response);
    return sent;
}

static enum MHD_Result on_request_cb(void *context, struct MHD_Connection *connection,
                                     const char *path, const char *method, const char *version,
                                     const char *upload, size_t *upload_len, void **state)
{
    struct answer answer = {.status = MHD_HTTP_OK, .type = "text/plain; charset=utf-8"};

    (void)version;
    (void)upload;
    (void)upload_len;
    (void)state;
    if (strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0) {
        answer_path(context, connection, path, &answer);
    } else {
        answer.status = MHD_HTTP_METHOD_NOT_ALLOWED;
        buffer_add_text(&answer.body, "only GET and HEAD\n");
    }
    return send_answer(connection, &answer);
}

/* ---------------------------------------------------------------------------------- connections ---- */

static void note_connection(struct health_server *server, int fd, void **state)
{
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *slot = &server->connection[i];

        if (slot->open)
            continue;
        *slot = (struct connection){
            true, fd, clock_mono_ns() + server->options.connection_ms * (uint64_t)CLOCK_NS_PER_MS};
        *state = slot;
        return;
    }
}

/* The socket is closed after this, so what the keeper shuts down is never another one's. */
static void on_connection_cb(void *context, struct MHD_Connection *connection, void **state,
                             enum MHD_ConnectionNotificationCode what)
{
    struct health_server *server = context;
    struct connection *slot = *state;

    pthread_mutex_lock(&server->lock);
    if (what == MHD_CONNECTION_NOTIFY_STARTED)
        note_connection(
            server,
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd,
            state);
    else if (slot)
        slot->open = false;
    pthread_mutex_unlock(&server->lock);
}

/* However slowly a client writes or reads: its time is over, and the library sees it gone. */
static void end_late_ones(struct health_server *server, uint64_t now_ns)
{
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
        if (server->connection[i].open && now_ns >= server->connection[i].until_ns)
            shutdown(server->connection[i].fd, SHUT_RDWR);
}

static void *keep(void *argument)
{
    struct health_server *server = argument;
    struct pollfd quit = {server->quit_fd, POLLIN, 0};
    uint32_t limit_ms = server->options.connection_ms;

    while (poll(&quit, 1, (int)(limit_ms < TURN_MS ? limit_ms : TURN_MS)) <= 0) {
        uint64_t now_ns = clock_mono_ns();

        pthread_mutex_lock(&server->lock);
        end_late_ones(server, now_ns);
        server->options.sample(server->options.context, now_ns);
        pthread_mutex_unlock(&server->lock);
    }
    return NULL;
}

/* --------------------------------------------------------------------------------- start and end ---- */

/* "127.0.0.1:9464" and "[::1]:9464"; numbers only, so that no name has to be looked up. */
static bool read_address(const char *text, struct sockaddr_storage *ret)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                                   .ai_socktype = SOCK_STREAM};
    const char *colon = strrchr(text, ':');
    struct addrinfo *found;
    char host[64];
    size_t len = colon ? (size_t)(colon - text) : 0;

    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    } else if (memchr(text, ':', len)) {
        return false;
    }
    if (len == 0 || len >= sizeof(host) || colon[1] == '\0')
        return false;
    memcpy(host, text, len);
    host[len] = '\0';
    if (strtoul(colon + 1, NULL, 10) > UINT16_MAX || getaddrinfo(host, colon + 1, &hints, &found))
        return false;
    memcpy(ret, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return true;
}

static struct MHD_Daemon *start_daemon(struct health_server *server,
                                       const struct sockaddr_storage *address)
{
    unsigned flags = MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_ITC |
                     (address->ss_family == AF_INET6 ? MHD_USE_IPv6 : 0);

    return MHD_start_daemon(flags, 0, NULL, NULL, on_request_cb, server, MHD_OPTION_SOCK_ADDR,
                            address, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES_MAX,
                            MHD_OPTION_CONNECTION_TIMEOUT,
                            (unsigned)(server->options.connection_ms + 999) / 1000,
                            MHD_OPTION_NOTIFY_CONNECTION, on_connection_cb, server, MHD_OPTION_END);
}

static enum err start(struct health_server *server, const struct sockaddr_storage *address)
{
    int failed;

    server->daemon = start_daemon(server, address);
    if (!server->daemon)
        return fail(ERR_IO,
                    "%s: %s cannot be listened on; is the port taken? Each daemon of a host needs "
                    "its own, and port 0 finds one",
                    server->options.setting, server->options.address);
    server->port = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    failed = pthread_create(&server->keeper, NULL, keep, server);
    if (failed)
        return fail(ERR_MEMORY, "the HTTP thread could not be started: %s", strerror(failed));
    server->kept = true;
    pthread_setname_np(server->keeper, "http-keeper");
    return ERR_OK;
}

enum err health_server_open(const struct health_server_options *options, struct health_server **ret)
{
    struct sockaddr_storage address = {0};
    struct health_server *server;
    sigset_t all, before;
    enum err err;

    *ret = NULL;
    if (options->address[0] == '\0')
        return ERR_OK;
    if (!read_address(options->address, &address))
        return fail(ERR_SETTINGS, "%s: \"%s\" is no address and port in numbers, as 127.0.0.1:9464",
                    options->setting, options->address);
    server = xcalloc(1, sizeof(*server));
    server->options = *options;
    if (server->options.connection_ms == 0)
        server->options.connection_ms = CONNECTION_MS;
    server->quit_fd = eventfd(0, EFD_CLOEXEC);
    pthread_mutex_init(&server->lock, NULL);
    sigfillset(&all); /* signals are for the threads that know what to do with them */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = start(server, &address);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err) {
        health_server_close(server);
        return err;
    }
    log_info("http.listening", "address=%.*s:%u",
             (int)(strrchr(options->address, ':') - options->address), options->address,
             server->port);
    *ret = server;
    return ERR_OK;
}

uint16_t health_server_port(const struct health_server *server)
{
    return server->port;
}

void health_server_close(struct health_server *server)
{
    if (!server)
        return;
    if (server->kept && eventfd_write(server->quit_fd, 1) == 0)
        pthread_join(server->keeper, NULL);
    if (server->daemon)
        MHD_stop_daemon(server->daemon);
    if (server->quit_fd >= 0)
        close(server->quit_fd);
    pthread_mutex_destroy(&server->lock);
    free(server);
}
