/*
 * webhook_post.c: the scheduler's own sender without its tables: posts to each URL of standard input,
 * a line each, AT_ONCE at a time, and prints a line for each in their order: status (0: no answer), URL, and
 * what went wrong or "-", between tabs.
 *
 *   webhook_post <urls >outcomes      settings from MSERVE_CONFIG and the environment
 */
#include "config/clock.h"
#include "config/log.h"
#include "config/settings.h"
#include "scheduler/sender.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum { URLS_MAX = 1024, LINE_SIZE = 4096, AT_ONCE = 32 };

struct post {
    char *url;
    uint32_t status;
    char why[SENDER_WHY_SIZE];
};

static struct post post[URLS_MAX];
static size_t post_count, sent_count, answered_count;
static struct sender *sender;

static void on_answered_cb(void *context, const struct sender_answer *answer);

static void send_next(void)
{
    struct post *one = &post[sent_count++];
    struct sender_request request = {
        .url = one->url, .header = {"webhook-id: evt_1"}, .body = SLICE("{}")};

    sender_send(sender, &request, on_answered_cb, one);
}

static void on_answered_cb(void *context, const struct sender_answer *answer)
{
    struct post *one = context;

    one->status = answer->status;
    snprintf(one->why, sizeof(one->why), "%s", answer->why != NULL ? answer->why : "-");
    answered_count++;
    if (sent_count < post_count)
        send_next();
    else if (answered_count == post_count)
        sender_close(sender);
}

static void read_urls(void)
{
    char line[LINE_SIZE];

    while (post_count < URLS_MAX && fgets(line, sizeof(line), stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        post[post_count++].url = xstrdup(line);
    }
}

int main(void)
{
    struct settings *settings = NULL;
    uv_loop_t loop;
    enum err err;

    log_init("webhook_post", LOG_ERROR, LOG_LOGFMT, false);
    err = settings_load(NULL, &settings);
    if (!err && uv_loop_init(&loop) == 0)
        err = sender_open(&loop, &settings->webhook, &sender);
    if (err)
        return err_exit_status(err);
    read_urls();
    while (sent_count < post_count && sent_count < AT_ONCE)
        send_next();
    if (post_count > 0)
        uv_run(&loop, UV_RUN_DEFAULT);
    for (size_t i = 0; i < post_count; i++) {
        printf("%u\t%s\t%s\n", post[i].status, post[i].url, post[i].why);
        free(post[i].url);
    }
    uv_loop_close(&loop);
    settings_free(settings);
    return answered_count == post_count ? 0 : 70;
}
