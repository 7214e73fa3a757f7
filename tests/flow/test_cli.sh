#!/usr/bin/env bash
# test_cli: what people ask of jobs with mserve, and how it answers. The rows of results are written
# here by SQL, as a worker would, so that every state can be looked at.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/rows_lib.sh"
fresh_database
fresh_topics
export MSERVE_CONFIG=$work/mserve.yaml MSERVE_KAFKA_PARTITIONS=4
cat >"$MSERVE_CONFIG" <<'YAML'
tiers:
  - {name: small, backend: sim, served_names: [m]}
YAML
status() { "$@" >"$work/out" 2>"$work/said"; echo $?; }
out() { cat "$work/out"; }
said() { cat "$work/said"; }
submit() { mserve-submit "$@" 2>/dev/null | sed -n 's/^\(batch_[0-9a-f]*\).*/\1/p'; }
lines() {
    local i
    for ((i = 0; i < $1; i++)); do
        printf '{"custom_id":"%s-%d","method":"POST","url":"/v1/completions","body":{"model":"m","prompt":"%s"}}\n' "$2" $i "$2"
    done
}
ids_of() { python3 -c 'import json,sys; print(*(json.loads(l)["custom_id"].split("-")[1] for l in sys.stdin))'; }

list_heading=$(printf '%-38s  %-11s  %10s  %10s  %9s  %-12s  %-16s  %s' ID STATE DONE REQUESTS FAILED TIER CREATED FILE)

# ---- without a schema, without a job

is "$(status mserve list)" 3 "a database without the schema"
like "$(said)" 'mserve migrate' "says what to do"
ok "migrate" mserve migrate
ok "migrate again changes nothing" mserve migrate
ok "topics" mserve topics
is "$(status mserve list)|$(out)" "0|$list_heading" "there is no job: list is a heading"
is "$(status mserve get batch_00)" 8 "a job that is not there"
is "$(status mserve get x)" 1 "what is no id"
is "$(status mserve)" 1 "a command must be named"
is "$(status mserve lisst)" 1 "an unknown command"
like "$(said)" 'list' "is told what may have been meant"

# ---- one job on its way

lines 300 x >"$work/x.jsonl"
job=$(submit "$work/x.jsonl")
uuid=$(uuid_of "$job")
mserve get "$job" >"$work/object"
is "$(python3 -c 'import json,sys; o = json.load(sys.stdin); print(o["object"], o["id"], o["status"], o["endpoint"], o["model"], o["request_counts"])' <"$work/object")" \
    "batch $job in_progress /v1/completions m {'total': 300, 'completed': 0, 'failed': 0, 'cancelled': 0, 'expired': 0}" "get prints the OpenAI object"
is "$(mserve get "$uuid")" "$(cat "$work/object")" "a UUID names it"
is "$(mserve get "${job:0:24}")" "$(cat "$work/object")" "so does the beginning of its id"
is "$(status mserve results "$job")|$(out)" "0|" "no results yet"
like "$(said)" 'has not ended' "and that is said"
finish_lines "$uuid" 0 9 completed
finish_lines "$uuid" 20 29 failed
is "$(mserve results "$job" 2>/dev/null | ids_of)" "$(seq -s ' ' 0 9) $(seq -s ' ' 20 29)" "results so far, in input order"
is "$(mserve results --status ok "$job" 2>/dev/null | ids_of)" "$(seq -s ' ' 0 9)" "those that are ok"
is "$(mserve errors "$job" 2>/dev/null | ids_of)" "$(seq -s ' ' 20 29)" "those that failed"
is "$(mserve results "$job" 2>/dev/null | head -1)" \
    "$(sql "select output from mserve.batch_results where job = '$uuid' and line = 0")" "a line is that of the view"
is "$(mserve results "$job" 2>/dev/null | python3 -c 'import json,sys; l = json.loads(sys.stdin.readline()); print(*l, l["response"]["status_code"], l["error"])')" \
    "id custom_id response error 200 None" "and has OpenAI's members"
finish_lines "$uuid" 10 10 completed
sql "update mserve.results set finished_at = now() + interval '1 s' * (line + 1) where job = '$uuid'; update mserve.results set finished_at = now() where job = '$uuid' and line = 25" >/dev/null
is "$(mserve results --order completion "$job" 2>/dev/null | ids_of)" "25 $(seq -s ' ' 0 10) $(seq -s ' ' 20 24) $(seq -s ' ' 26 29)" \
    "in order of completion"
ok "into a file" mserve results -o "$work/results.jsonl" "$job"
is "$(wc -l <"$work/results.jsonl")" 21 "with a line each"
ln -s linked.jsonl "$work/link"
ln -s "$work/link" "$work/link2"
ok "into a file that a link will lead to" mserve results -o "$work/link2" "$job"
is "$(wc -l <"$work/linked.jsonl") $(readlink "$work/link")" "21 linked.jsonl" "it is made, and the link stays"
echo old >"$work/linked.jsonl"
chmod 600 "$work/linked.jsonl"
ok "through a link into a file that is there" mserve results -o "$work/link" "$job"
is "$(wc -l <"$work/linked.jsonl") $(stat -c %a "$work/linked.jsonl") $(readlink "$work/link")" "21 600 linked.jsonl" "it keeps its mode"
ln -s loop "$work/loop"
is "$(status mserve results -o "$work/loop" "$job")" 10 "a link to itself"
is "$(status mserve results -o "$work" "$job")" 10 "a folder"
is "$(find "$work" -name '*.jsonl.*' | wc -l)" 0 "nothing is left beside them"
is "$(status mserve results -o "$work/no/results.jsonl" "$job")" 10 "a file that cannot be written"
is "$(status mserve results -o /dev/full "$job"; [ -c /dev/full ] && echo device)" "10
device" "a full disk"
mserve results "$job" 2>"$work/said" | head -1 >/dev/null
is "${PIPESTATUS[0]}" 0 "a reader that goes away is no failure"

# ---- following it to its end

start watch mserve watch "$job"
start follow mserve results --follow -o "$work/followed.jsonl" "$job"
start follow_completion mserve results --follow --order completion -o "$work/completion.jsonl" "$job"
finish_lines "$uuid" 100 299 completed
sleep 0.7
finish_lines "$uuid" 11 19 completed
finish_lines "$uuid" 30 99 expired
sleep 0.7
is_running watch; still=$?
end_job "$uuid" completed
await follow 20
is "$still $? $(ids_of <"$work/followed.jsonl")" "0 0 $(seq -s ' ' 0 299)" "--follow writes all rows in input order and ends with the job"
await follow_completion 20
is "$? $(ids_of <"$work/completion.jsonl" | tr ' ' '\n' | sort -n | tr '\n' ' ')" "0 $(seq -s ' ' 0 299) " "and in order of completion each once"
isnt "$(ids_of <"$work/completion.jsonl")" "$(seq -s ' ' 0 299)" "which is another order"
await watch 20
is $? 6 "watch ends with the job; some requests failed"
like "$(log_of watch | tail -n 1)" "^$job completed: 220 completed, 10 failed, 70 expired, 900 tokens in, 600 out" "and says how it ended"
is "$(status mserve results "$job")|$(said)" "0|" "now the results are complete"
is "$(status mserve-submit --wait "$work/x.jsonl")" 6 "the same file again shows how it ended"
is "$(status mserve-submit -o "$work/o.jsonl" "$work/x.jsonl"; ids_of <"$work/o.jsonl")" "6
$(seq -s ' ' 0 299)" "and --output writes its results"
is "$(status mserve-submit -o /dev/full "$work/x.jsonl")" 10 "an output that cannot be written in the end"
like "$(said)" "the results of $job: mserve results --output FILE $job" "says how to get the results"
is "$(mserve-submit -o - "$work/x.jsonl" 2>/dev/null | ids_of)" "$(seq -s ' ' 0 299)" "also to standard output"
like "$(mserve cost "$job")" 'requests +0\.000 s' "cost"
is "$(mserve cost --json "$job" | python3 -c 'import json,sys; print(json.load(sys.stdin)["batch_id"])')" "$job" "cost as JSON"

# ---- cancel

lines 50 y >"$work/y.jsonl"
second=$(submit "$work/y.jsonl")
is "$(mserve cancel "$second")" "$second cancelling" "a sealed job is cancelling until its rows are there"
is "$(sql "select wish from mserve.jobs where job = '$(uuid_of "$second")'")" cancel "by a wish"
is "$(mserve cancel "$second")" "$second cancelling" "cancelling twice is once"
finish_lines "$(uuid_of "$second")" 0 49 cancelled
end_job "$(uuid_of "$second")" cancelled
is "$(status mserve watch "$second")" 4 "a cancelled job"
is "$(mserve cancel "$job")" "$job completed" "a job that has ended stays as it is"
is "$(mserve cancel --json "$second" | python3 -c 'import json,sys; print(json.load(sys.stdin)["status"])')" cancelled "as JSON"
third=$(submit -k third "$work/y.jsonl")
sql "update mserve.jobs set state = 'validating', lines = null, in_progress_at = null where idempotency_key = 'third'" >/dev/null
is "$(mserve cancel "$third")" "$third cancelled" "a job that still uploads ends at once"
is "$(sql "select count(*) from mserve.chunks where job = '$(uuid_of "$third")'")" 0 "and leaves nothing"
is "$(status mserve-submit --wait -k third "$work/y.jsonl")" 4 "its submitter is told"
fourth=$(submit -k fourth "$work/y.jsonl")
finish_lines "$(uuid_of "$fourth")" 0 49 expired
end_job "$(uuid_of "$fourth")" expired
is "$(status mserve watch "$fourth")" 7 "an expired job"

# ---- a connection that is lost while a job is followed

sixth=$(submit -k sixth "$work/y.jsonl")
start patient mserve watch "$sixth"
ok "watch looks" wait_until 10 sql_is t "select count(*) > 0 from pg_stat_activity where application_name = 'mserve' and datname = current_database()"
sql "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'mserve' and datname = current_database()" >/dev/null
ok "it says that it waits" wait_until 10 grep -q 'mserve: waiting for PostgreSQL to come back, for 10m at most' "$work/patient.log"
finish_lines "$(uuid_of "$sixth")" 0 49 completed
end_job "$(uuid_of "$sixth")" completed
await patient 20
is "$?|$(tail -n 1 "$work/patient.log")" \
    "0|$sixth completed: 50 completed, 0 failed, 150 tokens in, 100 out, 0.000 s of device time" "and goes on to the end"
sql "delete from mserve.chunks where job = '$(uuid_of "$sixth")'; delete from mserve.results where job = '$(uuid_of "$sixth")'; delete from mserve.jobs where job = '$(uuid_of "$sixth")'" >/dev/null

# ---- list

named="$work/$(printf 'a\nb\033[31m\342\200\256.jsonl')"
lines 1 z >"$named"
fifth=$(submit "$named")
is "$(mserve list | head -n 1)" "$list_heading" "list: headings"
is "$(mserve list --limit 1 2>/dev/null | tail -n +2 | cut -c1-100)" "$fifth  in_progress           0           1          0  small       " \
    "and below them a line for each job"
is "$(mserve list --limit 1 2>/dev/null | tail -n 1 | sed 's/.*  //')" 'a\nb\x1b[31m\u202e.jsonl' \
    "a name commands no terminal"
is "$(sql "delete from mserve.chunks where job = '$(uuid_of "$fifth")'; delete from mserve.jobs where job = '$(uuid_of "$fifth")'; select count(*) from mserve.jobs")" 4 "(four others)"
is "$(mserve list | tail -n +2 | awk '{ print $1 }' | tr '\n' ' ')" "$fourth $third $second $job " "list: from new to old"
is "$(mserve list --state cancelled | tail -n +2 | awk '{ print $1 }' | tr '\n' ' ')" "$third $second " "by state"
is "$(mserve list --limit 2 --json | python3 -c 'import json,sys; o = json.load(sys.stdin); print(o["object"], len(o["data"]), o["first_id"], o["last_id"], o["has_more"])')" \
    "list 2 $fourth $third True" "a page as OpenAI has it"
is "$(mserve list --limit 2 --after "$third" --json | python3 -c 'import json,sys; o = json.load(sys.stdin); print(*(d["id"] for d in o["data"]), o["has_more"])')" \
    "$second $job False" "and the next"
is "$(status mserve get batch_)" 1 "an id without digits is none"
is "$(status mserve get "${job:0:8}")" 1 "the beginning of several ids is not enough"
like "$(said)" "more than one job begins with ${job:0:8}: $fourth, $third, $second, $job; type more" "and shows them"
fifth=$(submit -k fifth "$work/y.jsonl") sixth=$(submit -k sixth "$work/y.jsonl")
is "$(status mserve get "${job:0:8}")" 1 "nor of many"
like "$(said)" "$sixth, $fifth, $fourth, $third, $second and more; type" "of which the newest are shown"

# ---- another tenant sees nothing of all this

sql "create role ${test_name}_$$ login password 'x'; select mserve.grant_tenant('red', '${test_name}_$$')" >/dev/null
red() { MSERVE_POSTGRES_DSN="$MSERVE_POSTGRES_DSN user=${test_name}_$$" MSERVE_POSTGRES_PASSWORD=x PGPASSFILE=/dev/null "$@"; }
cleanup() { psql -X -q -d "$server_dsn" -c "drop role if exists ${test_name}_$$" 2>/dev/null; }
red_dsn=$(sed "s/ passfile='[^']*'//; s/user=[a-z]*/user=${test_name}_$$/" <<<"$MSERVE_POSTGRES_DSN")
red() { MSERVE_POSTGRES_DSN=$red_dsn MSERVE_POSTGRES_PASSWORD=x PGPASSFILE=/dev/null "$@"; }
is "$(status red mserve list)|$(out)|$(said)" "0|$list_heading|" "another tenant's list is empty"
is "$(status red mserve get "$job")" 8 "and the job is not there"
is "$(status red mserve results "$job")" 8 "nor its results"

# ---- topics

is "$(status env MSERVE_KAFKA_PARTITIONS=6 mserve topics)" 0 "a topic grows"
is "$(sql "select distinct partitions from mserve.models") $(sql "select count(*) from mserve.partitions")" "6 6" "and the tier knows it"
is "$(submit -k six "$work/y.jsonl" >/dev/null; sql "select partitions from mserve.jobs where idempotency_key = 'six'")" 6 "new jobs use it"
is "$(status env MSERVE_KAFKA_PARTITIONS=4 mserve topics)" 0 "it never shrinks"
is "$(sql "select distinct partitions from mserve.models")" 6 "nor does the tier"
is "$(status env MSERVE_SUBMIT_WINDOW_MAX=37d MSERVE_SUBMIT_WINDOW=1d mserve topics)" 0 "a topic that keeps requests longer than the longest window"
is "$(status env MSERVE_SUBMIT_WINDOW_MAX=39d MSERVE_KAFKA_RETENTION=40d mserve topics)" 1 "one that does not is refused"
like "$(said)" 'keeps requests for 3283200000 ms, but a window may be 39d' "and it says why"
is "$(MSERVE_KAFKA_BROKERS=127.0.0.1:1 status mserve topics)" 75 "no broker"

# ---- settings

is "$(status mserve check-config)" 0 "check-config"
printf 'kafka:\n  partitons: 3\n' >"$work/bad.yaml"
is "$(status mserve check-config --config "$work/bad.yaml")" 1 "a misspelt setting"
like "$(said)" 'bad.yaml.*2.*partitons' "is told with file, line and name"
is "$(status mserve check-config --config "$work/none.yaml")" 1 "a file that is not there"
ok "--print shows where a value comes from" grep -q partitions <(mserve check-config --print)

is "$(MSERVE_KAFKA_BROKER=x status mserve check-config)" 1 "a misspelt variable"
is "$(said)" "mserve: The variable MSERVE_KAFKA_BROKER is no setting; did you mean MSERVE_KAFKA_BROKERS?" \
    "is told with the name that was meant"
is "$(status mserve-worker --tier nope)" 1 "a tier that is not in the settings"
like "$(said)" 'no tier .*nope.*these tiers: small' "is told with those that are"

# ---- what people mistype: one sentence, which says how to go on

mistake() { # mistake STATUS SENTENCE ARGUMENT...: of mserve
    local wanted=$1 sentence=$2
    shift 2
    is "$(status mserve "$@")|$(said)" "$wanted|mserve: $sentence" "mserve $*"
}
mistake 1 'A command is missing; mserve --help shows them all.'
mistake 1 'There is no command "wroker"; did you mean worker?' wroker list
mistake 1 '--config has no command before it: mserve COMMAND OPTIONS; mserve --help shows all.' --config x get
mistake 1 'worker needs one of list or drain; mserve worker --help says more.' worker
mistake 1 '"lits" must be one of list or drain; mserve worker --help says more.' worker lits
mistake 1 'worker drain needs the id or the name of a worker; `mserve worker list` shows them' worker drain
mistake 8 'there is no worker nonsense; `mserve worker list` shows them' worker drain nonsense
mistake 1 '--within is "soon" but must be a time such as 90s, 24h or 1d12h from 0s to 1d.' worker drain x --within soon
mistake 1 '"nonsense" is not known: --by is tenant, model, capacity or tag:KEY, a key of the jobs'"'"' metadata' cost --by nonsense
mistake 1 '"may" is no month: it is written 2026-11' cost --by tenant --month may
mistake 1 '"nonsense" must be one of list, show or replay; mserve dead-letter --help says more.' dead-letter nonsense
mistake 1 'dead-letter show needs the id of a job and a line; `mserve dead-letter list` shows both' dead-letter show "$job"
mistake 1 '"x" is no line: a number from 0, as `mserve dead-letter list` shows it' dead-letter show "$job" x
mistake 8 'line 3 of that job is no dead letter; `mserve dead-letter list` shows those that are' dead-letter show "$job" 3
mistake 8 'there is no job batch_00000000; `mserve list` shows yours' get batch_00000000
mistake 1 '"batch_" is no job: an id is batch_ and 32 digits, or the first of them' get batch_

# ---- streams that the caller closed: nothing is printed into a socket

for program in "mserve list" "mserve get $job" "mserve results $job" "mserve --help" "mserve-submit --help" \
    "mserve-worker --help" "mserve-scheduler --help"; do
    $program >&- 2>"$work/said"
    is $? 10 "$program without a standard output fails as on a full disk"
    like "$(said)" 'cannot write ' "and says so"
done
is "$(mserve get "$job" 2>&-)" "$(mserve get "$job")" "without a standard error all else is as ever"
mserve get nonsense 2>&-
is $? 1 "and the exit status still tells"
mserve-submit - <&- 2>"$work/said"
is $? 10 "without a standard input nothing can be read from it"

# ---- completions

for shell in bash zsh fish; do
    mserve completion $shell >"$work/completion.$shell"
    ok "completions for $shell name both programs" grep -q mserve-submit "$work/completion.$shell"
done
ok "bash takes them" bash -n "$work/completion.bash"
is "$(status mserve completion tcsh)" 1 "another shell is refused"
commands=$(mserve --help | sed -n '/^Commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p')
is "$(wc -w <<<"$commands")" "$(grep -c '^\.Ss ' "$tree/docs/man/mserve.1")" "the help text has the commands of the manual"
for command in $commands; do
    grep -q "^\.Ss $command\$" "$tree/docs/man/mserve.1" || fail "mserve.1 has $command"
    grep -qF "    $command)" "$work/completion.bash" || fail "bash completes $command"
    mserve $command --help >"$work/out" 2>&1 && grep -q "^Usage: mserve $command" "$work/out" || fail "mserve $command --help"
done
pass "every command has its help"
done_testing
