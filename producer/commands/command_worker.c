/* command_worker.c: worker list, worker drain: the fleet, for those who run it. */
#include "config/json.h"
#include "config/log.h"
#include "config/units.h"
#include "config/utf8.h"
#include "producer/commands/command.h"
#include "sql/queries.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { WITHIN_DEFAULT_MS = 60000, WITHIN_MAX_MS = 24 * 3600 * 1000, SHOWN_MAX = 5 };

static struct {
    bool json;
    bool all;
    uint64_t within_ms;
} typed = {.within_ms = UINT64_MAX};

/* ---- list ---- */

/* Columns of QUERY_WORKERS_LIST. */
enum {
    WORKER,
    NAME,
    HOST,
    TIERS,
    STATE,
    DRAIN_BY,
    DRAIN_WHY,
    PARTITIONS,
    JOBS,
    LEASE_LEFT_S,
    REGISTERED_AT,
    CAPACITY,
    PRICE,
    CLOSED_WHY,
    WHOLE,
};

#define LIST_ROW "%-36s  %-16s  %-16s  %-12s  %10s  %5s  %6s  %-16s  %-9s  %-12s  %s\n"

static struct tm *local_time(const struct db_result *result, int row, int column, struct tm *out)
{
    time_t when = (time_t)(db_get_time_us(result, row, column) / 1000000);

    return localtime_r(&when, out);
}

/* Names are whatever a settings file says; a terminal is not to obey them. */
static const char *printable(const struct db_result *result, int row, int column,
                             struct buffer *out)
{
    buffer_clear(out);
    buffer_add_text(out, "");
    utf8_add_printable(out, db_get_slice(result, row, column));
    return out->data ? out->data : "";
}

static const char *text_of(const struct db_result *result, int row, int column)
{
    return db_is_null(result, row, column) ? "-" : db_get_slice(result, row, column).data;
}

/* "draining by 14:03:22 (preempted)", "gone (drained)" */
static void add_state(const struct db_result *result, int row, struct buffer *out)
{
    struct tm tm;
    char when[32];

    buffer_add_text(out, db_get_slice(result, row, STATE).data);
    if (!db_is_null(result, row, CLOSED_WHY))
        buffer_printf(out, " (%s)", db_get_slice(result, row, CLOSED_WHY).data);
    if (db_is_null(result, row, CLOSED_WHY) && !db_is_null(result, row, DRAIN_BY)) {
        strftime(when, sizeof(when), "%H:%M:%S", local_time(result, row, DRAIN_BY, &tm));
        buffer_printf(out, " by %s (%s)", when, text_of(result, row, DRAIN_WHY));
    }
}

static void print_row(const struct db_result *result, int row)
{
    struct uuid worker = db_get_uuid(result, row, WORKER);
    struct buffer name = {0}, host = {0}, state = {0};
    char id[UUID_TEXT_SIZE], since[32], partitions[24], jobs[24], lease[24];
    struct tm tm;

    strftime(since, sizeof(since), "%Y-%m-%d %H:%M", local_time(result, row, REGISTERED_AT, &tm));
    add_state(result, row, &state);
    snprintf(partitions, sizeof(partitions), "%" PRId64, db_get_i64(result, row, PARTITIONS));
    snprintf(jobs, sizeof(jobs), "%" PRId64, db_get_i64(result, row, JOBS));
    snprintf(lease, sizeof(lease), "%" PRId64 "s", db_get_i64(result, row, LEASE_LEFT_S));
    printf(LIST_ROW, uuid_format(worker, id), printable(result, row, NAME, &name),
           printable(result, row, HOST, &host), text_of(result, row, TIERS), partitions, jobs,
           lease, since, text_of(result, row, CAPACITY), text_of(result, row, PRICE), state.data);
    buffer_release(&name);
    buffer_release(&host);
    buffer_release(&state);
}

static void print_table(const struct db_result *result)
{
    printf(LIST_ROW, "ID", "NAME", "HOST", "TIER", "PARTITIONS", "JOBS", "LEASE", "SINCE",
           "CAPACITY", "PRICE/H", "STATE");
    for (int row = 0; row < result->rows; row++)
        print_row(result, row);
}

static void print_json(const struct db_result *result)
{
    fputs("[", stdout);
    for (int row = 0; row < result->rows; row++)
        printf("%s%s", row > 0 ? ",\n" : "", db_get_slice(result, row, WHOLE).data);
    fputs("]\n", stdout);
}

static enum err run_list(struct cli *cli)
{
    struct db_result result = {0};
    enum err rc = db_exec(cli->db, QUERY_WORKERS_LIST, DB_PARAMS(db_bool(typed.all)), &result);

    if (rc != ERR_OK)
        return rc;
    if (typed.json)
        print_json(&result);
    else
        print_table(&result);
    db_result_release(&result);
    return cli_flush();
}

/* ---- drain ---- */

/* The digits of an id as typed, without hyphens; NULL when it is no beginning of one. */
static const char *digits_of(const char *text, char digits[33])
{
    size_t len = 0;

    for (; *text != '\0'; text++) {
        if (*text == '-')
            continue;
        if (strchr("0123456789abcdefABCDEF", *text) == NULL || len == 32)
            return NULL;
        digits[len++] = *text >= 'A' && *text <= 'F' ? (char)(*text - 'A' + 'a') : *text;
    }
    digits[len] = '\0';
    return len > 0 ? digits : NULL;
}

static enum err refuse_several(const char *text, const struct db_result *result)
{
    struct buffer ids = {0};
    char id[UUID_TEXT_SIZE];
    enum err rc;

    for (int row = 0; row < result->rows && row < SHOWN_MAX; row++)
        buffer_printf(&ids, "%s%s", row > 0 ? ", " : "",
                      uuid_format(db_get_uuid(result, row, 0), id));
    rc = fail(ERR_USAGE, "more than one worker is %.80s: %s%s; type more of its id", text, ids.data,
              result->rows > SHOWN_MAX ? " and more" : "");
    buffer_release(&ids);
    return rc;
}

static enum err find_worker(struct db *db, const char *text, struct uuid *ret)
{
    struct db_result result = {0};
    char digits[33];
    enum err rc = db_exec(db, QUERY_WORKER_FIND,
                          DB_PARAMS(db_text(text), db_text(digits_of(text, digits))), &result);

    if (rc != ERR_OK)
        return rc;
    if (result.rows == 0)
        rc = fail(ERR_NOT_FOUND, "there is no worker %.80s; `mserve worker list` shows them", text);
    else if (result.rows > 1)
        rc = refuse_several(text, &result);
    else
        *ret = db_get_uuid(&result, 0, 0);
    db_result_release(&result);
    return rc;
}

static void print_asked(const struct uuid *worker, int64_t left_s)
{
    char id[UUID_TEXT_SIZE];

    if (typed.json)
        printf("{\"id\":\"%s\",\"left_s\":%" PRId64 "}\n", uuid_format(*worker, id), left_s);
    else
        printf("%s is asked to leave within %" PRId64 " s\n", uuid_format(*worker, id), left_s);
}

static enum err run_drain(struct cli *cli, const char *text)
{
    uint64_t within_ms = typed.within_ms == UINT64_MAX ? WITHIN_DEFAULT_MS : typed.within_ms;
    struct db_result result = {0};
    struct uuid worker;
    enum err rc = find_worker(cli->db, text, &worker);

    if (rc == ERR_OK)
        rc = db_exec(cli->db, QUERY_WORKER_ASK_DRAIN,
                     DB_PARAMS(db_uuid(&worker), db_i64((int64_t)within_ms)), &result);
    if (rc != ERR_OK)
        return rc;
    if (result.rows == 0)
        rc = fail(ERR_NOT_FOUND, "the worker %.80s has just left", text);
    else
        print_asked(&worker, db_get_i64(&result, 0, 0));
    db_result_release(&result);
    return rc == ERR_OK ? cli_flush() : rc;
}

/* ---- worker ---- */

static enum err run_worker(struct cli *cli, const struct options_rest *rest)
{
    if (strcmp(rest->argument[0], "list") == 0) {
        if (rest->count > 1)
            return fail(ERR_USAGE, "worker list takes no id; --all shows those that are gone, too");
        if (typed.within_ms != UINT64_MAX)
            return fail(ERR_USAGE, "--within belongs to worker drain");
        return run_list(cli);
    }
    if (rest->count < 2)
        return fail(ERR_USAGE, "worker drain needs the id or the name of a worker; "
                               "`mserve worker list` shows them");
    if (typed.all)
        return fail(ERR_USAGE, "--all belongs to worker list");
    return run_drain(cli, rest->argument[1]);
}

static const struct option worker_rows[] = {
    {"all", 'a', OPTION_FLAG, NULL, &typed.all,
     .sentence = "list: those that are gone, too, and why they went."},
    {"json", 'j', OPTION_FLAG, NULL, &typed.json, .sentence = "As JSON."},
    {"within", 'w', OPTION_DURATION, "TIME", &typed.within_ms,
     .sentence = "drain: how much time it has for that; 60s without it.", .max = WITHIN_MAX_MS},
    COMMAND_CONFIG,
};

static const struct command commands[] = {
    {{.name = "worker",
      .arguments = "list|drain [ID]",
      .summary = "Lists the fleet, or lets a worker leave in good order.",
      .details = "ID is the worker's id, the beginning of it, or its name.",
      .row = worker_rows,
      .row_count = sizeof(worker_rows) / sizeof(worker_rows[0]),
      .arguments_min = 1,
      .arguments_max = 2,
      .choices = "list|drain"},
     COMMAND_SCHEMA,
     run_worker},
};

const struct command_group command_worker = {commands, sizeof(commands) / sizeof(commands[0])};
