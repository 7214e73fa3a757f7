-- job.c, job_cancel: $1 job.
select mserve.job_cancel($1)
where exists (select from mserve.jobs where job = $1 and tenant = mserve.current_tenant());
