#!/usr/bin/env bash
# Worker and engine together: with a backlog the device never waits for its next request, and one
# worker runs generation and embeddings side by side, each with the answer that it has alone.
. "$(dirname "$0")/worker_lib.sh"

# ---- a backlog of many chunks: the device is fed ahead of need, from the index, Kafka and commits aside
write_settings fixed_ns=2000000 pace=1 sequences=64
# From the first to the last commit that had rows: registering and the end of the work are not meant.
busy="select l.* from mserve.worker_ledger l, (select min(seq) as first, max(seq) as last
      from mserve.worker_ledger where rows_ns > 0) r where l.seq > r.first and l.seq < r.last"
for try in 1 2 3; do # one on a machine that is busy with something else says nothing
    fresh_database
    fresh_topics
    mserve migrate >"$work/set-up" 2>&1 && mserve topics >>"$work/set-up" 2>&1 || bail "schema and topic, $try" "$(cat "$work/set-up")"
    feed 20000 200 6 8 >/dev/null 2>&1
    worker one
    ok "20,000 requests run, $try" wait_until 120 all_done
    idle=$(sql "select round(sum(idle_ns) / sum(held_ns) * 100, 2) from ($busy) b")
    if sql_is t "select $idle < 2" || [ $try = 3 ]; then break; fi
    note "the device was idle for $idle % of the time"
    stop one 60
done
is "$(sql "select count(*) >= 10 from ($busy) b")" t "in many commits"
ok "the device was idle for $idle % of the time between" sql_is t "select $idle < 2"
stop one 60
is $? 0 "the worker leaves"

# ---- generation and embeddings on one worker, of one model
fresh_database
fresh_topics
cat >"$work/mserve.yaml" <<YAML
kafka: {partitions: 4}
worker: {commit_interval: 50ms}
tiers:
  - name: demo
    backend: cpu
    model: $tree/deploy/demo/mserve-demo-lang.gguf
    served_names: [demo]
    chat_format: plain
    sequences_max: 8
YAML
set_up
python3 - "$tree/deploy/demo/documents.jsonl" "$work" <<'PY'
import json, sys
bodies = [json.loads(line)["body"] for line in open(sys.argv[1], encoding="utf-8")]
with open(sys.argv[2] + "/chat.jsonl", "w", encoding="utf-8") as chat, \
        open(sys.argv[2] + "/embed.jsonl", "w", encoding="utf-8") as embed:
    for copy in range(4):
        for i, body in enumerate(bodies):
            text = body["messages"][0]["content"]
            for file, url, body in ((chat, "/v1/chat/completions", {**body, "model": "demo"}),
                                    (embed, "/v1/embeddings", {"model": "demo", "input": text})):
                print(json.dumps({"custom_id": f"{i}-{copy}", "method": "POST", "url": url, "body": body}),
                      file=file)
PY
outputs() { # custom_id and what the model said, without ids and times
    sql "select r.custom_id, coalesce(r.response->'choices'->0->'message'->>'content', r.response->>'data')
         from mserve.results r join mserve.jobs j using (job) where j.endpoint = '$1' and r.status = 'completed'
         and j.created_at >= '$2' order by 1"
}
for kind in chat embed; do # each alone
    submit=$(mserve-submit --new "$work/$kind.jsonl" 2>/dev/null)
    ok "$kind: submitted" test -n "$submit"
    worker "$kind-alone"
    ok "$kind: run alone" wait_until 120 all_done
    stop "$kind-alone" 60
done
since=$(sql "select clock_timestamp()")
for kind in chat embed; do
    ok "$kind: submitted again" mserve-submit --new "$work/$kind.jsonl"
done
worker both
ok "both run on one worker" wait_until 120 all_done
stop both 60
is $? 0 "the worker leaves"
for url in /v1/chat/completions /v1/embeddings; do
    outputs $url '-infinity' | sort | uniq -c | awk '{ print $1 }' | sort -u >"$work/times"
    is "$(cat "$work/times")" 2 "$url: together as alone, every answer to the byte"
    is "$(outputs $url "$since" | wc -l)" 168 "$url: all of them"
done
is "$(sql "select bool_and(began < ended_first) from
           (select min(finished_at) as began, min(max(finished_at)) over () as ended_first
            from mserve.results r join mserve.jobs j using (job) where j.created_at >= '$since'
            group by j.endpoint) kind")" t "neither waited for the end of the other"
is "$(unexplained)" "0|0|0|0" "the books add up"
ok "and the view says so" wait_until 10 ledger_is_balanced
done_testing
