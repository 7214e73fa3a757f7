#!/usr/bin/env bash
# Every failpoint is hit by every action (config/failpoint.h), each while a small job is under way:
# afterwards the job has the rows of an undisturbed run, the programs ended as documented, and the
# ledger is exact. Needs programs built with -Dfailpoints=true, which are made in build-failpoints.
#
#   MSERVE_FAILPOINT_CASES='REGEX'   only those, for debugging: the table is then not complete, and fails
#   MSERVE_FAILPOINT_ROUNDS=N        each pair N times, at other hits (tests/fault/failpoints_long)
#   tests/flow/test_failpoints.sh --build   makes the programs and nothing more

# ---- the programs
bin=$(cd "$(dirname "$0")/../.." && pwd -P)/build-failpoints
programs=(producer/mserve-submit producer/mserve consumer/mserve-worker scheduler/mserve-scheduler)
build() {
    cd "${bin%/*}" || return
    command -v ccache >/dev/null && compiler='ccache gcc'
    [ -f "$bin/build.ninja" ] || CC=${compiler:-gcc} meson setup "$bin" -Dbuildtype=debug -Dfailpoints=true || return
    ninja -C "$bin" -j "$(nproc)" "${programs[@]}"
}
if [ "${1:-}" = --build ]; then
    build
    exit
fi
. "$(dirname "$0")/worker_lib.sh"
. "$tree/tests/fault/failpoints_lib.sh"
(build) >"$work/build.out" 2>&1 || bail "a build with failpoints" "$(tail -n 5 "$work/build.out")"
PATH=$bin/producer:$bin/consumer:$bin/scheduler:$PATH
is "$(MSERVE_FAILPOINTS=list mserve-worker | cut -f1 | grep -v '^webhook\.' | paste -sd' ')" "${points[*]}" \
    "the list names every point that is struck here, and those of webhooks, which no job meets"
MSERVE_FAILPOINTS=comit.sent=kill mserve-worker >"$work/refused" 2>&1
is $? 1 "a point that there is not is refused at the start"
like "$(cat "$work/refused")" 'no failpoint "comit.sent"; there are job.inserted ' "with the list of those that there are"
ok "these programs hold failpoints, so they can be struck" \
    "$tree/tests/fault/failpoints_absent" present "${programs[@]/#/$bin/}"

# ---- servers: a database for workers and submitters, one for the schedulers, which share one lock
lanes=(one two three four five six seven eight nine ten)
export MSERVE_SCHEDULER_FOLD_INTERVAL=50ms
fresh_topics
write_settings fixed_ns=10000000 pace=1 lease=${lease_s}s renew=200ms rows=8 interval=30ms partitions=2
sed -i 's/^worker:/&\n  checkpoint_interval: 50ms/' "$MSERVE_CONFIG"
tier=$(sed -n '/^tiers:/,$p' "$MSERVE_CONFIG" | sed 1d)
sed -i '/^tiers:/q' "$MSERVE_CONFIG"
for lane in "${lanes[@]}"; do
    sed "s/name: sim/name: $lane/; s/\[sim\]/[$lane]/" <<<"$tier"
done >>"$MSERVE_CONFIG"
put_hooks() {
    psql -X -q -v ON_ERROR_STOP=1 -d "$MSERVE_POSTGRES_DSN" -f "$tree/tests/fault/failpoints.sql" >"$work/hooks" 2>&1 ||
        bail "the hooks are put into the functions" "$(cat "$work/hooks")"
}
fresh_database
mserve migrate >"$work/migrate" 2>&1 || bail "the schedulers' schema" "$(cat "$work/migrate")"
put_hooks
sql "select mserve.tier_register('t', 't', 1, '{m}')" >/dev/null
schedulers_dsn=$MSERVE_POSTGRES_DSN
fresh_database
set_up
put_hooks

# ---- what an undisturbed run gives
for lane in "${lanes[@]}"; do
    requests $case_lines 24 0 | sed "s/\"sim\"/\"$lane\",\"seed\":7/" >"$work/$lane.jsonl"
done
start scheduler mserve-scheduler
mserve-submit --idempotency-key reference --tier one "$work/one.jsonl" >/dev/null 2>&1
start reference mserve-worker --tier one
ok "an undisturbed run" wait_until 30 sql_is $case_lines "select count(*) from mserve.results"
stop reference 20
reference=$(rows_digest reference)
like "$reference" "^$case_lines\|$case_lines\|" "its rows"

# ---- all pairs
wanted=${MSERVE_FAILPOINT_CASES:-.}
for ((round = 0; round < ${MSERVE_FAILPOINT_ROUNDS:-1}; round++)); do
    for point in "${points[@]}"; do
        for action in "${actions[@]}"; do
            [[ $point.$action =~ $wanted ]] && echo "$point $action $round"
        done
    done
done | shuf >"$work/cases"
grep -E '^(deltas|fold)' "$work/cases" >"$work/cases.scheduler"
grep -vE '^(deltas|fold)' "$work/cases" >"$work/cases.others"
: >"$work/outcomes"
begin=$SECONDS
lane_pids=()
(MSERVE_POSTGRES_DSN=$schedulers_dsn run_lane s "$work/cases.scheduler" 2>>"$work/lanes.err") &
lane_pids+=($!)
for lane in "${lanes[@]}"; do
    (run_lane "$lane" "$work/cases.others" 2>>"$work/lanes.err") &
    lane_pids+=($!)
done
cleanup() { kill -TERM "${lane_pids[@]}" 2>/dev/null; wait; }
wait "${lane_pids[@]}"
lane_pids=()
note "$(wc -l <"$work/outcomes") cases in $((SECONDS - begin)) s"

# ---- the table
table() {
    printf '%-18s' point
    printf '%9s' "${actions[@]}"
    echo
    for point in "${points[@]}"; do
        printf '%-18s' "$point"
        for action in "${actions[@]}"; do
            awk -v p="$point" -v a="$action" '$1 == p && $2 == a { n++; good += $3 == "ok" }
                END { printf "%9s", n == 0 ? "-" : good == n ? n : "FAILED" }' "$work/outcomes"
        done
        echo
    done
}
table | sed 's/^/# /'
is "$(grep -c . "$work/outcomes")" "$((${#points[@]} * ${#actions[@]} * ${MSERVE_FAILPOINT_ROUNDS:-1}))" "every failpoint was hit by every action"
sed -n '/ ok /!s/^/# /p' "$work/outcomes"
is "$(grep -vc ' ok ' "$work/outcomes")" 0 "after each the rows are those of the undisturbed run, and who was struck ended as documented"
[ ! -f "$work/failed.log" ] || sed 's/^/#   /' "$work/failed.log"

# ---- the books
books_of() { # books_of WHAT
    ok "$1: who died is buried" wait_until 30 sql_is 0 "select count(*) from mserve.workers where closed_at is null"
    ok "$1: every job has ended" wait_until 30 sql_is 0 "select count(*) from mserve.jobs where state not in ('completed', 'cancelled')"
    is "$(unexplained)" "0|0|0|0" "$1: the books add up"
    ok "$1: and the ledger says so itself" ledger_is_balanced
}
ok "each line once, none beside" whole
books_of "workers and submitters"
stop scheduler 10
is $? 0 "the scheduler beside them saw nothing of it"
export MSERVE_POSTGRES_DSN=$schedulers_dsn
start scheduler2 mserve-scheduler
books_of schedulers
stop scheduler2 10
done_testing
