#!/usr/bin/env bash
# Roles and tenants: what each kind of role may do to each table, view and function; that a tenant sees
# nothing of another's; that the programs run with these rights; and that what is erased is gone.
. "$(dirname "$0")/worker_lib.sh"

id=$$
red=red_$id blue=blue_$id look=look_$id fleet=fleet_$id plan=plan_$id nobody=nobody_$id
roles="$red $blue $look $fleet $plan $nobody"
cleanup() { for role in $roles; do psql -X -q -d "$server_dsn" -c "drop role if exists $role" 2>/dev/null; done; }
fresh_database
fresh_topics
write_settings lease=60s renew=5s wait=100ms context=65536
export MSERVE_SUBMIT_INLINE_BYTES_MAX=20KiB MSERVE_SCHEDULER_FOLD_INTERVAL=100ms
set_up
for role in $roles; do sql "create role $role login password 'x'"; done
dsn_of() { sed "s/ passfile='[^']*'//; s/user=[a-z]*/user=$1/" <<<"$MSERVE_POSTGRES_DSN"; }
as() { local role=$1; shift; "$work/as_$role" "$@"; }
for role in $roles; do # a program of its own, so that what is started by it can be stopped
    printf '#!/bin/sh\nexport MSERVE_POSTGRES_DSN="%s" MSERVE_POSTGRES_PASSWORD=x PGPASSFILE=/dev/null\nexec "$@"\n' \
        "$(dsn_of "$role")" >"$work/as_$role"
    chmod +x "$work/as_$role"
done
sql_as() { PGPASSWORD=x psql -X -q -A -t -v ON_ERROR_STOP=1 -d "$(dsn_of "$1")" -c "$2" 2>&1; }
job_of() { sed -n 's/^\(batch_[0-9a-f]*\).*/\1/p' <<<"$1"; }
uuid_of() { sed 's/batch_\(.\{8\}\)\(.\{4\}\)\(.\{4\}\)\(.\{4\}\)\(.*\)/\1-\2-\3-\4-\5/' <<<"$1"; }
status() { "$@" >"$work/out" 2>"$work/said"; echo $?; }
said() { cat "$work/out" "$work/said"; }

# ---- who is who

is "$(status mserve tenant add red --role $red)|$(said)" \
    "0|the role $red submits for the tenant red, and sees only what is its" "a tenant is added"
ok "another" mserve tenant add blue --role $blue
ok "a reader" mserve tenant grant $look reader --tenant red
ok "the fleet" mserve tenant grant $fleet worker
ok "the scheduler" mserve tenant grant $plan scheduler
ok "twice is as once" mserve tenant grant $fleet worker
is "$(status mserve tenant grant $fleet scheduler)|$(said)" "1|mserve: the role $fleet is known already, as something else" \
    "a role is one thing"
is "$(status mserve tenant add green --role $red)" 1 "and of one tenant"
is "$(status mserve tenant add green --role mserve)" 1 "the owner of the schema is nobody's"
is "$(status mserve tenant add green --role none_$id)|$(said)" \
    "1|mserve: there is no role none_$id; make it first: create role none_$id login" "a role must be there"
is "$(status mserve tenant add 'Not a name' --role $nobody)|$(wc -l <"$work/said")" "1|1" "names are plain"
is "$(status mserve tenant grant $nobody reader)|$(said)" "1|mserve: a reader needs --tenant: whose jobs it is to see" \
    "whose reader is to be said"
is "$(mserve tenant list --json | python3 -c 'import json,sys; print(*("%s:%s" % (r["tenant"], r["kind"]) for r in json.load(sys.stdin)))')" \
    "blue:tenant default:None red:tenant red:reader None:worker None:scheduler" "the list of roles"

# ---- the programs, each as its role, and as one that has no rights

marker=marker$id
for tenant in red blue; do
    requests 40 8 0 "$marker of $tenant" | sed "s/\"c-/\"$marker-/" >"$work/$marker-$tenant.jsonl"
    printf '{"custom_id":"large-%s","method":"POST","url":"/v1/completions","body":{"model":"sim","max_tokens":1,"prompt":"%s"}}\n' \
        $tenant "$(head -c 30000 /dev/zero | tr '\0' a)" >>"$work/$marker-$tenant.jsonl"
done
start worker "$work/as_$fleet" mserve-worker --name worker
start scheduler "$work/as_$plan" mserve-scheduler
red_job=$(job_of "$(as $red mserve-submit -m note=$marker "$work/$marker-red.jsonl")")
blue_job=$(job_of "$(as $blue mserve-submit -m note=$marker "$work/$marker-blue.jsonl")")
red_id=$(uuid_of "$red_job") blue_id=$(uuid_of "$blue_job")
is "$(sql "select tenant from mserve.jobs order by tenant" | paste -sd ' ')" "blue red" "each has its own job"
is "$(sql "select count(distinct sha256), count(*) from mserve.blobs")" "1|2" "and its own copy of the same large body"
ok "a worker and a scheduler that own nothing end both" wait_until 60 sql_is "completed,completed" \
    "select string_agg(state, ',') from mserve.jobs"
ok "the books add up" ledger_is_balanced
is "$(sql "select count(*) from mserve.results where status = 'completed'")" 82 "the large ones were found, too"
is "$(as $red mserve results "$red_job" | wc -l) $(as $look mserve results "$red_job" | wc -l)" "41 41" "submitter and reader see the results"
is "$(status as $red mserve results "$blue_job") $(status as $look mserve get "$blue_job")" "8 8" "of its own tenant"
is "$(as $red mserve list --json | grep -c "$blue_job") $(as $red mserve list --json | grep -c "\"$red_job\"")" "0 1" "the list, too"
ok "what it cost" as $red mserve cost "$red_job"
is "$(status as $red mserve cost "$blue_job")" 8 "not what others cost"
is "$(status as $red mserve cancel "$blue_job")" 8 "nor is theirs to cancel"
requests 8 8 500 >"$work/more.jsonl"
more=$(job_of "$(as $red mserve-submit "$work/more.jsonl")")
is "$(status as $red mserve cancel "$more")" 0 "its own is"
is "$(status as $look mserve cancel "$more") $(status as $look mserve-submit "$work/more.jsonl")" "9 9" "a reader changes nothing"
is "$(status as $red mserve worker list) $(status as $red mserve migrate) $(status as $red mserve topics) $(status as $red mserve tenant list)" \
    "9 9 9 9" "what is for operators is denied"
is "$(status as $nobody mserve list)" 9 "who was never made known is not let in"
mkdir "$work/documents"
echo "$marker of a document" >"$work/documents/one.txt"
echo '{"model":"sim","max_tokens":2,"prompt":"{{document}}"}' >"$work/template.json"
documents() {
    as $red mserve-submit --documents "$work/documents" --template "$work/template.json" \
        --endpoint /v1/completions --series "nightly $marker" --changed --wait 2>&1 | tail -1
}
like "$(documents)" "completed, 1 request" "documents become its jobs"
like "$(documents)" "nothing to do" "and what is unchanged is known"
mserve webhook key "$work/key" >/dev/null
is "$(status as $red env MSERVE_WEBHOOK_KEY_FILE="$work/key" mserve webhook add ops https://receiver.example/ --secret-file "$work/secret") $(status as $look mserve webhook disable ops)" "0 9" \
    "a tenant keeps its webhooks, a reader does not"
is "$(as $red mserve webhook list | grep -c receiver) $(as $blue mserve webhook list | grep -c receiver)" "1 0" "and sees its own"
wait_until 30 sql_is 0 "select count(*) from mserve.jobs where state not in ('completed', 'cancelled')"
stop worker
stop scheduler
not_ok "neither was denied anything" grep -h level=error "$work/worker.log" "$work/scheduler.log"
is "$(sql "select string_agg(distinct pg_get_userbyid(relowner), ' ') from pg_class where relnamespace = 'mserve'::regnamespace and relkind in ('r', 'p')")" \
    "$(sql "select current_user")" "partitions that a scheduler made are the owner's"

# ---- rows of both in every table: what these jobs did not bring about

for tenant in red blue; do
    job=$([ $tenant = red ] && echo "$red_id" || echo "$blue_id")
    sql "do \$\$ declare j uuid := '$job'; e uuid := mserve.uuid7(); v uuid := mserve.uuid7();
    begin
      insert into mserve.checkpoints (job, line, chunk, attempt, tokens, gpu_ns, worker, state)
        values (j, 900, 0, 1, 1, 0, mserve.uuid7(), '$marker');
      insert into mserve.attempts (worker, seq, job, line, gpu_ns, why) values (mserve.uuid7(), 1, j, 0, 0, 'crashed');
      insert into mserve.suspects (job, line, chunk, cap) values (j, 900, 0, 1);
      insert into mserve.suspect_deaths (job, line, worker, name, host, why, proven, open, apart)
        values (j, 900, mserve.uuid7(), 'w', 'h', 'crashed', true, 1, true);
      insert into mserve.dead_letters (job, line, tenant, custom_id, body, deaths)
        values (j, 900, '$tenant', '$marker', '{\"prompt\":\"$marker\"}', '[]');
      insert into mserve.job_deltas (job) values (j);
      insert into mserve.documents (job, first_line, parts, path, sha256) values (j, 0, 1, '$marker.txt', '');
      insert into mserve.purged_costs (job, month) values (j, '2026-01-01');
      insert into mserve.retried_lines (job, line, root_line) values (j, 0, 0);
      insert into mserve.purged_costs (job, month) values (j, '2026-01-01');
      insert into mserve.webhook_endpoints (endpoint, tenant, name, url, secret, every_job)
        values (e, '$tenant', '$marker', 'https://$marker.example/', '$marker', true);
      insert into mserve.webhook_events (event, tenant, job, type, body, detail)
        values (v, '$tenant', j, 'batch.completed', '$marker', '\"$marker\"');
      insert into mserve.webhook_deliveries (endpoint, event) values (e, v);
      insert into mserve.webhook_attempts (endpoint, event, token, attempt, took_ms, outcome, why)
        values (e, v, 1, 1, 1, 'failed', '$marker');
      insert into mserve.webhook_pages (job, lines) values (j, '{1}');
      update mserve.audit_log set detail = '\"$marker\"' where audit_log.job = j;
      update mserve.results set response = '{\"text\":\"$marker\"}' where results.job = j and line % 2 = 0;
      update mserve.results set status = 'failed', response = null, error = '{\"message\":\"$marker\"}' where results.job = j and line = 1;
      update mserve.jobs set series = '$marker', error_message = '$marker', webhook = e where jobs.job = j;
    end \$\$"
done

# ---- the rights of each kind of role in every table and view (s select, S some columns, i, u, d)

rights_of() {
    sql "select rpad(c.relname, 20) || string_agg(' ' || coalesce(nullif(
        case when has_table_privilege(r.role, c.oid, 'select') then 's'
          when has_any_column_privilege(r.role, c.oid, 'select') then 'S' else '' end
        || case when has_table_privilege(r.role, c.oid, 'insert') or has_any_column_privilege(r.role, c.oid, 'insert') then 'i' else '' end
        || case when has_table_privilege(r.role, c.oid, 'update') or has_any_column_privilege(r.role, c.oid, 'update') then 'u' else '' end
        || case when has_table_privilege(r.role, c.oid, 'delete, truncate, references, trigger') then 'd' else '' end, ''), '-'), '' order by r.place)
      from pg_class c, unnest('{$red,$blue,$look,$fleet,$plan,$nobody}'::text[]) with ordinality r (role, place)
      where c.relnamespace = 'mserve'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and not c.relispartition
        and c.relname <> 'job_deltas_id_seq'
      group by c.relname order by c.relname collate \"C\""
}
#                 tenant tenant reader worker scheduler stranger
cat >"$work/rights" <<'RIGHTS'
attempts             s s s si siud -
audit_log            - - - i siud -
batch_object         s s s - s -
batch_results        s s s - s -
bill                 - - - - s -
bill_prices          s s s - s -
blobs                s s - s siud -
checkpoints          - - - siud siud -
chunks               s s s su siud -
dead_letters         s s s si siud -
document_results     s s s - s -
documents            s s s - siud -
job_attempts         s s s - s -
job_bill             s s s - s -
job_cost             s s s - s -
job_deltas           s s s i siud -
job_status           s s s - s -
jobs                 s s s s siud -
latest_results       s s s - s -
ledger_check         - - - - s -
models               s s s s siud -
partitions           - - - su siud -
purged_costs         s s s - siud -
results              s s s si siud -
retried_lines        s s s - siud -
roles                - - - - s -
schema_migrations    s s s s s -
suspect_deaths       - - - siud siud -
suspects             - - - siud siud -
tenants              s s s - s -
webhook_attempts     s s s - siud -
webhook_deliveries   s s s - siud -
webhook_endpoints    s s S - siud -
webhook_events       s s s - siud -
webhook_pages        - - - - siud -
worker_ledger        - - - si siud -
workers              S S S siu siud -
RIGHTS
rights_of >"$work/rights_are"
ok "every table and view is in the list, with these rights" diff "$work/rights" "$work/rights_are"
is "$(sql "select string_agg(relname, ' ') from pg_class where relnamespace = 'mserve'::regnamespace
           and relkind in ('r', 'p') and not relispartition and not relrowsecurity")" '' "row-level security is on everywhere"
is "$(sql "select string_agg(relname, ' ') from pg_class where relnamespace = 'mserve'::regnamespace
           and relkind = 'v' and not coalesce('security_invoker=true' = any(reloptions), false)")" '' "views have the rights of who reads them"
is "$(sql "select count(*) from pg_class c, unnest('{$(tr ' ' , <<<"$roles")}'::text[]) r (role)
           where relnamespace = 'mserve'::regnamespace and relispartition
           and has_any_column_privilege(r.role, c.oid, 'select, insert, update')")" 0 "partitions are reached through their table alone"
is "$(sql "select string_agg(rolname, ' ') from pg_roles where rolname in ('$red', '$fleet', '$plan')
           and (rolsuper or rolbypassrls or rolcreaterole)")" '' "no role passes by the policies"

is "$(awk '/^### `/ { view = $2 } /^\| `/ && view { print view "." $2 }' "$tree/docs/sql.md" | tr -d '`' | LC_ALL=C sort)" \
    "$(sql "select c.relname || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
        where c.relnamespace = 'mserve'::regnamespace and c.relkind = 'v' and c.relname not in ('bill', 'bill_prices', 'ledger_check')" |
        LC_ALL=C sort)" "docs/sql.md tells of the views and their columns"

# ---- no row of another tenant, through whatever it may read

seen_by() { # seen_by ROLE: tables and views with a row of blue's, or of red's where nothing of red's is seen
    local name column
    while IFS='|' read -r name column; do
        case $column in
        tenant) where="tenant = 'blue'" mine="tenant = 'red'" ;;
        job) where="job = '$blue_id'" mine="job = '$red_id'" ;;
        endpoint) where="endpoint in ($blue_endpoints)" mine="endpoint in ($red_endpoints)" ;;
        esac
        printf '%s' "$(sql_as "$1" "select case when count(*) filter (where $where) > 0 then '$name shows blue ' else '' end
            || case when count(*) filter (where $mine) = 0 then '$name hides red ' else '' end from mserve.$name")"
    done < <(sql "select c.relname, (array_agg(a.attname order by array_position('{tenant,job,endpoint}', a.attname::text)))[1]
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname in ('tenant', 'job', 'endpoint')
        where c.relnamespace = 'mserve'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
          and has_any_column_privilege('$1', c.oid, 'select') group by c.relname order by c.relname")
}
blue_endpoints=$(sql "select string_agg(quote_literal(endpoint), ',') from mserve.webhook_endpoints where tenant = 'blue'")
red_endpoints=$(sql "select string_agg(quote_literal(endpoint), ',') from mserve.webhook_endpoints where tenant = 'red'")
is "$(seen_by $red)" '' "red sees its rows everywhere and blue's nowhere"
is "$(seen_by $look)" '' "so does its reader"
is "$(sql "select string_agg(relname, ' ' order by relname collate \"C\") from pg_class c where relnamespace = 'mserve'::regnamespace
           and relkind in ('r', 'p', 'v') and not relispartition and has_any_column_privilege('$red', c.oid, 'select')
           and not exists (select from pg_attribute where attrelid = c.oid and attname in ('tenant', 'job', 'endpoint'))")" \
    "bill_prices models schema_migrations workers" "what it sees beside these is nobody's"
like "$(sql_as $look "select secret from mserve.webhook_endpoints")" "permission denied" "a reader does not read sealed secrets"
like "$(sql_as $red "select token, host from mserve.workers")" "permission denied" "nor what workers prove themselves with"

# A function that costs nothing and tells of each row it is asked of; as dear as it likes to a view.
is "$(sql_as $red "create function pg_temp.tells(text) returns boolean cost 0.0000001 language plpgsql as
        'begin raise notice ''%'', \$1; return true; end';
    select count(*) from mserve.job_status where pg_temp.tells(tenant);
    select count(*) from mserve.results where pg_temp.tells(job::text) and line = 0" | grep -c "blue\|$blue_id")" 0 \
    "a cheap function in a query is not asked of others' rows"
like "$(sql_as $red "set role mserve")" "permission denied" "it does not become the owner"
like "$(sql_as $red "set session authorization $blue")" "permission denied" "nor the other"
is "$(sql_as $red "set search_path = pg_temp, mserve; create temp table tenants (tenant text, role text); insert into tenants values ('blue', '$red');
    create temp table jobs (job uuid, tenant text); select mserve.current_tenant(), count(*) from mserve.results where job = '$blue_id'")" \
    "red|0" "tables of its own in front change nothing"
like "$(sql_as $red "update mserve.tenants set role = null")" "permission denied" "tenants are not its to change"
like "$(sql_as $red "insert into mserve.roles (role, kind) values ('$red', 'worker')")" "permission denied" "nor roles"
is "$(sql "set role $fleet" 2>&1 >/dev/null | grep -c denied)" 1 "the test's owner is not in the worker's role"

# ---- functions: those that each kind may call, and another's job in the hands of each

may_call() {
    sql "select string_agg(proname, ' ' order by proname collate \"C\") from (select distinct proname from pg_proc p
         where pronamespace = 'mserve'::regnamespace and has_function_privilege('$1', p.oid, 'execute')) f"
}
is "$(may_call $look)" "current_tenant event_id hex job_fleet job_hold retry_lines series_documents unix_time" "functions of readers"
is "$(may_call $red)" "blob_put current_tenant dead_letter_replayed event_id hex job_add_chunks job_add_documents job_cancel job_fleet job_heard job_hold job_link_retry job_open job_seal job_set_hold retry_lines series_documents unix_time webhook_add webhook_disable_mine webhook_enable webhook_of_job webhook_pages_on webhook_replay webhook_rotate webhook_test" \
    "functions of tenants"
is "$(may_call $nobody)" '' "of strangers"
is "$(may_call $fleet)" "bury_proven bury_vanished bury_worker check_accepted claim_partitions commit_batch current_tenant dead_letter_add hex mark_missing random_token release_partitions unix_time uuid7" \
    "of workers"
is "$(sql "select string_agg(proname, ' ') from pg_proc p where pronamespace = 'mserve'::regnamespace and prosecdef
           and not (proconfig @> '{\"search_path=pg_catalog, pg_temp\"}')")" '' "those with the owner's rights have a path of their own"
sql "insert into mserve.jobs (tenant, idempotency_key, content_sha256, input_name, endpoint, tier, topic, partitions, partition_first,
       chunk_lines_max, chunk_bytes_max, completion_window, expires_at)
     values ('blue', 'open', '', 'x', '/v1/completions', 'sim', 't', 1, 0, 16, 1000, '1h', now() + interval '1 h')"
open_id=$(sql "select job from mserve.jobs where idempotency_key = 'open'")
blue_is() { sql "select md5(string_agg(j::text, '' order by job)), (select count(*) from mserve.chunks where job = '$open_id'),
    (select string_agg(e::text, '') from mserve.webhook_endpoints e where tenant = 'blue'), (select string_agg(d::text, '') from mserve.webhook_deliveries d) from mserve.jobs j where tenant = 'blue'"; }
before=$(blue_is)
is "$(sql_as $red "select mserve.job_cancel('$open_id') is null")" t "cancelling another's finds none"
is "$(sql_as $red "select mserve.job_seal('$open_id', 0, 0, 0)")" ended "sealing"
is "$(sql_as $red "select mserve.job_add_chunks('$open_id', '{0}', '{0}', '{1}', '{0}', '{0}', '{0}', '{1}', array[''::bytea], array[''::bytea], '{1}')")" f "adding to it"
is "$(sql_as $red "select mserve.job_heard('$open_id'), (mserve.job_set_hold('$open_id', 'paused')).state is null,
    mserve.job_hold('$open_id') is null, (mserve.job_fleet('$open_id')).devices, mserve.dead_letter_replayed('$blue_id', 900, 'open')")" "|t|t|0|" "and all else"
is "$(sql_as $red "select mserve.job_add_documents('$open_id', 's', '{0}', '{1}', '{x}', array[''::bytea])")" ended "nor documents"
is "$(sql_as $red "select (r).last is null, (select count(*) from mserve.retry_lines('$blue_id', '{completed}')),
    (select count(*) from mserve.series_documents('$marker')) from (select mserve.job_link_retry('$open_id', '$blue_id', '{completed}', '{}', -1, 0, 10) r) r")" \
    "t|0|1" "nor is it retried, and a series is its own"
hook=$(sql "select endpoint from mserve.webhook_endpoints where tenant = 'blue'")
is "$(sql_as $red "select mserve.webhook_disable_mine('$hook'), mserve.webhook_rotate('$hook', 'x', 0), mserve.webhook_pages_on('$hook'), mserve.webhook_enable('$hook'),
    mserve.webhook_replay('$hook', null, false, null), (select count(*) from mserve.webhook_test('$hook')), (select count(*) from mserve.webhook_of_job('$open_id', '$hook'))")" \
    "||||0|0|0" "nor webhooks"
is "$(blue_is)" "$before" "and nothing has changed"
is "$(sql_as $red "select made, job <> '$open_id' from mserve.job_open('open', '', 'x', '/v1/completions', 'sim', null, 't', 1, 16, 1000, '1h', 3600000, null, 0)")" \
    "t|t" "the same key is another job of its own"
is "$(sql "select count(*) from mserve.dead_letters where replayed_as is not null")" 0 "dead letters are as they were"
sql_as $red "select mserve.job_cancel((select job from mserve.jobs where idempotency_key = 'open'))" >/dev/null

# ---- what a later migration forgets is nobody's

sql "create table mserve.planted (tenant text); create function mserve.planted() returns int language sql as 'select 1'; create view mserve.planted_view as select * from mserve.jobs"
not_ok "a new table is found by the list" diff "$work/rights" <(rights_of)
like "$(sql_as $red "select * from mserve.planted")|$(sql_as $red "select mserve.planted()")|$(sql_as $red "select * from mserve.planted_view")" \
    "denied.*\|.*denied.*\|.*denied" "and denied to all"
ok "mserve migrate" mserve migrate
is "$(sql "select relrowsecurity from pg_class where relname = 'planted'")|$(sql_as $red "select count(*) from mserve.planted_view where tenant <> 'red'")" \
    "t|0" "sees to row-level security, and to views"
sql "drop view mserve.planted_view; drop table mserve.planted; drop function mserve.planted()"

# ---- erasure: of rows while somebody holds one, killed, and again

dump() { pg_dump -d "$MSERVE_POSTGRES_DSN" 2>&1; }
marks() { dump | grep -c "$marker"; }
books() { sql "select l::text || (select string_agg((job, state, lines, completed, failed, input_tokens, output_tokens, rows_ns)::text, ' ' order by job)
    from mserve.jobs) || (select sum(gpu_ns) from mserve.results) from mserve.ledger_check l"; }
requests 8 8 700 >"$work/open.jsonl"
ok "a job that nobody runs" as $red mserve-submit "$work/open.jsonl"
sql "update mserve.jobs set tenant = 'red', idempotency_key = idempotency_key || '.' where tenant = 'blue';
     update mserve.dead_letters set tenant = 'red'; update mserve.webhook_endpoints set tenant = 'red', name = name || tenant; update mserve.webhook_events set tenant = 'red';
     delete from mserve.blobs where tenant = 'blue';
     insert into mserve.results (job, line, custom_id, status, response)
       select '$red_id', n, '$marker', 'completed', '{\"text\":\"$marker\"}' from generate_series(1000, 9000) n"
before=$(books)
ok "a dump shows what was sent and got" test "$(marks)" -gt 8000
is "$(status mserve tenant erase red </dev/null)|$(said)" "1|mserve: this cannot be undone: say --yes where nobody can be asked" "it is asked first"
is "$(status mserve tenant erase green --yes)" 8 "there must be such a tenant"
is "$(status mserve tenant erase red --yes --wait 0s)" 70 "an open job is asked to end first"
like "$(said)" "cancelling|nothing was erased" "and it is waited for"
is "$(status as $red mserve list)" 9 "its roles have no rights any more"
start scheduler "$work/as_$plan" mserve-scheduler
wait_until 30 sql_is 0 "select count(*) from mserve.jobs where state not in ('completed', 'cancelled')"
stop scheduler
before=$(books)
mkfifo "$work/hold"
psql -X -q -d "$MSERVE_POSTGRES_DSN" <"$work/hold" >/dev/null 2>&1 &
exec 9>"$work/hold"
echo "begin; select from mserve.results where job = '$red_id' and line = 5000 for update;" >&9
wait_until 10 sql_is 1 "select count(*) from pg_stat_activity where datname = current_database() and state = 'idle in transaction'"
start erase mserve tenant erase red --yes
ok "it is in the midst of it" wait_until 20 sql_is 1 "select count(*) from pg_stat_activity where query like '%erase_rows%' and wait_event_type = 'Lock'"
kill_hard erase
echo "commit;" >&9
exec 9>&-
ok "killed there, some is erased and some is not" eval "[ \$(marks) -gt 2000 ] && [ \$(marks) -lt 8000 ]"
is "$(status mserve tenant erase red --yes)" 0 "the same command goes on"
cp "$work/out" "$work/erased"
is "$(marks)" 0 "no byte of it is left in a dump"
is "$(sql "select count(*) from mserve.blobs where tenant = 'red'")" 0 "nor a body that was stored aside"
is "$(books)" "$before" "and the books are what they were"
is "$(dump | grep -c "$(sql "select encode(sha256('$marker'::bytea), 'hex')")")" 0 "nor digests"
like "$(cat "$work/erased")" "Kafka, $MSERVE_KAFKA_TOPIC_PREFIX.requests.sim: until 20" "it says until when Kafka has it"
until_us=$(date -u -d "$(sed -n 's/.*requests.sim: until //p' "$work/erased")" +%s)
is "$(((until_us - $(date +%s) - 38 * 86400 - 7 * 86400) / 900))" 0 "38 days after the newest message, and the 7 that its segment may be written to"
ok "again finds nothing to do" mserve tenant erase red --yes
is "$(sql "select count(*) from mserve.jobs where erased_at is null and tenant = 'red'")" 0 "all its jobs say so"
is "$(mserve tenant remove red)" "the tenant red stays for the books of its jobs; \`mserve tenant erase\` erases what they hold" "the tenant stays for the books"
ok "who is revoked" mserve tenant revoke $fleet
is "$(sql "select count(*) from pg_policy where (select oid from pg_roles where rolname = '$fleet') = any(polroles)")|$(status as $fleet mserve list)" \
    "0|9" "is in no policy and has no right"
is "$(mserve tenant remove blue | tail -1)" "the tenant blue is gone" "one that has nothing is forgotten"
done_testing
