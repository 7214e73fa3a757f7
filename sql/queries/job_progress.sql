-- producer/job_view.c, job_view_progress: $1 job. All in one statement, so of one moment: what is
-- folded and what is not yet, which together are the rows that there are; device time on rows, in
-- work and lost, which only ever grows; the devices that are there; what it is charged so far, where
-- all workers of its time have one price (else null, and mserve.job_cost knows, slowly).
with job as (
  select * from mserve.jobs j where j.job = $1 and j.tenant = mserve.current_tenant()),
deltas as (
  select coalesce(sum(completed), 0) as completed, coalesce(sum(failed), 0) as failed,
      coalesce(sum(cancelled), 0) as cancelled, coalesce(sum(expired), 0) as expired,
      coalesce(sum(input_tokens), 0) as input_tokens,
      coalesce(sum(output_tokens), 0) as output_tokens, coalesce(sum(rows_ns), 0) as rows_ns,
      coalesce(sum(shared_ns), 0) as shared_ns,
      coalesce(sum(recompute_ns + lost_ns), 0) as wasted_ns
    from mserve.job_deltas where job = $1)
select j.state, j.lines, (j.completed + d.completed)::bigint, (j.failed + d.failed)::bigint,
    (j.cancelled + d.cancelled)::bigint, (j.expired + d.expired)::bigint,
    (j.input_tokens + d.input_tokens)::bigint, (j.output_tokens + d.output_tokens)::bigint,
    (j.rows_ns + d.rows_ns)::bigint,
    (j.rows_ns + d.rows_ns + j.shared_ns + d.shared_ns + j.recompute_ns + j.lost_ns + d.wasted_ns
      + f.wip_ns + f.kept_ns)::bigint,
    f.devices,
    trim_scale(round((j.rows_ns + d.rows_ns + j.shared_ns + d.shared_ns) * f.price
      / 3600000000000, 9))::text || ' ' || f.currency,
    (select s.hold_message from mserve.job_status s where s.job = j.job)
  from job j, deltas d, mserve.job_fleet($1) f;
