#!/usr/bin/env bash
# test_submit: what mserve-submit takes, what it refuses and with which status, and that what the
# index says is in the log.
. "$(dirname "$0")/lib.sh"
fresh_database
fresh_topics
export MSERVE_CONFIG=$work/mserve.yaml MSERVE_KAFKA_PARTITIONS=4
cat >"$MSERVE_CONFIG" <<'YAML'
tiers:
  - {name: small, backend: sim, served_names: [m, m-alias]}
  - {name: large, backend: sim, served_names: [big, shared]}
YAML
printf 'tiers: [{name: other, backend: sim, served_names: [shared]}]\n' >"$work/other.yaml"
submit() { mserve-submit "$@" 2>"$work/said"; }
said() { cat "$work/said"; }
status() { "$@" >"$work/out" 2>"$work/said"; echo $?; }
job_of() { sed -n 's/^\(batch_[0-9a-f]*\).*/\1/p' <<<"$1"; }
log_check() { "$MSERVE_BIN/tests/flow/log_check" "$1"; }
lines() { # lines FIRST LAST [MODEL]: good lines with these numbers
    local i
    for ((i = $1; i <= $2; i++)); do
        printf '{"custom_id":"id-%d","method":"POST","url":"/v1/completions","body":{"model":"%s","prompt":"number %d","max_tokens":4}}\n' "$i" "${3:-m}" "$i"
    done
}

ok "migrate" mserve migrate
ok "topics" mserve topics
ok "topics can be made again" mserve topics
ok "other settings add other tiers" mserve topics --config "$work/other.yaml"

# ---- a file goes through

lines 1 1000 >"$work/1000.jsonl"
said=$(submit "$work/1000.jsonl")
job=$(job_of "$said")
like "$said" '^batch_[0-9a-f]{32} in_progress, 1,000 requests on tier small$' "a file is accepted"
is "$(log_check "$job" 2>&1)" "17 chunks, 1000 lines, 0 copies" "and lies in the log as the index says"
is "$(sql "select state, lines, lines_blank, model, tier, endpoint from mserve.jobs")" \
    "in_progress|1000|0|m|small|/v1/completions" "the job's row"
is "$(sql "select sum(work) from mserve.chunks")" "$((1000 * (4 + 2)))" \
    "work is estimated from prompt bytes and max_tokens"
again=$(submit "$work/1000.jsonl")
is "$again" "$said" "the same command shows the same job"
is "$(sql "select count(*) from mserve.jobs")" 1 "and makes no other"
isnt "$(job_of "$(submit --new "$work/1000.jsonl")")" "$job" "--new makes another"
isnt "$(job_of "$(submit --priority 5 "$work/1000.jsonl")")" "$job" "other options are another job"
is "$(job_of "$(submit - <"$work/1000.jsonl")")" "$job" "standard input with the same content is the same job"
zstd -q "$work/1000.jsonl" -o "$work/1000.jsonl.zst"
is "$(job_of "$(submit "$work/1000.jsonl.zst")")" "$job" "so is a .zst file"
is "$(job_of "$(submit - <"$work/1000.jsonl.zst")")" "$job" "and a .zst on standard input"
gzip -c "$work/1000.jsonl" >"$work/1000.jsonl.gz"
is "$(status mserve-submit "$work/1000.jsonl.gz")|$(said)" \
    "2|mserve-submit: $work/1000.jsonl.gz is packed with gzip, not lines of JSON: zcat $work/1000.jsonl.gz | mserve-submit -" \
    "what is packed in another way is told of, with the command that helps"
is "$(status mserve-submit - <"$work/1000.jsonl.gz")" 2 "on standard input too"
iconv -f UTF-8 -t UTF-16 "$work/1000.jsonl" >"$work/utf16.jsonl"
is "$(status mserve-submit "$work/utf16.jsonl")|$(wc -l <"$work/said")" "2|1" "so is UTF-16, in one sentence"
submit --json "$work/1000.jsonl" >"$work/object"
is "$(python3 -c 'import json,sys; o = json.load(sys.stdin); print(o["id"], o["object"], o["request_counts"]["total"])' <"$work/object")" \
    "$job batch 1000" "--json prints the OpenAI batch object"

# ---- options

job=$(job_of "$(submit --metadata team=red --metadata "note=a \"b\" é" --priority -7 --completion-window 90m -k mine "$work/1000.jsonl")")
is "$(sql "select metadata, priority, completion_window, idempotency_key,
    round(extract(epoch from expires_at - created_at)) from mserve.jobs where idempotency_key = 'mine'")" \
    '{"team":"red","note":"a \"b\" é"}|-7|90m|mine|5400' "metadata, priority, window and key are kept"
lines 1 999 >"$work/999.jsonl"
is "$(status mserve-submit -k mine "$work/999.jsonl")" 5 "the same key with other content is refused"
like "$(said)" 'idempotency key "mine" belongs to a job with other content' "and says so"
mine() { mserve-submit --metadata "note=a \"b\" é" --metadata team=red --priority -7 --completion-window 1h30m -k mine "$@" "$work/1000.jsonl"; }
is "$(job_of "$(mine 2>/dev/null)")" "$job" "the same key, content and options are the same job"
refused() { like "$(status "$@")|$(said)" "^5\|mserve-submit: the idempotency key \"mine\" belongs to a job with other options: $because; " "$because"; }
because='--priority -7 there and 5 here' refused mine --priority 5
because='--completion-window 90m there and 2h here' refused mine --completion-window 2h
because='other --metadata' refused mine --metadata more=1
because='--tier small there and large here' refused mine --tier large --any-model
because='--priority -7 there and 0 here, other --metadata' refused mserve-submit -k mine "$work/1000.jsonl"
{ lines 1 2; lines 3 4 nobody; } >"$work/two-models.jsonl"
ok "a key with --any-model" mserve-submit -k any --tier small --any-model "$work/two-models.jsonl"
like "$(status mserve-submit -k any --on-invalid skip "$work/two-models.jsonl")|$(said)" '^5\|.*--any-model' "is no job without it"
is "$(sql "select count(*) from mserve.jobs where idempotency_key in ('mine', 'any')")" 2 "and nothing was made or changed"
is "$(status mserve-submit --completion-window 31d "$work/999.jsonl")" 1 "a window over the longest is refused"
is "$(status mserve-submit --metadata "$(printf 'k%.0s' {1..65})=v" "$work/999.jsonl")" 1 "a metadata key of 65 characters is refused"
is "$(status mserve-submit --metadata a=1 --metadata a=2 "$work/999.jsonl")" 1 "a metadata key given twice is refused"
is "$(status mserve-submit --priority x "$work/999.jsonl")" 1 "a priority must be a number"
is "$(status mserve-submit --new -k a "$work/999.jsonl")" 1 "--new and a key contradict each other"
is "$(status mserve-submit)" 1 "a file must be named"
is "$(status mserve-submit --dry-run "$work/999.jsonl")" 0 "a dry run"
like "$(cat "$work/out")" '999 requests for /v1/completions on tier small' "says what would be sent"

name=$'\e[31mred\n\xff.jsonl'
cp "$work/999.jsonl" "$work/$name"
is "$(status mserve-submit --dry-run "$work/$name")" 0 "a file may be called anything"
like "$(cat "$work/out")" '/\\x1b\[31mred\\n\\xff\.jsonl: 999 requests' "but its name commands no terminal"
is "$(wc -l <"$work/out")" 1 "and makes no line of its own"
is "$(status mserve-submit -k name "$work/$name")" 0 "it is sent like others"
is "$(sql "select input_name = E'\x1b[31mred\n\uFFFD.jsonl' from mserve.jobs where idempotency_key = 'name'")" t "and keeps its name, as far as that is text"
before=$(sql "select count(*) from mserve.jobs")

# ---- tiers and models

lines 1 3 nobody >"$work/nobody.jsonl"
lines 1 3 shared >"$work/shared.jsonl"
is "$(status mserve-submit "$work/nobody.jsonl")" 2 "a model that no tier serves"
like "$(said)" 'model_not_found: no tier serves the model "nobody"' "is told"
is "$(status mserve-submit "$work/shared.jsonl")" 2 "a model that two tiers serve"
like "$(said)" 'choose with --tier' "must be decided by --tier"
is "$(status mserve-submit --dry-run --tier other "$work/shared.jsonl")" 0 "--tier decides"
is "$(status mserve-submit --tier large "$work/999.jsonl")" 2 "the model must be one of the tier's"
is "$(status mserve-submit --dry-run --tier large --any-model "$work/999.jsonl")" 0 "unless --any-model"
is "$(status mserve-submit --any-model "$work/999.jsonl")" 1 "--any-model needs --tier"
is "$(status mserve-submit --tier nowhere "$work/999.jsonl")" 2 "an unknown tier"
like "$(said)" 'no tier nowhere; there are: large, other, small' "is told with those there are"
is "$(status mserve-submit --endpoint /v1/embeddings "$work/999.jsonl")" 2 "another --endpoint than the lines'"
like "$(said)" 'line 1: mismatched_endpoint' "is a mismatch"

# ---- lines that are not valid

{
    lines 1 3
    echo
    lines 2 2
    echo '{"custom_id":"x","method":"POST","url":"/v1/completions","body":{"model":"m","prompt":"x","stream":true}}'
    printf '{"custom_id":"\xff"}\n'
    echo '{"custom_id":"a\u0000b","method":"POST","url":"/v1/completions","body":{"model":"m","prompt":"x"}}'
    echo '{"custom_id":"y","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}}'
    echo 'not json'
} >"$work/bad.jsonl"
is "$(status mserve-submit "$work/bad.jsonl")" 2 "a file with bad lines is refused"
is "$(sed -n 's/^line \([0-9]*: [a-z_0-9]*\).*/\1/p' "$work/said" | tr '\n' ' ')" \
    "5: duplicate_custom_id 6: unsupported_parameter 7: invalid_utf8 8: invalid_value 9: mismatched_endpoint 10: invalid_json_line " \
    "all of them are told at once, by line"
like "$(said)" '6 of 9 requests are not valid; nothing was sent' "with how many"
is "$(status mserve-submit --json "$work/bad.jsonl")" 2 "the same with --json"
is "$(python3 -c 'import json,sys; print(*("%s,%s,%s" % (e["line"], e["code"], e["param"]) for e in json.load(sys.stdin)["errors"]["data"]))' <"$work/out")" \
    "5,duplicate_custom_id,custom_id 6,unsupported_parameter,stream 7,invalid_utf8,None 8,invalid_value,custom_id 9,mismatched_endpoint,url 10,invalid_json_line,None" \
    "gives them as JSON"
is "$(sql "select count(*) from mserve.jobs")" "$before" "none of all these made a job"
said=$(submit --on-invalid skip "$work/bad.jsonl")
job=$(job_of "$said")
like "$said" '9 requests on tier small' "--on-invalid skip takes the file"
is "$(log_check "$job" 2>&1)" "1 chunks, 9 lines, 0 copies" "with a message for every line"
printf 'x\ny\n' >"$work/unreadable.jsonl"
is "$(status mserve-submit --on-invalid skip "$work/unreadable.jsonl")" 2 "a file without a valid line says not where it goes"
like "$(said)" 'no line says to which endpoint and tier .* --endpoint and --tier' "which is told"
is "$(status mserve-submit --on-invalid skip --tier small "$work/unreadable.jsonl")" 2 "nor with a tier alone"
like "$(said)" 'with --endpoint$' "which is told"
is "$(status mserve-submit --on-invalid skip --endpoint /v1/completions "$work/nobody.jsonl")" 2 "nor with an endpoint alone"
like "$(said)" 'with --tier$' "which is told"
is "$(status mserve-submit --on-invalid skip --dry-run --tier small --endpoint /v1/completions "$work/unreadable.jsonl")" 0 "with both it goes"
: >"$work/empty.jsonl"
is "$(status mserve-submit "$work/empty.jsonl")" 2 "an empty file has no requests"
printf '\n \n' >"$work/blank.jsonl"
is "$(status mserve-submit --on-invalid skip "$work/blank.jsonl")" 2 "nor has a file of blank lines"
is "$(MSERVE_SUBMIT_LINE_BYTES_MAX=1KiB status mserve-submit <(printf '%2000s\n' x))" 2 "a line over the limit"
like "$(said)" 'line 1: line_too_long' "is told"

# ---- a few packed bytes that unpack to a lot

{ lines 1 2; head -c 500000000 /dev/zero; echo; lines 3 3; } | zstd -q >"$work/bomb.zst"
bomb() { (ulimit -f 40960; exec mserve-submit --dry-run --on-invalid skip "$1"); }
is "$(status bomb "$work/bomb.zst")" 0 "a line of 500 MB does not fill the spool"
like "$(cat "$work/out")" '4 requests for /v1/completions' "and is one request of four"
like "$(said)" 'line 3: line_too_long' "that is not valid"
head -c 1200000000 /dev/zero | zstd -q >"$work/bomb.zst"
is "$(status bomb "$work/bomb.zst")" 2 "a line of more than 1 GB"
like "$(said)" 'is no file of requests' "is given up"

# ---- large bodies go aside

python3 - >"$work/large.jsonl" <<'PY'
import json
for i, size in enumerate((10, 300_000, 262_100, 1_000_000)):
    print(json.dumps({"custom_id": "large-%d" % i, "method": "POST", "url": "/v1/completions",
                      "body": {"model": "m", "prompt": ("word%d " % i) * (size // 6)}}))
PY
said=$(submit "$work/large.jsonl")
is "$(log_check "$(job_of "$said")" 2>&1)" "1 chunks, 4 lines, 0 copies" "a file with large bodies is sent"
is "$(sql "select count(*) from mserve.blobs")" 2 "the two largest are stored aside"
is "$(sql "select count(*) from mserve.blobs where sha256 in ($(python3 - "$work/large.jsonl" <<'PY'
import hashlib, sys
rows = [line[line.index(b'"body": ') + 8:-2] for line in open(sys.argv[1], "rb")]
print(",".join("'\\x%s'" % hashlib.sha256(row).hexdigest() for row in (rows[1], rows[3])))
PY
))")" 2 "under the digests of their bytes"
is "$(job_of "$(submit --new "$work/large.jsonl")" >/dev/null; sql "select count(*) from mserve.blobs")" 2 \
    "the same bodies again are stored once"

# ---- what is not there, and what is not allowed

before=$(sql "select count(*) from mserve.jobs")
is "$(status mserve-submit "$work/none.jsonl")" 8 "no such file"
is "$(MSERVE_POSTGRES_DSN='host=127.0.0.1 port=1' status mserve-submit "$work/none.jsonl")" 8 "whatever else is not there"
is "$(status mserve-submit "$work")" 2 "a folder is no file"
is "$(status mserve-submit -o "$work/no/out.jsonl" "$work/999.jsonl")" 10 "an output that cannot be made"
like "$(said)" "^mserve-submit: $work/no/out.jsonl cannot be written: No such file" "is told before anything is sent"
is "$(status mserve-submit -o "$work" "$work/999.jsonl")" 10 "nor may it be a folder"
ln -s 999.jsonl "$work/link.jsonl"
ln "$work/999.jsonl" "$work/hard.jsonl"
for same in 999 link hard; do
    is "$(status mserve-submit -o "$work/$same.jsonl" "$work/999.jsonl")" 1 "nor the input itself ($same)"
    like "$(said)" 'is the input itself' "which is told"
done
is "$(status mserve-submit -o "$work/999.jsonl" - <"$work/999.jsonl")" 1 "not on standard input either"
is "$(status mserve-submit -o "$work/new.jsonl" "$work/none.jsonl")|$(find "$work" -name 'new.jsonl*')" "8|" "an output that can be made is not made yet"
is "$(MSERVE_KAFKA_BROKERS=127.0.0.1:1 status mserve-submit "$work/999.jsonl")" 75 "no broker"
is "$(said)" "mserve-submit: no Kafka broker answers at 127.0.0.1:1; is it running, and is kafka.brokers right?\
 cannot ask for the topic $MSERVE_KAFKA_TOPIC_PREFIX.requests.small (127.0.0.1:1/bootstrap: Connect to\
 ipv4#127.0.0.1:1 failed: Connection refused)" "is one sentence"
is "$(wc -l <"$work/said")" 1 "and no more"
is "$(MSERVE_POSTGRES_DSN='host=127.0.0.1 port=1' status mserve-submit "$work/999.jsonl")" 75 "no database"
is "$(said)" "mserve-submit: PostgreSQL at 127.0.0.1:1 cannot be reached; is it running, and is postgres.dsn right?\
 connection to server at \"127.0.0.1\", port 1 failed: Connection refused" "is one sentence"
is "$(PGPASSFILE=/dev/null MSERVE_POSTGRES_DSN="${MSERVE_POSTGRES_DSN/passfile=/passfile=\/nonexistent}" MSERVE_POSTGRES_PASSWORD=wrong \
    status mserve-submit "$work/999.jsonl")" 9 "a wrong password"
is "$(wc -l <"$work/said")" 1 "is one sentence"
is "$(MSERVE_SUBMIT_SPOOL_DIR=$work/nowhere status mserve-submit - < <(head -c 3000000 /dev/zero | tr '\0' ' '))" 10 \
    "a spool folder that is not there"
like "$(said)" 'submit.spool_dir' "names the setting"
full() { (ulimit -f 1024; yes '   ' | head -c 5000000 | MSERVE_SUBMIT_SPOOL_DIR=$work mserve-submit -); }
is "$(status full)" 10 "a full disk under the spool"
like "$(said)" "no room under $work for the input" "is one sentence"
is "$(wc -l <"$work/said")" 1 "and no more"
is "$(find "$work" -name 'mserve-*' ! -name '*.log' | wc -l)" 0 "and leaves no file behind"
is "$(sql "select count(*) from mserve.jobs")" "$before" "none of all these made a job"
sql "update mserve.models set topic = topic || '-gone' where tier = 'large'"
lines 1 2 big >"$work/big.jsonl"
is "$(status mserve-submit "$work/big.jsonl")" 75 "a topic that is not there"
like "$(said)" 'make it with: mserve topics' "says what to do"

# ---- cancelled before its seal, abandoned: shown, not gone on with

sql "update mserve.jobs set state = 'cancelled', cancelled_at = now(), lines = null where idempotency_key = 'mine'"
is "$(status mine)" 4 "a job that ended before its seal is not gone on with"
like "$(said)" '--new submits the file again' "and says what to do"
done_testing
