#!/usr/bin/env bash
# test_nightly: docs/nightly.md as it is written, and then nights: nothing to do, one changed, last
# night's still going, half of it failed, a script that was killed; called as cron does and as the unit
# does, which systemd judges.
#
# Blocks of the page behind <!-- run --> are run word by word, but for paths, which lie in the test's
# folder, and for `runuser -u mserve --`.
. "$(dirname "$0")/lib.sh"
fresh_database
fresh_topics
page=$tree/docs/nightly.md
PATH=$tree/deploy/nightly:$PATH
export MSERVE_CONFIG=$work/etc/mserve/mserve.yaml MSERVE_NIGHTLY_DIR=$work/etc/mserve/nightly
export MSERVE_SCHEDULER_FOLD_INTERVAL=100ms
cd "$work" || exit 1
status() { "$@" >"$work/out" 2>"$work/said"; echo $?; }
out() { cat "$work/out"; }
said() { cat "$work/said"; }

# here TEXT: with the paths of this test
here() {
    sed -e "s|/etc/mserve|$work/etc/mserve|g; s|/srv|$work/srv|g; s|/var/lib/mserve/nightly|$work/nightly|g" \
        -e "s|/usr/share/mserve|$work/share|g; s|/opt/mserve|$tree|g; s|runuser -u mserve -- ||; s|-o mserve ||" \
        -e "s|MSERVE_STACK_DIR=[^ ]* scripts/stack env|echo \"\$servers\"|"
}
servers="MSERVE_POSTGRES_DSN=\"$MSERVE_POSTGRES_DSN\"; MSERVE_KAFKA_BROKERS=\"$MSERVE_KAFKA_BROKERS\""
export servers
# block N: the Nth block that is to be run, on the settings that the page made and no others
block() {
    awk -v n="$1" '/^<!-- run/ { block++ } /^```$/ { inside = 0 } inside { print } /^```sh$/ && block == n { inside = 1; block += 0.5 }' "$page" | here >"$work/block"
    env -u MSERVE_POSTGRES_DSN -u MSERVE_KAFKA_BROKERS bash -eu "$work/block"
}

# ---- the page

is "$(grep -c '^<!-- run' "$page")" 8 "the page has eight blocks that can be run"
ok "section 3: settings" block 1
ok "section 3: schema and topics" block 2
# As the units start them.
command_of() { sed -n 's/^ExecStart=//p' "$tree/deploy/systemd/$1" | here | sed "s|/usr/bin/||; s|%i|${2:-}|"; }
# A program and no function, so that whoever is stopped is the one that was started.
from_page=(env -u MSERVE_POSTGRES_DSN -u MSERVE_KAFKA_BROKERS)
# shellcheck disable=SC2046
start_scheduler() { start scheduler "${from_page[@]}" $(command_of mserve-scheduler.service); }
# shellcheck disable=SC2046
start_worker() { start worker "${from_page[@]}" $(command_of mserve-worker@.service demo); }
start_scheduler
start_worker
serves() { sql_is 1 "select count(*) from mserve.workers where closed_at is null"; }
ok "section 4: a worker serves" wait_until 20 serves
ok "section 4: all is well" block 3
ok "section 5: documents, template, settings of the night" block 4
is "$(status block 5)|$(said)" "0|mserve-submit: 2 to do" "section 6: what would be sent"
like "$(out)" '^notes: 2 requests for /v1/chat/completions on tier demo' "and to whom"
is "$(status block 6)" 0 "section 6: the first run"
answers() { python3 -c '
import json, sys
for row in map(json.loads, open(sys.argv[1])):
    print(row["custom_id"], row["response"]["body"]["choices"][0]["message"]["content"].strip(), sep="=")' "$@"; }
is "$(answers nightly/notes/latest.jsonl)" $'ferry.txt=English\nfähre.txt=German' "with its answers"
like "$(out)" 'ferry\.txt.*English' "which it shows"
is "$(status block 7)" 0 "in the morning: the list"
job=$(grep -o -m 1 '^batch_[0-9a-f]*' "$work/out")
export job
is "$(status block 8)" 0 "and what else there is of a job"
like "$(out)" '"path":"fähre.txt".*"text":" ?German' "a line for each document"
like "$(out)" 'charged +[0-9.]+ s' "and what it cost"

# ---- nights, called as cron does

cat >>"$MSERVE_NIGHTLY_DIR/notes.conf" <<END
PATH=$MSERVE_BIN/producer:\$PATH
export MSERVE_CONFIG=$MSERVE_CONFIG MSERVE_KAFKA_TOPIC_PREFIX=$MSERVE_KAFKA_TOPIC_PREFIX
END
line=$(grep -v '^[#A-Z]' "$tree/deploy/cron/mserve-nightly")
is "$(grep -cF "    $line" "$page") $(cut -d' ' -f6 <<<"$line")" "1 mserve" "the page has the cron line that ships"
cron_command=$(cut -d' ' -f7- <<<"$line" | sed "s|mserve-nightly|$tree/deploy/nightly/&|")
cron() { env -i HOME="$work" LOGNAME=mserve SHELL=/bin/sh PATH=/usr/bin:/bin MSERVE_NIGHTLY_DIR="$MSERVE_NIGHTLY_DIR" /bin/sh -c "$cron_command" </dev/null; }
files() { find nightly/notes -name '2*.jsonl' | wc -l; }
jobs_there() { sql "select count(*) from mserve.jobs"; }
is "$(status cron)|$(out)|$(files) $(jobs_there)" "0|$work/srv/notes: nothing to do: 2 unchanged; no job was made|1 1" "nothing to do"
sleep 1 # files are named by the second
echo 'Il traghetto parte a mezzogiorno, e nessuno sul molo sa se tornerà questa sera.' >srv/notes/ferry.txt
is "$(status cron)|$(said | head -n 1)" "0|mserve-submit: 1 unchanged, 1 to do" "one has changed"
is "$(answers nightly/notes/latest.jsonl)|$(files)" "ferry.txt=Italian|2" "and is answered, in a file of its own"

# ---- last night's still goes

stop worker
rm srv/notes/fähre.txt
sleep 1
echo 'Le bac part à midi, et personne sur le quai ne sait encore rien.' >srv/notes/bac.txt
start night mserve-nightly notes
ok "a night waits for a worker" wait_until 20 grep -q 'is accepted and runs' night.log
is "$(status cron)|$(said)" "20|mserve-nightly: the last run of notes still goes; nothing was done" "the next one leaves it alone"
kill_hard night
is "$(status cron)" 20 "also where only what the script started is left"
start_worker
goes() { [ "$(status cron)" = 20 ]; }
ok "that ends with its job" wait_until 30 eval '! goes'
is "$(status cron)|$(out)" "0|$work/srv/notes: nothing to do: 2 unchanged; no job was made" "of which nothing is left to do"
newest=$(find nightly/notes -name '2*.jsonl' | sort | tail -n 1)
is "$(answers "$newest")" "bac.txt=French" "and its results are there"

# ---- half of it fails

mkdir half nightly/half
echo 'A short text that everybody can read in a moment, and so can the model.' >half/short.txt
for _ in {1..2000}; do echo 'A long text goes on and on.'; done >half/long.txt
sed "s|^documents=.*|documents=$work/half|; s|^results=.*|results=$work/nightly/half|; s|^options=.*|options=|" "$MSERVE_NIGHTLY_DIR/notes.conf" >"$MSERVE_NIGHTLY_DIR/half.conf"
cron_command=${cron_command% notes}' half'
is "$(status cron)|$(said | head -n 1)" "6|mserve-submit: 2 to do" "half of it fails"
like "$(said)" 'mserve-nightly: what failed: mserve errors (batch_[0-9a-f]*); the next run sends it again, or at once: mserve retry batch' "and it says what to do"
is "$(cat nightly/half/2*.jsonl | wc -l)" 2 "the file has all rows"
is "$(status cron)|$(said | head -n 1)" "6|mserve-submit: 1 unchanged, 1 to do" "the next night sends that again"
head -n 3 half/long.txt >short && mv short half/long.txt
is "$(status cron)|$(status cron)|$(out)" "0|0|$work/half: nothing to do: 2 unchanged; no job was made" "until it is well"

# ---- what else may be

printf 'not \xff text' >half/image.txt
is "$(status cron)" 2 "a document that is none"
mv half whole
is "$(status cron)" 8 "a folder that is not there"
is "$(status mserve-nightly)|$(status mserve-nightly ../notes)|$(status mserve-nightly nobody)" "1|1|8" "names that are none"
echo "results=" >>"$MSERVE_NIGHTLY_DIR/half.conf"
is "$(status cron)" 1 "settings that lack something"
is "$(sql "select count(*) from mserve.jobs where state <> 'completed'")" 0 "no job is left over"

# ---- the units

if command -v systemd-analyze >/dev/null; then
    mkdir units
    for unit in "$tree"/deploy/systemd/mserve-*; do
        sed "s|/usr/bin/mserve-nightly|$tree/deploy/nightly/mserve-nightly|; s|/usr/bin/mserve-\([a-z]*\)|$(readlink -f "$MSERVE_BIN")/\1/mserve-\1|; s|/mserve-worker$|&|; s|/opt/mserve|$tree|" "$unit" |
            sed "s|/worker/mserve-worker|/consumer/mserve-worker|" >"units/${unit##*/}"
    done
    for unit in mserve-servers.service mserve-scheduler.service mserve-nightly@notes.service mserve-nightly@notes.timer; do
        is "$(systemd-analyze --man=no verify "units/$unit" 2>&1 | grep -F mserve-)" "" "systemd finds nothing wrong with $unit"
    done
    sed -i 's/^OnCalendar=.*/OnCalendar=never/' units/mserve-nightly@.timer
    like "$(systemd-analyze --man=no verify "units/mserve-nightly@notes.timer" 2>&1)" "never" "and would say so"
    ok "the time of the timer is one" systemd-analyze calendar "$(sed -n 's/^OnCalendar=//p' "$tree/deploy/systemd/mserve-nightly@.timer")"
else
    skip unit_files "systemd-analyze is not installed"
fi
done_testing
