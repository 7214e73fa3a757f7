-- purge.c, purge_blobs: $1 before when they must have been used last, microseconds since 1970, $2 how many.
select mserve.purge_blobs('epoch'::timestamptz + $1::bigint * interval '1 microsecond', $2);
