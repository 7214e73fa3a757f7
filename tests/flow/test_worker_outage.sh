#!/usr/bin/env bash
# A database that cannot be reached for longer than a lease: everybody's lease has run out, nobody is
# dead for it, and those who come back first do not bury the others.
. "$(dirname "$0")/worker_lib.sh"

fresh_database
fresh_topics
write_settings fixed_ns=20000000 pace=1 lease=4s renew=500ms
set_up

shares() { sql_is "$1" "select string_agg(n::text, ' ') from (select count(*) n from mserve.partitions
    where owner is not null group by owner) p"; }

# The database itself goes on, so that its own start says nothing about who could reach it.
outage() { # until all leases have run out
    local allow="alter database $PGDATABASE allow_connections"
    psql -X -q -o /dev/null -v ON_ERROR_STOP=1 -d "$MSERVE_POSTGRES_DSN" <<SQL
\! psql -X -q -d "$server_dsn" -c "$allow false"
select pg_terminate_backend(pid) from pg_stat_activity
  where datname = current_database() and pid <> pg_backend_pid();
do \$\$ begin
  while exists (select from mserve.workers where closed_at is null and lease_until > clock_timestamp()) loop
    perform pg_sleep(0.1);
  end loop;
end \$\$;
\! psql -X -q -d "$server_dsn" -c "$allow true"
SQL
}

feed 1000 100 16 8 >/dev/null 2>&1
worker one
worker two
ok "two workers share the partitions" wait_until 60 shares "4 4"
before=$(sql "select string_agg(worker::text, ' ' order by worker) from mserve.workers")
for round in 1 2 3; do
    ok "no database for longer than a lease, $round" outage
    ok "both come back" wait_until 60 sql_is 2 \
        "select count(*) from mserve.workers where closed_at is null and lease_until > clock_timestamp()"
    is "$(sql "select string_agg(worker::text, ' ' order by worker) from mserve.workers")" "$before" \
        "under the ids that they had"
done
ok "the job is finished" wait_until 120 all_done
ok "each line once, none beside" whole

# ---- and one that is really gone is buried, a lease after its lease
kill_hard two
ok "a worker that is gone is buried all the same" wait_until 60 sql_is lease_ran_out \
    "select closed_why from mserve.workers where name = 'two'"
ok "and its share taken over" wait_until 60 shares 8
stop one 60
is $? 0 "the other leaves in good order"
is "$(unexplained)" "0|0|0|0" "the books add up"
done_testing
