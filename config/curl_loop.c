/* curl_loop.c: curl's sockets are watched by the loop, and its one timer is the loop's. */
#include "config/curl_loop.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct curl_loop {
    CURLM *multi;
    uv_loop_t *loop;
    uv_timer_t timer;
    curl_loop_done done;
};

/* A socket of curl's that the loop watches. */
struct watch {
    uv_poll_t poll;
    struct curl_loop *curl_loop;
    curl_socket_t fd;
};

static void end_finished(struct curl_loop *curl_loop)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(curl_loop->multi, &left))) {
        CURLcode code = message->data.result;
        CURL *easy = message->easy_handle;
        void *context;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &context);
        curl_multi_remove_handle(curl_loop->multi, easy);
        curl_loop->done(context, code);
    }
}

static void act(struct curl_loop *curl_loop, curl_socket_t fd, int events)
{
    int running;

    curl_multi_socket_action(curl_loop->multi, fd, events, &running);
    end_finished(curl_loop);
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
    act(watch->curl_loop, watch->fd, what);
}

static void on_closed_cb(uv_handle_t *handle)
{
    free(handle->data);
}

static struct watch *watch_new(struct curl_loop *curl_loop, curl_socket_t fd)
{
    struct watch *watch = xcalloc(1, sizeof(*watch));

    watch->curl_loop = curl_loop;
    watch->fd = fd;
    uv_poll_init_socket(curl_loop->loop, &watch->poll, fd);
    watch->poll.data = watch;
    curl_multi_assign(curl_loop->multi, fd, watch);
    return watch;
}

/* curl says which sockets it waits for. */
static int on_socket_cb(CURL *easy, curl_socket_t fd, int what, void *context, void *known)
{
    struct curl_loop *curl_loop = context;
    struct watch *watch = known;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (watch) {
            uv_poll_stop(&watch->poll);
            uv_close((uv_handle_t *)&watch->poll, on_closed_cb);
            curl_multi_assign(curl_loop->multi, fd, NULL);
        }
        return 0;
    }
    if (!watch)
        watch = watch_new(curl_loop, fd);
    uv_poll_start(&watch->poll,
                  (what & CURL_POLL_IN ? UV_READABLE : 0) |
                      (what & CURL_POLL_OUT ? UV_WRITABLE : 0),
                  on_poll_cb);
    return 0;
}

/* A timer of 0 runs in the loop's next round, so never inside curl_loop_add(), which curl asks from. */
static int on_timer_wanted_cb(CURLM *multi, long timeout_ms, void *context)
{
    struct curl_loop *curl_loop = context;

    (void)multi;
    if (timeout_ms < 0)
        uv_timer_stop(&curl_loop->timer);
    else
        uv_timer_start(&curl_loop->timer, on_timer_cb, (uint64_t)timeout_ms, 0);
    return 0;
}

struct curl_loop *curl_loop_new(uv_loop_t *loop, long connections, curl_loop_done done)
{
    struct curl_loop *curl_loop = xcalloc(1, sizeof(*curl_loop));

    if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
        curl_loop->multi = curl_multi_init();
    if (!curl_loop->multi) {
        free(curl_loop);
        return NULL;
    }
    curl_loop->loop = loop;
    curl_loop->done = done;
    uv_timer_init(loop, &curl_loop->timer);
    curl_loop->timer.data = curl_loop;
    curl_multi_setopt(curl_loop->multi, CURLMOPT_SOCKETFUNCTION, on_socket_cb);
    curl_multi_setopt(curl_loop->multi, CURLMOPT_SOCKETDATA, curl_loop);
    curl_multi_setopt(curl_loop->multi, CURLMOPT_TIMERFUNCTION, on_timer_wanted_cb);
    curl_multi_setopt(curl_loop->multi, CURLMOPT_TIMERDATA, curl_loop);
    if (connections > 0)
        curl_multi_setopt(curl_loop->multi, CURLMOPT_MAXCONNECTS, connections);
    return curl_loop;
}

void curl_loop_add(struct curl_loop *curl_loop, CURL *easy)
{
    curl_multi_add_handle(curl_loop->multi, easy);
}

void curl_loop_remove(struct curl_loop *curl_loop, CURL *easy)
{
    curl_multi_remove_handle(curl_loop->multi, easy);
}

void curl_loop_free(struct curl_loop *curl_loop)
{
    if (!curl_loop)
        return;
    curl_multi_cleanup(curl_loop->multi); /* closes what it kept open, through on_socket_cb() */
    uv_timer_stop(&curl_loop->timer);
    uv_close((uv_handle_t *)&curl_loop->timer, on_closed_cb);
}

bool curl_header_value(struct slice line, const char *name, struct slice *ret)
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
