#!/usr/bin/env bash
# test_submit_memory: the submitter lives in 256 MB however many lines there are: a memory cgroup
# where one can be made, and a limit on its address space everywhere.
. "$(dirname "$0")/lib.sh"
fresh_database
fresh_topics
export MSERVE_CONFIG=$work/mserve.yaml MSERVE_KAFKA_PARTITIONS=4
echo 'tiers: [{name: small, backend: sim, served_names: [m]}]' >"$MSERVE_CONFIG"
limit=$((256 << 20))
lines() {
    seq 1 "$1" | awk '{ printf "{\"custom_id\":\"id-%d\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{\"model\":\"m\",\"prompt\":\"document %d\",\"max_tokens\":4}}\n", $1, $1 }'
}
state_of() { sql "select state, lines from mserve.jobs where idempotency_key = '$1'"; }
ok "migrate" mserve migrate
ok "topics" mserve topics
lines 400000 >"$work/many.jsonl"

in_address_space() { (ulimit -v $((limit / 1024)) && mserve-submit "$@"); }
ok "400,000 lines in an address space of 256 MB" in_address_space -k space "$work/many.jsonl"
is "$(state_of space)" "in_progress|400000" "are all accepted"
ok "standard input as well" in_address_space -k pipe - <"$work/many.jsonl"
is "$(state_of pipe)" "in_progress|400000" "and accepted"

# A line of 15 MB beside them, and a file in which every line is bad and all of them have one id.
{ lines 1000; python3 -c 'print("{\"custom_id\":\"long\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{\"model\":\"m\",\"prompt\":\"" + "x" * 15000000 + "\"}}")'; } >"$work/long.jsonl"
ok "a line of 15 MB" in_address_space -k long "$work/long.jsonl"
yes '{"custom_id":"same","method":"POST","url":"/v1/completions","body":{"model":"m","prompt":"x"}}' | head -n 300000 >"$work/same.jsonl"
in_address_space --json "$work/same.jsonl" >"$work/errors" 2>"$work/said"
is "$? $(grep -c duplicate_custom_id "$work/errors")" "2 299999" "299,999 errors are all told"

# ---- a memory cgroup, of version 1 or 2
cgroup=
for parent in /sys/fs/cgroup/memory /sys/fs/cgroup; do
    for file in memory.limit_in_bytes memory.max; do
        [ -z "$cgroup" ] && mkdir "$parent/$test_name-$$" 2>/dev/null || continue
        if [ -w "$parent/$test_name-$$/$file" ] && echo $limit 2>/dev/null >"$parent/$test_name-$$/$file"; then
            cgroup=$parent/$test_name-$$
        else
            rmdir "$parent/$test_name-$$"
        fi
    done
done
cleanup() { [ -z "$cgroup" ] || rmdir "$cgroup"; }
in_cgroup() { (echo "$BASHPID" >"$cgroup/cgroup.procs" && exec mserve-submit "$@"); }
if [ -n "$cgroup" ]; then
    ok "a memory cgroup of 256 MB" in_cgroup -k cgroup "$work/many.jsonl"
else
    skip "a memory cgroup of 256 MB" "no memory cgroup can be made here"
fi
done_testing
