-- lease.c, lease_bury_expired: workers whose lease ran out, oldest first. While the server was down
-- none of them could renew: after a start each has a lease's time to do it before it is buried.
select worker, name, host from mserve.workers
where closed_at is null and lease_until < clock_timestamp()
  and pg_postmaster_start_time() < clock_timestamp() - lease_ms * interval '1 ms'
order by lease_until;
