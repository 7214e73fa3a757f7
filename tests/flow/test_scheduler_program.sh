#!/usr/bin/env bash
# mserve-scheduler as a program: how it starts, waits for its database, shares the work, and ends.
. "$(dirname "$0")/lib.sh"

export MSERVE_SCHEDULER_FOLD_INTERVAL=50ms MSERVE_SUBMIT_UPLOAD_ABANDONED_AFTER=1m
fresh_database

# A sealed job of 3 lines in one chunk, cancelled; its custom_ids are not zstd, so names stay empty.
cancelled_job() { # cancelled_job KEY
    sql "
      with j as (select job from mserve.job_open('$1', '\x00', 'in', '/v1/completions', 't', null, 't', 1,
             16, 1000, '24h', 86400000, null, 0)),
        c as (select mserve.job_add_chunks(job, '{0}', '{0}', '{3}', '{0}', '{0}', '{2}', '{9}',
             array['\x00'::bytea], array['none'::bytea], '{3}') from j)
      select count(*) from c" >/dev/null
    sql "select mserve.job_seal(job, 1, 3, 0), mserve.job_cancel(job) from mserve.jobs
         where idempotency_key = '$1'" >/dev/null
}

state_is() { sql_is "$2" "select state from mserve.jobs where idempotency_key = '$1'"; }

start early mserve-scheduler
await early 30
is $? 3 "a schema that was not migrated ends it with status 3"
like "$(log_of early)" 'run `mserve migrate`' "and it says what to do"

mserve migrate >/dev/null
sql "select mserve.tier_register('t', 't', 1, '{m}')" >/dev/null
start one mserve-scheduler
start two mserve-scheduler
cancelled_job first
ok "a cancelled job ends without any worker" wait_until 30 state_is first cancelled
is "$(sql "select count(*) from mserve.results where status = 'cancelled'")" 3 "with a row for each line"
like "$(log_of one)$(log_of two)" 'event=job.ended job=batch_[0-9a-f]{32} state=cancelled' "and a line in the log"

kill_hard one
cancelled_job second
ok "the other goes on when one is killed" wait_until 30 state_is second cancelled

sql "select pg_terminate_backend(pid) from pg_stat_activity
     where application_name = 'mserve-scheduler' and datname = current_database()" >/dev/null
cancelled_job third
ok "it connects again when its connection is gone" wait_until 30 state_is third cancelled

sql "insert into mserve.workers (token, name, host, pid, topics, device, price_per_hour, currency, lease_ms, lease_until)
     values (1, 'gone', 'h', 1, '{t}', 'cpu', 0, 'EUR', 1, now() - interval '1 s')"
ok "it buries who is gone" wait_until 30 sql_is lease_ran_out \
    "select closed_why from mserve.workers where name = 'gone'"

stop two 20
is $? 0 "SIGTERM ends it at once with status 0"
is "$(sql "select count(*) from mserve.workers where closed_at is null")" 0 "and it leaves no lease behind"
is "$(sql "select unexplained_ns + jobs_differ + bitmaps_differ + workers_differ from mserve.ledger_check")" 0 \
    "the bill adds up"

MSERVE_POSTGRES_DSN='host=127.0.0.1 port=1 dbname=x' start away mserve-scheduler
ok "a server that is away is waited for" wait_until 30 grep -q code=DATABASE "$work/away.log"
stop away 20
is $? 0 "and SIGTERM ends the waiting"
done_testing
