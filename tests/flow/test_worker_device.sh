#!/usr/bin/env bash
# A device that fails under a worker, and several tiers served by one: what had been generated is kept,
# nobody is accused, each tier has a worker, books and a part of the price of its own.
. "$(dirname "$0")/worker_lib.sh"
export MSERVE_WORKER_GUARD=on

fresh_database
fresh_topics
slow="fixed_ns=5000000 pace=1 sequences=8 lease=30s renew=500ms"
# shellcheck disable=SC2086
write_settings $slow partitions=1 poison="fail_token: 64" more="  checkpoint_interval: 1h"
set_up
start scheduler mserve-scheduler

# ---- a device that fails: at the @ of a request that comes while others are half done
requests 6 1500 0 >"$work/long.jsonl"
mserve-submit --tier sim "$work/long.jsonl" >/dev/null 2>"$work/submit.err"
worker one
sampled() { sql "select coalesce(sum(wip_ns), 0) > 0 from mserve.workers where name = 'one' and closed_at is null"; }
ok "a worker is half-way through long answers" wait_until 30 eval '[ "$(sampled)" = t ]'
requests 1 5 100 "@" >"$work/poison.jsonl"
mserve-submit --tier sim "$work/poison.jsonl" >/dev/null 2>>"$work/submit.err"
await one 40
is $? 11 "its device fails, and it ends with the status of that"
is "$(grep -c event=device.failed "$work/one.log")" 1 "which it said once"
is "$(sql "select closed_why, drain_why from mserve.workers where name = 'one'")" "drained|failed" "its books are closed, and why"
kept=$(sql "select coalesce(sum(tokens), 0) from mserve.checkpoints")
ok "the $kept tokens that it had generated are kept, though no checkpoint was due" test "$kept" -gt 20
is "$(sql "select count(*) from mserve.suspects")" 0 "nobody is accused"
is "$(sql "select count(*) from mserve.attempts where why in ('crashed', 'vanished', 'hung')")" 0 "nor said to have died"
is "$(unexplained)" "0|0|0|0" "the books add up"
ok "the view says so too" ledger_is_balanced

mserve doctor >"$work/report" # with status 1: nobody serves the tier now
ok "mserve doctor says who left because of its device" grep -q "because of the device (one on .*: failed)" "$work/report"

# ---- and all goes on elsewhere
write_settings fixed_ns=100000 partitions=1
worker two
ok "another worker does the rest" wait_until 60 all_done
ok "each line once, none beside" whole
ok "from where they were" test "$(sql "select sum(resumed_tokens) from mserve.results")" -ge "$kept"
stop two 30
is $? 0 "and leaves in good order"
is "$(unexplained)" "0|0|0|0" "the books still add up"

# ---- two tiers, one worker
write_settings fixed_ns=100000 more="  tiers: [fast, balanced]"
sed -i '/^tiers:/,$d' "$work/mserve.yaml"
cat >>"$work/mserve.yaml" <<'YAML'
tiers:
  - name: fast
    backend: sim
    served_names: [quick]
    gpu_share: 1
    sim: {fixed_ns: 100000, row_ns: 1000}
  - name: balanced
    backend: sim
    served_names: [sound]
    gpu_share: 3
    sim: {fixed_ns: 100000, row_ns: 1000}
YAML
ok "topics of two tiers are made" mserve topics
start both mserve-worker --name both
requests 40 5 0 | sed 's/"model":"sim"/"model":"quick"/' >"$work/fast.jsonl"
requests 40 5 0 | sed 's/"model":"sim"/"model":"sound"/' >"$work/balanced.jsonl"
before=$(rows)
mserve-submit --tier fast "$work/fast.jsonl" >/dev/null 2>>"$work/submit.err"
mserve-submit --tier balanced "$work/balanced.jsonl" >/dev/null 2>>"$work/submit.err"
ok "jobs of both tiers are done by one worker" wait_until 60 eval '[ "$(rows)" = "$((before + 80))" ]'
is "$(sql "select name, round(price_per_hour, 3) from mserve.workers where closed_at is null and device <> 'none' order by name")" \
    "both.balanced|2.700
both.fast|0.900" "each tier has a row of its own, and its part of the price"
kill -TERM "$(pid_of both)"
await both 30
is $? 0 "told once, both leave in good order"
is "$(sql "select count(*) from mserve.workers where name like 'both.%' and closed_why = 'drained'")" 2 "as their rows say"
is "$(unexplained)" "0|0|0|0" "and their books add up"
start again mserve-worker --name again --tier fast --tier balanced
ok "tiers can be named, too" wait_until 30 sql_is 2 "select count(*) from mserve.workers where name like 'again.%' and closed_at is null"
kill -KILL "$(pid_of again)"
ok "when the process above them is killed, both leave in good order" wait_until 30 sql_is 2 \
    "select count(*) from mserve.workers where name like 'again.%' and closed_why = 'drained'"
start twice mserve-worker --tier fast --tier fast
await twice 20
is $? 1 "one tier twice is refused"
done_testing
