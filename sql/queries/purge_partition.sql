-- purge.c, purge_partition: $1 its name, $2 before when jobs must have ended, microseconds since 1970.
select mserve.purge_partition($1, 'epoch'::timestamptz + $2::bigint * interval '1 microsecond');
