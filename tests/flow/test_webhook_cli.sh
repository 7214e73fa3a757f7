#!/usr/bin/env bash
# mserve webhook and mserve-submit --webhook, as a person types them, with a real receiver.
. "$(dirname "$0")/webhook_lib.sh"

fresh_database
fresh_topics
export MSERVE_CONFIG=$work/mserve.yaml MSERVE_KAFKA_PARTITIONS=1
printf 'tiers: [{name: small, backend: sim, served_names: [m]}]\n' >"$MSERVE_CONFIG"
mserve migrate >/dev/null || bail "migrate"
mserve topics >/dev/null || bail "topics"
umask 022
status() { "$@" >"$work/out" 2>"$work/said"; local is=$?; cat "$work/out" "$work/said" >>"$work/all"; echo $is; }
out() { cat "$work/out"; }
said() { cat "$work/said"; }
endpoint() { sql "select $2 from mserve.webhook_endpoints where name = '$1'"; }
example=https://receiver.example/hook

# ---- keys and secrets

is "$(status mserve webhook add a $example --secret-file "$work/a.secret")" 1 "without a key nothing is added"
like "$(said)" 'webhook.key_file is not set.*mserve webhook key FILE' "and the sentence says how to make one"
is "$(status mserve webhook key "$key_file") $(stat -c %a "$key_file")" "0 600" "a key is made, for its owner alone"
is "$(status mserve webhook key "$key_file")" 1 "and never replaced"
export MSERVE_WEBHOOK_KEY_FILE=$key_file
is "$(status mserve webhook add a $example)" 1 "a secret file must be named"
is "$(status mserve webhook add a $example --secret-file "$work/a.secret") $(stat -c %a "$work/a.secret")" "0 600" \
    "an endpoint is added, its new secret is in the file, for its owner alone"
like "$(cat "$work/a.secret")" '^whsec_[A-Za-z0-9+/]{32,}=*$' "in the form that receivers expect"
is "$(status mserve webhook add a $example --secret-file "$work/b.secret")|$(ls "$work/b.secret" 2>/dev/null)" "1|" \
    "a name is taken once, and no file is left behind"
cp "$work/a.secret" "$work/open.secret"
chmod 644 "$work/open.secret"
is "$(status mserve webhook add b $example --secret-file "$work/open.secret")" 1 "a secret that all may read is refused"
like "$(said)" 'chmod 600' "with what to do"
echo whsec_c2hvcnQ= >"$work/short.secret"
chmod 600 "$work/short.secret"
is "$(status mserve webhook add b $example --secret-file "$work/short.secret")" 1 "a secret that is too short, too"
is "$(status mserve webhook add b $example --ed25519 --secret-file "$work/a.secret")" 1 "and one of the other kind"

# ---- what is refused

refused() { # refused WHAT ARGUMENT...: and nothing is written
    local what=$1
    shift
    is "$(status mserve webhook add "$@" --secret-file "$work/refused")|$(wc -l <"$work/said")|$(ls "$work/refused" 2>/dev/null)" \
        "1|1|" "refused, in one sentence: $what"
}
refused "http" b http://receiver.example/
refused "a user in the URL" b https://me:you@receiver.example/
refused "a name with blanks" "b c" $example
refused "an event that there is not" b $example --event batch.done
is "$(status mserve webhook show nobody)" 8 "an endpoint that there is not"
is "$(status mserve webhook add b)" 1 "a URL is missing"

# ---- list, show, and whose they are

is "$(status mserve webhook add b $example/b --every-job --event request.completed --event batch.completed \
    --secret-file "$work/a.secret")" 0 "a second endpoint takes the same secret"
mserve webhook list --json >"$work/list"
is "$(python3 -c 'import json,sys; print([(e["name"], e["every_job"], e["events"][0]) for e in json.load(sys.stdin)])' <"$work/list")" \
    "[('a', False, 'batch.completed'), ('b', True, 'request.completed')]" "list shows both, as JSON"
like "$(mserve webhook list)" 'named .* https://receiver.example/hook ' "and as a table"
like "$(mserve webhook show b)" '"state" : "enabled"' "show shows one"
is "$(sql "select count(*) from mserve.webhook_endpoints where position(convert_to('whsec', 'UTF8') in secret) > 0")" 0 \
    "no secret lies open in the database"
sql "create role ${test_name}_$$ login password 'x'; select mserve.grant_tenant('red', '${test_name}_$$')" >/dev/null
cleanup() { psql -X -q -d "$server_dsn" -c "drop role if exists ${test_name}_$$" 2>/dev/null; }
red_dsn=$(sed "s/ passfile='[^']*'//; s/user=[a-z]*/user=${test_name}_$$/" <<<"$MSERVE_POSTGRES_DSN")
red() { MSERVE_POSTGRES_DSN=$red_dsn MSERVE_POSTGRES_PASSWORD=x PGPASSFILE=/dev/null "$@"; }
is "$(red mserve webhook list --json) $(status red mserve webhook show b) $(status red mserve webhook disable b)" "[] 8 8" \
    "another tenant's endpoints are not there"
is "$(status red mserve webhook add b $example --secret-file "$work/red.secret") $(status red mserve webhook log)" "0 0" \
    "a tenant adds its own, under a name that another has"
is "$(status red mserve webhook rotate b --secret-file "$work/red2.secret") $(status red mserve webhook replay b --failed)" "0 0" \
    "and looks after it"
is "$(status red mserve webhook disable b) $(status red mserve webhook enable b) $(sql "select string_agg(tenant || ' ' || state, ', '
    order by tenant) from mserve.webhook_endpoints where name = 'b'")" "0 0 default enabled, red enabled" "and at no other"
sql "delete from mserve.webhook_endpoints where name = 'b'"

# ---- sent, answered, written down

cp "$work/a.secret" "$secret_file"
receiver polite
port=$(port_of polite)
webhook_settings "$port"
unset MSERVE_WEBHOOK_CA_FILE
is "$(status mserve webhook add good "http://good.localhost:$port/ok" --secret-file "$secret_file")" 0 "hosts in the settings may have http"
mserve webhook add bad "http://bad.localhost:$port/503" --secret-file "$secret_file" >>"$work/all" 2>&1
MSERVE_SCHEDULER_FOLD_INTERVAL=200ms start sender mserve-scheduler
is "$(status mserve webhook test good)" 0 "a test is sent"
like "$(out)" '^good took it: status 200 after [0-9]+ ms$' "and what came of it is told"
is "$(status mserve webhook test bad)" 10 "where it fails, so does the command"
like "$(said)" 'bad did not take it: .*503.*; it is tried again in ' "and says why, and what follows"
is "$(got polite /ok | cut -f7)" yes "it was signed with the secret in the file"
event=$(got polite /ok | cut -f5)
like "$(mserve webhook log good)" "$event +webhook.test +1 +delivered +200 " "the log tells of it"
is "$(mserve webhook log --failed --json | python3 -c 'import json,sys; print(sorted({(e["endpoint"], e["outcome"]) for e in json.load(sys.stdin)}))')" \
    "[('bad', 'pending'), ('bad', 'retried')]" "--failed leaves out what went well"

# ---- again

is "$(status mserve webhook replay good)" 1 "all of an endpoint is not sent again by mistake"
is "$(status mserve webhook replay "$event")" 0 "an event is sent again"
ok "and comes" wait_until 10 eval '[ "$(got polite /ok | wc -l)" = 2 ]'
is "$(got polite /ok | cut -f5,8 | sort -u | wc -l)" 1 "under the same id, with the same body"
is "$(status mserve webhook replay good --since 1h)|$(out | cut -c1-7)" "0|1 event" "what happened within a time is sent again"
ok "and comes, too" wait_until 10 eval '[ "$(got polite /ok | wc -l)" = 3 ]'
is "$(status mserve webhook replay good --failed)|$(out)" "0|nothing is to be sent again" "nothing of it has failed"
is "$(status mserve webhook replay evt_00000000000000000000000000000000)" 8 "an event that there is not"

# ---- a new secret

is "$(status mserve webhook rotate good --secret-file "$secret_file")" 1 "the same secret is no new one"
is "$(status mserve webhook rotate good --secret-file "$work/new.secret")" 0 "a new secret is made"
mserve webhook test good >>"$work/all"
is "$(got polite /ok | tail -n 1 | cut -f7)" yes "the old one signs, too"
is "$(status mserve webhook rotate good --overlap 0s --secret-file "$work/newest.secret")" 0 "one that ends the old at once"
mserve webhook test good >>"$work/all"
is "$(got polite /ok | tail -n 1 | cut -f7)" no "the first one signs no more"
is "$(status mserve webhook public good)" 1 "there is no public half of it"
is "$(status mserve webhook rotate good --ed25519 --secret-file "$work/ed.secret")" 0 "a key of ed25519 takes its place"
like "$(mserve webhook public good)" '^whpk_[A-Za-z0-9+/]{43}=$' "whose public half is shown"

# ---- off and on

is "$(status mserve webhook disable good) $(endpoint good "state, disabled_why")" "0 disabled|asked" "an endpoint is disabled"
is "$(status mserve webhook test good) $(status mserve webhook replay good --failed) $(status mserve webhook replay "$event")" \
    "1 1 1" "nothing is sent there"
is "$(status mserve webhook enable good) $(endpoint good "state, failures")" "0 enabled|0" "and enabled"

# ---- jobs

printf '{"custom_id":"a","method":"POST","url":"/v1/completions","body":{"model":"m","prompt":"x","max_tokens":1}}\n' >"$work/a.jsonl"
is "$(status mserve-submit --webhook nobody "$work/a.jsonl")|$(sql "select count(*) from mserve.jobs")" "8|0" \
    "a job that is to tell nobody is not begun"
like "$(said)" 'there is no endpoint "nobody": add it first, with .mserve webhook add' "the sentence says how to add one"
is "$(status mserve-submit --webhook good "$work/a.jsonl")" 0 "a job names an endpoint"
is "$(sql "select e.name from mserve.jobs j join mserve.webhook_endpoints e on e.endpoint = j.webhook")" good "which is kept with it"
is "$(status mserve-submit --webhook "http://good.localhost:$port/ok" "$work/a.jsonl")|$(said | grep -c webhook)" "0|0" "its URL names it as well"
is "$(status mserve-submit --webhook bad "$work/a.jsonl")|$(sql "select count(*) from mserve.jobs")" "0|1" \
    "the same file with another endpoint is the same job"
like "$(said)" 'batch_[0-9a-f]* was accepted before, with --webhook good, and keeps that' "and keeps the first, which is told"
sql "update mserve.jobs set state = 'validating', lines = null, in_progress_at = null"
is "$(status mserve-submit --webhook bad "$work/a.jsonl")|$(sql "select e.name from mserve.jobs j join mserve.webhook_endpoints e on e.endpoint = j.webhook")" \
    "0|bad" "until it is accepted the newest counts"
job=$(sql "select 'batch_' || mserve.hex(job) from mserve.jobs")
sql "update mserve.jobs set webhook = (select endpoint from mserve.webhook_endpoints where name = 'good')"
mserve cancel "$job" >>"$work/all"
told() { [ "$(sql "select count(*) from mserve.webhook_deliveries d join mserve.webhook_events v using (event)
    where v.type = 'batch.cancelled' and d.state = 'delivered'")" = 1 ]; }
ok "its end is told" wait_until 20 told

is "$(cat "$work"/*.secret "$secret_file" "$key_file" | sort -u | grep -cFf - "$work/all" "$work/sender.log" | sed 's/.*://' | paste -sd' ')" "0 0" \
    "no secret and no key was printed or logged"
done_testing
