#!/usr/bin/env bash
# mserve doctor: a healthy stack is told to be so, and one fault after the other shows up as the line
# that names it, with what to do next.
. "$(dirname "$0")/worker_lib.sh"

diagnose() { mserve doctor "$@" >"$work/report" 2>&1; }
finds() { grep -qE "^$1 +$2 +.*$3" "$work/report"; } # finds LEVEL AREA TEXT
advises() { grep -qE "^ +-> .*$1" "$work/report"; }
well() { diagnose && ! grep -E '^(warning|problem)' "$work/report" | grep -qv ' disk '; }

# fault NAME LEVEL AREA TEXT NEXT: the doctor's status, its line and its advice
fault() {
    local wanted=1
    [ "$2" = problem ] || wanted=0
    diagnose
    is $? $wanted "$1: status $wanted"
    if finds "$2" "$3" "$4" && advises "$5"; then pass "$1: it says so, and what to do"; else
        fail "$1: it says so, and what to do" "no line '$2 $3 … $4' with '$5' in:" "$(cat "$work/report")"
    fi
}

fresh_database
fresh_topics
write_settings lease=2s renew=500ms

# ---- a stack that is being set up
fault "no schema" problem schema 'needs' 'mserve migrate'
mserve migrate >/dev/null
fault "no topic" problem topic 'does not exist' 'mserve topics'
ok "no tier is registered: said too" finds problem scheduler 'none is connected'
mserve topics >/dev/null
sql "update mserve.models set partitions = 4" # the topic has grown since
fault "the topic has more partitions than are registered" problem scheduler 'none' 'mserve-scheduler'
ok "said as a warning" finds warning tier '4 partitions .* Kafka has 8'
mserve topics >/dev/null
sql "delete from mserve.models"
fault "a tier that is not registered" problem tier 'not known to answer' 'mserve topics'
mserve topics >/dev/null

# ---- one that works
start scheduler mserve-scheduler
worker one
feed 40 200 4 2 >/dev/null 2>&1
ok "a job is done" wait_until 60 all_done
ok "and ended" wait_until 60 sql_is 0 "select count(*) from mserve.jobs where state = 'in_progress'"
ok "a healthy stack is told to be so" wait_until 20 well
for area in settings postgresql clock durability autovacuum schema topic tier kafka model workers \
    partitions scheduler jobs missing dead-letter suspects books; do
    finds ok $area . || fail "it looked at $area" "$(cat "$work/report")"
done
ok "it says what accepted means" finds ok durability '"accepted" means'
says_well() {
    mserve doctor --json >"$work/json"
    /usr/bin/python3 -c "
import json, sys
report = json.load(open(sys.argv[1]))
assert report['problems'] == 0
assert all(line['level'] == 'ok' and line['next'] is None for line in report['lines'] if line['area'] != 'disk')
" "$work/json"
}
ok "the same as JSON" wait_until 20 says_well

MSERVE_KAFKA_REPLICATION=3 fault "fewer copies than are asked for" warning topic \
    'lies on 1 broker where kafka.replication asks for 3' 'kafka-reassign-partitions'
like "$(MSERVE_KAFKA_REPLICATION=3 mserve topics 2>&1)" 'requests.sim lies on 1 broker .*dead-letter lies on 1 broker' \
    "so does mserve topics, of both topics"

# ---- work that does not go on
sql "update mserve.results set gpu_ns = gpu_ns + 1 where line = 0"
fault "a bill that does not add up" problem books 'unexplained_ns = -1' 'ledger_check'
sql "update mserve.results set gpu_ns = gpu_ns - 1 where line = 0"

# ---- workers that stay, requests that kill
overdue() { sql "update mserve.workers set draining = true, drain_by = clock_timestamp() - interval '$1'
    where device <> 'none' and closed_at is null"; }
overdue 50s
fault "a worker that does not leave" warning workers '1 worker .one. should have left [5-9][0-9] s ago' 'kill it'
overdue 5s # it has worker.drain_margin, and a little more
diagnose
not_ok "one that is about to leave is not told of" finds warning workers 'should have left'
sql "update mserve.workers set draining = false, drain_by = null where device <> 'none' and closed_at is null"
sql "insert into mserve.dead_letters (job, line, tenant, custom_id, body, deaths)
       select job, 0, tenant, 'c-0', '{}', '[]' from mserve.jobs limit 1"
fault "a request that killed its workers" warning dead-letter '1 request of tenant default failed' 'mserve dead-letter list'
ok "the command that it names shows it" eval 'mserve dead-letter list | grep -q c-0'
sql "update mserve.dead_letters set replayed_as = gen_random_uuid()"
diagnose
ok "one that was submitted anew is settled" finds ok dead-letter 'no request'
sql "update mserve.dead_letters set replayed_as = null, at = at - interval '8 days'"
diagnose
ok "one of last week is counted" finds ok dead-letter 'no request .*, 1 before'
sql "delete from mserve.dead_letters;
     insert into mserve.suspects (job, line, chunk, cap, since)
       select job, line, 0, 1, clock_timestamp() - line * interval '1 hour' - interval '10 minutes'
         from mserve.jobs, generate_series(0, 2) line where jobs.job = (select min(job::text)::uuid from mserve.jobs)"
fault "requests that wait to run apart" warning suspects '2 of 3 requests .* one for 7[89][0-9][0-9] s' 'worker.suspect_wait'
sql "delete from mserve.suspects where line > 0"
diagnose
ok "one that was accused just now is not told of" finds ok suspects '1 request may have killed a worker and runs apart'
sql "delete from mserve.suspects"

# ---- work that nobody does
kill_hard scheduler
wait_until 10 sql_is 0 "select count(*) from pg_stat_activity
    where application_name = 'mserve-scheduler' and datname = current_database()"
fault "no scheduler" problem scheduler 'none is connected' 'mserve-scheduler'
kill_hard one
wait_until 10 sql_is 1 "select count(*) from mserve.workers where closed_at is null and lease_until < clock_timestamp()"
diagnose
ok "a worker that died is seen by its lease" finds warning leases 'one. ran out'
ok "no worker is left" finds warning workers 'no worker serves tier sim'
feed 40 200 4 2 >/dev/null 2>&1
fault "no worker, and work waits" problem workers 'jobs wait for one' 'mserve-worker --tier sim'
sql "update mserve.chunks set missing = true where not whole"
fault "chunks that Kafka has lost" problem missing 'batch_[0-9a-f]{32} .*lost 1 of its chunks, 40 requests' 'Submit the same file again'
sql "update mserve.chunks set missing = false;
     update mserve.jobs set created_at = created_at - interval '2 days', expires_at = clock_timestamp() - interval '2 minutes'
       where state = 'in_progress'"
fault "a window that passed" problem jobs 'the window of 1 passed' 'scheduler'

# ---- models and settings
printf 'version https://git-lfs' >"$work/pointer.gguf"
printf 'GGUF and more' >"$work/other.gguf"
cat >"$work/models.yaml" <<YAML
kafka: {partitions: 8}
tiers:
  - {name: sim, model: $work/pointer.gguf, served_names: [sim]}
  - {name: other, model: $work/other.gguf, sha256: $(printf '0%.0s' $(seq 64)), served_names: [other]}
  - {name: none, model: $work/none.gguf, served_names: [none]}
YAML
diagnose --config "$work/models.yaml"
ok "a pointer in the place of a model" finds problem model 'tier sim: .* is no GGUF file'
ok "a model that is another one" finds problem model 'tier other: .* the settings ask for 0000000000000000'
ok "a model that is not there" finds problem model 'tier none: .*cannot be read: No such file'
printf 'worker: {lease: 1 banana}\n' >"$work/bad.yaml"
diagnose --config "$work/bad.yaml"
is $? 1 "settings that cannot be read: status 1"
ok "it names file and setting" finds problem settings 'bad.yaml.*worker.lease'

# ---- servers that are away
stack kill-kafka >/dev/null 2>&1
fault "Kafka is away" problem kafka 'no Kafka broker answers' 'Start Kafka'
stack kill-postgres >/dev/null 2>&1
fault "PostgreSQL is away" problem postgresql 'cannot be reached' 'Start PostgreSQL'
stack start >/dev/null 2>&1
done_testing
