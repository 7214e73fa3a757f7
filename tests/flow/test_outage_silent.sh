#!/usr/bin/env bash
# A PostgreSQL that says nothing any more. The whole server is stopped: everybody notices within 30 s, by a
# deadline of their own, and goes on when it speaks again. Or the network swallows its packets, which the
# kernel notices sooner.
. "$(dirname "$0")/worker_lib.sh"
kafka=$MSERVE_KAFKA_BROKERS

own() { MSERVE_STACK_DIR=$work/second stack "$@" 2>&1; }
cleanup() { thaw_server 2>/dev/null; own delete >/dev/null; MSERVE_STACK_DIR=$work/third stack delete >/dev/null 2>&1; }

# ---- in a network of its own, which is taken down and up again, beside all that follows
cat >"$work/swallow" <<'SH'
ip link set lo up && stack start-postgres >/dev/null && exports=$(stack env) && eval "$exports" || exit 9
mserve migrate >/dev/null || exit 9
psql -X -q -o /dev/null -c "select * from mserve.job_open('k', '\x00', 'f', '/v1/completions', 'sim', 'sim', 't', 4, 16, 1000000, '24h', 86400000, null, 0)"
mserve watch "$(psql -X -A -t -c 'select batch_id from mserve.job_status')" &
watch=$!
await() { local end=$((SECONDS + $1)); shift; until "$@"; do [ $SECONDS -lt $end ] || return 1; sleep 0.1; done; }
looks() { [ "$(psql -X -A -t -c "select count(*) from pg_stat_activity where application_name = 'mserve' and query like 'with job as%' and backend_start > to_timestamp($1)")" -gt 0 ]; }
await 60 looks 0 || exit 8
ip link set lo down
began=$SECONDS
await 60 grep -q 'waiting for PostgreSQL' "$log" || exit 7
echo "noticed after $((SECONDS - began)) s"
now=$(date +%s)
ip link set lo up
await 60 looks "$now" || exit 6
echo "goes on"
kill $watch
SH
swallow() { # in the namespace
    export MSERVE_STACK_DIR=$work/third log=$work/swallow.log
    stack() { "$tree/scripts/stack" "$@"; }
    . "$work/swallow"
}
export -f swallow
export work tree
if unshare -n ip link set lo up 2>/dev/null; then
    start swallow unshare -n bash -c swallow
fi
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
sql "create sequence public.times;
     create function public.linger() returns trigger language plpgsql as 'begin
       if nextval(''public.times'') = 1 then perform pg_sleep(10); end if; return new; end';
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
if [ -n "${pids[swallow]:-}" ]; then
    await swallow 120
    is $? 0 "packets that are swallowed are noticed, and all goes on when they are not"
    took=$(sed -n 's/^noticed after \([0-9]*\) s/\1/p' "$work/swallow.log")
    ok "within 30 s ($took)" [ "${took:-99}" -le 30 ]
else
    skip swallowed_packets "a network of its own may not be made here"
fi
for name in one scheduler; do
    stop $name 30
    is $? 0 "$name leaves in good order"
done
done_testing
