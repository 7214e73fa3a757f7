#!/usr/bin/env bash
# What the log has lost: the chunk is held with its reason, everything else runs, and the same file
# submitted again brings back just what is gone. Retention that cut too much, a log that ends too soon,
# and one whose offsets were given out again.
. "$(dirname "$0")/worker_lib.sh"
. "$(dirname "$0")/rows_lib.sh"
PATH=$MSERVE_BIN/tests/flow:$PATH

fresh_database
fresh_topics
write_settings partitions=2
export MSERVE_SUBMIT_CHUNK_LINES_MAX=16
topic=$MSERVE_KAFKA_TOPIC_PREFIX.requests.sim
set_up

job_of() { sed -n 's/^\(batch_[0-9a-f]*\).*/\1/p' <<<"$1"; }
submit() { mserve-submit "$@" 2>"$work/said"; }
missing() { sql_is "$1" "select coalesce(string_agg(chunk::text, ' ' order by chunk), '') from mserve.chunks
    where job = '$2' and missing and not whole"; }
tick() { sql "select count(*) from mserve.tick(3600000)" >/dev/null; }
ended() { tick; sql_is "$1" "select state from mserve.jobs where job = '$2'"; }
# The partition and the offsets of a chunk.
place() { sql "select part, first_offset, last_offset from mserve.chunks where job = '$1' and chunk = $2" | tr '|' ' '; }

# ---- retention: one partition begins inside a chunk (the one before is gone, the one behind is not)
requests 160 8 >"$work/one.jsonl"
one=$(job_of "$(submit "$work/one.jsonl")")
id=$(uuid_of "$one")
is "$(sql "select count(*) from mserve.chunks where job = '$id'")" 10 "a job of ten chunks"
read -r part first last < <(place "$id" 4)
ok "the log is cut inside chunk 4" log_cut before "$topic" "$part" $((first + 5))
worker w
ok "chunks 0 and 2, before the cut, and 4, across it, are missing" wait_until 30 missing "0 2 4" "$id"
ok "the other seven run" wait_until 30 sql_is 112 "select count(*) from mserve.results where job = '$id'"
is "$(sql "select state from mserve.jobs where job = '$id'")" in_progress "the job goes on"
is "$(grep -c 'event=chunk.missing ' "$work/w.log") $(grep -c 'event=chunk.held ' "$work/w.log")" "3 3" "each is found once"
reason="48 of its requests are missing from the log \($topic\); submit the same file again"
like "$(mserve get "$one")" "\"status\" *: *\"in_progress\".*\"hold\" *: *\{\"code\" : \"requests_missing\", \"message\" : \"$reason\", \"requests\" : 48, \"chunks\" : 3, \"since\" : [0-9]+\}" \
    "get says that it is held, and why"
ok "as JSON" python3 -c 'import json, sys; assert json.load(sys.stdin)["hold"]["chunks"] == 3' < <(mserve get "$one")
like "$(mserve list 2>&1)" "$one is held: $reason" "so does list"
ok "and its page" python3 -c 'import json, sys; assert json.load(sys.stdin)["data"][0]["hold"]["chunks"] == 3' < <(mserve list --json)
is "$(sql "select hold from mserve.job_status where job = '$id'")" requests_missing "so does the view"
like "$(mserve doctor 2>&1)" "$one [^:]*: Kafka has lost 3 of its chunks, 48 requests wait" "so does the doctor"
start watch mserve watch "$one"
ok "and watch" wait_until 20 grep -qE "$one is held: $reason" "$work/watch.log"

sent=$(sql "select string_agg(first_offset::text, ' ' order by chunk) from mserve.chunks where job = '$id' and not missing")
is "$(job_of "$(submit "$work/one.jsonl")")" "$one" "the same file again is the same job"
like "$(cat "$work/said")" "48 requests that the log had lost were sent again" "and says what it brought"
is "$(sql "select string_agg(first_offset::text, ' ' order by chunk) from mserve.chunks where job = '$id' and chunk not in (0, 2, 4)")" \
    "$sent" "only the missing chunks were sent"
ok "the worker takes them up" wait_until 30 sql_is 160 "select count(*) from mserve.results where job = '$id' and status = 'completed'"
ok "the job ends" wait_until 10 ended completed "$id"
await watch 30
is $? 0 "who watches sees it"
like "$(log_of watch)" "$one is held no more and goes on" "and that it was healed"
is "$(sql "select string_agg(action, ' ' order by at) from mserve.audit_log where job = '$id' and action in ('heal', 'missing')" | sed 's/\(missing \)*/missing /')" \
    "missing heal" "the log of deeds tells both"
not_ok "nothing of it is held" grep -q hold <<<"$(mserve get "$one")"

# ---- the end of the log is lost, and its offsets are given out again, while a chunk was half done
stop w 30
requests 160 8 1000 >"$work/two.jsonl"
two=$(job_of "$(submit "$work/two.jsonl")")
id=$(uuid_of "$two")
finish_lines "$id" 0 7 completed
ok "the topic is lost" log_cut delete "$topic"
ok "and made anew" mserve topics
all="0 1 2 3 4 5 6 7 8 9"
worker w
ok "the log ends before these offsets: all is missing" wait_until 30 missing "$all" "$id"
stop w 30
sql "update mserve.chunks set missing = false where job = '$id'" # as if nobody had looked yet
requests 480 8 2000 >"$work/three.jsonl"
three=$(job_of "$(submit "$work/three.jsonl")")
is "$(sql "select bool_and(n = 1) from (select count(*) filter (where t.part is not null) n from mserve.chunks c
    left join (select part, max(last_offset) last from mserve.chunks where job = '$(uuid_of "$three")' group by part) t
      on t.part = c.part and t.last > c.last_offset where c.job = '$id' group by c.chunk) x")" t "then another job lies at these offsets"
worker w
ok "it runs" wait_until 30 sql_is 480 \
    "select count(*) from mserve.results where job = '$(uuid_of "$three")' and status = 'completed'"
ok "of the first all is missing still" wait_until 30 missing "$all" "$id"
is "$(sql "select hold_message from mserve.job_status where job = '$id'" | cut -d' ' -f1)" 152 "but for the lines that are done"
ok "the same file again" submit "$work/two.jsonl"
ok "heals it, the done lines are kept" wait_until 30 sql_is "152 8" "select count(*) filter (where worker is not null) || ' ' ||
    count(*) filter (where worker is null) from mserve.results where job = '$id' and status = 'completed'"

# ---- a job that --new made is healed by the plain command; a held one can be cancelled and expires
four=$(job_of "$(submit --new "$work/one.jsonl")")
isnt "$four" "$one" "--new makes another job of the same file"
id=$(uuid_of "$four")
ok "it is done" wait_until 30 sql_is 160 "select count(*) from mserve.results where job = '$id'"
stop w 30
five=$(job_of "$(submit --new "$work/one.jsonl")")
id=$(uuid_of "$five")
requests 32 8 3000 >"$work/six.jsonl"
six=$(job_of "$(submit "$work/six.jsonl")")
requests 32 8 4000 >"$work/seven.jsonl"
seven=$(job_of "$(submit --completion-window 1m "$work/seven.jsonl")")
for part in 0 1; do
    end=$(sql "select max(last_offset) + 1 from mserve.chunks where part = $part")
    log_cut before "$topic" $part "$end" || bail "cut to the end"
done
worker w
for held in "$five" "$six" "$seven"; do
    ok "all of $held is missing" wait_until 30 sql_is t "select bool_and(missing) from mserve.chunks where job = '$(uuid_of "$held")'"
done
is "$(job_of "$(submit "$work/one.jsonl")")" "$five" "the plain command finds the one that is held"
ok "and heals it" wait_until 30 sql_is 160 "select count(*) from mserve.results where job = '$id' and status = 'completed'"
ok "one that is held is cancelled" mserve cancel "$six"
ok "and ends, each line with its row" wait_until 30 ended cancelled "$(uuid_of "$six")"
sql "update mserve.jobs set created_at = created_at - interval '1 h', expires_at = clock_timestamp() where job = '$(uuid_of "$seven")'"
ok "one that is held expires" wait_until 30 ended expired "$(uuid_of "$seven")"
is "$(sql "select string_agg(distinct status || ' ' || custom_id, ',') from mserve.results where job = '$(uuid_of "$seven")' and line = 3")" \
    "expired c-4003" "under the names that the index has"

# ---- who does not hold the partition marks nothing; nor does one that read it where it is no more
token=$(sql "select epoch || ', ' || token || ', ''' || owner || '''' from mserve.partitions where topic = '$topic' and part = 0")
IFS=', ' read -r epoch token owner <<<"$token"
mark() { # mark WORKER EPOCH TOKEN FIRST LAST
    sql "select count(*) from mserve.mark_missing($1, '$topic', array[0], array[$2]::bigint[], array[$3]::bigint[],
         array['$id']::uuid[], array[$chunk], array[$4]::bigint[], array[$5]::bigint[])"
}
stop w 30
sql "update mserve.partitions set owner = $owner where topic = '$topic' and part = 0"
read -r chunk first last < <(sql "select chunk, first_offset, last_offset from mserve.chunks where job = '$id' and part = 0 order by chunk limit 1" | tr '|' ' ')
sql "update mserve.chunks set done_map = ~done_map, done_count = 0 where job = '$id' and chunk = $chunk"
is "$(mark "'$id'" "$epoch" "$token" "$first" "$last")" 0 "not another worker"
is "$(mark "$owner" $((epoch - 1)) "$token" "$first" "$last")" 0 "not one of an earlier claim"
is "$(mark "$owner" "$epoch" $((token ^ 1)) "$first" "$last")" 0 "not one of a claim that was lost"
is "$(mark "$owner" "$epoch" "$token" $((first + 1)) "$last")" 0 "not one that read other offsets"
is "$(mark "$owner" "$epoch" "$token" "$first" "$last")" 1 "but the holder, of what it read"
is "$(mark "$owner" "$epoch" "$token" "$first" "$last")" 0 "once"
done_testing
