/* command_watch.c: watch: a job, until it has ended. */
#include "config/clock.h"
#include "producer/commands/command.h"
#include "producer/interrupt.h"
#include "producer/job_view.h"
#include "producer/patience.h"
#include "producer/progress.h"
#include "producer/watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    LOOK_EVERY_MS = 500,
    SAY_EVERY_MS = 10000,
    /* Where only its rows say what a job is charged, they are asked for a twentieth of the time. */
    CHARGED_REST = 20,
    MS = 1000000,
};

static struct {
    uint64_t every_ms;
} typed = {.every_ms = SAY_EVERY_MS};

/* What the rows said last that the job is charged, and when they are asked again. */
struct charged {
    uint64_t next_ns;
    char text[64];
};

static enum err look(struct db *db, const struct uuid *job, struct charged *charged,
                     struct job_progress *ret)
{
    uint64_t began_ns = clock_mono_ns(), ended_ns;
    enum err rc = job_view_progress(db, job, ret);
    bool ended = rc == ERR_OK && job_state_is_terminal(ret->state);

    if (rc != ERR_OK || ret->priced_alike || (!ended && began_ns < charged->next_ns)) {
        if (rc == ERR_OK && !ret->priced_alike)
            memcpy(ret->charged, charged->text, sizeof(ret->charged));
        return rc;
    }
    rc = job_view_charged(db, job, charged->text, sizeof(charged->text));
    ended_ns = clock_mono_ns();
    charged->next_ns =
        ended_ns + CHARGED_REST * (ended_ns - began_ns) + LOOK_EVERY_MS * (uint64_t)MS;
    memcpy(ret->charged, charged->text, sizeof(ret->charged));
    return rc;
}

static void show(struct progress *bar, const struct watch *watch)
{
    const struct job_progress *progress = &watch->last;
    char line[WATCH_LINE_SIZE];

    progress_show(bar, job_state_name(progress->state), (uint64_t)progress->done,
                  progress->lines > 0 ? (uint64_t)progress->lines : 0, watch_line(watch, line),
                  clock_mono_ns());
}

static void say_back(const struct uuid *job, struct progress *bar)
{
    char id[UUID_BATCH_SIZE];

    progress_wipe(bar);
    fprintf(stderr,
            "%s is where it was before: the database lost commits in a failover; what they held is "
            "done again\n",
            uuid_format_batch(*job, id));
}

static void print_end(const struct uuid *job, const struct job_progress *progress)
{
    char id[UUID_BATCH_SIZE], number[32];

    printf("%s %s", uuid_format_batch(*job, id), job_state_name(progress->state));
    printf(": %s completed", progress_number((uint64_t)progress->completed, number));
    printf(", %s failed", progress_number((uint64_t)progress->failed, number));
    if (progress->cancelled > 0)
        printf(", %s cancelled", progress_number((uint64_t)progress->cancelled, number));
    if (progress->expired > 0)
        printf(", %s expired", progress_number((uint64_t)progress->expired, number));
    printf(", %s tokens in", progress_number((uint64_t)progress->input_tokens, number));
    printf(", %s out, %.3f s of device time",
           progress_number((uint64_t)progress->output_tokens, number),
           (double)progress->gpu_ns / 1e9);
    printf("%s%s\n", progress->charged[0] != '\0' ? ", " : "", progress->charged);
}

/* Until the job has ended; *ret is how. */
static enum err follow(struct cli *cli, const struct uuid *job, struct progress *bar,
                       struct job_progress *ret)
{
    struct patience patience = {0};
    struct charged charged = {0};
    struct watch watch = {0};
    bool held = false;

    for (;;) {
        enum err rc = look(cli->db, job, &charged, ret);

        if (rc != ERR_OK)
            progress_wipe(bar);
        if (patience_try(&patience, cli->db, rc)) /* the job goes on without us */
            continue;
        if (rc == ERR_DATABASE && interrupted())
            return ERR_INTERRUPTED;
        if (rc != ERR_OK || job_state_is_terminal(ret->state))
            return rc;
        patience_reset(&patience);
        job_view_say_hold(job, ret, bar, &held);
        if (!watch_see(&watch, ret, clock_mono_ns()))
            say_back(job, bar);
        show(bar, &watch);
        usleep(LOOK_EVERY_MS * 1000);
        if (interrupted())
            return ERR_INTERRUPTED;
    }
}

static enum err run_watch(struct cli *cli, const struct options_rest *rest)
{
    struct job_progress progress;
    struct progress bar;
    struct uuid job;
    enum err rc = job_view_find(cli->db, rest->argument[0], &job);

    if (rc != ERR_OK)
        return rc;
    progress_init_out(&bar, typed.every_ms);
    rc = follow(cli, &job, &bar, &progress);
    progress_wipe(&bar);
    if (rc != ERR_OK)
        return rc;
    print_end(&job, &progress);
    rc = cli_flush();
    return rc == ERR_OK ? job_view_outcome(&progress) : rc;
}

static const struct option rows[] = {
    {"every", 'e', OPTION_DURATION, "TIME", &typed.every_ms,
     .sentence =
         "How often a line is written where standard output is no terminal; 10s without it.",
     .min = 100, .max = 86400000},
    COMMAND_CONFIG,
};

static const struct command commands[] = {
    {{.name = "watch",
      .arguments = "ID",
      .summary = "Follows a job until it has ended; the exit status says how.",
      .row = rows,
      .row_count = sizeof(rows) / sizeof(rows[0]),
      .arguments_min = 1,
      .arguments_max = 1},
     COMMAND_SCHEMA,
     run_watch},
};

const struct command_group command_watch = {commands, sizeof(commands) / sizeof(commands[0])};
