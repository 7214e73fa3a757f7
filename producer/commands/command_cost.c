/* command_cost.c: what a job cost, and how its attempts ended; what a month cost. */
#include "producer/commands/command_cost.h"
#include "config/log.h"
#include "producer/commands/command.h"
#include "producer/job_view.h"
#include "sql/queries.h"

#include <inttypes.h>
#include <stdio.h>

static struct {
    const char *by, *month;
    bool csv, json;
} typed;

/* Columns of QUERY_JOB_COST. */
enum {
    STATE,
    TIER,
    CURRENCY,
    ROWS_NS,
    SHARED_NS,
    RECOMPUTE_NS,
    LOST_NS,
    ROWS_MONEY,
    SHARED_MONEY,
    CHARGED_MONEY,
    UNCHARGED_MONEY,
    ON_DEMAND_MONEY,
    SAVED_MONEY,
    WHOLE,
};

/* Columns of QUERY_JOB_ATTEMPTS. */
enum {
    WHY,
    ATTEMPTS,
    ESTIMATED,
    TOKENS_KEPT,
    TOKENS_LOST,
    KEPT_NS,
    ATTEMPTS_LOST_NS,
    ATTEMPTS_RECOMPUTE_NS,
    ATTEMPTS_MONEY,
    ATTEMPTS_CURRENCY,
};

static void print_line(const struct db_result *result, int row, const char *name, int64_t ns,
                       int money)
{
    printf("  %-12s %14.3f s", name, (double)ns / 1e9);
    if (money >= 0)
        printf("  %14s %s", db_get_slice(result, row, money).data,
               db_get_slice(result, row, CURRENCY).data);
    printf("\n");
}

static void print_money(const struct db_result *result, int row, const char *name, int money)
{
    if (!db_is_null(result, row, money))
        printf("  %-12s %16s  %14s %s\n", name, "", db_get_slice(result, row, money).data,
               db_get_slice(result, row, CURRENCY).data);
}

static void print_text(const struct db_result *result, int row, const struct uuid *job)
{
    int64_t rows_ns = db_get_i64(result, row, ROWS_NS);
    int64_t shared_ns = db_get_i64(result, row, SHARED_NS);
    int64_t recompute_ns = db_get_i64(result, row, RECOMPUTE_NS);
    int64_t lost_ns = db_get_i64(result, row, LOST_NS);
    char id[UUID_BATCH_SIZE];

    printf("%s %s on tier %s\n", uuid_format_batch(*job, id), db_get_slice(result, row, STATE).data,
           db_get_slice(result, row, TIER).data);
    print_line(result, row, "requests", rows_ns, ROWS_MONEY);
    print_line(result, row, "shared", shared_ns, SHARED_MONEY);
    print_line(result, row, "charged", rows_ns + shared_ns, CHARGED_MONEY);
    print_line(result, row, "recompute", recompute_ns, -1);
    print_line(result, row, "lost", lost_ns, -1);
    print_line(result, row, "not charged", recompute_ns + lost_ns, UNCHARGED_MONEY);
    print_money(result, row, "on demand", ON_DEMAND_MONEY);
    print_money(result, row, "saved", SAVED_MONEY);
}

/* "-" where the worker's last words did not say. */
static const char *count_or_dash(const struct db_result *result, int row, int column, char out[24])
{
    if (db_is_null(result, row, column))
        return "-";
    snprintf(out, 24, "%" PRId64, db_get_i64(result, row, column));
    return out;
}

static void print_attempt(const struct db_result *result, int row)
{
    char kept[24], lost[24];

    printf("  %-14s %8" PRId64 " %9" PRId64 " %11s %11s %12.3f %12.3f %12.3f  %14s %s\n",
           db_get_slice(result, row, WHY).data, db_get_i64(result, row, ATTEMPTS),
           db_get_i64(result, row, ESTIMATED), count_or_dash(result, row, TOKENS_KEPT, kept),
           count_or_dash(result, row, TOKENS_LOST, lost),
           (double)db_get_i64(result, row, KEPT_NS) / 1e9,
           (double)db_get_i64(result, row, ATTEMPTS_LOST_NS) / 1e9,
           (double)db_get_i64(result, row, ATTEMPTS_RECOMPUTE_NS) / 1e9,
           db_get_slice(result, row, ATTEMPTS_MONEY).data,
           db_get_slice(result, row, ATTEMPTS_CURRENCY).data);
}

/* Attempts without a row: how they ended, what of them went on elsewhere and what did not. */
static enum err print_attempts(struct cli *cli, const struct uuid *job)
{
    struct db_result result = {0};
    enum err rc = db_exec(cli->db, QUERY_JOB_ATTEMPTS, DB_PARAMS(db_uuid(job)), &result);

    if (rc != ERR_OK)
        return rc;
    if (result.rows > 0)
        printf("  %-14s %8s %9s %11s %11s %12s %12s %12s  %14s\n", "ended", "attempts", "estimated",
               "tokens kept", "tokens lost", "kept/s", "lost/s", "read again/s", "cost");
    for (int row = 0; row < result.rows; row++)
        print_attempt(&result, row);
    db_result_release(&result);
    return ERR_OK;
}

static enum err cost_of_job(struct cli *cli, const char *text)
{
    struct db_result result = {0};
    struct uuid job;
    enum err rc = job_view_find(cli->db, text, &job);

    if (rc == ERR_OK)
        rc = db_exec(cli->db, QUERY_JOB_COST, DB_PARAMS(db_uuid(&job)), &result);
    if (rc != ERR_OK)
        return rc;
    for (int row = 0; row < result.rows; row++) {
        if (typed.json)
            printf("%s\n", db_get_slice(&result, row, WHOLE).data);
        else
            print_text(&result, row, &job);
    }
    db_result_release(&result);
    if (!typed.json)
        rc = print_attempts(cli, &job);
    return rc == ERR_OK ? cli_flush() : rc;
}

static enum err run_cost(struct cli *cli, const struct options_rest *rest)
{
    if ((rest->count == 1) == (typed.by != NULL))
        return fail(ERR_USAGE, "cost needs the id of a job, or --by for all that a month cost");
    if (typed.csv && typed.json)
        return fail(ERR_USAGE, "--csv and --json exclude each other");
    if (typed.by)
        return cost_by(cli, typed.by, typed.month,
                       typed.csv    ? COST_CSV
                       : typed.json ? COST_JSON
                                    : COST_TABLE);
    if (typed.month || typed.csv)
        return fail(ERR_USAGE, "--%s belongs to --by", typed.csv ? "csv" : "month");
    return cost_of_job(cli, rest->argument[0]);
}

static const struct option cost_rows[] = {
    {"by", 'b', OPTION_TEXT, "WHAT", &typed.by,
     .sentence = "What a month cost, by tenant, model, capacity or tag:KEY."},
    {"month", 'm', OPTION_TEXT, "YYYY-MM", &typed.month,
     .sentence = "--by: which month, in UTC; without it this one."},
    {"csv", 0, OPTION_FLAG, NULL, &typed.csv, .sentence = "--by: as CSV, without the totals."},
    {"json", 'j', OPTION_FLAG, NULL, &typed.json,
     .sentence = "As JSON; of a job one object a currency."},
    COMMAND_CONFIG,
};

static const struct command commands[] = {
    {{.name = "cost",
      .arguments = "[ID]",
      .summary = "Prints the device time of a job or a month, and what it is worth.",
      .details = "Recompute and lost are what interruptions cost; they are charged to nobody.",
      .row = cost_rows,
      .row_count = sizeof(cost_rows) / sizeof(cost_rows[0]),
      .arguments_min = 0,
      .arguments_max = 1},
     COMMAND_SCHEMA,
     run_cost},
};

const struct command_group command_cost = {commands, sizeof(commands) / sizeof(commands[0])};
