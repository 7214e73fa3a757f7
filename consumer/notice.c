/*
 * notice.c: a table of what is asked where, and for each row of it a small machine:
 *
 *     wait -> ask for the key (aws: a token, azure: the name of this machine), where one is needed
 *          -> ask whether there is a notice -> wait
 *
 * The services of gcp answer when something changes; they are asked again at once, with the mark
 * (ETag) of what was seen last, so that no change falls between two questions.
 */
#include "consumer/notice.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/clock.h"
#include "config/log.h"
#include "consumer/notice_http.h"

enum {
    TIMEOUT_MS = 2000,
    CHANGE_S = 60,        /* how long gcp waits for a change */
    ABSENT_TIMES = 30,    /* a service that is not there is asked so much less often */
    KEY_AGE_S = 4 * 3600, /* of the six hours that a token is asked for */
    KEY_SIZE = 256,
    URL_SIZE = 1024,
    FILE_BYTES_MAX = 4096,
    SENTENCE_SIZE = 128,
};

/* What is asked of whom. */
struct service {
    const char *name; /* as in worker.notices */
    const char *what;
    const char *path;
    const char *header;   /* with every question */
    const char *key_path; /* NULL: no key is needed */
    const char *key_method;
    const char *key_header; /* NULL: none */
    const char *shows_key;  /* the header that shows the key; NULL: it is not shown */
    bool none_is_404;
    bool waits; /* for a change */
    bool only_rebalance;
    enum notice_said (*parse)(struct slice body, const char *key, struct notice *ret);
};

static enum notice_said parse_aws(struct slice body, const char *key, struct notice *ret)
{
    (void)key;
    return notice_parse_aws(body, ret);
}

static enum notice_said parse_rebalance(struct slice body, const char *key, struct notice *ret)
{
    (void)key;
    return notice_parse_aws_rebalance(body, ret);
}

static enum notice_said parse_preempted(struct slice body, const char *key, struct notice *ret)
{
    (void)key;
    return notice_parse_gcp_preempted(body, ret);
}

static enum notice_said parse_maintenance(struct slice body, const char *key, struct notice *ret)
{
    (void)key;
    return notice_parse_gcp_maintenance(body, ret);
}

#define AZURE_EVENTS "/metadata/scheduledevents?api-version=2020-07-01"
#define AWS_TOKEN                                                                                  \
    .key_path = "/latest/api/token", .key_method = "PUT",                                          \
    .key_header = "X-aws-ec2-metadata-token-ttl-seconds: 21600",                                   \
    .shows_key = "X-aws-ec2-metadata-token: "

static const struct service services[] = {
    {.name = "aws",
     .what = "instance-action",
     .path = "/latest/meta-data/spot/instance-action",
     AWS_TOKEN,
     .none_is_404 = true,
     .parse = parse_aws},
    {.name = "aws",
     .what = "rebalance",
     .path = "/latest/meta-data/events/recommendations/rebalance",
     AWS_TOKEN,
     .none_is_404 = true,
     .only_rebalance = true,
     .parse = parse_rebalance},
    {.name = "gcp",
     .what = "preempted",
     .path = "/computeMetadata/v1/instance/preempted",
     .header = "Metadata-Flavor: Google",
     .waits = true,
     .parse = parse_preempted},
    {.name = "gcp",
     .what = "maintenance-event",
     .path = "/computeMetadata/v1/instance/maintenance-event",
     .header = "Metadata-Flavor: Google",
     .waits = true,
     .parse = parse_maintenance},
    {.name = "azure",
     .what = "scheduledevents",
     .path = AZURE_EVENTS,
     .header = "Metadata: true",
     .key_path = "/metadata/instance/compute/name?api-version=2021-02-01&format=text",
     .key_method = "GET",
     .parse = notice_parse_azure},
};

enum { SERVICES = sizeof services / sizeof services[0] };

struct asker {
    struct notices *notices;
    const struct service *service; /* NULL: the file */
    const char *base;              /* of the address */
    uv_timer_t timer;
    char key[KEY_SIZE]; /* "": none yet */
    uint64_t key_ns;    /* monotonic: since when it is had */
    bool key_good;      /* it was good for an answer */
    char etag[HTTP_ETAG_SIZE];
    char event[64]; /* to be acknowledged */
    bool answered;  /* ever */
    bool absent;    /* said so */
    bool failing;   /* said so */
};

struct notices {
    struct notices_options options;
    struct http *http;
    struct asker *asker[SERVICES + 1];
    unsigned count;
    unsigned closing;
};

static void on_due(uv_timer_t *timer);

/* ------------------------------------------------------------------------------ how it stands ---- */

static void wait_ms(struct asker *asker, uint64_t ms)
{
    uv_timer_start(&asker->timer, on_due, ms, 0);
}

static uint64_t interval_ms(const struct asker *asker)
{
    return asker->notices->options.settings->notice_interval_ms;
}

static void note_answer(struct asker *asker)
{
    if (!asker->answered)
        log_info("notice.watched", "source=%s what=%s", asker->service->name, asker->service->what);
    else if (asker->failing)
        log_info("notice.back", "source=%s what=%s", asker->service->name, asker->service->what);
    asker->answered = true;
    asker->failing = false;
    asker->key_good = true;
}

/* Quiet as long as nobody was ever there. */
static void note_failure(struct asker *asker, const char *why)
{
    char quoted[2 * SENTENCE_SIZE];

    log_quote(quoted, sizeof quoted, why);
    if (!asker->answered) {
        if (!asker->absent)
            log_info("notice.absent", "source=%s what=%s why=%s", asker->service->name,
                     asker->service->what, quoted);
        asker->absent = true;
        wait_ms(asker, ABSENT_TIMES * interval_ms(asker));
        return;
    }
    if (!asker->failing)
        log_warn("notice.failing",
                 "source=%s what=%s why=%s msg=\"notices of this service are not heard of\"",
                 asker->service->name, asker->service->what, quoted);
    asker->failing = true;
    wait_ms(asker, interval_ms(asker));
}

/* Also of what is no answer at all. */
static void note_status(struct asker *asker, const struct http_answer *answer)
{
    char sentence[SENTENCE_SIZE];

    if (answer->failure)
        snprintf(sentence, sizeof sentence, "%s", answer->failure);
    else
        snprintf(sentence, sizeof sentence, "status %ld", answer->status);
    note_failure(asker, sentence);
}

static void give(struct asker *asker, const struct notice *notice)
{
    const struct notices_options *options = &asker->notices->options;

    if (notice->event[0])
        memcpy(asker->event, notice->event, sizeof asker->event);
    options->on_notice(options->context, asker->service ? asker->service->name : "file", notice);
}

/* ------------------------------------------------------------------------------- the services ---- */

static void on_answer(void *context, const struct http_answer *answer);

static void ask(struct asker *asker, const struct http_question *question, http_answered answered)
{
    http_ask(asker->notices->http, question, answered, asker);
}

static void ask_for_notice(struct asker *asker)
{
    const struct service *service = asker->service;
    char url[URL_SIZE], header[KEY_SIZE + 64];
    struct http_question question = {.method = "GET", .url = url, .timeout_ms = TIMEOUT_MS};
    int headers = 0;

    snprintf(url, sizeof url, "%s%s", asker->base, service->path);
    if (service->waits && asker->etag[0]) {
        snprintf(url, sizeof url, "%s%s?wait_for_change=true&timeout_sec=%d&last_etag=%s",
                 asker->base, service->path, CHANGE_S, asker->etag);
        question.timeout_ms += CHANGE_S * 1000;
    }
    if (service->header)
        question.header[headers++] = service->header;
    if (service->shows_key) {
        snprintf(header, sizeof header, "%s%s", service->shows_key, asker->key);
        question.header[headers++] = header;
    }
    ask(asker, &question, on_answer);
}

/* One line of visible characters: it goes into a header, or is compared with names. */
static bool keep_key(struct asker *asker, struct slice key)
{
    while (key.len > 0 && (key.data[key.len - 1] == '\n' || key.data[key.len - 1] == '\r'))
        key.len--;
    if (key.len == 0 || key.len >= KEY_SIZE)
        return false;
    for (size_t i = 0; i < key.len; i++) {
        if (key.data[i] <= ' ' || key.data[i] > '~')
            return false;
    }
    memcpy(asker->key, key.data, key.len);
    asker->key[key.len] = '\0';
    asker->key_ns = clock_mono_ns();
    asker->key_good = false;
    return true;
}

static void on_key(void *context, const struct http_answer *answer)
{
    struct asker *asker = context;

    if (answer->failure || answer->status != 200)
        note_status(asker, answer);
    else if (!keep_key(asker, answer->body))
        note_failure(asker, "no key could be read");
    else
        ask_for_notice(asker);
}

static void ask_for_key(struct asker *asker)
{
    const struct service *service = asker->service;
    char url[URL_SIZE];
    struct http_question question = {
        .method = service->key_method, .url = url, .timeout_ms = TIMEOUT_MS};

    snprintf(url, sizeof url, "%s%s", asker->base, service->key_path);
    question.header[0] = service->key_header ? service->key_header : service->header;
    if (strcmp(service->key_method, "PUT") == 0)
        question.body = ""; /* so that a length of 0 is said */
    ask(asker, &question, on_key);
}

static bool needs_key(const struct asker *asker, uint64_t now_ns)
{
    if (!asker->service->key_path)
        return false;
    return !asker->key[0] || now_ns - asker->key_ns > KEY_AGE_S * (uint64_t)CLOCK_NS_PER_S;
}

static void read_answer(struct asker *asker, const struct http_answer *answer)
{
    struct notice notice = {0};

    switch (asker->service->parse(answer->body, asker->key, &notice)) {
    case NOTICE_UNREAD:
        note_failure(asker, "its answer cannot be read");
        return;
    case NOTICE_GIVEN:
        note_answer(asker);
        give(asker, &notice);
        break;
    case NOTICE_NONE:
        note_answer(asker);
        break;
    }
    memcpy(asker->etag, answer->etag, sizeof asker->etag);
    wait_ms(asker, interval_ms(asker));
}

static void on_answer(void *context, const struct http_answer *answer)
{
    struct asker *asker = context;
    bool refused = answer->status == 401 || answer->status == 403;

    if (answer->failure) {
        asker->etag[0] = '\0';
        note_status(asker, answer);
    } else if (refused && asker->service->shows_key && asker->key[0]) {
        asker->key[0] = '\0';
        if (asker->key_good) /* it is over; at once with a new one */
            wait_ms(asker, 1);
        else
            note_status(asker, answer);
    } else if (answer->status == 404 && asker->service->none_is_404) {
        note_answer(asker);
        wait_ms(asker, interval_ms(asker));
    } else if (answer->status != 200) {
        asker->etag[0] = '\0';
        note_status(asker, answer);
    } else if (asker->service->waits && !answer->from_google) {
        note_failure(asker, "it does not say that it is the metadata service");
    } else {
        read_answer(asker, answer);
    }
}

/* ----------------------------------------------------------------------------------- the file ---- */

static void look_at_file(struct asker *asker)
{
    const char *path = asker->notices->options.settings->notice_file;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char text[FILE_BYTES_MAX];
    struct notice notice;
    ssize_t len;

    if (fd >= 0) {
        len = read(fd, text, sizeof text);
        close(fd);
        notice_parse_file((struct slice){text, len > 0 ? (size_t)len : 0}, clock_wall_ms(),
                          &notice);
        give(asker, &notice);
    }
    wait_ms(asker, interval_ms(asker));
}

static void on_due(uv_timer_t *timer)
{
    struct asker *asker = timer->data;

    if (!asker->service)
        look_at_file(asker);
    else if (needs_key(asker, clock_mono_ns()))
        ask_for_key(asker);
    else
        ask_for_notice(asker);
}

/* ---------------------------------------------------------------------------------- outside ---- */

static void add(struct notices *notices, const struct service *service, const char *base)
{
    struct asker *asker = xcalloc(1, sizeof *asker);

    asker->notices = notices;
    asker->service = service;
    asker->base = base;
    uv_timer_init(notices->options.loop, &asker->timer);
    asker->timer.data = asker;
    notices->asker[notices->count++] = asker;
    wait_ms(asker, 1);
}

static const char *base_of(const struct settings_worker *settings, const char *name)
{
    if (strcmp(name, "aws") == 0)
        return settings->notice_aws_url;
    return strcmp(name, "gcp") == 0 ? settings->notice_gcp_url : settings->notice_azure_url;
}

static bool is_wanted(const struct settings_worker *settings, const char *name)
{
    for (uint32_t i = 0; i < settings->notices.count; i++) {
        if (strcmp(settings->notices.item[i], name) == 0)
            return true;
    }
    return false;
}

static void add_services(struct notices *notices)
{
    const struct settings_worker *settings = notices->options.settings;

    for (size_t i = 0; i < SERVICES; i++) {
        if (is_wanted(settings, services[i].name) &&
            (!services[i].only_rebalance || settings->notice_rebalance))
            add(notices, &services[i], base_of(settings, services[i].name));
    }
}

enum err notices_open(const struct notices_options *options, struct notices **ret)
{
    struct notices *notices = xcalloc(1, sizeof *notices);

    notices->options = *options;
    notices->http = http_new(options->loop);
    if (!notices->http) {
        free(notices);
        return fail(ERR_MEMORY, "worker.notices cannot be looked for");
    }
    add_services(notices);
    if (is_wanted(options->settings, "file"))
        add(notices, NULL, NULL);
    *ret = notices;
    return ERR_OK;
}

void notices_acknowledge(struct notices *notices)
{
    for (unsigned i = 0; i < notices->count; i++) {
        const struct asker *asker = notices->asker[i];
        char url[URL_SIZE], body[256];
        struct http_question question = {
            .method = "POST",
            .url = url,
            .header = {"Metadata: true", "Content-Type: application/json"},
            .body = body,
            .timeout_ms = TIMEOUT_MS};
        long status;

        if (!asker->event[0])
            continue;
        snprintf(url, sizeof url, "%s" AZURE_EVENTS, asker->base);
        snprintf(body, sizeof body, "{\"StartRequests\":[{\"EventId\":\"%s\"}]}", asker->event);
        status = http_ask_now(&question);
        log_info("notice.acknowledged", "source=%s event=%s status=%ld", asker->service->name,
                 asker->event, status);
    }
}

static void on_asker_closed(uv_handle_t *handle)
{
    struct asker *asker = handle->data;
    struct notices *notices = asker->notices;

    free(asker);
    if (--notices->closing == 0)
        free(notices);
}

void notices_close(struct notices *notices)
{
    if (!notices)
        return;
    http_free(notices->http);
    notices->closing = notices->count;
    if (notices->count == 0) {
        free(notices);
        return;
    }
    for (unsigned i = 0, count = notices->count; i < count; i++) {
        struct asker *asker = notices->asker[i];

        uv_timer_stop(&asker->timer);
        uv_close((uv_handle_t *)&asker->timer, on_asker_closed);
    }
}
