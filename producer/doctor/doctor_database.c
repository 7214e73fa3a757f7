/* doctor_database.c: PostgreSQL itself: is it there, is it ours, and what does its "yes" mean. */
#include "producer/doctor/doctor.h"

#include <stdlib.h>
#include <string.h>

#include "config/clock.h"
#include "sql/migrate.h"
#include "sql/queries.h"

enum { VERSION_MIN = 150000, SKEW_MS_MAX = 2000, STATEMENT_MS_MAX = 30000, CONNECT_MS_MAX = 5000 };

/* Columns of QUERY_DOCTOR_SERVER. */
enum {
    VERSION_NUMBER,
    VERSION,
    IN_RECOVERY,
    CLOCK,
    STANDBY_NAMES,
    SYNCHRONOUS_COMMIT,
    FSYNC,
    FULL_PAGE_WRITES,
    STANDBYS,
    AUTOVACUUM,
    TRACK_COUNTS,
    WITHOUT_AUTOVACUUM,
    SIZE,
};

static const char *text_of(const struct db_result *row, int column)
{
    return db_is_null(row, 0, column) ? "" : db_get_slice(row, 0, column).data;
}

static bool is_on(const struct db_result *row, int column)
{
    return strcmp(text_of(row, column), "on") == 0;
}

static void check_version(struct doctor *doctor, const struct db_result *row)
{
    if (db_get_i32(row, 0, VERSION_NUMBER) < VERSION_MIN) {
        doctor_say(doctor, DOCTOR_PROBLEM, "postgresql", "version %s is older than 15",
                   text_of(row, VERSION));
        doctor_next(doctor, "Upgrade PostgreSQL to 15 or later.");
    } else if (db_get_bool(row, 0, IN_RECOVERY)) {
        doctor_say(doctor, DOCTOR_PROBLEM, "postgresql", "this server is a standby and only reads");
        doctor_next(doctor, "Name all servers in postgres.dsn and add "
                            "target_session_attrs=read-write.");
    } else {
        doctor_say(doctor, DOCTOR_OK, "postgresql", "version %s, the database has %s",
                   text_of(row, VERSION), text_of(row, SIZE));
    }
}

/* Leases and windows are the database's clock alone; ids, logs and people have others. */
static void check_clock(struct doctor *doctor, const struct db_result *row, uint64_t before_ms,
                        uint64_t after_ms)
{
    int64_t here_ms = (int64_t)(before_ms + after_ms) / 2;
    int64_t ahead_ms = db_get_time_us(row, 0, CLOCK) / 1000 - here_ms;

    if (llabs(ahead_ms) > SKEW_MS_MAX) {
        doctor_say(doctor, DOCTOR_WARNING, "clock",
                   "the clock of PostgreSQL is %.1f s %s the one of this host",
                   (double)llabs(ahead_ms) / 1e3, ahead_ms > 0 ? "ahead of" : "behind");
        doctor_next(doctor, "Let both be set by NTP. Leases and windows follow PostgreSQL's, logs "
                            "the hosts'.");
    } else {
        doctor_say(doctor, DOCTOR_OK, "clock", "PostgreSQL and this host agree to %.1f s",
                   SKEW_MS_MAX / 1e3);
    }
}

static void check_replication(struct doctor *doctor, const struct db_result *row)
{
    int64_t standbys = db_get_i64(row, 0, STANDBYS);
    const char *names = text_of(row, STANDBY_NAMES);

    if (!is_on(row, FSYNC) || !is_on(row, FULL_PAGE_WRITES)) {
        doctor_say(doctor, DOCTOR_PROBLEM, "durability",
                   "fsync or full_page_writes is off: a crash may lose or damage accepted jobs");
        doctor_next(doctor, "Set both to on in postgresql.conf.");
    } else if (strcmp(text_of(row, SYNCHRONOUS_COMMIT), "off") == 0) {
        doctor_say(doctor, DOCTOR_PROBLEM, "durability",
                   "synchronous_commit is off: a crash may take back what was accepted");
        doctor_next(doctor, "Set synchronous_commit to on.");
    } else if (names[0] && strcmp(text_of(row, SYNCHRONOUS_COMMIT), "local") != 0) {
        doctor_say(doctor, DOCTOR_OK, "durability",
                   "\"accepted\" means: on this server and on a standby (%s)", names);
    } else if (standbys > 0) {
        doctor_say(doctor, DOCTOR_WARNING, "durability",
                   "%ld standbys follow, none of them synchronously: a failover may take back "
                   "what was accepted in the last moments",
                   (long)standbys);
        doctor_next(doctor,
                    "Set synchronous_standby_names, and fence the old server at a failover.");
    } else {
        doctor_say(doctor, DOCTOR_OK, "durability",
                   "\"accepted\" means: on this server's disk; there is no standby, so it is as "
                   "safe as that disk");
    }
}

static void check_vacuum(struct doctor *doctor, const struct db_result *row)
{
    if (!is_on(row, AUTOVACUUM) || !is_on(row, TRACK_COUNTS)) {
        doctor_say(doctor, DOCTOR_PROBLEM, "autovacuum",
                   "it is off: the queue of progress and the checkpoints grow without end");
        doctor_next(doctor, "Set autovacuum and track_counts to on in postgresql.conf.");
    } else if (!db_is_null(row, 0, WITHOUT_AUTOVACUUM)) {
        doctor_say(doctor, DOCTOR_WARNING, "autovacuum", "it is off for %s",
                   text_of(row, WITHOUT_AUTOVACUUM));
        doctor_next(doctor, "alter table mserve.… reset (autovacuum_enabled);");
    } else {
        doctor_say(doctor, DOCTOR_OK, "autovacuum", "it is on");
    }
}

static void check_server(struct doctor *doctor)
{
    struct db_result row = {0};
    uint64_t before_ms = clock_wall_ms();

    if (!doctor_ask(doctor, "postgresql", QUERY_DOCTOR_SERVER, DB_NO_PARAMS, &row))
        return;
    check_version(doctor, &row);
    check_clock(doctor, &row, before_ms, clock_wall_ms());
    check_replication(doctor, &row);
    check_vacuum(doctor, &row);
    db_result_release(&row);
}

/* Without the schema nothing else can be asked of it: the connection is given up. */
static void check_schema(struct doctor *doctor)
{
    enum err rc;

    doctor_catch(doctor);
    rc = migrate_check(doctor->db);
    doctor_caught(doctor);
    if (rc == ERR_OK) {
        doctor_say(doctor, DOCTOR_OK, "schema", "it is the one that this program knows");
        return;
    }
    doctor_say(doctor, DOCTOR_PROBLEM, "schema", "%s",
               doctor->caught[0] ? doctor->caught : err_phrase(rc));
    doctor_next(doctor, "Run `mserve migrate` of the newest version that is in use.");
    db_close(doctor->db);
    doctor->db = NULL;
}

void doctor_database(struct doctor *doctor)
{
    struct db_options options = {
        .dsn = doctor->settings->postgres.dsn,
        .password = doctor->settings->postgres.password,
        .application_name = "mserve doctor",
        .connect_timeout_ms = CONNECT_MS_MAX,
        .statement_timeout_ms = STATEMENT_MS_MAX,
    };
    enum err rc;

    doctor_catch(doctor);
    rc = db_open(&options, &doctor->db);
    doctor_caught(doctor);
    if (rc != ERR_OK) {
        doctor->db = NULL;
        doctor_say(doctor, DOCTOR_PROBLEM, "postgresql", "%s", doctor->caught);
        doctor_next(doctor, "Start PostgreSQL, or correct postgres.dsn. Until then workers launch "
                            "no new work and keep what is finished; jobs and books could not be "
                            "looked at.");
        return;
    }
    check_server(doctor);
    check_schema(doctor);
}
