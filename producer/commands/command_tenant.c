/* command_tenant.c: tenant list, add, remove, grant, revoke, erase: who may come in, for operators. */
#include "config/log.h"
#include "config/utf8.h"
#include "producer/commands/command.h"
#include "producer/tenant_erase.h"
#include "sql/queries.h"
#include "sql/tenant.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_DEFAULT_MS = 60000, WAIT_MAX_MS = 24 * 3600 * 1000 };

static struct {
    const char *role;
    const char *tenant;
    bool json;
    bool yes;
    uint64_t wait_ms;
} typed = {.wait_ms = WAIT_DEFAULT_MS};

/* ---- list ---- */

enum { TENANT, ROLE, KIND, JOBS, OPEN, SINCE, ERASED_AT, WHOLE };

#define LIST_ROW "%-24s  %-24s  %-9s  %10s  %6s  %-16s  %s\n"

static const char *when(const struct db_result *result, int row, int column, char text[32])
{
    time_t at = (time_t)(db_get_time_us(result, row, column) / 1000000);
    struct tm tm;

    if (db_is_null(result, row, column))
        return "-";
    strftime(text, 32, "%Y-%m-%d %H:%M", localtime_r(&at, &tm));
    return text;
}

static const char *number(const struct db_result *result, int row, int column, char text[24])
{
    if (db_is_null(result, row, TENANT))
        return "-";
    snprintf(text, 24, "%" PRId64, db_get_i64(result, row, column));
    return text;
}

static const char *name(const struct db_result *result, int row, int column, struct buffer *out)
{
    if (db_is_null(result, row, column))
        return "-";
    buffer_add_text(out, "");
    utf8_add_printable(out, db_get_slice(result, row, column));
    return out->data;
}

static void print_table(const struct db_result *result)
{
    char jobs[24], open[24], since[32], erased[32];

    printf(LIST_ROW, "TENANT", "ROLE", "KIND", "JOBS", "OPEN", "SINCE", "ERASED");
    for (int row = 0; row < result->rows; row++) {
        struct buffer tenant = {0}, role = {0}, kind = {0};

        printf(LIST_ROW, name(result, row, TENANT, &tenant), name(result, row, ROLE, &role),
               name(result, row, KIND, &kind), number(result, row, JOBS, jobs),
               number(result, row, OPEN, open), when(result, row, SINCE, since),
               when(result, row, ERASED_AT, erased));
        buffer_release(&tenant);
        buffer_release(&role);
        buffer_release(&kind);
    }
}

static enum err run_list(struct cli *cli, const char *argument)
{
    struct db_result result = {0};
    enum err rc;

    (void)argument;
    rc = db_exec(cli->db, QUERY_TENANT_LIST, DB_NO_PARAMS, &result);
    if (rc != ERR_OK)
        return rc;
    if (typed.json) {
        fputs("[", stdout);
        for (int row = 0; row < result.rows; row++)
            printf("%s%s", row > 0 ? ",\n" : "", db_get_slice(&result, row, WHOLE).data);
        fputs("]\n", stdout);
    } else {
        print_table(&result);
    }
    db_result_release(&result);
    return cli_flush();
}

/* ---- add, grant, revoke, remove ---- */

static enum err run_add(struct cli *cli, const char *tenant)
{
    enum err rc;

    if (typed.role == NULL)
        return fail(ERR_USAGE, "tenant add needs --role: the PostgreSQL role that it logs in with");
    db_expect_rejected(cli->db, true);
    rc = tenant_grant(cli->db, tenant, typed.role, "tenant");
    db_expect_rejected(cli->db, false);
    if (rc == ERR_REJECTED)
        rc = fail(ERR_USAGE, "%.80s is no name of a tenant: a to z, 0 to 9, _ . and -, 63 at most",
                  tenant);
    if (rc != ERR_OK)
        return rc;
    printf("the role %s submits for the tenant %s, and sees only what is its\n", typed.role,
           tenant);
    return cli_flush();
}

static enum err run_grant(struct cli *cli, const char *role, const char *kind)
{
    bool serves = strcmp(kind, "worker") == 0 || strcmp(kind, "scheduler") == 0;
    enum err rc;

    if (!serves && strcmp(kind, "reader") != 0 && strcmp(kind, "tenant") != 0)
        return fail(ERR_USAGE, "\"%.40s\" is no kind of role: worker, scheduler, reader or tenant",
                    kind);
    if (serves != (typed.tenant == NULL))
        return fail(ERR_USAGE,
                    serves ? "a %s works for all tenants: leave out --tenant"
                           : "a %s needs --tenant: whose jobs it is to see",
                    kind);
    rc = tenant_grant(cli->db, typed.tenant, role, kind);
    if (rc != ERR_OK)
        return rc;
    printf("the role %s is a %s%s%s\n", role, kind, serves ? "" : " of the tenant ",
           serves ? "" : typed.tenant);
    return cli_flush();
}

static enum err run_revoke(struct cli *cli, const char *role)
{
    enum err rc = tenant_revoke(cli->db, role);

    if (rc == ERR_NOT_FOUND)
        return fail(rc,
                    "the role %.80s has no rights here; `mserve tenant list` shows those that do",
                    role);
    if (rc != ERR_OK)
        return rc;
    printf("the role %s may do nothing here any more\n", role);
    return cli_flush();
}

static enum err run_remove(struct cli *cli, const char *tenant)
{
    struct buffer roles = {0};
    bool gone = false;
    enum err rc = tenant_remove(cli->db, tenant, &roles, &gone);

    if (rc == ERR_NOT_FOUND)
        rc = fail(rc, "there is no tenant %.80s; `mserve tenant list` shows them", tenant);
    if (rc == ERR_OK) {
        if (roles.len > 0)
            printf("may do nothing here any more: %s\n", roles.data);
        printf(gone ? "the tenant %s is gone\n"
                    : "the tenant %s stays for the books of its jobs; `mserve tenant erase` erases "
                      "what they hold\n",
               tenant);
        rc = cli_flush();
    }
    buffer_release(&roles);
    return rc;
}

/* ---- erase ---- */

/* A person types the name once more; a program says --yes. */
static enum err confirm(const char *tenant)
{
    char line[128] = "";

    if (typed.yes)
        return ERR_OK;
    if (!isatty(STDIN_FILENO))
        return fail(ERR_USAGE, "this cannot be undone: say --yes where nobody can be asked");
    fprintf(stderr,
            "All prompts and results of %s will be gone, its jobs are cancelled and its roles lose "
            "their rights. Type its name to go on: ",
            tenant);
    if (fgets(line, sizeof(line), stdin) != NULL)
        line[strcspn(line, "\n")] = '\0';
    return strcmp(line, tenant) == 0 ? ERR_OK
                                     : fail(ERR_USAGE, "that is not its name; nothing was done");
}

static enum err run_erase(struct cli *cli, const char *tenant)
{
    enum err rc = confirm(tenant);

    return rc == ERR_OK ? tenant_erase(cli, tenant, typed.wait_ms) : rc;
}

/* ---- tenant ---- */

static const struct {
    const char *word;
    uint32_t arguments; /* behind it */
    const char *wants;
    enum err (*run)(struct cli *cli, const char *argument);
} actions[] = {
    {"list", 0, "takes no name", run_list},
    {"add", 1, "needs the name of a tenant, and --role", run_add},
    {"remove", 1, "needs the name of a tenant", run_remove},
    {"grant", 2, "needs a role and what it is to be: worker, scheduler, reader or tenant", NULL},
    {"revoke", 1, "needs a role", run_revoke},
    {"erase", 1, "needs the name of a tenant", run_erase},
};

static enum err run_tenant(struct cli *cli, const struct options_rest *rest)
{
    size_t i = 0;

    while (strcmp(actions[i].word, rest->argument[0]) != 0)
        i++; /* one of `choices` */
    if (rest->count != actions[i].arguments + 1)
        return fail(ERR_USAGE, "tenant %s %s", actions[i].word, actions[i].wants);
    if (actions[i].run == NULL)
        return run_grant(cli, rest->argument[1], rest->argument[2]);
    return actions[i].run(cli, rest->count > 1 ? rest->argument[1] : NULL);
}

static const struct option tenant_rows[] = {
    {"role", 'r', OPTION_TEXT, "ROLE", &typed.role,
     .sentence = "add: the PostgreSQL role that submits for it; it must exist."},
    {"tenant", 't', OPTION_TEXT, "NAME", &typed.tenant,
     .sentence = "grant: whose jobs a reader, or one more submitter, is to see."},
    {"yes", 'y', OPTION_FLAG, NULL, &typed.yes, .sentence = "erase: without asking."},
    {"wait", 'w', OPTION_DURATION, "TIME", &typed.wait_ms,
     .sentence = "erase: how long to wait for its jobs to end; 60s without it.",
     .max = WAIT_MAX_MS},
    {"json", 'j', OPTION_FLAG, NULL, &typed.json, .sentence = "list: as JSON."},
    COMMAND_CONFIG,
};

static const struct command commands[] = {
    {{.name = "tenant",
      .arguments = "list|add|remove|grant|revoke|erase [NAME|ROLE] [KIND]",
      .summary = "Who may submit, read, work and schedule, and the end of what a tenant has here.",
      .details = "mserve tenant add acme --role acme_app\n"
                 "mserve tenant grant acme_reports reader --tenant acme\n"
                 "mserve tenant grant gpu_fleet worker",
      .row = tenant_rows,
      .row_count = sizeof(tenant_rows) / sizeof(tenant_rows[0]),
      .arguments_min = 1,
      .arguments_max = 3,
      .choices = "list|add|remove|grant|revoke|erase"},
     COMMAND_SCHEMA,
     run_tenant},
};

const struct command_group command_tenant = {commands, sizeof(commands) / sizeof(commands[0])};
