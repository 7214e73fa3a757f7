/* notice_http.c: what a question may do, and what is kept of its answer. */
#include "consumer/notice_http.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "config/curl_loop.h"
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

struct http {
    struct curl_loop *curl;
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
    if (curl_header_value(line, "ETag", &value))
        keep_etag(value, exchange->answer.etag);
    if (curl_header_value(line, "Metadata-Flavor", &value))
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
}

static void on_done_cb(void *context, CURLcode code)
{
    struct exchange *exchange = context;

    take_out(exchange->http, exchange);
    fill_answer(exchange, code);
    exchange->answered(exchange->context, &exchange->answer);
    exchange_free(exchange);
}

/* ----------------------------------------------------------------------------------- outside ---- */

struct http *http_new(uv_loop_t *loop)
{
    struct http *http = xcalloc(1, sizeof *http);

    http->curl = curl_loop_new(loop, 0, on_done_cb);
    if (!http->curl) {
        log_error("notice.off", "msg=\"libcurl could not be set up\"");
        free(http);
        return NULL;
    }
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
    curl_loop_add(http->curl, exchange->easy);
}

void http_free(struct http *http)
{
    if (!http)
        return;
    while (http->open) {
        struct exchange *exchange = http->open;

        take_out(http, exchange);
        curl_loop_remove(http->curl, exchange->easy);
        exchange_free(exchange);
    }
    curl_loop_free(http->curl);
    free(http);
}
