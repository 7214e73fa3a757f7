/* command_cost.c: what a job cost. */
#include "config/log.h"
#include "producer/command.h"
#include "producer/job_view.h"
#include "sql/queries.h"

#include <stdio.h>

static struct {
    bool json;
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
    WHOLE,
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
}

static enum err run_cost(struct cli *cli, const struct options_rest *rest)
{
    struct db_result result = {0};
    struct uuid job;
    enum err rc = job_view_find(cli->db, rest->argument[0], &job);

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
    return cli_flush();
}

static const struct option cost_rows[] = {
    {"json", 'j', OPTION_FLAG, NULL, &typed.json, .sentence = "As JSON, one object a currency."},
    COMMAND_CONFIG,
};

static const struct command commands[] = {
    {{.name = "cost",
      .arguments = "ID",
      .summary = "Prints the device time of a job, and what it is worth.",
      .details = "Recompute and lost are what interruptions cost; they are charged to nobody.",
      .row = cost_rows,
      .row_count = sizeof(cost_rows) / sizeof(cost_rows[0]),
      .arguments_min = 1,
      .arguments_max = 1},
     COMMAND_SCHEMA,
     run_cost},
};

const struct command_group command_cost = {commands, sizeof(commands) / sizeof(commands[0])};
