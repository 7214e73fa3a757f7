#!/usr/bin/env bash
# A PostgreSQL that says nothing any more, as when the network swallows its packets: the whole server is
# stopped. Everybody notices within 30 s, by a deadline of their own, and goes on when it speaks again.
. "$(dirname "$0")/worker_lib.sh"
kafka=$MSERVE_KAFKA_BROKERS

own() { MSERVE_STACK_DIR=$work/second stack "$@" 2>&1; }
cleanup() { thaw_server 2>/dev/null; own delete >/dev/null; }
said=$(own start-postgres) || bail "a PostgreSQL of our own" "$said"
exports=$(own env) && eval "$exports"
export MSERVE_KAFKA_BROKERS=$kafka
server_dsn=$MSERVE_POSTGRES_DSN
fresh_database
fresh_topics
write_settings fixed_ns=20000000 pace=1 lease=30s renew=10s partitions=4
set_up

postmaster=$(own status | sed -n 's/.*PostgreSQL runs on .*, pid \([0-9]*\),.*/\1/p')
freeze_server() { # children last, so that none of them is made meanwhile
    kill -STOP "$postmaster"
    frozen=$(pgrep -P "$postmaster")
    # shellcheck disable=SC2086
    kill -STOP $frozen
}
# shellcheck disable=SC2086
thaw_server() { kill -CONT ${frozen:-} "$postmaster"; }

more() { # more: some rows more than at the last call
    local now
    now=$(rows) && [ "$now" -gt "${seen:-0}" ] && seen=$now
}
requests 2000 20 >"$work/load.jsonl"
ok "a job" mserve-submit "$work/load.jsonl"
worker one
start scheduler mserve-scheduler
ok "is worked on" wait_until 60 more
sql "create function public.linger() returns trigger language plpgsql as 'begin perform pg_sleep(1); return new; end';
     create trigger linger before insert on mserve.chunks for each statement execute function public.linger()"
requests 1000 1 5000 >"$work/upload.jsonl"
start upload mserve-submit -k upload "$work/upload.jsonl"
ok "another is on its way" wait_until 60 sql_is 1 "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"

seen=$(rows)
freeze_server
began=$SECONDS
start list mserve list # a new connection
await list 40
is $? 75 "who connects to a server that is silent ends with status 75"
for name in one upload scheduler; do
    ok "$name notices" wait_until 40 grep -q 'no answer came in time' "$work/$name.log"
done
took=$((SECONDS - began))
ok "all within 30 s ($took)" [ $took -le 30 ]
ok "the submitter says that it waits" wait_until 10 grep -q 'waiting for PostgreSQL to come back' "$work/upload.log"
thaw_server
await upload 60
is $? 0 "the server speaks again: the upload comes to its end"
is "$(sql "select state, lines from mserve.jobs where idempotency_key = 'upload'")" "in_progress|1000" "and is accepted"
ok "the worker goes on" wait_until 60 more
is "$(sql "select count(*) from mserve.workers where device = 'sim'")" 1 "under the id it had"
sql "select mserve.job_cancel(job) from mserve.jobs" >/dev/null
ok "and with the scheduler brings all to its end" wait_until 60 sql_is 2 "select count(*) from mserve.jobs where state = 'cancelled'"
ok "each line once, none beside" whole
for name in one scheduler; do
    stop $name 30
    is $? 0 "$name leaves in good order"
done
done_testing
