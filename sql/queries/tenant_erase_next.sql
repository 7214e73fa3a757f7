-- tenant.c, tenant_erase_step: $1 tenant: the next job that ended and holds anything.
select job from mserve.jobs
  where tenant = $1 and erased_at is null and state in ('completed', 'failed', 'expired', 'cancelled')
  order by job limit 1;
