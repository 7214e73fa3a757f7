#!/usr/bin/env bash
# The scheduler is killed at each step between a job's last row and the record of a delivery, again and
# again: every event comes at least once, with one id and one body, and never before its results can be
# read. Needs programs built with -Dfailpoints=true (tests/flow/test_failpoints.sh --build).
#
#   MSERVE_WEBHOOK_KILLS=N   so many in all; 50 without (tests/fault/webhooks)
. "$(dirname "$0")/webhook_lib.sh"
kills=${MSERVE_WEBHOOK_KILLS:-50}
points=(deltas.deleted fold.committed webhook.claimed webhook.sent webhook.answered webhook.recorded)
endpoints=16 lines=3
"$tree/tests/flow/test_failpoints.sh" --build >"$work/build.out" 2>&1 ||
    bail "a build with failpoints" "$(tail -n 5 "$work/build.out")"
struck_scheduler=$tree/build-failpoints/scheduler/mserve-scheduler

fresh_database
mserve migrate >/dev/null || bail "migrate"
psql -X -q -v ON_ERROR_STOP=1 -d "$MSERVE_POSTGRES_DSN" -f "$tree/tests/fault/failpoints.sql" >"$work/hooks" 2>&1 ||
    psql -X -q -v ON_ERROR_STOP=1 -d "$MSERVE_POSTGRES_DSN user=postgres" -f "$tree/tests/fault/failpoints.sql" >"$work/hooks" 2>&1 ||
    bail "hooks" "$(cat "$work/hooks")"
echo | sealer "$key_file" "$secret_file" >/dev/null 2>&1 # makes both
start witness python3 "$tree/tests/fault/webhook_witness.py" --log "$work/witness.tsv" --port-file "$work/witness.port" \
    --secret "$secret_file" --psql psql -X -q -A -t -d "$MSERVE_POSTGRES_DSN"
wait_until 20 test -s "$work/witness.port" || bail "the witness" "$(log_of witness)"
webhook_settings "$(port_of witness)"
unset MSERVE_WEBHOOK_CA_FILE
export MSERVE_WEBHOOK_TIMEOUT=1s MSERVE_WEBHOOK_RETRIES=0s,100ms,100ms,100ms,100ms,100ms,100ms,100ms,100ms,100ms
export MSERVE_SCHEDULER_FOLD_INTERVAL=20ms MSERVE_SCHEDULER_HTTP=
endpoints e $endpoints "http://e#.localhost:$(port_of witness)/"
sql "update mserve.webhook_endpoints set events = events || '{request.completed}';
     select mserve.tier_register('t', 't', 1, '{}')" >/dev/null

# A job whose last rows are committed and not folded; or folded already, where the step comes later.
job_ends() { # job_ends NUMBER POINT
    sql "with j as (select job from mserve.job_open('kill $1', '\x00', 'in', '/v1/completions', 't', null, 't', 1,
             16, 1000, '24h', 86400000, '{\"number\":\"$1\"}', 0))
         select mserve.job_add_chunks(job, '{0}', '{0}', '{$lines}', '{0}', '{0}', '{$((lines - 1))}', '{9}',
             array['\x00'::bytea], array['none'::bytea], '{3}') from j;
         update mserve.jobs set webhook = md5('e' || 1 + $1 % $endpoints)::uuid where idempotency_key = 'kill $1';
         with s as (select job, mserve.job_seal(job, 1, $lines, 0) from mserve.jobs where idempotency_key = 'kill $1'),
           r as (insert into mserve.results (job, line, custom_id, status, status_code)
             select job, l, 'r' || l, 'completed', 200 from s, generate_series(0, $((lines - 1))) l returning job, line)
         insert into mserve.job_deltas (job, completed, lines) select job, count(*), array_agg(line) from r group by job;
         $(case $2 in webhook.*) echo 'select mserve.tick(3600000)' ;; esac)" >/dev/null || bail "job $1"
}
in_hand() { sql "select count(*) > 0 from mserve.webhook_deliveries where token is not null"; }

declare -A struck=()
idle=0 begin=$SECONDS
for ((i = 0; i < kills; i++)); do
    point=${points[i % ${#points[@]}]}
    job_ends "$i" "$point"
    MSERVE_FAILPOINTS="$point=kill" start "kill$((i % 10))" "$struck_scheduler"
    await "kill$((i % 10))" 30
    if [ $? = 137 ]; then struck[$point]=$((${struck[$point]:-0} + 1)); fi
    case $point in webhook.claimed | webhook.sent | webhook.answered) [ "$(in_hand)" = t ] || idle=$((idle + 1)) ;; esac
done 2>"$work/killed" # where the shell says so each time
note "$kills kills in $((SECONDS - begin)) s"
for ((n = 0; n < ${#points[@]}; n++)); do
    is "${struck[${points[n]}]:-0}" $((kills / ${#points[@]} + (n < kills % ${#points[@]}))) "killed each time at ${points[n]}"
done

is $idle 0 "whoever was to be killed with deliveries in hand had some"

start last mserve-scheduler
all_delivered() {
    sql_is "$kills|0|0" "select (select count(*) from mserve.jobs where state = 'completed'),
        (select count(*) from mserve.webhook_deliveries where state <> 'delivered'), (select count(*) from mserve.job_deltas)"
}
ok "all jobs have ended and all is delivered" wait_until 120 all_delivered
stop last
is "$(sql "select count(*) from mserve.webhook_events where type = 'batch.completed'")" "$kills" "each job has its event"
is "$(sql "select count(*), count(distinct (job, line)) from mserve.webhook_events, unnest(lines) line")" \
    "$((kills * lines))|$((kills * lines))" "each row is on one page"
sql "select 'evt_' || mserve.hex(event), encode(sha256(convert_to(body, 'UTF8')), 'hex') from mserve.webhook_events" >"$work/events"
check() { python3 "$tree/tests/fault/check_webhooks.py" "$1" "$work/events"; }
found=$(check "$work/witness.tsv")
is "$?" 0 "nothing is lost, changed, or told before it could be read"
note "$found"

# ---- the check itself: a planted violation of each kind is found

planted() { # planted SENTENCE AWK
    awk -F'\t' -v OFS='\t' "$2" "$work/witness.tsv" >"$work/planted.tsv"
    like "$(check "$work/planted.tsv")" "$1" "a planted violation is found: $1"
}
victim=$(head -n 1 "$work/witness.tsv" | cut -f1)
planted 'was lost' "\$1 != \"$victim\""
planted 'came with another body' "{ if (NR == 1) \$2 = \"0\"; print }"
planted 'was not signed' "{ if (NR == 1) \$4 = \"no\"; print }"
planted 'before its results' "{ if (NR == 1) \$5 = \"no\"; print }"
planted 'tells of nothing' "{ print; if (NR == 1) { \$1 = \"evt_x\"; print } }"
done_testing
