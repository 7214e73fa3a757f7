#!/usr/bin/env bash
# A hand-over that the database did not take, or took without saying so: no partition stays with a
# worker that does not know of it.
. "$(dirname "$0")/worker_lib.sh"

fresh_database
fresh_topics
write_settings lease=3s renew=500ms
set_up

held() { sql_is "$1" "select coalesce(string_agg(w.name || ' ' || n, ', ' order by w.name), '') from (select owner, count(*) n
    from mserve.partitions where owner is not null group by owner) p join mserve.workers w on w.worker = p.owner"; }

worker one
all=$(sql "select count(*) from mserve.partitions")
ok "the first worker holds all $all partitions" wait_until 60 held "one $all"
ok "and says so in one line" grep -q "event=partitions.claimed .* count=$all parts=0-$((all - 1))\$" "$work/one.log"

# ---- a release that meets a lock and is given up
(psql -X -q -d "$MSERVE_POSTGRES_DSN" -c "begin" -c "select part from mserve.partitions for update" \
    -c "select pg_sleep(4)" -c "commit" >/dev/null 2>&1) &
lock=$!
ok "somebody holds a lock on the partitions" wait_until 60 sql_is 1 \
    "select count(*) from pg_stat_activity where datname = current_database() and query like '%pg_sleep(4)%' and wait_event = 'PgSleep'"
worker two
wait $lock
ok "after a lock longer than its time-out the two share all the same" \
    wait_until 60 held "one $((all / 2)), two $((all / 2))"

# ---- a claim that landed and whose reply was lost: what the table says and the worker does not know
ok "the second worker is killed" kill_hard two
ok "the first takes over what it held" wait_until 60 held "one $all"
sql "update mserve.partitions set epoch = epoch + 1, token = 1, owner = null where part = 0;
     update mserve.partitions set owner = (select worker from mserve.workers where closed_at is null) where part = 0" >/dev/null
requests 400 20 >"$work/job.jsonl"
ok "a job with chunks in each partition is submitted" mserve-submit "$work/job.jsonl"
ok "all its requests get rows" wait_until 60 all_done
ok "each line once, none beside" whole
is "$(unexplained)" "0|0|0|0" "the books add up"
ok "it released that one and no other" wait_until 60 grep -q "event=partitions.stray .* count=1 parts=0\$" "$work/one.log"

stop one 60
is $? 0 "it leaves in good order"

# ---- buried again as soon as it is back
write_settings lease=3s renew=200ms fixed_ns=10000000 pace=1
bury() { # the living worker, unless there is none just now
    sql "update mserve.workers set lease_until = '-infinity' where closed_at is null;
         select mserve.bury_worker(worker, null, 0, 'lease_ran_out') from mserve.workers where closed_at is null" >/dev/null
}
often() { bury; sql_is t "select count(*) > 10 from mserve.workers where name = 'tough'"; }
ok "another job" feed 400 300 20 "$all"
worker tough
ok "a worker is buried ten times" wait_until 60 often
ok "and does the job all the same" wait_until 60 all_done
ok "each line once, none beside, after that" whole
is "$(unexplained)" "0|0|0|0" "the books add up after that"
stop tough 60
is $? 0 "and leaves in good order"

# ---- commits that the database refuses, a mistake of ours: it leaves, all its threads busy
write_settings lease=30s renew=10s sequences=256 interval=20ms
feed 100000 300 30 "$all" >/dev/null 2>&1 # more than both do until they are refused
before=$(rows)
some_rows() { [ "$(rows)" -gt $((before + 300)) ]; }
for name in busy busier; do
    worker $name
    ok "$name works" wait_until 60 some_rows
    sql "alter table mserve.worker_ledger add constraint refused check (rows_ns = 0) not valid" >/dev/null
    await $name 30
    is $? 70 "$name says that it cannot go on, and does not crash"
    sql "alter table mserve.worker_ledger drop constraint refused" >/dev/null
    is "$(sql "select closed_why from mserve.workers where name = '$name'")" error "its row says so too"
    before=$(rows)
done
is "$(unexplained)" "0|0|0|0" "the books add up all the same"
done_testing
