#!/usr/bin/env bash
# Checkpoints: workers are killed in the middle of long answers, and every answer is the one of an
# undisturbed run; checkpoints that are damaged or another's are noticed; a worker that leaves, or
# hands a partition back, loses nothing.
. "$(dirname "$0")/worker_lib.sh"

# settings LINES TIER: chunks of so many lines at least, the one tier; a checkpoint each 200 ms
settings() {
    cat >"$work/mserve.yaml" <<YAML
kafka: {partitions: 4}
submit: {chunk_lines_min: $1}
worker: {lease: 1s, renew: 200ms, drain: 2s, commit_interval: 50ms, checkpoint_interval: 200ms}
tiers:
  - $2
YAML
    export MSERVE_CONFIG=$work/mserve.yaml
}

outputs() { # all that the model said, of the newest job
    sql "select r.custom_id, r.response->'choices' from mserve.results r
         where r.job = (select job from mserve.jobs order by created_at desc limit 1) order by r.line"
}
saved() { # saved ATTEMPT TOKENS: checkpoints that this attempt wrote, with so many tokens
    sql "select count(*) from mserve.checkpoints where attempt = $1 and tokens >= $2"
}
saved_are() { [ "$(saved "$2" "$3")" -ge "$1" ]; }
of_newest="job = (select job from mserve.jobs order by created_at desc limit 1)"

# ---- a model, and workers that are killed
fresh_database
fresh_topics
settings 16 "{name: demo, backend: ref, threads: 1, model: $tree/deploy/demo/mserve-demo-lang.gguf,
     served_names: [demo], sequences_max: 16}"
set_up
python3 - >"$work/job.jsonl" <<'PY'
import json
for i in range(12):
    body = {"model": "demo", "prompt": f"{i} and the words that follow", "max_tokens": 800 + 7 * i, "ignore_eos": True,
            "return_token_ids": True}
    if i % 2:
        body["temperature"] = 0
    else:
        body.update(temperature=0.9, top_p=0.95, seed=i)
    if i % 5 == 4:
        body.update(stop=["\x01\x02\x03never", "qzx"], include_stop_str_in_output=True)
    print(json.dumps({"custom_id": f"r-{i}", "method": "POST", "url": "/v1/completions", "body": body}))
PY
ok "twelve requests, greedy and sampled with a seed" mserve-submit "$work/job.jsonl"
start undisturbed mserve-worker --name undisturbed
ok "run by a worker that nothing happens to" wait_until 120 all_done
stop undisturbed 60
outputs >"$work/undisturbed"
is "$(sql "select count(*) from mserve.results where status = 'completed' and output_tokens > 400")" 12 "with long answers"
is "$(sql "select sum(sampled) from mserve.worker_ledger")" "$(sql "select sum(output_tokens) from mserve.results")" \
    "the ledger knows every token"
is "$(sql "select count(*) from mserve.checkpoints")" 0 "no checkpoint is left"

ok "the same file again" mserve-submit --new "$work/job.jsonl"
start first mserve-worker --name first
wait_until 60 saved_are 12 1 20 || bail "they run, and are saved"
kill_hard first
start second mserve-worker --name second
wait_until 60 saved_are 12 2 60 || bail "the next goes on with all of them, and saves more"
kill_hard second

# Killed too. What it left is spoiled: a bit flipped, an end cut off, two exchanged, and, with a
# checksum that is right, an older version, another model, other numerics.
lines=$(sql "select string_agg(line::text, ' ' order by line) from (select line from mserve.checkpoints order by line limit 7) l")
read -r flipped cut one other older foreign numerics <<<"$lines"
state_of() { sql "select '\\x' || encode(state, 'hex') from mserve.checkpoints where line = $1"; }
set_state() { sql "update mserve.checkpoints set state = $2 where line = $1"; }
forge() { # forge LINE OFFSET: another byte there, and the checksum of that
    set_state "$1" "set_byte(state, $2, get_byte(state, $2) # 1)"
    set_state "$1" "overlay(state placing substring(sha256(substring(state for 8) || substring(state from 25)) for 16) from 9 for 16)"
}
set_state "$flipped" "set_byte(state, 150, get_byte(state, 150) # 1)"
set_state "$cut" "substring(state for octet_length(state) - 3)"
swap=$(state_of "$one")
set_state "$one" "'$(state_of "$other")'"
set_state "$other" "'$swap'"
forge "$older" 4
forge "$foreign" 80
forge "$numerics" 112
bad="$flipped, $cut, $one, $other, $older, $foreign"

start third mserve-worker --name third
ok "a third worker finishes the job" wait_until 120 all_done
ok "each line once, none beside" whole
ok "every answer is that of the undisturbed run, byte for byte" diff "$work/undisturbed" <(outputs)
is "$(sql "select count(*) from mserve.results where $of_newest and resumed_tokens >= 60 and recompute_ns > 0 and attempt = 3")" 6 \
    "what was sound went on, under its third attempt"
is "$(sql "select count(*) from mserve.results where $of_newest and line in ($bad) and resumed_tokens = 0 and attempt = 3")" 6 \
    "what was not began anew"
is "$(sql "select string_agg(line::text, ' ') from mserve.results where numerics_changed")" "$numerics" \
    "the row of other numerics says so, and no other"
is "$(sql "select count(*) from mserve.attempts where $of_newest and why = 'unusable' and line in ($bad) and gpu_ns > 0 and attempt = 2")" 6 \
    "what the six had cost is lost, and says why"
is "$(grep -c event=checkpoint.unusable "$work/third.log")" 6 "and so does the log"
is "$(sql "select count(*) from mserve.checkpoints")" 0 "no checkpoint is left after that"
stop third 60
is $? 0 "it leaves"
is "$(unexplained)" "0|0|0|0" "the books add up"
ok "in the view for operators too" ledger_is_balanced

# ---- a simulated device of 5 ms a step: how much is generated again, what a worker loses that leaves
fresh_database
fresh_topics
settings 1 "{name: sim, backend: sim, served_names: [sim], sequences_max: 16, context_max: 2048,
     sim: {load_ns: 1000000, fixed_ns: 5000000, row_ns: 1000, kv_ns: 100, head_ns: 50, pace: 1}}"
set_up
requests 8 300 >"$work/job.jsonl"
ok "eight requests of 300 tokens" mserve-submit "$work/job.jsonl"
start killed mserve-worker --name killed
ok "run for a while" wait_until 60 saved_are 8 1 60
kill_hard killed
start heir mserve-worker --name heir
ok "killed: another finishes them" wait_until 60 all_done
again=$(sql "select (select sum(sampled) from mserve.worker_ledger) - (select sum(output_tokens) from mserve.results)")
ok "generated twice, as far as commits know: $again tokens of 8 requests in at most 200 ms and a step" \
    test "$again" -ge 0 -a "$again" -le $((8 * (200 / 5 + 2)))
is "$(sql "select count(*) from mserve.results where resumed_tokens >= 60 and attempt = 2")" 8 "each went on from 60 or more"

requests 8 1900 >"$work/job.jsonl" # ten seconds: one who starts in their midst gets some of it
ok "eight longer ones" mserve-submit --new "$work/job.jsonl"
ok "run for a while, again" wait_until 60 saved_are 8 1 60
lost=$(sql "select coalesce(sum(lost_ns), 0) from mserve.worker_ledger")
stop heir 60
is $? 0 "told to leave, it does"
is "$(sql "select coalesce(sum(lost_ns), 0) from mserve.worker_ledger")" "$lost" "and loses nothing"
is "$(sql "select count(*), min(tokens_kept) >= 60, max(tokens_lost), sum(gpu_ns) from mserve.attempts where $of_newest and why = 'preempted'")" \
    "8|t|0|0" "its attempts say what was kept"

# ---- partitions that change hands take with them what runs
export MSERVE_WORKER_LEASE=5s # nobody is to be taken for dead
start one mserve-worker --name one
ok "the next goes on" wait_until 60 saved_are 8 2 100
start two mserve-worker --name two
ok "and when one more comes it does not wait for the end of what it hands over" wait_until 60 \
    grep -q event=partitions.released "$work/one.log"
ok "all end" wait_until 60 all_done
ok "each line once, none beside, after that" whole
is "$(sql "select count(*) > 0 and count(*) = count(*) filter (where r.resumed_tokens >= 100)
           from mserve.results r join mserve.workers w using (worker) where w.name = 'two' and $of_newest")" t \
    "what the newcomer has it took over in the middle"
is "$(sql "select count(*) > 0 and bool_and(gpu_ns = 0 and tokens_kept > 0) from mserve.attempts where $of_newest and why = 'fenced'")" t \
    "with nothing lost"
is "$(sql "select coalesce(sum(lost_ns), 0) from mserve.worker_ledger")" "$lost" "by nobody"
stop one 60; stop two 60
is "$(unexplained)" "0|0|0|0" "the books add up after that"
ok "in the view for operators too, after that" ledger_is_balanced
is "$(sql "select count(*) from mserve.checkpoints")" 0 "no checkpoint is left at the end"
done_testing
