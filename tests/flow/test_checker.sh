#!/usr/bin/env bash
# The checker, checked: it passes a run in which a worker was killed, and it says what is wrong when
# something is: one row, one nanosecond, one offset, one line of a log at a time, in copies of that run.
. "$(dirname "$0")/worker_lib.sh"

fresh_database
fresh_topics
settings() { # settings NS: of one step
    write_settings fixed_ns="$1" pace=1 lease=2s renew=200ms rows=32 interval=50ms partitions=4
    sed -i 's/^worker:/&\n  checkpoint_interval: 100ms/' "$MSERVE_CONFIG"
}
settings 1000000
set_up
lines=240

# Greedy, seeded, and of each sixth nothing is said: its answer may differ from run to run.
awk -v n=$lines 'BEGIN { for (i = 0; i < n; i++)
    printf "{\"custom_id\":\"c-%d\",\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":{\"model\":\"sim\",\"max_tokens\":%d,%s\"prompt\":\"report %d on what was found\"}}\n",
        i, 8 + i % 25, i % 6 == 0 ? "" : (i % 2 ? "\"temperature\":0," : "\"seed\":7,"), i }' >"$work/calm.jsonl"
cp "$work/calm.jsonl" "$work/rough.jsonl"
mkdir "$work/logs"
submit() { mserve-submit "$@" >>"$work/acks" 2>>"$work/acks"; }
work_on() { : >>"$work/$1.log"; ln -f "$work/$1.log" "$work/logs/$1.log"; start "$1" mserve-worker --name "$1"; }

# check ARGUMENT...: of the database that `sql` uses
check() { "$tree/tests/fault/check" --dsn "$MSERVE_POSTGRES_DSN" "$@"; }
# How long an interval is under load nobody knows: as many tokens as there are in all are allowed.
evidence=(--input "$work/calm.jsonl" --input "$work/rough.jsonl" --acks "$work/acks" --logs "$work/logs"
    --reference "$work/reference" --kills 1 --interval-tokens 5000)
kafka=(--brokers "$MSERVE_KAFKA_BROKERS")

start s1 mserve-scheduler
work_on w0
ok "a job runs undisturbed" submit "$work/calm.jsonl"
calm=$(sql "select job from mserve.jobs")
ok "to its end" wait_until 30 sql_is completed "select state from mserve.jobs"
mserve results "$calm" >"$work/reference"
stop w0 30
settings 15000000
# Shared before there is work: what is handed over in the middle of it is one attempt more.
work_on w1
work_on w2
ok "two workers share the partitions" wait_until 30 sql_is "2 2" "select string_agg(n::text, ' ') from
    (select count(*) n from mserve.partitions where owner is not null group by owner) p"
ok "another of the same lines runs" submit --new "$work/rough.jsonl"
rough=$(sql "select job from mserve.jobs where job <> '$calm'")
rows_of() { sql "select count(*) from mserve.results r join mserve.workers w using (worker) where w.name = '$1'"; }
both_write() { [ "$(rows_of w1)" -gt 5 ] && [ "$(rows_of w2)" -gt 5 ]; }
ok "on both" wait_until 30 both_write
kill_hard w1
ok "one is killed in the middle" test "$(sql "select count(*) from mserve.results where job = '$rough'")" -lt $((lines - 30))
ok "a look while work goes on finds nothing" check "${evidence[@]}" "${kafka[@]}" --live
ok "the job ends all the same" wait_until 60 sql_is 2 "select count(*) from mserve.jobs where state = 'completed'"
ok "who was killed is buried" wait_until 30 sql_is 1 "select count(*) from mserve.workers where name = 'w1' and closed_why <> 'drained'"
stop w2 30
stop s1 30
ok "a snapshot is made" check "${kafka[@]}" --snapshot "$work/earlier"
evidence+=(--earlier "$work/earlier")
said=$(check "${evidence[@]}" "${kafka[@]}")
is $? 0 "the checker finds nothing wrong with it"
note "$said" "$(sql "select count(*) || ' requests went on in a checkpoint' from mserve.results where resumed_tokens > 0")"
like "$said" "2 accepted jobs, $((2 * lines)) lines, $((2 * lines)) rows" "it looked at all of it"
like "$said" "$((2 * lines)) messages, [1-4] committed offsets, 3 logs of 3 workers, 400 answers compared" "at the log and the logs, too"

is "$(sql "select sum(rows_ns + shared_ns + recompute_ns + lost_ns + overhead_ns + idle_ns + open_ns) - (select sum(held_ns) from mserve.worker_ledger),
    sum(rows_ns) filter (where job is null), sum(recompute_ns) filter (where job is null), sum(open_ns) from mserve.bill")" "0|0|0|0" \
    "and the bill has all of it, rows and what was read again with their jobs"

# ---------------------------------------------------------------- planted, and taken back
# What the run left is kept aside; saved.restore() puts it back, row by row.
sql "create schema saved;
  create function saved.columns(p_table text) returns text language sql as \$\$
    select string_agg(quote_ident(column_name), ', ') from information_schema.columns
      where table_schema = 'mserve' and table_name = p_table and is_generated = 'NEVER' \$\$;
  create function saved.tables() returns text[] language sql as \$\$
    select array_agg(t order by n) from unnest('{workers,partitions,jobs,chunks,results,attempts,worker_ledger,job_deltas,checkpoints}'::text[])
      with ordinality u (t, n) where to_regclass('mserve.' || t) is not null \$\$;
  create function saved.restore() returns void language plpgsql as \$\$
    declare t text; tables text[] := saved.tables();
    begin
      for i in reverse cardinality(tables)..1 loop execute 'delete from mserve.' || tables[i]; end loop;
      foreach t in array tables loop
        execute format('insert into mserve.%1\$s (%2\$s) overriding system value select %2\$s from saved.%1\$s', t, saved.columns(t));
      end loop;
    end \$\$;
  do \$\$ declare t text; begin
    foreach t in array saved.tables() loop
      execute format('create table saved.%1\$s as table mserve.%1\$s', t); end loop; end \$\$;
  alter database $PGDATABASE set synchronous_commit = off" || bail "what the run left is kept aside"

# seen NAME SENTENCE [ARGUMENT...]: the checker says it and fails
seen() {
    local name=$1 sentence=$2 said status
    shift 2
    said=$(check "$@" 2>&1)
    status=$?
    if [ $status != 1 ] || ! grep -qE "$sentence" <<<"$said"; then
        fail "$name" "exit status $status, and no sentence like: $sentence" "$said"
    else
        pass "$name"
    fi
}

plant() { # plant NAME SQL SENTENCE [ARGUMENT...]
    local name=$1 plant=$2 sentence=$3
    shift 3
    sql "$plant" || bail "$name" "$plant"
    seen "$name" "$sentence" "$@"
    sql "select saved.restore()" >/dev/null || bail "restore"
}

id="batch_[0-9a-f]{32}"
some_row="job = '$rough' and line = 0"
plant "a lost row" "delete from mserve.results where $some_row" "^I1 $id .*lines 0 have no row" --input "$work/rough.jsonl"
plant "a lost row, and the books with it" "
    update mserve.worker_ledger l set rows_ns = rows_ns - r.gpu_ns, lost_ns = lost_ns + r.gpu_ns from mserve.results r
      where r.job = '$rough' and r.line = 0 and l.worker = r.worker and l.seq = (select min(seq) from mserve.worker_ledger m where m.worker = r.worker and m.at >= r.finished_at);
    update mserve.jobs j set completed = completed - 1, rows_ns = rows_ns - r.gpu_ns, lost_ns = lost_ns + r.gpu_ns, input_tokens = j.input_tokens - r.input_tokens,
        output_tokens = j.output_tokens - r.output_tokens, cached_tokens = j.cached_tokens - r.cached_tokens, state = 'in_progress'
      from mserve.results r where r.job = '$rough' and r.line = 0 and j.job = r.job;
    update mserve.chunks c set done_map = set_bit(done_map, 0, 0), done_count = done_count - 1 where job = '$rough' and chunk = 0;
    delete from mserve.results where $some_row" "^I1 $id .*lines 0 have no row"
plant "a row under another line" "insert into mserve.results (job, line, custom_id, status) select job, $lines, custom_id, status from mserve.results where $some_row" \
    "^I1 $id has $lines lines, and rows of lines $lines"
plant "the same request twice" "update mserve.results set custom_id = 'c-5' where line = 6" "^I2 $id has 2 rows named 'c-5', lines 5, 6"
plant "another's name on a row" "update mserve.results set custom_id = 'c-77777' where line = 6" "^I1 $id line 6 is 'c-6' in (calm|rough).jsonl, and its row says 'c-77777'" \
    --input "$work/calm.jsonl" --input "$work/rough.jsonl"
plant "a row of a job that nobody accepted" "insert into mserve.results (job, line, custom_id, status) values (mserve.uuid7(), 0, 'x', 'completed')" \
    "^I1 $id was never accepted \(it is not there\), and has 1 rows"
plant "another answer" "update mserve.results set response = replace(response::text, '\"text\":\"', '\"text\":\"~')::json where line = 1 and job <> '$calm'" \
    "^I8 $id line 1 \('c-1', attempt [12]\) says .*~" "${evidence[@]}"
plant "an answer that changed since" "update mserve.results set response = replace(response::text, '\"text\":\"', '\"text\":\"~')::json where line = 0 and job <> '$calm'" \
    "^I2 the row [0-9a-f-]{36} 0 has changed since" --earlier "$work/earlier"
plant "a job that moved after its end" "update mserve.jobs set output_tokens = output_tokens + 1" \
    "^I2 the ended job .* has changed since .*: output_tokens was [0-9]+ and is" --earlier "$work/earlier"
plant "a bit too few" "update mserve.chunks set done_map = set_bit(done_map, 3, 0), done_count = done_count - 1 where chunk = 0" \
    "^I1 $id chunk 0: done_map does not say which lines have a row: lines 3"
plant "a chunk that is gone" "delete from mserve.chunks where chunk = 1" "^I1 $id chunk [0-9]+ begins at line [0-9]+, and chunk 1 at line"
plant "a job that does not end" "update mserve.jobs set state = 'in_progress' where job = '$calm'" "^I4 $id is still in_progress: $lines of $lines lines are counted"
plant "progress that nobody folded" "insert into mserve.job_deltas (job) values ('$calm')" "^I4 1 deltas were never folded"
plant "counts that are wrong" "update mserve.jobs set completed = completed - 1, failed = failed + 1" "^I3 $id counts $((lines - 1)) completed rows with all deltas, and has $lines"
plant "a partition of the dead" "update mserve.partitions set owner = (select worker from mserve.workers where name = 'w1') where part = 0" \
    "^I4 .*/0 is owned by worker w1 .*, which is closed"
plant "a death that nobody noticed" "update mserve.workers set closed_at = null, closed_why = null, lease_until = now() - interval '1 hour' where name = 'w1'" \
    "^I4 worker w1 .* is open, and its lease ran out 3[56][0-9]{2} s ago"
plant "a row after closing" "update mserve.results set finished_at = (select closed_at + interval '2 ms' from mserve.workers w where w.worker = results.worker) where $some_row" \
    "^I5 $id line 0 was written by worker w[12] .* 2\.000 ms after that was closed"
plant "a commit after closing" "insert into mserve.worker_ledger (worker, seq, held_ns, rows_ns, wip_ns, shared_ns, recompute_ns, overhead_ns, idle_ns, lost_ns, at)
        select worker, ledger_seq + 1, 0, 0, 0, 0, 0, 0, 0, 0, closed_at + interval '1 s' from mserve.workers where name = 'w1'" \
    "^I5 worker w1 .* was closed, and its commit [0-9]+ came 1000\.000 ms later"
plant "a gap between commits" "delete from mserve.worker_ledger where seq = 2" "^I5 worker w[12] .* has no commit 2 between its"
# By turns with each row: more turns than the partitions were ever claimed, however often they moved.
plant "a writer without a claim" "update mserve.results r set finished_at = finished_at + line * interval '1 us',
        worker = case when line % 2 = 0 then worker else (select worker from mserve.workers w where w.worker <> r.worker and device <> 'none' limit 1) end
        where job = '$calm'" \
    "^I5 .* was claimed [0-9]+ times, and its rows come from [0-9]+ turns of writing .*: somebody wrote without a claim"
plant "an attempt too many" "update mserve.results set attempt = 3 where $some_row" "^I11 $id line 0 was done by attempt 3, and at most 2 are allowed" --kills 1
plant "an attempt that was booked nowhere" "insert into mserve.attempts (worker, seq, job, line, gpu_ns, why) select worker, 1, '$calm', 5, 1000000, 'fenced' from mserve.workers where name = 'w1'" \
    "^I3 worker w1 .* commit 1 booked 0 ns as lost, and its attempts lost 1000000 ns"

checkpoint="insert into mserve.checkpoints (job, line, chunk, attempt, tokens, gpu_ns, worker, state)
        select '$rough', 7, 0, 1, 12, 345, worker, '\\x00' from mserve.workers where name = 'w1'"
plant "a checkpoint that is left over" "$checkpoint" "^I10 $id line 7 has its row, and a checkpoint of 12 tokens and 345 ns is left over"
plant "a checkpoint that nobody handed over" "$checkpoint" "^I3 ([0-9]+) ns were handed over and \\1 ns taken over, so checkpoints should hold 0 ns, and they hold 345 ns"
plant "a loss that no attempt tells of" "update mserve.jobs set lost_ns = lost_ns + 1 where job = '$calm'" "^I3 $id lost 1 ns, and its attempts tell of 0 ns"
plant "a first attempt that went on" "update mserve.results set resumed_tokens = 3, attempt = 1 where $some_row" "^I11 $id line 0 went on at token 3, and says it is a first attempt"
plant "a request that began anew" "insert into mserve.attempts (worker, seq, job, line, gpu_ns, why, tokens_kept) select worker, 1, '$calm', 5, 0, 'preempted', 6 from mserve.workers where name = 'w0'" \
    "^I11 $id line 5 began at token 0 in attempt 1, and an earlier attempt had kept 6 tokens"
on_rows=$(sql "select sum(output_tokens) from mserve.results")
plant "tokens that were sampled twice" "update mserve.worker_ledger set sampled = 0; update mserve.worker_ledger set sampled = $on_rows + 41 where (worker, seq) = (select worker, min(seq) from mserve.worker_ledger group by worker limit 1)" \
    "^I11 $((on_rows + 41)) tokens were sampled, and $on_rows are kept: 1 kills of 40 tokens each explain 40 of the 41" --kills 1 --interval-tokens 40
plant "tokens that nobody sampled" "update mserve.worker_ledger set sampled = 0" "^I11 $on_rows tokens are on rows, and only 0 were sampled" --interval-tokens 40

# ---------------------------------------------------------------- a nanosecond too many, everywhere
one_ns() { # one_ns TABLE COLUMN WHERE SENTENCE
    plant "a nanosecond in $1.$2" "update mserve.$1 set $2 = $2 + 1 where $3" "$4"
}
first_entry="(worker, seq) = (select worker, seq from mserve.worker_ledger order by worker, seq limit 1)"
for account in held taken_over rows handed_over wip shared recompute overhead idle lost; do
    one_ns worker_ledger ${account}_ns "$first_entry" "^I3 worker w[012] .* commit 1 held [0-9]+ ns and took over [0-9]+ ns, and -?1 ns of it are in no account"
done
one_ns results gpu_ns "$some_row" "^I3 worker w[12] .* commit [0-9]+ booked [0-9]+ ns as rows, and the rows of that commit cost"
one_ns jobs rows_ns "job = '$calm'" "^I3 $id counts [0-9]+ rows_ns with all deltas, and its rows have"
one_ns jobs recompute_ns "job = '$calm'" "^I3 the ledger booked [0-9]+ ns as recompute, and the jobs bear [0-9]+ ns"
plant "a nanosecond in workers.booked_ns" "update mserve.workers set booked_ns = booked_ns - 1 where name = 'w1'" \
    "^I3 worker w1 .* says it booked [0-9]+ ns, and its ledger rows held [0-9]+ ns"

# ---------------------------------------------------------------- in Kafka, in files
commit_offset() { # commit_offset PART OFFSET, as lag tools see it; prints what was there
    /usr/bin/python3 - "$MSERVE_KAFKA_BROKERS" "$MSERVE_KAFKA_TOPIC_PREFIX" "$1" "$2" <<'PY'
import sys
from confluent_kafka import Consumer, TopicPartition
brokers, prefix, part, offset = sys.argv[1:]
consumer = Consumer({"bootstrap.servers": brokers, "group.id": prefix + ".workers.sim", "enable.auto.commit": False})
at = TopicPartition(prefix + ".requests.sim", int(part))
print(max(consumer.committed([at], 10)[0].offset, 0))
at.offset = int(offset)
consumer.commit(offsets=[at], asynchronous=False)
consumer.close()
PY
}
part=$(sql "select part from mserve.chunks where job <> '$calm' order by chunk limit 1")
was=$(commit_offset "$part" 100000)
seen "an offset beyond the log" "^I6 .*/$part: offset 100000 is committed to Kafka, and the log ends at [0-9]+" "${kafka[@]}"
commit_offset "$part" 0 >"$work/ignored"
seen "an offset that went back" "^I6 .*/$part: offset 0 is committed to Kafka, and it was [1-9][0-9]* when" "${kafka[@]}" --earlier "$work/earlier"
beyond=$(sql "select last_offset + 1 from mserve.chunks where job <> '$calm' and part = $part order by chunk limit 1")
commit_offset "$part" "$beyond" >"$work/ignored"
plant "an offset beyond what has no row" "delete from mserve.results where job <> '$calm' and line = (select first_line from mserve.chunks where job <> '$calm' and part = $part order by chunk limit 1)" \
    "^I6 .*/$part: offset $beyond is committed to Kafka, and the message at [0-9]+ has no row yet" "${kafka[@]}"
commit_offset "$part" "$was" >"$work/ignored"
plant "an index that lies" "update mserve.chunks set first_offset = first_offset + 1000, last_offset = last_offset + 1000 where chunk = 0" \
    "^I1 $id chunk 0 lies in .* at offsets [0-9]+\.\.[0-9]+, and the log has no message of lines 0, 1, 2, 3, 4, …" "${kafka[@]}" --input "$work/calm.jsonl"

mkdir "$work/other"
sed 's/report 9 on/rapport 9 on/' "$work/rough.jsonl" >"$work/other/rough.jsonl"
seen "another body in the log than in the file" "^I1 $id chunk [0-9]+ lies in .* and the bodies of lines 9 are not those of rough.jsonl" "${kafka[@]}" --input "$work/other/rough.jsonl"
tail -n +2 "$work/rough.jsonl" >"$work/other/rough.jsonl"
seen "a file with fewer requests" "^I1 $id has $lines lines, and rough.jsonl has $((lines - 1)) requests" --input "$work/other/rough.jsonl"
cp "$work/acks" "$work/more-acks"
echo "batch_0192f2a8000070008000000000000001 in_progress, 1,200 requests on tier sim" >>"$work/more-acks"
seen "a job that vanished" "^I1 batch_0192f2a8000070008000000000000001 was acknowledged, and there is no such job" --acks "$work/more-acks"
sed "s/, $lines requests/, $((lines + 1)) requests/" "$work/acks" >"$work/more-acks"
seen "a job that shrank" "^I1 $id was acknowledged with $((lines + 1)) requests, and has $lines lines" --acks "$work/more-acks"
: >"$work/more-acks"
seen "no acknowledgement at all" "^I1 nothing was acknowledged" --acks "$work/more-acks"
cp -r "$work/logs" "$work/bad-logs"
echo "==1234==ERROR: AddressSanitizer: heap-use-after-free on address 0x602000000010" >>"$work/bad-logs/w1.log"
seen "a report of a sanitizer" "^I10 .*/w1.log line [0-9]+: ==1234==ERROR: AddressSanitizer" --logs "$work/bad-logs"
sed -i '/chunk.taken/d' "$work/bad-logs/w2.log"
seen "rows that a worker's log knows nothing of" "^I5 worker w2 .* wrote lines .* of $id chunk [0-9]+, and its log never says that it took that chunk" --logs "$work/bad-logs"
head -n -1 "$work/reference" >"$work/short-reference"
seen "a reference that lacks a line" "^I8 $id line [0-9]+ \('c-[0-9]+'\) is not in the reference" "${evidence[@]}" --reference "$work/short-reference"

sql "alter table mserve.results drop constraint results_pkey; insert into mserve.results select * from mserve.results where $some_row"
seen "a row that is there twice" "^I2 $id has more than one row of lines 0"
sql "delete from mserve.results r where $some_row and ctid > (select min(ctid) from mserve.results where $some_row)"

ok "and in the end it finds nothing wrong again" check "${evidence[@]}" "${kafka[@]}"
said=$(MSERVE_POSTGRES_DSN="$server_dsn dbname=no_such_database" check 2>&1)
is $? 2 "what cannot be looked at is not judged"

# ---------------------------------------------------------------- guards taken out of the protocol
fresh_database
ok "a database for mutants" mserve migrate
sql "alter database $PGDATABASE set synchronous_commit = off"
said=$("$tree/tests/fault/mutants" "$MSERVE_POSTGRES_DSN" 2>&1)
is $? 0 "each mutant of the protocol is caught, and none of the controls"
mapfile -t table <<<"$said"
note "${table[@]}"
done_testing
