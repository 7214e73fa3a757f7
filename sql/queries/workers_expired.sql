-- lease.c, lease_bury_expired: workers whose lease ran out, oldest first.
select worker, name, host from mserve.workers
where closed_at is null and lease_until < clock_timestamp() order by lease_until;
