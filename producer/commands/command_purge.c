/* command_purge.c: purge: forgets what ended long ago, a whole month at once where that is possible. */
#include "config/clock.h"
#include "config/log.h"
#include "producer/commands/command.h"
#include "producer/interrupt.h"
#include "producer/progress.h"
#include "sql/purge.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum {
    JOBS_AT_ONCE = 256,
    ROWS_AT_ONCE = 2000,
    BLOBS_AT_ONCE = 100, /* a body may be large */
    BUSY_TRIES = 10,
    BUSY_WAIT_MS = 300,
};

static struct {
    uint64_t older_ms;
    bool dry_run;
} typed;

struct purge {
    struct cli *cli;
    struct progress progress;
    int64_t before_us;
    int64_t rows_max; /* that there were, for the bar */
    int64_t rows, jobs, blobs;
    int months;
};

static void show(struct purge *purge)
{
    char rows[32], note[64];

    snprintf(note, sizeof(note), "%s rows", progress_number((uint64_t)purge->rows, rows));
    progress_show(&purge->progress, "purging", (uint64_t)purge->rows, (uint64_t)purge->rows_max,
                  note, clock_mono_ns());
}

/* Somebody reads or writes rows at nearly any moment: the lock is asked for in vain a few times. */
static enum err purge_month(struct purge *purge, const char *name)
{
    enum purge_partition what = PURGE_BUSY;
    enum err rc = ERR_OK;

    for (int tries = 0; rc == ERR_OK && what == PURGE_BUSY && tries < BUSY_TRIES; tries++) {
        if (tries > 0)
            usleep(BUSY_WAIT_MS * 1000);
        rc = purge_partition(purge->cli->db, name, purge->before_us, &what);
    }
    if (rc == ERR_OK)
        purge->months += what == PURGE_DROPPED;
    return rc;
}

static enum err purge_months(struct purge *purge)
{
    char name[PURGE_NAME_SIZE] = "";
    enum err rc = ERR_OK;

    while (rc == ERR_OK && !interrupted()) {
        rc = purge_next_partition(purge->cli->db, name, name);
        if (rc == ERR_OK)
            rc = purge_month(purge, name);
    }
    return rc == ERR_NOT_FOUND ? ERR_OK : rc;
}

static enum err purge_job(struct purge *purge, const struct uuid *job)
{
    int64_t rows = 1;
    enum err rc = ERR_OK;

    while (rc == ERR_OK && rows > 0) {
        rc = purge_rows(purge->cli->db, job, purge->before_us, ROWS_AT_ONCE, &rows);
        if (rc == ERR_OK)
            purge->rows += rows;
        show(purge);
        if (rc == ERR_OK && interrupted())
            rc = ERR_INTERRUPTED;
    }
    if (rc == ERR_OK)
        rc = purge_rest(purge->cli->db, job);
    if (rc == ERR_OK)
        purge->jobs++;
    return rc;
}

static enum err purge_all_jobs(struct purge *purge)
{
    struct uuid job[JOBS_AT_ONCE], after = {0};
    uint32_t count = 1;
    enum err rc = ERR_OK;

    while (rc == ERR_OK && count > 0) {
        rc = purge_jobs(purge->cli->db, purge->before_us, &after, job, JOBS_AT_ONCE, &count);
        for (uint32_t i = 0; rc == ERR_OK && i < count; i++)
            rc = purge_job(purge, &job[i]);
        if (rc == ERR_OK && count > 0)
            after = job[count - 1];
    }
    return rc;
}

static enum err purge_bodies(struct purge *purge)
{
    int64_t blobs = 1;
    enum err rc = ERR_OK;

    while (rc == ERR_OK && blobs > 0) {
        rc = purge_blobs(purge->cli->db, purge->before_us, BLOBS_AT_ONCE, &blobs);
        if (rc == ERR_OK)
            purge->blobs += blobs;
        if (rc == ERR_OK && interrupted())
            rc = ERR_INTERRUPTED;
    }
    return rc;
}

static enum err run_all(struct purge *purge)
{
    char jobs[32], rows[32], blobs[32];
    enum err rc = purge_months(purge);

    if (rc == ERR_OK)
        rc = purge_all_jobs(purge);
    if (rc == ERR_OK)
        rc = purge_bodies(purge);
    progress_wipe(&purge->progress);
    if (rc == ERR_INTERRUPTED)
        fprintf(stderr, "mserve: interrupted; the same command goes on where it stopped\n");
    if (rc != ERR_OK)
        return rc;
    printf("purged %s jobs: %s rows one by one and %d whole months; %s bodies\n",
           progress_number((uint64_t)purge->jobs, jobs),
           progress_number((uint64_t)purge->rows, rows), purge->months,
           progress_number((uint64_t)purge->blobs, blobs));
    return cli_flush();
}

static enum err run_purge(struct cli *cli, const struct options_rest *rest)
{
    struct purge purge = {.cli = cli};
    struct purge_count count;
    char jobs[32], rows[32];
    enum err rc;

    (void)rest;
    if (typed.older_ms == 0)
        return fail(ERR_USAGE, "purge needs --older-than, like 90d: jobs that ended before are "
                               "forgotten");
    rc = purge_count(cli->db, typed.older_ms, &count);
    if (rc != ERR_OK)
        return rc;
    if (typed.dry_run) {
        printf("%s jobs with %s rows would be purged\n",
               progress_number((uint64_t)count.jobs, jobs),
               progress_number((uint64_t)count.rows, rows));
        return cli_flush();
    }
    progress_init(&purge.progress, false);
    purge.before_us = count.before_us;
    purge.rows_max = count.rows;
    return run_all(&purge);
}

static const struct option rows[] = {
    {"older-than", 0, OPTION_DURATION, "TIME", &typed.older_ms,
     .sentence = "How long ago a job must have ended, like 90d.", .min = 1},
    {"dry-run", 'n', OPTION_FLAG, NULL, &typed.dry_run,
     .sentence = "Says how much would be purged; purges nothing."},
    COMMAND_CONFIG,
};

static const struct command commands[] = {
    {{.name = "purge",
      .summary = "Forgets results and requests of jobs that ended long ago, of all tenants.",
      .details =
          "The jobs stay, with their counts, tokens and cost: the bill of every month is what\n"
          "it was. Killed at any moment and run again, it goes on where it stopped.",
      .row = rows,
      .row_count = sizeof(rows) / sizeof(rows[0])},
     COMMAND_SCHEMA,
     run_purge},
};

const struct command_group command_purge = {commands, sizeof(commands) / sizeof(commands[0])};
