# failpoints_lib.sh: one case is a point and an action: a program is struck there while a small job is
# under way, somebody goes on, and at the end the job's rows are those of an undisturbed run. Source
# after worker_lib.sh. Cases run side by side in lanes: subshells, each with a tier of its own.
# shellcheck shell=bash

points=(job.inserted produced chunk.row sealed registered claim.sent claim.acked range.read step
    row.updated partitions.locked copied commit.sent acked renewal checkpoint drain burial
    deltas.deleted fold.committed)
actions=(kill stop abort sleep error timeout)
case_lines=48
lease_s=1

program_of() { # program_of POINT
    case $1 in
    job.inserted | produced | chunk.row | sealed) echo submit ;;
    deltas.deleted | fold.committed) echo scheduler ;;
    *) echo worker ;;
    esac
}

# The hit that is struck: what happens often is struck in the middle of the work. In later rounds of
# the long form it is any of the first few.
hit_of() { # hit_of POINT ROUND
    local usual=1 often=1
    case $1 in
    step) usual=5 often=12 ;;
    row.updated | partitions.locked | copied | commit.sent | acked | checkpoint) usual=2 often=3 ;;
    renewal | range.read) often=2 ;;
    esac
    if [ "$2" = 0 ]; then echo $usual; else echo $((1 + RANDOM % often)); fi
}

rule_of() { # rule_of POINT ACTION ROUND
    local action=$2
    [ "$2" != sleep ] || action="sleep($((lease_s * 1000 + 300)))"
    echo "$1=$action@$(hit_of "$1" "$3")"
}

# What the struck program may end with, once it is asked to end where it does not end by itself. Of a
# worker the child with the device may be struck, which its parent starts again. A worker whose device failed, or whose burial of itself is in doubt, says so (docs/reliability.md).
status_of() { # status_of POINT ACTION
    case $(program_of "$1").$2 in
    worker.kill) echo '0|137' ;;
    worker.abort) echo '0|134' ;;
    *.kill) echo 137 ;;
    *.abort) echo 134 ;;
    *.stop | *.sleep) echo 0 ;;
    *) case $1 in
        produced) echo '3|75' ;;
        step) echo 11 ;;
        burial) echo '0|3|75' ;;
        *) echo 0 ;;
        esac ;;
    esac
}

# ---- of one case, in a lane

give_up() { # give_up WHY
    why=$1
    return 1
}

has_struck() { grep -q " $point [0-9]* $action\$" "$dir/hits" 2>/dev/null; }
struck_pid() { awk -v p="$point" -v a="$action" '$4 == p && $6 == a { print $2; exit }' "$dir/hits"; }
is_stopped() { grep -q '^State:[[:space:]]*T' "/proc/$(struck_pid)/status" 2>/dev/null; }
is_gone() { ! kill -0 "$1" 2>/dev/null || grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; }

launch() { # launch LOG PROGRAM...: $launched
    local log=$dir/$1
    shift
    "$@" </dev/null >>"$log" 2>&1 &
    launched=$!
    running+=("$launched")
}

launch_struck() { # launch_struck LOG PROGRAM...
    launch "$1" env MSERVE_FAILPOINTS="$rule" MSERVE_FAILPOINTS_LOG="$dir/hits" "${@:2}"
}

# TERM where it still runs and was not told yet; its status must be one of those allowed.
ends_with() { # ends_with PID STATUS WHO
    local status
    [ "$1" = "${told:-}" ] || kill -TERM "$1" 2>/dev/null
    wait_until 30 is_gone "$1" || give_up "$3 does not end" || return
    wait "$1" 2>/dev/null
    status=$?
    [[ $status =~ ^($2)$ ]] || give_up "$3 ended with $status, not $2"
}

# After the strike: what was stopped goes on only when others have done without it.
wake_up() { [ "$action" != stop ] || kill -CONT "$(struck_pid)"; }

job_rows() { sql "select count(*) from mserve.results r join mserve.jobs j using (job) where j.idempotency_key = '$key'"; }
job_has_rows() { [ "$(job_rows)" -ge "$1" ]; }

# The rows of a job as they must be: one for each line, completed, and the words of the reference.
rows_digest() { # rows_digest KEY
    sql "select count(*), count(distinct line), md5(string_agg(line || custom_id || status
           || (response->'choices')::text || (response->'usage'->'completion_tokens')::text, ',' order by line))
         from mserve.results r join mserve.jobs j using (job) where j.idempotency_key = '$1'"
}
rows_are_right() {
    local digest
    digest=$(rows_digest "$key")
    [ "$digest" = "$reference" ] || give_up "the rows are $digest, not $reference"
}

submit_job() {
    mserve-submit --idempotency-key "$key" --tier "$lane" "$work/$lane.jsonl" >>"$dir/submit.log" 2>&1 ||
        give_up "the job was not submitted"
}

is_done_or_struck() { has_struck || job_has_rows $case_lines; }

worker_case() {
    local struck other
    submit_job || return
    launch_struck a.log mserve-worker --tier "$lane" --name "a-$case"
    struck=$launched
    if [ "$point" = drain ]; then
        wait_until 20 job_has_rows 1 || give_up "no row came" || return
        kill -TERM "$struck"
        told=$struck
    elif [ "$point" = burial ]; then
        # It may be struck before, when it buries the worker of a case beside this one.
        wait_until 20 is_done_or_struck || give_up "the rows did not come" || return
        if ! has_struck; then
            kill -TERM "$struck"
            told=$struck
        fi
    fi
    wait_until 20 has_struck || give_up "it was not struck" || return
    [ "$action" != stop ] || wait_until 5 is_stopped || give_up "it did not stop" || return
    launch b.log mserve-worker --tier "$lane" --name "b-$case"
    other=$launched
    wait_until 60 job_has_rows $case_lines || give_up "rows are missing: $(job_rows)" || return
    wake_up
    wait_until 20 grep -q event=worker.registered "$dir/b.log" || give_up "nobody went on" || return
    ends_with "$struck" "$(status_of "$point" "$action")" "the worker that was struck" &&
        ends_with "$other" 0 "the worker that went on" && rows_are_right
}

submit_case() {
    local struck
    launch_struck a.log mserve-submit --idempotency-key "$key" --tier "$lane" "$work/$lane.jsonl"
    struck=$launched
    wait_until 20 has_struck || give_up "it was not struck" || return
    if [ "$action" = stop ]; then
        wait_until 5 is_stopped || give_up "it did not stop" || return
        wake_up
    fi
    wait_until 30 is_gone "$struck" || give_up "the submitter does not end" || return
    wait "$struck" 2>/dev/null
    local status=$?
    [[ $status =~ ^($(status_of "$point" "$action"))$ ]] || give_up "it ended with $status" || return
    submit_job || return
    [ "$(sql "select count(*), min(lines) from mserve.jobs where idempotency_key = '$key'")" = "1|$case_lines" ] ||
        give_up "the job is not there once, and whole" || return
    launch b.log mserve-worker --tier "$lane" --name "b-$case"
    wait_until 60 job_has_rows $case_lines || give_up "rows are missing: $(job_rows)" || return
    ends_with "$launched" 0 "the worker" && rows_are_right
}

# On a database of its own, for only one scheduler is active: a sealed job of 3 lines that is cancelled
# gives it deltas to fold and rows to write.
job_is() { sql_is "$1" "select state from mserve.jobs where idempotency_key = '$key'"; }
scheduler_case() {
    local struck
    sql "with j as (select job from mserve.job_open('$key', '\x00', 'in', '/v1/completions', 't', null, 't', 1,
             16, 1000, '24h', 86400000, null, 0)),
           c as (select mserve.job_add_chunks(job, '{0}', '{0}', '{3}', '{0}', '{0}', '{2}', '{9}',
             array['\x00'::bytea], array['none'::bytea], '{3}') from j)
         select count(*) from c" >/dev/null
    sql "select mserve.job_seal(job, 1, 3, 0), mserve.job_cancel(job) from mserve.jobs
         where idempotency_key = '$key'" >/dev/null
    launch_struck a.log mserve-scheduler
    struck=$launched
    wait_until 20 has_struck || give_up "it was not struck" || return
    [ "$action" != stop ] || wait_until 5 is_stopped || give_up "it did not stop" || return
    launch b.log mserve-scheduler
    wait_until 30 job_is cancelled || give_up "the job does not end" || return
    # The first may have done it alone; before it began the other would just be ended by a signal.
    wait_until 20 grep -q event=scheduler.started "$dir/b.log" || give_up "nobody went on" || return
    wake_up
    ends_with "$struck" "$(status_of "$point" "$action")" "the scheduler that was struck" &&
        ends_with "$launched" 0 "the other" || return
    [ "$(job_rows)" = 3 ] || give_up "$(job_rows) rows, not 3"
}

# Inside a function of the server: the server itself said that it was there.
was_inside() {
    case $point in
    row.updated | partitions.locked | deltas.deleted)
        grep -q "event=failpoint.\(inside\|raised\) point=$point\$" "$dir/a.log" ||
            give_up "the server was not at the point"
        ;;
    esac
}

run_case() { # run_case POINT ACTION ROUND: writes a line into $work/outcomes
    point=$1 action=$2 case=$1.$2.$3 key=$1.$2.$3 dir=$work/$1.$2.$3 why='' told='' running=()
    local begin=$SECONDS
    mkdir "$dir"
    rule=$(rule_of "$1" "$2" "$3")
    if "$(program_of "$1")_case" && was_inside; then
        echo "$1 $2 ok $((SECONDS - begin)) $rule" >>"$work/outcomes"
    else
        echo "$1 $2 failed $((SECONDS - begin)) $rule: $why" >>"$work/outcomes"
        for log in "$dir"/*.log; do sed "s|^|$case ${log##*/}: |" "$log" | tail -n 12; done >>"$work/failed.log"
    fi
    for pid in "${running[@]}"; do is_gone "$pid" || kill -KILL "$pid"; done 2>/dev/null
    wait
}

next_case() { # next_case FILE: takes its first line
    local line
    exec 8>>"$1.lock"
    flock 8
    line=$(head -n 1 "$1")
    sed -i 1d "$1"
    exec 8>&-
    [ -n "$line" ] && echo "$line"
}

run_lane() { # run_lane NAME FILE
    local line
    lane=$1
    trap '' INT
    trap 'kill -KILL "${running[@]}" 2>/dev/null; exit 143' TERM
    while line=$(next_case "$2"); do
        # shellcheck disable=SC2086
        run_case $line
    done
}
