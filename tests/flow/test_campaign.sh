#!/usr/bin/env bash
# The campaign: two workers, two schedulers and a submitter are killed with SIGKILL, 30 times and more,
# while jobs run: at random, inside a step, inside a commit, in mid-upload. Whoever dies is started
# again. At the end every line has one row, no row is beside them, and the bill adds up.
. "$(dirname "$0")/worker_lib.sh"
. "$tree/tests/fault/kills.sh"

fresh_database
fresh_topics
write_settings fixed_ns=10000000 pace=1 sequences=16 lease=1s renew=200ms rows=32 interval=50ms
set_up
declare -A struck=()
kills=0 victim=''
in_steps=9 in_commits=9 at_random=4 of_schedulers=4 of_submitters=6

lines=2500 small=150 more=500 uploads=0 refills=0
requests $lines 20 0 >"$work/first.jsonl"
requests $small 20 10000 >"$work/small.jsonl"
requests $more 20 20000 >"$work/more.jsonl"
mserve-submit "$work/first.jsonl" >"$work/submit.log" 2>&1 || bail "the first job is submitted" "$(cat "$work/submit.log")"
worker w1
worker w2
start s1 mserve-scheduler
start s2 mserve-scheduler
ok "the work begins" wait_until 60 sql_is t "select count(*) > 20 from mserve.results"

revive() { # whoever is not there is started again
    local name
    for name in w1 w2; do is_running $name || worker $name; done
    for name in s1 s2; do is_running $name || start $name mserve-scheduler; done
}

# Another job each time, of which the upload is killed; one that was too fast counts as a job only.
upload() {
    in_the_middle || return 1
    uploads=$((uploads + 1))
    start submit mserve-submit --idempotency-key upload-$uploads "$work/small.jsonl"
    pause 0.005 0.05
    is_running submit && strike submit upload
}

# There is work as long as there is somebody to kill, however slow the kills are.
refill() {
    sql_is t "select (select sum(lines) from mserve.jobs) - (select count(*) from mserve.results) > $more" && return
    refills=$((refills + 1))
    mserve-submit --idempotency-key refill-$refills "$work/more.jsonl" >>"$work/submit.log" 2>&1
}

either() { if [ $((RANDOM % 2)) = 0 ]; then echo "$1"; else echo "$2"; fi; }

# In an order that differs each time; a strike that misses is tried again.
plan=$( (for _ in $(seq $in_steps); do echo step; done
         for _ in $(seq $in_commits); do echo commit; done
         for _ in $(seq $at_random); do echo random; done
         for _ in $(seq $of_schedulers); do echo scheduler; done
         for _ in $(seq $of_submitters); do echo submitter; done) | shuf)
limit=$((SECONDS + 180))
for where in $plan; do
    until [ $SECONDS -ge $limit ]; do
        case $where in
        step) strike_in_step "$(either w1 w2)" && break ;;
        commit) strike_in_commit && break ;;
        random) pause 0.1 0.6 && in_the_middle && strike "$(either w1 w2)" random && break ;;
        scheduler) pause 0.05 0.3 && in_the_middle && strike "$(either s1 s2)" scheduler && break ;;
        submitter) upload && break ;;
        esac
        revive
        refill
        pause 0.1 0.3
    done
    revive
    refill
    pause 0.1 0.4
done
note "in $SECONDS s, with $(rows) rows so far"
note "killed: $(for where in "${!struck[@]}"; do echo "$where ${struck[$where]}"; done | sort | paste -sd, )"
ok "$kills kills, each while some rows were there and some were not" test $kills -ge 30
ok "half of them inside a step or a commit" test $((2 * (${struck[step]:-0} + ${struck[commit]:-0}))) -ge $kills

for number in $(seq $uploads); do
    mserve-submit --idempotency-key "upload-$number" "$work/small.jsonl" >>"$work/submit.log" 2>&1 ||
        fail "the upload that was killed is finished by the same command" "number $number"
done
is "$(sql "select count(*) from mserve.jobs")" $((uploads + refills + 1)) "uploads that were killed are finished by the same command, each once"
ok "every request gets its row" wait_until 90 all_done
ok "each line once, none beside" whole
is "$(rows)" $((lines + uploads * small + refills * more)) "as many as there are lines in the files"
is "$(sql "select count(distinct (job, custom_id)) from mserve.results where status = 'completed'")" \
    $((lines + uploads * small + refills * more)) \
    "each under its own name, completed"
ok "the jobs end" wait_until 60 sql_is "completed|$((uploads + refills + 1))" "select state, count(*) from mserve.jobs group by 1"
ok "those who died are buried" wait_until 60 sql_is 0 "select count(*) from mserve.workers where closed_at is null and lease_until < now()"
is "$(unexplained)" "0|0|0|0" "the books add up"
ok "and the ledger says so itself" ledger_is_balanced
stop w1 60
is $? 0 "the workers leave in good order"
stop w2 60
ok "after that too" ledger_is_balanced
is "$(sql "select count(*) from mserve.workers where closed_at is null and device <> 'none'")" 0 "no worker is left open"
note "$(sql "select 'lost ' || round(100.0 * sum(lost_ns) / sum(held_ns)) || ' % of ' || round(sum(held_ns) / 1e9) || ' s held' from mserve.worker_ledger")"
done_testing
