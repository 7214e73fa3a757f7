/*
 * copy_rate.c: how many rows a second this PostgreSQL takes by COPY into a staging table and INSERT
 * from there: what `chain` is measured against. Copies the rows of mserve.results into a table of
 * the same form, in batches of 512, one transaction each, over one connection.
 *
 *   copy_rate [BATCH_ROWS]          prints "rows=… seconds=… rows_per_s=…"
 */
#include <arpa/inet.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/buffer.h"
#include "config/clock.h"

enum { HEADER_BYTES = 19 };

static void die(PGconn *connection, const char *what)
{
    fprintf(stderr, "copy_rate: %s: %s", what, PQerrorMessage(connection));
    exit(1);
}

static void run(PGconn *connection, const char *statements, ExecStatusType expected)
{
    PGresult *result = PQexec(connection, statements);

    if (PQresultStatus(result) != expected)
        die(connection, statements);
    PQclear(result);
}

/* All rows in COPY's binary form, with header and trailer. */
static void read_rows(PGconn *connection, struct buffer *rows)
{
    char *piece;
    int len;

    run(connection,
        "copy (select * from mserve.results order by job, line) to stdout (format binary)",
        PGRES_COPY_OUT);
    while ((len = PQgetCopyData(connection, &piece, 0)) > 0) {
        buffer_add(rows, piece, (size_t)len);
        PQfreemem(piece);
    }
    PQclear(PQgetResult(connection));
}

static uint16_t u16_at(const char *at)
{
    uint16_t value;

    memcpy(&value, at, sizeof value);
    return ntohs(value);
}

static int32_t i32_at(const char *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof value);
    return (int32_t)ntohl(value);
}

/* Past the row at `at`; NULL at the trailer. */
static const char *skip_row(const char *at)
{
    int fields = (int16_t)u16_at(at);

    if (fields < 0)
        return NULL;
    at += 2;
    for (int i = 0; i < fields; i++) {
        int32_t len = i32_at(at);

        at += 4 + (len > 0 ? len : 0);
    }
    return at;
}

static void put_batch(PGconn *connection, const char *header, const char *from, const char *to)
{
    static const char trailer[2] = {'\xff', '\xff'};

    run(connection, "begin; copy staging from stdin (format binary)", PGRES_COPY_IN);
    if (PQputCopyData(connection, header, HEADER_BYTES) != 1 ||
        PQputCopyData(connection, from, (int)(to - from)) != 1 ||
        PQputCopyData(connection, trailer, sizeof trailer) != 1 ||
        PQputCopyEnd(connection, NULL) != 1)
        die(connection, "copy");
    PQclear(PQgetResult(connection));
    while (PQgetResult(connection))
        ;
    run(connection, "insert into copied select * from staging on conflict do nothing; commit",
        PGRES_COMMAND_OK);
}

static uint64_t put_all(PGconn *connection, const struct buffer *rows, uint32_t batch_rows)
{
    const char *from = rows->data + HEADER_BYTES;
    const char *at = from;
    uint64_t total = 0;
    uint32_t in_batch = 0;

    for (;;) {
        const char *next = skip_row(at);

        if (in_batch > 0 && (!next || in_batch == batch_rows)) {
            put_batch(connection, rows->data, from, at);
            from = at;
            in_batch = 0;
        }
        if (!next)
            return total;
        at = next;
        in_batch++;
        total++;
    }
}

int main(int argc, char **argv)
{
    uint32_t batch_rows = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 512;
    PGconn *connection =
        PQconnectdb(getenv("MSERVE_POSTGRES_DSN") ? getenv("MSERVE_POSTGRES_DSN") : "");
    struct buffer rows = {0};
    uint64_t begin_ns;
    uint64_t count;
    double seconds;

    if (PQstatus(connection) != CONNECTION_OK)
        die(connection, "connect");
    run(connection,
        "set client_min_messages = warning; drop table if exists copied;"
        "create table copied (like mserve.results including all) partition by range (job);"
        "create table copied_default partition of copied default;"
        "create temp table staging (like mserve.results) on commit delete rows",
        PGRES_COMMAND_OK);
    read_rows(connection, &rows);
    begin_ns = clock_mono_ns();
    count = put_all(connection, &rows, batch_rows);
    seconds = (double)(clock_mono_ns() - begin_ns) / 1e9;
    run(connection, "drop table copied", PGRES_COMMAND_OK);
    printf("rows=%llu seconds=%.3f rows_per_s=%.0f\n", (unsigned long long)count, seconds,
           (double)count / seconds);
    buffer_release(&rows);
    PQfinish(connection);
    return 0;
}
