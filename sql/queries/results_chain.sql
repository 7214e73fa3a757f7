-- producer/results/results.c: $1 job: the first job of its chain, whether that job is still there, and whether
-- it and all retries have ended.
select coalesce(j.retry_root, j.job),
  exists (select from mserve.jobs r where r.job = coalesce(j.retry_root, j.job)),
  not exists (select from mserve.jobs k
    where (k.job = coalesce(j.retry_root, j.job) or k.retry_root = coalesce(j.retry_root, j.job))
      and k.state in ('validating', 'in_progress', 'finalizing', 'cancelling')),
  exists (select from mserve.jobs k where k.retry_root = coalesce(j.retry_root, j.job))
  from mserve.jobs j where j.job = $1 and j.tenant = mserve.current_tenant();
