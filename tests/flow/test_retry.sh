#!/usr/bin/env bash
# Only what failed, expired or was cancelled is run again, as a job of its own that is linked to the old one:
# out of the log or out of the file, one job however often and by how many it is asked for.
. "$(dirname "$0")/worker_lib.sh"
PATH=$MSERVE_BIN/tests/flow:$PATH

fresh_database
fresh_topics
write_settings context=600 pace=0 rows=32
set_up || bail "set up"
MSERVE_SCHEDULER_FOLD_INTERVAL=100ms start scheduler mserve-scheduler
worker small
ended() { [ "$(sql "select ended_at is not null from mserve.job_status where batch_id = '$1'")" = t ]; }
field() { sql "select $2 from mserve.jobs where 'batch_' || mserve.hex(job) = '$1'"; }

# ---- a job of which some fail: 40 do not fit the context, one of them stored aside, and 2 were not valid
{
    requests 100 2
    echo '{"custom_id":"bad-1","method":"POST","url":"/v1/completions","body":{"model":"sim"}}'
    requests 39 580 100 | sed 's/"c-1\(..\)"/"d-\\u00e41\1 \\"q\\""/; s/"max_tokens":/ "max_tokens" : /'
    echo '{"custom_id":"bad-2","method":"GET","url":"/v1/completions","body":{}}'
    requests 100 2 200
    printf '{"custom_id":"c-300","method":"POST","url":"/v1/completions","body":{"model":"sim","max_tokens":2,"prompt":"'
    head -c 300000 /dev/zero | tr '\0' x
    echo '"}}'
} >"$work/input.jsonl"
one=$(mserve-submit --tier sim --on-invalid skip --priority 7 --metadata team=night --completion-window 3h \
    "$work/input.jsonl" 2>/dev/null | cut -d' ' -f1)
ok "a job ends" wait_until 30 ended "$one"
is "$(field "$one" "completed, failed")" "200|42" "with 42 failed requests"
sql "create table before as select * from mserve.jobs where 'batch_' || mserve.hex(job) = '$one'"
like "$(mserve retry --dry-run "$one" 2>&1)" "2 of its requests were not valid and are not retried" "a dry run says what would not be retried"
is "$(mserve retry --status expired,cancelled "$one"; echo $?)" "$one: there is nothing to retry (expired,cancelled)"$'\n'0 "where nothing is to be retried it says so"
not_ok "a status that there is none is refused" mserve retry --status done "$one"
stop small 30

# ---- two at once, and killed: one job
mserve retry "$one" >"$work/first" 2>"$work/first.err" &
first=$!
mserve retry "$one" >"$work/second" 2>"$work/second.err" &
wait $first $!
two=$(cut -d' ' -f1 "$work/first")
is "$(cut -d' ' -f1 "$work/second")" "$two" "two retries at once make one job"
is "$(mserve retry "$one" 2>/dev/null | cut -d' ' -f1)" "$two" "the same again shows it"
is "$(sql "select count(*) from mserve.jobs")" 2 "there is no other"
is "$(field "$two" "state, lines, priority, metadata->>'team', completion_window, input_name, tier")" \
    "in_progress|40|7|night|3h|input.jsonl|sim" "it takes over what the old job had"
is "$(sql "select count(*), count(distinct root_line) from mserve.retried_lines l join mserve.jobs j using (job)
           join mserve.jobs o on o.job = j.retry_of and o.job = j.retry_root
           join mserve.results r on r.job = o.job and r.line = l.root_line
           where r.status = 'failed' and r.custom_id not like 'bad%'")" "40|40" "linked to the old one line by line"
like "$(mserve retry "$two" 2>&1; echo " $?")" "has not ended.* 1$" "one that has not ended is not retried"
not_ok "other options for the same requests are refused" mserve retry --priority 3 "$one"

write_settings context=2048 pace=0 rows=32
worker large
ok "the retry ends" wait_until 30 ended "$two"
is "$(field "$two" "completed, failed")" "39|1" "and 39 of 40 complete now"
is "$(sql "select count(*) from mserve.results r join mserve.jobs j using (job) join mserve.retried_lines l using (job, line)
           join mserve.results o on o.job = j.retry_root and o.line = l.root_line where o.custom_id = r.custom_id")" 40 \
    "each under its own name"
is "$(sql "select count(*) from mserve.results where output_tokens = 580")" 39 "with the body that it had"
is "$(sql "select count(*) from mserve.jobs j join before b on j.job = b.job and j::text = b::text")" 1 "the old job is what it was"

# ---- a retry of a retry has the lines of the first job
three=$(mserve retry "$two" 2>/dev/null | cut -d' ' -f1)
is "$(sql "select l.line, l.root_line, 'batch_' || mserve.hex(j.retry_root) from mserve.retried_lines l join mserve.jobs j using (job)
           where 'batch_' || mserve.hex(j.job) = '$three'")" "0|241|$one" "the retry of a retry knows the first job's line"
ok "its body, which was stored aside, is read back" wait_until 30 ended "$three"
stop large 30

# ---- cancelled requests, and a log that has nothing left: the file is given again, and the submitter killed
requests 3000 2 5000 >"$work/lost.jsonl"
lost=$(mserve-submit --tier sim "$work/lost.jsonl" 2>/dev/null | cut -d' ' -f1)
mserve cancel "$lost" >/dev/null
ok "a job is cancelled before anything of it ran" wait_until 30 ended "$lost"
is "$(mserve retry --dry-run "$lost" 2>&1 >/dev/null | head -1)" "$lost: 3,000 of its requests are retried" "all of it would be retried"
sql "select topic, part, max(last_offset) + 1 from mserve.chunks group by topic, part" | tr '|' ' ' |
    while read -r topic part end; do log_cut before "$topic" "$part" "$end"; done
like "$(mserve retry "$lost" 2>&1; echo " $?")" "does not hold requests .* give the file .* 8$" "without the log it asks for the file"
like "$(mserve retry "$lost" "$work/input.jsonl" 2>&1; echo " $?")" "is not the file that $lost was made of.* 2$" "another file is refused"
for after in 0.05 0.1 0.2 0.3 0.4; do (timeout -s KILL $after mserve retry "$lost" "$work/lost.jsonl"); done >/dev/null 2>&1
again=$(mserve retry "$lost" "$work/lost.jsonl" 2>/dev/null | cut -d' ' -f1)
is "$(sql "select count(*), sum(j.lines) from mserve.jobs j join mserve.jobs o on o.job = j.retry_of
           where 'batch_' || mserve.hex(o.job) = '$lost'")" "1|3000" "killed again and again it is one job of all lines"
worker last
ok "which completes" wait_until 60 ended "$again"
is "$(field "$again" "state, completed")" "completed|3000" "to the last one"
stop last 30
ok "each line of all jobs once" whole
ok "the books add up" ledger_is_balanced

done_testing
