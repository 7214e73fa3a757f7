/* command_webhook.c: webhook add, list, show, rotate, disable, enable, key, public. */
#include "producer/commands/command_webhook.h"
#include "config/clock.h"
#include "config/log.h"
#include "config/seal.h"
#include "config/utf8.h"
#include "producer/commands/command.h"
#include "producer/webhook_secret_file.h"
#include "producer/webhook_url.h"
#include "sql/queries.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    OVERLAP_DEFAULT_MS = 24 * 3600 * 1000,
    LOG_DEFAULT = 20,
    LOG_MAX = 10000,
};
#define OVERLAP_MAX_MS (30ull * 24 * 3600 * 1000)
#define SINCE_MAX_MS   (3650ull * 24 * 3600 * 1000)

static const char known_events[] =
    "batch.completed batch.failed batch.expired batch.cancelled batch.in_progress batch.preempted "
    "request.completed webhook.disabled";

static struct webhook_typed typed = {.overlap_ms = OVERLAP_DEFAULT_MS, .limit = LOG_DEFAULT};

enum err command_webhook_find(struct cli *cli, const char *name, struct webhook_endpoint *ret)
{
    enum err rc = webhook_find(cli->db, name, NULL, ret);

    return rc == ERR_NOT_FOUND
               ? fail(rc,
                      "there is no endpoint \"%.80s\"; `mserve webhook list` shows those there are",
                      name)
               : rc;
}

const char *command_webhook_when(const struct db_result *result, int row, int column, char out[32])
{
    time_t at;
    struct tm tm;

    if (db_is_null(result, row, column))
        return "-";
    at = (time_t)(db_get_time_us(result, row, column) / 1000000);
    strftime(out, 32, "%Y-%m-%d %H:%M:%S", localtime_r(&at, &tm));
    return out;
}

/* ---- secrets ---- */

static enum err open_seal(const struct cli *cli, struct seal **ret)
{
    const char *path = cli->settings->webhook.key_file;

    if (path == NULL || path[0] == '\0')
        return fail(
            ERR_SETTINGS,
            "webhook.key_file is not set, so secrets cannot be kept: make a key with `mserve "
            "webhook key FILE`, and name that file in the settings of this program and of "
            "mserve-scheduler");
    return seal_open(path, ret);
}

static struct slice label_of(const struct uuid *endpoint)
{
    return (struct slice){(const char *)endpoint->bytes, sizeof(endpoint->bytes)};
}

/* What is now the endpoint's secret; the caller wipes it. */
static enum err current_secret(struct cli *cli, const struct seal *seal,
                               const struct uuid *endpoint, struct buffer *ret)
{
    struct buffer sealed = {0};
    enum err rc = webhook_secret(cli->db, endpoint, &sealed);

    if (rc == ERR_OK)
        rc = seal_take(seal, label_of(endpoint), buffer_slice(&sealed), ret);
    buffer_release(&sealed);
    return rc;
}

/* The secret in --secret-file, made there or not, and its sealed form. The first is to be wiped. */
static enum err take_secret(const struct seal *seal, const struct uuid *endpoint, bool ed25519,
                            struct buffer *ret, struct buffer *ret_sealed, bool *ret_made)
{
    enum err rc = webhook_secret_file_take(typed.secret_file,
                                           ed25519 ? WEBHOOK_ED25519 : WEBHOOK_HMAC, ret, ret_made);

    return rc == ERR_OK ? seal_put(seal, label_of(endpoint), buffer_slice(ret), ret_sealed) : rc;
}

static enum err need_secret_file(const char *what)
{
    if (typed.secret_file != NULL)
        return ERR_OK;
    return fail(
        ERR_USAGE,
        "webhook %s needs --secret-file: a file with the secret, or a name under which a new "
        "one is written",
        what);
}

static void say_secret(bool made)
{
    if (made)
        printf("its new secret is in %s, which only you can read: give it to the receiver\n",
               typed.secret_file);
}

/* ---- add ---- */

static enum err check_name(const char *name)
{
    size_t len = strlen(name);

    if (len == 0 || len > WEBHOOK_NAME_MAX ||
        strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") != len ||
        strncmp(name, "evt_", 4) == 0)
        return fail(
            ERR_USAGE,
            "\"%.80s\" is no name of an endpoint: 1 to %d of a-z, 0-9, '.', '_', '-', and not "
            "evt_ in front",
            name, WEBHOOK_NAME_MAX);
    return ERR_OK;
}

static bool is_known(const char *event)
{
    size_t len = strlen(event);

    for (const char *at = known_events; *at != '\0'; at += strspn(at, " ")) {
        size_t known = strcspn(at, " ");

        if (known == len && memcmp(at, event, len) == 0)
            return true;
        at += known;
    }
    return false;
}

static enum err check_events(struct slice *ret)
{
    for (uint32_t i = 0; i < typed.event.count; i++) {
        const char *event = typed.event.item[i];

        if (!is_known(event))
            return fail(ERR_USAGE, "there is no event \"%.60s\"; there are: %s", event,
                        known_events);
        ret[i] = (struct slice){event, strlen(event)};
    }
    return ERR_OK;
}

static enum err store(struct cli *cli, const struct seal *seal, const char *name,
                      const struct buffer *url, const struct slice *events)
{
    struct webhook_spec spec = {.endpoint = uuid_new(clock_wall_ms()),
                                .name = name,
                                .url = buffer_slice(url),
                                .event = events,
                                .event_count = typed.event.count,
                                .every_job = typed.every_job};
    struct buffer secret = {0}, sealed = {0};
    bool made = false;
    enum err rc = take_secret(seal, &spec.endpoint, typed.ed25519, &secret, &sealed, &made);

    spec.secret = buffer_slice(&sealed);
    if (rc == ERR_OK)
        rc = webhook_add(cli->db, &spec);
    if (rc == ERR_CONFLICT)
        rc = fail(ERR_USAGE,
                  "there is an endpoint \"%s\" already: `mserve webhook show %s` shows it; choose "
                  "another name",
                  name, name);
    else if (rc == ERR_REJECTED)
        rc =
            fail(ERR_INTERNAL, "the database does not take this endpoint: %s", db_message(cli->db));
    if (rc == ERR_OK) {
        printf("%s is added: %s\n", name, url->data);
        say_secret(made);
    } else if (made) {
        unlink(typed.secret_file);
    }
    buffer_wipe(&secret);
    buffer_release(&sealed);
    return rc;
}

static enum err run_add(struct cli *cli, const char *name, const char *url_text)
{
    struct slice events[OPTION_ITEMS_MAX];
    struct webhook_endpoint there;
    struct seal *seal = NULL;
    struct buffer url = {0};
    enum err rc = need_secret_file("add");

    if (rc == ERR_OK)
        rc = check_name(name);
    if (rc == ERR_OK)
        rc = check_events(events);
    if (rc == ERR_OK)
        rc = webhook_url_check(&cli->settings->webhook, url_text, &url);
    if (rc == ERR_OK)
        rc = open_seal(cli, &seal);
    if (rc == ERR_OK && webhook_find(cli->db, name, NULL, &there) == ERR_OK)
        rc = fail(ERR_USAGE,
                  "there is an endpoint \"%s\" already: `mserve webhook show %s` shows it; choose "
                  "another name",
                  name, name);
    if (rc == ERR_OK)
        rc = store(cli, seal, name, &url, events);
    seal_close(seal);
    buffer_release(&url);
    return rc;
}

/* ---- list, show ---- */

/* Columns of QUERY_WEBHOOKS_LIST. */
enum {
    NAME,
    URL,
    STATE,
    WHY,
    EVERY_JOB,
    EVENTS,
    OWED,
    DELIVERED_AT,
    FAILURES,
    FAILING_SINCE,
    OLD_UNTIL,
    WHOLE,
};

#define LIST_ROW "%-20s  %-9s  %-5s  %6s  %-19s  %-19s  %-40s  %s\n"

static void print_row(const struct db_result *result, int row)
{
    char owed[24], delivered[32], failing[32];
    struct buffer url = {0};

    snprintf(owed, sizeof(owed), "%" PRId64, db_get_i64(result, row, OWED));
    utf8_add_printable(&url, db_get_slice(result, row, URL));
    printf(LIST_ROW, db_get_slice(result, row, NAME).data,
           db_is_null(result, row, WHY) ? db_get_slice(result, row, STATE).data
                                        : db_get_slice(result, row, WHY).data,
           db_get_bool(result, row, EVERY_JOB) ? "every" : "named", owed,
           command_webhook_when(result, row, DELIVERED_AT, delivered),
           command_webhook_when(result, row, FAILING_SINCE, failing), url.data ? url.data : "",
           db_get_slice(result, row, EVENTS).data);
    buffer_release(&url);
}

static enum err run_list(struct cli *cli)
{
    struct db_result result = {0};
    enum err rc = db_exec(cli->db, QUERY_WEBHOOKS_LIST, DB_PARAMS(db_text(NULL)), &result);

    if (rc != ERR_OK)
        return rc;
    if (typed.json) {
        fputs("[", stdout);
        for (int row = 0; row < result.rows; row++)
            printf("%s%s", row > 0 ? ",\n" : "", db_get_slice(&result, row, WHOLE).data);
        fputs("]\n", stdout);
    } else {
        printf(LIST_ROW, "NAME", "STATE", "JOBS", "OWED", "DELIVERED", "FAILING SINCE", "URL",
               "EVENTS");
        for (int row = 0; row < result.rows; row++)
            print_row(&result, row);
    }
    db_result_release(&result);
    return ERR_OK;
}

static enum err run_show(struct cli *cli, const char *name)
{
    struct webhook_endpoint endpoint;
    struct db_result result = {0};
    enum err rc = command_webhook_find(cli, name, &endpoint);

    if (rc == ERR_OK)
        rc = db_exec(cli->db, QUERY_WEBHOOKS_LIST, DB_PARAMS(db_text(endpoint.name)), &result);
    if (rc == ERR_OK && result.rows == 1)
        printf("%s\n", db_get_slice(&result, 0, WHOLE).data);
    db_result_release(&result);
    return rc;
}

/* ---- rotate ---- */

static bool same(const struct buffer *left, const struct buffer *right)
{
    return left->len == right->len && memcmp(left->data, right->data, left->len) == 0;
}

static enum err replace_secret(struct cli *cli, const struct seal *seal,
                               const struct webhook_endpoint *endpoint)
{
    struct buffer old = {0}, secret = {0}, sealed = {0};
    bool made = false;
    enum err rc = current_secret(cli, seal, &endpoint->endpoint, &old);

    if (rc == ERR_OK)
        rc = take_secret(seal, &endpoint->endpoint, typed.ed25519, &secret, &sealed, &made);
    if (rc == ERR_OK && same(&old, &secret))
        rc = fail(ERR_USAGE, "the secret in %s is that of %s already", typed.secret_file,
                  endpoint->name);
    if (rc == ERR_OK)
        rc = webhook_rotate(cli->db, &endpoint->endpoint, buffer_slice(&sealed), typed.overlap_ms);
    if (rc == ERR_OK) {
        printf("%s has a new secret; the old one %s\n", endpoint->name,
               typed.overlap_ms > 0 ? "signs too, until the time that `mserve webhook show` shows"
                                    : "signs no more");
        say_secret(made);
    } else if (made) {
        unlink(typed.secret_file);
    }
    buffer_wipe(&old);
    buffer_wipe(&secret);
    buffer_release(&sealed);
    return rc;
}

static enum err run_rotate(struct cli *cli, const char *name)
{
    struct webhook_endpoint endpoint;
    struct seal *seal = NULL;
    enum err rc = need_secret_file("rotate");

    if (rc == ERR_OK)
        rc = open_seal(cli, &seal);
    if (rc == ERR_OK)
        rc = command_webhook_find(cli, name, &endpoint);
    if (rc == ERR_OK)
        rc = replace_secret(cli, seal, &endpoint);
    seal_close(seal);
    return rc;
}

/* ---- public, key ---- */

static enum err run_public(struct cli *cli, const char *name)
{
    struct webhook_endpoint endpoint;
    struct webhook_secret parsed = {0};
    struct buffer secret = {0}, text = {0};
    struct seal *seal = NULL;
    enum err rc = open_seal(cli, &seal);

    if (rc == ERR_OK)
        rc = command_webhook_find(cli, name, &endpoint);
    if (rc == ERR_OK)
        rc = current_secret(cli, seal, &endpoint.endpoint, &secret);
    if (rc == ERR_OK)
        rc = webhook_secret_parse(buffer_slice(&secret), &parsed);
    if (rc == ERR_OK && parsed.kind != WEBHOOK_ED25519)
        rc = fail(ERR_USAGE,
                  "the secret of %s is not an ed25519 key, so there is no public half of it; "
                  "`mserve webhook rotate %s --ed25519 --secret-file FILE` gives it one",
                  endpoint.name, endpoint.name);
    if (rc == ERR_OK)
        rc = webhook_secret_public(&parsed, &text);
    if (rc == ERR_OK)
        printf("%s\n", text.data);
    explicit_bzero(&parsed, sizeof(parsed));
    buffer_wipe(&secret);
    buffer_release(&text);
    seal_close(seal);
    return rc;
}

static enum err run_key(const char *path)
{
    enum err rc = seal_make_key(path);

    if (rc == ERR_OK)
        printf("the key is in %s, which only you can read; name it in webhook.key_file and keep a "
               "copy: without it the secrets in the database are lost\n",
               path);
    return rc;
}

/* ---- enable, disable ---- */

static enum err run_enable(struct cli *cli, const char *name)
{
    struct webhook_endpoint endpoint;
    enum err rc = command_webhook_find(cli, name, &endpoint);

    if (rc == ERR_OK)
        rc = webhook_enable(cli->db, &endpoint.endpoint);
    if (rc == ERR_OK)
        printf("%s is enabled; what happened meanwhile was not kept for it%s%s%s\n", endpoint.name,
               endpoint.enabled ? "" : ", and `mserve webhook replay ",
               endpoint.enabled ? "" : endpoint.name,
               endpoint.enabled ? "" : " --failed` sends what it was owed before");
    return rc;
}

static enum err run_disable(struct cli *cli, const char *name)
{
    struct webhook_endpoint endpoint;
    enum err rc = command_webhook_find(cli, name, &endpoint);

    if (rc == ERR_OK)
        rc = webhook_disable(cli->db, &endpoint.endpoint);
    if (rc == ERR_OK)
        printf("%s is disabled; nothing more is sent there, and what it was owed is dropped\n",
               endpoint.name);
    return rc;
}

/* ---- which of them ---- */

struct verb {
    const char *name;
    uint32_t arguments_min, arguments_max; /* behind it */
    const char *needs;                     /* for a sentence */
};

static const struct verb verbs[] = {
    {"add", 2, 2, "a name and a URL"},
    {"list", 0, 0, "nothing more"},
    {"show", 1, 1, "the name of an endpoint"},
    {"test", 1, 1, "the name of an endpoint"},
    {"replay", 1, 1, "the name of an endpoint, or the id of an event"},
    {"rotate", 1, 1, "the name of an endpoint"},
    {"disable", 1, 1, "the name of an endpoint"},
    {"enable", 1, 1, "the name of an endpoint"},
    {"log", 0, 1, "the name of one endpoint, or none"},
    {"key", 1, 1, "a file that is not there yet"},
    {"public", 1, 1, "the name of an endpoint"},
};

static enum err check_arguments(const char *what, uint32_t count)
{
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (strcmp(verbs[i].name, what) == 0 &&
            (count < verbs[i].arguments_min || count > verbs[i].arguments_max))
            return fail(ERR_USAGE, "webhook %s needs %s", what, verbs[i].needs);
    if (typed.secret_file != NULL && strcmp(what, "add") != 0 && strcmp(what, "rotate") != 0)
        return fail(ERR_USAGE, "--secret-file belongs to webhook add and webhook rotate");
    return ERR_OK;
}

static enum err run_named(struct cli *cli, const char *what, const char *name)
{
    if (strcmp(what, "show") == 0)
        return run_show(cli, name);
    if (strcmp(what, "test") == 0)
        return command_webhook_test(cli, name);
    if (strcmp(what, "replay") == 0)
        return command_webhook_replay(cli, name, &typed);
    if (strcmp(what, "rotate") == 0)
        return run_rotate(cli, name);
    if (strcmp(what, "disable") == 0)
        return run_disable(cli, name);
    if (strcmp(what, "enable") == 0)
        return run_enable(cli, name);
    return run_public(cli, name);
}

static enum err run_webhook(struct cli *cli, const struct options_rest *rest)
{
    const char *what = rest->argument[0];
    const char *name = rest->count > 1 ? rest->argument[1] : NULL;
    enum err rc = check_arguments(what, rest->count - 1);

    if (rc == ERR_OK && strcmp(what, "key") == 0) {
        rc = run_key(name);
        return rc == ERR_OK ? cli_flush() : rc;
    }
    if (rc == ERR_OK)
        rc = cli_connect(cli, true);
    if (rc != ERR_OK)
        return rc;
    if (strcmp(what, "add") == 0)
        rc = run_add(cli, name, rest->argument[2]);
    else if (strcmp(what, "list") == 0)
        rc = run_list(cli);
    else if (strcmp(what, "log") == 0)
        rc = command_webhook_log(cli, name, &typed);
    else
        rc = run_named(cli, what, name);
    return rc == ERR_OK ? cli_flush() : rc;
}

static const struct option webhook_rows[] = {
    {"secret-file", 's', OPTION_PATH, "FILE", &typed.secret_file,
     .sentence = "add, rotate: the secret is taken from there; where there is no such file, a new "
                 "one is written there."},
    {"event", 'e', OPTION_LIST, "TYPE", &typed.event,
     .sentence = "add: a type of event that it wants; may be given again. Without it, the ends of "
                 "jobs.",
     .max = 8},
    {"every-job", 0, OPTION_FLAG, NULL, &typed.every_job,
     .sentence = "add: it hears of all jobs, not only of those submitted with --webhook."},
    {"ed25519", 0, OPTION_FLAG, NULL, &typed.ed25519,
     .sentence = "add, rotate: an ed25519 key signs; receivers need its public half only."},
    {"overlap", 0, OPTION_DURATION, "TIME", &typed.overlap_ms,
     .sentence = "rotate: how long the old secret signs too; 24h without it.",
     .max = OVERLAP_MAX_MS},
    {"failed", 'f', OPTION_FLAG, NULL, &typed.failed,
     .sentence = "replay: what was given up or dropped; log: what did not succeed."},
    {"since", 0, OPTION_DURATION, "TIME", &typed.since_ms,
     .sentence = "replay: what happened within that time, like 2h.", .min = 1, .max = SINCE_MAX_MS},
    {"limit", 'l', OPTION_U32, "N", &typed.limit,
     .sentence = "log: how many, from new to old; 20 without it.", .min = 1, .max = LOG_MAX},
    {"json", 'j', OPTION_FLAG, NULL, &typed.json, .sentence = "list, log: as JSON."},
    COMMAND_CONFIG,
};

static const struct command commands[] = {
    {{.name = "webhook",
      .arguments = "add|list|show|test|replay|rotate|disable|enable|log|key|public [NAME [URL]]",
      .summary = "Says where events are sent, and what came of sending them.",
      .details = "add NAME URL, replay NAME|EVENT, log [NAME], key FILE; the others take a NAME.\n"
                 "Secrets are in files and sealed in the database; none is ever printed.",
      .row = webhook_rows,
      .row_count = sizeof(webhook_rows) / sizeof(webhook_rows[0]),
      .arguments_min = 1,
      .arguments_max = 3,
      .choices = "add|list|show|test|replay|rotate|disable|enable|log|key|public"},
     COMMAND_SETTINGS,
     run_webhook},
};

const struct command_group command_webhook = {commands, sizeof(commands) / sizeof(commands[0])};
