#!/usr/bin/env bash
# The guard: a worker that dies is buried at once by its parent process, with what it was at, and
# started again; what its end proves, and what it does not.
. "$(dirname "$0")/worker_lib.sh"
export MSERVE_WORKER_GUARD=on

fresh_database
fresh_topics
write_settings fixed_ns=5000000 pace=1 lease=30s renew=10s

child_of() { pgrep -P "$(pid_of "$1")"; }
closed() { sql "select closed_why from mserve.workers where name = '$1' order by registered_at limit 1 offset ${2:-0}"; }
works() { sql_is t "select wip_ns > 0 from mserve.workers where name = '$1' and closed_at is null"; }
accused() { sql "select count(*) from mserve.suspects"; }

# ---- killed by somebody: buried at once, not after its lease of 30 s, and it accuses nobody
feed 2000 300 200 1 >/dev/null 2>&1 # more than all of them do until the last one hurries
worker one
ok "it works" wait_until 30 works one
first=$(sql "select worker from mserve.workers where name = 'one'")
kill -KILL "$(child_of one)"
ok "a child that was killed is buried at once" wait_until 10 sql_is killed \
    "select closed_why from mserve.workers where worker = '$first'"
ok "and another takes its place" wait_until 20 works one
ok "the guard was there all the time" is_running one
is "$(accused)" 0 "a kill from outside accuses nobody"
isnt "$(sql "select count(*) from mserve.attempts where worker = '$first' and why = 'vanished' and not estimated
             and line is not null and gpu_ns > 0")" 0 "what it had under way is known to the request"
is "$(unexplained)" "0|0|0|0" "and its books are closed, to the nanosecond"
ok "the view says so too" ledger_is_balanced

# ---- a crash of its own, in the thread of the device or not
second=$(sql "select worker from mserve.workers where name = 'one' and closed_at is null")
kill -SEGV "$(child_of one)"
ok "a signal that somebody sent is no crash" wait_until 10 sql_is killed \
    "select closed_why from mserve.workers where worker = '$second'"
is "$(accused)" 0 "and accuses nobody"

# ---- leaving in good order
ok "it works again" wait_until 20 works one
stop one 60
is $? 0 "SIGTERM to the guard lets the worker leave in good order"
is "$(sql "select closed_why from mserve.workers order by registered_at desc limit 1")" drained "its row says so"
is "$(accused)" 0 "a drain accuses nobody"

# ---- the guard itself is killed: the child leaves by itself
worker two
ok "another one works" wait_until 20 works two
child=$(child_of two)
kill -KILL "$(pid_of two)"
ok "a child whose guard is gone leaves in good order" wait_until 20 sql_is drained \
    "select closed_why from mserve.workers where name = 'two'"
ok "and is gone" wait_until 20 eval "! kill -0 $child 2>/dev/null"

# ---- both are killed: the lease runs out, and that accuses nobody
write_settings fixed_ns=5000000 pace=1 lease=2s renew=500ms
worker three
ok "a third works" wait_until 20 works three
child=$(child_of three)
kill -STOP "$(pid_of three)" && kill -KILL "$child" && kill -KILL "$(pid_of three)"
write_settings lease=2s renew=500ms # no pace
worker four
ok "the others bury one whose guard was killed too" wait_until 30 sql_is lease_ran_out \
    "select closed_why from mserve.workers where name = 'three'"
is "$(accused)" 0 "and accuse nobody"
ok "the work is done" wait_until 90 all_done
ok "each line once, none beside" whole
stop four 60
is $? 0 "the last leaves in good order"
is "$(unexplained)" "0|0|0|0" "the books add up"

# ---- a wish that it leave, which it has not heard when it dies, is for the next child
write_settings fixed_ns=5000000 pace=1 lease=30s renew=10s
feed 400 300 200 1 >/dev/null 2>&1
worker one
ok "one works again" wait_until 20 works one
third=$(sql "select worker from mserve.workers where name = 'one' and closed_at is null")
child=$(child_of one)
kill -STOP "$child"
ok "a child that hears nothing is asked to leave" mserve worker drain "$third" --within 60s
kill -KILL "$child"
await one 60
is $? 0 "the next child leaves in its stead, and the guard with it"
is "$(sql "select drain_why, closed_why from mserve.workers order by registered_at desc limit 1")" "operator|drained" "as an operator wished"
is "$(sql "select closed_why from mserve.workers where worker = '$third'")" killed "the one that was asked was killed"

# ---- likewise when it was buried because it was not heard of, and goes on
MSERVE_WORKER_GUARD=off worker lone
ok "one without a guard works" wait_until 20 works lone
kill -STOP "$(pid_of lone)"
ok "it is asked to leave" mserve worker drain lone --within 60s
sql "update mserve.workers set lease_until = '-infinity' where name = 'lone'" >/dev/null
sql "select mserve.bury_vanished(worker) from mserve.workers where name = 'lone'" >/dev/null
kill -CONT "$(pid_of lone)"
await lone 60
is $? 0 "it leaves, under its new id where it has one by then"
is "$(sql "select count(*) from mserve.workers where closed_at is null")" 0 "and nobody is left"
is "$(unexplained)" "0|0|0|0" "the books add up to the end"

# ---- one that never gets as far as registering is given up
write_settings fixed_ns=5000000 pace=1 load_ns=100000000000
start five mserve-worker --name five
for try in 1 2 3 4 5; do
    wait_until 20 child_of five >/dev/null && kill -KILL "$(child_of five)" 2>/dev/null
    wait_until 20 eval "[ \$(grep -c event=guard.died '$work/five.log') -ge $try ]"
done
await five 30
is $? 13 "a worker that dies again and again before it has begun is given up, with a status of its own"
done_testing
