#!/usr/bin/env bash
# Leaving by hand and by signal: within the time, with status 0, everything committed, nothing lost;
# also with no time at all, in the middle of a load, without a lease, and while PostgreSQL is away.
. "$(dirname "$0")/worker_lib.sh"

fresh_database
fresh_topics
slow="fixed_ns=20000000 pace=1" # 20 ms a step
# shellcheck disable=SC2086
write_settings $slow drain=10s
set_up
feed 4000 200 40 8 >/dev/null 2>&1 # each runs for a second, and there is always one more

is_at_work() { # is_at_work NAME: requests of it are under way, as a commit said
    sql_is t "select coalesce(bool_or(wip_ns > 0), false) from mserve.workers where name = '$1' and closed_at is null"
}
worker_at_work() { worker "$1" && wait_until 60 is_at_work "$1"; }
told() { grep event=drain.done "$work/$1.log" | grep -oE "$2=[0-9a-z]*" | cut -d= -f2; } # told NAME KEY
row() { sql "select $2 from mserve.workers where name = '$1' order by worker desc limit 1"; }

# ---- mserve worker list and drain
worker_at_work one
list=$(mserve worker list)
like "$list" "one .* sim +8 +1 .*working" "the list shows a worker, its tier, partitions and jobs, and that it works"
is "$(mserve worker list --json | python3 -c 'import json, sys; w = json.load(sys.stdin)[0]; print(w["name"], w["state"], w["partitions"])')" "one working 8" "the same as JSON"
is "$(mserve worker list --all | wc -l)" 2 "nobody else was ever there"
id=$(sql "select worker from mserve.workers where name = 'one'")
ok "it is asked to leave, by the beginning of its id" mserve worker drain "${id:0:18}" --within 30s
ok "its row says so" wait_until 30 sql_is "operator|t" \
    "select drain_why, drain_by between clock_timestamp() and leave_by + interval '2 s' from mserve.workers where worker = '$id' and draining"
await one 40
is $? 0 "it leaves with status 0"
isnt "$(told one finished)" 0 "it finished what ran"
is "$(told one kept)" 0 "all of it, for it fitted into the time"
is "$(sql "select sum(lost_ns) from mserve.worker_ledger")" 0 "so nothing is lost"
is "$(sql "select count(*) from mserve.partitions where owner is not null")" 0 "its partitions are free"
is "$(mserve worker list | wc -l)" 1 "it is not in the list any more"
like "$(mserve worker list --all)" "gone \(drained\)" "but among those that are gone"
mserve worker drain one >/dev/null 2>&1
is $? 8 "there is nobody to ask any more"
mserve worker drain >/dev/null 2>&1
is $? 1 "whom is to be said"
mserve worker list one >/dev/null 2>&1
is $? 1 "a list takes no id"

# ---- a name that two have
worker twin
start twin2 mserve-worker --name twin
wait_until 60 sql_is 2 "select count(*) from mserve.workers where name = 'twin' and closed_at is null"
said=$(mserve worker drain twin 2>&1)
is $? 1 "a name that two have names neither"
like "$said" "more than one worker is twin" "and that is said"

# ---- no time at all: what ran is kept for others, the rest is as it was
for name in twin twin2; do kill -USR1 "$(pid_of $name)"; done
await twin 30 && await twin2 30
is $? 0 "SIGUSR1 lets them go both"
is "$(sql "select distinct drain_why from mserve.workers where name = 'twin'")" operator "as an operator's wish"
long=$(feed 100 200 1500 8 2>/dev/null) # 30 s each
saved() { sql "select count(*) from mserve.checkpoints where tokens > 0"; }
runs_long() { sql_is t "select count(*) > 0 from mserve.workers w, json_object_keys(w.wip_jobs) j where w.name = '$1' and j = '$long'"; }
# They alone: a short one may come to its end in the step that is under way, and would be finished.
aside() { sql "update mserve.chunks set missing = $1 where job <> '$long' and done_count < lines" >/dev/null; }
aside true
worker hasty
ok "long requests run" wait_until 60 runs_long hasty
mserve worker drain hasty --within 0s >/dev/null
await hasty 30
is $? 0 "with no time at all a worker leaves with status 0"
is "$(told hasty finished)" 0 "having finished nothing more"
isnt "$(saved)" 0 "what ran goes on elsewhere, with its tokens so far"
aside false

# ---- too long for the time, of 10 s - 6 s: nobody waits for what does not fit
worker long
ok "they run again" wait_until 60 runs_long long
stop long 30
is $? 0 "requests that do not fit do not keep a worker"
is "$(told long why)" signal "it says why it left"
ok "in less than the time it had" [ "$(told long total_ms)" -lt 9500 ]
isnt "$(told long kept)" 0 "and how many it gave back"
isnt "$(saved)" 0 "what ran with its tokens so far"
is "$(sql "select sum(lost_ns) from mserve.worker_ledger")" 0 "so that nothing of it is lost"
is "$(unexplained)" "0|0|0|0" "the books add up"

# ---- while the model is loaded, and without a lease
write_settings load_ns=600000000000 pace=1
start loading mserve-worker --name loading
ok "a worker loads its model" wait_until 60 hears_signals loading
stop loading 10
is $? 0 "in the middle of a load it goes at once"
is "$(sql "select count(*) from mserve.workers where name = 'loading'")" 0 "it was never registered"
# shellcheck disable=SC2086
write_settings $slow
sql "alter table mserve.workers rename to workers_away" >/dev/null
worker waiting
ok "a worker cannot register" wait_until 60 grep -q event=model.loaded "$work/waiting.log"
stop waiting 20
isnt $? 124 "and ends when it is told to"
sql "alter table mserve.workers_away rename to workers" >/dev/null

# ---- PostgreSQL is away for this test's database: what is finished waits for it, as long as there is time
away() {
    psql -X -q -d "$server_dsn user=postgres" -c "alter database \"$PGDATABASE\" allow_connections false" \
        -c "select pg_terminate_backend(pid) from pg_stat_activity where datname = '$PGDATABASE'" >/dev/null
}
back() { psql -X -q -d "$server_dsn user=postgres" -c "alter database \"$PGDATABASE\" allow_connections true"; }
# The long ones, which go first now, would not come to an end.
ok "the long requests are wanted no more" mserve cancel "$long"
# shellcheck disable=SC2086
write_settings $slow drain=20s more="  drain_finish: 1500ms"
worker_at_work cut
ok "PostgreSQL goes away" away
kill -TERM "$(pid_of cut)"
ok "a worker is told to leave" wait_until 20 grep -q event=drain.begin "$work/cut.log"
sleep 2
ok "PostgreSQL is back" back
await cut 30
is $? 0 "the worker leaves with status 0 when it is back"
is "$(sql "select closed_why from mserve.workers where name = 'cut'")" drained "in good order"
isnt "$(told cut finished)" 0 "with what it had finished"
# shellcheck disable=SC2086
write_settings $slow drain=2s more="  drain_margin: 1s"
worker_at_work late
ok "PostgreSQL goes away for longer" away
stop late 20
is $? 12 "then it ends when its time is over"
ok "PostgreSQL is back, later" back

# ---- to the end
write_settings fixed_ns=100000 pace=0
worker last
ok "all requests get their rows" wait_until 100 all_done
ok "each line once, none beside" whole
stop last 30
is $? 0 "an idle worker leaves"
is "$(unexplained)" "0|0|0|0" "the books add up to the end"
done_testing
