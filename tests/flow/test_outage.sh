#!/usr/bin/env bash
# Kafka or PostgreSQL away for many leases under load, and silent ones: workers stay, keep what is
# finished within a bound, launch nothing past their lease and go on; a submitter waits and says so, or
# says "try again" with status 75 at whatever point of its upload, and nothing is half done.
#
# MSERVE_TEST_LEASES: for how many leases of two seconds each server is away (5); scripts/outage has more.
. "$(dirname "$0")/worker_lib.sh"
PATH=$MSERVE_BIN/tests/flow:$PATH
leases=${MSERVE_TEST_LEASES:-5}

# ---- servers of our own: they are killed and stopped
own() { MSERVE_STACK_DIR=$work/second stack "$@" 2>&1; }
cleanup() { own delete >/dev/null; }
own start >/dev/null || bail "servers of our own"
exports=$(own env) && eval "$exports"
server_dsn=$MSERVE_POSTGRES_DSN
fresh_database
fresh_topics
write_settings fixed_ns=20000000 pace=1 lease=2s renew=500ms partitions=4
export MSERVE_WORKER_REQUESTS_MAX=128
set_up

more() { # more: some rows more than at the last call
    local now
    now=$(rows 2>/dev/null) || return 1
    [ "$now" -gt "${seen:-0}" ] && seen=$now
}
resident_kb() { # of a worker, with the process that it watches
    local pid sum=0
    for pid in $(pid_of "$1") $(pgrep -P "$(pid_of "$1")"); do
        sum=$((sum + $(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status")))
    done
    echo $sum
}
attempts() { grep -c 'cannot be reached' "$work/$1.log"; }
pauses() { grep -c event=lease.paused "$work/$1.log"; }

# ---------------------------------------------------------------- workers, each server away in turn
requests 400 20 >"$work/load.jsonl"
ok "a job for two workers" mserve-submit "$work/load.jsonl"
worker one
worker two
ok "they work" wait_until 60 more
before=$(sql "select string_agg(worker::text, ' ' order by worker) from mserve.workers")
small=$(resident_kb one)

paused="$(pauses one) $(pauses two)" # on a slow machine that may have been before, too
own kill-postgres >/dev/null
sleep $((leases * 2))
ok "without PostgreSQL for $leases leases both workers stay" eval "is_running one && is_running two"
is "$(($(pauses one) - ${paused% *})) $(($(pauses two) - ${paused#* }))" "1 1" "each has said once that it launches nothing past its lease"
for name in one two; do
    isnt "$(attempts $name)" 0 "it has tried to connect"
done
isnt "$(grep -h 'cannot be reached' "$work/one.log" | sed 's/ .*//; s/.*\.//' | sort -u | wc -l)" 1 "at moments of its own"
own start-postgres >/dev/null || bail "PostgreSQL is back"
ok "both go on" wait_until 60 more
is "$(sql "select string_agg(worker::text, ' ' order by worker) from mserve.workers")" "$before" "under the ids that they had"

# More than both read ahead, and do until the broker is gone.
requests 700 20 1000 >"$work/more.jsonl"
ok "another job" mserve-submit "$work/more.jsonl"
own kill-kafka >/dev/null
sleep $((leases * 2))
ok "without Kafka for $leases leases both workers stay" eval "is_running one && is_running two"
seen=$(rows)
ok "what was read has been run, and no more" [ "$seen" -lt 1100 ]
own start-kafka >/dev/null || bail "Kafka is back"
ok "both go on" wait_until 60 more
grew=$(($(resident_kb one) - small))
ok "memory has not grown with the outages ($grew KiB)" [ $grew -lt 16384 ]
ok "all is done" wait_until 120 all_done
ok "each line once, none beside" whole
is "$(sql "select count(*) from mserve.results where status <> 'completed'")" 0 "and completed"
is "$(sql "select string_agg(worker::text, ' ' order by worker) from mserve.workers")" "$before" "by the workers that were there"
is "$(sql "select count(*) from mserve.chunks where missing")" 0 "nothing was taken for missing"

# ---------------------------------------------------------------- a submitter, PostgreSQL away
# A trigger makes the statement of each step wait for a lock that we hold, so that the server dies in the
# middle of it, and the lock with it.
requests 2000 1 >"$work/input.jsonl"
lines=2000
sql "create function public.linger() returns trigger language plpgsql as
    'begin perform pg_advisory_xact_lock_shared(77); return new; end'"
linger() { # linger EVENT TABLE [WHEN]
    sql "create trigger linger before $1 on mserve.$2 for each $([ -n "${3:-}" ] && echo "row when ($3)" || echo statement) execute function public.linger()"
}
lingers() { sql_is "$1" "select count(*) from pg_stat_activity where datname = current_database()
    and application_name = 'mserve-submit' and wait_event = 'advisory'"; }
hold_up() { # hold_up KEY
    start "$1-holder" psql -X -q -d "$MSERVE_POSTGRES_DSN" -c "select pg_advisory_lock(77), pg_sleep(600)"
    wait_until 30 sql_is 1 "select count(*) from pg_locks where locktype = 'advisory' and granted" || bail "hold_up"
}
let_go() { sql "select pg_terminate_backend(l.pid) from pg_locks l where locktype = 'advisory' and mode = 'ExclusiveLock' and granted" >/dev/null; }
at_once() { # at_once KEY: a patient and an impatient submitter of the same file, each with a job of its own
    start "$1-patient" mserve-submit -k "$1-patient" "$work/input.jsonl"
    MSERVE_SUBMIT_OUTAGE_MAX=1s start "$1-hasty" mserve-submit -k "$1-hasty" "$work/input.jsonl"
}
job_is() { sql "select 'batch_' || replace(job::text, '-', '') from mserve.jobs where idempotency_key = '$1'"; }
state_of() { sql "select state, lines from mserve.jobs where idempotency_key = '$1'"; }
both_end() { # both_end KEY WHAT SERVER
    await "$1-hasty" 60
    is $? 75 "$2: the hasty one ends with status 75"
    like "$(log_of "$1-hasty")" 'try again' "and says to try again"
    ok "the patient one says what it waits for" wait_until 30 grep -q "waiting for $3 to come back, for 10m at most" "$work/$1-patient.log"
    if [ "$3" = Kafka ]; then own start-kafka; else own start-postgres; fi >/dev/null || bail "$3 is back"
    sql "drop trigger if exists linger on mserve.jobs; drop trigger if exists linger on mserve.chunks" 2>/dev/null
    isnt "$(state_of "$1-hasty")" "in_progress|$lines" "nothing is half accepted"
    await "$1-patient" 60
    is $? 0 "the patient one comes to its end"
    ok "the hasty one, run again, too" mserve-submit -k "$1-hasty" "$work/input.jsonl"
    for key in "$1-patient" "$1-hasty"; do
        is "$(state_of "$key")" "in_progress|$lines" "$key is accepted"
        like "$(log_check "$(job_is "$key")" 2>&1)" "^[0-9]+ chunks, $lines lines, " "and lies in the log where the index says"
        mserve cancel "$(job_is "$key")" >/dev/null
    done
}
stop two 30
stop one 30
for step in "begin insert jobs" "chunk insert chunks" "seal update jobs new.lines>0"; do
    read -r name event table when <<<"$step"
    linger "$event" "$table" "$when"
    hold_up "$name"
    at_once "$name"
    ok "both are at the step: $name" wait_until 60 lingers 2
    own kill-postgres >/dev/null
    both_end "$name" "PostgreSQL away at the step: $name" PostgreSQL
done

# ---------------------------------------------------------------- a submitter, Kafka away
# Of 40,000 messages 32,768 may be on their way while 64 chunks of 16 are written down: some are left.
export MSERVE_SUBMIT_CHUNK_LINES_MAX=16
lines=40000
requests $lines 1 >"$work/input.jsonl"
linger insert chunks
hold_up kafka
at_once kafka
ok "both are about to write a part down" wait_until 60 lingers 2
own kill-kafka >/dev/null
let_go
both_end kafka "Kafka away in the middle" Kafka
is "$(sql "select count(*) from mserve.jobs where state = 'validating'")" 0 "nothing is left half done"
done_testing
