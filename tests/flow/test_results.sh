#!/usr/bin/env bash
# test_results: what came out of jobs, in every form: lines, tables, documents, chains of retries, and row
# by row. Jobs and rows are written here by SQL, as submitters, workers and the scheduler would.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/rows_lib.sh"
fresh_database
export MSERVE_CONFIG=$work/mserve.yaml
echo 'tiers: [{name: small, backend: sim, served_names: [m]}]' >"$MSERVE_CONFIG"
status() { "$@" >"$work/out" 2>"$work/said"; echo $?; }
said() { cat "$work/said"; }
results() { mserve results "$@" 2>"$work/said"; }
python() { /usr/bin/python3 "$@"; }
# ids_of: of the lines on standard input
ids_of() { sed -n 's/.*"custom_id": *"x-\([0-9]*\)".*/\1/p' | paste -sd ' '; }
sorted() { tr ' ' '\n' | sort -n | paste -sd ' '; }
# make_job N LINES [MORE COLUMNS [VALUES]]: job number N, accepted, in chunks of 16; prints its UUID
make_job() {
    local uuid=0000000$1-0000-7000-8000-000000000000
    sql "insert into mserve.jobs (job, idempotency_key, content_sha256, input_name, endpoint, tier, topic, partitions,
           partition_first, chunk_lines_max, chunk_bytes_max, completion_window, state, lines, expires_at${3:+, $3})
         values ('$uuid', '$1', '', 'x', '/v1/completions', 'small', 't', 1, 0, 16, 100000, '24h', 'in_progress', $2,
           clock_timestamp() + interval '1 d'${4:+, $4});
         insert into mserve.chunks (job, chunk, first_line, lines, topic, part, first_offset, last_offset, bytes, sha256,
             custom_ids, work, done_map)
           select '$uuid', n, 16 * n, least(16, $2 - 16 * n), 't', 0, 16 * n, 16 * n + 15, 1, '', '', 1,
             repeat('0', least(16, $2 - 16 * n)::integer)::bit varying
             from generate_series(0, ($2 - 1) / 16) n" >/dev/null
    echo "$uuid"
}
ok "migrate" mserve migrate

# ---- every kind of row is the line that it always was, by the view and by the program

one=$(make_job 1 100)
sed -n '/^create view mserve.batch_results as/,/;$/{s/mserve.batch_results/mserve.first_form/;p}' \
    "$tree/sql/migrations/0003_views.sql" | psql -X -q -d "$MSERVE_POSTGRES_DSN"
sql "insert into mserve.results (job, line, custom_id, status, status_code, response, error, input_tokens, output_tokens, gpu_ns)
  select '$one', row_number() over () - 1, c, s, code, r::json, e::json, 3, 2, 1000 from
    (values ('plain'), (e'\" \\\\ / \x01\x02\x08\t\n\x0b\f\r\x1f \x7f é 😀'), ('')) a (c),
    (values ('completed', 200), ('failed', 400), ('failed', null), ('expired', null)) b (s, code),
    (values (null), ('{\"choices\":[{\"text\":\"a\\u0000b, \\\"c\\\"\",\"finish_reason\":\"stop\"}], \"n\" : 1e400}'),
      ('{\"choices\":[{\"text\":\"' || repeat('long ', 40000) || '\"}]}')) d (r),
    (values (null), ('{\"code\":\"some_code\", \"message\":\"=why\"}')) f (e)"
is "$(sql "select count(*), count(*) filter (where a.output::text is distinct from b.output::text)
    from mserve.batch_results a join mserve.first_form b using (job, line)")" "72|0" "the view says what it said at first, to the byte"
sql "select output from mserve.batch_results where job = '$one' order by line" >"$work/view"
results "$one" >"$work/lines"
ok "and so does the program" cmp "$work/view" "$work/lines"
like "$(said)" "the job has not ended" "which says that there may be more"
results --format csv "$one" >"$work/table.csv"
is "$(python - "$work/table.csv" <<'PY'
import csv, sys
csv.field_size_limit(10**7)
rows = list(csv.DictReader(open(sys.argv[1], newline="")))
print(len(rows), *rows[0])
row = next(r for r in rows if r["custom_id"].startswith('"') and r["status_code"] == "200" and len(r["content"]) == 8)
print(repr(row["custom_id"]), repr(row["content"]), row["finish_reason"], row["status"], row["gpu_ns"], row["finished_at"][-1])
print(sorted({(r["error_code"], r["error_message"]) for r in rows if r["error_code"]}), max(len(r["content"]) for r in rows))
PY
)" "72 custom_id line status status_code finish_reason content error_code error_message input_tokens output_tokens gpu_ns finished_at
'\" \\\\ / \\x01\\x02\\x08\\t\\n\\x0b\\x0c\\r\\x1f \\x7f é 😀' 'a�b, \"c\"' stop completed 1000 Z
[('some_code', \"'=why\")] 200000" "a table says the same, safe for spreadsheets"

# ---- files

two=$(make_job 2 50)
finish_lines "$two" 0 9 completed
finish_lines "$two" 20 24 failed
finish_lines "$two" 30 34 completed
ok "two files" results -o "$work/good.jsonl.zst" --errors "$work/bad.jsonl" "$two"
is "$(zstdcat "$work/good.jsonl.zst" | ids_of)|$(ids_of <"$work/bad.jsonl")" "0 1 2 3 4 5 6 7 8 9 30 31 32 33 34|20 21 22 23 24" \
    "what completed and what did not, compressed by the name"
echo old >"$work/good"
is "$(status mserve results -o "$work/good" --errors "$work/no/bad" "$two")|$(cat "$work/good")" "10|old" "one that cannot be written leaves the other as it was"
is "$(status mserve results -o "$work/good" --errors /dev/full "$two")|$(cat "$work/good")" "10|old" "also when that shows at the end"
is "$(status mserve results -o "$work/good" --errors "$work/../${work##*/}/good" "$two")|$(cat "$work/good")" "1|old" "two names of one file are refused"
is "$(status mserve results --errors - "$two")" 1 "and so are both on standard output"
is "$(find "$work" -name 'good.??????' -o -name 'bad*.??????' | wc -l)" 0 "nothing is left behind"
is "$(results --from-line 24 "$two" | ids_of)" "24 30 31 32 33 34" "from a line on"
is "$(results --from-line 24 --order completion "$two" | ids_of)" "24 30 31 32 33 34" "in both orders"
is "$(results --from-line 50 --format csv "$two" | wc -l)" 1 "a table without rows is its heading"
for wrong in "--latest --follow" "--join --order completion" "--errors e --status ok"; do
    # shellcheck disable=SC2086
    is "$(status mserve results $wrong "$two")" 1 "$wrong is refused"
    like "$(said)" "${wrong%% *}.* do not go together" "in a sentence"
done

# ---- documents

is "$(status mserve results --join "$two")" 1 "a job that was made of lines has no documents"
like "$(said)" "was not made of documents" "and that is said"
sql "insert into mserve.documents (job, first_line, parts, path, sha256) values ('$two', 0, 3, 'a.md', ''), ('$two', 3, 1, 'b.md', ''),
  ('$two', 4, 20, 'c.md', ''), ('$two', 24, 1, 'd.md', ''), ('$two', 25, 5, 'e.md', ''), ('$two', 30, 5, 'f,g.md', '')"
documents_of() { python -c 'import json,sys
for line in sys.stdin:
    d = json.loads(line)
    print(d["path"], d["first_line"], "%d/%d" % (d["parts_completed"], d["parts"]), d["status"], repr(d["text"]), len(d["responses"]), d["usage"]["total_tokens"], d["gpu_ns"])'; }
is "$(results --join "$two" | documents_of)" "a.md 0 3/3 completed '0\\n\\n1\\n\\n2' 3 15 3000
b.md 3 1/1 completed '3' 1 5 1000
d.md 24 0/1 failed None 1 5 1000
f,g.md 30 5/5 completed '30\\n\\n31\\n\\n32\\n\\n33\\n\\n34' 5 25 5000" "documents of which all parts have rows"
is "$(results --join --status error "$two" | documents_of | cut -d' ' -f1)" d.md "those with a part that failed"
is "$(results --join --from-line 1 --status ok "$two" | documents_of | cut -d' ' -f2)" "3
30" "from a line on"
is "$(results --join --format csv "$two" | grep '^"f')" "\"f,g.md\",30,5,5,completed,\"30" "a table of them"
is "$(sql "select string_agg(path || part, ' ' order by line) from mserve.document_results where job = '$two' and line < 5")" "a.md0 a.md1 a.md2 b.md0 c.md0" "a view shows the parts"

# ---- retries: a first job, its retry, a retry of that, and a second retry of the first that is slower

finish_lines "$two" 10 19 failed
finish_lines "$two" 25 29 completed
finish_lines "$two" 35 49 expired
end_job "$two" completed
three=$(make_job 3 15 "retry_of, retry_root" "'$two', '$two'")
sql "insert into mserve.retried_lines (job, line, root_line) select '$three'::uuid, n - 10, n from generate_series(10, 19) n
       union all select '$three', n - 10, n from generate_series(20, 24) n"
finish_lines "$three" 0 4 completed
finish_lines "$three" 5 14 failed
chain() { results --latest --format csv "$@" | tail -n +2 | awk -F, '{ print $2, $3 }'; }
states() { awk '{ print $2 }' | uniq -c | awk '{ printf "%s%d %s", sep, $1, $2; sep = ", " }'; }
is "$(chain "$two" | states)" "15 completed, 10 failed, 10 completed, 15 expired" "a chain has the newest row of each line"
like "$(said)" "has not ended" "and says that a retry is at work"
end_job "$three" completed
four=$(make_job 4 5 "retry_of, retry_root" "'$three', '$two'")
five=$(make_job 5 5 "retry_of, retry_root" "'$two', '$two'")
sql "insert into mserve.retried_lines (job, line, root_line) select j::uuid, n - 20, n from generate_series(20, 24) n, (values ('$four'), ('$five')) v (j)"
finish_lines "$four" 0 4 completed
finish_lines "$five" 0 4 failed
end_job "$four" completed
end_job "$five" completed
is "$(chain "$four" | states)|$(chain "$four" | cut -d' ' -f1 | paste -sd ' ')" "15 completed, 5 failed, 15 completed, 15 expired|$(seq -s ' ' 0 49)" \
    "by any of its jobs, in the order of the first; what completed is not taken back"
is "$(said)" "" "and all has ended"
is "$(results --latest --status error "$two" | wc -l)|$(results --latest --order completion "$two" | wc -l)" "20|50" "those that failed; and in order of completion"
is "$(results --latest "$two")" "$(sql "select output from mserve.latest_results where root = '$two' order by line")" "a view shows the same"
is "$(results --latest --join --status ok "$three" | documents_of | cut -d" " -f1,2,3,4)" "a.md 0 3/3 completed
b.md 3 1/1 completed
d.md 24 1/1 completed
e.md 25 5/5 completed
f,g.md 30 5/5 completed" "documents of a chain are whole when a retry made them so"
is "$(status mserve results --join "$three")" 1 "a retry alone has no documents"
like "$(said)" "add --latest" "and it is said how to have them"
is "$(results --latest "$one" | cmp - "$work/lines" && echo same)" same "a job that nobody retried is a chain too"

# ---- row by row, with transactions that commit late

six=$(make_job 6 80)
hex=${six//-/}
coproc late { psql -X -q -A -t -d "$MSERVE_POSTGRES_DSN" 2>&1; }
late_pid=$!
# lines_of FIRST LAST STATUS: rows of lines of one chunk and their bits, as one commit writes them
lines_of() {
    echo "insert into mserve.results (job, line, custom_id, status, response)
        select '$six', n, 'x-' || n, '$3', '{}' from generate_series($1, $2) n;
      update mserve.chunks set done_count = done_count + $2 - $1 + 1,
          done_map = done_map | overlay(repeat('0', lines)::bit varying
            placing repeat('1', $2 - $1 + 1)::bit varying from $1 - first_line::integer + 1)
        where job = '$six' and $1 between first_line and first_line + lines - 1;"
}
commit_lines() { sql "begin; $(lines_of "$1" "$2" "$3") commit" >/dev/null; }
begin_late() { echo "begin; $(lines_of "$1" "$2" completed) select 'open';" >&"${late[1]}"; read -r -t 30 -u "${late[0]}" _; }
commit_late() { echo "commit; select 'done';" >&"${late[1]}"; read -r -t 30 -u "${late[0]}" _; }
tell() { sql "select pg_notify('mserve_job_$hex', '')" >/dev/null; }
written() { [ "$(ids_of <"$work/$1.log" | wc -w)" = "$2" ]; }
start input mserve results --follow "$six"
start completion mserve results --follow --order completion "$six"
start tail mserve results --follow --from-line 40 "$six"
start table mserve results --follow --format csv --errors "$work/followed.errors" "$six"
begin_late 0 9
commit_lines 32 47 completed # a later commit that is there sooner
ok "what is there is written in order of completion" wait_until 10 written completion 16
ok "also by who begins in the middle" wait_until 10 written tail 8
is "$(ids_of <"$work/input.log")" "" "and in input order it waits for who is late"
commit_lines 16 31 completed
ok "more comes" wait_until 10 written completion 32
commit_late
tell
ok "what commits late is not missed" wait_until 10 written completion 42
ok "in input order it comes first" wait_until 10 written input 10
begin_late 10 15
sql "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'mserve'" >/dev/null
lost() { grep -q '^mserve: ' "$work/$1.log"; }
ok "a follower notices that it was cut off" wait_until 10 lost input
commit_late
ok "and goes on where it was" wait_until 10 written input 48
is "$(ids_of <"$work/input.log")" "$(seq -s ' ' 0 47)" "every row once, in order"
commit_lines 48 63 failed
commit_lines 64 79 failed
end_job "$six" completed
tell
for name in input completion tail table; do
    await $name 30
    is $? 0 "$name ends with the job"
done
is "$(ids_of <"$work/input.log")|$(ids_of <"$work/tail.log")" "$(seq -s ' ' 0 79)|$(seq -s ' ' 40 79)" "all rows in input order"
is "$(ids_of <"$work/completion.log" | sorted)" "$(seq -s ' ' 0 79)" "all rows as they came, each once"
is "$(grep -c '^x-' "$work/table.log") $(grep -c '^x-' "$work/followed.errors")" "48 32" "and as tables, in two files"
echo '\q' >&"${late[1]}"
wait $late_pid
like "$(psql -X -q -A -t -d "$MSERVE_POSTGRES_DSN" -c "listen mserve_job_$hex" -c "insert into mserve.job_deltas (job) values ('$six')" \
    -c "select count(*) from mserve.fold(100)" -c "select 1" 2>&1)" "\"mserve_job_$hex\"" "the fold tells who follows that job"

# ---- for a role of a tenant, whom row-level security holds: each row is found by its key

probe=results_probe_$$
cleanup() { psql -X -q -d "$server_dsn user=postgres" -c "drop role if exists $probe"; }
sql_admin "create role $probe login; select mserve.grant_tenant('probe', '$probe'); update mserve.jobs set tenant = 'probe'" >/dev/null
plan_of() { sql_admin "set session authorization $probe; set enable_seqscan = off; explain $1"; }
is "$(sql_admin "set session authorization $probe; select count(*) from mserve.latest_results where root = '$two'")" 50 "a tenant sees its chain"
documents_page=$(sed -n "s/^copy (//; s/) to stdout.*//; s/\\\$1/'$two'::uuid/g; s/\\\$[23]/5::bigint/g
    s/\\\$4/50::bigint/; s/\\\$5/100/; /^--/!p" "$tree/sql/queries/results_latest_documents_page.sql")
for query in "select response from mserve.latest_results where root = '$two' and line >= 5 order by line" \
    "select output from mserve.document_results where job = '$two'" "$documents_page"; do
    plan=$(plan_of "$query")
    is "$(grep -cE 'Seq Scan on (results|retried|documents)' <<<"$plan") $(grep -qE '(on|using) results_default_pkey' <<<"$plan" && echo keys)" "0 keys" \
        "by its key: $(tr -s '\n ' ' ' <<<"$query" | cut -c 1-60)…"
done
done_testing
