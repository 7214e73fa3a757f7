/* sender.c: libcurl's multi handle and libuv's loop, each told what the other waits for. */
#include "scheduler/sender.h"

#include "config/clock.h"
#include "config/failpoint.h"
#include "config/log.h"
#include "producer/webhook_url.h"
#include "scheduler/policy/address.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { RETRY_AFTER_SIZE = 64 };

/* A request under way. */
struct exchange {
    struct sender *sender;
    struct exchange *next;
    CURL *easy;
    struct curl_slist *header;
    struct buffer url;
    uint64_t began_ns;
    size_t header_bytes;
    size_t body_bytes;
    bool is_answered;        /* the headers of an answer are whole */
    bool is_refused;         /* its URL: it is not sent */
    const char *denied_rule; /* that its address breaks; NULL: none */
    char retry_after[RETRY_AFTER_SIZE];
    char failure[CURL_ERROR_SIZE];
    sender_answered answered;
    void *context;
};

/* A socket of curl's that the loop watches. */
struct watch {
    uv_poll_t poll;
    struct sender *sender;
    curl_socket_t fd;
};

struct sender {
    const struct settings_webhook *settings;
    struct network network[SETTINGS_LIST_MAX];
    CURLM *multi;
    uv_loop_t *loop;
    uv_timer_t timer;
    struct exchange *open;
    uv_timer_t refused_timer;
    int timers;               /* not closed yet */
    struct exchange *refused; /* URLs that are not allowed: answered from the loop too */
};

/* -------------------------------------------------------------------------------- what comes ---- */

/* A body beyond the limit is cut: what it would go on to say interests nobody. */
static size_t on_body_cb(char *data, size_t size, size_t count, void *context)
{
    struct exchange *exchange = context;

    (void)data;
    exchange->body_bytes += size * count;
    return exchange->body_bytes > SENDER_ANSWER_BYTES_MAX ? 0 : size * count;
}

static bool header_value(struct slice line, const char *name, struct slice *ret)
{
    size_t len = strlen(name);

    if (line.len <= len || strncasecmp(line.data, name, len) != 0 || line.data[len] != ':')
        return false;
    *ret = (struct slice){line.data + len + 1, line.len - len - 1};
    while (ret->len > 0 && (ret->data[0] == ' ' || ret->data[0] == '\t')) {
        ret->data++;
        ret->len--;
    }
    while (ret->len > 0 && memchr("\r\n\t ", ret->data[ret->len - 1], 4))
        ret->len--;
    return true;
}

static void keep_retry_after(struct exchange *exchange, struct slice value)
{
    if (value.len >= RETRY_AFTER_SIZE || memchr(value.data, '\0', value.len))
        return;
    memcpy(exchange->retry_after, value.data, value.len);
    exchange->retry_after[value.len] = '\0';
}

static size_t on_header_cb(char *data, size_t size, size_t count, void *context)
{
    struct exchange *exchange = context;
    struct slice line = {data, size * count};
    struct slice value;
    long status = 0;

    if (exchange->header_bytes == 0)
        FAILPOINT("webhook.sent");
    exchange->header_bytes += line.len;
    if (exchange->header_bytes > SENDER_ANSWER_BYTES_MAX)
        return 0;
    if (header_value(line, "Retry-After", &value))
        keep_retry_after(exchange, value);
    if (line.len <= 2 && strspn(line.data, "\r\n") >= line.len) {
        curl_easy_getinfo(exchange->easy, CURLINFO_RESPONSE_CODE, &status);
        exchange->is_answered = exchange->is_answered || status >= 200;
    }
    return line.len;
}

/* --------------------------------------------------------------------------- whom it goes to ---- */

/* Of the very address that is about to be connected to. */
static bool is_allowed(struct exchange *exchange, const struct sockaddr *address)
{
    const struct sender *sender = exchange->sender;
    const char *rule =
        address_denied(address, sender->network, sender->settings->private_networks.count);

    if (rule)
        exchange->denied_rule = rule;
    return rule == NULL;
}

static curl_socket_t on_open_socket_cb(void *context, curlsocktype purpose,
                                       struct curl_sockaddr *address)
{
    if (purpose != CURLSOCKTYPE_IPCXN ||
        (address->family != AF_INET && address->family != AF_INET6) ||
        !is_allowed(context, &address->addr))
        return CURL_SOCKET_BAD;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Before each request: of a connection that was kept open too. */
static int on_connected_cb(void *context, char *peer_ip, char *local_ip, int peer_port,
                           int local_port)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    const struct sockaddr *address = NULL;

    (void)local_ip;
    (void)peer_port;
    (void)local_port;
    if (inet_pton(AF_INET, peer_ip, &v4.sin_addr) == 1)
        address = (const struct sockaddr *)&v4;
    else if (inet_pton(AF_INET6, peer_ip, &v6.sin6_addr) == 1)
        address = (const struct sockaddr *)&v6;
    return address && is_allowed(context, address) ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

/* ------------------------------------------------------------------------------- one request ---- */

static void exchange_free(struct exchange *exchange)
{
    curl_easy_cleanup(exchange->easy);
    curl_slist_free_all(exchange->header);
    buffer_release(&exchange->url);
    free(exchange);
}

static void set_request(struct exchange *exchange, const struct sender_request *request)
{
    CURL *easy = exchange->easy;

    exchange->header = curl_slist_append(NULL, "Content-Type: application/json");
    exchange->header = curl_slist_append(exchange->header, "Expect:");
    for (int i = 0; i < SENDER_HEADERS_MAX && request->header[i]; i++)
        exchange->header = curl_slist_append(exchange->header, request->header[i]);
    curl_easy_setopt(easy, CURLOPT_URL, exchange->url.data);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body.data);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)request->body.len);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, exchange->header);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "mserve/" MSERVE_VERSION);
}

/* What must hold of every connection (sender.h). */
static void set_safety(struct exchange *exchange, const struct settings_webhook *settings)
{
    CURL *easy = exchange->easy;
    bool is_plain = strncmp(exchange->url.data, "http://", 7) == 0;

    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, is_plain ? "http" : "https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* not even what the environment says */
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (settings->ca_file[0])
        curl_easy_setopt(easy, CURLOPT_CAINFO, settings->ca_file);
    /* Certificates that are in one file are read once and kept, those of a folder with each connection. */
    if (settings->ca_file[0] || curl_version_info(CURLVERSION_NOW)->cainfo)
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket_cb);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, exchange);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_connected_cb);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, exchange);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)SENDER_CONNECT_MS);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)settings->timeout_ms);
    /* It would be gone through with each request: ten thousand names, ten thousand times. */
    curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, 0L);
    /* Or the end of a time-out would wait for the name server that caused it. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
}

static void set_callbacks(struct exchange *exchange)
{
    CURL *easy = exchange->easy;

    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body_cb);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, exchange);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header_cb);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, exchange);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, exchange->failure);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, exchange);
}

/* What the other end may have had a hand in is made harmless for tables and terminals. */
static void make_plain(char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            *text = '?';
}

/* Why there is no answer. */
static void explain(const struct exchange *exchange, CURLcode code, char why[SENDER_WHY_SIZE])
{
    const char *text = exchange->failure[0] ? exchange->failure : curl_easy_strerror(code);

    if (exchange->is_refused)
        text = "its URL is not allowed by the settings webhook.*";
    else if (exchange->header_bytes > SENDER_ANSWER_BYTES_MAX)
        text = "the headers of its answer are larger than 64 KiB";
    if (exchange->denied_rule &&
        (code == CURLE_COULDNT_CONNECT || code == CURLE_ABORTED_BY_CALLBACK))
        snprintf(why, SENDER_WHY_SIZE, "its address may not be sent to: %s", exchange->denied_rule);
    else
        snprintf(why, SENDER_WHY_SIZE, "%s", text);
    make_plain(why);
}

static void give_answer(struct exchange *exchange, CURLcode code)
{
    struct sender_answer answer = {.took_ns = clock_mono_ns() - exchange->began_ns};
    char why[SENDER_WHY_SIZE];
    long status = 0;

    if (exchange->is_answered) {
        curl_easy_getinfo(exchange->easy, CURLINFO_RESPONSE_CODE, &status);
        answer.status = (uint32_t)status;
        answer.retry_after = (struct slice){exchange->retry_after, strlen(exchange->retry_after)};
        snprintf(why, sizeof(why), "it answered %ld", status);
    } else {
        explain(exchange, code, why);
    }
    if (status < 200 || status > 299)
        answer.why = why;
    exchange->answered(exchange->context, &answer);
    exchange_free(exchange);
}

/* ---------------------------------------------------------------------------------- the loop ---- */

static void take_out(struct exchange **list, struct exchange *exchange)
{
    while (*list != exchange)
        list = &(*list)->next;
    *list = exchange->next;
}

static void deliver_finished(struct sender *sender)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(sender->multi, &left))) {
        CURLcode code = message->data.result;
        struct exchange *exchange;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &exchange);
        take_out(&sender->open, exchange);
        curl_multi_remove_handle(sender->multi, exchange->easy);
        give_answer(exchange, code);
    }
}

static void act(struct sender *sender, curl_socket_t fd, int events)
{
    int running;

    curl_multi_socket_action(sender->multi, fd, events, &running);
    deliver_finished(sender);
}

static void on_timer_cb(uv_timer_t *timer)
{
    act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static void on_poll_cb(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    int what = 0;

    if (status < 0)
        what = CURL_CSELECT_ERR;
    if (events & UV_READABLE)
        what |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        what |= CURL_CSELECT_OUT;
    act(watch->sender, watch->fd, what);
}

static void on_poll_closed_cb(uv_handle_t *handle)
{
    free(handle->data);
}

static struct watch *watch_new(struct sender *sender, curl_socket_t fd)
{
    struct watch *watch = xcalloc(1, sizeof(*watch));

    watch->sender = sender;
    watch->fd = fd;
    uv_poll_init_socket(sender->loop, &watch->poll, fd);
    watch->poll.data = watch;
    curl_multi_assign(sender->multi, fd, watch);
    return watch;
}

/* curl says which sockets it waits for. */
static int on_socket_cb(CURL *easy, curl_socket_t fd, int what, void *context, void *known)
{
    struct sender *sender = context;
    struct watch *watch = known;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (watch) {
            uv_poll_stop(&watch->poll);
            uv_close((uv_handle_t *)&watch->poll, on_poll_closed_cb);
            curl_multi_assign(sender->multi, fd, NULL);
        }
        return 0;
    }
    if (!watch)
        watch = watch_new(sender, fd);
    uv_poll_start(&watch->poll,
                  (what & CURL_POLL_IN ? UV_READABLE : 0) |
                      (what & CURL_POLL_OUT ? UV_WRITABLE : 0),
                  on_poll_cb);
    return 0;
}

/* Never at once: curl asks for it from inside sender_send() too. */
static int on_timer_wanted_cb(CURLM *multi, long timeout_ms, void *context)
{
    struct sender *sender = context;

    (void)multi;
    if (timeout_ms < 0)
        uv_timer_stop(&sender->timer);
    else
        uv_timer_start(&sender->timer, on_timer_cb, (uint64_t)timeout_ms, 0);
    return 0;
}

static void on_refused_cb(uv_timer_t *timer)
{
    struct sender *sender = timer->data;
    struct exchange *exchange;

    while ((exchange = sender->refused)) {
        sender->refused = exchange->next;
        give_answer(exchange, CURLE_URL_MALFORMAT);
    }
}

/* ----------------------------------------------------------------------------------- outside ---- */

static enum err parse_networks(struct sender *sender)
{
    const struct settings_list *list = &sender->settings->private_networks;
    enum err rc = ERR_OK;

    for (uint32_t i = 0; !rc && i < list->count; i++)
        rc = network_parse((struct slice){list->item[i], strlen(list->item[i])},
                           "webhook.private_networks", &sender->network[i]);
    return rc;
}

enum err sender_open(uv_loop_t *loop, const struct settings_webhook *settings, struct sender **ret)
{
    struct sender *sender = xcalloc(1, sizeof(*sender));
    enum err rc;

    sender->settings = settings;
    sender->loop = loop;
    rc = parse_networks(sender);
    if (!rc &&
        (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !(sender->multi = curl_multi_init())))
        rc = fail(ERR_IO, "webhooks: libcurl could not be set up");
    if (rc) {
        free(sender);
        return rc;
    }
    uv_timer_init(loop, &sender->timer);
    uv_timer_init(loop, &sender->refused_timer);
    sender->timers = 2;
    sender->timer.data = sender;
    sender->refused_timer.data = sender;
    curl_multi_setopt(sender->multi, CURLMOPT_SOCKETFUNCTION, on_socket_cb);
    curl_multi_setopt(sender->multi, CURLMOPT_SOCKETDATA, sender);
    curl_multi_setopt(sender->multi, CURLMOPT_TIMERFUNCTION, on_timer_wanted_cb);
    curl_multi_setopt(sender->multi, CURLMOPT_TIMERDATA, sender);
    curl_multi_setopt(sender->multi, CURLMOPT_MAXCONNECTS, (long)settings->connections);
    *ret = sender;
    return ERR_OK;
}

void sender_send(struct sender *sender, const struct sender_request *request,
                 sender_answered answered, void *context)
{
    struct exchange *exchange = xcalloc(1, sizeof(*exchange));
    struct exchange **list = &sender->open;

    exchange->sender = sender;
    exchange->answered = answered;
    exchange->context = context;
    exchange->began_ns = clock_mono_ns();
    exchange->is_refused =
        webhook_url_check(sender->settings, request->url, &exchange->url) != ERR_OK;
    if (!exchange->is_refused) {
        exchange->easy = curl_easy_init();
        if (!exchange->easy)
            abort(); /* memory: as xmalloc() */
        set_request(exchange, request);
        set_safety(exchange, sender->settings);
        set_callbacks(exchange);
        curl_multi_add_handle(sender->multi, exchange->easy);
    } else {
        list = &sender->refused;
        uv_timer_start(&sender->refused_timer, on_refused_cb, 0, 0);
    }
    exchange->next = *list;
    *list = exchange;
}

static void on_closed_cb(uv_handle_t *handle)
{
    struct sender *sender = handle->data;

    if (--sender->timers == 0)
        free(sender);
}

static void drop_all(struct exchange **list)
{
    while (*list) {
        struct exchange *exchange = *list;

        *list = exchange->next;
        if (exchange->easy)
            curl_multi_remove_handle(exchange->sender->multi, exchange->easy);
        exchange_free(exchange);
    }
}

void sender_close(struct sender *sender)
{
    if (!sender)
        return;
    drop_all(&sender->open);
    drop_all(&sender->refused);
    curl_multi_cleanup(sender->multi); /* closes what it kept open, through on_socket_cb() */
    uv_close((uv_handle_t *)&sender->timer, on_closed_cb);
    uv_close((uv_handle_t *)&sender->refused_timer, on_closed_cb);
}
