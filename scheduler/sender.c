/* sender.c: what a request may do, whom it may go to, and what is kept of its answer. */
#include "scheduler/sender.h"

#include "config/clock.h"
#include "config/curl_loop.h"
#include "config/failpoint.h"
#include "config/log.h"
#include "producer/webhook_url.h"
#include "scheduler/policy/address.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

struct sender {
    const struct settings_webhook *settings;
    struct network network[SETTINGS_LIST_MAX];
    size_t networks;
    struct curl_loop *curl;
    struct exchange *open;
    struct exchange *refused; /* URLs that are not allowed: answered from the loop too */
    uv_timer_t refused_timer;
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
    if (curl_header_value(line, "Retry-After", &value))
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
    const char *rule = address_denied(address, sender->network, sender->networks);

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

/* ----------------------------------------------------------------------------------- its end ---- */

static void take_out(struct exchange **list, struct exchange *exchange)
{
    while (*list != exchange)
        list = &(*list)->next;
    *list = exchange->next;
}

static void on_done_cb(void *context, CURLcode code)
{
    struct exchange *exchange = context;

    take_out(&exchange->sender->open, exchange);
    give_answer(exchange, code);
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

enum err sender_open(uv_loop_t *loop, const struct settings_webhook *settings, struct sender **ret)
{
    struct sender *sender = xcalloc(1, sizeof(*sender));
    enum err rc;

    sender->settings = settings;
    rc = webhook_networks(settings, sender->network, &sender->networks);
    if (!rc && !(sender->curl = curl_loop_new(loop, (long)settings->connections, on_done_cb)))
        rc = fail(ERR_IO, "webhooks: libcurl could not be set up");
    if (rc) {
        free(sender);
        return rc;
    }
    uv_timer_init(loop, &sender->refused_timer);
    sender->refused_timer.data = sender;
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
        curl_loop_add(sender->curl, exchange->easy);
    } else {
        list = &sender->refused;
        uv_timer_start(&sender->refused_timer, on_refused_cb, 0, 0);
    }
    exchange->next = *list;
    *list = exchange;
}

static void on_closed_cb(uv_handle_t *handle)
{
    free(handle->data);
}

static void drop_all(struct exchange **list)
{
    while (*list) {
        struct exchange *exchange = *list;

        *list = exchange->next;
        if (exchange->easy)
            curl_loop_remove(exchange->sender->curl, exchange->easy);
        exchange_free(exchange);
    }
}

void sender_close(struct sender *sender)
{
    if (!sender)
        return;
    drop_all(&sender->open);
    drop_all(&sender->refused);
    curl_loop_free(sender->curl);
    uv_close((uv_handle_t *)&sender->refused_timer, on_closed_cb);
}
