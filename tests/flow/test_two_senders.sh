#!/usr/bin/env bash
# Two schedulers deliver at once, their connections to PostgreSQL are cut, and one of them is killed:
# every event still arrives, and only what the killed one held comes twice.
. "$(dirname "$0")/webhook_lib.sh"

fresh_database
mserve migrate >/dev/null || bail "migrate"
echo | sealer "$key_file" "$secret_file" >/dev/null 2>&1 # makes both
receiver plain
webhook_settings "$(port_of plain)"
unset MSERVE_WEBHOOK_CA_FILE
export MSERVE_WEBHOOK_TIMEOUT=1s MSERVE_SCHEDULER_HTTP='' MSERVE_WEBHOOK_CONNECTIONS=16
endpoints e 40 "http://e#.localhost:$(port_of plain)/ok"

came() { tail -n "+$((mark + 1))" "$work/plain.tsv" | cut -f5 | sort; } # ids, since the last `mark`
mark=0
anew() { # other events, as many
    mark=$(wc -l <"$work/plain.tsv")
    sql "delete from mserve.webhook_events"
    owe 'e%' 50
}
delivered() { sql "select count(*) from mserve.webhook_deliveries where state = 'delivered'"; }
at_least() { [ "$(delivered)" -ge "$1" ]; }
crowded() { sql "select count(*) from (select endpoint from mserve.webhook_deliveries
                   where lease_until is not null group by 1 having count(*) > 4) c"; }

start one mserve-scheduler
start two mserve-scheduler
owe 'e%' 50
ok "a part is delivered" wait_until 60 at_least 200
is "$(crowded)" 0 "no endpoint has more than four deliveries under way, of both together"
ok "everything is delivered" wait_until 120 at_least 2000
is "$(came | uniq -d)" "" "each event came once"
is "$(sql "select count(*) from pg_stat_activity where application_name = 'mserve-webhooks' and datname = current_database()")" 2 \
    "both were at it"

# ---- PostgreSQL cuts everybody off, again and again, while they send

anew
cut_off() {
    sql "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()
         and application_name in ('mserve-scheduler', 'mserve-webhooks')" >/dev/null
    at_least 2000
}
ok "everything is delivered though they are cut off" wait_until 180 cut_off
ok "also what was told twice counts once" sql_is 2000 "select sum(attempts) from mserve.webhook_deliveries"
is "$(came | uniq | wc -l)" 2000 "each event came"

# ---- one is killed in the middle

anew
ok "a part is delivered again" wait_until 60 at_least 100
freeze one # what it holds now is what may come twice
sql "select event from mserve.webhook_deliveries where lease_until is not null" | sed 's/-//g; s/^/evt_/' |
    sort >"$work/held"
kill_hard one
ok "the other delivers the rest" wait_until 180 at_least 2000
is "$(came | uniq | wc -l)" 2000 "each event came, whoever was killed"
is "$(comm -23 <(came | uniq -d) "$work/held")" "" "and nothing twice but what was under way then"
stop two 20
is $? 0 "the other ends in good order"
done_testing
