/*
 * log_check.c: does the log hold what the index of a job says? For each chunk: its partition is the
 * right one; between its first and last offset every line of it is found, with the custom_id of the
 * index, a body or what stands for one, and the bodies give the chunk's sha256.
 *
 *   log_check JOB      prints `N chunks, N lines, N copies`: copies are messages that were found more
 *                      than once, as an upload that was killed leaves them. Exit 1: something is wrong.
 *
 * Servers from MSERVE_POSTGRES_DSN and MSERVE_KAFKA_BROKERS.
 */
#include "config/sha256.h"
#include "config/uuid.h"
#include "producer/message.h"
#include "sql/db.h"

#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum { LINES_MAX = 1024, TIMEOUT_MS = 10000 };

static const char query[] =
    "select c.chunk, c.first_line, c.lines, c.topic, c.part, c.first_offset, c.last_offset, "
    "c.sha256, c.custom_ids, (j.partition_first + c.chunk) % j.partitions, j.tenant "
    "from mserve.chunks c join mserve.jobs j using (job) where job = $1 "
    "order by part, first_offset";

struct seen {
    bool there;
    char *body;
    size_t len;
};

static struct seen seen[LINES_MAX];
static uint64_t copies;

static void die(const char *what, int64_t chunk, int64_t line)
{
    fprintf(stderr, "chunk %" PRId64 " line %" PRId64 ": %s\n", chunk, line, what);
    exit(1);
}

static rd_kafka_t *connect_kafka(void)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    const char *brokers = getenv("MSERVE_KAFKA_BROKERS");
    char why[256];

    rd_kafka_conf_set(conf, "bootstrap.servers", brokers != NULL ? brokers : "", NULL, 0);
    rd_kafka_conf_set(conf, "group.id", "log_check", NULL, 0);
    rd_kafka_conf_set(conf, "enable.auto.commit", "false", NULL, 0);
    rd_kafka_conf_set(conf, "auto.offset.reset", "error", NULL, 0);
    rd_kafka_conf_set(conf, "fetch.wait.max.ms", "10", NULL, 0);
    return rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why));
}

static void assign(rd_kafka_t *kafka, const char *topic, int32_t part, int64_t offset)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

    rd_kafka_topic_partition_list_add(list, topic, part)->offset = offset;
    rd_kafka_assign(kafka, list);
    rd_kafka_topic_partition_list_destroy(list);
}

/* The custom_id that the index has for a line of the chunk; the texts follow one another. */
static const char *next_id(const char *id)
{
    return id + strlen(id) + 1;
}

static void take(const rd_kafka_message_t *from, struct uuid job, int64_t chunk, int64_t first_line,
                 int32_t lines, struct slice tenant)
{
    struct message message;
    const char *why;
    struct seen *line;

    if (message_decode(from, &message, &why) != ERR_OK)
        die(why, chunk, -1);
    if (memcmp(message.job, job.bytes, 16) != 0 || message.chunk != (uint64_t)chunk)
        return; /* another chunk's: it may lie between */
    if ((int64_t)message.line < first_line || (int64_t)message.line >= first_line + lines)
        die("a line that is not the chunk's", chunk, (int64_t)message.line);
    if (message.tenant.len != tenant.len || memcmp(message.tenant.data, tenant.data, tenant.len))
        die("another tenant", chunk, (int64_t)message.line);
    line = &seen[(int64_t)message.line - first_line];
    if (line->there) {
        copies++;
        return;
    }
    line->there = true;
    line->len = message.body.len;
    line->body = malloc(message.body.len + message.custom_id.len + 2);
    memcpy(line->body, message.body.data, message.body.len);
    memcpy(line->body + message.body.len, message.custom_id.data, message.custom_id.len);
    line->body[message.body.len + message.custom_id.len] = '\0';
}

static void read_range(rd_kafka_t *kafka, struct uuid job, const struct db_result *rows, int row)
{
    struct slice topic = db_get_slice(rows, row, 3);
    int64_t first = db_get_i64(rows, row, 5);
    int64_t last = db_get_i64(rows, row, 6);
    int64_t at = first - 1;

    /* Going on where the chunk before ended spares a new assignment, which takes a while. */
    if (row == 0 || db_get_i32(rows, row, 4) != db_get_i32(rows, row - 1, 4) ||
        first != db_get_i64(rows, row - 1, 6) + 1)
        assign(kafka, topic.data, db_get_i32(rows, row, 4), first);
    while (at < last) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(kafka, TIMEOUT_MS);

        if (message == NULL || message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
            die(message == NULL ? "nothing came" : rd_kafka_message_errstr(message),
                db_get_i32(rows, row, 0), -1);
        at = message->offset;
        if (at <= last)
            take(message, job, db_get_i32(rows, row, 0), db_get_i64(rows, row, 1),
                 db_get_i32(rows, row, 2), db_get_slice(rows, row, 10));
        rd_kafka_message_destroy(message);
    }
}

static void check_chunk(rd_kafka_t *kafka, struct uuid job, const struct db_result *rows, int row)
{
    int64_t chunk = db_get_i32(rows, row, 0);
    int32_t lines = db_get_i32(rows, row, 2);
    struct slice small = db_get_slice(rows, row, 8);
    static char ids[LINES_MAX * 513];
    size_t ids_len = ZSTD_decompress(ids, sizeof(ids), small.data, small.len);
    const char *id = ids;
    struct sha256 sha;
    uint8_t digest[32];

    if (ZSTD_isError(ids_len))
        die("its custom_ids cannot be unpacked", chunk, -1);
    if (db_get_i32(rows, row, 4) != db_get_i32(rows, row, 9))
        die("it is in another partition than its own", chunk, -1);
    memset(seen, 0, sizeof(seen));
    read_range(kafka, job, rows, row);
    sha256_init(&sha);
    for (int32_t i = 0; i < lines; i++) {
        if (!seen[i].there)
            die("not in the log", chunk, db_get_i64(rows, row, 1) + i);
        if (id >= ids + ids_len || strcmp(id, seen[i].body + seen[i].len) != 0)
            die("another custom_id in the index", chunk, db_get_i64(rows, row, 1) + i);
        id = next_id(id);
        sha256_add(&sha, seen[i].body, seen[i].len);
        sha256_add(&sha, "\n", 1);
        free(seen[i].body);
    }
    sha256_end(&sha, digest);
    sha256_release(&sha);
    if (memcmp(digest, db_get_slice(rows, row, 7).data, 32) != 0)
        die("the bodies are not those of the index", chunk, -1);
}

int main(int argc, char **argv)
{
    struct db_options options = {.dsn = getenv("MSERVE_POSTGRES_DSN"),
                                 .application_name = "log_check"};
    struct db_result rows = {0};
    rd_kafka_t *kafka;
    struct uuid job;
    struct db *db;
    int64_t lines = 0;

    if (argc != 2 || !uuid_parse_batch((struct slice){argv[1], strlen(argv[1])}, &job)) {
        fprintf(stderr, "usage: log_check JOB\n");
        return 1;
    }
    if (db_open(&options, &db) != ERR_OK ||
        db_exec(db, query, DB_PARAMS(db_uuid(&job)), &rows) != ERR_OK)
        return 1;
    kafka = connect_kafka();
    for (int row = 0; row < rows.rows; row++) {
        check_chunk(kafka, job, &rows, row);
        lines += db_get_i32(&rows, row, 2);
    }
    printf("%d chunks, %" PRId64 " lines, %" PRIu64 " copies\n", rows.rows, lines, copies);
    rd_kafka_destroy_flags(kafka, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    db_result_release(&rows);
    db_close(db);
    return 0;
}
