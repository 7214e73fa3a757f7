/* submit_options.c: what was typed, checked, and the key that follows from it. */
#include "config/json.h"
#include "config/log.h"
#include "config/sha256.h"
#include "config/units.h"
#include "config/utf8.h"
#include "producer/submit_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    METADATA_KEY_MAX = 64, /* characters */
    METADATA_VALUE_MAX = 512,
    KEY_BYTES_MAX = 255,
    SERIES_MAX = 200, /* characters */
    PRIORITY_MAX = 1000,
};

static struct slice slice_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

/* Characters of a text that is UTF-8. */
static size_t characters(struct slice text)
{
    size_t count = 0;

    for (size_t i = 0; i < text.len; i++)
        count += (text.data[i] & 0xc0) != 0x80;
    return count;
}

static enum err check_pair(struct slice key, struct slice value)
{
    if (!utf8_valid(key) || !utf8_valid(value))
        return fail(ERR_USAGE, "--metadata: keys and values must be UTF-8");
    if (key.len == 0 || characters(key) > METADATA_KEY_MAX)
        return fail(ERR_USAGE,
                    "--metadata: a key must have 1 to %d characters, and \"%.*s\" has "
                    "%zu",
                    METADATA_KEY_MAX, (int)(key.len < 80 ? key.len : 80), key.data,
                    characters(key));
    if (characters(value) > METADATA_VALUE_MAX)
        return fail(ERR_USAGE,
                    "--metadata: the value of %.*s has %zu characters; at most %d are "
                    "allowed",
                    (int)key.len, key.data, characters(value), METADATA_VALUE_MAX);
    return ERR_OK;
}

static enum err read_metadata(struct submit *submit)
{
    const struct option_pairs *pairs = &submit->options->metadata;
    struct buffer json = {0};
    struct json *tree;
    enum err rc = ERR_OK;

    submit->metadata = submit->options->metadata_json;
    if (pairs->count == 0)
        return ERR_OK;
    json_write_open(&json, '{');
    for (uint32_t i = 0; i < pairs->count && rc == ERR_OK; i++) {
        struct slice key = {pairs->item[i].key, pairs->item[i].key_len};

        rc = check_pair(key, slice_of(pairs->item[i].value));
        json_write_next(&json);
        json_write_string_clean(&json, key);
        buffer_add_byte(&json, ':');
        json_write_string_clean(&json, slice_of(pairs->item[i].value));
    }
    json_write_close(&json, '}');
    submit->metadata = (struct slice){arena_copy(&submit->arena, json.data, json.len), json.len};
    buffer_release(&json);
    if (rc == ERR_OK && json_parse(&submit->arena, submit->metadata, NULL, &tree, NULL) != ERR_OK)
        rc = fail(ERR_USAGE, "--metadata: a key is given twice");
    return rc;
}

static enum err read_window(struct submit *submit)
{
    const struct settings_submit *settings = &submit->cli->settings->submit;
    struct buffer text = {0};
    enum err rc = ERR_OK;

    submit->window = submit->options->window;
    if (submit->window == NULL) {
        submit->window_ms = settings->window_ms;
        if (submit->window_ms == 86400000)
            buffer_add_text(&text, "24h"); /* what OpenAI's API calls a day */
        else
            duration_add(&text, submit->window_ms);
        submit->window = arena_copy(&submit->arena, text.data, text.len);
    } else if (!duration_parse(slice_of(submit->window), &submit->window_ms) ||
               submit->window_ms == 0) {
        rc = fail(ERR_USAGE,
                  "--completion-window is \"%s\" but must be a time like 24h, 90m or "
                  "1d12h",
                  submit->window);
    }
    if (rc == ERR_OK && submit->window_ms > settings->window_max_ms) {
        buffer_clear(&text);
        duration_add(&text, settings->window_max_ms);
        rc = fail(ERR_USAGE,
                  "--completion-window is %s but may be at most %s "
                  "(submit.window_max)",
                  submit->window, text.data);
    }
    buffer_release(&text);
    return rc;
}

static enum err read_priority(struct submit *submit)
{
    const char *text = submit->options->priority;
    char *end;
    long value;

    if (text == NULL)
        return ERR_OK;
    errno = 0;
    value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < -PRIORITY_MAX || value > PRIORITY_MAX)
        return fail(ERR_USAGE, "--priority is \"%s\" but must be a whole number from %d to %d",
                    text, -PRIORITY_MAX, PRIORITY_MAX);
    submit->priority = (int32_t)value;
    return ERR_OK;
}

static enum err read_endpoint(struct submit *submit)
{
    const char *text = submit->options->endpoint;

    if (text == NULL)
        return ERR_OK;
    if (!endpoint_find(slice_of(text), &submit->endpoint))
        return fail(ERR_USAGE,
                    "--endpoint is \"%s\" but must be /v1/completions, "
                    "/v1/chat/completions or /v1/embeddings",
                    text);
    submit->has_endpoint = true;
    return ERR_OK;
}

static enum err check_key(const struct submit_options *options)
{
    const char *key = options->idempotency_key;

    if (key == NULL)
        return ERR_OK;
    if (options->renew)
        return fail(ERR_USAGE, "--new and --idempotency-key contradict each other: a key names one "
                               "job");
    if (key[0] == '\0' || strlen(key) > KEY_BYTES_MAX || !utf8_valid(slice_of(key)) ||
        strncmp(key, "auto:", 5) == 0)
        return fail(ERR_USAGE,
                    "--idempotency-key must have 1 to %d bytes of UTF-8 and not begin "
                    "with auto:",
                    KEY_BYTES_MAX);
    return ERR_OK;
}

static enum err check_series(const struct submit_options *options)
{
    const char *series = options->series;

    if (options->changed && series == NULL)
        return fail(ERR_USAGE, "--changed needs --series: changed since which jobs?");
    if (options->changed && (options->renew || options->idempotency_key != NULL))
        return fail(ERR_USAGE, "--changed makes a job of what is to be done; it takes neither "
                               "--new nor --idempotency-key");
    if (series != NULL && (series[0] == '\0' || !utf8_valid(slice_of(series)) ||
                           characters(slice_of(series)) > SERIES_MAX))
        return fail(ERR_USAGE, "--series must have 1 to %d characters of UTF-8", SERIES_MAX);
    return ERR_OK;
}

static enum err check_documents(const struct submit_options *options)
{
    bool more = options->template != NULL || options->include.count > 0 ||
                options->exclude.count > 0 || options->since != NULL || options->encoding != NULL ||
                options->split_tokens > 0 || options->overlap > 0 || options->series != NULL ||
                options->changed;

    if (options->documents == NULL && more)
        return fail(ERR_USAGE, "--template, --include, --exclude, --since, --encoding, "
                               "--split-tokens, --overlap, --series and --changed are for "
                               "--documents");
    if (options->documents == NULL && options->file == NULL)
        return fail(ERR_USAGE, "FILE|- is missing; mserve-submit --help says more.");
    if (options->documents != NULL && options->file != NULL)
        return fail(ERR_USAGE,
                    "\"%.60s\" is one input too many: --documents makes the requests itself",
                    options->file);
    if (options->documents != NULL && options->template == NULL)
        return fail(ERR_USAGE, "--documents needs --template: what to ask of each document");
    return check_series(options);
}

static enum err check_together(const struct submit_options *options)
{
    enum err rc = check_documents(options);

    if (rc != ERR_OK)
        return rc;
    if (options->dry_run && (options->wait || options->output != NULL))
        return fail(ERR_USAGE, "--dry-run sends nothing, so there is nothing to wait for");
    if (options->any_model && options->tier == NULL)
        return fail(ERR_USAGE, "--any-model needs --tier: the models of the lines do not say where "
                               "they go");
    return ERR_OK;
}

enum err submit_check_options(struct submit *submit)
{
    enum err rc = check_together(submit->options);

    if (rc == ERR_OK)
        rc = check_key(submit->options);
    if (rc == ERR_OK)
        rc = read_endpoint(submit);
    if (rc == ERR_OK)
        rc = read_window(submit);
    if (rc == ERR_OK)
        rc = read_priority(submit);
    return rc == ERR_OK ? read_metadata(submit) : rc;
}

const char *submit_from(const struct submit *submit)
{
    return submit->options->documents != NULL ? submit->options->documents : submit->options->file;
}

const char *submit_key(struct submit *submit)
{
    struct buffer text = {0};
    uint8_t digest[SHA256_BYTES];
    char hex[SHA256_HEX_SIZE], key[80];

    buffer_printf(&text, "mserve job 1\ncontent %s\n",
                  hex_encode(submit->scan.sha256, SHA256_BYTES, hex));
    buffer_printf(&text, "tier %s\nany model %d\nendpoint %s\nwindow %" PRIu64 "\npriority %d\n",
                  submit->tier->name, submit->options->any_model, endpoint_url(submit->endpoint),
                  submit->window_ms, submit->priority);
    buffer_add(&text, submit->metadata.data, submit->metadata.len);
    if (submit->options->series != NULL)
        buffer_printf(&text, "\nseries %s", submit->options->series);
    sha256_of(buffer_slice(&text), digest);
    buffer_release(&text);
    snprintf(key, sizeof(key), "auto:%s", hex_encode(digest, sizeof(digest), hex));
    return arena_copy(&submit->arena, key, strlen(key));
}
