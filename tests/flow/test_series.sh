#!/usr/bin/env bash
# test_series: long documents become parts, documents of a series are sent when they change or failed,
# and a submitter that is killed leaves nothing that counts and goes on with its own job. Rows are
# written by SQL, so that every end of a line can be had.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/rows_lib.sh"
fresh_database
fresh_topics
export MSERVE_CONFIG=$work/mserve.yaml
sed "s|deploy/demo|$tree/deploy/demo|" "$tree/deploy/demo/mserve.yaml" >"$MSERVE_CONFIG"
status() { "$@" >"$work/out" 2>"$work/said"; echo $?; }
out() { cat "$work/out"; }
said() { cat "$work/said"; }
job_of() { uuid_of "$(sed -n 's/^\(batch_[0-9a-f]*\).*/\1/p' "$work/out")"; }
jobs_there() { sql "select count(*) from mserve.jobs"; }
cd "$work" || exit 1
ok "migrate" mserve migrate
ok "topics" mserve topics
printf '{"model": "mserve-demo-lang", "prompt": "{{part}} of {{path}}: {{document}}"}' >ask.json
mkdir texts
for name in a b c; do echo "This is the document $name." >texts/$name.txt; done
night=(mserve-submit --documents texts --template ask.json --series tonight --changed)

# paths_of JOB: its documents with the number of their parts
paths_of() { sql "select string_agg(path || ':' || parts, ' ' order by first_line) from mserve.documents where job = '$1'"; }
last_lines() { sql "select lines - 1 from mserve.jobs where job = '$1'"; }
# all_done JOB: all its lines complete and it ends
all_done() { finish_lines "$1" 0 "$(last_lines "$1")" completed; end_job "$1" completed; }

# ---- options that make no sense

is "$(status mserve-submit --documents texts -T ask.json --changed)" 1 "--changed without a series"
is "$(status "${night[@]}" --new)" 1 "--changed with --new"
is "$(status mserve-submit --documents texts -T ask.json --series '')" 1 "a series without a name"
is "$(status mserve-submit --documents texts -T ask.json --split-tokens 15)" 1 "parts that are too small"
is "$(status mserve-submit --documents texts -T ask.json --overlap 10)" 1 "an overlap without parts"
is "$(status mserve-submit --documents texts -T ask.json --split-tokens 100 --overlap 50)" 1 "an overlap of half a part"
is "$(status mserve-submit --series x more.jsonl)" 1 "a series of a file"

# ---- the first night, and what it leaves to do

is "$(status "${night[@]}" --dry-run)|$(said)" "0|mserve-submit: 3 to do" "a dry run says what is to do"
is "$(status "${night[@]}")|$(said | head -n 1)" "0|mserve-submit: 3 to do" "the first night takes all"
first=$(job_of)
is "$(sql "select series from mserve.jobs where job = '$first'")|$(paths_of "$first")" "tonight|a.txt:1 b.txt:1 c.txt:1" "and writes them down"
is "$(sql "select encode(sha256, 'hex') from mserve.documents where path = 'b.txt'")" "$(sha256sum <texts/b.txt | cut -d' ' -f1)" \
    "with the sha256 of the file"
is "$(status "${night[@]}")|$(out)" "0|texts: nothing to do: 3 still running in batch_${first//-/}; no job was made" "while it runs there is nothing to do"
is "$(status "${night[@]}" --json; out)" $'0\n{"object":"batch.none","documents":0,"passed_over":0,"unchanged":0,"running":3}' "the same as JSON"
is "$(status "${night[@]}" --wait --output none.jsonl)|$(ls none.jsonl 2>/dev/null)" "0|" "nor to wait for, and no file is made"
is "$(status mserve-submit --documents texts -T ask.json --series other --changed --dry-run)|$(said)" "0|mserve-submit: 3 to do" "another series knows nothing of it"
finish_lines "$first" 0 0 completed
finish_lines "$first" 1 1 failed
finish_lines "$first" 2 2 expired
end_job "$first" completed

# ---- what failed or expired is sent again, as often as it does

is "$(status "${night[@]}")|$(said | head -n 1)" "0|mserve-submit: 1 unchanged, 2 to do" "what failed and what expired is sent again"
second=$(job_of)
is "$(paths_of "$second")" "b.txt:1 c.txt:1" "and nothing else"
finish_lines "$second" 0 1 failed
end_job "$second" completed
is "$(status "${night[@]}")|$(said | head -n 1)" "0|mserve-submit: 1 unchanged, 2 to do" "what failed twice is sent a third time"
third=$(job_of)
isnt "$third" "$second" "in a job of its own, though its content is the same"
echo "This is another document a." >texts/a.txt
echo "This is new." >texts/d.txt
is "$(status "${night[@]}")|$(said | head -n 1)" "0|mserve-submit: 2 still running in batch_${third//-/}, 2 to do" "what changed and what is new is sent while others run"
fourth=$(job_of)
is "$(paths_of "$fourth")" "a.txt:1 d.txt:1" "and only that"
sql "select mserve.job_cancel('$third')" >/dev/null
is "$(status "${night[@]}" --dry-run)|$(said)" "0|mserve-submit: 2 still running in batch_${fourth//-/}, 2 to do" "what is being cancelled does not run"
all_done "$third"
all_done "$fourth"
is "$(status "${night[@]}")|$(out)" "0|texts: nothing to do: 4 unchanged; no job was made" "when all is done there is nothing to do"
echo "This is the document a." >texts/a.txt
rm texts/d.txt
is "$(status "${night[@]}" --dry-run)|$(said)" "0|mserve-submit: 2 unchanged, 1 to do" \
    "what is as it once was is sent again: its newest answer is of other bytes; what is gone is not missed"
echo "This is another document a." >texts/a.txt
is "$(status mserve-submit --documents texts -T ask.json --series tonight)|$(jobs_there)" "0|5" "without --changed all are sent"
all_done "$(job_of)"

# ---- a retry of what failed counts

echo "This will fail." >texts/e.txt
is "$(status "${night[@]}")" 0 "a document"
fifth=$(job_of)
finish_lines "$fifth" 0 0 failed
end_job "$fifth" completed
is "$(status mserve retry "batch_${fifth//-/}")" 0 "is retried by hand"
retry=$(sql "select job from mserve.jobs where retry_of = '$fifth'")
is "$(status "${night[@]}")|$(jobs_there)" "0|7" "while a retry of it runs, a failed document is not sent"
finish_lines "$retry" 0 0 completed
end_job "$retry" completed
is "$(status "${night[@]}")|$(out)" "0|texts: nothing to do: 4 unchanged; no job was made" "nor when it has completed"

# ---- another tenant has series of its own

sql "create role ${test_name}_$$ login password 'x'; select mserve.grant_tenant('red', '${test_name}_$$')" >/dev/null
cleanup() { psql -X -q -d "$server_dsn" -c "drop owned by ${test_name}_$$; drop role ${test_name}_$$" 2>/dev/null; }
red_dsn=$(sed "s/ passfile='[^']*'//; s/user=[a-z]*/user=${test_name}_$$/" <<<"$MSERVE_POSTGRES_DSN")
red() { MSERVE_POSTGRES_DSN=$red_dsn MSERVE_POSTGRES_PASSWORD=x PGPASSWORD=x PGPASSFILE=/dev/null "$@"; }
is "$(status red "${night[@]}")|$(said | head -n 1)" "0|mserve-submit: 4 to do" "another tenant knows nothing of it"
is "$(status red "${night[@]}")|$(out | cut -d' ' -f1-8)" "0|texts: nothing to do: 4 still running in" "but of its own"
is "$(red psql -XAtd "$red_dsn" -c "select mserve.job_add_documents('$first', 'tonight', '{9}', '{1}', '{x}', '{x}')" 2>&1)" ended \
    "and writes nothing down for others"
is "$(sql "delete from mserve.jobs where tenant = 'red'; select count(*) from mserve.jobs where tenant = 'red'")" 0 "(gone)"

# ---- killed at its worst moments, the same command goes on with its own job

for i in {1..1500}; do echo "Document $i of many." >texts/many-$i.txt; done
sql "create function public.linger() returns trigger language plpgsql as 'begin perform pg_sleep(0.1); return new; end';
     create trigger linger before insert on mserve.chunks for each statement execute function public.linger();
     create trigger linger before insert on mserve.documents for each statement execute function public.linger()"
export MSERVE_SUBMIT_CHUNK_LINES_MAX=16
uploading() { sql "select count(*) from mserve.jobs where state = 'validating'"; }
some_chunks() { sql_is t "select count(*) > 0 from mserve.chunks join mserve.jobs using (job) where state = 'validating'"; }
for moment in "sql_is 1 'select count(*) from mserve.jobs where state = \$\$validating\$\$'" some_chunks; do
    start submit "${night[@]}"
    wait_until 20 eval "$moment"
    kill_hard submit
    is "$(uploading)|$(jobs_there)" "1|8" "killed on the way"
    is "$(sql "select count(*) from mserve.series_documents('tonight') where path like 'many-%'")" 0 "what it wrote down does not count"
done
is "$(status "${night[@]}")|$(uploading)|$(jobs_there)" "0|0|8" "the same command goes on with the job that it began"
many=$(job_of)
is "$(said | head -n 1)|$(sql "select count(*), count(distinct path), sum(parts) from mserve.documents where job = '$many'")" \
    "mserve-submit: 4 unchanged, 1,500 to do|1500|1500|1500" "and nothing is there twice"
sql "drop trigger linger on mserve.chunks; drop trigger linger on mserve.documents"
is "$(status "${night[@]}")|$(jobs_there)" "0|8" "after that there is nothing to do"
like "$(out)" '4 unchanged, 1,500 still running in batch_' "and it says why"
rm texts/many-*

# ---- parts

tar -xOf "${MSERVE_SHARED:-$tree/../shared}/assets/corpus/peps-0001-0699.tar" --wildcards '*pep-0008*' >texts/long.rst 2>/dev/null ||
    for i in {1..400}; do printf 'This is the sentence number %d. It is a long one.\n%s' $i "$([ $((i % 9)) = 0 ] && echo)"; done >texts/long.rst
is "$(status mserve-submit --documents texts --include 'long.rst' -T ask.json --split-tokens 300 --overlap 40 --series parts)" 0 "a long document becomes parts"
job=$(job_of)
parts=$(sql "select parts from mserve.documents where job = '$job'")
ok "several ($parts)" [ "$parts" -gt 5 ]
is "$(sql "select lines from mserve.jobs where job = '$job'")" "$parts" "each of them is a line"
all_but() { finish_lines "$job" 0 $((parts - 2)) completed; finish_lines "$job" $((parts - 1)) $((parts - 1)) failed; end_job "$job" completed; }
all_but
is "$(status mserve-submit --documents texts --include 'long.rst' -T ask.json --split-tokens 300 --overlap 40 --series parts --changed --dry-run)|$(said)" \
    "0|mserve-submit: 1 to do" "of which one that failed has the document sent again"
done_testing
