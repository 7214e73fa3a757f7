#!/usr/bin/env bash
# Deliveries to real receivers: fast ones, one that hangs, and every bad manner that a server may have.
# What is asserted is who got what, in which order and with which outcome; never how long it took.
. "$(dirname "$0")/webhook_lib.sh"

fresh_database
mserve migrate >/dev/null || bail "migrate"
certificates
echo | sealer "$key_file" "$secret_file" >/dev/null 2>&1 # makes both
receiver plain
receiver tls good
receiver unsigned bad
plain=$(port_of plain) tls=$(port_of tls)
webhook_settings "$plain" "$tls" "$(port_of unsigned)"
export MSERVE_SCHEDULER_FOLD_INTERVAL=1s MSERVE_SCHEDULER_HTTP=127.0.0.1:0

# ---- claims and records, as two schedulers would make them
claim() { # claim TOKEN: how many it got, of 8
    sql "select count(*) from mserve.webhook_claim(8, 60000, $1, '00000000-0000-0000-0000-000000000000', 10, true)"
}
record() { # record TOKEN OUTCOME: of the first event of c1
    sql "select * from mserve.webhook_record(array[md5('c1')::uuid], array[md5('c1 1')::uuid], array[$1::bigint],
         array['$2'], array[200], array[null], array[5], array[0::bigint], array[60000::bigint], array[0::bigint],
         array[null])"
}
first_is() { sql_is "$1" "select state, attempts, token from mserve.webhook_deliveries where event = md5('c1 1')::uuid"; }
endpoints c 1 "http://c1.localhost:$plain/ok"
owe c1 10
is "$(claim 1) $(claim 2)" "4 0" "an endpoint has four deliveries under way, whoever claims"
sql "delete from mserve.webhook_deliveries where event <> md5('c1 1')::uuid"
sql "update mserve.webhook_deliveries set due_at = now(), lease_until = now(), token = 1"
is "$(claim 3)" 1 "a lease that has ended is claimed anew"
record 1 retried
ok "a failure that is told too late changes nothing" first_is "pending|0|3"
record 3 retried
record 3 retried
ok "one that is told twice counts once" first_is "pending|1|"
is "$(sql "select failures from mserve.webhook_endpoints where name = 'c1'")" 1 "for the endpoint too"
sql "update mserve.webhook_deliveries set due_at = now()"
is "$(claim 4)" 1 "it is tried again"
record 5 delivered
ok "a success is a success, whoever tells it" first_is "delivered|2|"
record 4 retried
ok "and stays one" first_is "delivered|2|"
sql "delete from mserve.webhook_endpoints where name = 'c1'"

# ---- three hundred endpoints, one of them hangs and is owed more than anybody
endpoints e 300 "http://e#.localhost:$plain/ok"
sql "update mserve.webhook_endpoints set url = 'http://e7.localhost:$plain/hang' where name = 'e7'"
owe 'e%'
sql "insert into mserve.webhook_events (event, tenant, type, body)
       select md5('more' || i)::uuid, 'default', 'batch.completed', '{}' from generate_series(1, 1000) i;
     insert into mserve.webhook_deliveries (endpoint, event)
       select md5('e7')::uuid, md5('more' || i)::uuid from generate_series(1, 1000) i"
MSERVE_WEBHOOK_TIMEOUT=2m start first mserve-scheduler
ok "299 endpoints have their event while the 300th hangs" wait_until 60 states_are 'e%' 'delivered=299 pending=1001'
is "$(sql "select count(*) from mserve.webhook_attempts where endpoint = md5('e7')::uuid")" 0 \
    "and before its first attempt has ended"
is "$(sql "select count(*) from mserve.webhook_deliveries where lease_until is not null")" 4 \
    "which has four of the connections, and no more"
is "$(cut -f3 "$work/plain.tsv" | grep -c '^e7\.')" 4 "as it saw itself"
is "$(cut -f7 "$work/plain.tsv" | sort -u)" yes "every one was signed"
is "$(grep -v '^[^	]*	[^	]*	e7\.' "$work/plain.tsv" | cut -f5 | sort | uniq -d | wc -l)" 0 "and came once"
like "$(log_of first)" 'event=webhook.on' "the log says that webhooks are delivered"
not_ok "and holds neither body nor secret" grep -qE 'batch.completed|whsec_' "$work/first.log"

# ---- it leaves politely
stop first 20
is $? 0 "SIGTERM ends it in time, though one hangs"
is "$(sql "select count(*) from mserve.webhook_deliveries where lease_until is not null")" 0 "it gave its leases back"
is "$(states e7)" "pending=1001" "nothing of that is lost"
sql "delete from mserve.webhook_endpoints where name = 'e7'"

# ---- every bad manner, each met by an endpoint of its own
manner() { endpoints "$1" 1 "http://$1.localhost:$plain/$2"; } # manner NAME PATH
manner slow slow
manner resets reset/2
manner hangs hang/1
manner headers large-headers/1
manner header large-header/1
manner interim endless-interim/1
manner body endless-body
manner drips dripping-body
manner torn torn-body
manner garbage garbage/1
manner moved 302/2
manner gone 410
manner busy 429/1
manner later 429-date/1
manner storm 503/2
manner dead 500
endpoints sealed 1 "https://sealed.hooks.localhost:$tls/ok"
endpoints stranger 1 "https://stranger.hooks.localhost:$(port_of unsigned)/ok"
endpoints wrongname 1 "https://wrong.localhost:$tls/ok"
endpoints mute 1 "https://mute.hooks.localhost:$plain/ok"
endpoints nobody 1 "http://nobody.invalid:$plain/ok"
endpoints port 1 "http://port.localhost:1/ok"
endpoints network 1 "https://127.0.0.2:$tls/ok"
sql "update mserve.webhook_endpoints set events = events || '{webhook.disabled}' where name = 'e1'"
for name in slow resets hangs headers header interim body drips torn garbage moved gone busy later storm dead \
    sealed stranger wrongname mute nobody port network; do
    owe "${name}1"
done
sql "insert into mserve.webhook_events (event, tenant, type, body)
    select md5('gone more' || i)::uuid, 'default', 'batch.completed', '{}' from generate_series(1, 30) i;
  insert into mserve.webhook_deliveries (endpoint, event)
    select md5('gone1')::uuid, md5('gone more' || i)::uuid from generate_series(1, 30) i"
MSERVE_WEBHOOK_TIMEOUT=1500ms MSERVE_WEBHOOK_RETRIES=0s,300ms,300ms start second mserve-scheduler
all_ended() { sql_is 0 "select count(*) from mserve.webhook_deliveries where state = 'pending'"; }
ok "all of them come to an end" wait_until 60 all_ended

for name in slow1 body1 drips1 torn1 sealed1; do
    is "$(attempts $name)" "delivered/200" "$name: delivered at once"
done
is "$(attempts resets1)" "retried/0 retried/0 delivered/200" "a reset connection is tried again"
is "$(attempts hangs1)" "retried/0 delivered/200" "as is one that hangs"
for name in headers1 header1 interim1 garbage1; do
    is "$(attempts $name)" "retried/0 delivered/200" "$name: an answer that is none"
done
is "$(attempts moved1)" "retried/302 retried/302 delivered/200" "a redirect is a failure"
is "$(got plain /stolen | wc -l)" 0 "and is not followed"
is "$(attempts storm1)" "retried/503 retried/503 delivered/200" "503 is"
is "$(attempts dead1)" "retried/500 retried/500 failed/500" "who fails to the end has failed"
is "$(attempts busy1) $(attempts later1)" "retried/429 delivered/200 retried/429 delivered/200" "429 is tried again"
is "$(sql "select bool_and(retry_ms >= 1000) from mserve.webhook_attempts where status_code = 429")" t \
    "not before Retry-After says, in seconds or as a date"
for name in stranger1 wrongname1 mute1 nobody1 port1 network1; do
    is "$(attempts $name)" "retried/0 retried/0 failed/0" "$name: nothing is sent"
done
is "$(wc -l <"$work/unsigned.tsv") $(got plain /ok | grep -c mute)" "0 0" "and nothing arrived there"
why() { sql "select a.why from mserve.webhook_attempts a join mserve.webhook_endpoints e using (endpoint)
             where e.name = '$1' order by a.attempt limit 1"; }
like "$(why stranger1)" 'SSL certificate problem' "a certificate that nobody signed is named"
like "$(why port1)" 'URL is not allowed' "a port that is not allowed is"
like "$(why network1)" 'URL is not allowed' "as is a network"
like "$(why wrongname1)" 'no alternative certificate subject name matches' "as is a certificate of somebody else"
like "$(why headers1)" 'headers of its answer are larger' "as are headers without end"

# ---- one that is gone
is "$(sql "select state, disabled_why from mserve.webhook_endpoints where name = 'gone1'")" "disabled|gone" \
    "410 disables the endpoint"
ok "what it was owed is dropped" wait_until 20 sql_is "dropped" \
    "select distinct state from mserve.webhook_deliveries where endpoint = md5('gone1')::uuid"
like "$(log_of second)" 'event=webhook.disabled endpoint=[0-9a-f-]* why=gone' "the log says so"
is "$(sql "select count(*) from mserve.webhook_deliveries d join mserve.webhook_events v using (event)
           where v.type = 'webhook.disabled' and d.state = 'delivered' and d.endpoint = md5('e1')::uuid")" 1 \
    "and so does an event, to the tenant's endpoint that asked for it"

# ---- what the receivers saw
cat "$work"/{plain,tls}.tsv >"$work/all.tsv"
is "$(cut -f7 "$work/all.tsv" | sort -u)" yes "every attempt was signed, with a fresh timestamp"
is "$(cut -f5,8 "$work/all.tsv" | sort -u | cut -f1 | uniq -d | wc -l)" 0 "and all attempts of an event have one body"
is "$(sql "select count(*) from mserve.webhook_deliveries d where state = 'pending' or lease_until is not null")" 0 \
    "no lease is left"

# ---- what it says of itself
where() { sed -n 's/.*event=http.listening address=\([^ ]*\).*/\1/p' "$work/$1.log" | tail -n 1; }
metric() { curl -s --max-time 10 "http://$(where second)/metrics" | sed -n "s/^$1 //p"; }
counts() {
    [ "$(sql "select count(*) from mserve.webhook_attempts where outcome = 'delivered'")" = \
        $((299 + $(metric 'mserve_webhook_attempts_total{outcome="delivered"}'))) ]
}
ok "its metrics are those of the table" wait_until 10 counts
is "$(metric mserve_webhook_attempts_running)" 0 "nothing is under way"
like "$(curl -s --max-time 10 "http://$(where second)/readyz?verbose")" '\[\+\] webhooks' "it is ready to deliver"
stop second 20
is $? 0 "it ends in good order"
done_testing
