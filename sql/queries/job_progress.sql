-- producer/job_view.c, job_view_progress: $1 job.
select state, lines, completed, failed, cancelled, expired, input_tokens, output_tokens, rows_ns,
    coalesce((select sum(done_count) from mserve.chunks c where c.job = j.job), 0)::bigint,
    mserve.job_hold(j.job)->>'message'
  from mserve.jobs j where job = $1 and tenant = mserve.current_tenant();
