#!/usr/bin/env bash
# What was accepted and cannot be read any more, because it is damaged where it lies: a failed row that
# says so, and everything else goes on.
. "$(dirname "$0")/worker_lib.sh"

fresh_database
fresh_topics
write_settings
set_up

requests 160 8 >"$work/job.jsonl"
head -c 300000 /dev/zero | tr '\0' a >"$work/long"
printf '{"custom_id":"large","method":"POST","url":"/v1/completions","body":{"model":"sim","max_tokens":1,"prompt":"%s"}}\n' \
    "$(cat "$work/long")" >>"$work/job.jsonl"
ok "a job is submitted, one of its bodies stored aside" mserve-submit "$work/job.jsonl"
is "$(sql "select count(*) from mserve.blobs")" 1 "as one blob"

# ---- the disk loses some bytes: of the blob, and of the last batch in one partition
sql "update mserve.blobs set body = '\\x28b52ffd00'"
read -r topic part first lines < <(sql "select topic, part, first_line, lines from mserve.chunks c where chunk > 1
    and not exists (select from mserve.chunks o where o.part = c.part and o.chunk <> c.chunk) order by chunk limit 1" | tr '|' ' ')
log=$MSERVE_STACK_DIR/kafka/data/$topic-$part/00000000000000000000.log
ok "partition $part, with lines $first to $((first + lines - 1)), lies in a file" test -s "$log"
printf 'damaged' | dd of="$log" bs=1 seek=$(($(stat -c %s "$log") - 20)) conv=notrunc status=none

worker one
ok "every request gets its row" wait_until 120 all_done
ok "each line once, none beside" whole
is "$(sql "select status, status_code, error->>'code', error->>'message' from mserve.results where custom_id = 'large'")" \
    "failed||request_unreadable|The body, stored aside for its size, is damaged." "the damaged body is a failed row"
is "$(sql "select count(*) between 1 and $lines, min(line) >= $first, max(line) < $first + $lines,
           bool_and(status = 'failed' and custom_id = 'c-' || line)
           from mserve.results where error->>'code' = 'request_unreadable' and custom_id <> 'large'")" "t|t|t|t" \
    "so are the requests in the damaged batch, under their names"
is "$(sql "select count(*) from mserve.results where status <> 'completed' and error->>'code' <> 'request_unreadable'")" 0 \
    "all others are completed"
ok "the log says which" grep -q "event=chunk.unreadable .* part=$part " "$work/one.log"

# ---- the partition goes on behind the damage
requests 160 8 200 >"$work/next.jsonl"
ok "another job over the same partitions" mserve-submit "$work/next.jsonl"
ok "is done" wait_until 60 all_done
is "$(sql "select count(*) from mserve.results r join mserve.jobs j using (job)
           where j.input_name like '%next%' and r.status = 'completed'")" 160 "all of it completed"
stop one 60
is $? 0 "the worker leaves in good order"
is "$(unexplained)" "0|0|0|0" "the books add up"
done_testing
