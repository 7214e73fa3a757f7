-- retry.c, job_set_hold: pauses a job of this tenant or lets it go on. $1 job, $2 paused or null.
select h.state, h.held from mserve.jobs j cross join lateral mserve.job_set_hold(j.job, $2) h
where j.job = $1 and j.tenant = mserve.current_tenant();
