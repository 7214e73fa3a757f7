/* command_cost_by.c: the bill of a month, so that it adds up to the ledger. */
#include "producer/commands/command_cost.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "config/json.h"
#include "config/log.h"
#include "config/utf8.h"
#include "sql/queries.h"

/* Columns of QUERY_COST_BY. */
enum {
    NAME,
    CURRENCY,
    REQUESTS,
    HELD_NS,
    OPEN_NS = HELD_NS + 7, /* in between: rows, shared, recompute, lost, overhead, idle */
    MONEY,
    PREEMPTION_MONEY = MONEY + 3, /* in between: on demand, saved */
    WHOLE,
};

static bool is_month(const char *text)
{
    static const char form[] = "dddd-dd";

    for (size_t i = 0; i < sizeof(form); i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';

        if (form[i] == 'd' ? !digit : text[i] != form[i])
            return false;
    }
    return strncmp(text, "0000", 4) != 0 && strcmp(text + 5, "01") >= 0 &&
           strcmp(text + 5, "12") <= 0;
}

/* The first day of a month as typed; of this one where nothing is. */
static enum err first_day(const char *month, char out[16])
{
    time_t now = time(NULL);
    struct tm tm;

    if (month && !is_month(month))
        return fail(ERR_USAGE, "\"%.40s\" is no month: it is written 2026-11", month);
    if (month)
        snprintf(out, 16, "%.7s-01", month);
    else
        strftime(out, 16, "%Y-%m-01", gmtime_r(&now, &tm));
    return ERR_OK;
}

/* "tag:team" is the word tag and the key team; the others have no key. */
static enum err read_by(const char *by, const char **ret_word, const char **ret_key)
{
    static const char *const words[] = {"tenant", "model", "capacity"};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(by, words[i]) == 0) {
            *ret_word = words[i];
            *ret_key = NULL;
            return ERR_OK;
        }
    }
    if (strncmp(by, "tag:", 4) != 0 || by[4] == '\0')
        return fail(ERR_USAGE,
                    "\"%.60s\" is not known: --by is tenant, model, capacity or tag:KEY, a key of "
                    "the jobs' metadata",
                    by);
    *ret_word = "tag";
    *ret_key = by + 4;
    return ERR_OK;
}

/* Names are whatever people typed; a terminal is not to obey them. */
static void print_name(const struct db_result *result, int row)
{
    struct buffer text = {0};

    buffer_add_text(&text, "");
    if (db_is_null(result, row, NAME))
        buffer_add_text(&text, "total");
    else
        utf8_add_printable(&text, db_get_slice(result, row, NAME));
    printf("%-24s", text.data);
    buffer_release(&text);
}

static void print_table(const struct db_result *result)
{
    printf("%-24s %9s %14s %14s %10s %10s %10s %10s %10s %10s %12s %12s %12s %12s\n", "NAME",
           "REQUESTS", "HELD/s", "ROWS/s", "SHARED/s", "RECOMP./s", "LOST/s", "OVERH./s", "IDLE/s",
           "OPEN/s", "COST", "ON DEMAND", "SAVED", "PREEMPTION");
    for (int row = 0; row < result->rows; row++) {
        print_name(result, row);
        printf(" %9" PRId64, db_get_i64(result, row, REQUESTS));
        for (int column = HELD_NS; column <= OPEN_NS; column++)
            printf(column <= HELD_NS + 1 ? " %14.3f" : " %10.3f",
                   (double)db_get_i64(result, row, column) / 1e9);
        for (int column = MONEY; column <= PREEMPTION_MONEY; column++)
            printf(" %12s", db_get_slice(result, row, column).data);
        printf(" %s\n", db_get_slice(result, row, CURRENCY).data);
    }
}

/* As RFC 4180 has it: in quotes, and a quote twice. */
static void print_quoted(struct slice text)
{
    putchar('"');
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '"')
            putchar('"');
        putchar(text.data[i]);
    }
    putchar('"');
}

/* Without the totals: who sums up a column gets them. */
static void print_csv(const struct db_result *result)
{
    puts(
        "name,currency,requests,held_ns,rows_ns,shared_ns,recompute_ns,lost_ns,overhead_ns,idle_ns,"
        "open_ns,money,on_demand_money,saved_money,preemption_money");
    for (int row = 0; row < result->rows; row++) {
        if (db_is_null(result, row, NAME))
            continue;
        print_quoted(db_get_slice(result, row, NAME));
        putchar(',');
        print_quoted(db_get_slice(result, row, CURRENCY));
        for (int column = REQUESTS; column <= OPEN_NS; column++)
            printf(",%" PRId64, db_get_i64(result, row, column));
        for (int column = MONEY; column <= PREEMPTION_MONEY; column++)
            printf(",%s", db_get_slice(result, row, column).data);
        putchar('\n');
    }
}

static void print_objects(const struct db_result *result, bool totals)
{
    const char *between = "";

    for (int row = 0; row < result->rows; row++) {
        if (db_is_null(result, row, NAME) != totals)
            continue;
        printf("%s\n%s", between, db_get_slice(result, row, WHOLE).data);
        between = ",";
    }
}

static void print_json(const struct db_result *result, const char *by, const char *day)
{
    struct buffer head = {0};

    json_write_text(&head, by);
    printf("{\"month\":\"%.7s\",\"by\":%.*s,\"lines\":[", day, (int)head.len, head.data);
    print_objects(result, false);
    fputs("],\"totals\":[", stdout);
    print_objects(result, true);
    fputs("]}\n", stdout);
    buffer_release(&head);
}

enum err cost_by(struct cli *cli, const char *by, const char *month, enum cost_form form)
{
    struct db_result result = {0};
    const char *word, *key;
    char day[16];
    enum err rc = read_by(by, &word, &key);

    if (rc == ERR_OK)
        rc = first_day(month, day);
    if (rc == ERR_OK)
        rc = db_exec(cli->db, QUERY_COST_BY, DB_PARAMS(db_text(word), db_text(key), db_text(day)),
                     &result);
    if (rc != ERR_OK)
        return rc;
    if (form == COST_CSV)
        print_csv(&result);
    else if (form == COST_JSON)
        print_json(&result, by, day);
    else
        print_table(&result);
    db_result_release(&result);
    return cli_flush();
}
