-- producer/job_view.c, job_view_find: $1 and $2 the first and the last id that begin with what was
-- typed, from new to old; $3 how many are enough.
select job from mserve.jobs
  where tenant = mserve.current_tenant() and job between $1 and $2 order by job desc limit $3;
