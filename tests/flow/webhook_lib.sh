# webhook_lib.sh: what the tests of deliveries have in common: receivers, and endpoints and events that
# are put into the tables, as many as a test likes. Source in place of lib.sh.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PATH=$MSERVE_BIN/tests/flow:$PATH
key_file=$work/webhook.key secret_file=$work/secret

# A certificate authority, a certificate of it for *.hooks.localhost, and one that nobody signed.
certificates() {
    local san='subjectAltName=DNS:*.hooks.localhost'
    (
        cd "$work" || exit
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem \
            -days 2 -subj '/CN=a test'
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout good.key -out good.csr \
            -subj '/CN=receiver'
        openssl x509 -req -in good.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out good.pem \
            -extfile <(echo "$san")
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout bad.key -out bad.pem \
            -days 2 -subj '/CN=nobody' -addext "$san"
    ) >"$work/openssl" 2>&1 || bail "certificates" "$(cat "$work/openssl")"
}

# receiver NAME [CERTIFICATE]: its port is then port_of NAME, its log $work/NAME.tsv
receiver() {
    start "$1" python3 "$tree/tests/flow/receiver.py" --log "$work/$1.tsv" --port-file "$work/$1.port" \
        --secret "$secret_file" ${2:+--tls "$work/$2.pem" "$work/$2.key"}
    wait_until 20 test -s "$work/$1.port" || bail "the receiver $1" "$(log_of "$1")"
}
port_of() { cat "$work/$1.port"; }
got() { awk -F'\t' -v path="$2" '$4 == path' "$work/$1.tsv"; } # got RECEIVER PATH: lines of its log

# Settings by which everything on loopback may be sent to.
webhook_settings() { # webhook_settings PORT...
    export MSERVE_WEBHOOK_KEY_FILE=$key_file MSERVE_WEBHOOK_HTTP_HOSTS='*.localhost,*.invalid'
    export MSERVE_WEBHOOK_PRIVATE_NETWORKS='127.0.0.1,::1' MSERVE_WEBHOOK_CA_FILE=$work/ca.pem
    MSERVE_WEBHOOK_PORTS=$(IFS=,; echo "$*")
    export MSERVE_WEBHOOK_PORTS
}

# endpoints NAME COUNT URL: NAME1, NAME2 …; in the URL # is the number
endpoints() {
    sql "select md5('$1' || i)::uuid from generate_series(1, $2) i" | sealer "$key_file" "$secret_file" \
        >"$work/sealed" || bail "sealing secrets"
    psql -X -q -v ON_ERROR_STOP=1 -d "$MSERVE_POSTGRES_DSN" <<SQL || bail "endpoints $1"
create temp table sealed (id uuid, secret bytea);
\\copy sealed from '$work/sealed'
insert into mserve.webhook_endpoints (endpoint, tenant, name, url, secret)
  select id, 'default', '$1' || i, replace('$3', '#', i::text), secret
  from generate_series(1, $2) i join sealed on id = md5('$1' || i)::uuid;
SQL
}

# owe PATTERN [COUNT]: so many events to each endpoint whose name is like it
owe() {
    sql "with made as (
            select e.endpoint, md5(e.name || ' ' || i)::uuid as event
            from mserve.webhook_endpoints e, generate_series(1, ${2:-1}) i where e.name like '$1'),
          events as (
            insert into mserve.webhook_events (event, tenant, type, body)
              select event, 'default', 'batch.completed', '{\"id\":\"evt_' || mserve.hex(event)
                || '\",\"type\":\"batch.completed\"}' from made)
          insert into mserve.webhook_deliveries (endpoint, event) select endpoint, event from made;
          notify mserve_webhooks"
}

# states PATTERN: how many deliveries are in which state, `delivered=3 failed=1`
states() {
    sql "select coalesce(string_agg(state || '=' || n, ' ' order by state), '') from (
            select d.state, count(*) as n from mserve.webhook_deliveries d
              join mserve.webhook_endpoints using (endpoint) where name like '$1' group by 1) by_state"
}
states_are() { [ "$(states "$1")" = "$2" ]; }
# attempts NAME: of its first event, `retried/503 delivered/200`
attempts() {
    sql "select coalesce(string_agg(a.outcome || '/' || coalesce(a.status_code, 0), ' ' order by a.attempt), '')
         from mserve.webhook_attempts a join mserve.webhook_endpoints e using (endpoint)
         where e.name = '$1' and a.event = md5('$1 1')::uuid"
}
