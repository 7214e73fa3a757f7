-- lease.c, lease_drain: $1 worker, $2 token.
update mserve.workers set draining = true where worker = $1 and token = $2 and closed_at is null;
