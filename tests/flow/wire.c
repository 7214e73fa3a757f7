/* wire.c: a proxy that loses or holds back one message of the PostgreSQL protocol. */
#include "tests/flow/wire.h"

#include "tests/flow/pg.h"

#include <arpa/inet.h>
#include <assert.h>
#include <endian.h>
#include <libpq-fe.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { PAIRS_MAX = 32, READ_BYTES = 1 << 16, STRIKE_WAIT_S = 60 };

/* One connection: fd[side] and what came from there but is not forwarded yet. */
struct pair {
    int fd[2];
    struct buffer in[2];
    bool started; /* the first message of a client has no type */
    bool held[2];
};

struct wire {
    char dsn[2200];
    struct sockaddr_in server;
    int listener;
    int wake; /* eventfd: the thread looks at what changed under the lock */
    pthread_t thread;
    struct pair pair[PAIRS_MAX];
    uint32_t pairs;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t struck_cond;
    enum wire_side side;
    char type; /* 0: any */
    char begins[32];
    uint32_t skip; /* messages that fit and pass */
    enum wire_action action;
    bool armed;
    bool struck;
    bool going; /* wire_go() was called */
    bool closing;
};

static void write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        if (n <= 0)
            return; /* the other side is gone: its end of the pair will say so */
        data += n;
        len -= (size_t)n;
    }
}

static void close_pair(struct wire *wire, uint32_t at)
{
    struct pair *pair = &wire->pair[at];

    for (enum wire_side side = 0; side < 2; side++) {
        close(pair->fd[side]);
        buffer_release(&pair->in[side]);
    }
    *pair = wire->pair[--wire->pairs];
}

/* Bytes of the first whole message, 0 when it is not there yet. */
static size_t message_bytes(const struct pair *pair, enum wire_side side)
{
    const struct buffer *in = &pair->in[side];
    size_t type = side == WIRE_SERVER || pair->started ? 1 : 0;
    uint32_t len;

    if (in->len < type + sizeof(len))
        return 0;
    memcpy(&len, in->data + type, sizeof(len));
    len = be32toh(len);
    return in->len < type + len ? 0 : type + len;
}

static bool strikes(struct wire *wire, enum wire_side side, const char *message, size_t len)
{
    size_t begins = strlen(wire->begins);
    bool fits;

    pthread_mutex_lock(&wire->lock);
    fits = wire->armed && side == wire->side && (!wire->type || message[0] == wire->type) &&
           len >= 5 + begins && memcmp(message + 5, wire->begins, begins) == 0;
    if (fits && wire->skip > 0) {
        wire->skip--;
        fits = false;
    }
    if (fits) {
        wire->armed = false;
        wire->struck = true;
        pthread_cond_broadcast(&wire->struck_cond);
    }
    pthread_mutex_unlock(&wire->lock);
    return fits;
}

static void forward(struct pair *pair, enum wire_side side, size_t len)
{
    struct buffer *in = &pair->in[side];

    write_all(pair->fd[!side], in->data, len);
    memmove(in->data, in->data + len, in->len - len);
    in->len -= len;
}

/* Forwards whole messages; false when the pair was cut. */
static bool carry(struct wire *wire, struct pair *pair, enum wire_side side)
{
    size_t len;

    while (!pair->held[side] && (len = message_bytes(pair, side)) > 0) {
        bool typed = side == WIRE_SERVER || pair->started;

        if (typed && strikes(wire, side, pair->in[side].data, len)) {
            if (wire->action == WIRE_CUT || wire->action == WIRE_CUT_ALL)
                return false;
            pair->held[side] = true;
            if (wire->action == WIRE_HOLD_HALF)
                write_all(pair->fd[!side], pair->in[side].data, len / 2);
            return true;
        }
        forward(pair, side, len);
        pair->started = true;
    }
    return true;
}

/* What was held is written as it stands, without its half that went before. */
static bool release_pair(struct wire *wire, struct pair *pair)
{
    for (enum wire_side side = 0; side < 2; side++) {
        size_t len = pair->held[side] ? message_bytes(pair, side) : 0;

        if (len == 0)
            continue;
        pair->held[side] = false;
        if (wire->action == WIRE_HOLD_HALF) {
            write_all(pair->fd[!side], pair->in[side].data + len / 2, len - len / 2);
            memmove(pair->in[side].data, pair->in[side].data + len, pair->in[side].len - len);
            pair->in[side].len -= len;
        } else {
            forward(pair, side, len);
        }
        if (!carry(wire, pair, side))
            return false;
    }
    return true;
}

static void accept_one(struct wire *wire)
{
    struct pair *pair = &wire->pair[wire->pairs];
    int client = accept(wire->listener, NULL, NULL), server, one = 1;

    if (client < 0)
        return;
    server = socket(AF_INET, SOCK_STREAM, 0);
    assert(wire->pairs < PAIRS_MAX && server >= 0);
    if (connect(server, (struct sockaddr *)&wire->server, sizeof(wire->server)) != 0) {
        close(server);
        close(client);
        return;
    }
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    *pair = (struct pair){.fd = {client, server}};
    wire->pairs++;
}

/* False when the pair is over. A held side is not read: a stopped client does not read either. */
static bool read_side(struct wire *wire, struct pair *pair, enum wire_side side)
{
    char *room = buffer_reserve(&pair->in[side], READ_BYTES);
    ssize_t n = recv(pair->fd[side], room, READ_BYTES, 0);

    if (n <= 0)
        return false;
    pair->in[side].len += (size_t)n;
    return carry(wire, pair, side);
}

static bool look_at_commands(struct wire *wire)
{
    uint64_t count;
    bool going, closing;

    assert(read(wire->wake, &count, sizeof(count)) == sizeof(count));
    pthread_mutex_lock(&wire->lock);
    going = wire->going;
    wire->going = false;
    closing = wire->closing;
    pthread_mutex_unlock(&wire->lock);
    for (uint32_t i = wire->pairs; going && i-- > 0;)
        if (!release_pair(wire, &wire->pair[i]))
            close_pair(wire, i);
    return !closing;
}

/* fds has two entries for each pair, as it was polled. */
static void read_pairs(struct wire *wire, const struct pollfd *fds)
{
    for (uint32_t i = wire->pairs; i-- > 0;) {
        bool whole = true;

        for (uint32_t side = 0; side < 2 && whole; side++)
            if (fds[2 * i + side].revents)
                whole = read_side(wire, &wire->pair[i], side);
        if (whole)
            continue;
        close_pair(wire, i);
        if (wire->action == WIRE_CUT_ALL && wire_struck(wire)) {
            while (wire->pairs > 0)
                close_pair(wire, wire->pairs - 1);
            return;
        }
    }
}

static void *run_wire(void *arg)
{
    struct wire *wire = arg;
    bool open = true;

    while (open) {
        struct pollfd fds[2 + 2 * PAIRS_MAX];
        uint32_t pairs = wire->pairs;

        fds[0] = (struct pollfd){.fd = wire->listener, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = wire->wake, .events = POLLIN};
        for (uint32_t i = 0; i < pairs; i++)
            for (uint32_t side = 0; side < 2; side++)
                fds[2 + 2 * i + side] = (struct pollfd){
                    .fd = wire->pair[i].held[side] ? -1 : wire->pair[i].fd[side], .events = POLLIN};
        if (poll(fds, 2 + 2 * pairs, -1) < 0)
            continue;
        read_pairs(wire, fds + 2);
        if (fds[0].revents)
            accept_one(wire);
        if (fds[1].revents)
            open = look_at_commands(wire);
    }
    while (wire->pairs > 0)
        close_pair(wire, wire->pairs - 1);
    return NULL;
}

/* Where the server is, as libpq found it. */
static void find_server(struct wire *wire)
{
    PGconn *conn = PQconnectdb(pg_options().dsn);

    assert_int_equal(PQstatus(conn), CONNECTION_OK);
    wire->server.sin_family = AF_INET;
    wire->server.sin_port = htons((uint16_t)atoi(PQport(conn)));
    assert_int_equal(inet_pton(AF_INET, PQhostaddr(conn), &wire->server.sin_addr), 1);
    PQfinish(conn);
}

static void listen_here(struct wire *wire)
{
    struct sockaddr_in here = {.sin_family = AF_INET};
    socklen_t len = sizeof(here);

    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    wire->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(wire->listener, (struct sockaddr *)&here, sizeof(here)), 0);
    assert_int_equal(listen(wire->listener, PAIRS_MAX), 0);
    assert_int_equal(getsockname(wire->listener, (struct sockaddr *)&here, &len), 0);
    snprintf(wire->dsn, sizeof(wire->dsn),
             "%s host=127.0.0.1 hostaddr=127.0.0.1 port=%d sslmode=disable gssencmode=disable",
             pg_options().dsn, ntohs(here.sin_port));
}

struct wire *wire_open(void)
{
    struct wire *wire = xcalloc(1, sizeof(*wire));

    find_server(wire);
    listen_here(wire);
    wire->wake = eventfd(0, EFD_CLOEXEC);
    pthread_mutex_init(&wire->lock, NULL);
    pthread_cond_init(&wire->struck_cond, NULL);
    assert_int_equal(pthread_create(&wire->thread, NULL, run_wire, wire), 0);
    return wire;
}

static void wake(struct wire *wire)
{
    uint64_t one = 1;

    assert_int_equal(write(wire->wake, &one, sizeof(one)), sizeof(one));
}

void wire_close(struct wire *wire)
{
    pthread_mutex_lock(&wire->lock);
    wire->closing = true;
    pthread_mutex_unlock(&wire->lock);
    wake(wire);
    pthread_join(wire->thread, NULL);
    close(wire->listener);
    close(wire->wake);
    pthread_mutex_destroy(&wire->lock);
    pthread_cond_destroy(&wire->struck_cond);
    free(wire);
}

struct db_options wire_options(const struct wire *wire)
{
    struct db_options options = pg_options();

    options.dsn = wire->dsn;
    return options;
}

static void arm(struct wire *wire, enum wire_side side, char type, const char *begins,
                uint32_t skip, enum wire_action action)
{
    pthread_mutex_lock(&wire->lock);
    wire->side = side;
    wire->type = type;
    snprintf(wire->begins, sizeof(wire->begins), "%s", begins);
    wire->skip = skip;
    wire->action = action;
    wire->armed = true;
    wire->struck = false;
    pthread_mutex_unlock(&wire->lock);
}

void wire_when(struct wire *wire, enum wire_side side, char type, const char *begins,
               enum wire_action action)
{
    arm(wire, side, type, begins, 0, action);
}

void wire_when_nth(struct wire *wire, enum wire_side side, uint32_t n, enum wire_action action)
{
    arm(wire, side, 0, "", n, action);
}

void wire_disarm(struct wire *wire)
{
    pthread_mutex_lock(&wire->lock);
    wire->armed = false;
    wire->struck = false;
    pthread_mutex_unlock(&wire->lock);
}

bool wire_struck(struct wire *wire)
{
    bool struck;

    pthread_mutex_lock(&wire->lock);
    struck = wire->struck;
    pthread_mutex_unlock(&wire->lock);
    return struck;
}

void wire_wait(struct wire *wire)
{
    struct timespec until;
    bool struck;
    int rc = 0;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += STRIKE_WAIT_S;
    pthread_mutex_lock(&wire->lock);
    while (!wire->struck && rc == 0)
        rc = pthread_cond_timedwait(&wire->struck_cond, &wire->lock, &until);
    struck = wire->struck;
    pthread_mutex_unlock(&wire->lock);
    assert_true(struck);
}

void wire_go(struct wire *wire)
{
    pthread_mutex_lock(&wire->lock);
    wire->going = true;
    pthread_mutex_unlock(&wire->lock);
    wake(wire);
}
