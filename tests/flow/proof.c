/* proof.c: what must be so of the database after every transaction. */
#include "tests/flow/proof.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Each is a query for the rows that break the rule. */
static const struct {
    const char *name, *query;
} rules[] = {
    {"ledger_rows_that_do_not_balance",
     "select from mserve.worker_ledger where held_ns + taken_over_ns - rows_ns - handed_over_ns - "
     "wip_ns - shared_ns - recompute_ns - overhead_ns - idle_ns - lost_ns <> 0"},
    {"workers_whose_rows_cost_something_else",
     "select from (select worker, sum(rows_ns) n from mserve.worker_ledger group by 1) l full join "
     "(select worker, sum(gpu_ns) n from mserve.results group by 1) r using (worker) "
     "where coalesce(l.n, 0) <> coalesce(r.n, 0)"},
    {"workers_unlike_their_ledger",
     "select from mserve.workers w left join (select worker, sum(held_ns) held, sum(wip_ns) wip, "
     "max(seq) seq, count(*) n from mserve.worker_ledger group by 1) l using (worker) "
     "where w.booked_ns <> coalesce(held, 0) or w.wip_ns <> coalesce(wip, 0) "
     "or w.ledger_seq <> coalesce(seq, 0) or w.ledger_seq <> coalesce(n, 0)"},
    {"workers_closed_with_work_in_progress",
     "select from mserve.workers where closed_at is not null and (wip_ns <> 0 or wip_jobs is not "
     "null or booked_ns <> reported_ns)"},
    {"workers_with_other_work_by_job",
     "select from mserve.workers where wip_ns <> (select coalesce(sum(value::bigint), 0) from "
     "json_each_text(wip_jobs))"},
    {"partitions_of_the_dead",
     "select from mserve.partitions p join mserve.workers w on w.worker = p.owner "
     "where w.closed_at is not null"},
    {"attempts_that_are_not_in_the_ledger",
     "select from (select worker, seq, sum(gpu_ns) n from mserve.attempts group by 1, 2) a "
     "left join mserve.worker_ledger l using (worker, seq) where l.lost_ns is null or l.lost_ns < "
     "a.n"},
    {"jobs_that_lost_other_than_their_attempts",
     "select from mserve.jobs j where j.lost_ns + (select coalesce(sum(lost_ns), 0) from "
     "mserve.job_deltas d where d.job = j.job) <> (select coalesce(sum(gpu_ns), 0) from "
     "mserve.attempts a where a.job = j.job)"},
    {"checkpoints_that_hold_something_else",
     "select from (select sum(handed_over_ns - taken_over_ns) n from mserve.worker_ledger) l "
     "where coalesce(l.n, 0) <> (select coalesce(sum(gpu_ns), 0) from mserve.checkpoints)"},
    {"checkpoints_of_requests_with_a_row",
     "select from mserve.checkpoints where (job, line) in (select job, line from mserve.results)"},
    {"checkpoints_outside_their_chunk",
     "select from mserve.checkpoints s where not exists (select from mserve.chunks c where c.job = "
     "s.job and c.chunk = s.chunk and s.line between c.first_line and c.first_line + c.lines - 1)"},
    {"checkpoints_of_nobody",
     "select from mserve.checkpoints s where not exists (select from mserve.workers w where "
     "w.worker = s.worker)"},
    {"bits_without_rows",
     "select from mserve.chunks c, generate_series(0, c.lines - 1) i "
     "where get_bit(c.done_map, i) = 1 and not exists (select from mserve.results r "
     "where r.job = c.job and r.line = c.first_line + i)"},
    {"rows_without_bits",
     "select from mserve.results r where not exists (select from mserve.chunks c where c.job = "
     "r.job and r.line between c.first_line and c.first_line + c.lines - 1 "
     "and get_bit(c.done_map, (r.line - c.first_line)::integer) = 1)"},
    {"jobs_sealed_without_their_chunks",
     "select from mserve.jobs j where j.lines is not null and j.lines <> (select "
     "coalesce(sum(c.lines), 0) from mserve.chunks c where c.job = j.job)"},
    {"rows_of_jobs_that_were_not_accepted",
     "select from mserve.results r left join mserve.jobs j using (job) where j.lines is null"},
    {"jobs_that_do_not_add_up",
     "select from mserve.jobs j left join (select job, sum(completed) c, sum(failed) f, "
     "sum(cancelled) x, sum(expired) e, sum(output_tokens) t, sum(rows_ns) ns from "
     "mserve.job_deltas group by 1) d using (job) left join (select job, count(*) filter (where "
     "status = 'completed') c, count(*) filter (where status = 'failed') f, count(*) filter (where "
     "status = 'cancelled') x, count(*) filter (where status = 'expired') e, sum(output_tokens) t, "
     "sum(gpu_ns) ns from mserve.results group by 1) r using (job) "
     "where (j.completed + coalesce(d.c, 0), j.failed + coalesce(d.f, 0), "
     "j.cancelled + coalesce(d.x, 0), j.expired + coalesce(d.e, 0), "
     "j.output_tokens + coalesce(d.t, 0), j.rows_ns + coalesce(d.ns, 0)) <> (coalesce(r.c, 0), "
     "coalesce(r.f, 0), coalesce(r.x, 0), coalesce(r.e, 0), coalesce(r.t, 0), coalesce(r.ns, 0))"},
    {"ledger_check",
     "select from mserve.ledger_check where unexplained_ns <> 0 or jobs_unexplained_ns <> 0 or "
     "jobs_differ <> 0 or bitmaps_differ <> 0 or workers_differ <> 0 or "
     "checkpoints_unexplained_ns <> 0 or checkpoints_differ <> 0 or attempts_differ <> 0"},
};

enum { RULES = sizeof(rules) / sizeof(rules[0]) };

/* All in one statement, so in one snapshot. */
static void write_query(struct buffer *out)
{
    buffer_add_text(out, "select concat_ws(', '");
    for (size_t i = 0; i < RULES; i++)
        buffer_printf(out, ", (select '%s ' || count(*) from (%s) broken having count(*) > 0)",
                      rules[i].name, rules[i].query);
    buffer_add_byte(out, ')');
}

static void make_function(struct db *db, const char *name, const char *query)
{
    struct buffer text = {0};

    buffer_printf(
        &text,
        "create schema if not exists proof; create or replace function proof.%s() returns "
        "text language plpgsql as $$ begin return (%s); end $$",
        name, query);
    assert_int_equal(db_script(db, text.data, (struct slice){NULL, 0}, NULL), ERR_OK);
    buffer_release(&text);
}

char *proof_text(struct db *db, const char *name, const char *query)
{
    struct db_result result = {0};
    char call[64];
    char *text;

    snprintf(call, sizeof(call), "proof.%s()", name);
    assert_int_equal(
        db_exec(db, "select to_regprocedure($1) is not null", DB_PARAMS(db_text(call)), &result),
        ERR_OK);
    if (!db_get_bool(&result, 0, 0))
        make_function(db, name, query);
    db_result_release(&result);
    snprintf(call, sizeof(call), "select proof.%s()", name);
    assert_int_equal(db_exec(db, call, DB_NO_PARAMS, &result), ERR_OK);
    text = xstrdup(db_get_slice(&result, 0, 0).data);
    db_result_release(&result);
    return text;
}

const char *proof_faults(struct db *db)
{
    static char faults[1024];
    struct buffer query = {0};
    char *text;

    write_query(&query);
    text = proof_text(db, "faults", query.data);
    snprintf(faults, sizeof(faults), "%s", text);
    free(text);
    buffer_release(&query);
    return faults;
}

void proof_assert(struct db *db)
{
    assert_string_equal(proof_faults(db), "");
}
