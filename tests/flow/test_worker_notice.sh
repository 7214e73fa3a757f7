#!/usr/bin/env bash
# Notices that a machine goes away, from each of those who give them: the worker leaves in time, with
# status 0, everything committed, nothing lost; and what is no notice, or not for it, moves nobody.
. "$(dirname "$0")/worker_lib.sh"

fresh_database
fresh_topics
write_settings fixed_ns=10000000 pace=1 drain=12s lease=10s renew=1s # nobody is taken for dead
set_up
requests 6000 30 >"$work/input.jsonl" # each runs for 0.3 s
ok "a job in many chunks" mserve-submit --tier sim "$work/input.jsonl"

says=$work/says
mkdir "$says"
start metadata "$tree/tests/flow/metadata.py" "$says"
ok "the metadata services answer" wait_until 30 [ -s "$says/port" ]
port=$(cat "$says/port")
# No proxy of the environment is between a worker and its machine's metadata.
export http_proxy=http://127.0.0.1:1 HTTP_PROXY=http://127.0.0.1:1 all_proxy=http://127.0.0.1:1
for cloud in aws gcp azure; do export "MSERVE_WORKER_NOTICE_${cloud^^}_URL=http://127.0.0.1:$port"; done
export MSERVE_WORKER_NOTICE_INTERVAL=100ms

say() { printf '%s' "$2" >"$says/$1.new" && mv "$says/$1.new" "$says/$1"; } # say WHAT BODY
in_s() { date -u -d "+$1 seconds" "+$2"; }                                 # in_s SECONDS FORMAT
listens() { start "$1" env MSERVE_WORKER_NOTICES="$2" "${@:3}" mserve-worker --name "$1"; } # listens NAME SOURCE...
is_watching() { grep -q "event=notice.watched source=$2 what=$3" "$work/$1.log"; }
is_at_work() { sql_is t "select coalesce(bool_or(wip_ns > 0), false) from mserve.workers where name = '$1' and closed_at is null"; }
asked() { grep -c "$1" "$says/log"; }
told() { grep event=drain.done "$work/$1.log" | grep -oE "$2=[0-9a-z]*" | cut -d= -f2; } # told NAME KEY
leaves() { # leaves NAME NOTICE: in the time that it had
    await "$1" 40
    is $? 0 "$2: it leaves with status 0"
    is "$(told "$1" why) $(told "$1" kept)" "preempted 0" "$2: as one that is preempted, having finished what ran"
    ok "$2: in time" [ "$(told "$1" left_ms)" -gt 0 ]
}

# ---- all at work, and nobody says anything that concerns them
listens aws aws
listens gcp gcp
listens upkeep gcp
listens azure azure
listens file file MSERVE_WORKER_NOTICE_FILE="$work/leave"
listens balance aws MSERVE_WORKER_NOTICE_REBALANCE=true
listens deaf aws,azure,gcp MSERVE_WORKER_NOTICE_{AWS,GCP,AZURE}_URL=http://127.0.0.1:1
for name in aws gcp upkeep azure file balance deaf; do
    ok "$name is at work" wait_until 30 is_at_work $name
done
for watch in aws:aws:instance-action gcp:gcp:preempted gcp:gcp:maintenance-event azure:azure:scheduledevents; do
    # shellcheck disable=SC2086
    ok "heard of: $watch" wait_until 30 is_watching ${watch//:/ }
done
ok "a token that has run out is asked for anew" wait_until 30 eval '[ "$(asked "PUT /latest/api/token 200")" -ge 4 ]'
isnt "$(asked 'instance-action 401')" 0 "after a question with the old one"
say events '{"DocumentIncarnation":2,"Events":[{"EventId":"not-me","EventType":"Preempt","Resources":["this-vm_70"],"EventStatus":"Scheduled","NotBefore":""},
  {"EventId":"pause","EventType":"Freeze","Resources":["this-vm_7"],"EventStatus":"Scheduled","NotBefore":""}]}'
say maintenance MIGRATE_ON_HOST_MAINTENANCE
say rebalance "{\"noticeTime\":\"$(in_s 0 %FT%TZ)\"}"
leaves balance "rebalance, where it was asked for"
before=$(asked 'scheduledevents.* 200')
wait_until 30 eval '[ "$(asked "scheduledevents.* 200")" -gt $((before + 3)) ]'
is "$(sql "select count(*) from mserve.workers where draining and name <> 'balance'")" 0 "nobody else has left for any of this"
is "$(cat "$work"/{aws,gcp,upkeep,azure,file}.log | grep -cE 'notice.(given|failing|absent)')" 0 "nor said a word of it"
wait_until 30 eval '[ "$(grep -c event=notice.absent "$work/deaf.log")" -ge 4 ]'
is "$(grep -c event=notice.absent "$work/deaf.log")" 4 "services that are not there are said to be absent, once each"

# ---- what is no answer: said once, and nothing else
for how in rubbish huge moved refused; do
    times=$(grep -c notice.failing "$work/aws.log")
    say sick $how
    ok "an answer that is none ($how) is warned of" wait_until 30 eval '[ "$(grep -c notice.failing "$work/aws.log")" -gt "$times" ]'
    rm "$says/sick"
    ok "and it is back" wait_until 30 eval '[ "$(grep -c notice.back "$work/aws.log")" -gt "$times" ]'
done
is "$(asked 'GET /trap')" 0 "no redirect was followed"

# ---- and then they all go
say action "{\"action\":\"terminate\",\"time\":\"$(in_s 14 %FT%TZ)\"}"
say preempted TRUE
say events "{\"DocumentIncarnation\":3,\"Events\":[{\"EventId\":\"602D9444-D2CD\",\"EventType\":\"Preempt\",\"ResourceType\":\"VirtualMachine\",
  \"Resources\":[\"other\",\"this-vm_7\"],\"EventStatus\":\"Scheduled\",\"NotBefore\":\"$(LC_ALL=C in_s 14 '%a, %d %b %Y %T GMT')\"}]}"
echo 14s >"$work/leave"
leaves aws "aws: terminate"
leaves gcp "gcp: preempted"
leaves upkeep "gcp, another"
leaves azure "azure: preempt"
leaves file "the file"
like "$(grep -n -oE 'event=(worker.buried|notice.acknowledged|drain.done)' "$work/azure.log" | cut -d: -f2 | paste -sd' ')" \
    "worker.buried event=notice.acknowledged event=drain.done" "azure hears of it when all is committed"
is "$(asked 'POST /metadata/scheduledevents.* 200 {"StartRequests":\[{"EventId":"602D9444-D2CD"}\]}')" 1 "by the name of its event"
is "$(sql "select count(distinct name) from mserve.workers where drain_why = 'preempted' and drain_by > registered_at and closed_why = 'drained'")" \
    6 "the rows say why and by when"

# ---- maintenance, and a machine that is gone already
rm "$says"/{preempted,events,action,rebalance} "$work/leave"
say maintenance NONE
listens again gcp
ok "another comes" wait_until 30 grep -q event=worker.registered "$work/again.log"
say maintenance TERMINATE_ON_HOST_MAINTENANCE
leaves again "gcp: maintenance that terminates"
is "$(sql "select sum(lost_ns) from mserve.worker_ledger")" 0 "nothing that ran was lost so far"
echo 0s >"$work/leave"
listens late file MSERVE_WORKER_NOTICE_FILE="$work/leave"
await late 30
is $? 0 "with no time left it leaves with status 0 as well"
is "$(sql "select count(*) from mserve.workers where name = 'late' and closed_at is null")" 0 "and holds nothing"
write_settings fixed_ns=100000
stop deaf 30
is $? 0 "the deaf one hears of signals"
worker last
ok "all requests get their rows" wait_until 100 all_done
ok "each line once, none beside" whole
is "$(unexplained)" "0|0|0|0" "the books add up"
done_testing
