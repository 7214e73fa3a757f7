/*
 * db.h: one connection to PostgreSQL, and queries on it.
 *
 * THREADS A connection is used by one thread at a time. Calls block, but never for longer than
 * options.reply_timeout_ms without a byte from the server: a server that is silent for so long
 * counts as gone.
 *
 * ERRORS, the same for every function that talks to the server:
 *   ERR_DATABASE  the connection is lost, or the server cannot serve now. Logged. What was sent
 *                 last may or may not have been done. db_is_open() says whether to db_reopen().
 *   ERR_DENIED    password, role or privilege. Logged, with what to do.
 *   ERR_SCHEMA    no such database, schema, table or function. Logged, with what to do.
 *   ERR_INTERNAL  a query of ours is wrong. Logged.
 *   ERR_REJECTED  SQLSTATE class 22, 23 or 54: the data cannot be stored. Logged, unless the caller
 *                 said that it expects it (db_expect_rejected).
 *   ERR_CONFLICT  a unique key is taken. Not logged.
 *   ERR_AGAIN     deadlock, lock time-out, statement time-out, serialization. Not logged.
 *   ERR_LOST      raised by a function of ours (SQLSTATE class MS). Not logged.
 * db_sqlstate(), db_message() and db_detail() say more about the last failure. After a failure
 * inside a transaction, db_rollback() comes next.
 */
#ifndef MSERVE_SQL_DB_H
#define MSERVE_SQL_DB_H

#include "config/buffer.h"
#include "config/errors.h"
#include "config/failpoint.h"
#include "config/uuid.h"

#include <stdbool.h>
#include <stdint.h>

struct db;

struct db_options {
    const char *dsn;              /* a libpq conninfo string or URI; several hosts are allowed */
    const char *password;         /* NULL or "": what the DSN or ~/.pgpass says */
    const char *application_name; /* as seen in pg_stat_activity */
    /* Milliseconds; 0 is the default in brackets. */
    uint32_t connect_timeout_ms;             /* for each host, rounded up to seconds [10,000] */
    uint32_t reply_timeout_ms;               /* silence after which the server is gone [60,000] */
    uint32_t statement_timeout_ms;           /* kept by the server; 0: none */
    uint32_t lock_timeout_ms;                /* likewise */
    uint32_t idle_in_transaction_timeout_ms; /* likewise: frees the locks of a stopped client */
};

/* *ret is the caller's to close. The strings of `options` are copied. */
enum err db_open(const struct db_options *options, struct db **ret);
void db_close(struct db *db); /* NULL is allowed */

/* False once the connection is lost: then only db_reopen() and db_close() are of use. */
bool db_is_open(const struct db *db);

/* Closes and connects again with the same options. Temporary tables are gone. */
enum err db_reopen(struct db *db);

/* Counts connections made: what was set up under another number is to be set up again. */
uint32_t db_generation(const struct db *db);

/* The socket, for tests that cut it and loops that poll it; -1 when not open. */
int db_socket(const struct db *db);

/*
 * Parameters of a query, $1 first: DB_PARAMS(db_uuid(job), db_text("x"), db_i64(7)). What they point
 * to is borrowed until the query has been sent.
 */
enum db_kind {
    DB_NULL,
    DB_BOOL,
    DB_I32,
    DB_I64,
    DB_TEXT,
    DB_BYTEA,
    DB_UUID,
    DB_JSON,
    DB_I32_ARRAY,
    DB_I64_ARRAY,
    DB_TEXT_ARRAY,
    DB_BYTEA_ARRAY,
    DB_UUID_ARRAY,
};

struct db_param {
    enum db_kind kind;
    int64_t value;    /* BOOL, I32, I64 */
    const void *data; /* bytes, or the first element */
    size_t count;     /* bytes, or elements */
};

struct db_params {
    const struct db_param *param;
    int count;
};

#define DB_PARAMS(...)                                                                             \
    ((struct db_params){(const struct db_param[]){__VA_ARGS__},                                    \
                        sizeof((struct db_param[]){__VA_ARGS__}) / sizeof(struct db_param)})
#define DB_NO_PARAMS ((struct db_params){NULL, 0})

static inline struct db_param db_null(void)
{
    return (struct db_param){.kind = DB_NULL};
}

static inline struct db_param db_bool(bool value)
{
    return (struct db_param){.kind = DB_BOOL, .value = value};
}

static inline struct db_param db_i32(int32_t value)
{
    return (struct db_param){.kind = DB_I32, .value = value};
}

static inline struct db_param db_i64(int64_t value)
{
    return (struct db_param){.kind = DB_I64, .value = value};
}

/* NULL becomes SQL's null, as do slices whose data is NULL. */
struct db_param db_text(const char *text);

static inline struct db_param db_text_slice(struct slice text)
{
    return (struct db_param){
        .kind = text.data ? DB_TEXT : DB_NULL, .data = text.data, .count = text.len};
}

static inline struct db_param db_json(struct slice json)
{
    return (struct db_param){
        .kind = json.data ? DB_JSON : DB_NULL, .data = json.data, .count = json.len};
}

static inline struct db_param db_bytea(const void *data, size_t len)
{
    return (struct db_param){.kind = data ? DB_BYTEA : DB_NULL, .data = data, .count = len};
}

static inline struct db_param db_uuid(const struct uuid *uuid)
{
    return (struct db_param){
        .kind = uuid ? DB_UUID : DB_NULL, .data = uuid ? uuid->bytes : NULL, .count = 16};
}

static inline struct db_param db_i32_array(const int32_t *values, size_t count)
{
    return (struct db_param){.kind = DB_I32_ARRAY, .data = values, .count = count};
}

static inline struct db_param db_i64_array(const int64_t *values, size_t count)
{
    return (struct db_param){.kind = DB_I64_ARRAY, .data = values, .count = count};
}

static inline struct db_param db_text_array(const struct slice *values, size_t count)
{
    return (struct db_param){.kind = DB_TEXT_ARRAY, .data = values, .count = count};
}

static inline struct db_param db_bytea_array(const struct slice *values, size_t count)
{
    return (struct db_param){.kind = DB_BYTEA_ARRAY, .data = values, .count = count};
}

static inline struct db_param db_uuid_array(const struct uuid *values, size_t count)
{
    return (struct db_param){.kind = DB_UUID_ARRAY, .data = values, .count = count};
}

/* Rows that came back. {0} is valid and empty; whoever received one releases it. */
struct db_result {
    void *pg;
    int rows;     /* returned */
    int affected; /* by insert, update, delete */
};

void db_result_release(struct db_result *result);

/*
 * One statement. `ret` may be NULL when no rows are wanted; it is set on success only, and what it
 * held before is not released.
 */
enum err db_exec(struct db *db, const char *query, struct db_params params, struct db_result *ret);

/*
 * Values of a result. Row and column from 0. To ask for a row, column or type that is not there is
 * a mistake of ours and ends the process. A null gives 0, false, {NULL, 0}, and for a UUID zeros.
 */
bool db_is_null(const struct db_result *result, int row, int column);
bool db_get_bool(const struct db_result *result, int row, int column);
int32_t db_get_i32(const struct db_result *result, int row, int column);
int64_t db_get_i64(const struct db_result *result, int row, int column); /* also of an int4 */
struct uuid db_get_uuid(const struct db_result *result, int row, int column);
/* text, json, bytea: bytes inside the result, with a NUL behind them */
struct slice db_get_slice(const struct db_result *result, int row, int column);
/* timestamptz, as microseconds since 1970 */
int64_t db_get_time_us(const struct db_result *result, int row, int column);
/* bit varying: bit i is (data[i / 8] >> (7 - i % 8)) & 1 */
struct slice db_get_bits(const struct db_result *result, int row, int column, uint32_t *ret_bits);

enum err db_begin(struct db *db); /* READ COMMITTED */
enum err db_commit(struct db *db);
/* Quiet: also after a lost connection. */
void db_rollback(struct db *db);

/*
 * Several statements in one message, which the server runs to its end without waiting for us. When
 * one of them is `copy … from stdin`, it gets `copy_data`. *ret, if any, are the rows of the last
 * statement that returned some; its values are in text form (db_get_i64, db_get_slice).
 */
enum err db_script(struct db *db, const char *statements, struct slice copy_data,
                   struct db_result *ret);

/*
 * Rows that come as a stream, of a query `copy (…) to stdout (format binary)`: one at a time, so that
 * their number does not matter. COPY takes no parameters: $1, $2 … are written into the text, and may
 * be I32, I64, UUID and I64_ARRAY only.
 */
enum { DB_COPY_FIELDS_MAX = 24 };

struct db_copied {
    int count;
    struct slice field[DB_COPY_FIELDS_MAX]; /* {NULL, 0} is a null; borrowed for the call */
};

/*
 * After on_row_cb has failed the rest is read and passed over, and its error returned. It must not use
 * the connection. ERR_INTERNAL, too, when what came is no such stream.
 */
enum err db_copy_out(struct db *db, const char *query, struct db_params params,
                     enum err (*on_row_cb)(void *arg, const struct db_copied *row), void *arg);

/* Values of such a row, as of a result above; another type than is there is a mistake of ours. */
int32_t db_copied_i32(const struct db_copied *row, int column); /* also of an int2 */
int64_t db_copied_i64(const struct db_copied *row, int column); /* also of an int4 */
struct uuid db_copied_uuid(const struct db_copied *row, int column);
int64_t db_copied_time_us(const struct db_copied *row, int column);

/*
 * Hears of the channel from here on, on this connection only: after db_reopen() it is asked for again.
 * `channel` is of lower case letters, digits and _.
 */
enum err db_listen(struct db *db, const char *channel);

/*
 * Waits until something was said on a channel, but not longer than so; a signal ends it too. What was
 * said is forgotten: *ret says only whether anything was.
 */
enum err db_wait_notice(struct db *db, uint32_t timeout_ms, bool *ret);

/*
 * Failpoints (config/failpoint.h) of the next statement, which is to follow at once: when its rows are
 * sent and their end is not; when all is sent and no reply is read; and up to two inside a function of
 * the server, where tests/fault/failpoints.sql has put them ("" is none).
 */
#ifdef MSERVE_FAILPOINTS
#define DB_FAILPOINT_COPIED(db, name) db_failpoint_set_copied((db), FAILPOINT_PREFIX name)
#define DB_FAILPOINT_SENT(db, name)   db_failpoint_set_sent((db), FAILPOINT_PREFIX name)
#define DB_FAILPOINTS_INSIDE(db, first, second)                                                    \
    db_failpoint_tell((db), FAILPOINT_PREFIX first, FAILPOINT_PREFIX second)
void db_failpoint_set_copied(struct db *db, const char *point);
void db_failpoint_set_sent(struct db *db, const char *point);
void db_failpoint_tell(struct db *db, const char *first, const char *second);
#else
#define DB_FAILPOINT_COPIED(db, name)           ((void)0)
#define DB_FAILPOINT_SENT(db, name)             ((void)0)
#define DB_FAILPOINTS_INSIDE(db, first, second) ((void)0)
#endif

/* While on, ERR_REJECTED is an expected outcome and not logged. */
void db_expect_rejected(struct db *db, bool expected);

/* Of the last failure; never NULL. */
const char *db_sqlstate(const struct db *db); /* "23505"; "" when the server said nothing */
const char *db_message(const struct db *db);
const char *db_detail(const struct db *db);
const char *db_constraint(const struct db *db);

#endif
