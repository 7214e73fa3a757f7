#!/usr/bin/env bash
# PostgreSQL dies and its standby takes over, without the last commits where these did not wait for it:
# workers and submitters find it by themselves, nothing is held by two, no job is stuck, and what was
# accepted while the standby was waited for is there.
. "$(dirname "$0")/worker_lib.sh"
kafka=$MSERVE_KAFKA_BROKERS

# ---- a PostgreSQL of our own, and one that follows it
own() { MSERVE_STACK_DIR=$work/second stack "$@" 2>&1; }
cleanup() { own delete >/dev/null; }
said=$(own start-postgres) || bail "a PostgreSQL of our own" "$said"
exports=$(own env) && eval "$exports"
export MSERVE_KAFKA_BROKERS=$kafka
said=$(own start-standby) || bail "a standby" "$said"
standby=$(own status | sed -n 's/.*a standby runs on 127.0.0.1:\([0-9]*\),.*/\1/p')
first_dsn=$MSERVE_POSTGRES_DSN
server_dsn="$first_dsn host=127.0.0.1,127.0.0.1 port=$PGPORT,$standby target_session_attrs=read-write"
fresh_database
fresh_topics
write_settings fixed_ns=20000000 pace=1 lease=3s renew=500ms partitions=4
export MSERVE_WORKER_REQUESTS_MAX=128
set_up
waits=$MSERVE_POSTGRES_DSN
hurries="$MSERVE_POSTGRES_DSN options='-c synchronous_commit=local'"
sql_admin "alter system set synchronous_standby_names = '*'" && sql_admin "select pg_reload_conf()" >/dev/null
ok "commits wait for the standby" wait_until 20 eval \
    '[ "$(sql_admin "select count(*) from pg_stat_replication where sync_state = '"'sync'"'")" = 1 ]'

more() { # more N: that many rows more than at the last call
    local now
    now=$(rows) && [ "$now" -ge $((${seen:-0} + $1)) ] && seen=$now
}
accepted() { [ "$(wc -l <"$work/accepted")" -ge "$1" ]; }

# ---- workers that do not wait, and a person who does, one job after the other
MSERVE_POSTGRES_DSN=$hurries worker one
MSERVE_POSTGRES_DSN=$hurries worker two
MSERVE_POSTGRES_DSN=$hurries start scheduler mserve-scheduler
requests 20 2 5000 >"$work/small.jsonl"
: >"$work/accepted"
submit_on_and_on() {
    local i
    for ((i = 0; ; i++)); do
        mserve-submit -k "waited-$i" "$work/small.jsonl" >>"$work/accepted" || return
        [ ! -e "$work/enough" ] || return 0
    done
}
start submitter submit_on_and_on
ok "jobs are accepted" wait_until 60 accepted 3
requests 900 20 >"$work/load.jsonl"
ok "a large one, too" mserve-submit -k load "$work/load.jsonl"
ok "work is done" wait_until 60 more 32

# ---- the standby is cut off, and does not get what is committed from here on
psql -X -q -d "$first_dsn user=postgres dbname=postgres port=$standby" -c "alter system set primary_conninfo = ''" \
    -c "select pg_reload_conf()" -o /dev/null
ok "the standby is cut off" wait_until 20 eval '[ "$(sql_admin "select count(*) from pg_stat_replication")" = 0 ]'
seen=$(rows)
ok "those that do not wait go on" wait_until 60 more 64
requests 20 2 6000 >"$work/lost.jsonl"
ok "and are told that a job is accepted" env MSERVE_POSTGRES_DSN="$hurries" mserve-submit -k lost "$work/lost.jsonl"
count=$(wc -l <"$work/accepted")
ok "who waits is told nothing" is_running submitter

# ---- the first dies, the standby takes over
last=$(sql "select worker, seq, at from mserve.worker_ledger order by at desc limit 1")
own kill-postgres >/dev/null
said=$(own promote) || bail "the standby takes over" "$said"
is "$(sql "select count(*) from mserve.worker_ledger where worker || '|' || seq || '|' || at = '$last'")" 0 "it lacks the last commits"
is "$(sql "select count(*) from mserve.jobs where idempotency_key = 'lost'")" 0 "a job that was accepted without waiting is gone with them"
ok "submitting goes on by itself" wait_until 60 accepted $((count + 1))
touch "$work/enough"
await submitter 60
is $? 0 "and all of it succeeded"
is "$(while read -r id _; do sql "select count(*) from mserve.job_status where batch_id = '$id' and lines = 20"; done <"$work/accepted" | sort | uniq -c | xargs)" \
    "$(wc -l <"$work/accepted") 1" "every job that was accepted by one that waited is there, and accepted"
ok "what was lost can be submitted again" mserve-submit -k lost "$work/lost.jsonl"
ok "all jobs come to their end" wait_until 120 sql_is 0 "select count(*) from mserve.jobs where state not in ('completed')"
ok "both workers, which never ended, and the scheduler are there" eval "is_running one && is_running two && is_running scheduler"
ok "each line once, none beside" whole
is "$(sql "select count(*) from mserve.results where status <> 'completed'")" 0 "all of it completed"
is "$(sql "select count(*) from mserve.chunks where missing")" 0 "nothing was taken for missing"
for name in one two scheduler; do
    stop $name 60
    is $? 0 "$name leaves in good order"
done
is "$(unexplained)" "0|0|0|0" "the books add up"
ok "and the view says so" ledger_is_balanced
done_testing
