/* command_dead.c: dead-letter list, show, replay: requests that were found guilty of killing workers. */
#include "config/clock.h"
#include "config/json.h"
#include "config/log.h"
#include "config/utf8.h"
#include "producer/commands/command.h"
#include "producer/job_view.h"
#include "producer/submit.h"
#include "sql/queries.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LIST_DEFAULT = 20, LIST_MAX = 1000 };

static struct {
    bool json;
    uint32_t limit;
} typed = {.limit = LIST_DEFAULT};

/* Columns of QUERY_DEAD_LETTERS_LIST, and of QUERY_DEAD_LETTER_GET. */
enum { JOB, LINE, CUSTOM_ID, AT, DEATHS, WHY, REPLAYED_AS, WHOLE };
enum { GOT_CUSTOM_ID, GOT_BODY, GOT_ENDPOINT, GOT_TIER, GOT_WINDOW, GOT_WHOLE };

/* ---- list ---- */

#define LIST_ROW "%-38s  %10s  %-16s  %6s  %-13s  %-38s  %s\n"

static void print_row(const struct db_result *result, int row)
{
    struct uuid job = db_get_uuid(result, row, JOB);
    char id[UUID_BATCH_SIZE], again[UUID_BATCH_SIZE] = "-", line[24], deaths[16], when[32];
    time_t at = (time_t)(db_get_time_us(result, row, AT) / 1000000);
    struct buffer name = {0};
    struct tm tm;

    if (!db_is_null(result, row, REPLAYED_AS))
        uuid_format_batch(db_get_uuid(result, row, REPLAYED_AS), again);
    snprintf(line, sizeof(line), "%" PRId64, db_get_i64(result, row, LINE));
    snprintf(deaths, sizeof(deaths), "%d", db_get_i32(result, row, DEATHS));
    strftime(when, sizeof(when), "%Y-%m-%d %H:%M", localtime_r(&at, &tm));
    utf8_add_printable(&name, db_get_slice(result, row, CUSTOM_ID));
    printf(LIST_ROW, uuid_format_batch(job, id), line, when, deaths,
           db_is_null(result, row, WHY) ? "-" : db_get_slice(result, row, WHY).data, again,
           name.data ? name.data : "");
    buffer_release(&name);
}

static void print_json(const struct db_result *result)
{
    fputs("[", stdout);
    for (int row = 0; row < result->rows; row++)
        printf("%s%s", row > 0 ? ",\n" : "", db_get_slice(result, row, WHOLE).data);
    fputs("]\n", stdout);
}

static enum err run_list(struct cli *cli, const char *only)
{
    struct db_result result = {0};
    struct uuid job;
    enum err rc = only != NULL ? job_view_find(cli->db, only, &job) : ERR_OK;

    if (rc == ERR_OK)
        rc = db_exec(
            cli->db, QUERY_DEAD_LETTERS_LIST,
            DB_PARAMS(only != NULL ? db_uuid(&job) : db_null(), db_i32((int32_t)typed.limit)),
            &result);
    if (rc != ERR_OK)
        return rc;
    if (typed.json) {
        print_json(&result);
    } else {
        printf(LIST_ROW, "JOB", "LINE", "SINCE", "DEATHS", "LAST", "REPLAYED AS", "CUSTOM_ID");
        for (int row = 0; row < result.rows; row++)
            print_row(&result, row);
    }
    db_result_release(&result);
    return cli_flush();
}

/* ---- show ---- */

static enum err parse_line(const char *text, int64_t *ret)
{
    char *end;
    long long line;

    errno = 0;
    line = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || line < 0)
        return fail(ERR_USAGE,
                    "\"%.40s\" is no line: a number from 0, as `mserve dead-letter list` shows it",
                    text);
    *ret = line;
    return ERR_OK;
}

static enum err get(struct cli *cli, const struct options_rest *rest, struct uuid *job,
                    int64_t *line, struct db_result *ret)
{
    enum err rc = job_view_find(cli->db, rest->argument[1], job);

    if (rc == ERR_OK)
        rc = parse_line(rest->argument[2], line);
    if (rc == ERR_OK)
        rc = db_exec(cli->db, QUERY_DEAD_LETTER_GET, DB_PARAMS(db_uuid(job), db_i64(*line)), ret);
    if (rc == ERR_OK && ret->rows == 0) {
        db_result_release(ret);
        rc = fail(ERR_NOT_FOUND,
                  "line %" PRId64
                  " of that job is no dead letter; `mserve dead-letter list` shows those that are",
                  *line);
    }
    return rc;
}

static enum err run_show(struct cli *cli, const struct options_rest *rest)
{
    struct db_result result = {0};
    struct uuid job;
    int64_t line;
    enum err rc = get(cli, rest, &job, &line, &result);

    if (rc != ERR_OK)
        return rc;
    printf("%s\n", db_get_slice(&result, 0, GOT_WHOLE).data);
    db_result_release(&result);
    return cli_flush();
}

/* ---- replay ---- */

/* The line as it was submitted. */
static void write_line(const struct db_result *letter, struct buffer *out)
{
    struct slice body = db_get_slice(letter, 0, GOT_BODY);
    size_t from;

    buffer_add_text(out, "{\"custom_id\":");
    json_write_string_clean(out, db_get_slice(letter, 0, GOT_CUSTOM_ID));
    buffer_add_text(out, ",\"method\":\"POST\",\"url\":");
    json_write_string_clean(out, db_get_slice(letter, 0, GOT_ENDPOINT));
    buffer_add_text(out, ",\"body\":");
    from = out->len;
    buffer_add(out, body.data, body.len);
    for (size_t i = from; i < out->len; i++) /* one line: outside of strings a blank is the same */
        if (out->data[i] == '\n' || out->data[i] == '\r')
            out->data[i] = ' ';
    buffer_add_text(out, "}\n");
}

/* In a file of its own, which the caller removes. */
static enum err spool(const struct cli *cli, const struct buffer *line, char path[512])
{
    int fd;
    enum err rc = ERR_OK;

    snprintf(path, 512, "%.400s/mserve-replay-XXXXXX.jsonl", cli->settings->submit.spool_dir);
    fd = mkstemps(path, 6);
    if (fd < 0)
        return fail(ERR_IO, "%s: %s", path, strerror(errno));
    if (write(fd, line->data, line->len) != (ssize_t)line->len)
        rc = fail(ERR_IO, "%s: %s", path, strerror(errno));
    if (close(fd) != 0 && rc == ERR_OK)
        rc = fail(ERR_IO, "%s: %s", path, strerror(errno));
    return rc;
}

static enum err submit_again(struct cli *cli, const struct db_result *letter, const char *path,
                             const char *key)
{
    struct submit_options options = {
        .file = path,
        .tier = db_get_slice(letter, 0, GOT_TIER).data,
        .window = db_get_slice(letter, 0, GOT_WINDOW).data,
        .idempotency_key = key,
        .on_invalid = "fail",
    };

    return submit_run(cli, &options);
}

static enum err run_replay(struct cli *cli, const struct options_rest *rest)
{
    struct db_result letter = {0};
    struct buffer text = {0};
    char path[512] = "", key[160], id[UUID_BATCH_SIZE];
    struct uuid job;
    int64_t line;
    enum err rc = get(cli, rest, &job, &line, &letter);

    if (rc != ERR_OK)
        return rc;
    write_line(&letter, &text);
    snprintf(key, sizeof(key), "replay/%s/%" PRId64 "/%" PRIu64, uuid_format_batch(job, id), line,
             clock_wall_ms());
    rc = spool(cli, &text, path);
    if (rc == ERR_OK)
        rc = submit_again(cli, &letter, path, key);
    if (path[0] != '\0')
        unlink(path);
    if (rc == ERR_OK)
        rc = db_exec(cli->db, QUERY_DEAD_LETTER_REPLAYED,
                     DB_PARAMS(db_uuid(&job), db_i64(line), db_text(key)), NULL);
    buffer_release(&text);
    db_result_release(&letter);
    return rc;
}

/* ---- which of them ---- */

static enum err run_dead_letter(struct cli *cli, const struct options_rest *rest)
{
    const char *what = rest->argument[0];

    if (strcmp(what, "list") == 0)
        return rest->count <= 2
                   ? run_list(cli, rest->count > 1 ? rest->argument[1] : NULL)
                   : fail(ERR_USAGE, "dead-letter list takes the id of one job, or none");
    if (rest->count != 3)
        return fail(ERR_USAGE,
                    "dead-letter %s needs the id of a job and a line; `mserve dead-letter list` "
                    "shows both",
                    what);
    return strcmp(what, "show") == 0 ? run_show(cli, rest) : run_replay(cli, rest);
}

static const struct option dead_rows[] = {
    {"json", 'j', OPTION_FLAG, NULL, &typed.json, .sentence = "list: as JSON."},
    {"limit", 'l', OPTION_U32, "N", &typed.limit,
     .sentence = "list: how many, from new to old; 20 without it.", .min = 1, .max = LIST_MAX},
    COMMAND_CONFIG,
};

static const struct command commands[] = {
    {{.name = "dead-letter",
      .arguments = "list|show|replay [ID [LINE]]",
      .summary = "Requests that killed every worker that ran them: lists, shows, submits anew.",
      .details = "ID is a job, and LINE counts its requests from 0.",
      .row = dead_rows,
      .row_count = sizeof(dead_rows) / sizeof(dead_rows[0]),
      .arguments_min = 1,
      .arguments_max = 3,
      .choices = "list|show|replay"},
     COMMAND_SCHEMA,
     run_dead_letter},
};

const struct command_group command_dead = {commands, sizeof(commands) / sizeof(commands[0])};
