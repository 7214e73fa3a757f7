#!/usr/bin/env bash
# scripts/quickstart as a new user runs it: from the tree as it is built, with servers and a folder of
# its own. What it says at the end is held against the tables; again beside itself; stopped; with a
# port that is taken; and again on the data that it left.
. "$(dirname "$0")/lib.sh"
export MSERVE_STACK_DIR=$work/stack
run=$MSERVE_STACK_DIR/run
documents=$tree/deploy/demo/documents.jsonl
holder='' # of a port

# Nothing of this test's servers and settings is known to it.
quickstart() { # quickstart [NAME=VALUE]... [stop]
    local settings=()
    while [[ ${1:-} = *=* ]]; do settings+=("$1"); shift; done
    env -i PATH="$PATH" HOME="${HOME:-/}" MSERVE_BIN="$MSERVE_BIN" MSERVE_STACK_DIR="$MSERVE_STACK_DIR" \
        "${settings[@]}" "$tree/scripts/quickstart" "$@" >"$work/said.log" 2>&1 </dev/null
}
cleanup() {
    [ -z "$holder" ] || kill "$holder"
    stack delete >/dev/null
}

says() { grep -qE -- "$1" "$work/said.log"; } # says REGEX
last_line() { tail -n 1 "$work/said.log"; }
job() { grep -om 1 '^batch_[0-9a-f]*' "$work/said.log"; }
process() { cat "$run/mserve-$1.pid"; } # process worker|scheduler
lives() { kill -0 "$1" 2>/dev/null; }
processes() { env -i grep -lsFz "$MSERVE_STACK_DIR" /proc/[0-9]*/environ; }

# The lines under "To look around" are commands: they are typed here.
look_around() {
    (cd "$tree" && eval "$(sed -n '/^To look around:/,$p' "$work/said.log" | sed 's/^To look around://')")
}

# Of the file's requests each once, all with status 200.
results_are_all_there() {
    /usr/bin/python3 - "$documents" "$run/results.jsonl" <<'PY'
import json, sys
asked, got = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
assert [a["custom_id"] for a in asked] == [g["custom_id"] for g in got], "other ids"
assert all(g["response"]["status_code"] == 200 and g["error"] is None for g in got), "not all are well"
PY
}

# What it says of the job just run, against plain sums over the tables.
tells_the_truth() { # tells_the_truth NAME
    local job charged
    job=$(job)
    ok "$1: all results are there" results_are_all_there
    like "$(cat "$work/said.log")" "$job completed, 42 requests on tier demo" "$1: it says how the job ended"
    ok "$1: the answers are the right ones" says '^ 42 of 42 are right$'
    charged=$(sql "select to_char(sum(gpu_ns) / 1e9, 'FM990.000') from mserve.results
                   where job = replace('$job', 'batch_', '')::uuid")
    isnt "$charged" 0.000 "$1: the requests cost something"
    ok "$1: the bill is the sum of the rows, $charged s" says "^  charged +$charged s +0\.0*[1-9][0-9]* USD\$"
    is "$(tail -n 9 "$work/said.log" | awk -F'|' '/^ *[0-9]/ { gsub(/ /, ""); print $2, $7 }')" \
        "$(sql 'select sum(gpu_ns) from mserve.results') 0" "$1: the books are those of the rows, and add up"
}

# ---- the first time
quickstart
is $? 0 "the first run ends well"
ok "it says so" says '^== Everything keeps running'
exports=$(stack env) && eval "$exports" # from here on sql speaks to its database
tells_the_truth "the first run"
ok "scheduler, worker and both servers run on" \
    eval 'lives "$(process worker)" && lives "$(process scheduler)" && stack status'
look_around >"$work/around"
is "$(grep -c "$(job)" "$work/around")" 2 "the commands that it names show the job, twice"

# ---- again, beside what runs
first=$(job) scheduler=$(process scheduler) worker=$(process worker)
quickstart
is $? 0 "again: it ends well"
isnt "$(job)" "$first" "again: it is a job of its own"
tells_the_truth "again"
not_ok "the worker and the scheduler of before are gone" eval "lives $worker || lives $scheduler"
is "$(sql "select count(*) from mserve.workers where closed_at is null")" 1 "and one worker serves"

# ---- stop
isnt "$(processes)" "" "its processes are known by their surroundings"
quickstart stop
is $? 0 "it stops"
is "$(processes)" "" "nothing of it runs any more"
is "$(stack status >/dev/null; echo $?)" 3 "the servers neither"
quickstart stop
is $? 0 "to stop what does not run is no mistake"

# ---- what goes wrong is one sentence
/usr/bin/python3 -c '
import socket, time
held = socket.create_server(("127.0.0.1", 0))
print(held.getsockname()[1], flush=True)
time.sleep(600)' >"$work/port" &
holder=$!
wait_until 10 test -s "$work/port"
port=$(cat "$work/port")
quickstart MSERVE_WORKER_HTTP=127.0.0.1:"$port"
is $? 1 "a worker that cannot start: status 1"
like "$(last_line)" '^quickstart: mserve-worker did not start; its log ends as shown\. .*quickstart stop' "it says so"
ok "above stands why" says "127.0.0.1:$port cannot be listened on"
quickstart MSERVE_SCHEDULER_HTTP=127.0.0.1:"$port"
is $? 1 "a scheduler that cannot start: status 1, and nobody waits for ever"
like "$(last_line)" '^quickstart: mserve-scheduler has ended' "it says so"
ok "above stands why" says "127.0.0.1:$port cannot be listened on"
quickstart nonsense
is $? 2 "another word than stop: status 2"
ok "and how it is used" says 'scripts/quickstart stop +stops'

# ---- and again on the data that it left
quickstart
is $? 0 "after all that: it ends well"
tells_the_truth "after all that"
ok "what waited for a scheduler ends as well" \
    wait_until 30 sql_is 0 "select count(*) from mserve.jobs where state = 'in_progress'"
done_testing
