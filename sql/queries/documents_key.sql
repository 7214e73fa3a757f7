-- producer/submit.c, --changed: $1 the key of the first job of this content. The newest job of its
-- family: its key, and whether it is still to run or runs.
select idempotency_key, state in ('validating', 'in_progress') and wish is null from mserve.jobs
  where tenant = mserve.current_tenant()
    and (idempotency_key = $1 or idempotency_key like $1 || '/%')
  order by job desc limit 1;
