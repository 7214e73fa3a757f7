-- producer/commands/command_jobs.c, list: $1 the state wanted or null, $2 the job before the page (they are
-- shown from new to old) or null, $3 how many rows. As in job_object.sql one that is held says so.
select s.job, s.state, s.tier, s.input_name, s.lines,
    s.completed + s.failed + s.cancelled + s.expired, s.failed, s.created_at,
    case when h.hold is null then o.object
      else (left(o.object::text, -1) || ', "hold" : ' || h.hold || '}')::json end,
    s.hold_message
  from mserve.job_status s join mserve.batch_object o on o.job = s.job
    cross join lateral (select case when s.hold is not null then mserve.job_hold(s.job) end as hold) h
  where s.tenant = mserve.current_tenant()
    and ($1::text is null or s.state = $1) and ($2::uuid is null or s.job < $2)
  order by s.job desc limit $3;
