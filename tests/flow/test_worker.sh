#!/usr/bin/env bash
# A worker on the simulated device: from the log to rows, leaving in good order, and its books.
. "$(dirname "$0")/worker_lib.sh"

fresh_database
fresh_topics
write_settings fixed_ns=5000000 pace=1

# ---- a job from the log to rows
ok "a job is put on the queue" feed 400 300 20 4 MARKER-IN-THE-BODY
worker first
ok "all its requests get rows" wait_until 60 all_done
ok "each line once, none beside" whole
is "$(sql "select count(*) from mserve.results where status = 'completed' and status_code = 200
           and response->>'object' = 'text_completion' and (response->'usage'->>'completion_tokens')::int = 20
           and response->'choices'->0->>'finish_reason' = 'length' and output_tokens = 20
           and custom_id = 'r-' || line")" 400 "answers in OpenAI's form, with the tokens asked for"
is "$(sql "select count(distinct response->>'id') from mserve.results")" 400 "each with an id of its own"
is "$(unexplained)" "0|0|0|0" "the books add up while it works"
pg_dump -d "$MSERVE_POSTGRES_DSN" --data-only >"$work/dump"
ok "a dump of the database has the results" grep -q r-399 "$work/dump"
not_ok "and no body of a request" grep -q MARKER-IN-THE-BODY "$work/dump"

# ---- SIGTERM while it works: what runs and fits is finished, the rest is not begun
ok "another job" feed 1500 300 20 4
wait_until 60 sql_is 1 "select (count(*) > 500)::int from mserve.results"
stop first 60
is $? 0 "SIGTERM in mid-work: it leaves with status 0, so within worker.drain"
is "$(sql "select closed_why, draining from mserve.workers")" "drained|t" "its row says so"
is "$(sql "select count(*) from mserve.partitions where owner is not null")" 0 "its partitions are free"
is "$(unexplained)" "0|0|0|0" "the books add up after it left"
is "$(sql "select sum(lost_ns) from mserve.worker_ledger")" 0 "what ran was finished: nothing is lost"
like "$(grep event=drain.done "$work/first.log")" "why=signal finished=[1-9][0-9]* kept=0 " "and it says so"
isnt "$(rows)" 1900 "and some requests are still open"

worker second
ok "the next worker finishes the job" wait_until 60 all_done
ok "each line once, none beside, again" whole
stop second 60
is $? 0 "an idle worker leaves with status 0"
is "$(unexplained)" "0|0|0|0" "the books add up to the end"
is "$(sql "select count(*) from mserve.workers where closed_at is null")" 0 "nobody is left"

# ---- a second signal finishes nothing more, a third ends it at once
feed 2000 300 400 4 >/dev/null 2>&1
worker third
wait_until 60 sql_is 4 "select count(*) from mserve.partitions where owner is not null"
wait_until 60 sql_is t "select wip_ns > 0 from mserve.workers where name = 'third'"
kill -TERM "$(pid_of third)" && kill -INT "$(pid_of third)"
await third 60
is $? 0 "after a second signal it leaves in good order all the same"
ok "it finished nothing more" grep -q event=drain.hurried "$work/third.log"
worker fourth
wait_until 60 sql_is 4 "select count(*) from mserve.partitions where owner is not null"
wait_until 60 sql_is t "select wip_ns > 0 from mserve.workers where name = 'fourth'"
# while this one has the table, no commit lands and the worker cannot leave
start holder psql -X -q -d "$MSERVE_POSTGRES_DSN" -c "begin; lock table mserve.results in share mode; select pg_sleep(60)"
wait_until 60 sql_is 1 "select count(*) from pg_locks where relation = 'mserve.results'::regclass and mode = 'ShareLock' and granted"
for step in TERM:drain.begin INT:drain.hurried; do
    kill -${step%:*} "$(pid_of fourth)"
    wait_until 60 grep -q "event=${step#*:}" "$work/fourth.log"
done
kill -TERM "$(pid_of fourth)"
await fourth 60
is $? 12 "a third signal ends it at once"
kill_hard holder
done_testing
