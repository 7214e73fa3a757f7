#!/usr/bin/env bash
# Three brokers, three copies of everything, two of which must be written. One dies under load, the one
# that leads most partitions; it comes back, and another dies: nothing is lost, submitting and working
# go on all the while.
. "$(dirname "$0")/worker_lib.sh"
PATH=$MSERVE_BIN/tests/flow:$PATH

own() { MSERVE_STACK_DIR=$work/second MSERVE_STACK_BROKERS=3 stack "$@" 2>&1; }
cleanup() { own delete >/dev/null; }
said=$(own start-kafka) || bail "three brokers start" "$said"
MSERVE_KAFKA_BROKERS=$(own env | sed -n 's/^export MSERVE_KAFKA_BROKERS=//p' | tr -d '\\')
export MSERVE_KAFKA_BROKERS MSERVE_KAFKA_REPLICATION=3
fresh_database
fresh_topics
write_settings fixed_ns=20000000 pace=1 partitions=6 lease=4s renew=1s
export MSERVE_WORKER_REQUESTS_MAX=96 MSERVE_SUBMIT_CHUNK_LINES_MAX=16 MSERVE_SUBMIT_CHUNK_LINES_MIN=16
topic=$MSERVE_KAFKA_TOPIC_PREFIX.requests.sim
set_up

metadata() { kcat -q -L -m 5 -b "$MSERVE_KAFKA_BROKERS" -t "$topic" 2>/dev/null; }
all_lie_on_three() { metadata | grep -c 'replicas: [123],[123],[123], isrs: [123],[123],[123]' | grep -qx 6; }
ok "each partition lies on three brokers" wait_until 60 all_lie_on_three
# As Kafka's own tool says: what is set on the topic itself, whatever the brokers' defaults are.
kafka_topics() {
    java -XX:TieredStopAtLevel=1 -cp "$("$tree/scripts/kafka-libs")/*" org.apache.kafka.tools.TopicCommand \
        --bootstrap-server "$MSERVE_KAFKA_BROKERS" "$@" 2>/dev/null
}
have_copies() {
    [ "$(kafka_topics --describe --topic "$MSERVE_KAFKA_TOPIC_PREFIX[.].*" |
        grep -c "ReplicationFactor: 3.*min.insync.replicas=2.*unclean.leader.election.enable=false")" = 2 ]
}
ok "requests and dead letters have three copies, two of which must be written" wait_until 60 have_copies
loose=$MSERVE_KAFKA_TOPIC_PREFIX-loose
kafka_topics --create --topic "$loose.requests.sim" --partitions 6 --replication-factor 3 \
    --config min.insync.replicas=1 --config retention.ms=-1 >/dev/null
told_of() { grep -qE "warning +topic +the topic $loose.requests.sim may lose" <<<"$(MSERVE_KAFKA_TOPIC_PREFIX=$loose mserve doctor)"; }
ok "one that somebody made looser is told of" wait_until 60 told_of
find_leader() { # $leader: who leads most partitions
    leader=$(metadata | sed -n 's/.*partition [0-9]*, leader \([123]\),.*/\1/p' | sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }')
    [ -n "$leader" ]
}
more() { # more N: that many rows more than at the last call
    local now
    now=$(rows) && [ "$now" -ge $((${seen:-0} + $1)) ] && seen=$now
}
job_is() { sql "select 'batch_' || replace(job::text, '-', '') from mserve.jobs where idempotency_key = '$1'"; }

requests 1200 20 >"$work/load.jsonl"
ok "a job" mserve-submit -k load "$work/load.jsonl"
worker one
ok "is worked on" wait_until 60 more 32
# An upload that lasts: each time chunks are written down it rests a moment.
sql "create function public.linger() returns trigger language plpgsql as 'begin perform pg_sleep(0.4); return new; end';
     create trigger linger before insert on mserve.chunks for each statement execute function public.linger()"
requests 40000 1 10000 >"$work/large.jsonl"
MSERVE_SUBMIT_CHUNK_LINES_MAX=64 start upload mserve-submit -k large "$work/large.jsonl"
ok "another is on its way" wait_until 60 sql_is t "select count(*) > 0 from mserve.chunks join mserve.jobs using (job) where idempotency_key = 'large'"

wait_until 60 find_leader || bail "some broker leads"
first=$leader
own kill-kafka "$first" >/dev/null
has_moved() { metadata | grep -c "leader [123]" | grep -qx 6 && ! metadata | grep -q "leader $first,"; }
ok "broker $first, which led most, is dead, and others lead" wait_until 60 has_moved
seen=$(rows)
ok "work goes on" wait_until 60 more 64
requests 64 1 90000 >"$work/small.jsonl"
ok "a job submitted now is accepted" mserve-submit -k small "$work/small.jsonl"
await upload 90
is $? 0 "so is the one on its way"
said=$(own start-kafka "$first") || bail "the broker comes back" "$said"
in_sync() { metadata | grep -c 'isrs: [123],[123],[123]' | grep -qx 6; }
ok "and has all copies again" wait_until 60 in_sync

wait_until 60 find_leader || bail "some broker leads, again"
second=$leader
own kill-kafka "$second" >/dev/null
ok "broker $second dies, and the other two go on" wait_until 90 sql_is 1264 \
    "select count(*) from mserve.results join mserve.jobs using (job) where idempotency_key in ('load', 'small') and status = 'completed'"
for key in load large small; do
    like "$(log_check "$(job_is $key)" 2>/dev/null)" "^[0-9]+ chunks, [0-9]+ lines, " "$key lies in the log where the index says"
done
mserve cancel "$(job_is large)" >/dev/null
ok "the rest is cancelled" wait_until 60 all_done
ok "each line once, none beside" whole
is "$(sql "select count(*) from mserve.chunks where missing")|$(sql "select count(*) from mserve.workers")" "0|1" "nothing was taken for missing, and the worker stayed"
stop one 30
is $? 0 "the worker leaves in good order"
is "$(unexplained)" "0|0|0|0" "the books add up"
done_testing
