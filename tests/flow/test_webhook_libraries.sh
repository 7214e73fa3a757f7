#!/usr/bin/env bash
# What receivers of other people make of our deliveries: the libraries standardwebhooks and openai for
# Python accept the events of real jobs, also while one secret takes another's place, and notice every
# change. Two of the receivers are those of docs/webhooks.md, as they stand there.
. "$(dirname "$0")/worker_lib.sh"
wheels=$tree/tests/flow/webhook_wheels

# pip's own folder, in the cache, where the wheels were not fetched before; it takes what the list names
# and nothing else.
fetch_libraries() {
    local cache=${MSERVE_CACHE_DIR:-${HOME:?}/.cache/mserve} folder
    libraries=$cache/webhook-libraries-$(sha256sum "$wheels" | cut -c1-16)
    [ ! -d "$libraries" ] || return 0
    mkdir -p "$cache"
    folder=$(mktemp -d "$cache/webhook.XXXXXX")
    { python3 -m venv "$work/venv" && "$work/venv/bin/pip" install -q --no-deps --only-binary :all: --no-cache-dir \
        --require-hashes -r "$wheels" --target "$folder" && mv -T "$folder" "$libraries"; } 2>&1 ||
        { rm -rf "$folder"; [ -d "$libraries" ]; } # another run was faster
}
fetch_libraries >"$work/pip" || bail "the libraries are fetched" "$(tail -n 15 "$work/pip")"
pass "the libraries are there, as tests/flow/webhook_wheels names them"
export PYTHONPATH=$libraries PYTHONDONTWRITEBYTECODE=1

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
guide() { # guide HEADING: the first program below it
    sed -n "/^### $1\$/,/^###/p" "$tree/docs/webhooks.md" | sed -n '/^```python$/,/^```$/{/^```/!p}'
}
answers() { python3 -c 'import socket, sys; socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()' "$1" 2>/dev/null; }
add() { # add NAME SECRET-FILE
    ok "an endpoint is added: $1" mserve webhook add "$1" "http://127.0.0.1:${port[$1]}/" --every-job --secret-file "$2"
}

# ---- receivers and endpoints
declare -A port
fresh_database
fresh_topics
write_settings
set_up
guide 'Python' >"$work/standard.py"
guide "Python, with OpenAI's library" >"$work/openai_guide.py"
ok "the guide has both receivers" grep -q 'webhook.verify' "$work/standard.py"
ok "that of OpenAI's library too" grep -q 'webhooks.unwrap' "$work/openai_guide.py"
cd "$work" || exit
start verifier python3 "$tree/tests/flow/webhook_verifier.py" --log "$work/verified" --port-file "$work/port" \
    first second third
wait_until 30 test -s "$work/port" || bail "the verifier" "$(log_of verifier)"
port[verifier]=$(cat "$work/port")
mserve webhook key "$work/key" >/dev/null || bail "a key"
export MSERVE_WEBHOOK_KEY_FILE=$work/key MSERVE_WEBHOOK_HTTP_HOSTS=127.0.0.1 MSERVE_WEBHOOK_PRIVATE_NETWORKS=127.0.0.1
MSERVE_WEBHOOK_PORTS=${port[verifier]} add verifier first
for name in standard openai_guide stranger; do # the ports are known once a receiver has one, and it needs the secret
    port[$name]=$(free_port)
done
MSERVE_WEBHOOK_PORTS=$(IFS=,; echo "${port[*]}")
export MSERVE_WEBHOOK_PORTS
for name in standard openai_guide stranger; do
    add $name $name.secret
done
PORT=${port[standard]} WEBHOOK_SECRET=$(cat standard.secret) start standard python3 standard.py
PORT=${port[openai_guide]} WEBHOOK_SECRET=$(cat openai_guide.secret) start openai_guide python3 openai_guide.py
PORT=${port[stranger]} WEBHOOK_SECRET=$(cat standard.secret) start stranger python3 standard.py # not the one it is sent with
for name in standard openai_guide stranger; do
    wait_until 30 answers "${port[$name]}" || bail "the receiver $name" "$(log_of $name)"
done

# ---- events of real jobs
submit() { # submit KEY [OPTION]...: a job of four lines
    mserve-submit --new "${@:2}" "$work/input.jsonl" >"$work/submit.out" 2>&1 || bail "submit" "$(cat "$work/submit.out")"
    job=$(sql "select batch_id from mserve.job_status order by created_at desc limit 1")
}
verified() { awk -F '\t' -v type="$1" -v job="$2" '$1 == type && $2 == job { print $3 "|" $4 "|" $5 }' "$work/verified"; }
is_verified() { [ -n "$(verified "$@")" ]; }
comes() { wait_until 30 is_verified "$@"; }
took() { grep -qx "$2 $3" "$work/$1.log"; } # took RECEIVER TYPE JOB

MSERVE_SCHEDULER_FOLD_INTERVAL=200ms start scheduler mserve-scheduler
requests 4 3 >"$work/input.jsonl"
worker one
submit completed
completed=$job
ok "a job completes, and its event comes" comes batch.completed "$completed"
is "$(verified batch.completed "$completed")" "first|BatchCompletedWebhookEvent|-" \
    "both libraries accept it, and neither accepts it changed in one of 17 ways"
for name in standard openai_guide; do
    ok "so does the guide's receiver: $name" wait_until 30 took $name batch.completed "$completed"
done
stop one 30
submit cancelled
cancelled=$job
ok "a job is cancelled" mserve cancel "$job"
submit expired
expired=$job
sql "update mserve.jobs set created_at = created_at - interval '2 days', expires_at = expires_at - interval '2 days'
       where state = 'in_progress' and wish is null;
     select * from mserve.job_open('silent', '\x00', 'f', '/v1/completions', 'sim', 'sim', 't', 4, 16, 1000000, '24h', 86400000, null, 0);
     update mserve.jobs set heard_at = heard_at - interval '2 days' where state = 'validating'" >/dev/null
failed_job=$(sql "select 'batch_' || mserve.hex(job) from mserve.jobs where idempotency_key = 'silent'")
for what in "cancelled $cancelled Cancelled" "expired $expired Expired" "failed $failed_job Failed"; do
    read -r type job name <<<"$what"
    ok "an event comes: batch.$type" comes "batch.$type" "$job"
    is "$(verified "batch.$type" "$job")" "first|Batch${name}WebhookEvent|-" "it is accepted"
done
refusals() { sql "select distinct outcome, status_code from mserve.webhook_attempts join mserve.webhook_endpoints using (endpoint) where name = 'stranger'"; }
ok "a receiver with another secret answers" wait_until 30 eval '[ -n "$(refusals)" ]'
is "$(grep -c '^batch' "$work/stranger.log")|$(refusals)" "0|retried|400" "and accepts none of them"

# ---- one secret takes another's place
event=$(sql "select 'evt_' || mserve.hex(event) from mserve.webhook_events where type = 'batch.completed'")
more_than() { [ "$(wc -l <"$1")" -gt "$2" ]; }
event_under() { # event_under NAMES SAYING: an event is sent again, and accepted with these secrets
    local before
    before=$(wc -l <"$work/verified") standard_before=$(wc -l <"$work/standard.log")
    ok "the event is sent again" mserve webhook replay "$event"
    wait_until 30 more_than "$work/verified" "$before"
    is "$(verified batch.completed "$completed" | tail -n 1)" "$1|BatchCompletedWebhookEvent|-" "$2"
}
ok "a new secret" mserve webhook rotate verifier --secret-file second --overlap 1h
ok "for the guide's receiver too, which does not know" mserve webhook rotate standard --secret-file new.secret
event_under first,second "receivers with the old secret and with the new one both accept"
ok "the guide's receiver goes on" wait_until 30 more_than "$work/standard.log" "$standard_before"
is "$(grep -c '" 400 ' "$work/standard.log")" 0 "and has refused nothing"
ok "an ed25519 key beside it" mserve webhook rotate verifier --ed25519 --secret-file ed25519 --overlap 1h
event_under second "v1a beside v1: the libraries take the one that they know"
ok "a secret that ends the others at once" mserve webhook rotate verifier --secret-file third --overlap 0s
event_under third "is the only one"
done_testing
