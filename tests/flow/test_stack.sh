#!/usr/bin/env bash
# test_stack: a second stack beside the one that the tests run against starts, keeps its data
# through SIGKILL, and goes without a trace, and touches nothing of the first.
. "$(dirname "$0")/lib.sh"
second=$work/second
first_port=$PGPORT
second_stack() { MSERVE_STACK_DIR=$second stack "$@"; }
cleanup() { second_stack delete; }

# From here on psql and kcat speak to the second stack.
enter_second() {
    local exports
    exports=$(second_stack env) && eval "$exports"
}
processes_of() { pgrep -f "$second" | grep -vx $$; }
make_topic() {
    java -XX:TieredStopAtLevel=1 -cp "$("$tree/scripts/kafka-libs")/*" \
        org.apache.kafka.tools.TopicCommand --bootstrap-server "$MSERVE_KAFKA_BROKERS" \
        --create --topic "$1" --partitions 2 2>&1
}
produce() { # produce TOPIC LINE: and wait until the broker has it
    printf '%s\n' "$2" | kcat -q -P -b "$MSERVE_KAFKA_BROKERS" -p 0 -X acks=all -t "$1"
}
consume() { kcat -q -C -b "$MSERVE_KAFKA_BROKERS" -t "$1" -p 0 -o beginning -e; }
# The addresses on which a process listens, as the kernel writes them.
listening() { # listening PORT
    local hex
    hex=$(printf '%04X' "$1")
    awk -v port=":$hex" '$4 == "0A" && index($2, port) { sub(port, "", $2); print $2 }' \
        /proc/net/tcp /proc/net/tcp6 | sort -u | tr '\n' ' '
}

not_ok "there is no env before the first start" second_stack env
not_ok "nothing runs before the first start" second_stack status
ok "it starts beside another" second_stack start
ok "its status says that both run" second_stack status
enter_second
isnt "$PGPORT" "$first_port" "the two have ports of their own"
is "$(sql 'select current_user, current_database()')" "mserve|mserve" "psql comes in with the exports"
is "$(sql_admin 'select current_user')" postgres "the superuser comes in with the same passfile"
is "$(stat -c %a "$PGPASSFILE")" 600 "the passwords are for the owner's eyes"
not_ok "without a password nobody comes in" env PGPASSFILE=/dev/null psql -w -c 'select 1'
is "$(listening "$PGPORT")" "0100007F " "PostgreSQL listens on loopback only"
like "$(listening "${MSERVE_KAFKA_BROKERS#*:}")" '^(0000000000000000FFFF0000)?0100007F $' \
    "Kafka listens on loopback only"
ok "the owner of the database may create a role and drop it" \
    sql "create role ${test_name}_role; drop role ${test_name}_role"

before=$(second_stack status)
ok "starting it again is fine" second_stack start
is "$(second_stack status)" "$before" "and changes nothing"

ok "a topic can be made" make_topic kept
sql "create table kept (word text); insert into kept values ('still here')"
ok "a message is acknowledged" produce kept "still here"
ok "PostgreSQL can be killed" second_stack kill-postgres
not_ok "then nobody answers" sql 'select 1'
ok "Kafka can be killed" second_stack kill-kafka
is "$(second_stack status >/dev/null 2>&1; echo $?)" 3 "status says by its exit that something is down"
ok "they start again" second_stack start
is "$(sql 'select word from kept')" "still here" "a committed row survived"
is "$(consume kept)" "still here" "an acknowledged message survived"

ok "it stops" second_stack stop
is "$(processes_of)" "" "and leaves no process"
ok "one server can be started alone" second_stack start-postgres
ok "reset starts both" second_stack reset
enter_second
is "$(sql "select to_regclass('kept') is null")" t "with nothing in them"

# As scripts/quickstart starts it: its id lies with the data, and is gone with it.
MSERVE_POSTGRES_DSN="host=127.0.0.1 port=1 dbname=x" start scheduler "$MSERVE_BIN/scheduler/mserve-scheduler"
mkdir -p "$second/run"
pid_of scheduler >"$second/run/mserve-scheduler.pid"
ok "delete stops it" second_stack delete
await scheduler
is $? 0 "and what quickstart had started on it"
is "$(ls -d "$second" /var/lib/mserve-stack/* 2>/dev/null | grep -c "second\|$(
    printf %s "$second" | sha256sum | cut -c1-16)")" 0 "and leaves no file"
is "$(processes_of)" "" "and no process"

# ---- packages that are missing, and a person who may not install them

mkdir "$work/stubs"
stub() { printf '#!/bin/sh\n%s\n' "$2" >"$work/stubs/$1" && chmod +x "$work/stubs/$1"; }
stub id 'echo 1000'
stub dpkg-query 'exit 1'
stub sudo 'echo "sudo: no" >&2; exit 1'
said=$(PATH=$work/stubs:$PATH "$tree/scripts/install" build 2>&1)
is $? 1 "without root and with a sudo that refuses, install gives up"
like "${said##*$'\n'}" '^install: not root, and sudo did not help; as root: apt-get install .* gcc ' "and its last line is what to type"
done_testing
