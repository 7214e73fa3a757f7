-- purge.c, purge_rows: $1 job, $2 before when it must have ended, microseconds since 1970, $3 how many rows.
select coalesce(mserve.purge_rows($1, 'epoch'::timestamptz + $2::bigint * interval '1 microsecond', $3), 0);
