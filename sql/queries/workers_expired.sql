-- lease.c, lease_bury_expired: workers whose lease ran out, oldest first. While the server was away none
-- of them could renew: after a start, and after a standby took over, each has a lease's time to do it
-- before it is buried. How long this connection has lasted says how long the server has been there.
select worker, name, host from mserve.workers
where closed_at is null and lease_until < clock_timestamp()
  and (select backend_start from pg_stat_activity where pid = pg_backend_pid())
    < clock_timestamp() - lease_ms * interval '1 ms'
order by lease_until;
