-- lease.c, lease_drain: $1 worker, $2 token, $3 within how many ms it will be gone, $4 why.
update mserve.workers set draining = true
  where worker = $1 and token = $2 and closed_at is null
    and $3::bigint is not null and $4::text is not null;
