-- lease.c, lease_drain: $1 worker, $2 token, $3 within how many ms it will be gone, $4 why.
update mserve.workers
  set draining = true, drain_by = clock_timestamp() + $3 * interval '1 ms', drain_why = $4
  where worker = $1 and token = $2 and closed_at is null;
