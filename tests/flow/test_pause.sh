#!/usr/bin/env bash
# A job is paused in the middle: nothing more of it is begun, nothing is lost and nothing doubled, and it
# goes on where it stopped, also on another worker; it can be cancelled, and expires, while it is paused.
. "$(dirname "$0")/worker_lib.sh"

fresh_database
fresh_topics
write_settings fixed_ns=4000000 pace=1 sequences=16 rows=32 interval=50ms # a request of 50 tokens: 0.2 s
set_up || bail "set up"
MSERVE_SCHEDULER_FOLD_INTERVAL=100ms start scheduler mserve-scheduler
worker one

submit() { mserve-submit --tier sim --new "$@" "$work/input.jsonl" 2>>"$work/submit.log" | cut -d' ' -f1; }
rows_of() { sql "select count(*) from mserve.results r join mserve.job_status s using (job) where s.batch_id = '$1'"; }
some_rows() { [ "$(rows_of "$1")" -gt "${2:-0}" ]; }
# Nothing of it is in a worker's hands: no work in progress, and no more rows than a moment ago.
is_still() {
    local before
    before=$(rows_of "$1")
    [ "$(sql "select coalesce(sum(wip_ns), 0) from mserve.workers where closed_at is null")" = 0 ] &&
        sleep 0.3 && [ "$(rows_of "$1")" = "$before" ]
}

# ---- in the middle
requests 400 50 >"$work/input.jsonl"
requests 40 400 400 >>"$work/input.jsonl" # long ones: some of them run when it is paused
sort -R --random-source=<(yes) "$work/input.jsonl" -o "$work/input.jsonl"
id=$(submit)
other=$(requests 2000 2 5000 >"$work/other.jsonl" && mserve-submit --tier sim "$work/other.jsonl" 2>/dev/null | cut -d' ' -f1)
ok "a job runs" wait_until 20 some_rows "$id" 50
is "$(mserve pause "$id")" "$id paused" "it is paused"
is "$(mserve pause "$id")" "$id paused" "again changes nothing"
is "$(sql "select count(*) from mserve.audit_log where action = 'pause'")" 1 "and is told of once"
ok "the other job has the worker to itself" wait_until 30 sql_is completed "select state from mserve.job_status where batch_id = '$other'"
ok "nothing of the paused one is in hand" wait_until 10 is_still "$id"
held=$(rows_of "$id")
ok "with most of it left ($held rows)" test "$held" -lt 400
is "$(sql "select state, hold from mserve.job_status where batch_id = '$id'")" "in_progress|paused" "the state is what it was, held"
like "$(mserve get "$id")" '"hold" : \{"code" : "paused"' "get says so"
like "$(mserve list 2>&1 >/dev/null)" "$id is held: it is paused" "and list"
is "$(sql "select count(*) > 0 from mserve.checkpoints")" t "what ran was saved"
is "$(sql "select count(*) > 0, sum(gpu_ns) from mserve.attempts where why = 'held'")" "t|0" "and lost nothing"
ok "the books add up" ledger_is_balanced

# ---- the worker is killed while it is paused; another goes on where it stopped
kill_hard one
worker two
is "$(mserve resume "$id")" "$id in_progress" "it is resumed"
is "$(mserve resume "$id" >/dev/null && sql "select count(*) from mserve.audit_log where action = 'resume'")" 1 "once"
ok "and completes" wait_until 60 sql_is completed "select state from mserve.job_status where batch_id = '$id'"
is "$(sql "select completed, failed from mserve.job_status where batch_id = '$id'")" "440|0" "all of it"
is "$(sql "select count(*) > 0 from mserve.results where resumed_tokens > 0")" t "some from where they were saved"
is "$(sql "select count(*) from mserve.results where status = 'completed' and output_tokens not in (2, 50, 400)")" 0 "with each of its tokens"
ok "each line of all jobs once" whole
not_ok "a job that has ended is not paused" mserve pause "$id"
like "$(mserve pause "$id" 2>&1)" "cannot be paused: it is completed" "and the sentence says why"

# ---- paused before it is accepted, cancelled while it is paused, expired while it is paused
begun=$(sql "insert into mserve.jobs (idempotency_key, content_sha256, input_name, endpoint, tier, topic, partitions,
    partition_first, chunk_lines_max, chunk_bytes_max, completion_window, expires_at) select 'begun', content_sha256,
    'begun', endpoint, tier, topic, partitions, 0, 16, 65536, '24h', now() + interval '1 day' from mserve.jobs limit 1
    returning 'batch_' || mserve.hex(job)")
is "$(mserve pause "$begun")" "$begun paused" "a job that is being uploaded is paused"
is "$(mserve resume "$begun")" "$begun validating" "and resumed"
mserve cancel "$begun" >/dev/null
like "$(mserve pause "$begun" 2>&1)" "cannot be paused: it is cancelled" "and not any more when it was cancelled"
requests 200 50 9000 >"$work/input.jsonl"
early=$(submit)
mserve pause "$early" >/dev/null
late=$(requests 30 50 9900 >"$work/input.jsonl" && submit)
mserve pause "$late" >/dev/null
sql "update mserve.jobs set expires_at = created_at + interval '1 ms' where 'batch_' || mserve.hex(job) = '$late'"
ok "a paused job's requests expire" wait_until 20 sql_is expired "select state from mserve.job_status where batch_id = '$late'"
mserve cancel "$early" >/dev/null
not_ok "one that is to end is not resumed" mserve resume "$early"
ok "a paused job is cancelled" wait_until 20 sql_is cancelled "select state from mserve.job_status where batch_id = '$early'"
is "$(sql "select hold is null from mserve.job_status where batch_id = '$early'")" t "and is held no more"
ok "each line of all jobs once, still" whole
stop two 30
is "$(unexplained)" "0|0|0|0" "not a nanosecond is lost"
ok "the books add up to the end" ledger_is_balanced

done_testing
