#!/usr/bin/env bash
# What ended long ago is forgotten, in batches and by whole months, killed at any moment; jobs and bills
# stay what they were, and the books add up before, between and after.
. "$(dirname "$0")/worker_lib.sh"

fresh_database
fresh_topics
write_settings context=600 pace=0 rows=512
set_up || bail "set up"
MSERVE_SCHEDULER_FOLD_INTERVAL=100ms start scheduler mserve-scheduler
worker one
ended() { [ "$(sql "select bool_and(ended_at is not null) from mserve.job_status")" = t ]; }
bill() { mserve cost --by tenant --csv && mserve cost --by tag:team --csv && mserve cost --by model --json; }
costs() { sql "select * from mserve.job_cost order by job" && sql "select * from mserve.job_bill order by job" &&
    sql "select * from mserve.job_attempts order by job, why" && sql "select * from mserve.bill order by month, worker, job"; }
is "$(sql "select count(*) from pg_inherits where inhparent = 'mserve.results'::regclass")" 4 "this month and the next two have partitions"

# ---- jobs of all kinds: completed, partly failed, cancelled, with a body stored aside, with attempts
requests 12000 2 >"$work/a.jsonl"
{
    requests 40 580 90000
    printf '{"custom_id":"large","method":"POST","url":"/v1/completions","body":{"model":"sim","max_tokens":2,"prompt":"'
    head -c 300000 /dev/zero | tr '\0' x
    echo '"}}'
} >"$work/b.jsonl"
mserve-submit --tier sim --metadata team=night "$work/a.jsonl" >/dev/null 2>&1
mserve-submit --tier sim "$work/b.jsonl" >/dev/null 2>&1
wait_until 60 ended || bail "the jobs end"
stop one 30
requests 500 2 200000 >"$work/c.jsonl"
mserve cancel "$(mserve-submit --tier sim "$work/c.jsonl" 2>/dev/null | cut -d' ' -f1)" >/dev/null
wait_until 30 ended || bail "the last job ends"
# An attempt that was lost, in both books.
sql "insert into mserve.attempts (worker, seq, job, line, gpu_ns, why, recompute_ns)
    select l.worker, l.seq, (select job from mserve.jobs order by job limit 1), 5, 700, 'preempted', 0
      from mserve.worker_ledger l where l.rows_ns > 0 order by seq limit 1;
  update mserve.jobs set lost_ns = lost_ns + 700 where job = (select job from mserve.jobs order by job limit 1);
  update mserve.worker_ledger l set lost_ns = lost_ns + 700, held_ns = held_ns + 700
    where (worker, seq) in (select worker, seq from mserve.attempts);
  update mserve.workers w set booked_ns = booked_ns + 700, reported_ns = reported_ns + 700
    where worker in (select worker from mserve.attempts)"
ok "the books add up before" ledger_is_balanced
bill >"$work/bill" 2>&1
costs >"$work/costs"
sql "select * from mserve.job_status order by job" >"$work/status"
jobs=$(sql "select count(*) from mserve.jobs")

not_ok "how old must be said" mserve purge
is "$(mserve purge --older-than 30d)" "purged 0 jobs: 0 rows one by one and 0 whole months; 0 bodies" "what is young stays"
is "$(mserve purge --older-than 1ms --dry-run)" "3 jobs with 12,541 rows would be purged" "a dry run says how much there is"
is "$(rows)" 12541 "and purges nothing"

# ---- killed in the middle, again and again; two at once
for after in 0.08 0.15 0.25 0.5 1 2; do
    (timeout -s KILL $after mserve purge --older-than 1ms) >/dev/null 2>&1
    [ "$(rows)" = 12541 ] || break
done 2>/dev/null
isnt "$(rows)" 12541 "it is killed when it has begun"
ok "the books add up between" ledger_is_balanced
bill >"$work/between" 2>&1
ok "and the bill is what it was" cmp "$work/bill" "$work/between"
mserve purge --older-than 1ms >/dev/null 2>&1 &
mserve purge --older-than 1ms >"$work/last"
wait $!
is "$(rows)" 0 "the next ones purge the rest"
is "$(sql "select (select count(*) from mserve.chunks), (select count(*) from mserve.attempts), (select count(*) from mserve.documents)")" \
    "0|0|0" "with all that belonged to it"
ok "the books add up after" ledger_is_balanced
bill >"$work/after" 2>&1
ok "the bill is what it was" cmp "$work/bill" "$work/after"
costs >"$work/costs.after"
ok "and what each job cost" cmp "$work/costs" "$work/costs.after"
sql "select * from mserve.job_status order by job" >"$work/status.after"
ok "and all that is said of the jobs" cmp "$work/status" "$work/status.after"
like "$(mserve retry "$(sql "select batch_id from mserve.job_status where failed > 0")" 2>&1; echo " $?")" "was purged.* 8$" \
    "a retry says that the requests are gone"
is "$(sql "select count(*) from mserve.blobs")" 1 "a body that was used an hour ago stays"
sql "update mserve.blobs set created_at = now() - interval '3 hours'"
mserve purge --older-than 1ms >/dev/null
is "$(sql "select count(*) from mserve.blobs")" 0 "and goes when no job can need it"
ok "the same file is a new job" eval "mserve-submit --new --tier sim '$work/b.jsonl' >/dev/null 2>&1"

# ---- a month: jobs are put back into June, whose partition is dropped as a whole
mserve cancel "$(sql "select batch_id from mserve.job_status order by job desc limit 1")" >/dev/null
wait_until 30 ended
worker two
requests 3000 2 300000 >"$work/d.jsonl"
mserve-submit --tier sim "$work/d.jsonl" >/dev/null 2>&1
wait_until 60 ended
stop two 30
from=$(sql "select mserve.uuid7_at('2026-06-01 00:00+00')") to=$(sql "select mserve.uuid7_at('2026-07-01 00:00+00')")
sql "create table mserve.results_202606 partition of mserve.results for values from ('$from') to ('$to')"
old=$(sql "select j.job from mserve.jobs j where exists (select from mserve.results r where r.job = j.job) and lines = 3000")
new=019eb$(cut -c6- <<<"$old")
sql_admin "set session_replication_role = replica; update mserve.jobs set job = '$new' where job = '$old';
  update mserve.chunks set job = '$new' where job = '$old'; update mserve.results set job = '$new' where job = '$old';
  update mserve.attempts set job = '$new' where job = '$old'" || bail "the job is put back"
is "$(sql "select count(*) from mserve.results_202606")" 3000 "a job of June has its rows in June's partition"
bill >"$work/bill" 2>&1
like "$(mserve purge --older-than 1ms)" "and 1 whole months" "June goes at once"
is "$(sql "select to_regclass('mserve.results_202606') is null, count(*) from mserve.results")" "t|0" "with its rows"
ok "the books add up, still" ledger_is_balanced
bill >"$work/after" 2>&1
ok "and so does the bill" cmp "$work/bill" "$work/after"
is "$(sql "select count(*) from mserve.jobs")" $((jobs + 2)) "every job is still there"

done_testing
