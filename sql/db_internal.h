/* db_internal.h: what the files behind db.h share; nobody else includes it. */
#ifndef MSERVE_SQL_DB_INTERNAL_H
#define MSERVE_SQL_DB_INTERNAL_H

#include "sql/db.h"

#include <libpq-fe.h>

#ifdef MSERVE_FAILPOINTS
struct db_failpoints {
    const char *copied, *sent; /* of the statement that comes or is under way; NULL: none */
    struct failpoint_hit inside[2];
    bool late;           /* its reply counts as not having come */
    char told[96];       /* what the server was told last, */
    uint32_t generation; /* on which connection */
};
#endif

struct db {
    PGconn *conn; /* NULL once the connection is lost */
    char *dsn;
    char *password;
    char *application_name;
    struct db_options options; /* its strings are the three above */
    uint32_t generation;
    bool expect_rejected;
    struct buffer encoded; /* of the parameters being sent */
    char sqlstate[6];
    char message[512];
    char detail[512];
    char constraint[64];
#ifdef MSERVE_FAILPOINTS
    struct db_failpoints failpoints;
#endif
};

/* db_failpoint.c */
#ifdef MSERVE_FAILPOINTS
enum err db_failpoint_copied(struct db *db);
enum err db_failpoint_sent(struct db *db, bool after_copy);
enum err db_failpoint_ended(struct db *db, enum err rc);
void db_failpoint_notice(struct db *db, const char *text);
#else
#define db_failpoint_copied(db)           ERR_OK
#define db_failpoint_sent(db, after_copy) ERR_OK
#define db_failpoint_ended(db, rc)        (rc)
#define db_failpoint_notice(db, text)     ((void)(db))
#endif

/* db.c: closes the connection, and says why. */
enum err db_gone(struct db *db, const char *why);

/* db.c: there is no connection. */
enum err db_not_open(void);

/* db.c: waits until the socket can be read (or written, where asked); whatever comes is taken in. */
enum err db_wait(struct db *db, bool or_writable);

/* db.c: until all is sent. */
enum err db_flush(struct db *db);

/* db.c: *ret is NULL when the server has answered everything. */
enum err db_next_result(struct db *db, PGresult **ret);

/* db_error.c: reads the failure of a result (NULL: of the connection), logs it or not. */
enum err db_failed(struct db *db, const PGresult *result, const char *query);

/* db_error.c: why connecting failed, logged. */
enum err db_connect_failed(struct db *db, PGconn *conn);

/* db_error.c: "PostgreSQL at 127.0.0.1:5433", for sentences. */
const char *db_where(const PGconn *conn, char *out, size_t size);

/* db_error.c: forgets the last failure. */
void db_error_clear(struct db *db);

enum { DB_PARAMS_MAX = 48 };

/* What PQsendQueryParams takes. */
struct db_wire_params {
    Oid types[DB_PARAMS_MAX];
    const char *values[DB_PARAMS_MAX];
    int lengths[DB_PARAMS_MAX];
    int formats[DB_PARAMS_MAX];
};

/* db_param.c: binary form of the parameters; the bytes stand in *encoded or with the caller. */
void db_params_encode(struct db_params params, struct buffer *encoded, struct db_wire_params *ret);

#endif
