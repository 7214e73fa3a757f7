#!/usr/bin/env bash
# What the daemons say of themselves over HTTP: /metrics as Prometheus reads it, and equal to the
# tables; /livez and /readyz, and what they wait for while Kafka or PostgreSQL is away.
. "$(dirname "$0")/worker_lib.sh"

# where NAME: the address that a daemon's log says it listens on
where() { sed -n 's/.*event=http.listening address=\([^ ]*\).*/\1/p' "$work/$1.log" | tail -n 1; }
listens() { [ -n "$(where "$1")" ]; }
get() { curl -s --max-time 10 "http://$(where "$1")$2"; }                             # get NAME PATH
status() { curl -s -o /dev/null -w '%{http_code}' --max-time 10 "http://$(where "$1")$2"; }
has_status() { [ "$(status "$1" "$2")" = "$3" ]; }
waits_for() { get "$1" /readyz | grep -q "^\[-\] $2"; }

# numbers NAME: the page as the client of Prometheus itself parses it, `name{label} value` a line
numbers() {
    curl -s -D "$work/head" -o "$work/page" --max-time 10 "http://$(where "$1")/metrics" &&
        /usr/bin/python3 - "$work/page" >"$work/numbers" <<'PY'
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(open(sys.argv[1], encoding="utf-8", newline="").read()):
    assert family.documentation and family.type in ("counter", "gauge", "histogram", "info")
    for sample in family.samples:
        labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
        print(f"{sample.name}{{{labels}}} {sample.value:.17g}")
PY
}
number() { sed -n "s/^$1 //p" "$work/numbers"; } # number NAME{LABELS}
counted() { numbers "$1" && [ "$(number "$2")" = "$3" ]; }

fresh_database
fresh_topics
write_settings fixed_ns=2000000 pace=1 lease=3s renew=500ms more="  checkpoint_interval: 300ms"
set_up

# ---- a worker: ready, and with numbers that are those of the tables
worker one
ok "it says where it listens" wait_until 20 listens one
like "$(where one)" '^127\.0\.0\.1:[1-9][0-9]*$' "on loopback, and a port that was free"
ok "it becomes ready" wait_until 20 has_status one /readyz 200
is "$(status one /livez)" 200 "it lives"
like "$(get one '/readyz?verbose')" '\[\+\] model.*\[\+\] lease.*\[\+\] postgresql.*\[\+\] kafka.*ok' \
    "with ?verbose it says what it looked at"
feed 300 200 12 3 >/dev/null 2>&1
ok "a job is done" wait_until 60 all_done
ok "its requests are counted" wait_until 10 counted one 'mserve_requests_total{outcome=completed}' 300
like "$(cat "$work/head")" 'application/openmetrics-text; version=1.0.0; charset=utf-8' \
    "the page names its format, and the client of Prometheus reads it"
is "$(number 'mserve_tokens_total{type=input}')|$(number 'mserve_tokens_total{type=output}')|$(
    number 'mserve_commit_rows_total{}')" \
    "$(sql "select sum(input_tokens), sum(output_tokens), count(*) from mserve.results")" "tokens and rows as in the tables"
is "$(number 'mserve_sampled_tokens_total{}')" 3600 "sampled as many as were stored"
is "$(awk '/^mserve_device_seconds_total/ {sum += $2} /^mserve_device_unfinished_seconds/ {sum += $2}
           /^mserve_device_held_seconds_total/ {held = $2} END {printf "%d", (held - sum) * 1e6}' "$work/numbers")" 0 \
    "the accounts of the device's time add up to the time held"
is "$(number 'mserve_partitions_held{}')|$(number 'mserve_sequences_max{}')|$(number 'mserve_requests_running{}')" \
    "8|16|0" "partitions, places and requests that run"
like "$(number 'mserve_step_sequences_count{}')|$(number 'mserve_commit_duration_seconds_count{}')" \
    '^[1-9][0-9]*\|[1-9][0-9]*$' "steps and commits are counted"
ok "the lease has time left" awk '/^mserve_lease_left_seconds/ {exit !($2 > 0 && $2 <= 3)}' "$work/numbers"
like "$(grep '^mserve_worker_info' "$work/numbers")" 'backend=sim,name=one,tier=sim' "it says who it is"
like "$(grep '^mserve_model_info' "$work/numbers")" 'sha256=[0-9a-f]{64}' "and which model it has"
like "$(number 'process_resident_memory_bytes{}')" '^[1-9][0-9]{6}' "and how large it is"

feed 4 200 1500 1 >/dev/null 2>&1 # three seconds at least
used() { get one /metrics | awk '/^mserve_kv_usage_ratio/ { used = $2 > 0 && $2 <= 1 } END { exit !used }'; }
ok "the KV cache is in use while it works" wait_until 30 used
saved() { numbers one && [ "$(number 'mserve_checkpoints_total{}')" -gt 0 ]; }
ok "long requests are saved, and that is counted" wait_until 30 saved
ok "with when" awk -v now="$(date +%s)" \
    '/^mserve_checkpoint_last_timestamp_seconds/ {exit !($2 > now - 60 && $2 < now + 60)}' "$work/numbers"
ok "they end" wait_until 60 all_done

# ---- two daemons on one host
MSERVE_WORKER_HTTP=$(where one) start two mserve-worker --name two
await two 20
is $? 10 "a worker that is given a port that is taken ends with status 10"
like "$(log_of two)" 'worker.http: .* is the port taken' "and says so"
MSERVE_WORKER_HTTP=nowhere start three mserve-worker --name three
await three 20
is $? 1 "an address that is none is a mistake in the settings"
sed 's/^worker:/&\n  http: ""/' "$work/mserve.yaml" >"$work/silent.yaml"
start silent mserve-worker --config "$work/silent.yaml" --name silent
ok "without an address it works, and does not listen" wait_until 20 grep -q worker.registered "$work/silent.log"
not_ok "nowhere" listens silent
stop silent 30

# ---- the scheduler
start scheduler mserve-scheduler
ok "the scheduler becomes ready" wait_until 20 has_status scheduler /readyz 200
is "$(status scheduler /livez)" 200 "it lives"
ok "it is the active one, and folds" wait_until 10 counted scheduler 'mserve_scheduler_active{}' 1
ok "the jobs have ended" wait_until 20 counted scheduler 'mserve_jobs_ended_total{state=completed}' 2
is "$(number 'mserve_jobs{state=in_progress}')|$(number 'mserve_jobs_stuck{}')" "0|0" "none is open, none is stuck"
start standby mserve-scheduler
ok "a second one is ready too" wait_until 20 has_status standby /readyz 200
ok "and says that it is not at it" counted standby 'mserve_scheduler_active{}' 0

# ---- what it waits for, when servers are away
stack kill-kafka >/dev/null 2>&1
ok "without Kafka a worker is not ready, and says why" wait_until 30 waits_for one kafka
is "$(status one /livez)" 200 "but it lives: nobody should restart it for that"
stack kill-postgres >/dev/null 2>&1
ok "without PostgreSQL it is not, either" wait_until 30 waits_for one postgresql
is "$(status one /livez)" 200 "but it lives"
ok "the scheduler is not ready" wait_until 60 waits_for scheduler postgresql
is "$(status scheduler /livez)" 200 "but it lives"
stack start >/dev/null 2>&1
ok "both are back, and it is ready again" wait_until 60 has_status one /readyz 200
ok "so is the scheduler" wait_until 60 has_status scheduler /readyz 200
ok "which counted its rounds that failed" eval \
    "numbers scheduler && [ \"\$(number 'mserve_round_failures_total{}')\" -gt 0 ]"

stop one 30
is $? 0 "a worker with an HTTP server leaves in good order"
stop scheduler 10
is $? 0 "and so does a scheduler"
done_testing
