/* command_webhook_log.c: webhook test, replay, log: what is sent, sent again, and what came of it. */
#include "config/clock.h"
#include "config/log.h"
#include "config/units.h"
#include "config/utf8.h"
#include "producer/commands/command_webhook.h"
#include "producer/interrupt.h"
#include "sql/queries.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LOOK_EVERY_MS = 100, SENDER_MS = 10000 };

/* ---- test ---- */

/* Until it was tried once, the time is over, or a signal came. Reads the clock. */
static enum err wait_for(struct cli *cli, const struct uuid *endpoint, const struct uuid *event,
                         struct webhook_outcome *ret)
{
    uint64_t limit_ms = cli->settings->webhook.timeout_ms + SENDER_MS;
    uint64_t end_ns = clock_mono_ns() + limit_ms * CLOCK_NS_PER_MS;
    const struct timespec pause = {.tv_nsec = LOOK_EVERY_MS * CLOCK_NS_PER_MS};
    enum err rc;

    for (;;) {
        rc = webhook_outcome(cli->db, endpoint, event, ret);
        if (rc != ERR_OK || ret->tried || strcmp(ret->state, "pending") != 0)
            return rc;
        if (interrupted())
            return ERR_INTERRUPTED;
        if (clock_mono_ns() > end_ns)
            return fail(ERR_IO,
                        "nobody has sent it within %" PRIu64
                        " s; is mserve-scheduler running, with webhook.key_file set?",
                        limit_ms / 1000);
        nanosleep(&pause, NULL);
    }
}

static enum err tell(const char *name, const struct webhook_outcome *outcome)
{
    struct buffer when = {0}, why = {0};
    enum err rc = ERR_OK;

    if (strcmp(outcome->outcome, "delivered") == 0) {
        printf("%s took it: status %" PRId32 " after %" PRId32 " ms\n", name, outcome->status_code,
               outcome->took_ms);
        return ERR_OK;
    }
    if (outcome->retry_ms > 0)
        duration_add(&when, (uint64_t)outcome->retry_ms);
    utf8_add_printable(&why, (struct slice){outcome->why, strlen(outcome->why)});
    rc = fail(ERR_IO, "%s did not take it: %s; %s%s", name,
              why.len > 0 ? why.data : "the delivery was dropped",
              when.len > 0 ? "it is tried again in " : "it is not tried again",
              when.len > 0 ? when.data : "");
    buffer_release(&when);
    buffer_release(&why);
    return rc;
}

enum err command_webhook_test(struct cli *cli, const char *name)
{
    struct webhook_endpoint endpoint;
    struct webhook_outcome outcome;
    struct uuid event;
    enum err rc = command_webhook_find(cli, name, &endpoint);

    if (rc == ERR_OK && !endpoint.enabled)
        rc = fail(ERR_USAGE, "%s is disabled; `mserve webhook enable %s` first", name, name);
    if (rc == ERR_OK)
        rc = webhook_test(cli->db, &endpoint.endpoint, &event);
    if (rc == ERR_OK)
        rc = wait_for(cli, &endpoint.endpoint, &event, &outcome);
    return rc == ERR_OK ? tell(endpoint.name, &outcome) : rc;
}

/* ---- replay ---- */

/* "evt_" and 32 digits. */
static bool is_event(const char *text, struct uuid *ret)
{
    return strncmp(text, "evt_", 4) == 0 &&
           uuid_parse((struct slice){text + 4, strlen(text + 4)}, ret);
}

/* Why an event is not owed again: it is there, and to whom it was owed. */
static enum err explain_none(struct cli *cli, const struct uuid *event, const char *text)
{
    struct db_result result = {0};
    int64_t owed, disabled, pending;
    enum err rc = db_exec(cli->db, QUERY_WEBHOOK_EVENT_STATE, DB_PARAMS(db_uuid(event)), &result);

    if (rc != ERR_OK)
        return rc;
    owed = db_get_i64(&result, 0, 0);
    disabled = db_get_i64(&result, 0, 1);
    pending = db_get_i64(&result, 0, 2);
    db_result_release(&result);
    if (owed == 0)
        return fail(ERR_NOT_FOUND,
                    "there is no event %.80s; `mserve webhook log` shows those there "
                    "are",
                    text);
    if (pending > 0)
        return fail(ERR_USAGE,
                    "%.80s is owed as it is; `mserve webhook log` shows when it is tried", text);
    if (disabled > 0)
        return fail(ERR_USAGE, "the endpoint that %.80s was owed is disabled; enable it first",
                    text);
    printf("nothing is to be sent again\n");
    return ERR_OK;
}

static enum err replay(struct cli *cli, const struct webhook_replay *which, const char *what)
{
    int64_t count;
    enum err rc = webhook_replay(cli->db, which, &count);

    if (rc != ERR_OK)
        return rc;
    if (count == 0 && which->event != NULL)
        return explain_none(cli, which->event, what);
    if (count == 0)
        printf("nothing is to be sent again\n");
    else
        printf("%" PRId64
               " %s sent again, under the same id%s; `mserve webhook log` shows what comes "
               "of it\n",
               count, count == 1 ? "event is" : "events are", count == 1 ? "" : "s");
    return ERR_OK;
}

enum err command_webhook_replay(struct cli *cli, const char *what,
                                const struct webhook_typed *typed)
{
    struct webhook_replay which = {.failed = typed->failed, .since_ms = typed->since_ms};
    struct webhook_endpoint endpoint;
    struct uuid event;
    enum err rc;

    if (is_event(what, &event)) {
        which.event = &event;
        return replay(cli, &which, what);
    }
    rc = command_webhook_find(cli, what, &endpoint);
    if (rc == ERR_OK && !endpoint.enabled)
        rc = fail(ERR_USAGE, "%s is disabled; `mserve webhook enable %s` first", what, what);
    if (rc == ERR_OK && !typed->failed && typed->since_ms == 0)
        rc = fail(ERR_USAGE,
                  "replay of an endpoint needs --failed, or --since with a time like 2h, or "
                  "both: all it ever got would be sent again");
    which.endpoint = &endpoint.endpoint;
    return rc == ERR_OK ? replay(cli, &which, what) : rc;
}

/* ---- log ---- */

/* Columns of QUERY_WEBHOOK_LOG. */
enum { AT, NAME, EVENT, TYPE, JOB, ATTEMPT, OUTCOME, STATUS, TOOK, WHY, RETRY, WHOLE };

#define LOG_ROW "%-19s  %-16s  %-36s  %-17s  %3s  %-9s  %6s  %7s  %s\n"

static const char *number(const struct db_result *result, int row, int column, char out[24])
{
    if (db_is_null(result, row, column))
        return "-";
    snprintf(out, 24, "%" PRId32, db_get_i32(result, row, column));
    return out;
}

static void print_row(const struct db_result *result, int row)
{
    char when[32], attempt[24], status[24], took[24];
    struct buffer why = {0};

    buffer_add_text(&why, "");
    if (!db_is_null(result, row, WHY))
        utf8_add_printable(&why, db_get_slice(result, row, WHY));
    if (!db_is_null(result, row, RETRY)) {
        buffer_add_text(&why, why.len > 0 ? "; again in " : "again in ");
        duration_add(&why, (uint64_t)db_get_i64(result, row, RETRY));
    }
    printf(LOG_ROW, command_webhook_when(result, row, AT, when),
           db_get_slice(result, row, NAME).data, db_get_slice(result, row, EVENT).data,
           db_get_slice(result, row, TYPE).data, number(result, row, ATTEMPT, attempt),
           db_get_slice(result, row, OUTCOME).data, number(result, row, STATUS, status),
           number(result, row, TOOK, took), why.data ? why.data : "");
    buffer_release(&why);
}

enum err command_webhook_log(struct cli *cli, const char *name, const struct webhook_typed *typed)
{
    struct webhook_endpoint endpoint;
    struct db_result result = {0};
    enum err rc = name != NULL ? command_webhook_find(cli, name, &endpoint) : ERR_OK;

    if (rc == ERR_OK)
        rc = db_exec(cli->db, QUERY_WEBHOOK_LOG,
                     DB_PARAMS(db_uuid(name != NULL ? &endpoint.endpoint : NULL),
                               db_i32((int32_t)typed->limit), db_bool(typed->failed)),
                     &result);
    if (rc != ERR_OK)
        return rc;
    if (typed->json) {
        fputs("[", stdout);
        for (int row = 0; row < result.rows; row++)
            printf("%s%s", row > 0 ? ",\n" : "", db_get_slice(&result, row, WHOLE).data);
        fputs("]\n", stdout);
    } else {
        printf(LOG_ROW, "WHEN", "ENDPOINT", "EVENT", "TYPE", "TRY", "OUTCOME", "STATUS", "MS",
               "WHY");
        for (int row = 0; row < result.rows; row++)
            print_row(&result, row);
    }
    db_result_release(&result);
    return ERR_OK;
}
