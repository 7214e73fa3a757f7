/* db.c: connecting, and carrying statements to the server and results back. */
#include "sql/db_internal.h"

#include "config/log.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONNECT_TIMEOUT_MS = 10000,
    REPLY_TIMEOUT_MS = 60000,
    LOST_PACKETS_MS = 12000,
    COPY_PIECE_BYTES = 1 << 18,
};

static void on_notice_cb(void *arg, const PGresult *result)
{
    const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    char quoted[256];

    db_failpoint_notice(arg, text ? text : "");
    log_debug("db.notice", "text=%s", log_quote(quoted, sizeof(quoted), text ? text : ""));
}

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
    return value ? value : otherwise;
}

/*
 * What stands before dbname is a default that the DSN may change, what stands behind it is not. A
 * network that swallows packets is noticed sooner than a server that is silent, which may be at work:
 * after half of that silence, at most 12 s for what was sent, and 15 s while only an answer is awaited
 * (on Linux tcp_user_timeout decides there too, looked at with each probe).
 */
static PGconn *connect_once(const struct db *db)
{
    uint32_t silence_ms = or_default(db->options.reply_timeout_ms, REPLY_TIMEOUT_MS) / 2;
    char connect_timeout[16], tcp_timeout[16];
    const char *keys[16] = {0}, *values[16] = {0};
    int n = 0;
#define ADD(key, value) (keys[n] = (key), values[n++] = (value))

    snprintf(connect_timeout, sizeof(connect_timeout), "%u",
             (or_default(db->options.connect_timeout_ms, CONNECT_TIMEOUT_MS) + 999) / 1000);
    snprintf(tcp_timeout, sizeof(tcp_timeout), "%u",
             silence_ms < LOST_PACKETS_MS ? silence_ms : LOST_PACKETS_MS);
    ADD("connect_timeout", connect_timeout);
    ADD("tcp_user_timeout", tcp_timeout);
    ADD("keepalives_idle", "10");
    ADD("keepalives_interval", "5");
    ADD("keepalives_count", "3");
    ADD("target_session_attrs", "read-write");
    ADD("dbname", db->dsn);
    if (db->password && *db->password)
        ADD("password", db->password);
    ADD("application_name", db->application_name);
    ADD("client_encoding", "UTF8");
#undef ADD
    return PQconnectdbParams(keys, values, 1);
}

/* Compiling a plan takes a second; the longest of our queries takes a tenth of one. */
static enum err set_up(struct db *db)
{
    char script[256];

    PQsetNoticeReceiver(db->conn, on_notice_cb, db);
    if (PQsetnonblocking(db->conn, 1) != 0)
        return db_failed(db, NULL, "");
    snprintf(script, sizeof(script),
             "set jit = off; set statement_timeout = %u; set lock_timeout = %u; "
             "set idle_in_transaction_session_timeout = %u",
             db->options.statement_timeout_ms, db->options.lock_timeout_ms,
             db->options.idle_in_transaction_timeout_ms);
    return db_script(db, script, (struct slice){NULL, 0}, NULL);
}

enum err db_reopen(struct db *db)
{
    PGconn *conn;

    PQfinish(db->conn);
    db->conn = NULL;
    conn = connect_once(db);
    if (PQstatus(conn) != CONNECTION_OK) {
        enum err rc = db_connect_failed(db, conn);

        PQfinish(conn);
        return rc;
    }
    db->conn = conn;
    db->generation++;
    return set_up(db);
}

enum err db_open(const struct db_options *options, struct db **ret)
{
    struct db *db = xcalloc(1, sizeof(*db));
    enum err rc;

    db->options = *options;
    db->dsn = xstrdup(options->dsn ? options->dsn : "");
    db->password = xstrdup(options->password ? options->password : "");
    db->application_name =
        xstrdup(options->application_name ? options->application_name : "mserve");
    rc = db_reopen(db);
    if (rc) {
        db_close(db);
        return rc;
    }
    *ret = db;
    return ERR_OK;
}

void db_close(struct db *db)
{
    if (!db)
        return;
    PQfinish(db->conn);
    free(db->dsn);
    free(db->password);
    free(db->application_name);
    buffer_release(&db->encoded);
    free(db);
}

bool db_is_open(const struct db *db)
{
    return db->conn && PQstatus(db->conn) == CONNECTION_OK;
}

uint32_t db_generation(const struct db *db)
{
    return db->generation;
}

int db_socket(const struct db *db)
{
    return db->conn ? PQsocket(db->conn) : -1;
}

void db_expect_rejected(struct db *db, bool expected)
{
    db->expect_rejected = expected;
}

enum err db_gone(struct db *db, const char *why)
{
    char where[300];

    db_error_clear(db);
    db_where(db->conn, where, sizeof(where));
    PQfinish(db->conn);
    db->conn = NULL;
    return fail(ERR_DATABASE, "%s: %s", where, why);
}

enum err db_wait(struct db *db, bool or_writable)
{
    struct pollfd fd = {.fd = PQsocket(db->conn),
                        .events = (short)(POLLIN | (or_writable ? POLLOUT : 0))};
    int timeout = (int)or_default(db->options.reply_timeout_ms, REPLY_TIMEOUT_MS);
    int n;

    do
        n = poll(&fd, 1, timeout);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return db_gone(db, "poll failed");
    if (n == 0)
        return db_gone(db, "no answer came in time; the connection was given up");
    if ((fd.revents & ~POLLOUT) && !PQconsumeInput(db->conn))
        return db_failed(db, NULL, "");
    return ERR_OK;
}

enum err db_flush(struct db *db)
{
    for (;;) {
        int left = PQflush(db->conn);
        enum err rc;

        if (left < 0)
            return db_failed(db, NULL, "");
        if (left == 0)
            return ERR_OK;
        rc = db_wait(db, true);
        if (rc)
            return rc;
    }
}

enum err db_next_result(struct db *db, PGresult **ret)
{
    while (PQisBusy(db->conn)) {
        enum err rc = db_wait(db, false);

        if (rc)
            return rc;
    }
    *ret = PQgetResult(db->conn);
    return ERR_OK;
}

/* An error of the server while we send is read afterwards, as the answer to the whole. */
static enum err send_copy_data(struct db *db, struct slice data)
{
    size_t sent = 0;
    enum err rc;

    while (sent < data.len) {
        size_t piece = data.len - sent < COPY_PIECE_BYTES ? data.len - sent : COPY_PIECE_BYTES;

        if (PQputCopyData(db->conn, data.data + sent, (int)piece) < 0)
            return db_failed(db, NULL, "");
        sent += piece;
        rc = db_flush(db);
        if (rc)
            return rc;
    }
    rc = db_failpoint_copied(db);
    if (rc)
        return rc;
    if (PQputCopyEnd(db->conn, NULL) < 0)
        return db_failed(db, NULL, "");
    rc = db_flush(db);
    return rc ? rc : db_failpoint_sent(db, true);
}

static void keep(struct db_result *ret, PGresult *result)
{
    db_result_release(ret);
    ret->pg = result;
    ret->rows = PQntuples(result);
    ret->affected = atoi(PQcmdTuples(result));
}

/* Reads all answers to what was sent: the last rows go to *ret, the first error is the outcome. */
static enum err collect(struct db *db, const char *query, struct slice copy_data,
                        struct db_result *ret)
{
    enum err outcome = ERR_OK;

    for (;;) {
        PGresult *result;
        enum err rc = db_next_result(db, &result);

        if (rc || !result)
            return rc ? rc : outcome;
        switch (PQresultStatus(result)) {
        case PGRES_COMMAND_OK:
            ret->affected = atoi(PQcmdTuples(result));
            PQclear(result);
            break;
        case PGRES_TUPLES_OK:
            keep(ret, result);
            break;
        case PGRES_COPY_IN:
            PQclear(result);
            rc = send_copy_data(db, copy_data);
            break;
        default:
            if (!outcome)
                outcome = db_failed(db, result, query);
            PQclear(result);
            break;
        }
        if (rc || !db->conn)
            return rc ? rc : outcome;
    }
}

static enum err exchange(struct db *db, int sent, const char *query, struct slice copy_data,
                         struct db_result *ret)
{
    struct db_result result = {0};
    enum err rc;

    if (!sent)
        return db_failed(db, NULL, query);
    rc = db_flush(db);
    if (!rc)
        rc = db_failpoint_sent(db, false);
    if (!rc)
        rc = collect(db, query, copy_data, &result);
    rc = db_failpoint_ended(db, rc);
    if (rc || !ret) {
        db_result_release(&result);
        return rc;
    }
    *ret = result;
    return ERR_OK;
}

enum err db_not_open(void)
{
    return fail(ERR_DATABASE, "there is no connection to PostgreSQL");
}

enum err db_exec(struct db *db, const char *query, struct db_params params, struct db_result *ret)
{
    struct db_wire_params wire;
    int sent;

    if (!db->conn)
        return db_not_open();
    db_error_clear(db);
    db_params_encode(params, &db->encoded, &wire);
    sent = PQsendQueryParams(db->conn, query, params.count, wire.types, wire.values, wire.lengths,
                             wire.formats, 1);
    return exchange(db, sent, query, (struct slice){NULL, 0}, ret);
}

enum err db_script(struct db *db, const char *statements, struct slice copy_data,
                   struct db_result *ret)
{
    if (!db->conn)
        return db_not_open();
    db_error_clear(db);
    return exchange(db, PQsendQuery(db->conn, statements), statements, copy_data, ret);
}

enum err db_begin(struct db *db)
{
    return db_script(db, "begin isolation level read committed", (struct slice){NULL, 0}, NULL);
}

/* In a failed transaction COMMIT would quietly roll back: that must not look like success. */
enum err db_commit(struct db *db)
{
    if (db->conn && PQtransactionStatus(db->conn) == PQTRANS_INERROR)
        return fail(ERR_INTERNAL, "commit of a transaction that has failed");
    return db_script(db, "commit", (struct slice){NULL, 0}, NULL);
}

void db_rollback(struct db *db)
{
    char sqlstate[sizeof(db->sqlstate)], message[sizeof(db->message)], detail[sizeof(db->detail)];

    if (!db_is_open(db) || PQtransactionStatus(db->conn) == PQTRANS_IDLE)
        return;
    memcpy(sqlstate, db->sqlstate, sizeof(sqlstate)); /* what led here stays to be read */
    memcpy(message, db->message, sizeof(message));
    memcpy(detail, db->detail, sizeof(detail));
    (void)db_script(db, "rollback", (struct slice){NULL, 0}, NULL);
    memcpy(db->sqlstate, sqlstate, sizeof(sqlstate));
    memcpy(db->message, message, sizeof(message));
    memcpy(db->detail, detail, sizeof(detail));
}
