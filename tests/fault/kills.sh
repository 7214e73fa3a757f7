# kills.sh: where the campaign strikes: at random, inside a step of the device, or inside a commit; and
# the proof that it struck there. Source after worker_lib.sh. A worker's processes are one group, led by
# the program that was started, and SIGKILL is for all of them. Who sources this may have an
# `after_strike NAME WHERE`, called when they are gone, at $struck_at.
# shellcheck shell=bash

pause() { sleep "$(awk -v a="$1" -v b="$2" -v r=$RANDOM 'BEGIN { print a + (b - a) * r / 32768 }')"; } # pause MIN MAX

# Some rows are there and some are not: only then a kill counts.
in_the_middle() {
    [ "$(sql "select bool_or(done_count > 0) and bool_or(done_count < lines) from mserve.chunks")" = t ]
}

count() { struck[$1]=$((${struck[$1]:-0} + 1)); }
count_kill() {
    count "$1"
    kills=$((kills + 1))
}

strike() { # strike NAME WHERE: at once; who calls it has just seen that in_the_middle
    is_running "$1" || return 1
    kill -KILL -- "-${pids[$1]}"
    struck_at=$EPOCHREALTIME
    wait "${pids[$1]}" 2>/dev/null
    unset "leaving[$1]" "frozen_since[$1]" # whatever it was at
    count_kill "$2"
    ! declare -F after_strike >/dev/null || after_strike "$1" "$2"
}

# The device thread sleeps out the time that its step takes on the simulated clock; a model keeps it busy.
is_in_step() { # is_in_step GROUP
    local task
    for task in $(pgrep -g "$1" | sed 's|.*|/proc/&/task/*|'); do
        [ "$(cat "$task/comm" 2>/dev/null)" = device ] || continue
        case ${model:-sim}/$(cat "$task/syscall" 2>/dev/null) in
        sim/230\ * | demo/running) return 0 ;; # 230 is clock_nanosleep
        esac
    done
    return 1
}

strike_in_step() { # strike_in_step NAME
    pause 0.1 0.5
    ready_to_strike "$1" && wait_until 5 is_in_step "$(pid_of "$1")" && strike "$1" step
}

# Another session holds what a commit needs at its end, so that the commit can be met inside. When it
# lets go, the server goes on by itself: the commit is done and nobody hears of it.
strike_in_commit() {
    local name=''
    coproc holder { psql -X -q -d "$MSERVE_POSTGRES_DSN" 2>/dev/null; }
    local holder_pid=$holder_PID in=${holder[1]}
    echo "begin; lock table mserve.job_deltas in share mode; select pg_sleep(0);" >&"$in"
    wait_until 3 sql_is 1 "select count(*) from pg_locks where relation = 'mserve.job_deltas'::regclass and mode = 'ShareLock' and granted"
    wait_until 3 blocked_commit
    in_the_middle && name=$(blocked_name)
    local done=1
    if [ -n "$name" ]; then strike "$name" commit && done=0; fi
    echo "rollback;" >&"$in"
    exec {in}>&-
    wait "$holder_pid" 2>/dev/null
    victim=$name
    return $done
}

blocked_name() {
    sql "select split_part(application_name, ' ', 2) from pg_stat_activity
         where datname = current_database() and application_name like 'mserve-worker % commit'
           and wait_event_type = 'Lock' limit 1"
}
blocked_commit() { [ -n "$(blocked_name)" ]; }
