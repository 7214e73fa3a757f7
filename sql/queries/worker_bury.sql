-- lease.c: $1 worker, $2 its token when it buries itself, else null, $3 device time it says it held,
-- $4 why.
select mserve.bury_worker($1, $2, $3, $4);
