/* notice_http.c: libcurl's multi handle and libuv's loop, each told what the other waits for. */
#include "consumer/notice_http.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config/log.h"

enum { HEADER_BYTES_MAX = 65536 };

/* A question under way. */
struct exchange {
    struct http *http; /* NULL: nobody's loop */
    struct exchange *next;
    CURL *easy;
    struct curl_slist *header;
    struct buffer body;
    size_t header_bytes;
    struct http_answer answer;
    char failure[CURL_ERROR_SIZE];
    http_answered answered;
    void *context;
};

/* A socket of curl's that the loop watches. */
struct watch {
    uv_poll_t poll;
    struct http *http;
    curl_socket_t fd;
};

struct http {
    CURLM *multi;
    uv_loop_t *loop;
    uv_timer_t timer;
    struct exchange *open;
};

/* ------------------------------------------------------------------------------- one question ---- */

static size_t on_body(char *data, size_t size, size_t count, void *context)
{
    struct exchange *exchange = context;
    size_t len = size * count;

    if (len > HTTP_ANSWER_BYTES_MAX - exchange->body.len)
        return 0; /* curl gives up */
    buffer_add(&exchange->body, data, len);
    return len;
}

/* The value of a header line, when it is this one; names are not case-sensitive. */
static bool header_value(struct slice line, const char *name, struct slice *ret)
{
    size_t len = strlen(name);

    if (line.len <= len || strncasecmp(line.data, name, len) != 0 || line.data[len] != ':')
        return false;
    *ret = (struct slice){line.data + len + 1, line.len - len - 1};
    while (ret->len > 0 && ret->data[0] == ' ') {
        ret->data++;
        ret->len--;
    }
    while (ret->len > 0 && strchr("\r\n ", ret->data[ret->len - 1]))
        ret->len--;
    return true;
}

/* It goes into the next question's address, so only what needs no quoting is taken. */
static void keep_etag(struct slice value, char out[HTTP_ETAG_SIZE])
{
    static const char allowed[] =
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";

    out[0] = '\0';
    if (value.len == 0 || value.len >= HTTP_ETAG_SIZE || memchr(value.data, '\0', value.len))
        return;
    memcpy(out, value.data, value.len);
    out[value.len] = '\0';
    if (strspn(out, allowed) != value.len)
        out[0] = '\0';
}

static size_t on_header(char *data, size_t size, size_t count, void *context)
{
    struct exchange *exchange = context;
    struct slice line = {data, size * count};
    struct slice value;

    exchange->header_bytes += line.len;
    if (exchange->header_bytes > HEADER_BYTES_MAX)
        return 0;
    if (header_value(line, "ETag", &value))
        keep_etag(value, exchange->answer.etag);
    if (header_value(line, "Metadata-Flavor", &value))
        exchange->answer.from_google = value.len == 6 && memcmp(value.data, "Google", 6) == 0;
    return line.len;
}

static void exchange_free(struct exchange *exchange)
{
    curl_easy_cleanup(exchange->easy);
    curl_slist_free_all(exchange->header);
    buffer_release(&exchange->body);
    free(exchange);
}

static void set_question(struct exchange *exchange, const struct http_question *question)
{
    CURL *easy = exchange->easy;

    for (int i = 0; i < HTTP_HEADERS_MAX && question->header[i]; i++)
        exchange->header = curl_slist_append(exchange->header, question->header[i]);
    curl_easy_setopt(easy, CURLOPT_URL, question->url);
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, question->method);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, exchange->header);
    if (question->body)
        curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, question->body);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)question->timeout_ms);
}

static struct exchange *exchange_new(const struct http_question *question)
{
    struct exchange *exchange = xcalloc(1, sizeof *exchange);
    CURL *easy = exchange->easy = curl_easy_init();

    if (!easy) {
        free(exchange);
        return NULL;
    }
    set_question(exchange, question);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, 2000L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* not even what the environment says */
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_MAXFILESIZE, (long)HTTP_ANSWER_BYTES_MAX);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, exchange);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, exchange);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, exchange->failure);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, exchange);
    return exchange;
}

static void fill_answer(struct exchange *exchange, CURLcode code)
{
    struct http_answer *answer = &exchange->answer;

    curl_easy_getinfo(exchange->easy, CURLINFO_RESPONSE_CODE, &answer->status);
    answer->body = buffer_slice(&exchange->body);
    if (code != CURLE_OK)
        answer->failure =
            exchange->failure[0] != '\0' ? exchange->failure : curl_easy_strerror(code);
}

long http_ask_now(const struct http_question *question)
{
    struct exchange *exchange = exchange_new(question);
    long status = 0;

    if (!exchange)
        return 0;
    if (curl_easy_perform(exchange->easy) == CURLE_OK)
        curl_easy_getinfo(exchange->easy, CURLINFO_RESPONSE_CODE, &status);
    exchange_free(exchange);
    return status;
}

/* ---------------------------------------------------------------------------------- the loop ---- */

static void take_out(struct http *http, struct exchange *exchange)
{
    struct exchange **at = &http->open;

    while (*at != exchange)
        at = &(*at)->next;
    *at = exchange->next;
    curl_multi_remove_handle(http->multi, exchange->easy);
}

static void deliver_finished(struct http *http)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(http->multi, &left))) {
        CURLcode code = message->data.result;
        struct exchange *exchange;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &exchange);
        take_out(http, exchange);
        fill_answer(exchange, code);
        exchange->answered(exchange->context, &exchange->answer);
        exchange_free(exchange);
    }
}

static void act(struct http *http, curl_socket_t fd, int events)
{
    int running;

    curl_multi_socket_action(http->multi, fd, events, &running);
    deliver_finished(http);
}

static void on_timer(uv_timer_t *timer)
{
    act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    int what = 0;

    if (status < 0)
        what = CURL_CSELECT_ERR;
    if (events & UV_READABLE)
        what |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        what |= CURL_CSELECT_OUT;
    act(watch->http, watch->fd, what);
}

static void on_poll_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static struct watch *watch_new(struct http *http, curl_socket_t fd)
{
    struct watch *watch = xcalloc(1, sizeof *watch);

    watch->http = http;
    watch->fd = fd;
    uv_poll_init_socket(http->loop, &watch->poll, fd);
    watch->poll.data = watch;
    curl_multi_assign(http->multi, fd, watch);
    return watch;
}

/* curl says which sockets it waits for. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *known)
{
    struct http *http = context;
    struct watch *watch = known;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (watch) {
            uv_poll_stop(&watch->poll);
            uv_close((uv_handle_t *)&watch->poll, on_poll_closed);
            curl_multi_assign(http->multi, fd, NULL);
        }
        return 0;
    }
    if (!watch)
        watch = watch_new(http, fd);
    uv_poll_start(&watch->poll,
                  (what & CURL_POLL_IN ? UV_READABLE : 0) |
                      (what & CURL_POLL_OUT ? UV_WRITABLE : 0),
                  on_poll);
    return 0;
}

/* Never at once: curl asks for it from inside http_ask() too. */
static int on_timer_wanted(CURLM *multi, long timeout_ms, void *context)
{
    struct http *http = context;

    (void)multi;
    if (timeout_ms < 0)
        uv_timer_stop(&http->timer);
    else
        uv_timer_start(&http->timer, on_timer, timeout_ms > 0 ? (uint64_t)timeout_ms : 1, 0);
    return 0;
}

/* ----------------------------------------------------------------------------------- outside ---- */

struct http *http_new(uv_loop_t *loop)
{
    struct http *http = xcalloc(1, sizeof *http);

    if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
        http->multi = curl_multi_init();
    if (!http->multi) {
        log_error("notice.off", "msg=\"libcurl could not be set up\"");
        free(http);
        return NULL;
    }
    http->loop = loop;
    uv_timer_init(loop, &http->timer);
    http->timer.data = http;
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timer_wanted);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
    return http;
}

void http_ask(struct http *http, const struct http_question *question, http_answered answered,
              void *context)
{
    struct exchange *exchange = exchange_new(question);

    if (!exchange) {
        log_error("notice.off", "msg=\"libcurl could not be set up\"");
        return;
    }
    exchange->http = http;
    exchange->answered = answered;
    exchange->context = context;
    exchange->next = http->open;
    http->open = exchange;
    curl_multi_add_handle(http->multi, exchange->easy);
}

static void on_timer_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void http_free(struct http *http)
{
    if (!http)
        return;
    while (http->open) {
        struct exchange *exchange = http->open;

        take_out(http, exchange);
        exchange_free(exchange);
    }
    curl_multi_cleanup(http->multi); /* closes what it kept open, through on_socket() */
    uv_timer_stop(&http->timer);
    uv_close((uv_handle_t *)&http->timer, on_timer_closed);
}
