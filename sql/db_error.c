/* db_error.c: what a failure of PostgreSQL means for the caller, and one sentence about it. */
#include "sql/db_internal.h"

#include "config/log.h"

#include <stdio.h>
#include <string.h>

/* The first row whose prefix fits the SQLSTATE decides. */
static const struct {
    const char *prefix;
    enum err err;
    bool logged;
    bool closes;      /* the session is over */
    const char *hint; /* what to do next */
} meanings[] = {
    {"MS", ERR_LOST, false, false, ""},
    {"23505", ERR_CONFLICT, false, false, ""},
    {"22", ERR_REJECTED, true, false, ""},
    {"23", ERR_REJECTED, true, false, ""},
    {"54", ERR_REJECTED, true, false, ""},
    {"40", ERR_AGAIN, false, false, ""},
    {"55P03", ERR_AGAIN, false, false, ""},
    {"57014", ERR_AGAIN, false, false, ""},
    {"57P", ERR_DATABASE, true, true, ""},
    {"25P03", ERR_DATABASE, true, true, ""},
    {"08", ERR_DATABASE, true, true, ""},
    {"25006", ERR_DATABASE, true, true,
     "; the server is read-only, perhaps a standby: postgres.dsn must lead to the primary"},
    {"53", ERR_DATABASE, true, false, ""},
    {"58", ERR_DATABASE, true, false, ""},
    {"XX", ERR_DATABASE, true, false, ""},
    {"28", ERR_DENIED, true, true, ""},
    {"42501", ERR_DENIED, true, false, "; ask the owner of the schema for a grant"},
    {"3D000", ERR_SCHEMA, true, true, "; create it, or correct postgres.dsn"},
    {"3F000", ERR_SCHEMA, true, false, "; run `mserve migrate`"},
    {"42P01", ERR_SCHEMA, true, false, "; run `mserve migrate`"},
    {"42703", ERR_SCHEMA, true, false, "; run `mserve migrate`"},
    {"42883", ERR_SCHEMA, true, false, "; run `mserve migrate`"},
    {"", ERR_INTERNAL, true, false, ""},
};

static void copy_field(char *out, size_t size, const PGresult *result, int field)
{
    const char *text = result ? PQresultErrorField(result, field) : NULL;

    snprintf(out, size, "%s", text ? text : "");
}

/* libpq ends its messages with a newline, and spreads them over lines. */
static void copy_one_line(char *out, size_t size, const char *text)
{
    size_t len = 0;

    for (; *text && len + 1 < size; text++) {
        char byte = *text == '\n' || *text == '\t' ? ' ' : *text;

        if (byte != ' ' || (len > 0 && out[len - 1] != ' '))
            out[len++] = byte;
    }
    if (len > 0 && out[len - 1] == ' ')
        len--;
    out[len] = '\0';
}

void db_error_clear(struct db *db)
{
    db->sqlstate[0] = db->message[0] = db->detail[0] = db->constraint[0] = '\0';
}

const char *db_where(const PGconn *conn, char *out, size_t size)
{
    const char *host = conn ? PQhost(conn) : NULL;
    const char *port = conn ? PQport(conn) : NULL;

    snprintf(out, size, "PostgreSQL at %s:%s", host && *host ? host : "?",
             port && *port ? port : "5432");
    return out;
}

static void close_lost(struct db *db)
{
    PQfinish(db->conn);
    db->conn = NULL;
}

static enum err connection_lost(struct db *db)
{
    char where[300];

    copy_one_line(db->message, sizeof(db->message), PQerrorMessage(db->conn));
    db_where(db->conn, where, sizeof(where));
    close_lost(db);
    return fail(ERR_DATABASE, "%s: the connection was lost: %s", where, db->message);
}

enum err db_failed(struct db *db, const PGresult *result, const char *query)
{
    char where[300], begin[64];
    size_t row = 0;

    db_error_clear(db);
    copy_field(db->sqlstate, sizeof(db->sqlstate), result, PG_DIAG_SQLSTATE);
    if (!db->sqlstate[0])
        return connection_lost(db);
    copy_field(db->message, sizeof(db->message), result, PG_DIAG_MESSAGE_PRIMARY);
    copy_field(db->detail, sizeof(db->detail), result, PG_DIAG_MESSAGE_DETAIL);
    copy_field(db->constraint, sizeof(db->constraint), result, PG_DIAG_CONSTRAINT_NAME);
    while (strncmp(db->sqlstate, meanings[row].prefix, strlen(meanings[row].prefix)) != 0)
        row++;
    db_where(db->conn, where, sizeof(where));
    if (meanings[row].closes || PQstatus(db->conn) == CONNECTION_BAD)
        close_lost(db);
    if (!meanings[row].logged || (meanings[row].err == ERR_REJECTED && db->expect_rejected))
        return meanings[row].err;
    copy_one_line(begin, sizeof(begin), query);
    /* The detail of a rejected row may hold a user's data: it stays out of the log. */
    return fail(meanings[row].err, "%s: %s (SQLSTATE %s)%s; in: %s …", where, db->message,
                db->sqlstate, meanings[row].hint, begin);
}

/* The server's own words are all that libpq gives for a failed start. */
enum err db_connect_failed(struct db *db, PGconn *conn)
{
    char where[300];
    const char *user = PQuser(conn);
    char *question;

    db_error_clear(db);
    copy_one_line(db->message, sizeof(db->message), PQerrorMessage(conn));
    question = strstr(db->message, " Is the server running"); /* ours is asked already */
    if (question)
        *question = '\0';
    db_where(conn, where, sizeof(where));
    if (!user)
        user = "?";
    if (PQconnectionNeedsPassword(conn))
        return fail(ERR_DENIED,
                    "%s wants a password for role \"%s\"; set postgres.password_file or "
                    "MSERVE_POSTGRES_PASSWORD",
                    where, user);
    if (strstr(db->message, "password authentication failed"))
        return fail(ERR_DENIED,
                    "%s refused the password of role \"%s\"; correct postgres.password_file or "
                    "MSERVE_POSTGRES_PASSWORD",
                    where, user);
    if (strstr(db->message, "no pg_hba.conf entry") || strstr(db->message, "FATAL: role \"") ||
        strstr(db->message, "permission denied") || strstr(db->message, "authentication failed"))
        return fail(ERR_DENIED, "%s does not let role \"%s\" in; correct postgres.dsn: %s", where,
                    user, db->message);
    if (strstr(db->message, "FATAL: database \"") && strstr(db->message, "does not exist"))
        return fail(ERR_SCHEMA,
                    "%s has no database \"%s\"; create it (createdb %s) or correct postgres.dsn",
                    where, PQdb(conn), PQdb(conn));
    return fail(ERR_DATABASE, "%s cannot be reached; is it running, and is postgres.dsn right? %s",
                where, db->message);
}

const char *db_sqlstate(const struct db *db)
{
    return db->sqlstate;
}

const char *db_message(const struct db *db)
{
    return db->message;
}

const char *db_detail(const struct db *db)
{
    return db->detail;
}

const char *db_constraint(const struct db *db)
{
    return db->constraint;
}
