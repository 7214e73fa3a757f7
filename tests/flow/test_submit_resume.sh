#!/usr/bin/env bash
# test_submit_resume: a submitter killed at any moment and run again finishes the same job, two at
# once do each other no harm, and every line is in the log where the index says.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/rows_lib.sh"
fresh_database
fresh_topics
export MSERVE_CONFIG=$work/mserve.yaml MSERVE_KAFKA_PARTITIONS=4 MSERVE_SUBMIT_CHUNK_LINES_MAX=64
cat >"$MSERVE_CONFIG" <<'YAML'
tiers:
  - {name: small, backend: sim, served_names: [m]}
  - {name: large, backend: sim, served_names: [n]}
YAML
job_of() { sed -n 's/^\(batch_[0-9a-f]*\).*/\1/p' <<<"$1"; }
log_check() { "$MSERVE_BIN/tests/flow/log_check" "$1"; }
job_is() { sql "select 'batch_' || replace(job::text, '-', '') from mserve.jobs where idempotency_key = '$1'"; }
chunks_of() { sql "select count(*) from mserve.chunks c join mserve.jobs using (job) where idempotency_key = '$1'"; }
state_of() { sql "select state, lines from mserve.jobs where idempotency_key = '$1'"; }
requests=40000
python3 - $requests >"$work/input.jsonl" <<'PY'
import random, sys
random.seed(7)
words = ["alpha", "beta", "gamma", "delta", "epsilon"]
for i in range(int(sys.argv[1])):
    text = " ".join(random.choices(words, k=random.randrange(5, 150)))
    print('{"custom_id":"id-%d","method":"POST","url":"/v1/completions",'
          '"body":{"model":"m","prompt":"%s %d","max_tokens":4}}' % (i, text, i))
PY
ok "migrate" mserve migrate
ok "topics" mserve topics
# An upload lasts: of its 625 chunks 64 at most are written down at once, and then it rests a moment.
sql "create function public.linger() returns trigger language plpgsql as 'begin perform pg_sleep(0.08); return new; end';
     create trigger linger before insert on mserve.chunks for each statement execute function public.linger()"

# How long it takes undisturbed, in ms, so that kills land on the way.
began=$(date +%s%N)
ok "undisturbed" mserve-submit -k undisturbed "$work/input.jsonl"
whole_ms=$((($(date +%s%N) - began) / 1000000))
note "undisturbed it takes $whole_ms ms"
whole=$(chunks_of undisturbed)

# ---- killed once at many moments, then run again

# True when the submitter ended or so many chunks of that key are written down.
came_to() { has_ended submit || [ "$(chunks_of "$1")" -ge "$2" ]; }

moments=6 on_the_way=0
for ((i = 0; i < moments; i++)); do
    start submit mserve-submit -k "kill-$i" "$work/input.jsonl"
    if ((i % 3 == 0)); then # before there is a chunk: while it reads, or asks Kafka, or begins
        sleep "$(awk -v ms=$whole_ms -v i=$i 'BEGIN { printf "%.3f", ms * (0.1 + i / 10) / 1000 }')"
    else
        wait_until 30 came_to "kill-$i" $((1 + whole * (i % 3 - 1) / 4))
    fi
    kill_hard submit
    left=$(chunks_of "kill-$i")
    [ "$left" -gt 0 ] && [ "$left" -lt "$whole" ] && on_the_way=$((on_the_way + 1))
    mserve-submit -k "kill-$i" "$work/input.jsonl" >/dev/null 2>"$work/said" || bail "killed, run $i again" "$(cat "$work/said")"
    [ "$(state_of "kill-$i")" = "in_progress|$requests" ] || bail "killed, run $i again" "$(state_of "kill-$i")"
    said=$(log_check "$(job_is "kill-$i")" 2>&1)
    [[ $said == "$whole chunks, $requests lines, "* ]] || bail "the log after kill $i" "$said"
done
pass "killed at $moments moments and run again, the job is whole each time"
ok "at least 3 of the kills landed while some chunks were written down and some were not ($on_the_way)" \
    [ $on_the_way -ge 3 ]

# ---- killed again and again

kills=0
for ((i = 1; i <= 50; i++)); do
    start submit mserve-submit -k often "$work/input.jsonl"
    wait_until 30 came_to often $(($(chunks_of often) + whole / 5))
    if has_ended submit && await submit; then break; fi
    kill_hard submit
    kills=$((kills + 1))
done
is "$(state_of often)" "in_progress|$requests" "killed again and again ($kills times) it comes to its end"
ok "at least twice" [ $kills -ge 2 ]
like "$(log_check "$(job_is often)" 2>&1)" "^$whole chunks, $requests lines, " "and is whole"

# ---- two at once, and three after a kill

start one mserve-submit -k both "$work/input.jsonl"
start two mserve-submit -k both "$work/input.jsonl"
await one 60
one=$?
await two 60
is "$one $?" "0 0" "two submitters of one file at once both succeed"
is "$(job_of "$(log_of one)")" "$(job_of "$(log_of two)")" "and show the same job"
like "$(log_check "$(job_is both)" 2>&1)" "^$whole chunks, $requests lines, " "which is whole"

# ---- the cut is the job's, whatever the settings say when it is gone on with

start submit mserve-submit -k cut "$work/input.jsonl"
wait_until 20 sql_is t "select count(*) > 0 from mserve.chunks c join mserve.jobs using (job) where idempotency_key = 'cut'"
kill_hard submit
ok "changed chunk limits on resume" env MSERVE_SUBMIT_CHUNK_LINES_MAX=7 MSERVE_SUBMIT_CHUNK_LINES_MIN=1 \
    MSERVE_SUBMIT_CHUNK_BYTES_MAX=512KiB MSERVE_SUBMIT_INLINE_BYTES_MAX=900B mserve-submit -k cut "$work/input.jsonl"
is "$(state_of cut) $(chunks_of cut)" "in_progress|$requests $whole" "cut the same way"
like "$(log_check "$(job_is cut)" 2>&1)" "^$whole chunks, $requests lines, " "and the log is whole"

# ---- ^C

start submit mserve-submit -k stopped "$work/input.jsonl"
wait_until 20 sql_is t "select count(*) > 0 from mserve.jobs where idempotency_key = 'stopped'"
stop submit
is $? 12 "a signal ends it with a status of its own"
like "$(log_of submit)" 'interrupted; the same command goes on where it stopped' "and a sentence"
ok "and it goes on" mserve-submit -k stopped "$work/input.jsonl"
is "$(state_of stopped)" "in_progress|$requests" "to the end"

# ---- the same key, gone on with for another tier, or when its tier has another topic

start submit mserve-submit -k tier "$work/input.jsonl"
wait_until 20 sql_is t "select count(*) > 0 from mserve.chunks c join mserve.jobs using (job) where idempotency_key = 'tier'"
kill_hard submit
mserve-submit -k tier --tier large --any-model "$work/input.jsonl" 2>"$work/said"
is $? 5 "the same key for another tier is refused while the job uploads"
like "$(cat "$work/said")" '--tier small there and large here' "and says why"
prefix=$MSERVE_KAFKA_TOPIC_PREFIX
fresh_topics
ok "a tier gets another topic" mserve topics
mserve-submit -k tier "$work/input.jsonl" 2>"$work/said"
is $? 5 "an upload that began on the old one is not gone on with"
like "$(cat "$work/said")" "was begun on the topic $prefix.*mserve cancel $(job_is tier), .* another key" "and says what to do"
ok "a job that is whole on the old topic is shown" mserve-submit -k stopped "$work/input.jsonl"
sql "update mserve.chunks set missing = true where job = (select job from mserve.jobs where idempotency_key = 'stopped') and chunk = 2"
ok "and what it misses" mserve-submit -k stopped "$work/input.jsonl"
export MSERVE_KAFKA_TOPIC_PREFIX=$prefix
ok "the old topic again" mserve topics
like "$(log_check "$(job_is stopped)" 2>&1)" "^$whole chunks, $requests lines, " "is sent to its own topic"
ok "the first command goes on" mserve-submit -k tier "$work/input.jsonl"
like "$(log_check "$(job_is tier)" 2>&1)" "^$whole chunks, $requests lines, " "and the job is whole where the index says"

# ---- --new that is killed goes on with the job it began, and then makes another

start submit mserve-submit --new "$work/input.jsonl"
wait_until 20 sql_is t "select count(*) > 0 from mserve.jobs where idempotency_key like 'auto:%'"
kill_hard submit
ok "--new goes on with what it began" mserve-submit --new "$work/input.jsonl"
is "$(sql "select count(*) from mserve.jobs where idempotency_key like 'auto:%'")" 1 "which is one job"
ok "--new again" mserve-submit --new "$work/input.jsonl"
is "$(sql "select count(*) from mserve.jobs where idempotency_key like 'auto:%'")" 2 "is another"

# ---- a signal while it waits ends the waiting, not the job, which is named

start wait mserve-submit --new --wait -o "$work/output.jsonl" "$work/input.jsonl"
accepted() { grep -q '^batch_[0-9a-f]* is accepted' "$work/wait.log"; }
ok "a command that waits says which job" wait_until 60 accepted
job=$(sed -n 's/^\(batch_[0-9a-f]*\) is accepted.*/\1/p' "$work/wait.log")
is "$(sql "select idempotency_key like 'auto:%/2' from mserve.jobs where job = '$(uuid_of "$job")'")" t "that it made"
stop wait
is $? 12 "a signal ends the waiting"
like "$(log_of wait)" "stopped waiting; $job goes on: mserve watch $job" "and the job goes on"
like "$(log_of wait)" "the results of $job, then: mserve results --output FILE $job" "and its results can be had"
not_ok "it does not say that the command is to be run again" grep -q 'same command' "$work/wait.log"

# ---- a sealed job whose messages are lost gets them anew; a chunk row that vanished too

sql "update mserve.chunks set missing = true where job = (select job from mserve.jobs where idempotency_key = 'often') and chunk in (3, $((whole - 1)))"
ok "missing chunks of a sealed job are sent again" mserve-submit -k often "$work/input.jsonl"
is "$(sql "select count(*) from mserve.chunks where missing")" 0 "and found again"
like "$(log_check "$(job_is often)" 2>&1)" "^$whole chunks, $requests lines, " "where the index says"

# ---- PostgreSQL goes and comes back while results are followed and an end is waited for

head -n 20 "$work/input.jsonl" >"$work/20.jsonl"
job=$(job_of "$(mserve-submit -k follow "$work/20.jsonl" 2>/dev/null)")
finish_lines "$(uuid_of "$job")" 0 9 completed
start follow mserve results --follow "$job"
start completion mserve results --follow --order completion "$job"
start waits mserve-submit --wait -k follow "$work/20.jsonl"
followed() { [ "$(grep -c custom_id "$work/$1.log")" -ge "$2" ]; }
ok "the first rows come" wait_until 20 followed follow 10
ok "in both orders" wait_until 20 followed completion 10
ok "and a third waits" wait_until 20 grep -q 'is accepted' "$work/waits.log"
stack kill-postgres >/dev/null
lost() { grep -q '^mserve[a-z-]*: ' "$work/$1.log"; }
for name in follow completion waits; do
    ok "$name notices" wait_until 30 lost $name
done
ok "PostgreSQL starts again" stack start-postgres
finish_lines "$(uuid_of "$job")" 10 19 completed
end_job "$(uuid_of "$job")" completed
for name in follow completion; do
    await $name 60
    is "$? $(sed -n 's/.*"custom_id": *"x-\([0-9]*\)".*/\1/p' "$work/$name.log" | sort -n | tr '\n' ' ')" "0 $(seq -s ' ' 0 19) " "$name goes on where it was: every row once"
done
await waits 60
is $? 0 "the one that waits sees the end"

# ---- the broker goes and comes back in the middle

start submit mserve-submit -k broker "$work/input.jsonl"
wait_until 20 sql_is t "select count(*) > 0 from mserve.chunks c join mserve.jobs using (job) where idempotency_key = 'broker'"
stack kill-kafka >/dev/null
sleep 1
ok "Kafka starts again" stack start-kafka
await submit 120
is $? 0 "an upload outlives its broker"
is "$(state_of broker)" "in_progress|$requests" "and seals the job"
like "$(log_check "$(job_is broker)" 2>&1)" "^$whole chunks, $requests lines, " "which is whole"
done_testing
