#!/usr/bin/env bash
# test_documents: a folder, a tar file and a list become jobs; what cannot be a document is told by
# name; the same documents are the same job; and the demo model answers them.
. "$(dirname "$0")/lib.sh"
fresh_database
fresh_topics
export MSERVE_CONFIG=$work/mserve.yaml
sed "s|deploy/demo|$tree/deploy/demo|" "$tree/deploy/demo/mserve.yaml" >"$MSERVE_CONFIG"
status() { "$@" >"$work/out" 2>"$work/said"; echo $?; }
out() { cat "$work/out"; }
said() { cat "$work/said"; }
job_of() { sed -n 's/^\(batch_[0-9a-f]*\).*/\1/p' "$work/out"; }
jobs_there() { sql "select count(*) from mserve.jobs"; }
cd "$work" || exit 1

cat >ask.json <<'JSON'
{
  "model": "mserve-demo-lang",
  "max_tokens": 12,
  "temperature": 0,
  "messages": [{"role": "user", "content": "{{document}}"}]
}
JSON
mkdir -p "texts/with blanks/deep" texts/old
printf 'The quick brown fox jumps over the lazy dog, and nobody in the village knows why it does so.\n' >"texts/with blanks/deep/english.txt"
printf 'Der schnelle Fuchs springt über den faulen Hund, und niemand im Dorf weiß, warum er das tut.\n' >texts/größe.txt
printf 'Le renard saute par-dessus le chien paresseux, et personne dans le village ne sait pourquoi.\n' >"texts/it's \"quoted\".txt"
printf 'not a text' >texts/old/skip.bin
submit=(mserve-submit --documents texts --template ask.json)

ok "migrate" mserve migrate
ok "topics" mserve topics

# ---- templates are checked before anything is read, even before a server is asked

template() { printf '%s' "$1" >bad.json; MSERVE_POSTGRES_DSN='host=127.0.0.1 port=1' status mserve-submit --documents texts -T bad.json; }
is "$(template '{"model": "m",
  "prompt": "{{dokument}}"}')|$(said)" \
    '2|mserve-submit: bad.json line 2: "{{dokument}}" is none of {{document}}, {{path}} and {{part}}' "a template with a mistake"
is "$(template '{"model": "m", "prompt": "{{path}}"}')|$(said)" "2|mserve-submit: bad.json line 1: {{document}} stands nowhere in the template" "one that forgets the document"
is "$(template '{"model": "m", "prompt": "{{document}}",
  "n": 3}')" 2 "one with what the endpoint does not take"
like "$(said)" '^mserve-submit: bad.json line 2: ' "is told with its line"
is "$(template '{"model": "m", ')" 2 "one that is no JSON"
is "$(status mserve-submit --documents texts -T none.json)" 8 "one that is not there"
is "$(status mserve-submit --documents texts)" 1 "no template"
is "$(status "${submit[@]}" more.jsonl)" 1 "documents and a file"
is "$(status mserve-submit --since 1d more.jsonl)" 1 "options of documents without any"
is "$(status mserve-submit)|$(said)" "1|mserve-submit: FILE|- is missing; mserve-submit --help says more." "nothing at all"
printf '{"model": "nobody", "prompt": "{{document}}"}' >bad.json
is "$(status mserve-submit --documents texts -T bad.json)|$(wc -l <said)" "2|1" "a model that no tier serves is one sentence"
like "$(said)" 'bad.json: no tier serves the model "nobody"' "and says so"
is "$(status mserve-submit --documents nowhere -T ask.json)" 8 "no such folder"
is "$(status "${submit[@]}" --since yesterday)" 1 "a time that is none"
is "$(status "${submit[@]}" --encoding klingon)" 1 "an encoding that is none"

# ---- a folder becomes a job, once

is "$(status "${submit[@]}" --exclude old --dry-run)|$(out | tail -n 1)" \
    "0|texts: 3 requests for /v1/chat/completions on tier demo, about $(($(find texts -name '*.txt' -exec cat {} + | wc -c) / 4 + 3 * 12 - 1)) tokens; nothing was sent" "a dry run"
start scheduler mserve-scheduler
start worker mserve-worker --tier demo
is "$(status "${submit[@]}" --exclude old --output answers.jsonl)" 0 "a folder is submitted, run, and written"
job=$(job_of)
is "$(python3 -c '
import json
for line in open("answers.jsonl"):
    row = json.loads(line)
    print(row["custom_id"], row["response"]["body"]["choices"][0]["message"]["content"].strip(), sep="=")')" \
    "größe.txt=German
it's \"quoted\".txt=French
with blanks/deep/english.txt=English" "paths are names, in byte order, and the answers are theirs"
is "$(sql "select input_name, endpoint, lines from mserve.jobs")" "texts|/v1/chat/completions|3" "the job has the folder's name"
is "$(status "${submit[@]}" --exclude old)|$(job_of)" "0|$job" "the same command is the same job"
touch texts/größe.txt
is "$(status mserve-submit --documents ./texts/ -T ask.json --include '*.txt')|$(job_of)" "0|$job" "so are the same documents however they were selected"

# ---- tars and lists

tar -C texts --sort=name --exclude=old -czf texts.tar.gz .
is "$(status mserve-submit --documents texts.tar.gz -T ask.json --dry-run)" 0 "a packed tar"
like "$(out)" '^texts.tar.gz: 3 requests' "has the same documents"
(cd texts && find . -name '*.txt' | LC_ALL=C sort) >list
is "$(cd texts && status mserve-submit --documents - -T ../ask.json <../list)|$(job_of)" "0|$job" "so has a list on standard input: it is the same job"
is "$(cd texts && tar -cf - --no-recursion -T ../list | status mserve-submit --documents - -T ../ask.json)|$(job_of)" "0|$job" "and a tar there"
head -c 200 texts.tar.gz >cut.tar.gz
is "$(status mserve-submit --documents cut.tar.gz -T ask.json --on-invalid skip)|$(wc -l <said)" "2|1" "a tar that was cut is one error, whatever may be skipped"
like "$(said)" 'cut.tar.gz is a broken tar file, or was cut off' "which says so"
is "$(status mserve-submit --documents texts.tar.gz -T ask.json -o texts.tar.gz)" 1 "results do not replace the documents"
is "$(status mserve-submit --documents texts -T ask.json -o ask.json)" 1 "nor the template"
is "$(status mserve-submit --documents ask.json -T ask.json)" 2 "what is no list of paths"
is "$(jobs_there)" 1 "all of that made no other job"

# ---- documents that cannot be taken

printf 'La volpe salta il cane e nel paese nessuno sa perch\xe9 la volpe lo fa ogni giorno.\n' >texts/latin.txt
printf 'x' >$'texts/new\nline.txt'
is "$(status "${submit[@]}" --exclude old)" 2 "documents that cannot be taken"
is "$(said)" 'latin.txt: is not UTF-8: byte 52 is 0xe9; say what it is with --encoding, like --encoding ISO-8859-1
new\nline.txt: the path has a control character (a line break, a tab); rename it
mserve-submit: texts: 2 documents cannot be taken; nothing was sent. With --on-invalid skip the rest runs' \
    "are all named"
is "$(status "${submit[@]}" --exclude old --json)" 2 "the same as JSON"
is "$(python3 -c 'import json; print(*(e["message"].split(":")[0] for e in json.load(open("out"))["errors"]["data"]), sep="|")')" \
    $'latin.txt|new\nline.txt' "is a list"
mkdir many && for i in {10..40}; do printf '\xff' >many/$i; done
is "$(status mserve-submit --documents many -T ask.json)|$(wc -l <said)|$(grep -c '^\.\.\. and 11 more' said)" "2|22|1" "of many the first 20 and how many more"
is "$(status mserve-submit --documents many -T ask.json --on-invalid skip)|$(tail -n 1 said)" \
    "2|mserve-submit: many: none of its documents can be taken; nothing was sent" "where none can be taken nothing is skipped"
rm $'texts/new\nline.txt'
is "$(status "${submit[@]}" --exclude old --on-invalid skip)|$(job_of)" "0|$job" "skip leaves them out: what remains is the first job"
like "$(said)" 'left out: latin.txt: is not UTF-8' "and says which"
is "$(status "${submit[@]}" --include latin.txt --encoding ISO-8859-1 --output latin.jsonl)" 0 "with --encoding it is taken"
like "$(cat latin.jsonl)" '"custom_id":"latin.txt".*" ?Italian"' "and understood"
printf 'Zu viel\n' >texts/large.txt
is "$(MSERVE_SUBMIT_DOCUMENT_BYTES_MAX=1KiB status "${submit[@]}" --include large.txt --dry-run)" 0 "a document within the limit"
head -c 2000 /dev/zero | tr '\0' x >texts/large.txt
is "$(MSERVE_SUBMIT_DOCUMENT_BYTES_MAX=1KiB status "${submit[@]}" --include large.txt)" 2 "one over it"
like "$(said)" '^large.txt: has more than 1024 bytes.*submit.document_bytes_max' "is named with the setting"
is "$(MSERVE_SUBMIT_LINE_BYTES_MAX=1KiB status "${submit[@]}" --include large.txt)" 2 "a line over its limit"
like "$(said)" '^large.txt: its request has [0-9]* bytes.*submit.line_bytes_max' "too"

# ---- memory is that of the largest document, not of all of them

python3 - <<'PY'
import io, tarfile
text = b"all work and no play\n" * 10000
with tarfile.open("big.tar", "w") as tar:
    for i in range(600):
        member = tarfile.TarInfo("%03d" % i)
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
PY
in_address_space() { (ulimit -v 114688 && exec mserve-submit "$@"); }
is "$(status in_address_space --documents big.tar -T ask.json --dry-run)|$(grep -c '^big.tar: 600 requests' out)" "0|1" \
    "126 MB of documents in an address space of 112 MB"
is "$(status in_address_space --documents big.tar -T ask.json --include '00?' --dry-run)|$(grep -c '^big.tar: 10 requests' out)" "0|1" \
    "or some of them"

# ---- nothing to do

find texts -type f -exec touch -d '2026-01-01 12:00' {} +
is "$(status "${submit[@]}" --since 2026-01-02)|$(out)" \
    "0|texts: nothing to do: the options select none of its 6 documents; no job was made" "nothing has changed since then"
is "$(status "${submit[@]}" --since 2026-01-02 --json)|$(out)" '0|{"object":"batch.none","documents":0,"passed_over":6,"unchanged":0,"running":0}' "as JSON"
touch texts/größe.txt
is "$(status "${submit[@]}" --since 1h --dry-run)|$(grep -c '^texts: 1 requests' out)" "0|1" "but one of them within the hour"
mkdir empty
is "$(status mserve-submit --documents empty -T ask.json)|$(out)" "0|empty: nothing to do: it has no documents; no job was made" "an empty folder"
is "$(jobs_there)" 2 "two jobs in all"
is "$(sql "select count(*) from mserve.results where status <> 'completed'")" 0 "and no failed row"
done_testing
