#!/usr/bin/env bash
# A request that kills whoever runs it: few workers die, it fails with its evidence, and all others are
# done. On the simulated device a token kills.
. "$(dirname "$0")/worker_lib.sh"
export MSERVE_WORKER_GUARD=on

fresh_database
fresh_topics
poison="abort_token: 64, hang_token: 35, eat_token: 36" # @ # $
write_settings fixed_ns=2000000 pace=1 sequences=32 partitions=1 wait=100ms lease=30s renew=500ms poison="$poison"

deaths() { sql "select count(*) from mserve.workers where closed_why = '$1'"; }
# job FILE COUNT POISON: so many requests, one of them, in the middle, a poison.
job() {
    { requests $(($2 / 2)) 20 0; requests 1 20 777 "$3"; requests $(($2 - $2 / 2 - 1)) 20 100; } >"$work/$1.jsonl"
    mserve-submit --tier sim "$work/$1.jsonl" 2>"$work/submit.err" | grep -o 'batch_[0-9a-f]*' | head -1
}
verdict() { sql "select error->>'code' from mserve.results where custom_id = 'c-777'"; }

# ---- a crash
set_up
batch=$(job crash 32 "@")
like "$batch" "^batch_" "a job of 32 requests, one of them a poison"
start scheduler mserve-scheduler
worker one
ok "all of them get their row" wait_until 90 all_done
ok "each line once, none beside" whole
is "$(sql "select count(*) from mserve.results where status = 'completed'")" 31 "the innocent are completed"
is "$(verdict)" worker_crashed "the poison failed as what it is"
died=$(deaths crashed)
ok "it killed $died workers: at most 2 + log2(32) + 3" test "$died" -le 10
ok "and three of them when it was alone" test "$died" -ge 3
is "$(sql "select count(*) from mserve.suspects")|$(sql "select count(*) from mserve.suspect_deaths")" "0|0" \
    "with the rows suspicion has ended"
is "$(sql "select running is null from mserve.workers where closed_at is null")" t "and nothing runs apart any more"
is "$(unexplained)" "0|0|0|0" "the books add up"
ok "the view says so too" ledger_is_balanced
is "$(sql "select count(*) from mserve.attempts where why = 'crashed' and line is null")" 0 "each lost attempt is known to the request"

# ---- the dead letter
is "$(sql "select custom_id, json_array_length(deaths) = $died, deaths->0->>'why', (deaths->0->>'signal')::int,
           deaths->0->>'thread', (deaths->(json_array_length(deaths) - 1)->>'apart')::bool from mserve.dead_letters")" \
    "c-777|t|crashed|6|device|t" "a dead letter has the evidence: how, signal, thread, apart"
ok "mserve lists it" eval "mserve dead-letter list | grep -q 'c-777'"
ok "and shows it" eval "mserve dead-letter show $batch 16 | grep -q '\"custom_id\" *: *\"c-777\"'"
if command -v kcat >/dev/null; then
    ok "it stands on the topic of dead letters" eval "kcat -C -b '$MSERVE_KAFKA_BROKERS' -t '$MSERVE_KAFKA_TOPIC_PREFIX.dead-letter' -e -q | grep -q 'c-777'"
fi
stop one 60
is $? 0 "the worker leaves in good order"

# ---- again, where the poison is none any more
write_settings fixed_ns=2000000 pace=1 sequences=32 partitions=1 wait=100ms poison="hang_token: 35"
worker two
again=$(mserve dead-letter replay "$batch" 16 | grep -o 'batch_[0-9a-f]*' | tail -1)
like "$again" "^batch_" "a replay is a job of its own"
ok "of that request" wait_until 60 sql_is "c-777|completed" \
    "select custom_id, status from mserve.results where job = replace('$again', 'batch_', '')::uuid"
stop two 60

# ---- a hang: the guard kills what does not move
write_settings fixed_ns=2000000 pace=1 sequences=32 partitions=1 wait=100ms hung=1s poison="hang_token: 35"
job hang 4 "#" >/dev/null
worker three
ok "a request at which the device hangs is found too" wait_until 90 all_done
is "$(sql "select count(*) from mserve.results where error->>'code' = 'worker_crashed'")" 2 "it fails like the other"
died=$(deaths hung)
ok "it hung $died workers: at most 2 + log2(4) + 3" test "$died" -le 7
is "$(sql "select count(*) from mserve.attempts where why = 'hung'")" \
    "$(sql "select count(*) from mserve.attempts a join mserve.workers w using (worker) where w.closed_why = 'hung'")" \
    "their attempts say so"
stop three 60
is "$(unexplained)" "0|0|0|0" "the books add up after that"
ok "and the view says so" ledger_is_balanced

# ---- memory that runs out, in a memory cgroup of version 1 or 2
cgroup=
for parent in /sys/fs/cgroup/memory /sys/fs/cgroup; do
    for limit in memory.limit_in_bytes memory.max; do
        [ -z "$cgroup" ] && mkdir "$parent/$test_name-$$" 2>/dev/null || continue
        if echo $((256 << 20)) 2>/dev/null >"$parent/$test_name-$$/$limit"; then
            cgroup=$parent/$test_name-$$
        else
            rmdir "$parent/$test_name-$$"
        fi
    done
done
cleanup() { [ -z "$cgroup" ] || wait_until 5 rmdir "$cgroup"; }
in_cgroup() { echo "$BASHPID" >"$cgroup/cgroup.procs" && exec "$@"; } # of `start`, in its own process
if [ -n "$cgroup" ]; then
    write_settings fixed_ns=2000000 pace=1 sequences=32 partitions=1 wait=100ms poison="eat_token: 36"
    job memory 2 "\$" >/dev/null
    start four in_cgroup mserve-worker --name four
    ok "a request that eats all memory is found too" wait_until 90 all_done
    is "$(sql "select count(*) from mserve.results where error->>'code' = 'worker_crashed'")" 3 "and fails like the others"
    ok "its workers are known to have run out of memory" test "$(deaths out_of_memory)" -ge 3
    stop four 60
    is $? 0 "the last leaves in good order"
else
    skip "memory_that_runs_out" "this user may not make a memory cgroup"
fi
done_testing
