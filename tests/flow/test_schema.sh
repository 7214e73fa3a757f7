#!/usr/bin/env bash
# The migrations as PostgreSQL has them: what \d+ shows a person is complete.
. "$(dirname "$0")/lib.sh"

without_comment="
  select c.relname || coalesce('.' || a.attname, '') as name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'mserve'
  left join lateral (
    select 0::smallint as attnum, null::name as attname union all
    select attnum, attname from pg_attribute where attrelid = c.oid and attnum > 0
      and not attisdropped) a on true
  where c.relkind in ('r', 'p', 'v') and not c.relispartition
    and coalesce(col_description(c.oid, nullif(a.attnum, 0)),
      case when a.attnum = 0 then obj_description(c.oid, 'pg_class') end, '') = ''
  order by 1"
without_name="
  select conrelid::regclass || '.' || conname from pg_constraint c
  where connamespace = 'mserve'::regnamespace and contype = 'c' and conname ~ '_check[0-9]*\$'"

names_of() { # names_of KINDS: tables or views of the schema, sorted
    sql "select string_agg(relname, ' ' order by relname collate \"C\") from pg_class
         where relnamespace = 'mserve'::regnamespace and relkind in ($1) and not relispartition"
}

told_as() { # told_as HEADER: first cells of the table in docs/formats.md that is headed so
    awk -v header="$1" -F '|' '
        $2 ~ "^ *" header " *$" { inside = 1; next }
        !/^\|/ { inside = 0 }
        inside && $2 !~ /---/ { gsub(/[ `]/, "", $2); print $2 }' "$tree/docs/formats.md" |
        LC_ALL=C sort | paste -sd ' '
}

# What a database may hold that was last migrated before NUMBER.
plant() { # plant NUMBER
    case $1 in
    0007) # a burial when jobs had lost time that no attempt said
        sql "insert into mserve.jobs (idempotency_key, content_sha256, input_name, endpoint, tier, topic, partitions,
                 partition_first, chunk_lines_max, chunk_bytes_max, completion_window, expires_at, lost_ns)
               select k, '', 'x', '/v1/completions', 't', 't', 1, 0, 16, 1000, '1h', now() + interval '1 h', n
               from (values ('a', 70), ('b', 0), ('c', 8)) v (k, n);
             insert into mserve.job_deltas (job, lost_ns) select job, 5 from mserve.jobs;
             insert into mserve.attempts (worker, seq, job, line, gpu_ns, why)
               select gen_random_uuid(), 1, job, 3, 13, 'fenced' from mserve.jobs where lost_ns = 8" ;;
    esac
}

fresh_database
for file in "$tree"/sql/queries/migrations_table.sql "$tree"/sql/migrations/*.sql; do
    number=${file##*/}
    plant "${number%%_*}"
    ok "${file##*/} runs in psql" psql -X -q -1 -v ON_ERROR_STOP=1 -d "$MSERVE_POSTGRES_DSN" -f "$file"
done
is "$(sql "select attempts_differ, (select sum(gpu_ns) from mserve.attempts) from mserve.ledger_check")" "0|93" \
    "what jobs had lost before there were attempts for it has one"
is "$(sql "$without_comment")" '' "tables, views and their columns all have a comment"
is "$(sql "$without_name")" '' "check constraints all have a name of their own"
is "$(names_of "'r', 'p'")" "$(told_as table)" "docs/formats.md tells of the tables that there are"
is "$(names_of "'v'")" "$(told_as view)" "docs/formats.md tells of the views that there are"

sql "create table mserve.planted (a int check (a > 0)); comment on table mserve.planted is 'x'"
is "$(sql "$without_comment")" planted.a "a planted column without a comment is found"
is "$(sql "$without_name")" planted.planted_a_check "a planted constraint without a name is found"
done_testing
