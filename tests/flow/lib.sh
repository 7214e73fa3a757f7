# lib.sh: what the flow tests in shell have in common. A test is a file test_<what>.sh that sources
# this one, says its cases, and prints TAP; tests/flow/run runs it with a stack beside it.
#
#   . "$(dirname "$0")/lib.sh"
#   fresh_database; fresh_topics
#   start worker mserve-worker --tier demo
#   ok "the worker registers" wait_until 10 sql_is 1 "select count(*) from mserve.workers"
#   kill_hard worker
#   done_testing
#
# $work is the test's own folder; it goes at the end, as do all programs that `start` started and
# all databases that fresh_database made. When a case failed, the ends of the programs' logs are
# printed. Programs are found in MSERVE_BIN, the build folder.
# shellcheck shell=bash
set -uo pipefail

tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
test_name=$(basename "$0" .sh)
: "${MSERVE_POSTGRES_DSN:?is not set: run tests/flow/run}" "${MSERVE_KAFKA_BROKERS:?is not set}"
: "${MSERVE_BIN:=$tree/build}"
# psql itself: the one in /usr/bin is a script that looks for it, each time.
PATH=$MSERVE_BIN/producer:$MSERVE_BIN/consumer:$MSERVE_BIN/scheduler:/usr/lib/postgresql/15/bin:$PATH
export PATH MSERVE_BIN
export MSERVE_WORKER_GUARD=off # a worker is one process that can be killed; test_worker_guard.sh turns it on
work=$(mktemp -d)
server_dsn=$MSERVE_POSTGRES_DSN
cases=0 failed=0
declare -A pids=()   # of the programs that `start` started, by name
declare -a databases=()

# ---------------------------------------------------------------- saying what is so

pass() { cases=$((cases + 1)); echo "ok $cases - $1"; }

fail() { # fail NAME [WHY]...: each WHY is a line
    cases=$((cases + 1)) failed=$((failed + 1))
    echo "not ok $cases - $1"
    shift
    [ $# = 0 ] || printf '%s\n' "$@" | sed 's/^/#   /'
}

ok() { # ok NAME COMMAND...: the command succeeds
    local name=$1 said
    shift
    if said=$("$@" 2>&1); then pass "$name"; else fail "$name" "$* failed" "$said"; fi
}

not_ok() { # not_ok NAME COMMAND...: the command fails
    local name=$1 said
    shift
    if said=$("$@" 2>&1); then fail "$name" "$* succeeded" "$said"; else pass "$name"; fi
}

is() { # is ACTUAL EXPECTED NAME
    if [ "$1" = "$2" ]; then pass "$3"; else fail "$3" "is       '$1'" "expected '$2'"; fi
}

isnt() { # isnt ACTUAL UNEXPECTED NAME
    if [ "$1" != "$2" ]; then pass "$3"; else fail "$3" "is '$1'"; fi
}

like() { # like ACTUAL REGEX NAME: an extended regular expression
    if [[ $1 =~ $2 ]]; then pass "$3"; else fail "$3" "is '$1'" "does not match '$2'"; fi
}

# Only for what this machine lacks; tests/skips must list test_<what>/<name_of_the_case>.
skip() { # skip NAME REASON
    cases=$((cases + 1))
    echo "ok $cases - $1 # SKIP $2"
}

note() { printf '# %s\n' "$@"; }

# The last line of every test: one that ends before it has failed.
done_testing() {
    echo "1..$cases"
    exit $((failed > 0))
}

# Gives up the whole test: what follows would be meaningless.
bail() {
    fail "$@"
    done_testing
}

# Tries a command every 50 ms until it succeeds; fails after so many seconds. Whoever waits for ten gets
# thirty: a machine that is busy with something else is no failure.
wait_until() { # wait_until SECONDS COMMAND...
    local end=$((SECONDS + ($1 < 10 || $1 > 30 ? $1 : 30)))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}

# ---------------------------------------------------------------- programs

start() { # start NAME PROGRAM ARGUMENT...: in the background; its log is $work/NAME.log
    local name=$1
    shift
    ! is_running "$name" || bail "start $name" "it runs already"
    "$@" </dev/null >>"$work/$name.log" 2>&1 &
    pids[$name]=$!
}

log_of() { cat "$work/$1.log"; }
pid_of() { echo "${pids[$1]}"; }

is_running() {
    [ -n "${pids[$1]:-}" ] && kill -0 "${pids[$1]}" 2>/dev/null &&
        ! grep -q '^State:[[:space:]]*Z' "/proc/${pids[$1]}/status" 2>/dev/null
}

has_ended() { ! is_running "$1"; }

# The exit status of a program that ended or is about to; 124 when it does not end in time.
await() { # await NAME [SECONDS]
    if ! wait_until "${2:-30}" has_ended "$1"; then return 124; fi
    wait "${pids[$1]}" 2>/dev/null
}

stop() { # stop NAME [SECONDS]: SIGTERM; returns the exit status
    kill -TERM "${pids[$1]}" 2>/dev/null
    await "$@"
}

kill_hard() { # kill_hard NAME...: SIGKILL
    local name
    for name; do
        kill -KILL "${pids[$name]}" 2>/dev/null
        wait "${pids[$name]}" 2>/dev/null
    done
    return 0
}

freeze() { kill -STOP "${pids[$1]}"; }
thaw() { kill -CONT "${pids[$1]}"; }

# ---------------------------------------------------------------- database and broker

sql() { # sql STATEMENT: its rows, columns divided by |, or psql's error
    psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$MSERVE_POSTGRES_DSN" -c "$1"
}

# As the superuser of scripts/stack, on the test's database.
sql_admin() { psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$MSERVE_POSTGRES_DSN user=postgres" -c "$1"; }

sql_is() { [ "$(sql "$2" 2>/dev/null)" = "$1" ]; } # sql_is EXPECTED STATEMENT

# Makes an empty database; the programs and `sql` use it from here on.
fresh_database() {
    local name=${test_name}_$$_${#databases[@]}
    case $server_dsn in postgres*://*) bail "fresh_database" "the DSN is a URI, not key = value" ;; esac
    psql -X -q -d "$server_dsn" -c "create database $name" || bail "fresh_database"
    databases+=("$name")
    export MSERVE_POSTGRES_DSN="$server_dsn dbname=$name" PGDATABASE=$name
}

# Names topics that no other test uses.
fresh_topics() {
    fresh_topics_count=$((${fresh_topics_count:-0} + 1))
    export MSERVE_KAFKA_TOPIC_PREFIX=$test_name-$$-$fresh_topics_count
}

# scripts/stack on the servers that this test runs against.
stack() { "$tree/scripts/stack" "$@"; }

# ---------------------------------------------------------------- the end

show_logs() {
    local log
    for log in "$work"/*.log; do
        [ -f "$log" ] || continue
        note "the end of ${log##*/}:"
        tail -n 30 "$log" | sed 's/^/#   /'
    done
}

finish() {
    local status=$? name
    trap - EXIT
    for name in "${!pids[@]}"; do
        kill_hard "$name"
    done
    [ $status = 0 ] || show_logs
    for name in "${databases[@]}"; do
        # Again where an autovacuum worker is in it, a superuser's, whom the tests' role may not end.
        for _ in {1..20}; do
            psql -X -q -d "$server_dsn" -c "drop database if exists $name with (force)" 2>/dev/null && break
            sleep 0.2
        done
    done
    ! declare -F cleanup >/dev/null || cleanup # a test's own
    rm -rf "$work"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM
