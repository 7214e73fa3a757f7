#!/usr/bin/env bash
# Leases: a worker that was stopped past its lease changes nothing when it wakes; partitions are
# shared, and those of a dead worker change hands after its lease.
. "$(dirname "$0")/worker_lib.sh"

fresh_database
fresh_topics
write_settings fixed_ns=5000000 pace=1 lease=4s

held_by() { sql "select count(*) from mserve.partitions p join mserve.workers w on w.worker = p.owner
                 where w.name = '$1' and w.closed_at is null"; }
shares() { # shares NAME...: how many each holds, sorted
    local name
    for name; do held_by "$name"; done | sort -n | paste -sd' '
}
shares_are() { [ "$(shares "${@:2}")" = "$1" ]; }

# ---- shares
feed 3000 300 16 8 >/dev/null 2>&1
worker one
ok "a worker alone holds all partitions" wait_until 60 shares_are 8 one
worker two
ok "two share them" wait_until 60 shares_are "4 4" one two
worker three
ok "a third gets its share" wait_until 60 shares_are "2 3 3" one two three
kill_hard two
ok "a dead worker's share goes to the others" wait_until 60 shares_are "4 4" one three
is "$(sql "select closed_why from mserve.workers where name = 'two'")" lease_ran_out "it was buried"
is "$(unexplained)" "0|0|0|0" "and its books were closed"
stop three 60
is $? 0 "one leaves in good order"
ok "and the other holds all, at once" wait_until 60 shares_are 8 one

# ---- stopped past the lease, and woken
feed 2000 300 16 8 >/dev/null 2>&1
wait_until 60 sql_is 1 "select (wip_ns > 0)::int from mserve.workers where name = 'one' and closed_at is null"
freeze one
worker four
ok "a worker stopped past its lease is replaced" wait_until 60 shares_are 8 four
stop four 60
before=$(sql "select md5(string_agg(r::text, '' order by job, line)) from mserve.results r")
ledger=$(sql "select worker, count(*), max(seq) from mserve.worker_ledger group by 1 order by 1")
frozen=$(sql "select worker from mserve.workers where name = 'one'")
thaw one
ok "when it wakes it says that its lease was lost" wait_until 60 grep -q event=lease.lost "$work/one.log"
ok "and registers anew under a new id" wait_until 60 sql_is 1 \
    "select count(*) from mserve.workers where name = 'one' and closed_at is null and worker <> '$frozen'"
is "$(sql "select count(*) from mserve.results r join mserve.workers w using (worker)
           where w.worker = '$frozen' and r.finished_at > w.closed_at")" 0 "the buried one wrote no row"
is "$(sql "select md5(string_agg(r::text, '' order by job, line)) from mserve.results r
           where r.worker is distinct from (select worker from mserve.workers where name = 'one' and closed_at is null)")" \
    "$before" "no row that was there changed"
is "$(sql "select worker, count(*), max(seq) from mserve.worker_ledger
           where worker in (select worker from mserve.workers where closed_at is not null) group by 1 order by 1")" \
    "$ledger" "nor did a book that was closed"
ok "under its new id it finishes the job" wait_until 60 all_done
ok "each line once, none beside" whole
stop one 60
is $? 0 "and leaves in good order"
is "$(unexplained)" "0|0|0|0" "the books add up"

# ---- a step that takes three leases: who would bury is there, and the work is done all the same
write_settings fixed_ns=6000000000 pace=1 renew=200ms
start scheduler mserve-scheduler
feed 4 20 1 8 >/dev/null 2>&1
worker slow
ok "requests whose step takes three leases are done" wait_until 120 all_done
kill_hard slow scheduler

# ---- a device that hangs: the process lives and its other threads run, and after a while nothing
# renews its lease
write_settings fixed_ns=600000000000 pace=1 hung=8s
feed 40 300 4 8 >/dev/null 2>&1
worker hung
ok "it holds all partitions" wait_until 60 shares_are 8 hung
ok "its lease is renewed for a while" wait_until 60 sql_is t \
    "select lease_until > registered_at + interval '5 s' from mserve.workers where name = 'hung'"
write_settings fixed_ns=5000000 pace=1
worker sound
ok "then it runs out, and another takes over" wait_until 60 shares_are 8 sound
ok "it said so itself" grep -q event=device.stuck "$work/hung.log"
ok "and its work is done by the other" wait_until 60 all_done
ok "each line once, none beside, after that" whole
kill_hard hung
stop sound 60
is "$(unexplained)" "0|0|0|0" "the books add up after that"
done_testing
