/* doctor_work.c: does the work go on: workers, partitions, jobs, chunks, books. From the tables. */
#include "producer/doctor/doctor.h"

#include <string.h>

#include "config/uuid.h"
#include "producer/kafka.h"
#include "sql/queries.h"

enum { STAY_MS = 10000 }; /* past the end of a drain, before anybody wonders */

/* ---------------------------------------------------------------------------------------- workers ---- */

/* Somebody buries them within a second, once there is somebody: another worker or the scheduler. */
static void check_leases(struct doctor *doctor, const char *tier, const struct db_result *row)
{
    int64_t gone = db_get_i64(row, 0, 2);
    int64_t gone_s = db_get_i64(row, 0, 3);

    if (gone == 0)
        return;
    doctor_say(doctor, DOCTOR_WARNING, "leases",
               "tier %s: the lease of %ld worker%s (%s) ran out %ld s ago", tier, (long)gone,
               gone == 1 ? "" : "s", db_get_slice(row, 0, 5).data, (long)gone_s);
    doctor_next(doctor, "It died or cannot reach PostgreSQL: see its log. The scheduler or another "
                        "worker closes its books; what it held goes on elsewhere.");
}

/* A drain ends by itself: one that does not is a worker that hangs, or that nobody can talk to. */
static void check_drains(struct doctor *doctor, const char *tier, const struct db_result *row)
{
    int64_t late = db_get_i64(row, 0, 6);

    if (late == 0)
        return;
    doctor_say(doctor, DOCTOR_WARNING, "workers",
               "tier %s: %ld worker%s (%s) should have left %ld s ago", tier, (long)late,
               late == 1 ? "" : "s", db_get_slice(row, 0, 8).data, (long)db_get_i64(row, 0, 7));
    doctor_next(doctor, "See its log, then kill it: what it holds goes on elsewhere, from its "
                        "checkpoints. `mserve worker list` shows its host.");
}

/* What a worker says of its card it says in its row: the process is gone by the time that one asks. */
static void check_devices(struct doctor *doctor, const char *tier, const char *topic)
{
    struct db_result row = {0};

    if (doctor_ask(doctor, "devices", QUERY_DOCTOR_SICK, DB_PARAMS(db_text(topic)), &row) &&
        db_get_i64(&row, 0, 0) > 0) {
        doctor_say(doctor, DOCTOR_WARNING, "devices",
                   "tier %s: %ld worker%s left within a day because of the device (%s)", tier,
                   (long)db_get_i64(&row, 0, 0), db_get_i64(&row, 0, 0) == 1 ? "" : "s",
                   db_get_slice(&row, 0, 1).data);
        doctor_next(doctor, "See their logs. Of a GPU: nvidia-smi -q and the kernel's log (NVRM: "
                            "Xid); reset or replace a sick one, then remove its file in "
                            "worker.gpu_dir.");
    }
    db_result_release(&row);
}

static void check_tier(struct doctor *doctor, const struct settings_tier *tier,
                       const struct db_result *workers, const struct db_result *work)
{
    int64_t alive = db_get_i64(workers, 0, 0), drain = db_get_i64(workers, 0, 1);
    int64_t jobs = db_get_i64(work, 0, 0), partitions = db_get_i64(work, 0, 1);
    int64_t unowned = db_get_i64(work, 0, 2), waiting = db_get_i64(work, 0, 3);

    if (alive == 0) {
        doctor_say(doctor, jobs > 0 ? DOCTOR_PROBLEM : DOCTOR_WARNING, "workers",
                   "no worker serves tier %s%s", tier->name,
                   jobs > 0 ? ", and jobs wait for one" : "");
        doctor_next(doctor, "Start one: mserve-worker --tier %s.", tier->name);
    } else {
        doctor_say(doctor, DOCTOR_OK, "workers",
                   "tier %s: %ld alive, %ld of them leaving; %ld job%s", tier->name, (long)alive,
                   (long)drain, (long)jobs, jobs == 1 ? "" : "s");
    }
    if (db_get_i64(workers, 0, 4) > 1) {
        doctor_say(doctor, DOCTOR_WARNING, "workers",
                   "workers of tier %s have %ld different model files", tier->name,
                   (long)db_get_i64(workers, 0, 4));
        doctor_next(doctor, "Give all the same file, and set the tier's sha256: equal requests "
                            "would get different answers.");
    }
    check_leases(doctor, tier->name, workers);
    check_drains(doctor, tier->name, workers);
    if (waiting > 0 && alive > drain) {
        doctor_say(doctor, DOCTOR_WARNING, "partitions",
                   "tier %s: work waits in %ld of %ld partitions that nobody holds", tier->name,
                   (long)waiting, (long)partitions);
        doctor_next(doctor, "Ask again in some seconds: workers claim them each second. If it "
                            "stays so, see their logs and /readyz.");
    } else if (alive > 0) {
        doctor_say(doctor, DOCTOR_OK, "partitions", "tier %s: %ld of %ld have an owner", tier->name,
                   (long)(partitions - unowned), (long)partitions);
    }
}

void doctor_workers(struct doctor *doctor)
{
    for (uint32_t i = 0; i < doctor->settings->tier_count; i++) {
        const struct settings_tier *tier = &doctor->settings->tier[i];
        struct db_result workers = {0}, work = {0};
        int64_t stay_ms = (int64_t)doctor->settings->worker.drain_margin_ms + STAY_MS;
        char topic[256];

        kafka_topic_of(&doctor->settings->kafka, tier->name, topic);
        if (doctor_ask(doctor, "workers", QUERY_DOCTOR_WORKERS,
                       DB_PARAMS(db_text(topic), db_i64(stay_ms)), &workers) &&
            doctor_ask(doctor, "partitions", QUERY_DOCTOR_WORK, DB_PARAMS(db_text(topic)), &work))
            check_tier(doctor, tier, &workers, &work);
        check_devices(doctor, tier->name, topic);
        db_result_release(&workers);
        db_result_release(&work);
    }
}

/* ------------------------------------------------------------------------------------------- jobs ---- */

static void check_scheduler(struct doctor *doctor, const struct db_result *row)
{
    int64_t schedulers = db_get_i64(row, 0, 0), deltas = db_get_i64(row, 0, 1);

    if (schedulers == 0) {
        doctor_say(doctor, DOCTOR_PROBLEM, "scheduler",
                   "none is connected: jobs do not end, %ld rows of progress wait", (long)deltas);
        doctor_next(doctor, "Start one: mserve-scheduler. Two may run; one is at work.");
    } else if (deltas >= 100000) {
        doctor_say(doctor, DOCTOR_WARNING, "scheduler",
                   "%ld connected, but 100000 rows of progress or more wait", (long)schedulers);
        doctor_next(doctor, "Ask again: it catches up after an outage. If the number stays, see "
                            "its log.");
    } else {
        doctor_say(doctor, DOCTOR_OK, "scheduler", "%ld connected, %ld rows of progress wait",
                   (long)schedulers, (long)deltas);
    }
}

static void check_ends(struct doctor *doctor, const struct db_result *row)
{
    int64_t late = db_get_i64(row, 0, 2), stuck = db_get_i64(row, 0, 3);
    int64_t silent = db_get_i64(row, 0, 4);

    if (late > 0) {
        doctor_say(doctor, DOCTOR_PROBLEM, "jobs",
                   "the window of %ld passed more than a minute ago, and nobody ended them",
                   (long)late);
        doctor_next(doctor, "See the scheduler: its log, and /readyz at scheduler.http.");
    }
    if (stuck > 0) {
        doctor_say(doctor, DOCTOR_PROBLEM, "jobs",
                   "%ld have all their rows and have not ended, with no progress on its way",
                   (long)stuck);
        doctor_next(doctor, "This is a mistake of mserve's, or the tables were changed by hand: "
                            "look at the view ledger_check and report it.");
    }
    if (silent > 0) {
        doctor_say(doctor, DOCTOR_WARNING, "jobs", "%ld uploads have not been heard of for an hour",
                   (long)silent);
        doctor_next(doctor, "Run the same mserve-submit command again: it goes on where it "
                            "stopped. Else they fail after submit.upload_abandoned_after.");
    }
    if (late + stuck + silent == 0)
        doctor_say(doctor, DOCTOR_OK, "jobs", "none is late, none is stuck");
}

static void check_missing(struct doctor *doctor)
{
    struct db_result rows = {0};
    char id[UUID_BATCH_SIZE];

    if (!doctor_ask(doctor, "missing", QUERY_DOCTOR_MISSING, DB_NO_PARAMS, &rows))
        return;
    for (int row = 0; row < rows.rows; row++) {
        const char *name = db_get_slice(&rows, row, 1).data;

        doctor_say(doctor, DOCTOR_PROBLEM, "missing",
                   "%s (%s): Kafka has lost %ld of its chunks, %ld requests wait",
                   uuid_format_batch(db_get_uuid(&rows, row, 0), id), name,
                   (long)db_get_i64(&rows, row, 2), (long)db_get_i64(&rows, row, 3));
        doctor_next(doctor,
                    "Submit the same file again, with the same options: just what is "
                    "missing is sent. Or `mserve cancel %s`.",
                    id);
    }
    if (rows.rows == 0)
        doctor_say(doctor, DOCTOR_OK, "missing", "Kafka has lost nothing that is waited for");
    else if (db_get_i64(&rows, 0, 4) > rows.rows) {
        doctor_say(doctor, DOCTOR_PROBLEM, "missing", "and %ld more jobs",
                   (long)(db_get_i64(&rows, 0, 4) - rows.rows));
        doctor_next(doctor, "Check retention of the topics, and whether a broker lost its data.");
    }
    db_result_release(&rows);
}

/* Columns of QUERY_DOCTOR_QUARANTINE. */
enum { GUILTY, TENANTS, GUILTY_BEFORE, APART, APART_LONG, APART_S };

static void check_dead_letters(struct doctor *doctor, const struct db_result *row)
{
    int64_t recent = db_get_i64(row, 0, GUILTY), before = db_get_i64(row, 0, GUILTY_BEFORE);

    if (recent == 0) {
        doctor_say(doctor, DOCTOR_OK, "dead-letter",
                   "no request was found to kill workers in the last 7 days, %ld before",
                   (long)before);
        return;
    }
    doctor_say(doctor, DOCTOR_WARNING, "dead-letter",
               "%ld request%s of tenant %s failed for killing workers in the last 7 days",
               (long)recent, recent == 1 ? "" : "s", db_get_slice(row, 0, TENANTS).data);
    doctor_next(doctor, "`mserve dead-letter list` has them, `show` the evidence, and `replay` "
                        "submits one anew, after which it is not named here.");
}

static void check_suspects(struct doctor *doctor, const struct db_result *row)
{
    int64_t apart = db_get_i64(row, 0, APART), late = db_get_i64(row, 0, APART_LONG);

    if (late == 0) {
        doctor_say(doctor, DOCTOR_OK, "suspects", "%ld request%s may have killed a worker and %s",
                   (long)apart, apart == 1 ? "" : "s", apart == 1 ? "runs apart" : "run apart");
        return;
    }
    doctor_say(doctor, DOCTOR_WARNING, "suspects",
               "%ld of %ld requests that are to run apart have waited for an hour or more, "
               "one for %ld s",
               (long)late, (long)apart, (long)db_get_i64(row, 0, APART_S));
    doctor_next(doctor,
                "They have their turn each worker.suspect_wait at the worker that holds "
                "their partition: see its log. `select * from mserve.suspects` names them.");
}

static void check_quarantine(struct doctor *doctor)
{
    int64_t wait_ms = (int64_t)doctor->settings->worker.suspect_wait_ms;
    struct db_result row = {0};

    if (!doctor_ask(doctor, "suspects", QUERY_DOCTOR_QUARANTINE, DB_PARAMS(db_i64(wait_ms)), &row))
        return;
    check_dead_letters(doctor, &row);
    check_suspects(doctor, &row);
    db_result_release(&row);
}

void doctor_jobs(struct doctor *doctor)
{
    struct db_result row = {0};

    if (doctor_ask(doctor, "jobs", QUERY_DOCTOR_JOBS, DB_NO_PARAMS, &row)) {
        check_scheduler(doctor, &row);
        check_ends(doctor, &row);
        db_result_release(&row);
    }
    check_missing(doctor);
    check_quarantine(doctor);
}

void doctor_books(struct doctor *doctor)
{
    struct db_result row = {0};

    if (!doctor_ask(doctor, "books", QUERY_DOCTOR_BOOKS, DB_NO_PARAMS, &row))
        return;
    if (db_is_null(&row, 0, 0)) {
        doctor_say(doctor, DOCTOR_OK, "books", "the device's time adds up to the nanosecond");
    } else {
        doctor_say(doctor, DOCTOR_PROBLEM, "books", "the bill does not add up: %s",
                   db_get_slice(&row, 0, 0).data);
        doctor_next(doctor, "Nothing is lost by it, but something was counted wrong or the tables "
                            "were changed by hand: look at the view ledger_check and report it.");
    }
    db_result_release(&row);
}
