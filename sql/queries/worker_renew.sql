-- lease.c, lease_renew: $1 worker, $2 token, $3 lease in ms, $4 the last commit known to have
-- landed (a row behind it is a database that went back), $5 device time held so far.
update mserve.workers
  set lease_until = clock_timestamp() + $3 * interval '1 ms',
    reported_ns = greatest(reported_ns, $5)
  where worker = $1 and token = $2 and closed_at is null and ledger_seq >= $4;
