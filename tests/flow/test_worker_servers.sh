#!/usr/bin/env bash
# Servers that die and come back while a worker works: nothing is lost, nothing is done twice that was
# finished, and the worker goes on under the id it had.
. "$(dirname "$0")/worker_lib.sh"

fresh_database
fresh_topics
write_settings fixed_ns=20000000 pace=1 lease=4s renew=1s

more() { # more: some rows more than at the last call
    local now
    now=$(rows 2>/dev/null) || return 1
    [ "$now" -gt "${seen:-0}" ] && seen=$now
}

outages() { # outages N: so many has the watcher met
    [ "$(grep -c waiting "$work/watch.log")" = "$1" ]
}

job=$(feed 6000 300 16 8 2>/dev/null) # two minutes: more than the outages take
worker one
ok "a job runs" wait_until 60 more
start watch mserve watch "$(sql "select batch_id from mserve.job_status")"

stack kill-kafka >/dev/null 2>&1
sleep 2
stack start-kafka >/dev/null 2>&1
wait_until 60 more
ok "a broker killed and restarted: the job goes on" wait_until 60 more

stack kill-postgres >/dev/null 2>&1
ok "who watches says that it waits" wait_until 60 outages 1
stack start-postgres >/dev/null 2>&1
wait_until 60 more
ok "a database killed and restarted: the job goes on" wait_until 60 more
ok "who watches is connected again" wait_until 60 sql_is t "select count(*) > 0 from pg_stat_activity
    where application_name = 'mserve' and datname = current_database()"

stack kill-postgres >/dev/null 2>&1
ok "away longer than the lease: it says that it pauses" wait_until 60 grep -q event=lease.paused "$work/one.log"
ok "and so does who watches, again" wait_until 60 outages 2
stack start-postgres >/dev/null 2>&1
ok "and goes on when the database is back" wait_until 60 more
is "$(sql "select count(*) from mserve.workers")" 1 "under the id it had: nobody had buried it"
is "$(sql "select mserve.job_cancel('$job')")" cancelling "the rest is cancelled"
ok "every line has its row" wait_until 60 all_done
ok "each line once, none beside" whole
sql "select * from mserve.tick(3600000)" >/dev/null
await watch 60
is $? 4 "who watched went on after both outages, and saw the end: not all are completed"
stop one 60
is $? 0 "it leaves in good order"
is "$(unexplained)" "0|0|0|0" "the books add up"

# ---- a worker that is told to leave while the broker is away
feed 500 300 16 8 >/dev/null 2>&1
worker two
wait_until 60 sql_is t "select count(*) > 0 from mserve.workers where name = 'two'"
stack kill-kafka >/dev/null 2>&1
stop two 60
is $? 0 "without a broker a worker leaves in good order"
stack start-kafka >/dev/null 2>&1

# ---- and one that is started without servers
stack kill-kafka >/dev/null 2>&1
worker three
await three 60
is $? 75 "a worker that finds no broker ends with status 75"
like "$(log_of three)" 'no Kafka broker answers at' "and says so in one sentence"
stack start-kafka >/dev/null 2>&1
MSERVE_POSTGRES_DSN="$MSERVE_POSTGRES_DSN port=1" worker four
await four 60
is $? 75 "a worker that finds no database ends with status 75"
like "$(log_of four)" 'PostgreSQL at .* cannot be reached' "and says so in one sentence"
done_testing
