/* tenant_erase.c: jobs are ended, then bodies go in pieces, then Kafka is asked how long it keeps its. */
#include "producer/tenant_erase.h"

#include "config/clock.h"
#include "config/log.h"
#include "producer/interrupt.h"
#include "producer/topics.h"
#include "sql/queries.h"
#include "sql/tenant.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Kafka looks for what is too old every five minutes, and deletes it one minute later. */
enum { POLL_MS = 500, SHOWN_MAX = 20, KAFKA_TIDIES_MS = 6 * 60000 };

/* ---- the jobs end ---- */

static enum err refuse_open(const char *tenant, const struct db_result *open)
{
    char id[UUID_BATCH_SIZE];

    for (int row = 0; row < open->rows && row < SHOWN_MAX; row++)
        printf("%s %s\n", uuid_format_batch(db_get_uuid(open, row, 0), id),
               db_get_slice(open, row, 1).data);
    return fail(ERR_AGAIN,
                "%d job%s of %s %s asked to end and %s not yet, so nothing was erased: workers or "
                "the scheduler write the last rows; run the same command again",
                open->rows, open->rows == 1 ? "" : "s", tenant, open->rows == 1 ? "was" : "were",
                open->rows == 1 ? "has" : "have");
}

static enum err end_jobs(struct cli *cli, const char *tenant, uint64_t wait_ms)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * (long)CLOCK_NS_PER_MS};
    uint64_t until_ns = clock_mono_ns() + wait_ms * CLOCK_NS_PER_MS;
    bool said = false;

    for (;;) {
        struct db_result open = {0};
        enum err rc = tenant_erase_open(cli->db, tenant, &open);

        if (rc == ERR_NOT_FOUND)
            rc = fail(rc, "there is no tenant %.80s; `mserve tenant list` shows them", tenant);
        if (rc == ERR_OK && open.rows > 0 && clock_mono_ns() >= until_ns)
            rc = refuse_open(tenant, &open);
        if (rc == ERR_OK && open.rows > 0 && !said)
            fprintf(stderr, "waiting for %d of its jobs to end\n", open.rows);
        said = true;
        if (rc != ERR_OK || open.rows == 0) {
            db_result_release(&open);
            return rc;
        }
        db_result_release(&open);
        nanosleep(&pause, NULL);
        if (interrupted())
            return fail(ERR_INTERRUPTED, "interrupted; the same command goes on");
    }
}

/* ---- the bodies go ---- */

static enum err erase_bodies(struct cli *cli, const char *tenant)
{
    struct tenant_erasure erasure = {0};
    enum err rc = ERR_OK;

    while (rc == ERR_OK && !erasure.done) {
        rc = tenant_erase_step(cli->db, tenant, &erasure);
        if (rc == ERR_OK && interrupted() && !erasure.done)
            rc = fail(ERR_INTERRUPTED, "interrupted; the same command goes on");
    }
    if (rc == ERR_OK)
        printf("erased: the bodies, names and metadata of %" PRIu64 " job%s (%" PRIu64
               " lines) of %s\n",
               erasure.jobs, erasure.jobs == 1 ? "" : "s", erasure.rows, tenant);
    return rc;
}

/* ---- what is left ---- */

static const char *day(int64_t ms, char text[40])
{
    time_t seconds = (time_t)(ms / 1000) + (ms % 1000 != 0);
    struct tm tm;

    strftime(text, 40, "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&seconds, &tm));
    return text;
}

static enum err print_topic(struct cli *cli, const char *topic, int64_t newest_ms)
{
    struct topic_keeps keeps;
    char at[40];
    enum err rc = topics_keeps(cli->settings, topic, &keeps);

    if (rc == ERR_NOT_FOUND) {
        printf("  Kafka, %s: nothing, the topic is gone\n", topic);
        return ERR_OK;
    }
    if (rc != ERR_OK)
        return rc;
    if (keeps.retention_ms < 0)
        printf("  Kafka, %s: for ever, its retention.ms is -1; set one, or delete the topic\n",
               topic);
    else
        printf("  Kafka, %s: until %s\n", topic,
               day(newest_ms + keeps.retention_ms + keeps.roll_ms + KAFKA_TIDIES_MS, at));
    return ERR_OK;
}

static enum err print_topics(struct cli *cli, const char *tenant)
{
    struct db_result topics = {0};
    char dead[256];
    enum err rc;

    snprintf(dead, sizeof(dead), "%.200s.dead-letter", cli->settings->kafka.topic_prefix);
    rc = db_exec(cli->db, QUERY_TENANT_LOG, DB_PARAMS(db_text(tenant), db_text(dead)), &topics);
    for (int row = 0; row < topics.rows && rc == ERR_OK; row++)
        rc = print_topic(cli, db_get_slice(&topics, row, 0).data,
                         db_get_time_us(&topics, row, 1) / 1000);
    db_result_release(&topics);
    return rc;
}

enum err tenant_erase(struct cli *cli, const char *tenant, uint64_t wait_ms)
{
    enum err rc = end_jobs(cli, tenant, wait_ms);

    if (rc == ERR_OK)
        rc = erase_bodies(cli, tenant);
    if (rc != ERR_OK)
        return rc;
    printf(
        "left, on purpose: ids, states, times, counts, tokens and cost of its jobs, and its name\n"
        "left, for a while:\n");
    rc = print_topics(cli, tenant);
    printf(
        "  PostgreSQL: old versions of rows in its files until they are vacuumed, and in its log\n"
        "  backups and standbys: as long as you keep them\n");
    return rc == ERR_OK ? cli_flush() : rc;
}
